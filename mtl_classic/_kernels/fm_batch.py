"""Steps that see more than one row: mini-batches, and pairs of rows of a query (BPR). Conventions as in `fm`."""

from __future__ import annotations

from numba import njit

from mtl_classic._kernels.fm import (
    FASTMATH,
    address,
    at,
    connections,
    count_factors,
    count_parts,
    dropped,
    entry,
    row_forward,
)
from mtl_classic._kernels.fm_losses import loss_slope
from mtl_classic._kernels.fm_steps import n_slots, rate_at, step
from mtl_classic._kernels.simd import LANE_BLOCK, fill, load, pointer, store, total


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def fit_batches(  # type: ignore[no-untyped-def]
    lanes, n_factors, solvers, loss, factors, linear, bias, values, indices, bounds, targets, weights,
    units, batch_size, mixing, penalties, sums, noise, clock, factor_gradients, linear_gradients, stamps, touched,
):  # fmt: skip
    """Visit `units` (n_units, 1 or 2) of row numbers in batches and take one step per batch; return the clock.

    Gradients are those at the batch's first parameters, summed over its units.
    A unit of two rows is a pair: its loss is that of the difference of their scores, weighted by the first, against
    target 1. `factor_gradients` (n_columns · n_factors), `linear_gradients` (n_columns) and `stamps` (n_columns) are
    zero before and after; `touched` has room for the columns of a batch.
    """
    n_parts, width, n_members = count_parts(mixing), LANE_BLOCK * len(lanes), units.shape[1]
    n_factors = count_factors(n_factors, lanes)
    stride, linear_stride, room = n_slots(solvers[0]) * n_factors, n_slots(solvers[1]), sums.shape[0] // 2
    factors, linear, bias = pointer(factors), pointer(linear), pointer(bias)
    values, indices, bounds, mixing = pointer(values), pointer(indices), pointer(bounds), pointer(mixing)
    factor_penalty, linear_penalty = address(penalties[0]), address(penalties[1])
    for begin in range(0, units.shape[0], batch_size):
        clock += 1
        n_touched, bias_gradient, any_weight = 0, fill((), bias, 0.0), False
        for unit in range(begin, min(begin + batch_size, units.shape[0])):
            weight = weights[units[unit, 0]]
            if weight == 0:
                continue
            any_weight, score_first, score = True, load((), bias, 0), load((), bias, 0)
            for member in range(n_members):
                first = units[unit, member] * n_parts
                own = pointer(sums[member * room :])
                score = load((), bias, 0)
                for f in range(0, n_factors, width):
                    product, single = row_forward(
                        lanes, n_factors, f, factors, stride, linear, linear_stride, values, indices, bounds, first,
                        mixing, n_parts, own, noise, clock * 2 + member,
                    )  # fmt: skip
                    score += total(product)
                    if f == 0:
                        score += single
                if member == 0:
                    score_first = score
            if n_members == 1:
                slope = weight * loss_slope(loss, targets[units[unit, 0]], score_first)
                bias_gradient += slope
            else:
                slope = weight * loss_slope(loss, fill((), factors, 1.0), score_first - score)
            for member in range(n_members):
                first = units[unit, member] * n_parts
                own = pointer(sums[member * room :])
                for p in range(load((), bounds, first), load((), bounds, first + n_parts)):
                    j, x = entry(indices, p), at(values, p, linear)
                    if stamps[j] == 0:
                        stamps[j] = 1
                        touched[n_touched] = j
                        n_touched += 1
                    shrink = weight * at(linear_penalty, j, linear)
                    linear_gradients[j] += slope * x + shrink * load((), linear, j * linear_stride)
                for f in range(0, n_factors, width):
                    mask = dropped(noise, lanes, factors, clock * 2 + member, f) * slope
                    for a in range(n_parts):
                        pull = load(lanes, own, (n_parts + a) * n_factors + f) * mask
                        self_pull = mask * at(mixing, a * n_parts + a, factors)
                        for p in range(load((), bounds, first + a), load((), bounds, first + a + 1)):
                            j, x = entry(indices, p), at(values, p, factors)
                            v = load(lanes, factors, j * stride + f)
                            edge = connections(noise, lanes, factors, clock * 2 + member, f, p)
                            gradient = (pull - self_pull * edge * v * x) * edge * x
                            gradient = gradient + v * (weight * at(factor_penalty, j, factors))
                            offset = j * n_factors + f
                            store(factor_gradients, offset, load(lanes, factor_gradients, offset) + gradient)
                slope = -slope
        if not any_weight:
            continue
        factor_rate, linear_rate = rate_at(solvers[0], clock), rate_at(solvers[1], clock)
        if n_members == 1:
            step(solvers[1], linear_rate, (), bias, 0, 1, bias_gradient)
        for t in range(n_touched):
            j = touched[t]
            stamps[j] = 0
            step(solvers[1], linear_rate, (), linear, j * linear_stride, 1, linear_gradients[j])
            linear_gradients[j] = 0
            for f in range(0, n_factors, width):
                gradient = load(lanes, factor_gradients, j * n_factors + f)
                step(solvers[0], factor_rate, lanes, factors, j * stride + f, n_factors, gradient)
                store(factor_gradients, j * n_factors + f, fill(lanes, factors, 0.0))
    return clock
