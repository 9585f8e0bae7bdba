"""Flat trees give LightGBM's own predictions to the bit, for one row and for many."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from mtl_classic.learners._flat_trees import ROWS_WORTH_FLATTENING, FlatTrees, flat_trees_for

RNG = np.random.default_rng(0)
N = ROWS_WORTH_FLATTENING + 500
X = np.column_stack(
    [
        RNG.normal(size=N),
        RNG.integers(0, 40, N),
        np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
        RNG.choice([0.0, 1e-36, -1e-36, 2.0, -3.0], N),
    ]
).astype(np.float32)
X[RNG.random(N) < 0.05, 1] = np.nan
SIGNAL = np.nan_to_num(X).astype(np.float64) @ [1.0, 0.02, 0.5, 0.3]
LABELS: dict[str, Any] = {
    "binary": SIGNAL > 0.5,
    "cross_entropy": 1 / (1 + np.exp(-SIGNAL)),
    "regression": SIGNAL,
    "poisson": RNG.poisson(np.exp(np.clip(SIGNAL, -3, 2))),
    "multiclass": np.digitize(SIGNAL, [0.0, 1.0]),
}


def boost(objective: str, **options: Any) -> lgb.Booster:
    params = {"objective": objective, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, **options}
    if objective == "multiclass":
        params["num_class"] = 3
    data = lgb.Dataset(X, label=np.asarray(LABELS[objective], dtype=np.float32), categorical_feature=[1])
    return lgb.train(params, data, 30)


def odd_rows() -> np.ndarray:
    rows = X[:400].copy()
    rows[:50, 1] = 99.0  # a category never seen
    rows[50:80] = np.nan
    rows[80:90, 1] = -1.0
    rows[90:100] = np.float32(1e30)
    return rows


@pytest.mark.parametrize("options", [{}, {"use_missing": False}, {"zero_as_missing": True}])
@pytest.mark.parametrize("objective", LABELS)
def test_many_rows_are_the_booster_to_the_bit(objective: str, options: dict[str, Any]) -> None:
    booster = boost(objective, **options)
    for n_rounds in (None, 12):
        trees = FlatTrees([(booster, n_rounds)])
        for rows in (X, odd_rows()):
            peer = booster.predict(rows, num_iteration=-1 if n_rounds is None else n_rounds, num_threads=1)
            np.testing.assert_array_equal(trees.predict_rows(rows)[0], peer)
    np.testing.assert_array_equal(trees.predict_rows(X, n_threads=2)[0], trees.predict_rows(X)[0])
    single = np.array([trees.predict(row)[0] for row in X[:50]])
    np.testing.assert_array_equal(single, trees.predict_rows(X[:50])[0])


@pytest.mark.parametrize(("num_leaves", "is_small"), [(2, True), (8, True), (32, True), (64, True), (65, False)])
def test_trees_of_every_size_are_the_booster_to_the_bit(num_leaves: int, is_small: bool) -> None:
    booster = boost("regression", num_leaves=num_leaves, min_data_in_leaf=1)
    assert booster.trees_to_dataframe().groupby("tree_index")["node_depth"].size().max() == 2 * num_leaves - 1
    trees = FlatTrees([(booster, None)])
    assert (trees.small is not None) == is_small
    for rows in (X, odd_rows(), X[:1], X[:0]):
        peer = booster.predict(rows, num_threads=1) if len(rows) else np.empty(0)
        np.testing.assert_array_equal(trees.predict_rows(rows)[0], peer)


def test_a_tree_without_split_is_its_leaf() -> None:
    booster = boost("regression", min_data_in_leaf=N)
    np.testing.assert_array_equal(FlatTrees([(booster, None)]).predict_rows(X)[0], booster.predict(X))


def test_nodes_of_many_categories_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = boost("binary")
    small = FlatTrees([(booster, None)])
    monkeypatch.setattr("mtl_classic.learners._small_trees.MOST_WORDS", 0)
    walked = FlatTrees([(booster, None)])
    assert small.small is not None
    assert walked.small is None
    np.testing.assert_array_equal(walked.predict_rows(X)[0], small.predict_rows(X)[0])


def test_trees_are_flattened_at_the_first_large_prediction_and_kept() -> None:
    booster = boost("binary")
    assert flat_trees_for(booster, None, 10) is None
    flat = flat_trees_for(booster, None, N)
    assert flat is not None
    assert flat_trees_for(booster, None, 1) is flat
    assert flat_trees_for(booster, 5, N) is not flat


def test_what_is_no_plain_tree_is_left_to_the_booster() -> None:
    assert flat_trees_for(boost("regression", linear_tree=True), None, N) is None


def test_rows_that_are_too_narrow_are_refused() -> None:
    """As those of a file whose columns are not those of its trees; the kernels would read past their ends."""
    X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    booster = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(X, X[:, 2].copy()), 2)
    flat = FlatTrees([(booster, None)])
    with pytest.raises(ValueError, match="read 3 columns, and rows of 2"):
        flat.predict(X[0, :2])
    with pytest.raises(ValueError, match="read 3 columns, and rows of 2"):
        flat.predict_rows(np.ascontiguousarray(X[:, :2]))
