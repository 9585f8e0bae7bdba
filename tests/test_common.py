"""scikit-learn's own checks over every public estimator, and one table of what fails on purpose."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    FieldEncoder,
    FunnelModel,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    MultiTaskSearchCV,
    PerTaskModel,
    SharedTreesModel,
    StackingEnsemble,
    TargetStatistics,
    TaskGraphModel,
)
from mtl_classic._core.base import MultiTaskEstimator

# Integers of three and four values are the labels of most checks: a binary task would refuse them, and rightly.
CLASSES, NUMBERS = {"y": "multiclass"}, {"y": "regression"}
TREES, LINEAR = PerTaskModel(NUMBERS, random_state=0), PerTaskModel(NUMBERS, learner="linear", random_state=0)
STEPS = PerTaskModel(NUMBERS, learner="hist", random_state=0)
ESTIMATORS = [
    PerTaskModel(CLASSES, random_state=0),
    PerTaskModel(NUMBERS, learner="linear", random_state=0),
    PerTaskModel(NUMBERS, learner="xgboost", random_state=0),
    FunnelModel(NUMBERS, random_state=0),
    SharedTreesModel(NUMBERS, max_iter=3, n_jobs=1, random_state=0),
    SharedTreesModel(CLASSES, trees="extra", n_trees=3, n_jobs=1, random_state=0),
    TaskGraphModel(NUMBERS, learner="linear", cv=2, random_state=0),
    MultiTaskFactorizationMachine(CLASSES, max_iter=3, random_state=0),
    MultiTaskFactorizationMachine(NUMBERS, max_iter=3, random_state=0),
    AveragingEnsemble([("trees", TREES), ("linear", LINEAR)]),
    AveragingEnsemble([("steps", STEPS), ("linear", LINEAR)], weights="greedy", cv=2, random_state=0),
    StackingEnsemble([("linear", LINEAR)], cv=2, fallback=False, random_state=0),
    BaggingEnsemble(LINEAR, 3, random_state=0),
    BoostingEnsemble([("linear", LINEAR), ("steps", STEPS)], cv=2, random_state=0),
    CalibratedModel(PerTaskModel(CLASSES, learner="linear", random_state=0), cv=2, random_state=0),
    ConformalModel(LINEAR, cv=2, random_state=0),
    MultiTaskModel(NUMBERS, random_state=0),
    MultiTaskModel(CLASSES, preset="best", learner="linear", cv=2, random_state=0),
    MultiTaskSearchCV(LINEAR, {"learner__regressor__alpha": [0.1, 1.0]}, strategy="grid", cv=2, random_state=0),
    FieldEncoder(),
    TargetStatistics([0], tasks=NUMBERS, random_state=0),
]
# Not here: HistoryFeatures, which needs a time column where the checks know arrays only; learners, which have no fit.

Y_IS_CAPITAL = "passes labels as y=; several labels are called Y here (test_multitask.py checks the same by hand)"
CROSS_FITTED = "cross-fitted: fit(X, Y).transform(X) is not fit_transform(X, Y)"
NO_CLASSIFIER_TAG = "reads the classifier tag of whatever has predict_proba; estimators of mixed kinds carry none"
EXPECTED_FAILURES = {
    "structures": {
        "check_n_features_in_after_fitting": Y_IS_CAPITAL,
        "check_sample_weight_equivalence_on_dense_data": Y_IS_CAPITAL,
        "check_sample_weight_equivalence_on_sparse_data": Y_IS_CAPITAL,
    },
    "classification": {
        "check_estimator_sparse_array": NO_CLASSIFIER_TAG,
        "check_estimator_sparse_matrix": NO_CLASSIFIER_TAG,
    },
    "TargetStatistics": {
        "check_transformer_general": CROSS_FITTED,
        "check_transformer_data_not_an_array": CROSS_FITTED,
        "check_sample_weight_equivalence_on_dense_data": Y_IS_CAPITAL,
    },
}


def expected_failures(estimator: Any) -> dict[str, str]:
    if isinstance(estimator, MultiTaskEstimator | MultiTaskSearchCV):
        classification = getattr(estimator, "tasks", None) == CLASSES
        return EXPECTED_FAILURES["structures"] | (EXPECTED_FAILURES["classification"] if classification else {})
    return EXPECTED_FAILURES.get(type(estimator).__name__, {})


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)
