"""Scores of a factorization machine, row by row: a row's score does not depend on the others."""

from __future__ import annotations

from numba import njit

from mtl_classic._kernels.fm import ENTRIES_AHEAD, FASTMATH, count_factors, count_parts, entry, row_forward
from mtl_classic._kernels.simd import LANE_BLOCK, line_numbers, load, pointer, prefetch, store, total


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def predict_scores(  # type: ignore[no-untyped-def]
    lanes, n_factors, factors, stride, linear, linear_stride, bias, values, indices, bounds, mixing, sums, out
):  # fmt: skip
    """Write the score of every row to `out`.

    Conventions as in `fm`. Only the first slot of the parameters is read, so those of a running fit serve too.
    """
    n_parts, n_rows, width, last = count_parts(mixing), out.shape[0], LANE_BLOCK * len(lanes), indices.shape[0] - 1
    n_factors = count_factors(n_factors, lanes)
    factors, linear, bias, sums = pointer(factors), pointer(linear), pointer(bias), pointer(sums)
    values, indices, bounds, mixing = pointer(values), pointer(indices), pointer(bounds), pointer(mixing)
    out = pointer(out)
    for row in range(n_rows):
        first = row * n_parts
        for p in range(load((), bounds, first), load((), bounds, first + n_parts)):
            ahead = entry(indices, min(p + ENTRIES_AHEAD, last))
            prefetch(linear, ahead * linear_stride)
            for f in range(0, n_factors, line_numbers(factors)):
                prefetch(factors, ahead * stride + f)
        score = load((), bias, 0)
        for f in range(0, n_factors, width):
            product, single = row_forward(
                lanes, n_factors, f, factors, stride, linear, linear_stride, values, indices, bounds, first,
                mixing, n_parts, sums, None, 0,
            )  # fmt: skip
            score += total(product)
            if f == 0:
                score += single
        store(out, row, score)
