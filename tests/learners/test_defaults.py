"""Defaults follow the label and the width of the table."""

import numpy as np
import pytest

from mtl_classic.learners._defaults import n_bins, tree_defaults


@pytest.mark.parametrize(("n", "bins"), [(0, 32), (164, 32), (165, 33), (1_000, 200), (1_284, 256), (10**6, 256)])
def test_bins_are_a_fifth_of_the_rows(n: int, bins: int) -> None:
    assert n_bins(n) == bins


def labels(n: int, positives: int) -> np.ndarray:
    return (np.arange(n) < positives).astype(np.float64)


@pytest.mark.parametrize(
    ("n", "positives", "min_hessian"),
    [
        (400_000, 600, 20.0),
        (50_000, 700, 0.03 / 0.014),
        (40_000, 9_600, 0.125),
        (320, 16, 0.6),
        (320, 2, 0.1),
        (3, 1, 0.05),
    ],
)
def test_rarer_positives_bound_a_leaf_more(n: int, positives: int, min_hessian: float) -> None:
    assert tree_defaults("binary", labels(n, positives)).min_hessian == pytest.approx(min_hessian)
    assert tree_defaults("binary", 1 - labels(n, positives)).min_hessian == pytest.approx(min_hessian)


def test_classes_are_bound_as_their_median_and_amounts_are_not() -> None:
    classes = np.repeat([0.0, 1.0, 2.0], [8_000, 1_000, 1_000])
    assert tree_defaults("multiclass", classes).min_hessian == pytest.approx(0.3)
    assert tree_defaults("regression", np.arange(10_000.0)).min_hessian == 1e-3
    assert tree_defaults("count", labels(10_000, 2_000)).min_hessian == 50.0


def test_two_classes_are_bound_as_a_binary_label() -> None:
    two = labels(5_000, 40)
    assert tree_defaults("multiclass", two) == tree_defaults("binary", two)


@pytest.mark.parametrize(("n_columns", "share"), [(0, 0.5), (10, 0.5), (48, 0.5), (60, 0.4), (1_000, 0.35)])
def test_a_tree_of_a_wide_table_is_shown_fewer_columns(n_columns: int, share: float) -> None:
    y = labels(100_000, 30_000)
    assert tree_defaults("binary", y, n_columns).feature_fraction == pytest.approx(share)


@pytest.mark.parametrize(("positives", "n_rounds"), [(2, 20), (9, 30), (25, 50), (100, 60), (1_600, 80), (4_000, 100)])
def test_rounds_without_validation_labels_grow_with_the_rarer_class(positives, n_rounds):
    assert tree_defaults("binary", labels(10_000, positives)).n_rounds == n_rounds
    counted = tree_defaults("count", labels(10_000, positives))
    assert counted.n_rounds * counted.learning_rate == pytest.approx(n_rounds * 0.05)


def grades(n: int, ones: int, twos: int) -> np.ndarray:
    return np.repeat([0.0, 1.0, 2.0], [n - ones - twos, ones, twos])


@pytest.mark.parametrize(
    ("kind", "y", "num_leaves", "min_rows", "min_hessian", "learning_rate"),
    [
        ("binary", labels(10_000, 100), 10, 20, 3.0, 0.05),
        ("binary", labels(600, 10), 7, 3, 0.5, 0.05),
        ("binary", labels(600, 0), 7, 3, 1e-3, 0.05),
        ("multiclass", np.repeat([0.0, 2.0, 3.0], [3_479, 400, 121]), 20, 20, 0.3, 0.05),
        ("multiclass", np.empty(0), 7, 3, 0.0, 0.05),
        ("count", grades(10_000, 300, 100), 15, 50, 20.0, 0.1),
        ("count", grades(2_000, 60, 40), 10, 10, 5.0, 0.1),
        ("regression", np.arange(400.0), 20, 3, 1e-3, 0.05),
        ("regression", np.arange(8_000.0), 31, 40, 1e-3, 0.05),
        ("regression", np.arange(20_000.0), 31, 50, 1e-3, 0.05),
        ("ranking", grades(3_000, 100, 21), 11, 15, 1e-3, 0.05),
    ],
)
def test_leaves_follow_the_rows_that_carry_the_information(kind, y, num_leaves, min_rows, min_hessian, learning_rate):
    found = tree_defaults(kind, y)
    assert (found.num_leaves, found.min_rows, found.l2) == (num_leaves, min_rows, 1.0)
    assert found.min_hessian == pytest.approx(min_hessian)
    assert found.learning_rate == learning_rate


@pytest.mark.parametrize(("positives", "share"), [(20_000, 0.7), (20_001, 0.5)])
def test_a_tree_of_plenty_is_shown_fewer_columns(positives: int, share: float) -> None:
    assert tree_defaults("binary", labels(100_000, positives)).feature_fraction == share
