"""Trees of at most 64 leaves, laid out so that rows are scored without branches: the same sums, in less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._kernels.flat_trees import CATEGORY, MISSING_LEFT, NAN_MISSING, ZERO_MISSING
from mtl_classic._kernels.leaf_masks import DE_BRUIJN, add_small_trees

__all__ = ["SmallTrees", "small_trees"]

MOST_LEAVES = 64
MOST_WORDS = 32  # 1,024 categories: with larger tables the cache would be lost
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SmallTrees:
    """Arrays in the order of `add_small_trees`, between the rows and what is added to."""

    arrays: tuple[Any, ...]

    def add_to(self, rows: npt.NDArray[np.float32], out: npt.NDArray[np.float64]) -> None:
        """Add every tree's leaf to out, of shape (n, n_outputs)."""
        add_small_trees(rows, *self.arrays, out)


def small_trees(trees: Sequence[dict[str, Array]]) -> SmallTrees | None:
    """The layout for trees whose nodes and leaves are numbered from 0, or None where one does not fit into it.

    That is one with more than 64 leaves, with codes beyond 1,024 categories, or for which zero is missing.

    Parameters
    ----------
    trees : sequence of dict
        Arrays ``feature``, ``threshold``, ``decision``, ``left``, ``right``, ``word_start``, ``n_words``, ``words``,
        ``leaf_value`` and ``output`` of each tree; a child c < 0 is the leaf ~c.
    """
    if not all(map(_fits, trees)):
        return None
    width = 32 if all(len(tree["leaf_value"]) <= 32 for tree in trees) else MOST_LEAVES
    number = _numbers_of_bits(width)
    full = (1 << width) - 1
    keeps: list[int] = []
    values = np.zeros((len(trees), width))
    for k, tree in enumerate(trees):
        order, kept = _leaves_in_order(tree["left"], tree["right"])
        values[k, number[: len(order)]] = tree["leaf_value"][order]
        keeps += [full & ~struck for struck in kept]
    sizes = np.array([len(tree["feature"]) for tree in trees], dtype=np.int64)
    decision = _concatenated(trees, "decision", np.int8)
    threshold = _concatenated(trees, "threshold", np.float64)
    starts, n_codes, goes_left = _tables(trees, sizes)
    unsigned: Any = np.uint32 if width == 32 else np.uint64
    arrays = (
        np.r_[0, np.cumsum(sizes)].astype(np.int32),
        np.array([tree["output"][0] for tree in trees], dtype=np.int32),
        _concatenated(trees, "feature", np.int32),
        _rounded_down(threshold),
        _where_missing_goes(decision, threshold),
        np.array(keeps, dtype=unsigned),
        starts,
        n_codes,
        goes_left,
        values,
        DE_BRUIJN[width],
        unsigned(full),
    )
    return SmallTrees(arrays)


def _fits(tree: dict[str, Array]) -> bool:
    is_small = len(tree["leaf_value"]) <= MOST_LEAVES and tree["n_words"].max(initial=0) <= MOST_WORDS
    return bool(is_small and not (tree["decision"] & ZERO_MISSING).any())


def _numbers_of_bits(width: int) -> Array:
    """For each bit, the number that the kernel finds for a word with that bit alone."""
    upper = width - (width.bit_length() - 1)
    return np.array([((int(DE_BRUIJN[width]) << bit) % (1 << width)) >> upper for bit in range(width)])


def _concatenated(trees: Sequence[dict[str, Array]], name: str, dtype: Any) -> Array:
    return np.concatenate([np.empty(0, dtype), *(tree[name].astype(dtype) for tree in trees)])


def _tables(trees: Sequence[dict[str, Array]], sizes: Array) -> tuple[Array, Array, Array]:
    """For each node of categories −1 where a code goes left, else 0, and a last 0 for codes beyond."""
    words = np.array([len(tree["words"]) for tree in trees], dtype=np.int64)
    first_word = _concatenated(trees, "word_start", np.int64) + np.repeat(np.cumsum(words) - words, sizes)
    n_words = _concatenated(trees, "n_words", np.int64)
    bits = np.unpackbits(_concatenated(trees, "words", np.uint32).astype("<u4").view(np.uint8), bitorder="little")
    lengths = np.where(n_words > 0, 32 * n_words + 1, 0)
    starts = np.cumsum(lengths) - lengths
    goes_left = np.zeros(int(lengths.sum()), dtype=np.int8)
    for node in np.flatnonzero(n_words):
        a, b = 32 * first_word[node], 32 * (first_word[node] + n_words[node])
        goes_left[starts[node] : starts[node] + b - a] = -bits[a:b].astype(np.int8)
    return starts.astype(np.int32), (32 * n_words).astype(np.int32), goes_left


def _leaves_in_order(left: Array, right: Array) -> tuple[list[int], list[int]]:
    """The leaves from left to right, and for each node, as bits of that order, the leaves of its left subtree."""
    if not len(left):
        return [0], []
    order: list[int] = []
    begins, ends = [0] * len(left), [0] * len(left)  # of the left subtree
    waiting: list[tuple[int, str]] = [(0, "enter")]
    while waiting:
        node, step = waiting.pop()
        if node < 0:
            order.append(~node)
        elif step == "enter":
            begins[node] = len(order)
            waiting += [(node, "between"), (int(left[node]), "enter")]
        else:
            ends[node] = len(order)
            waiting.append((int(right[node]), "enter"))
    return order, [(1 << end) - (1 << begin) for begin, end in zip(begins, ends, strict=True)]


def _rounded_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 not above: a float32 is ≤ the one if and only if it is ≤ the other."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near.astype(np.float64) > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def _where_missing_goes(decision: Array, threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """0: NaN goes right; 1: left, by default or because it counts as 0; 2: a node of categories."""
    default = np.where(decision & NAN_MISSING, decision & MISSING_LEFT != 0, threshold >= 0)
    return np.where(decision & CATEGORY, 2, default).astype(np.int8)
