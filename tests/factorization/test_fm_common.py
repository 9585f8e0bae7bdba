"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from mtl_classic.factorization import FactorizationMachineClassifier, FactorizationMachineRegressor

SERIAL = "rows are visited one by one: a row of weight 2 takes one long step where two rows take two short ones"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": SERIAL,
    "check_sample_weight_equivalence_on_sparse_data": SERIAL,
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [FactorizationMachineClassifier(random_state=0), FactorizationMachineRegressor(random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
