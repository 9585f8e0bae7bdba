"""Trees of many boosters as flat arrays, walked for one row: LightGBM's own rules, to the bit.

Conventions: nodes of all trees one after the other; a child c ≥ 0 is a node, c < 0 the leaf ~c; a root may be a leaf.
``decision`` has the bits of LightGBM: 1 category, 2 missing goes left, 4 zero is missing, 8 NaN is missing.
The interpreter lock is kept: to give it away for microseconds, and wait for it, would cost more than the walk.
"""

import math

import numpy as np
from numba import njit

__all__ = ["add_trees"]

_ZERO = np.float64(np.float32(1e-35))  # nearer to 0 than this is 0 to LightGBM
_CATEGORY, _LEFT, _ZERO_MISSING, _NAN_MISSING = 1, 2, 4, 8


@njit(cache=True)
def add_trees(
    row, roots, outputs, feature, threshold, decision, left, right, leaf_value, word_start, n_words, words, out
):
    """Add every tree's leaf of the row to its output, in the order of the trees.

    row : float64 (n_features); roots, outputs : int32 (n_trees); feature, left, right : int32 (n_nodes); threshold :
    float64; decision : int8; leaf_value : float64 (n_leaves); word_start, n_words : int32 (n_nodes), the bits of the
    categories that go left, in ``words`` (uint32); out : float64 (n_outputs), added to.
    """
    for tree in range(roots.size):
        node = roots[tree]
        while node >= 0:
            value = row[feature[node]]
            kind = decision[node]
            if kind & _CATEGORY:
                goes_left = _is_in(value, words, word_start[node], n_words[node])
            else:
                if math.isnan(value) and not kind & _NAN_MISSING:
                    value = 0.0
                is_missing = (kind & _ZERO_MISSING and -_ZERO <= value <= _ZERO) or (
                    kind & _NAN_MISSING and math.isnan(value)
                )
                goes_left = (kind & _LEFT) != 0 if is_missing else value <= threshold[node]
            node = left[node] if goes_left else right[node]
        out[outputs[tree]] += leaf_value[~node]


@njit(cache=True, inline="always")
def _is_in(value, words, start, n):
    """Whether a category, a number cut to an integer, is among the bits; missing and negative ones are not."""
    if math.isnan(value) or value <= -1.0 or value >= 32.0 * n:
        return False
    code = np.int64(value)
    return (words[start + (code >> 5)] >> np.uint32(code & 31)) & np.uint32(1) != 0
