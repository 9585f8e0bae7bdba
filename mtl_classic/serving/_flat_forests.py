"""Forests of scikit-learn as flat arrays, for one row: the same scores to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._kernels.flat_trees import add_trees, add_wide_trees
from mtl_classic.learners._flat_trees import check_width, joined, n_features_read, numbered_apart
from mtl_classic.learners._sklearn import SklearnFit
from mtl_classic.learners._sklearn_refresh import FORESTS
from mtl_classic.multitask._extra_forest import ExtraForest

__all__ = ["FlatExtraForest", "FlatForests", "is_flat_forest"]

Array = npt.NDArray[Any]
_MISSING, _LEFT = 8, 2  # bits of a decision: NaN is missing, and goes left


def is_flat_forest(fit: Any) -> bool:
    """Whether a fit is a forest that reads the features as they are."""
    plain = type(fit) is SklearnFit and type(fit.model) in FORESTS and fit.transformer is None
    return plain and fit.model.n_outputs_ == 1


class FlatForests:
    """The trees of some forests over the same features.

    Parameters
    ----------
    fits : sequence of SklearnFit
        Such that `is_flat_forest`.
    """

    def __init__(self, fits: Sequence[SklearnFit]) -> None:
        self.fits = list(fits)
        self.slices: list[slice] = []
        parts: list[dict[str, Array]] = []
        n_outputs = 0
        for fit in self.fits:
            columns = _columns(fit)
            self.slices.append(slice(n_outputs, n_outputs + len(columns)))
            for tree in fit.model.estimators_:
                values = tree.tree_.value[:, 0]
                parts += [_part(tree.tree_, values[:, column], n_outputs + k) for k, column in enumerate(columns)]
            n_outputs += len(columns)
        self.n_outputs = n_outputs
        self.arrays = joined(parts)
        self.n_features = n_features_read(self.arrays[2])

    def predict(self, row: npt.NDArray[np.float32]) -> list[Array]:
        """For each fit its scores of a row, of shape (1,) or (1, n_classes)."""
        check_width(len(row), self.n_features)
        raw = np.zeros(self.n_outputs)
        add_trees(row.astype(np.float64), *self.arrays, raw)
        return [_scores(fit, raw[part]) for fit, part in zip(self.fits, self.slices, strict=True)]


class FlatExtraForest:
    """The trees of a forest for all tasks: a tree is walked once, to a leaf with the values of all outputs.

    Parameters
    ----------
    forest : ExtraForest
    """

    def __init__(self, forest: ExtraForest) -> None:
        self.forest, self.n_outputs = forest, len(forest.centers)
        trees = [member.tree_ for member in forest.model.estimators_]
        roots, _, *nodes, _, _, _, words = joined([_part(tree, tree.value[:, 0, 0], 0) for tree in trees])
        values = np.concatenate([tree.value[tree.children_left == -1, :, 0] for tree in trees])
        self.arrays = (roots, *nodes, words, np.ascontiguousarray(values))
        self.n_features = n_features_read(nodes[0])

    def predict(self, row: npt.NDArray[np.float32]) -> dict[str, Array]:
        """For each task its scores of a row, of shape (1,) or (1, n_classes)."""
        check_width(len(row), self.n_features)
        raw = np.zeros(self.n_outputs)
        add_wide_trees(row.astype(np.float64), *self.arrays, raw)
        return self.forest.scores(raw[None, :] / len(self.forest.model.estimators_))


def _columns(fit: SklearnFit) -> list[int]:
    """Which values of a leaf are asked for: that of a regression, of the positive class, or of all classes."""
    if fit.kind == "binary":
        return [1]
    return list(range(len(fit.model.classes_))) if fit.kind == "multiclass" else [0]


def _part(tree: Any, values: Array, output: int) -> dict[str, Array]:
    """A tree with one value of each node, for the kernel."""
    inner, is_leaf, left, right = numbered_apart(tree.children_left, tree.children_right)
    goes_left = tree.__getstate__()["nodes"]["missing_go_to_left"][inner].astype(bool)
    nothing = np.zeros(len(inner), dtype=np.int32)
    return {
        "feature": tree.feature[inner],
        "threshold": tree.threshold[inner],
        "decision": np.where(goes_left, _MISSING | _LEFT, _MISSING),
        "left": left,
        "right": right,
        "leaf_value": values[is_leaf],
        "word_start": nothing,
        "n_words": nothing,
        "words": np.empty(0, dtype=np.uint32),
        "output": np.array([output]),
    }


def _scores(fit: SklearnFit, total: Array) -> Array:
    means = total / len(fit.model.estimators_)
    if fit.kind == "binary":
        return means
    if fit.kind != "multiclass":
        return np.maximum(means, fit.low)
    scores = np.zeros((1, fit.n_classes))
    scores[0, fit.model.classes_.astype(np.intp)] = means
    return scores
