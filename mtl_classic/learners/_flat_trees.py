"""LightGBM boosters as flat arrays: the same scores to the bit, in less time, for one row and for many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from mtl_classic._kernels.flat_trees import SMALLEST, add_trees, add_trees_to_rows, exponentials, logistic
from mtl_classic.learners._small_trees import small_trees
from mtl_classic.learners._text_booster import TextBooster

__all__ = [
    "FlatTrees",
    "can_flatten",
    "check_width",
    "flat_trees_for",
    "joined",
    "n_features_read",
    "numbered_apart",
]

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
ROWS_AT_ONCE = 16_384  # of a thread
ROWS_WORTH_FLATTENING = 5_000
_KNOWN: WeakKeyDictionary[Any, tuple[tuple[int, int | None], FlatTrees | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Link:
    """From raw scores to those of the objective, for one row and for many."""

    one: Callable[[Floats], Any]
    many: Callable[[Floats], Floats]


def _softmax(raw: Floats) -> Any:
    largest = raw.max()
    powers = [math.exp(value - largest) for value in raw]
    total = 0.0
    for power in powers:  # as LightGBM adds: from Python 3.12 on sum() makes up for rounding
        total += power
    return np.array(powers) / total


def _softmax_rows(raw: Floats) -> Floats:
    powers = np.empty_like(raw)
    exponentials((raw - raw.max(axis=1, keepdims=True)).ravel(), powers.reshape(-1))
    total = np.zeros(len(raw))
    for column in powers.T:  # in the order in which one row is summed
        total += column
    return powers / total[:, None]


def _logistic(slope: float) -> _Link:
    def many(raw: Floats) -> Floats:
        out = np.empty(len(raw))
        logistic(raw[:, 0], slope, out)
        return out

    return _Link(lambda raw: 1.0 / (1.0 + math.exp(-slope * raw[0])), many)


def _exponential_rows(raw: Floats) -> Floats:
    out = np.empty(len(raw))
    exponentials(raw[:, 0], out)
    return out


_IDENTITY = _Link(lambda raw: raw[0], lambda raw: raw[:, 0].copy())
_EXPONENTIAL = _Link(lambda raw: math.exp(raw[0]), _exponential_rows)
_SOFTMAX = _Link(_softmax, _softmax_rows)
_IDENTITIES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_EXPONENTIALS = ("poisson", "gamma", "tweedie")


def can_flatten(booster: Any) -> bool:
    """Whether a booster's trees and objective are among those that are walked here."""
    head, first = _head_and_trees(booster, 1)
    is_linear = bool(first) and _fields(first[0]).get("is_linear", "0") != "0"
    return _link(_fields(head)) is not None and "average_output" not in head and not is_linear


def flat_trees_for(booster: Any, n_rounds: int | None, n_rows: int) -> FlatTrees | None:
    """The flat trees of a booster, made at the first large prediction and kept while it lives; None if it can't be."""
    version = (booster.num_trees(), n_rounds)
    known = _KNOWN.get(booster)
    if known is not None and known[0] == version:
        return known[1]
    if n_rows < ROWS_WORTH_FLATTENING:
        return None
    flat = FlatTrees([(booster, n_rounds)]) if can_flatten(booster) else None
    _KNOWN[booster] = version, flat
    return flat


class FlatTrees:
    """The trees of some boosters over the same features.

    Parameters
    ----------
    boosters : sequence of (lightgbm.Booster, number of rounds or None)
        Such that `can_flatten`.
    """

    def __init__(self, boosters: Sequence[tuple[Any, int | None]]) -> None:
        parts: list[dict[str, Array]] = []
        self.links: list[_Link] = []
        self.slices: list[slice] = []
        n_outputs = 0
        for booster, n_rounds in boosters:
            head, trees = _head_and_trees(booster, n_rounds)
            header = _fields(head)
            width = int(header["num_tree_per_iteration"])
            self.links.append(_link(header) or _IDENTITY)
            self.slices.append(slice(n_outputs, n_outputs + width))
            parts += [_tree(_fields(tree), n_outputs + k % width) for k, tree in enumerate(trees)]
            n_outputs += width
        self.n_outputs = n_outputs
        self.arrays = joined(parts)
        self.n_features = n_features_read(self.arrays[2])
        self.small = small_trees(parts)

    def predict(self, row: npt.NDArray[np.float32]) -> list[Any]:
        """For each booster what it predicts for a row, a number, or an array of probabilities for several classes."""
        check_width(len(row), self.n_features)
        values = row.astype(np.float64)
        values[np.abs(row) <= SMALLEST] = 0.0
        raw = np.zeros(self.n_outputs)
        add_trees(values, *self.arrays, raw)
        return [link.one(raw[part]) for link, part in zip(self.links, self.slices, strict=True)]

    def predict_rows(self, rows: npt.NDArray[np.float32], n_threads: int = 1) -> list[Floats]:
        """The same for rows of shape (n, n_features): an array of shape (n,) or (n, n_classes) for each booster."""
        check_width(rows.shape[1], self.n_features)
        raw = np.zeros((len(rows), self.n_outputs))
        parts = [slice(k, k + ROWS_AT_ONCE) for k in range(0, len(rows), ROWS_AT_ONCE)]
        if n_threads == 1 or len(parts) < 2:
            self._add_to(rows, raw)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(lambda part: self._add_to(rows[part], raw[part]), parts))
        return [link.many(raw[:, part]) for link, part in zip(self.links, self.slices, strict=True)]

    def _add_to(self, rows: npt.NDArray[np.float32], raw: Floats) -> None:
        if self.small is None:
            add_trees_to_rows(rows, *self.arrays, raw)
        else:
            self.small.add_to(rows, raw)


def _head_and_trees(booster: Any, n_rounds: int | None) -> tuple[str, list[str]]:
    """The text of a booster before its trees, and that of each tree of the first rounds."""
    if type(booster) is TextBooster:  # one that was loaded; all of its text is there, and LightGBM need not read it
        text = booster.model_to_string(num_iteration=-1)
    else:
        text = booster.model_to_string(num_iteration=-1 if n_rounds is None else n_rounds)
    head, *trees = text.split("\n\nend of trees")[0].split("\nTree=")
    per_round = int(_fields(head)["num_tree_per_iteration"])
    return head, trees if n_rounds is None or n_rounds <= 0 else trees[: n_rounds * per_round]


def _fields(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _link(header: dict[str, str]) -> _Link | None:
    """From raw scores to those of the objective, None where it is not known here."""
    name, *options = header.get("objective", "").split(" ")
    given = dict(option.split(":") for option in options if ":" in option)
    if name == "binary" and set(given) == {"sigmoid"}:
        return _logistic(float(given["sigmoid"]))
    if name == "cross_entropy" and not options:
        return _logistic(1.0)
    if name == "multiclass" and set(given) == {"num_class"}:
        return _SOFTMAX
    if name in _IDENTITIES and "sqrt" not in options:
        return _IDENTITY
    return _EXPONENTIAL if name in _EXPONENTIALS else None


def _tree(fields: dict[str, str], output: int) -> dict[str, Array]:
    """The arrays of one tree; children and leaves are numbered from 0."""
    leaves = _numbers(fields["leaf_value"], np.float64)
    if int(fields["num_leaves"]) <= 1:
        nodes = {name: np.empty(0, dtype) for name, dtype in _NODES.items()}
        return {"leaf_value": leaves, "output": np.array([output]), "words": np.empty(0, np.uint32), **nodes}
    feature = _numbers(fields["split_feature"], np.int32)
    threshold, decision = _numbers(fields["threshold"], np.float64), _numbers(fields["decision_type"], np.int8)
    start, count = np.zeros(len(feature), np.int32), np.zeros(len(feature), np.int32)
    words = np.empty(0, np.uint32)
    if int(fields["num_cat"]):
        bounds, words = _numbers(fields["cat_boundaries"], np.int32), _numbers(fields["cat_threshold"], np.uint32)
        categorical = np.flatnonzero(decision & 1)
        which = threshold[categorical].astype(np.intp)
        start[categorical], count[categorical] = bounds[which], bounds[which + 1] - bounds[which]
    return {
        "feature": feature,
        "threshold": threshold,
        "decision": decision,
        "left": _numbers(fields["left_child"], np.int32),
        "right": _numbers(fields["right_child"], np.int32),
        "leaf_value": leaves,
        "word_start": start,
        "n_words": count,
        "words": words,
        "output": np.array([output]),
    }


_NODES = {
    "feature": np.int32, "threshold": np.float64, "decision": np.int8, "left": np.int32, "right": np.int32,
    "word_start": np.int32, "n_words": np.int32,
}  # fmt: skip


def _numbers(text: str, dtype: Any) -> Array:
    return np.array(text.split(" ") if text else [], dtype=np.float64 if dtype == np.float64 else np.int64).astype(
        dtype
    )


def n_features_read(feature: Array) -> int:
    """The width of the rows that nodes of some features read."""
    return int(feature.max(initial=-1)) + 1


def check_width(width: int, n_features: int) -> None:
    """Refuse narrower rows: the kernels would read past their ends."""
    if width < n_features:
        raise ValueError(f"The trees read {n_features} columns, and rows of {width} were given.")


def numbered_apart(left: Array, right: Array) -> tuple[Array, Array, Array, Array]:
    """Of a tree whose leaves have the child -1: inner nodes, which are leaves, and the children of the inner nodes.

    In these nodes and leaves are numbered apart, a leaf as ~number.
    """
    is_leaf = left == -1
    number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    inner = np.flatnonzero(~is_leaf)
    return inner, is_leaf, number[left[inner]], number[right[inner]]


def joined(parts: Sequence[dict[str, Array]]) -> tuple[Array, ...]:
    """One array of each kind for all trees, in the order of `add_trees`."""
    sizes = np.array([[len(part["feature"]), len(part["leaf_value"]), len(part["words"])] for part in parts]).reshape(
        -1, 3
    )
    firsts = np.cumsum(sizes, axis=0) - sizes
    moved: dict[str, list[Array]] = {name: [] for name in (*_NODES, "leaf_value", "words")}
    roots = np.empty(len(parts), np.int32)
    for k, (part, (node, leaf, word)) in enumerate(zip(parts, firsts, strict=True)):
        roots[k] = node if len(part["feature"]) else ~leaf
        for name in moved:
            values = part[name]
            if name in ("left", "right"):
                values = np.where(values >= 0, values + node, values - leaf)
            moved[name].append(values + word if name == "word_start" else values)
    joined = {
        name: np.concatenate(values).astype(_DTYPES[name]) if values else np.empty(0, _DTYPES[name])
        for name, values in moved.items()
    }
    outputs = np.array([part["output"][0] for part in parts], dtype=np.int32)
    order = ("feature", "threshold", "decision", "left", "right", "leaf_value", "word_start", "n_words", "words")
    return (roots, outputs, *(np.ascontiguousarray(joined[name]) for name in order))


_DTYPES = {**_NODES, "leaf_value": np.float64, "words": np.uint32}
