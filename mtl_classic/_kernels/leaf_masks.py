"""Small trees scored without branches: every node strikes out, for a block of rows, the leaves they cannot reach.

A row that does not go left at a node cannot end in a leaf of the left subtree. What remains after all nodes is a set of
leaves of which the leftmost is the row's own (QuickScorer: Lucchese et al., SIGIR 2015, doi 10.1145/2766462.2767733).
A node costs one comparison and one "and" for as many rows as the processor takes at a time; a walk waits for branches.
"""

import numpy as np
from numba import njit

from mtl_classic._kernels.flat_trees import SMALLEST

__all__ = ["DE_BRUIJN", "add_small_trees"]

# Times a word with one bit set, this has in its upper five (six) bits a pattern of that bit's own: a number for it.
DE_BRUIJN = {32: np.uint64(0x077CB531), 64: np.uint64(0x03F79D71B4CB0A89)}
_NO_CODE = 1 << 24  # beyond all categories; numbers below are exact in float32
_BLOCK = 256  # rows: their columns, masks and sums stay in the nearest cache


@njit(cache=True, nogil=True, error_model="numpy")
def add_small_trees(
    rows, first, outputs, feature, threshold, goes, keeps, start, n_codes, goes_left, leaf_value, multiplier, full, out
):
    """Add every tree's leaf of each row to its output, in the order of the trees.

    rows : float32 (n, n_features); first : int32 (n_trees + 1), where a tree's nodes begin; outputs : int32 (n_trees);
    feature : int32 (n_nodes); threshold : float32; goes : int8, 0 NaN goes right, 1 NaN goes left, 2 a category;
    keeps : uint32 or uint64, the leaves that stay where a row does not go left; start, n_codes : int32 (n_nodes), where
    a category node's codes begin in goes_left (int8, −1 left, else 0; one more than n_codes, 0 for all other codes);
    leaf_value : float64 (n_trees, 32 or 64), in the order of the bits' numbers; full : all bits;
    multiplier : uint64, that of `DE_BRUIJN`; out : float64 (n, n_outputs), added to.
    """
    n, n_features = rows.shape
    n_outputs = out.shape[1]
    last = np.uint64(leaf_value.shape[1] - 1)
    shift = np.uint64(27 if leaf_value.shape[1] == 32 else 58)
    is_used = np.zeros(n_features, np.bool_)
    is_category = np.zeros(n_features, np.bool_)
    for node in range(feature.size):
        is_used[feature[node]] = True
        is_category[feature[node]] |= goes[node] == 2
    columns = np.empty((n_features, _BLOCK), np.float32)
    codes = np.empty((n_features, _BLOCK), np.int32)
    masks = np.empty(_BLOCK, keeps.dtype)
    sums = np.empty((n_outputs, _BLOCK))
    for begin in range(0, n, _BLOCK):
        size = min(_BLOCK, n - begin)
        _transpose(rows, begin, size, is_used, is_category, columns, codes)
        for k in range(n_outputs):
            for i in range(size):
                sums[k, i] = out[begin + i, k]
        for tree in range(outputs.size):
            masks[:] = full
            for node in range(first[tree], first[tree + 1]):
                j = feature[node]
                if goes[node] == 2:
                    table = goes_left[start[node] : start[node] + n_codes[node] + 1]
                    _strike_by_category(codes[j], table, keeps[node], masks)
                else:
                    _strike(columns[j], threshold[node], goes[node] == 1, keeps[node], full, masks)
            _add_leaves(masks, size, leaf_value[tree], multiplier, shift, last, sums[outputs[tree]])
        for k in range(n_outputs):
            for i in range(size):
                out[begin + i, k] = sums[k, i]


@njit(cache=True, nogil=True)
def _transpose(rows, begin, size, is_used, is_category, columns, codes):
    """A block with a used column's values together, and their categories; what is 0 to LightGBM becomes 0."""
    for j in range(columns.shape[0]):
        if not is_used[j]:
            continue
        for i in range(size):
            value = rows[begin + i, j]
            columns[j, i] = np.float32(0.0) if abs(np.float64(value)) <= SMALLEST else value
        columns[j, size:] = np.float32(0.0)
        if is_category[j]:
            for i in range(_BLOCK):
                value = columns[j, i]
                known = value > np.float32(-1.0) and value < np.float32(_NO_CODE)
                codes[j, i] = np.int32(value) if known else _NO_CODE


@njit(cache=True, nogil=True)
def _strike(column, threshold, missing_left, keep, full, masks):
    """NaN fails every comparison: asked whether it is above it goes left, asked whether it is not above, right."""
    if missing_left:
        for i in range(_BLOCK):
            masks[i] &= keep if column[i] > threshold else full
    else:
        for i in range(_BLOCK):
            masks[i] &= full if column[i] <= threshold else keep


@njit(cache=True, nogil=True)
def _strike_by_category(codes, table, keep, masks):
    """A table in place of bits: it is looked up for many rows at a time; -1 becomes the word of all bits."""
    last = np.int32(table.size - 1)
    for i in range(_BLOCK):
        code = codes[i] if codes[i] < last else last
        masks[i] &= keep | masks.dtype.type(table[code])


@njit(cache=True, nogil=True)
def _add_leaves(masks, size, values, multiplier, shift, last, sums):
    """Add the value of each mask's lowest bit; its number comes from a product, without a loop over bits."""
    for i in range(size):
        mask = np.uint64(masks[i])
        lowest = mask & (~mask + np.uint64(1))
        sums[i] += values[((lowest * multiplier) >> shift) & last]
