"""Exact Gibbs and alternating least squares sweeps of a factorization machine, block by block.

Conventions, for all kernels of this family:

- A *block* is a set of columns. The rows of X restricted to it take few distinct *patterns*: one per category of a
  one-hot field, one per user for all columns that are properties of users. Patterns of all blocks are numbered
  through; `codes[k, i]` is the pattern of row i in block k. `indptr`, `patterns`, `values` are the patterns' matrix by
  column (CSC).
- `q[a, i]` = Σ over the columns j of part a of x_ij v_j, for the factor at hand; `mixing` (n_parts, n_parts), zeros
  and ones, says which parts interact (None: all with all). HELD of a pattern is its own Σ x_j v_j. With
  r_i = Σ_b mixing[a, b] q[b, i] − mixing[a, a] HELD, what row i has beside the block, the derivative of the score by
  v_j is h_i = x_j (g + r_i), g = mixing[a, a] (HELD − x_j v_j).
- So all that a column must know of the rows are, for each pattern, the sums of s, s r, s r², s e, s e r over its rows
  (e the residuals, s the weights). One pass over the rows gathers them, the columns are then solved on the patterns,
  one by one and exactly, and the next pass carries e ← e − SHIFT − SLOPE r home.
- A column is drawn from N(m, 1 / p): p = λ + α Σ s h², m = (α Σ s h (e + θ h) + λ μ) / p, residuals following at once.
  `noise` holds the standard normal numbers; zeros give m, which is alternating least squares.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mtl_classic._kernels.history import _slot

FASTMATH = {"contract", "arcp", "nsz", "reassoc", "afn"}
# What is kept of each pattern, in three arrays, so that what a pass over the rows touches fits into the nearest cache.
WEIGHT, REST, ERROR, SHIFT = range(4)  # of `table`; a block of simple patterns needs the first only
REST_SQUARED, ERROR_REST = range(2)  # of `sums`
HELD, SLOPE = range(2)  # of `held`


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def sweep(  # type: ignore[no-untyped-def]
    codes,
    block_starts,
    block_parts,
    block_simple,
    mixing,
    indptr,
    patterns,
    values,
    weights,
    residual,
    q,
    table,
    sums,
    held,
    linear,
    factors,
    prior,
    noise,
    alpha,
):
    """Draw all linear weights, then all factors, once; `residual` follows.

    `codes` (n_blocks, n) uint32; block k has the columns block_starts[k] … block_starts[k + 1]; `block_simple` says
    that these have x = 1, one per pattern. `table` (n_patterns, 4) holds WEIGHT. `factors` (n_factors, n_columns);
    `prior` (2, 1 + n_factors, n_columns) holds means and precisions, `noise` (1 + n_factors, n_columns), the linear
    weights first. `q` (n_parts, n), `sums` (n_patterns, 2), `held` (2, n_patterns, 2: those of the factor at hand and
    of the one before) and the rest of `table` are room.
    """
    n_blocks = block_simple.shape[0]
    last = n_blocks - 1
    table[:, ERROR] = 0.0
    table[:, SHIFT] = 0.0
    for k in range(n_blocks):
        carry_linear(codes[k], codes[max(k - 1, 0)], k > 0, weights, residual, table)
        solve_linear(
            block_starts[k],
            block_starts[k + 1],
            indptr,
            patterns,
            values,
            table,
            linear,
            prior[0, 0],
            prior[1, 0],
            alpha,
            noise[0],
        )
    finish_linear(codes[last], residual, table)
    for f in range(factors.shape[0]):
        theta, now, before = factors[f], held[f % 2], held[1 - f % 2]
        hold(indptr, patterns, values, theta, table, sums, now)
        start_factor(codes, block_parts, block_simple, mixing, weights, residual, q, table, sums, now, before, f > 0)
        table[:, SHIFT] = 0.0
        for k in range(n_blocks):
            part = block_parts[k]
            if k > 0:
                carry_factor(
                    codes[k],
                    block_simple[k],
                    part,
                    codes[k - 1],
                    block_simple[k - 1],
                    block_parts[k - 1],
                    mixing,
                    weights,
                    residual,
                    q,
                    table,
                    sums,
                    now,
                )
            solve_factor(
                block_starts[k],
                block_starts[k + 1],
                indptr,
                patterns,
                values,
                table,
                sums,
                now,
                1.0 if mixing is None else mixing[part, part],
                theta,
                prior[0, 1 + f],
                prior[1, 1 + f],
                alpha,
                noise[1 + f],
            )
    if factors.shape[0] > 0:
        now = held[(factors.shape[0] - 1) % 2]
        for i in range(residual.shape[0]):
            residual[i] -= change(codes[last, i], i, block_simple[last], block_parts[last], mixing, q, table, now)


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def carry_linear(codes, last_codes, carry, weights, residual, table):  # type: ignore[no-untyped-def]
    """Carry the SHIFT of the last block home, and gather the ERROR of the next."""
    for i in range(residual.shape[0]):
        e = residual[i]
        if carry:
            e -= table[last_codes[i], SHIFT]
            residual[i] = e
        table[codes[i], ERROR] += e if weights is None else weights[i] * e


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def finish_linear(codes, residual, table):  # type: ignore[no-untyped-def]
    """Carry the SHIFT of the last block home."""
    for i in range(residual.shape[0]):
        residual[i] -= table[codes[i], SHIFT]


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def solve_linear(start, stop, indptr, patterns, values, table, theta, mean, precision, alpha, noise):  # type: ignore[no-untyped-def]
    """Draw the linear weights of the columns start … stop."""
    for j in range(start, stop):
        squares, products = 0.0, 0.0
        for t in range(indptr[j], indptr[j + 1]):
            p, x = patterns[t], values[t]
            squares += x * x * table[p, WEIGHT]
            products += x * table[p, ERROR]
        old = theta[j]
        sharpness = precision[j] + alpha * squares
        new = (alpha * (products + old * squares) + precision[j] * mean[j]) / sharpness + noise[j] / np.sqrt(sharpness)
        theta[j] = new
        for t in range(indptr[j], indptr[j + 1]):
            p, d = patterns[t], (new - old) * values[t]
            table[p, ERROR] -= d * table[p, WEIGHT]
            table[p, SHIFT] += d


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def hold(indptr, patterns, values, theta, table, sums, held):  # type: ignore[no-untyped-def]
    """Write HELD of the next factor, and clear all sums; SHIFT is still needed."""
    table[:, REST] = 0.0
    table[:, ERROR] = 0.0
    sums[:] = 0.0
    held[:] = 0.0
    for j in range(theta.shape[0]):
        for t in range(indptr[j], indptr[j + 1]):
            held[patterns[t], HELD] += values[t] * theta[j]


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy", inline="always")
def beside(q, i, part, mixing, held):  # type: ignore[no-untyped-def]
    """Return r_i: what row i holds in the partners of a part, beside one block of it."""
    if mixing is None:
        return q[0, i] - held
    r = -mixing[part, part] * held
    for b in range(mixing.shape[0]):
        r += mixing[part, b] * q[b, i]
    return r


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy", inline="always")
def change(p, i, simple, part, mixing, q, table, held):  # type: ignore[no-untyped-def]
    """Return SHIFT + SLOPE r_i: what a solved block adds to the score of row i, whose pattern is p."""
    slope = held[p, SLOPE]
    moved = slope * beside(q, i, part, mixing, held[p, HELD] - slope)
    return moved if simple else moved + table[p, SHIFT]


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy", inline="always")
def gather(p, i, simple, part, mixing, weights, e, q, table, sums, held):  # type: ignore[no-untyped-def]
    """Add row i, whose pattern is p and whose residual e, to the sums of a block."""
    r = beside(q, i, part, mixing, held[p, HELD])
    sr = r if weights is None else weights[i] * r
    sums[p, REST_SQUARED] += sr * r
    sums[p, ERROR_REST] += sr * e
    if not simple:
        table[p, REST] += sr
        table[p, ERROR] += e if weights is None else weights[i] * e


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def start_factor(codes, parts, simple, mixing, weights, residual, q, table, sums, held, held_before, carry):  # type: ignore[no-untyped-def]
    """Carry the last block of the factor before home, write q of the next factor, and gather its first block."""
    last = codes.shape[0] - 1
    for i in range(residual.shape[0]):
        e = residual[i]
        if carry:
            e -= change(codes[last, i], i, simple[last], parts[last], mixing, q, table, held_before)
            residual[i] = e
        if mixing is None:
            total = 0.0
            for k in range(codes.shape[0]):
                total += held[codes[k, i], HELD]
            q[0, i] = total
        else:
            q[:, i] = 0.0
            for k in range(codes.shape[0]):
                q[parts[k], i] += held[codes[k, i], HELD]
        gather(codes[0, i], i, simple[0], parts[0], mixing, weights, e, q, table, sums, held)


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def carry_factor(  # type: ignore[no-untyped-def]
    codes, simple, part, last_codes, last_simple, last_part, mixing, weights, residual, q, table, sums, held
):
    """Carry the last block home, to residuals and q, and gather the next."""
    for i in range(residual.shape[0]):
        p = last_codes[i]
        e = residual[i] - change(p, i, last_simple, last_part, mixing, q, table, held)
        residual[i] = e
        q[last_part, i] += held[p, SLOPE]
        gather(codes[i], i, simple, part, mixing, weights, e, q, table, sums, held)


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def solve_factor(  # type: ignore[no-untyped-def]
    start, stop, indptr, patterns, values, table, sums, held, own, theta, mean, precision, alpha, noise
):
    """Draw one factor of the columns start … stop; `own` is mixing[a, a] of their part."""
    for j in range(start, stop):
        old = theta[j]
        squares, products = 0.0, 0.0
        for t in range(indptr[j], indptr[j + 1]):
            p, x = patterns[t], values[t]
            g = own * (held[p, HELD] - x * old)
            squares += x * x * (g * (g * table[p, WEIGHT] + 2 * table[p, REST]) + sums[p, REST_SQUARED])
            products += x * (g * table[p, ERROR] + sums[p, ERROR_REST])
        sharpness = precision[j] + alpha * squares
        new = (alpha * (products + old * squares) + precision[j] * mean[j]) / sharpness + noise[j] / np.sqrt(sharpness)
        theta[j] = new
        for t in range(indptr[j], indptr[j + 1]):
            p, x = patterns[t], values[t]
            d, g = (new - old) * x, own * (held[p, HELD] - x * old)
            table[p, ERROR] -= d * (g * table[p, WEIGHT] + table[p, REST])
            sums[p, ERROR_REST] -= d * (g * table[p, REST] + sums[p, REST_SQUARED])
            held[p, HELD] += d
            held[p, SLOPE] += d
            table[p, SHIFT] += d * g


@njit(cache=True, fastmath=FASTMATH, nogil=True, error_model="numpy")
def score_draws(  # type: ignore[no-untyped-def]
    indptr, indices, values, part_of, mixing, factors, norms, linear, bias, first, sums, scores
):
    """Write the scores of the rows from `first` on under every draw of the parameters.

    The draws of a column lie beside each other: `factors` (n_columns, n_draws · n_factors), `norms`
    (n_columns, n_draws) = Σ_f v², `linear` (n_columns, n_draws), `bias` (n_draws). `part_of` (n_columns), `mixing`
    (n_parts, n_parts). `scores` (rows, n_draws); `sums` (n_parts, n_draws · n_factors) is room.
    """
    n_draws = bias.shape[0]
    n_factors = factors.shape[1] // n_draws
    for i in range(scores.shape[0]):
        score = scores[i]
        score[:] = bias
        sums[:] = 0.0
        for t in range(indptr[first + i], indptr[first + i + 1]):
            j, x = indices[t], factors.dtype.type(values[t])
            a = part_of[j]
            half = x * x * factors.dtype.type(0.5) * mixing[a, a]
            into, row, weight, norm = sums[a], factors[j], linear[j], norms[j]
            for c in range(row.shape[0]):
                into[c] += x * row[c]
            for d in range(n_draws):
                score[d] += x * weight[d] - half * norm[d]
        for a in range(sums.shape[0]):
            for b in range(a, sums.shape[0]):
                share = mixing[a, b] * factors.dtype.type(0.5 if a == b else 1.0)
                if share != 0:
                    for d in range(n_draws):
                        product = factors.dtype.type(0)
                        for f in range(d * n_factors, (d + 1) * n_factors):
                            product += sums[a, f] * sums[b, f]
                        score[d] += share * product


@njit(cache=True, nogil=True)
def count_pairs(first, second, n_second, most, slots):
    """How many distinct pairs two arrays of codes have, `second` below `n_second`; most + 1 as soon as there are more.

    `slots` (int64) is room for a hash table: a power of two, more than most + 1.
    """
    size = 2
    while size < 2 * (most + 1) and size < slots.size:
        size *= 2
    table = slots[:size]
    table[:] = -1
    n = 0
    for i in range(first.size):
        key = first[i] * n_second + second[i]
        position = _slot(key, table)
        if table[position] == -1:
            n += 1
            if n > most:
                return n
            table[position] = key
    return n
