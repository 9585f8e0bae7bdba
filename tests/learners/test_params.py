"""Further parameters of the boosters: by any of their names, or refused, and never silently ignored."""

from typing import Any

import numpy as np
import pytest

from mtl_classic import LightGBMLearner, PerTaskModel, SharedTreesModel, XGBoostLearner
from mtl_classic.learners._params import _known_to_lightgbm, _known_to_xgboost

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 6))
Y = X[:, 0] * 2 + X[:, 1] + 0.3 * rng.normal(size=400)


def predicted(learner: Any, **options: Any) -> np.ndarray:
    model = PerTaskModel({"y": "regression"}, learner=learner, random_state=0, **options)
    return np.asarray(model.fit(X, Y).predict(X))


@pytest.mark.parametrize(
    ("other", "main", "value"),
    [
        ("min_child_samples", "min_data_in_leaf", 100),
        ("reg_lambda", "lambda_l2", 1e4),
        ("colsample_bytree", "feature_fraction", 0.2),
        ("eta", "learning_rate", 0.5),
        ("random_state", "seed", 5),
        ("num_leaf", "num_leaves", 2),
        ("max_leaves", "num_leaves", 2),
        ("min_child_weight", "min_sum_hessian_in_leaf", 100),
        ("max_bins", "max_bin", 3),
    ],
)
def test_any_name_of_a_parameter_of_lightgbm_takes_precedence(other: str, main: str, value: Any) -> None:
    by_main, by_other = (predicted(LightGBMLearner(max_iter=10, params={k: value})) for k in (main, other))
    np.testing.assert_array_equal(by_main, by_other)
    assert not np.array_equal(by_other, predicted(LightGBMLearner(max_iter=10)))
    both = predicted(LightGBMLearner(max_iter=10, params={other: 0, main: value}))
    np.testing.assert_array_equal(by_main, both)


@pytest.mark.parametrize(
    ("other", "main", "value"),
    [
        ("eta", "learning_rate", 0.5),
        ("reg_lambda", "lambda", 1e4),
        ("random_state", "seed", 5),
        ("max_bin", "max_bin", 3),
    ],
)
def test_any_name_of_a_parameter_of_xgboost_takes_precedence(other: str, main: str, value: Any) -> None:
    def shared(params: Any) -> np.ndarray:
        return SharedTreesModel({"y": "regression"}, max_iter=10, params=params, random_state=0).fit(X, Y).predict(X)

    for fit in (shared, lambda params: predicted(XGBoostLearner(max_iter=10, params=params))):
        np.testing.assert_array_equal(fit({main: value}), fit({other: value}))
        assert not np.array_equal(fit({other: value}), fit(None))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("n_estimators", "max_iter"),
        ("num_boost_round", "max_iter"),
        ("num_iterations", "max_iter"),
        ("early_stopping_rounds", "n_iter_no_change"),
        ("early_stopping_round", "n_iter_no_change"),
    ],
)
def test_what_would_be_ignored_is_refused(name: str, ours: str) -> None:
    for learner in (LightGBMLearner(params={name: 5}), XGBoostLearner(params={name: 5})):
        with pytest.raises(ValueError, match=f"params has '{name}', but the rounds are not set there; use {ours}=5"):
            predicted(learner)
    with pytest.raises(ValueError, match=f"use {ours}=5"):
        SharedTreesModel({"y": "regression"}, params={name: 5}).fit(X, Y)


def test_no_rounds_and_no_trees_are_refused() -> None:
    for learner in (LightGBMLearner(max_iter=0), XGBoostLearner(max_iter=0)):
        with pytest.raises(ValueError, match="max_iter must be an integer of at least 1, got 0"):
            predicted(learner)
    with pytest.raises(ValueError, match="max_iter must be an integer of at least 1, got -1"):
        SharedTreesModel({"y": "regression"}, max_iter=-1).fit(X, Y)
    with pytest.raises(ValueError, match=r"booster='gblinear', but trees are wanted here; .* learner='linear'"):
        predicted(XGBoostLearner(params={"booster": "gblinear"}))
    for model in (
        PerTaskModel({"y": "regression"}, learner=XGBoostLearner(params={"tree_method": "approx"})),
        SharedTreesModel({"y": "regression"}, params={"tree_method": "approx"}),
    ):
        with pytest.raises(ValueError, match="tree_method='approx', but the matrix, .* takes 'hist' only"):
            model.fit(X, Y)


@pytest.mark.parametrize("name", ["boosting", "boosting_type"])
def test_dart_takes_all_its_rounds(name: str) -> None:
    model = PerTaskModel({"y": "regression"}, learner=LightGBMLearner(max_iter=40, params={name: "dart"}))
    assert model.set_params(random_state=0).fit(X, Y).fits_["y"].n_rounds == 40
    assert model.score(X, Y) > 0.5


@pytest.mark.parametrize(
    "name", ["num_class", "num_classes", "cat_feature", "categorical_feature", "feature_pre_filter"]
)
def test_lightgbm_is_told_of_tasks_and_table_by_the_learner_alone(name: str) -> None:
    with pytest.raises(ValueError, match=f"params has '{name}', which follows from the tasks and the table"):
        predicted(LightGBMLearner(params={name: 3}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_class", 3),
        ("num_target", 2),
        ("updater", "prune"),
        ("updater", "grow_colmaker"),
        ("process_type", "update"),
        ("feature_types", ["c"]),
        ("missing", 0),
    ],
)
def test_xgboost_is_told_of_tasks_and_table_by_the_learner_alone(name: str, value: Any) -> None:
    params = {name: value}
    for model in (
        PerTaskModel({"y": "regression"}, learner=XGBoostLearner(params=params)),
        SharedTreesModel({"y": "regression"}, params=params),
    ):
        with pytest.raises(ValueError, match=f"params has '{name}', which follows from the tasks and the table"):
            model.fit(X, Y)


@pytest.mark.parametrize("params", [{"objective": "binary:logistic"}, {"base_score": 0.5}, {"eval_metric": "rmse"}])
def test_shared_trees_have_an_objective_of_their_own(params: Any) -> None:
    with pytest.raises(ValueError, match="which follows from the tasks and the table here; leave it out"):
        SharedTreesModel({"y": "regression"}, params=params).fit(X, Y)


@pytest.mark.parametrize(
    ("learner", "objective", "kinds"),
    [
        (LightGBMLearner, "multiclass", ["multiclass"]),
        (LightGBMLearner, "xentropy", ["binary"]),
        (LightGBMLearner, "tweedie", ["regression", "count"]),
        (LightGBMLearner, "multiclassova", []),
        (LightGBMLearner, "nothing", []),
        (XGBoostLearner, "multi:softprob", ["multiclass"]),
        (XGBoostLearner, "multi:softmax", []),
        (XGBoostLearner, "binary:logitraw", []),
        (XGBoostLearner, "reg:tweedie", ["regression", "count"]),
        (XGBoostLearner, "reg:logistic", ["binary"]),
    ],
)
def test_objectives_are_those_of_the_kind(learner: Any, objective: str, kinds: list[str]) -> None:
    labels = {"binary": Y > 0, "multiclass": np.digitize(Y, [-1, 1]), "regression": np.exp(Y), "count": Y.round() ** 2}
    for kind, y in labels.items():
        model = PerTaskModel({"y": kind}, learner=learner(max_iter=20, params={"objective": objective}), random_state=0)
        if kind in kinds:
            assert model.fit(X, y).score(X, y) > 0.1
        else:
            with pytest.raises(ValueError, match=f"objective='{objective}', and the task 'y' is of the kind '{kind}'"):
                model.fit(X, y)


def test_bins_may_be_read_row_wise() -> None:
    by_row, by_column = (LightGBMLearner(max_iter=10, params=p) for p in ({"force_row_wise": True}, None))
    np.testing.assert_allclose(predicted(by_row), predicted(by_column))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_iter": 1.5}, TypeError, "max_iter must be an integer of at least 1, got 1.5"),
        ({"max_iter": None}, TypeError, "max_iter must be an integer of at least 1, got None"),
        ({"n_iter_no_change": None}, TypeError, "n_iter_no_change must be an integer of at least 1, got None"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change must be an integer of at least 1, got 0"),
        ({"n_iter_no_change": -1}, ValueError, "n_iter_no_change must be an integer of at least 1, got -1"),
    ],
)
def test_rounds_of_xgboost_are_counts(settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        predicted(XGBoostLearner(**settings))


def test_rounds_are_integers() -> None:
    for wrong in (1.5, None, "many", True):
        for model in (
            PerTaskModel({"y": "regression"}, learner=LightGBMLearner(max_iter=wrong)),
            SharedTreesModel({"y": "regression"}, max_iter=wrong),
        ):
            with pytest.raises(TypeError, match="max_iter must be an integer of at least 1, got"):
                model.fit(X, Y)


@pytest.mark.parametrize(
    ("learner", "name", "near"),
    [(LightGBMLearner, "num_leafs", "num_leaf"), (XGBoostLearner, "max_leafs", "max_leaves")],
)
def test_names_that_a_library_does_not_know_are_refused(learner: Any, name: str, near: str) -> None:
    words = f"params has '{name}', which the library does not know and would ignore; did you mean '{near}'"
    with pytest.raises(ValueError, match=words):
        predicted(learner(params={name: 5}))
    with pytest.raises(ValueError, match="params has 'nothing_like_it', which the library does not know and would ign"):
        predicted(learner(params={"nothing_like_it": 5}))
    with pytest.raises(ValueError, match="params has 'max_leafs'"):
        SharedTreesModel({"y": "regression"}, params={"max_leafs": 5}).fit(X, Y)


def test_names_that_a_library_knows_are_taken() -> None:
    assert {"bagging_fraction", "subsample", "linear_tree", "verbose", "max_cat_threshold"} <= _known_to_lightgbm()
    assert {
        "subsample", "gamma", "min_split_loss", "alpha", "reg_alpha", "colsample_bynode", "num_parallel_tree",
        "scale_pos_weight", "max_delta_step", "monotone_constraints", "interaction_constraints", "rate_drop", "device",
        "eval_metric", "verbosity", "lambdarank_num_pair_per_sample", "tweedie_variance_power", "max_cat_to_onehot",
    } <= _known_to_xgboost()  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "nothing"),
    [
        ("booster", "dart", "gbtree"),
        ("monotone_constraints", "(1,0,0)", "()"),
        ("monotone_constraints", (1, 0, 0), None),
        ("interaction_constraints", "[[0, 1]]", "[]"),
    ],
)
def test_what_trees_of_several_tasks_do_not_have_is_refused(name: str, value: Any, nothing: Any) -> None:
    def fit(params: dict[str, Any]) -> SharedTreesModel:
        return SharedTreesModel({"y": "regression"}, max_iter=3, params=params, random_state=0).fit(X, Y)

    with pytest.raises(ValueError, match=f"params has {name}=.* does not support for trees of several tasks"):
        fit({name: value})
    for params in ({name: nothing}, {name: value, "multi_strategy": "one_output_per_tree"}):
        assert fit(params).rounds_["y"] > 0
