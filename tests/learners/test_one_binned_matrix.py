"""Law 4: tasks share one binned matrix, and every fit equals the one that was binned on its own."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from mtl_classic import FunnelModel, LightGBMLearner, PerTaskModel, Task, XGBoostLearner
from mtl_classic._core.random import spawn_seed
from mtl_classic.learners._columns import FeatureColumns, Features
from mtl_classic.learners._defaults import tree_defaults

N = 600
rng = np.random.default_rng(0)
X = pd.DataFrame({"x": rng.normal(size=N), "z": rng.normal(size=N), "shop": rng.choice(list("abcd"), N)})
X.loc[::9, "z"] = np.nan
X["rank"] = np.repeat(np.arange(40), 15)
VALUES = FeatureColumns(exclude=["rank"]).fit(X).transform(X).values
SIGNAL = (X["x"] + (X["shop"] == "a") + rng.normal(size=N)).to_numpy()
Y = pd.DataFrame(
    {
        "buy": (SIGNAL > 0.5).astype(float),
        "spend": SIGNAL,
        "items": rng.poisson(np.exp(0.3 * SIGNAL)).astype(float),
        "grade": np.clip(SIGNAL.round() + 1, 0, 4),
    }
)
TASKS = [
    Task("buy", "binary"),
    Task("spend", "regression"),
    Task("items", "count"),
    Task("grade", "ranking", query="rank"),
]
OBJECTIVES = {"buy": "binary", "spend": "regression", "items": "poisson", "grade": "lambdarank"}
ROUNDS = 25
LEARNER = LightGBMLearner(
    num_leaves=7, learning_rate=0.1, max_iter=ROUNDS, min_data_in_leaf=5, min_sum_hessian_in_leaf=1.0, lambda_l2=1.0,
    feature_fraction=0.8, cat_smooth=10.0,
)  # fmt: skip
DATASET = {"verbosity": -1, "max_bin": 255, "feature_pre_filter": False, "deterministic": True, "force_col_wise": True}
DATASET["num_threads"] = 1


def separately(task: str, rows: np.ndarray | None = None, weight: Any = None, seed: int = 0) -> lgb.Booster:
    """The same fit by LightGBM alone, on a Dataset of its own; on some rows with the bins of all rows."""
    whole = lgb.Dataset(VALUES, label=Y[task].to_numpy(), params=DATASET, categorical_feature=[2])
    if rows is None:
        rows, train = np.arange(N), whole
    else:
        train = lgb.Dataset(VALUES[rows], label=Y[task].to_numpy()[rows], reference=whole, params=DATASET)
    if weight is not None:
        train.weight = weight[rows]
    if task == "grade":
        train.group = np.unique(X["rank"].to_numpy()[rows], return_counts=True)[1]
    params = {
        "objective": OBJECTIVES[task], "num_leaves": 7, "learning_rate": 0.1, "min_data_in_leaf": 5,
        "min_sum_hessian_in_leaf": 1.0, "lambda_l2": 1.0, "feature_fraction": 0.8,
        "seed": spawn_seed(seed, task, "own"), "label_gain": [float(2**k - 1) for k in range(61)],
    }  # fmt: skip
    return lgb.train(params | DATASET, train, min(ROUNDS, rounds(task, rows)))


def rounds(task: str, rows: np.ndarray) -> int:
    return tree_defaults(TASKS[list(Y).index(task)].kind, Y[task].to_numpy()[rows]).n_rounds


def trees(booster: lgb.Booster) -> str:
    text = booster.model_to_string()
    return text[text.index("Tree=0") : text.index("end of trees")]


def fit(labels: pd.DataFrame = Y, tasks: list[Task] = TASKS, **options: Any) -> PerTaskModel:
    model = PerTaskModel(tasks, learner=LEARNER, query="rank", early_stopping=False, random_state=0)
    return model.fit(X, labels, **options)


def test_fits_on_all_rows_equal_separately_binned_ones_bit_for_bit() -> None:
    model = fit()
    for task in TASKS:
        assert trees(model.fits_[task.name].booster) == trees(separately(task.name))


@pytest.mark.parametrize("order", [[3, 0, 1, 2], [1, 3, 0, 2]])
def test_the_order_of_tasks_leaves_no_trace(order: list[int]) -> None:
    """Queries and weights of one task must not stay on the matrix for the next."""
    weight = np.ones((N, 4))
    weight[:, 1], weight[:, 2] = rng.uniform(0.5, 2, N), rng.uniform(0.5, 2, N)
    weights = pd.DataFrame(weight, columns=list(Y))
    model = fit(tasks=[TASKS[j] for j in order], sample_weight=weights)
    for j, task in enumerate(TASKS):
        assert trees(model.fits_[task.name].booster) == trees(
            separately(task.name, weight=weight[:, j] if j in (1, 2) else None)
        )


def test_only_labelled_rows_enter_and_subsets_have_the_bins_of_the_whole() -> None:
    known = rng.random((N, 4)) < 0.6
    model = fit(Y.where(known))
    for j, task in enumerate(TASKS):
        rows = np.flatnonzero(known[:, j])
        assert trees(model.fits_[task.name].booster) == trees(separately(task.name, rows))


def test_positives_only_fits_of_a_funnel_are_subsets_too() -> None:
    spend = Task("spend", "regression", given="buy")
    labels = Y[["buy", "spend"]].assign(spend=Y["spend"].where(Y["buy"] == 1, 0))
    model = FunnelModel([TASKS[0], spend], learner=LEARNER, early_stopping=False, exclude=["rank"], random_state=0)
    model.fit(X, labels)
    rows = np.flatnonzero(labels["buy"] == 1)
    whole = lgb.Dataset(VALUES, label=labels["spend"].to_numpy(), params=DATASET, categorical_feature=[2])
    train = lgb.Dataset(VALUES[rows], label=labels["spend"].to_numpy()[rows], reference=whole, params=DATASET)
    params = {
        "objective": "regression", "num_leaves": 7, "learning_rate": 0.1, "min_data_in_leaf": 5,
        "min_sum_hessian_in_leaf": 1.0, "lambda_l2": 1.0, "feature_fraction": 0.8,
        "seed": spawn_seed(0, "spend", "conditional"),
    }  # fmt: skip
    booster = lgb.train(params | DATASET, train, min(ROUNDS, rounds("spend", rows)))
    assert trees(model.fits_["spend", "conditional"].booster) == trees(booster)
    assert trees(model.fits_["buy", "conditional"].booster) == trees(separately("buy"))


@pytest.mark.parametrize("learner", [LightGBMLearner(max_iter=5), XGBoostLearner(max_iter=5)])
def test_the_matrix_is_binned_once(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = type(learner).bin
    monkeypatch.setattr(type(learner), "bin", lambda self, *a, **k: calls.append(1) or original(self, *a, **k))
    PerTaskModel(TASKS, learner=learner, query="rank", random_state=0).fit(X, Y.where(rng.random(Y.shape) < 0.8))
    assert len(calls) == 1


def test_xgboost_on_all_rows_and_on_subsets_with_the_cuts_of_the_whole() -> None:
    known = np.ones((N, 4), dtype=bool)
    known[:, 1] = rng.random(N) < 0.6
    settings = {"max_leaves": 7, "learning_rate": 0.1, "max_iter": 20, "min_child_weight": 2.0, "reg_lambda": 1.0}
    learner = XGBoostLearner(**settings, colsample_bytree=0.8, max_bin=256)
    tasks = [TASKS[3], TASKS[0], TASKS[1]]  # ranking first: its queries must not stay on the matrix
    model = PerTaskModel(tasks, learner=learner, query="rank", early_stopping=False, random_state=0)
    scores = model.fit(X, Y.where(known)).predict_scores(X)
    types = ["q", "q", "c"]
    whole = xgb.QuantileDMatrix(VALUES, max_bin=256, nthread=1, feature_types=types, enable_categorical=True)
    for task, rows in {"buy": np.arange(N), "spend": np.flatnonzero(known[:, 1])}.items():
        part = xgb.QuantileDMatrix(
            VALUES[rows], label=Y[task].to_numpy()[rows], ref=whole, max_bin=256, nthread=1, feature_types=types,
            enable_categorical=True,
        )  # fmt: skip
        params = {
            "objective": "binary:logistic" if task == "buy" else "reg:squarederror", "tree_method": "hist",
            "grow_policy": "lossguide", "max_depth": 0, "max_bin": 256, "max_leaves": 7, "learning_rate": 0.1,
            "min_child_weight": 2.0, "lambda": 1.0, "colsample_bytree": 0.8, "nthread": 1, "verbosity": 0,
            "seed": spawn_seed(0, task, "own"),
        }  # fmt: skip
        booster = xgb.train(params, part, min(20, rounds(task, rows)))
        np.testing.assert_array_equal(scores[task], booster.inplace_predict(VALUES).astype(np.float64))


def test_few_rows_are_binned_coarsely_by_xgboost() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    for n, n_bins in ((100, 32), (600, 120), (2000, 256)):
        binned = XGBoostLearner().bin(Features(values[:n], ("a", "b"), ()))
        assert binned.max_bin == n_bins
        assert np.diff(binned.whole.get_quantile_cut()[0]).max() <= n_bins + 1  # cuts around as many bins
