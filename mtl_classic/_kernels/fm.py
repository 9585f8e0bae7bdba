"""One epoch of stochastic gradient descent for a factorization machine.

Conventions, for all kernels of this family:

- Rows are CSR, sorted by *part* inside the row: `bounds[row * n_parts + part]` is where a part of a row starts in
  `indices` and `values`; `values` is None where all are 1.
- `factors` is flat: feature j starts at j · stride; the slots of its solver follow each other, `n_factors` numbers
  apart. `linear` likewise with single numbers, `bias` is one such row.
- `mixing` (n_parts, n_parts), symmetric, zeros and ones, says which parts interact. With S_a = Σ_{j in a} x_j v_j and
  T_a = Σ_b mixing[a, b] S_b the score is

      bias + Σ_j w_j x_j + ½ Σ_a (S_a · T_a − mixing[a, a] Σ_{j in a} x_j² v_j · v_j),

  and its gradient by v_j is x_j T_a − mixing[a, a] x_j² v_j. None is one part that interacts with itself: the usual
  machine.
- A row is done vector by vector, so any multiple of the vectors' length works. `n_factors` = None says that one
  vector is all there is: then it stays in registers.
- A row's weight multiplies its loss and the penalties ½ λ v² of the features that it contains.

None where a number is the rule is no nuisance but the point: numba specializes on it, and what was a variable is a
constant of the compiled code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from mtl_classic._kernels.fm_losses import loss_slope
from mtl_classic._kernels.fm_steps import n_slots, rate_at, step
from mtl_classic._kernels.simd import (
    FAST_FLAGS,
    LANE_BLOCK,
    fill,
    line_numbers,
    load,
    pointer,
    prefetch,
    random_mask,
    store,
    total,
)

FASTMATH = set(FAST_FLAGS)
# Far enough for memory to answer, near enough for the lines to be in the first cache still.
ENTRIES_AHEAD = 64
# Odd numbers that keep the seeds of neighbouring steps and entries apart.
FACTOR_SALT, ENTRY_SALT = 0x9E3779B1, 0x85EBCA77


def at(values, index, like):  # type: ignore[no-untyped-def]
    """Return values[index] of a pointer, the number itself, or 1 for None, in the type of the array `like`."""
    raise TypeError("at is compiled by numba only")


def count_parts(mixing):  # type: ignore[no-untyped-def]
    """Return the number of parts; None is one."""
    raise TypeError("count_parts is compiled by numba only")


def count_factors(n_factors, lanes):  # type: ignore[no-untyped-def]
    """Return the number of factors; None is one vector."""
    raise TypeError("count_factors is compiled by numba only")


@overload(at)
def _at(values, index, like):  # type: ignore[no-untyped-def]
    if isinstance(values, types.NoneType):
        return lambda values, index, like: fill((), like, 1.0)
    if isinstance(values, types.CPointer):
        return lambda values, index, like: fill((), like, load((), values, index))
    return lambda values, index, like: fill((), like, values)


@overload(count_parts)
def _count_parts(mixing):  # type: ignore[no-untyped-def]
    return (lambda mixing: 1) if isinstance(mixing, types.NoneType) else (lambda mixing: mixing.shape[0])


@overload(count_factors)
def _count_factors(n_factors, lanes):  # type: ignore[no-untyped-def]
    if isinstance(n_factors, types.NoneType):
        return lambda n_factors, lanes: LANE_BLOCK * len(lanes)
    return lambda n_factors, lanes: n_factors


def address(numbers):  # type: ignore[no-untyped-def]
    """Return the pointer of an array; a number or None as it is."""
    raise TypeError("address is compiled by numba only")


@overload(address)
def _address(numbers):  # type: ignore[no-untyped-def]
    return (lambda numbers: pointer(numbers)) if isinstance(numbers, types.Array) else (lambda numbers: numbers)


class Noise(NamedTuple):
    """Dropout of latent dimensions and of embedding entries (DropConnect).

    The probabilities to keep, and a seed. None stands for none.
    """

    keep_factors: float
    keep_entries: float
    seed: int


def dropped(noise, lanes, like, clock, f):  # type: ignore[no-untyped-def]
    """Return the mask of the factors from f on in the step of the clock: a vector, or 1 for no noise."""
    raise TypeError("dropped is compiled by numba only")


def connections(noise, lanes, like, clock, f, p):  # type: ignore[no-untyped-def]
    """Return the mask of entry p's factors from f on in the step of the clock: a vector, or 1 for no noise."""
    raise TypeError("connections is compiled by numba only")


@overload(dropped)
def _dropped(noise, lanes, like, clock, f):  # type: ignore[no-untyped-def]
    if isinstance(noise, types.NoneType):
        return lambda noise, lanes, like, clock, f: fill(lanes, like, 1.0)
    return lambda noise, lanes, like, clock, f: random_mask(
        lanes, like, noise.seed + clock * FACTOR_SALT + f, noise.keep_factors
    )


@overload(connections)
def _connections(noise, lanes, like, clock, f, p):  # type: ignore[no-untyped-def]
    if isinstance(noise, types.NoneType):
        return lambda noise, lanes, like, clock, f, p: fill(lanes, like, 1.0)
    return lambda noise, lanes, like, clock, f, p: random_mask(
        lanes, like, noise.seed + clock * ENTRY_SALT + p * FACTOR_SALT + f, noise.keep_entries
    )


@njit(fastmath=FASTMATH, forceinline=True)
def entry(indices, p):  # type: ignore[no-untyped-def]
    """Return the feature of an entry."""
    return np.int64(load((), indices, p))


@njit(fastmath=FASTMATH, forceinline=True)
def part_sums(lanes, factors, stride, f, linear, linear_stride, values, indices, start, stop, noise, clock):  # type: ignore[no-untyped-def]
    """Return the vectors Σ x_j v_j and Σ x_j² v_j², and the number Σ x_j w_j, over the entries start … stop.

    Even and odd entries are summed apart, because each addition waits for the one before.
    """
    even, odd = fill(lanes, factors, 0.0), fill(lanes, factors, 0.0)
    even_squares, odd_squares = fill(lanes, factors, 0.0), fill(lanes, factors, 0.0)
    even_weights, odd_weights = fill((), linear, 0.0), fill((), linear, 0.0)
    for p in range(start, stop - 1, 2):
        j, x = entry(indices, p), at(values, p, factors)
        v = load(lanes, factors, j * stride + f) * connections(noise, lanes, factors, clock, f, p) * x
        even, even_squares = even + v, even_squares + v * v
        even_weights += load((), linear, j * linear_stride) * x
        j, x = entry(indices, p + 1), at(values, p + 1, factors)
        v = load(lanes, factors, j * stride + f) * connections(noise, lanes, factors, clock, f, p + 1) * x
        odd, odd_squares = odd + v, odd_squares + v * v
        odd_weights += load((), linear, j * linear_stride) * x
    if (stop - start) & 1:
        j, x = entry(indices, stop - 1), at(values, stop - 1, factors)
        v = load(lanes, factors, j * stride + f) * connections(noise, lanes, factors, clock, f, stop - 1) * x
        even, even_squares = even + v, even_squares + v * v
        even_weights += load((), linear, j * linear_stride) * x
    return even + odd, even_squares + odd_squares, even_weights + odd_weights


@njit(fastmath=FASTMATH, forceinline=True)
def row_forward(  # type: ignore[no-untyped-def]
    lanes, n_factors, f, factors, stride, linear, linear_stride, values, indices, bounds, first, mixing, n_parts, sums,
    noise, clock,
):  # fmt: skip
    """Return the vector P = ½ Σ_a (S_a T_a − mixing[a, a] Σ x² v²) of the factors from f on, and the row's Σ w x.

    The S_a go into the first half of `sums`, the T_a into the second.
    """
    product, weights = fill(lanes, factors, 0.0), fill((), linear, 0.0)
    for a in range(n_parts):
        start, stop = load((), bounds, first + a), load((), bounds, first + a + 1)
        part, squares, some = part_sums(
            lanes, factors, stride, f, linear, linear_stride, values, indices, start, stop, noise, clock
        )
        store(sums, a * n_factors + f, part)
        weights += some
        product = product - squares * at(mixing, a * n_parts + a, factors)
    for a in range(n_parts):
        partners = fill(lanes, factors, 0.0)
        for b in range(n_parts):
            partners = partners + load(lanes, sums, b * n_factors + f) * at(mixing, a * n_parts + b, factors)
        store(sums, (n_parts + a) * n_factors + f, partners)
        product = product + partners * load(lanes, sums, a * n_factors + f)
    return product * dropped(noise, lanes, factors, clock, f) * fill((), factors, 0.5), weights


@njit(fastmath=FASTMATH, forceinline=True)
def prefetch_slots(solver, lanes, array, offset, n_factors):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of the vectors that a step at `offset` will touch.

    The second half of a long vector is the next line.
    """
    long = LANE_BLOCK * len(lanes) > line_numbers(array)
    prefetch(array, offset)
    if long:
        prefetch(array, offset + line_numbers(array))
    if n_slots(solver) > 1 and 2 * n_factors > line_numbers(array):
        prefetch(array, offset + n_factors)
        if long:
            prefetch(array, offset + n_factors + line_numbers(array))
    if n_slots(solver) > 2:
        prefetch(array, offset + 2 * n_factors)
        if long:
            prefetch(array, offset + 2 * n_factors + line_numbers(array))


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def fit_epoch(  # type: ignore[no-untyped-def]
    lanes, n_factors, solvers, loss, factors, linear, bias, values, indices, bounds, targets, weights,
    blocks, block_size, mixing, penalties, sums, noise, clock,
):  # fmt: skip
    """Visit the rows block by block, in the order of `blocks`, and take one step per row; return the clock.

    The clock counts steps, over all epochs.
    `solvers` and `penalties` are pairs: for the factors, for the linear weights. `indices` has ENTRIES_AHEAD entries
    more than the rows, to be asked for before they are needed.
    """
    n_parts, n_rows, width = count_parts(mixing), targets.shape[0], LANE_BLOCK * len(lanes)
    n_factors = count_factors(n_factors, lanes)
    stride, linear_stride = n_slots(solvers[0]) * n_factors, n_slots(solvers[1])
    factors, linear, bias, sums = pointer(factors), pointer(linear), pointer(bias), pointer(sums)
    values, indices, bounds, mixing = pointer(values), pointer(indices), pointer(bounds), pointer(mixing)
    targets, weights = pointer(targets), pointer(weights)
    factor_penalty, linear_penalty = address(penalties[0]), address(penalties[1])
    for block in blocks:
        for row in range(block * block_size, min((block + 1) * block_size, n_rows)):
            weight = load((), weights, row)
            if weight == 0:
                continue
            clock += 1
            first = row * n_parts
            score = load((), bias, 0)
            for f in range(0, n_factors, width):
                product, single = row_forward(
                    lanes, n_factors, f, factors, stride, linear, linear_stride, values, indices, bounds, first,
                    mixing, n_parts, sums, noise, clock,
                )  # fmt: skip
                score += total(product)
                if f == 0:
                    score += single
            slope = weight * loss_slope(loss, load((), targets, row), score)
            factor_rate, linear_rate = rate_at(solvers[0], clock), rate_at(solvers[1], clock)
            step(solvers[1], linear_rate, (), bias, 0, 1, slope)
            for f in range(0, n_factors, width):
                for a in range(n_parts):
                    mask = dropped(noise, lanes, factors, clock, f) * slope
                    pull = load(lanes, sums, (n_parts + a) * n_factors + f) * mask
                    own = mask * at(mixing, a * n_parts + a, factors)
                    for p in range(load((), bounds, first + a), load((), bounds, first + a + 1)):
                        j, ahead, x = entry(indices, p), entry(indices, p + ENTRIES_AHEAD), at(values, p, factors)
                        prefetch_slots(solvers[0], lanes, factors, ahead * stride + f, n_factors)
                        v, edge = load(lanes, factors, j * stride + f), connections(noise, lanes, factors, clock, f, p)
                        gradient = (pull - own * edge * v * x) * edge * x + v * (
                            weight * at(factor_penalty, j, factors)
                        )
                        step(solvers[0], factor_rate, lanes, factors, j * stride + f, n_factors, gradient)
                        if f == 0:
                            prefetch(linear, ahead * linear_stride)
                            w = load((), linear, j * linear_stride)
                            single = slope * x + weight * at(linear_penalty, j, linear) * w
                            step(solvers[1], linear_rate, (), linear, j * linear_stride, 1, single)
    return clock
