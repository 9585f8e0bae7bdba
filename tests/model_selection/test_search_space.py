"""Spaces: lists and distributions as numbers and back; what estimators declare."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    FunnelModel,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    PerTaskModel,
    SharedTreesModel,
    SklearnLearner,
    TaskGraphModel,
)
from mtl_classic.model_selection._search_space import (
    Dimension,
    as_features,
    declared_space,
    from_unit,
    grid_points,
    read_space,
)
from tests.model_selection.planted import Planted


def dimension(entry: Any) -> Dimension:
    return read_space({"a": entry}, Planted())[0]


@pytest.mark.parametrize(
    ("entry", "low", "high"),
    [
        (stats.uniform(2, 3), 2, 5),
        (stats.loguniform(0.01, 10), 0.01, 10),
        (stats.randint(3, 9), 3, 8),
        (stats.gamma(2), 0, np.inf),
        (stats.binom(5, 0.5), 0, 5),
    ],
)
def test_distributions_are_covered_from_end_to_end(entry: Any, low: float, high: float) -> None:
    d = dimension(entry)
    units = np.linspace(0, 1, 2001)[:-1]
    values = np.array([d.value(d.code(u)) for u in units])
    assert (values >= low).all()
    assert (values <= high).all()
    known = np.array([entry.cdf(v) for v in values])
    if hasattr(entry, "pmf") or d.integer:
        assert all(isinstance(d.value(d.code(u)), int) for u in (0.1, 0.7))  # num_leaves=5.0 would be refused
    else:
        np.testing.assert_allclose(known, units, atol=2e-3)  # the unit is the probability
    assert [d.unit(d.code(u)) for u in (0.1, 0.7)] == pytest.approx([0.1, 0.7], abs=0.2)


def test_lists_keep_their_values_and_know_an_order() -> None:
    ascending, mixed = dimension([1, 2, 4]), dimension([None, "x", 3])
    assert [ascending.value(ascending.code(u)) for u in (0.0, 0.4, 0.99)] == [1, 2, 4]
    assert ascending.ordered
    assert dimension(np.array([4.0, 2.0, 1.0])).ordered
    assert not mixed.ordered
    assert not dimension([1, 3, 2]).ordered
    assert not dimension([True, False]).ordered
    assert [mixed.value(k) for k in range(3)] == [None, "x", 3]
    assert as_features([ascending, mixed], [{"a": 2}, {"a": 0}]).shape == (2, 4)


def test_points_of_the_unit_cube() -> None:
    d = read_space({"a": stats.uniform(), "b": [1, 2]}, Planted())
    assert from_unit(d, np.array([0.25, 0.75])) == {"a": 0.25, "b": 1}


def test_a_grid_is_that_of_scikit_learn() -> None:
    from sklearn.model_selection import ParameterGrid

    space = {"b": [1, 2, 3], "a": [0.5, 0.1], "kind": ["x", "y"]}
    dimensions = read_space(space, Planted())
    points = [{d.name: d.value(point[d.name]) for d in dimensions} for point in grid_points(dimensions)]
    assert points == list(ParameterGrid(space))
    with pytest.raises(ValueError, match="a has a continuous distribution"):
        grid_points(read_space({"a": stats.uniform()}, Planted()))


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({}, ValueError, "space is empty"),
        ([{"a": [1]}], TypeError, "must be a dict"),
        ({"a": []}, ValueError, "list of 'a' is empty"),
        ({"a": 3}, TypeError, "must be a list of values or a frozen scipy distribution"),
        ({"a": "abc"}, TypeError, "must be a list of values"),
        ({"nothing": [1]}, ValueError, "Invalid parameter 'nothing'"),
    ],
)
def test_what_is_no_space_is_refused(space: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_space(space, Planted())


FORESTS = SklearnLearner(RandomForestClassifier(), Ridge())
MEMBERS = [("trees", PerTaskModel()), ("linear", PerTaskModel(learner="linear"))]


@pytest.mark.parametrize(
    ("estimator", "some"),
    [
        (PerTaskModel(), "learner__num_leaves"),
        (PerTaskModel(learner="xgboost"), "learner__max_leaves"),
        (PerTaskModel(learner="linear"), "learner__classifier__C"),
        (PerTaskModel(learner="hist"), "learner__regressor__max_leaf_nodes"),
        (PerTaskModel(learner=FORESTS), "learner__classifier__min_samples_leaf"),
        (FunnelModel(learner=LightGBMLearner()), "learner__num_leaves"),
        (SharedTreesModel(), "reg_lambda"),
        (TaskGraphModel(), "learner__num_leaves"),
        (MultiTaskFactorizationMachine(), "n_private"),
        (FactorizationMachineClassifier(), "learning_rate"),
        (FactorizationMachineRegressor(solver="als"), "n_factors"),
        (MatrixFactorization(), "reg_factors"),
        (AveragingEnsemble(MEMBERS), "linear__learner__classifier__C"),
        (BaggingEnsemble(PerTaskModel()), "estimator__learner__num_leaves"),
        (make_pipeline(FunctionTransformer(), PerTaskModel()), "pertaskmodel__learner__num_leaves"),
    ],
)
def test_estimators_declare_a_space_that_they_take(estimator: Any, some: str) -> None:
    assert some in declared_space(estimator)
    assert {d.name for d in read_space(None, estimator)} == set(declared_space(estimator))


def test_a_solver_without_a_rate_has_none_to_search() -> None:
    assert "learning_rate" not in declared_space(FactorizationMachineRegressor(solver="als"))


def test_who_declares_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="PerTaskModel declares nothing to search; give space="):
        read_space(None, PerTaskModel(learner={"y0": "linear"}))


def test_settings_of_a_learner_that_has_only_a_name() -> None:
    model = PerTaskModel(learner="lightgbm").set_params(learner__num_leaves=7)
    assert model.learner.num_leaves == 7
    assert model.set_params(learner="linear", learner__classifier__C=3.0).learner.classifier.C == 3.0
    assert PerTaskModel(learner="lightgbm").set_params(learner="linear").learner == "linear"
    assert isinstance(model.learner.classifier, LogisticRegression)
