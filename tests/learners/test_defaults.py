"""Defaults follow the label and the width of the table."""

import numpy as np
import pytest

from mtl_classic.learners._defaults import tree_defaults


def labels(n: int, positives: int) -> np.ndarray:
    return (np.arange(n) < positives).astype(np.float64)


@pytest.mark.parametrize(
    ("n", "positives", "min_hessian"),
    [(400_000, 600, 20.0), (50_000, 700, 0.03 / 0.014), (40_000, 9_600, 0.125), (320, 16, 0.6), (320, 2, 0.1)],
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
