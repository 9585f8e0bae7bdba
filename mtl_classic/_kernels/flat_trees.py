"""Trees of many boosters as flat arrays, walked for one row or for many: LightGBM's own rules, to the bit.

Conventions: nodes of all trees one after the other; a child c ≥ 0 is a node, c < 0 the leaf ~c; a root may be a leaf.
``decision`` has the bits of LightGBM: 1 category, 2 missing goes left, 4 zero is missing, 8 NaN is missing.
Both kernels take roots, outputs : int32 (n_trees); feature, left, right : int32 (n_nodes); threshold : float64;
decision : int8; leaf_value : float64 (n_leaves); word_start, n_words : int32 (n_nodes), the bits of the categories that
go left, in ``words`` (uint32).
"""

import math

import numpy as np
from numba import njit

__all__ = [
    "CATEGORY",
    "MISSING_LEFT",
    "NAN_MISSING",
    "SMALLEST",
    "ZERO_MISSING",
    "add_trees",
    "add_trees_to_rows",
    "add_wide_trees",
    "exponentials",
    "logistic",
]

SMALLEST = np.float64(np.float32(1e-35))  # nearer to 0 than this is 0 to LightGBM
CATEGORY, MISSING_LEFT, ZERO_MISSING, NAN_MISSING = 1, 2, 4, 8
_BLOCK = 256  # rows that pass a tree together: its nodes stay in the cache, and so do the rows


@njit(cache=True)
def add_trees(
    row, roots, outputs, feature, threshold, decision, left, right, leaf_value, word_start, n_words, words, out
):
    """Add every tree's leaf of the row to its output, in the order of the trees.

    row : float64 (n_features); out : float64 (n_outputs), added to. The interpreter lock is kept: to give it away for
    microseconds, and wait for it, would cost more than the walk.
    """
    for tree in range(roots.size):
        node = roots[tree]
        while node >= 0:
            goes_left = _goes_left(
                row[feature[node]], threshold[node], decision[node], words, word_start[node], n_words[node]
            )
            node = left[node] if goes_left else right[node]
        out[outputs[tree]] += leaf_value[~node]


@njit(cache=True)
def add_wide_trees(row, roots, feature, threshold, decision, left, right, words, leaf_values, out):
    """The same for trees of numbers, with values of all outputs in each leaf: leaf_values (n_leaves, n_outputs).

    A tree is walked once.
    """
    for tree in range(roots.size):
        node = roots[tree]
        while node >= 0:
            goes_left = _goes_left(row[feature[node]], threshold[node], decision[node], words, 0, 0)
            node = left[node] if goes_left else right[node]
        for k in range(out.size):
            out[k] += leaf_values[~node, k]


@njit(cache=True, nogil=True)
def add_trees_to_rows(
    rows, roots, outputs, feature, threshold, decision, left, right, leaf_value, word_start, n_words, words, out
):
    """The same for many rows: float32 (n, n_features); out : float64 (n, n_outputs), added to. A block at a time."""
    n = rows.shape[0]
    for first in range(0, n, _BLOCK):
        last = min(n, first + _BLOCK)
        for tree in range(roots.size):
            root, output = roots[tree], outputs[tree]
            for i in range(first, last):
                node = root
                while node >= 0:
                    value = np.float64(rows[i, feature[node]])
                    if -SMALLEST <= value <= SMALLEST:
                        value = np.float64(0.0)
                    goes_left = _goes_left(
                        value, threshold[node], decision[node], words, word_start[node], n_words[node]
                    )
                    node = left[node] if goes_left else right[node]
                out[i, output] += leaf_value[~node]


@njit(cache=True, nogil=True)
def logistic(raw, slope, out):
    """1 / (1 + exp(−slope · raw)), by the same exponential as for a single row; raw, out : float64 (n)."""
    for i in range(raw.size):
        out[i] = 1.0 / (1.0 + math.exp(-slope * raw[i]))


@njit(cache=True, nogil=True)
def exponentials(raw, out):
    """exp(raw), by the same exponential as for a single row; raw, out : float64 (n)."""
    for i in range(raw.size):
        out[i] = math.exp(raw[i])


@njit(cache=True, nogil=True, inline="always")
def _goes_left(value, threshold, kind, words, start, n):
    if kind & CATEGORY:
        return _is_in(value, words, start, n) or (math.isnan(value) and (kind & MISSING_LEFT) != 0)
    if math.isnan(value):
        if kind & NAN_MISSING:
            return (kind & MISSING_LEFT) != 0
        value = 0.0
    if kind & ZERO_MISSING and -SMALLEST <= value <= SMALLEST:
        return (kind & MISSING_LEFT) != 0
    return value <= threshold


@njit(cache=True, nogil=True, inline="always")
def _is_in(value, words, start, n):
    """Whether a category, a number cut to an integer, is among the bits; missing and negative ones are not."""
    if math.isnan(value) or value <= -1.0 or value >= 32.0 * n:
        return False
    code = np.int64(value)
    return (words[start + (code >> 5)] >> np.uint32(code & 31)) & np.uint32(1) != 0
