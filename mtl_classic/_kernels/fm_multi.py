"""Factorization machines with several outputs: the tasks of a joint model, or the classes of a softmax.

Conventions of `fm`, and:

- A column's factors are `n_shared` that all outputs use and, behind them, `n_private` for each output. With P_f the
  interaction product of factor f, output t's score is

      bias_t + Σ_j w_jt x_j + Σ_{shared f} r_tf P_f + Σ_{f private to t} P_f.

- `mixers` holds the r_t, each with its solver's slots: the learnt interaction weights of a task.
- Linear weights and biases of the outputs lie side by side, padded to a multiple of 8, so that they are vectors too.
- Behind the last output there may be one more, the *common* linear score U = b_0 + Σ_j u_j x_j: each output adds
  c_t U, and `shares` holds the c_t as `bias` holds the biases; 0 in the common one's place.
- Outputs belong to groups, `group_bounds`: one output with a loss of its own, or the classes of a softmax.
- `weights` (n_rows, n_outputs) is 0 where a label is missing: such a label moves nothing.
- What is shared follows the mean of the labelled groups' gradients, and is penalized by their mean weight: a row with
  many labels says no more about what they have in common than a row with one.
- The scale of the shared factors and of the r_t is common to both, so one output may be the *anchor* (-1: none), whose
  r and c stay what they are.
"""

from __future__ import annotations

from numba import njit, types
from numba.extending import overload

from mtl_classic._kernels.fm import (
    ENTRIES_AHEAD,
    FASTMATH,
    address,
    at,
    connections,
    count_factors,
    count_parts,
    dropped,
    entry,
    prefetch_slots,
    row_forward,
)
from mtl_classic._kernels.fm_losses import SOFTMAX, exponential, loss_slope
from mtl_classic._kernels.fm_steps import n_slots, rate_at, step, step_known
from mtl_classic._kernels.simd import LANE_BLOCK, fill, load, pointer, store, total

OUTPUT_LANES = (0,)


def count_private(n_private):  # type: ignore[no-untyped-def]
    """Return the number of private factors; None is none at all."""
    raise TypeError("count_private is compiled by numba only")


@overload(count_private)
def _count_private(n_private):  # type: ignore[no-untyped-def]
    return (lambda n_private: 0) if isinstance(n_private, types.NoneType) else (lambda n_private: n_private)


@njit(fastmath=FASTMATH, forceinline=True)
def count_sizes(sizes, lanes):  # type: ignore[no-untyped-def]
    """Return the numbers of shared and private factors, of outputs, of all factors, and the padded one of outputs.

    The last is of linear scores, the common one among them.
    """
    n_shared, n_private, n_outputs = count_factors(sizes[0], lanes), count_private(sizes[1]), sizes[2]
    n_padded = (sizes[3] + LANE_BLOCK - 1) // LANE_BLOCK * LANE_BLOCK
    return n_shared, n_private, n_outputs, n_shared + n_outputs * n_private, n_padded


@njit(fastmath=FASTMATH, forceinline=True)
def row_scores(  # type: ignore[no-untyped-def]
    lanes, sizes, factors, stride, linear, linear_stride, bias, mixers, mixer_stride, shares, values,
    indices, bounds, first, mixing, n_parts, sums, products, scores, noise, clock,
):  # fmt: skip
    """Write the scores of a row's outputs, and on the way the P_f to `products`; the common one stays behind them."""
    n_shared, n_private, n_outputs, n_factors, n_padded = count_sizes(sizes, lanes)
    width = LANE_BLOCK * len(lanes)
    start, stop = load((), bounds, first), load((), bounds, first + n_parts)
    for t in range(0, n_padded, LANE_BLOCK):
        score = load(OUTPUT_LANES, bias, t)
        for p in range(start, stop):
            weights = load(OUTPUT_LANES, linear, entry(indices, p) * linear_stride + t)
            score = score + weights * at(values, p, linear)
        store(scores, t, score)
    for f in range(0, n_factors, width):
        product, _ = row_forward(
            lanes, n_factors, f, factors, stride, linear, 0, values, indices, bounds, first, mixing, n_parts, sums,
            noise, clock,
        )  # fmt: skip
        store(products, f, product)
    for t in range(n_outputs):
        score = fill(lanes, factors, 0.0)
        for f in range(0, n_shared, width):
            score = score + load(lanes, products, f) * load(lanes, mixers, t * mixer_stride + f)
        for f in range(n_shared + t * n_private, n_shared + (t + 1) * n_private, width):
            score = score + load(lanes, products, f)
        store(scores, t, load((), scores, t) + total(score))
    if sizes[3] > n_outputs:
        common = load((), scores, n_outputs)
        for t in range(0, n_padded, LANE_BLOCK):
            store(scores, t, load(OUTPUT_LANES, scores, t) + load(OUTPUT_LANES, shares, t) * common)


@njit(fastmath=FASTMATH, forceinline=True)
def output_slopes(  # type: ignore[no-untyped-def]
    losses, largest, n_groups, group_bounds, targets, weights, importance, row, n_outputs, scores, slopes, effects,
    knowns, momentum,
):  # fmt: skip
    """Write each output's derivative and effective weight, and for momentum whether it is labelled, 1 or 0.

    Return the mean weight of the labelled outputs, 0 if there is none, and 1 / the number of labelled groups.
    """
    summed, labelled, known = fill((), scores, 0.0), 0, 0
    for g in range(n_groups):
        loss, start, stop = load((), losses, g), load((), group_bounds, g), load((), group_bounds, g + 1)
        top, partition = load((), scores, start), fill((), scores, 0.0)
        known += load((), weights, row * n_outputs + start) != 0
        if loss == SOFTMAX:
            for t in range(start, stop):
                top = max(top, load((), scores, t))
            for t in range(start, stop):
                partition += exponential(load((), scores, t) - top)
        for t in range(start, stop):
            weight = load((), weights, row * n_outputs + t) * load((), importance, t)
            slope = fill((), scores, 0.0)
            if weight != 0:
                target = load((), targets, row * n_outputs + t)
                if loss == SOFTMAX:
                    slope = weight * (exponential(load((), scores, t) - top) / partition - target)
                else:
                    slope = weight * loss_slope((loss, largest), target, load((), scores, t))
                summed += weight
                labelled += 1
            store(slopes, t, slope)
            store(effects, t, weight)
            if momentum:
                store(knowns, t, fill((), scores, weight != 0))
    return summed / fill((), scores, max(labelled, 1)), fill((), scores, 1.0) / fill((), scores, max(known, 1))


@njit(fastmath=FASTMATH, forceinline=True)
def mixed_slopes(lanes, sizes, mixers, mixer_stride, slopes, portion, mixed):  # type: ignore[no-untyped-def]
    """Write the derivative of the row's loss by each P_f.

    Σ_t slope_t r_tf times the portion for shared factors, slope_t for private ones.
    """
    n_shared, n_private, n_outputs, _, _ = count_sizes(sizes, lanes)
    width = LANE_BLOCK * len(lanes)
    for f in range(0, n_shared, width):
        slope = fill(lanes, mixed, 0.0)
        for t in range(n_outputs):
            slope = slope + load(lanes, mixers, t * mixer_stride + f) * load((), slopes, t)
        store(mixed, f, slope * portion)
    for t in range(n_outputs):
        for f in range(n_shared + t * n_private, n_shared + (t + 1) * n_private, width):
            store(mixed, f, fill(lanes, mixed, load((), slopes, t)))


@njit(fastmath=FASTMATH, forceinline=True)
def step_shares(  # type: ignore[no-untyped-def]
    n_outputs, n_padded, anchor, solver, rate, shares, scores, slopes, effects, knowns, weight, portion, penalty
):
    """Write the derivative by the common score behind the outputs' own, Σ_t c_t slope_t · portion; move the c_t."""
    common, summed = load((), scores, n_outputs), fill(OUTPUT_LANES, scores, 0.0)
    kept = load((), shares, max(anchor, 0))
    store(slopes, n_outputs, fill((), scores, 0.0))  # those of the row before
    store(effects, n_outputs, fill((), scores, 0.0))
    if n_slots(solver) > 2:
        store(knowns, n_outputs, fill((), scores, 0.0))
    for t in range(0, n_padded, LANE_BLOCK):
        share, slope, effect = (
            load(OUTPUT_LANES, shares, t), load(OUTPUT_LANES, slopes, t), load(OUTPUT_LANES, effects, t),
        )  # fmt: skip
        summed = summed + share * slope
        away = share - fill(OUTPUT_LANES, scores, 1.0)
        gradient = slope * common + away * effect * penalty
        step_known(solver, rate, OUTPUT_LANES, shares, t, n_padded, gradient, knowns, t)
    if anchor >= 0:
        store(shares, anchor, kept)
    if n_slots(solver) > 2:
        store(knowns, n_outputs, fill((), scores, 1.0))
    store(slopes, n_outputs, total(summed) * portion)
    store(effects, n_outputs, weight)


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def fit_outputs_epoch(  # type: ignore[no-untyped-def]
    lanes, sizes, solvers, losses, largest, group_bounds, anchor, factors, linear, bias, mixers, shares, values,
    indices, bounds, targets, weights, importance, blocks, block_size, mixing, penalties, sums, work, noise, clock,
):  # fmt: skip
    """Visit the rows block by block and take one step per row for all outputs; return the clock.

    `sizes` is (n_shared, n_private, n_outputs, n_linear), where None for n_shared is one vector, and for n_private
    nothing, and n_linear is n_outputs, or one more with the common linear score; `losses` (n_groups) are ids of
    `fm_losses`, and `largest` the bound for all of them; `solvers` and `penalties` as in
    `fm.fit_epoch`, the third penalty pulls mixers and shares towards 1; `importance`
    (n_outputs) multiplies the weights; `work` (6 rows, as long as the longer of the factors and the padded outputs)
    is scratch.
    """
    n_shared, n_private, n_outputs, n_factors, n_padded = count_sizes(sizes, lanes)
    momentum = n_slots(solvers[1]) > 2
    n_parts, width, n_rows = count_parts(mixing), LANE_BLOCK * len(lanes), targets.shape[0]
    stride, linear_stride = n_slots(solvers[0]) * n_factors, n_slots(solvers[1]) * n_padded
    mixer_stride = n_slots(solvers[0]) * n_shared
    products, mixed, scores, slopes, effects, knowns = (
        pointer(work[0]), pointer(work[1]), pointer(work[2]), pointer(work[3]), pointer(work[4]), pointer(work[5]),
    )  # fmt: skip
    factors, linear, bias = pointer(factors), pointer(linear), pointer(bias)
    mixers, shares = pointer(mixers), pointer(shares)
    values, indices, bounds, mixing = pointer(values), pointer(indices), pointer(bounds), pointer(mixing)
    targets, weights, importance, sums = pointer(targets), pointer(weights), pointer(importance), pointer(sums)
    factor_penalty, linear_penalty = address(penalties[0]), address(penalties[1])
    n_groups, losses, group_bounds = losses.shape[0], pointer(losses), pointer(group_bounds)
    for block in blocks:
        for row in range(block * block_size, min((block + 1) * block_size, n_rows)):
            first = row * n_parts
            start, stop = load((), bounds, first), load((), bounds, first + n_parts)
            row_scores(
                lanes, sizes, factors, stride, linear, linear_stride, bias, mixers, mixer_stride, shares,
                values, indices, bounds, first, mixing, n_parts, sums, products, scores, noise, clock + 1,
            )  # fmt: skip
            weight, portion = output_slopes(
                losses, largest, n_groups, group_bounds, targets, weights, importance, row, n_outputs, scores, slopes,
                effects, knowns, momentum,
            )  # fmt: skip
            if weight == 0:
                continue
            clock += 1
            mixed_slopes(lanes, sizes, mixers, mixer_stride, slopes, portion, mixed)
            factor_rate, linear_rate = rate_at(solvers[0], clock), rate_at(solvers[1], clock)
            if sizes[3] > n_outputs:
                step_shares(
                    n_outputs, n_padded, anchor, solvers[1], linear_rate, shares, scores, slopes, effects, knowns,
                    weight, portion, penalties[2],
                )  # fmt: skip
            for t in range(0, n_padded, LANE_BLOCK):
                slope, effect = load(OUTPUT_LANES, slopes, t), load(OUTPUT_LANES, effects, t)
                step_known(solvers[1], linear_rate, OUTPUT_LANES, bias, t, n_padded, slope, knowns, t)
                for p in range(start, stop):
                    j = entry(indices, p)
                    offset = j * linear_stride + t
                    shrink = effect * at(linear_penalty, j, linear)
                    gradient = slope * at(values, p, linear) + load(OUTPUT_LANES, linear, offset) * shrink
                    step_known(solvers[1], linear_rate, OUTPUT_LANES, linear, offset, n_padded, gradient, knowns, t)
            for f in range(0, n_factors, width):
                slope = load(lanes, mixed, f) * dropped(noise, lanes, factors, clock, f)
                if f >= n_shared:
                    weight = load((), effects, (f - n_shared) // n_private)
                    if weight == 0:
                        continue
                for a in range(n_parts):
                    pull = load(lanes, sums, (n_parts + a) * n_factors + f) * slope
                    own = slope * at(mixing, a * n_parts + a, factors)
                    for p in range(load((), bounds, first + a), load((), bounds, first + a + 1)):
                        j, ahead, x = entry(indices, p), entry(indices, p + ENTRIES_AHEAD), at(values, p, factors)
                        prefetch_slots(solvers[0], lanes, factors, ahead * stride + f, n_factors)
                        if f == 0:
                            for t in range(0, n_padded, LANE_BLOCK):
                                prefetch_slots(solvers[1], OUTPUT_LANES, linear, ahead * linear_stride + t, n_padded)
                        v, edge = load(lanes, factors, j * stride + f), connections(noise, lanes, factors, clock, f, p)
                        gradient = (pull - own * edge * v * x) * edge * x + v * (
                            weight * at(factor_penalty, j, factors)
                        )
                        step(solvers[0], factor_rate, lanes, factors, j * stride + f, n_factors, gradient)
            for t in range(n_outputs):
                slope, effect = load((), slopes, t), load((), effects, t)
                if effect != 0 and t != anchor:
                    for f in range(0, n_shared, width):
                        offset = t * mixer_stride + f
                        away = load(lanes, mixers, offset) - fill(lanes, mixers, 1.0)
                        gradient = load(lanes, products, f) * slope + away * (effect * penalties[2])
                        step(solvers[0], factor_rate, lanes, mixers, offset, n_shared, gradient)
    return clock


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def predict_outputs(  # type: ignore[no-untyped-def]
    lanes, sizes, slots, factors, linear, bias, mixers, shares, values, indices, bounds, mixing, sums, work, out
):
    """Write the scores of every row's outputs to `out` (n_rows, n_outputs).

    `slots` is how many slots the parameters have.
    """
    n_shared, _, n_outputs, n_factors, n_padded = count_sizes(sizes, lanes)
    n_parts, n_rows = count_parts(mixing), out.shape[0]
    products, scores, sums = pointer(work[0]), pointer(work[2]), pointer(sums)
    factors, linear, bias = pointer(factors), pointer(linear), pointer(bias)
    mixers, shares = pointer(mixers), pointer(shares)
    values, indices, bounds, mixing = pointer(values), pointer(indices), pointer(bounds), pointer(mixing)
    for row in range(n_rows):
        row_scores(
            lanes, sizes, factors, slots * n_factors, linear, slots * n_padded, bias, mixers, slots * n_shared, shares,
            values, indices, bounds, row * n_parts, mixing, n_parts, sums, products, scores, None, 0,
        )  # fmt: skip
        for t in range(n_outputs):
            out[row, t] = load((), scores, t)
