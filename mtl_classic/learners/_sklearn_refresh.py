"""Models of scikit-learn moved by new rows: coefficients and leaves drawn towards them, trees added, or a pass made."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from mtl_classic.learners._leaves import covers
from mtl_classic.learners._protocol import Floats, n_further
from mtl_classic.learners._sklearn_fit import fit_estimator

__all__ = ["FORESTS", "draw_coefficients", "draw_leaves", "grow_further", "make_pass", "way_to_refresh"]

FORESTS = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
Array = npt.NDArray[Any]


def way_to_refresh(model: Any, how: str) -> str | None:
    """How a fitted estimator is moved: "leaves", "rounds", "pass", "coefficients", or None if it can't be."""
    if isinstance(model, FORESTS):
        return how if model.n_outputs_ == 1 else None
    if hasattr(model, "partial_fit"):
        return "pass"
    return "coefficients" if hasattr(model, "coef_") and hasattr(model, "intercept_") else None


def draw_leaves(model: Any, matrix: Any, y: Floats, weight: Floats | None, decay: float) -> Any:
    """A forest whose leaves have the mean of the rows that they rest on, at the share ``decay``, and of the new ones.

    Parameters
    ----------
    model : fitted forest of one output
    matrix : float32 array or CSR of shape (n, n_features)
    y : ndarray of shape (n,)
        Positions among the classes, or numbers; of a binary task shares of the positive class too.
    weight : ndarray of shape (n,) or None
    decay : float in [0, 1]

    Notes
    -----
    Cost: n × depth × trees.
    """
    moved = deepcopy(model)
    mass = np.ones(len(y)) if weight is None else weight
    columns = _columns(model, y)
    for tree in (member.tree_ for member in moved.estimators_):
        leaf = tree.apply(matrix)
        total = np.bincount(leaf, mass, tree.node_count)
        reached, kept = np.flatnonzero(total), decay * tree.weighted_n_node_samples
        for k, column in enumerate(columns):
            new = np.bincount(leaf, mass * column, tree.node_count)[reached]
            tree.value[reached, 0, k] = (kept * tree.value[:, 0, k])[reached] + new
            tree.value[reached, 0, k] /= (kept + total)[reached]
        tree.weighted_n_node_samples[:] = covers(tree.children_left, tree.children_right, kept + total)
    return moved


def _columns(model: Any, y: Floats) -> list[Floats]:
    if not hasattr(model, "classes_"):
        return [y]
    if len(model.classes_) == 2 and set(model.classes_) == {0, 1}:
        return [1 - y, y]
    return [(y == label).astype(np.float64) for label in model.classes_]


def grow_further(
    model: Any, matrix: Any, y: Array, weight: Floats | None, n_added: int, seed: int, n_threads: int
) -> Any:
    """A forest with a tenth as many trees more as it was fitted with, grown on the new rows.

    None if a class is not among these. Of its trees ``n_added`` were grown so before.
    """
    if hasattr(model, "classes_") and not np.array_equal(np.unique(y), model.classes_):
        return None
    moved, known = deepcopy(model), model.get_params(deep=False)
    more = n_further(len(model.estimators_), n_added)
    moved.set_params(
        warm_start=True, n_estimators=len(model.estimators_) + more, random_state=seed, n_jobs=n_threads
    ).fit(matrix, y, sample_weight=weight)
    return moved.set_params(**{name: known[name] for name in ("warm_start", "random_state", "n_jobs")})


def make_pass(model: Any, matrix: Any, y: Array, weight: Floats | None) -> Any:
    """A model that has made one pass more, by its own ``partial_fit``."""
    moved = deepcopy(model)
    return moved.partial_fit(matrix, y) if weight is None else moved.partial_fit(matrix, y, sample_weight=weight)


def draw_coefficients(
    model: Any, matrix: Any, y: Array, weight: Floats | None, share: float, seeds: dict[str, int], name: str
) -> Any:
    """A linear model with ``share`` · old + (1 − ``share``) · the coefficients of a fit on the new rows alone.

    None if these do not have all classes.
    """
    if hasattr(model, "classes_") and not np.array_equal(np.unique(y), model.classes_):
        return None
    fresh = clone(model).set_params(**seeds)
    fit_estimator(fresh, matrix, y, weight, name)
    moved = deepcopy(model)
    for part in ("coef_", "intercept_"):
        setattr(moved, part, share * getattr(model, part) + (1 - share) * getattr(fresh, part))
    return moved
