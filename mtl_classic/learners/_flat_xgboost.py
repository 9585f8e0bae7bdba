"""XGBoost boosters as flat arrays: the same scores to the bit, in less time, for one row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._kernels.flat_trees import CATEGORY, MISSING_LEFT, NAN_MISSING, add_trees
from mtl_classic._kernels.single_links import EXPONENTIAL, IDENTITY, LOGISTIC, SOFTMAX, apply_links
from mtl_classic.learners._columns import Features
from mtl_classic.learners._flat_trees import check_width, joined, n_features_read, numbered_apart
from mtl_classic.learners._xgboost import XGBoostFit

__all__ = ["FlatXGBoost", "XGBoostTrees", "read_xgboost"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
N_PROBES = 32  # rows
_LINKS = {
    "binary:logistic": LOGISTIC,
    "reg:logistic": LOGISTIC,
    "multi:softprob": SOFTMAX,
    "count:poisson": EXPONENTIAL,
    "reg:gamma": EXPONENTIAL,
    "reg:tweedie": EXPONENTIAL,
    "reg:squarederror": IDENTITY,
    "reg:absoluteerror": IDENTITY,
    "reg:pseudohubererror": IDENTITY,
    "rank:ndcg": IDENTITY,
    "rank:pairwise": IDENTITY,
    "rank:map": IDENTITY,
}


@dataclass(frozen=True)
class XGBoostTrees:
    """What is read of a booster.

    Attributes
    ----------
    parts : list of dict
        The arrays of each tree.
    base : ndarray of shape (n_outputs,), float32
        What each output begins with.
    link : int
    center, unit : float
        What is added to the scores, and by what they are multiplied before.
    """

    parts: list[dict[str, Array]]
    base: Floats32
    link: int
    center: float
    unit: float = 1.0


def read_xgboost(fit: XGBoostFit) -> XGBoostTrees | None:
    """The trees of a fit; None where these, or the objective, are of a kind that is not walked here."""
    learner = json.loads(fit.booster.save_raw("json"))["learner"]
    shape, boosted = learner["learner_model_param"], learner["gradient_booster"]
    link = _LINKS.get(learner["objective"]["name"])
    if boosted["name"] != "gbtree" or link is None or int(shape.get("num_target", 1)) > 1:
        return None
    model = boosted["model"]
    if "weight_drop" in model:  # dart, as XGBoost 3.4 writes it
        return None
    n_trees = model["iteration_indptr"][fit.n_rounds] if fit.n_rounds else len(model["trees"])
    trees, outputs = model["trees"][:n_trees], model["tree_info"][:n_trees]
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees):
        return None
    parts = [_tree(tree, output) for tree, output in zip(trees, outputs, strict=True)]
    base = _margin(np.array(json.loads(shape["base_score"]), dtype=np.float32), link)
    read = XGBoostTrees(parts, np.broadcast_to(base, max(int(shape["num_class"]), 1)), link, fit.center, fit.unit)
    return read if _says_the_same(fit, read) else None


class FlatXGBoost:
    """The trees of some boosters over the same features.

    Leaves are added in single precision in the order of the trees, as XGBoost does.

    Parameters
    ----------
    boosters : sequence of XGBoostTrees
    """

    def __init__(self, boosters: Sequence[XGBoostTrees]) -> None:
        starts = np.cumsum([0, *(len(trees.base) for trees in boosters)]).tolist()
        self.slices = [slice(first, last) for first, last in pairwise(starts)]
        self.starts, self.links = np.array(starts, dtype=np.int32), np.array([t.link for t in boosters], dtype=np.int8)
        self.lines = [(trees.unit, trees.center) for trees in boosters]
        self.base = np.concatenate([np.empty(0, np.float32), *(trees.base for trees in boosters)])
        moved = [
            part | {"output": part["output"] + start}
            for trees, start in zip(boosters, starts, strict=False)
            for part in trees.parts
        ]
        *nodes, leaf_value, word_start, n_words, words = joined(moved)
        self.n_features = n_features_read(nodes[2])
        self.arrays = (*nodes, leaf_value.astype(np.float32), word_start, n_words, words)

    def predict(self, row: Floats32) -> list[Floats]:
        """For each booster its scores of a row, of shape (1,) or (1, n_classes)."""
        check_width(len(row), self.n_features)
        raw = self.base.copy()
        add_trees(row.astype(np.float64), *self.arrays, raw)
        out = np.empty(len(raw))
        apply_links(raw, self.starts, self.links, out)
        return [
            (out[own] / out[own].sum())[None] if link == SOFTMAX else out[own] * unit + center
            for own, link, (unit, center) in zip(self.slices, self.links, self.lines, strict=True)
        ]


def _margin(base: Floats32, link: int) -> Floats32:
    """The base score, a prediction, as a raw score."""
    if link == LOGISTIC:
        base = -np.log((1 / base - 1).astype(np.float64))
    elif link == EXPONENTIAL:
        base = np.log(base.astype(np.float64))
    return base.astype(np.float32)


def _tree(tree: dict[str, Any], output: int) -> dict[str, Array]:
    """The arrays of one tree. XGBoost goes left below a threshold, and right with the categories of a node."""
    value = np.array(tree["split_conditions"], dtype=np.float32)
    inner, is_leaf, left, right = numbered_apart(np.array(tree["left_children"]), np.array(tree["right_children"]))
    by_category = np.array(tree["split_type"], dtype=bool)[inner]
    missing_left = np.array(tree["default_left"], dtype=bool)[inner] != by_category
    start, count, words = _words(tree, len(value))
    return {
        "feature": np.array(tree["split_indices"], dtype=np.int32)[inner],
        "threshold": np.nextafter(value[inner], np.float32(-np.inf)).astype(np.float64),
        "decision": np.where(by_category, CATEGORY, NAN_MISSING) | np.where(missing_left, MISSING_LEFT, 0),
        "left": np.where(by_category, right, left),
        "right": np.where(by_category, left, right),
        "leaf_value": value[is_leaf],
        "word_start": start[inner],
        "n_words": count[inner],
        "words": words,
        "output": np.array([output]),
    }


def _words(tree: dict[str, Any], n_nodes: int) -> tuple[Array, Array, Array]:
    """The categories of each node as bits: where its words begin, how many they are, and all words."""
    start, count = np.zeros(n_nodes, dtype=np.int32), np.zeros(n_nodes, dtype=np.int32)
    words: list[Array] = [np.empty(0, dtype=np.uint32)]
    categories = np.array(tree["categories"], dtype=np.int64)
    for node, first, size in zip(
        tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
    ):
        own = categories[first : first + size]
        bits = np.zeros(own.max(initial=-1) // 32 + 1, dtype=np.uint32)
        np.bitwise_or.at(bits, own // 32, np.uint32(1) << (own % 32).astype(np.uint32))
        start[node], count[node] = sum(map(len, words)), len(bits)
        words.append(bits)
    return start, count, np.concatenate(words)


def _says_the_same(fit: XGBoostFit, trees: XGBoostTrees) -> bool:
    """Whether rows at the thresholds have the booster's scores: the order of its sums is no part of its interface."""
    rows, flat = _probes(trees, fit.booster.num_features()), FlatXGBoost([trees])
    own = np.concatenate([flat.predict(row)[0] for row in rows])
    return np.array_equal(own, fit.predict(Features(rows, (), ())))


def _probes(trees: XGBoostTrees, n_features: int) -> Floats32:
    """Rows of missing values, thresholds, what is next to them, and categories."""
    rng = np.random.default_rng(0)
    asked: dict[int, set[float]] = {}
    for part in trees.parts:
        for feature, threshold, n_words in zip(part["feature"], part["threshold"], part["n_words"], strict=True):
            asked.setdefault(int(feature), set()).update(np.arange(32.0 * n_words + 1) if n_words else [threshold])
    rows = np.full((N_PROBES, n_features), np.nan, dtype=np.float32)
    for feature, values in asked.items():
        known = np.array(sorted(values), dtype=np.float32)
        rows[:, feature] = rng.choice([np.float32(np.nan), *known, *np.nextafter(known, np.float32(np.inf))], N_PROBES)
    return rows
