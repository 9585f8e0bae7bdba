"""Boosters of XGBoost and linear models that are read from arrays say what they say themselves."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.svm import LinearSVR

from mtl_classic import MultiTaskModel, SklearnLearner, Task, XGBoostLearner, load_model, save_model
from mtl_classic.learners import _flat_xgboost
from mtl_classic.learners._columns import Features
from mtl_classic.learners._flat_xgboost import FlatXGBoost, read_xgboost
from mtl_classic.learners._xgboost import XGBoostFit

Array = npt.NDArray[Any]
LABEL_IS_A_NUMBER = ("squarederror", "absoluteerror", "pseudohubererror")
LABEL_IS_POSITIVE = ("gamma", "squaredlogerror")
TYPES = ["c", "c", "q", "q", "q", "q"]


def table(n: int = 2000) -> tuple[Array, Array]:
    """Two categories, four numbers, holes in all of them, and a signal."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, len(TYPES))).astype(np.float32)
    X[:, 0], X[:, 1] = rng.integers(0, 70, n), rng.integers(0, 5, n)
    X[:, 2] *= rng.random(n) < 0.5
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, np.nan_to_num(X[:, 3]) + (X[:, 0] % 3 == 0) + np.isnan(X[:, 1]) + np.nan_to_num(X[:, 2])


def boosted(n_rounds: int = 30, **options: Any) -> xgb.Booster:
    X, signal = table()
    family, kind = options["objective"].split(":")
    y = (
        signal
        if kind in LABEL_IS_A_NUMBER
        else np.exp(signal)
        if kind in LABEL_IS_POSITIVE
        else np.digitize(signal, [0, 1])
    )
    if family == "binary" or kind == "logistic":
        y = np.minimum(y, 1)
    data = xgb.DMatrix(X, y, feature_types=TYPES, enable_categorical=True)
    if family == "rank":
        data.set_group([20] * (len(y) // 20))
    return xgb.train({"nthread": 1, "max_leaves": 15, "max_depth": 0, "verbosity": 0} | options, data, n_rounds)


def asked(booster: xgb.Booster, n_rounds: int | None) -> tuple[XGBoostFit, Array]:
    """A fit, and rows with values, categories and holes that it has not seen."""
    X = table(300)[0]
    X[:20, 0], X[20:40, 0], X[40:60, 1], X[:30, 2], X[60:90, 3], X[90] = -1, 1e6, 64, -0.0, 1e30, np.nan
    return XGBoostFit(booster, n_rounds, ""), X


@pytest.mark.parametrize("options", [
    {"objective": "binary:logistic"}, {"objective": "binary:logistic", "base_score": 0.3},
    {"objective": "binary:logistic", "scale_pos_weight": 1e4, "learning_rate": 3.0, "lambda": 0.0},
    {"objective": "reg:logistic"}, {"objective": "count:poisson"}, {"objective": "reg:gamma"},
    {"objective": "reg:tweedie"}, {"objective": "reg:squarederror"}, {"objective": "reg:absoluteerror"},
    {"objective": "reg:pseudohubererror"}, {"objective": "multi:softprob", "num_class": 3},
    {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.5},
    {"objective": "rank:ndcg"}, {"objective": "rank:pairwise"}, {"objective": "reg:squarederror", "gamma": 1e6},
    {"objective": "binary:logistic", "max_cat_to_onehot": 100}, {"objective": "binary:logistic", "max_depth": 4},
], ids=str)  # fmt: skip
def test_flat_trees_are_the_booster(options: dict[str, Any]) -> None:
    booster = boosted(**options)
    fits, X = [asked(booster, n)[0] for n in (20, None)], asked(booster, None)[1]
    read = [read_xgboost(fit) for fit in fits]
    assert None not in read
    flat = FlatXGBoost(read)  # type: ignore[arg-type]
    rows = [flat.predict(row) for row in X]
    for k, fit in enumerate(fits):
        np.testing.assert_array_equal(np.concatenate([row[k] for row in rows]), fit.predict(Features(X, (), ())))


@pytest.mark.parametrize("options", [
    {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5}, {"objective": "reg:squaredlogerror"},
    {"objective": "multi:softmax", "num_class": 3}, {"objective": "binary:hinge"},
], ids=str)  # fmt: skip
def test_what_is_not_walked_is_told(options: dict[str, Any]) -> None:
    assert read_xgboost(asked(boosted(5, **options), None)[0]) is None


@pytest.mark.parametrize("options", [{}, {"objective": "multi:softprob", "num_class": 3}], ids=str)
def test_several_values_in_a_leaf_are_not_walked(options: dict[str, Any]) -> None:
    X, y = table()
    data = xgb.DMatrix(X[:, 2:], np.digitize(y, [0, 1]) if options else np.c_[y, -y])
    settled = {"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1, "verbosity": 0}
    assert read_xgboost(XGBoostFit(xgb.train(settled | options, data, 3), None, "")) is None


def test_other_sums_than_the_booster_has_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, _ = asked(boosted(objective="reg:squarederror"), None)
    assert read_xgboost(fit) is not None
    own = _flat_xgboost._margin
    monkeypatch.setattr(_flat_xgboost, "_margin", lambda base, link: np.nextafter(own(base, link), np.float32(9.0)))
    assert read_xgboost(fit) is None


KNOWN: dict[str, list[Any]] = {
    "number": [0.0, -1.5, 2.25, 20.0],
    "whole": [0, 3, -7],
    "flag": [True, False],
    "shape": ["round", "square", "flat"],
    "size": ["S", "M", "L"],
    "mixed": ["a", 1, 2.5],
    "code": [10, 20, 30],
    "since": [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-03 04:05:06")],
    "kept": [pd.Timedelta("1h"), pd.Timedelta("3D")],
    "whole_column": [1.0, 2.0],
    "empty": [np.nan],
}
MISSING = {"number", "shape", "size", "mixed", "since", "kept"}
UNSEEN: dict[str, list[Any]] = {
    "number": [7.125, np.float32(0.5)], "shape": ["oval"], "size": ["XL"], "mixed": ["b", 9], "code": [40],
}  # fmt: skip
DTYPES = {"shape": "category", "size": "str", "code": "category", "flag": bool, "whole": np.int64, "mixed": object}


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table with a column of every kind."""
    X = pd.DataFrame(rows, columns=list(KNOWN))
    X = X.astype({"since": "datetime64[ns]", "kept": "timedelta64[ns]", "number": np.float64, "empty": np.float64})
    return X.astype(DTYPES)


def training() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    n = 500
    X = frame([{name: values[rng.integers(len(values))] for name, values in KNOWN.items()} for _ in range(n)])
    X["number"] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))
    X.loc[::11, "mixed"], X.loc[::13, "size"], X.loc[::7, "shape"], X.loc[::5, "since"] = None, None, np.nan, pd.NaT
    signal = X["number"].fillna(0.5) + (X["shape"] == "flat") + (X["mixed"] == 1) + X["since"].isna()
    kinds = np.where(signal > 1, "high", np.where(signal > 0, "low", "none"))
    Y = pd.DataFrame(
        {"up": (signal > 0).astype(float), "kind": kinds, "y": 5 + signal, "n": rng.poisson(np.exp(signal / 4))}
    )
    return X, Y.assign(late=np.where(signal > 0, (signal > 1).astype(float), 0.0)).mask(rng.random((n, 5)) < 0.1)


LEARNERS: dict[str, Any] = {
    "linear": "linear",
    "xgboost": "xgboost",
    "others": SklearnLearner(LogisticRegression(solver="liblinear"), LinearSVR(max_iter=9000), count_regressor=Ridge()),
    "beside": {"up": "linear", "kind": "lightgbm", "y": SklearnLearner(regressor=ElasticNet()), "n": "linear",
               "late": XGBoostLearner(params={"booster": "dart", "rate_drop": 0.5})},
}  # fmt: skip


@cache
def model_of(name: str) -> MultiTaskModel:
    X, Y = training()
    tasks = [Task("up", "binary"), Task("kind", "multiclass"), Task("y", "regression"), Task("n", "count")]
    if name == "others":
        tasks[1], Y = Task("kind", "binary", positive="high"), Y.assign(kind=Y["kind"].replace({"none": "low"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MultiTaskModel(
            [*tasks, Task("late", "binary", given="up")], latent=None, learner=LEARNERS[name], random_state=0
        )
        return model.fit(X, Y.mask(Y["up"] == 0, Y.assign(late=0.0)))


ROWS = st.fixed_dictionaries({
    name: st.sampled_from([*values, *UNSEEN.get(name, []), *([None] if name in MISSING else [])])
    for name, values in KNOWN.items()
})  # fmt: skip


@pytest.mark.parametrize("name", LEARNERS)
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_row_of_every_kind_has_the_scores_of_the_table(name: str, rows: list[dict[str, Any]]) -> None:
    model = model_of(name)
    compiled, expected = compiled_of(name), model.predict_scores(frame(rows))
    own = pd.DataFrame([compiled.predict_scores(row) for row in rows], index=expected.index)
    if name == "xgboost":
        assert (own == expected).all(axis=None)
    else:  # terms of a linear model may cancel, and what is left of them has fewer digits
        pd.testing.assert_frame_equal(own, expected, rtol=1e-12, atol=1e-13)


@cache
def compiled_of(name: str) -> Any:
    return model_of(name).compile_for_serving()


@pytest.mark.parametrize(("name", "n_others"), [("linear", 0), ("xgboost", 0), ("others", 0), ("beside", 2)])
def test_known_kinds_are_read_from_arrays(name: str, n_others: int) -> None:
    assert len(compiled_of(name)._scorer.others) == n_others


@pytest.mark.parametrize("name", ["linear", "xgboost"])
def test_a_loaded_model_is_compiled_to_the_same(name: str, tmp_path: Path) -> None:
    save_model(model_of(name), tmp_path / "model.zip")
    loaded, rows = load_model(tmp_path / "model.zip").compile_for_serving(), training()[0].head(20).to_dict("records")
    assert [loaded.predict_scores(row) for row in rows] == [compiled_of(name).predict_scores(row) for row in rows]
