"""The history of one row over events that were grouped for all rows to come: two binary searches per window.

Conventions: the grouped events of all streams one after the other; ``starts[s]`` is where the events of stream s begin
in ``times``, ``pointers[s]`` where its pointers (one more than keys) begin in ``indptr``. A question asks something of
the events of one key in one stream, in the window [row time − far, row time − near). The interpreter lock is kept: to
give it away for microseconds, and wait for it, would cost more than the searches.
"""

import math

import numpy as np
from numba import njit

__all__ = ["COUNT", "DECAYED", "GAP", "MEAN", "RATE", "RECENCY", "SUM", "answer_row", "combine_answers"]

COUNT, SUM, MEAN, RATE, RECENCY, GAP, DECAYED = range(7)


@njit(cache=True)
def answer_row(
    time, keys, kind, key_set, stream, has_far, far, near, prefix_start, half_life, unit, times, starts, indptr,
    pointers, prefixes, out,
):  # fmt: skip
    """Answers to all questions, by the rules of `_kernels.history`.

    time : int64 or float64; keys : int64 (n_sets), -1 = not in the log; kind, key_set, stream : int64 (n_questions);
    has_far : bool; far : like time; near : like time, one for all; prefix_start : int64, where the sums of the question
    begin in ``prefixes``; half_life : float64; out : float64 (n_questions).
    """
    for q in range(kind.size):
        key = keys[key_set[q]]
        s = stream[q]
        first = 0
        low = 0
        high = 0
        if key >= 0:
            first = indptr[pointers[s] + key]
            stop = indptr[pointers[s] + key + 1]
            high = _position(times, starts[s], first, stop, time - near)
            low = _position(times, starts[s], first, high, time - far[q]) if has_far[q] else first
        out[q] = _answer(
            kind[q], time, low, high, first, starts[s], times, prefixes, prefix_start[q], half_life[q], unit
        )


@njit(cache=True, inline="always")
def _position(times, base, low, high, cut):
    """The first event from low to high that is not earlier than the cut."""
    while low < high:
        middle = (low + high) >> 1
        if times[base + middle] < cut:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _answer(kind, time, low, high, first, base, times, prefixes, prefix, half_life, unit):
    n = high - low
    if kind == COUNT:
        return np.float64(n)
    if kind in (SUM, DECAYED):
        if n <= 0:
            return 0.0
        if kind == SUM:
            total = prefixes[prefix + high - 1]
            if low > first:
                total -= prefixes[prefix + low - 1]
            return total
        rate = math.log(2.0) / half_life
        total = prefixes[prefix + high - 1] * math.exp(-rate * (time - times[base + high - 1]))
        if low > first:
            total -= prefixes[prefix + low - 1] * math.exp(-rate * (time - times[base + low - 1]))
        return total
    if kind == RECENCY:
        return (time - times[base + high - 1]) / unit if n > 0 else math.nan
    return (times[base + high - 1] - times[base + low]) / (unit * (n - 1)) if n > 1 else math.nan


@njit(cache=True)
def combine_answers(kind, first, second, prior_first, prior_second, smoothing, answers, out):
    """Columns of the aggregates (float32) from the answers: one, a mean of two, or a rate with its prior.

    kind, first, second, prior_first, prior_second : int64 (n_aggregates), questions, -1 = none; smoothing : float64.
    """
    for j in range(kind.size):
        above = answers[first[j]]
        if kind[j] == MEAN or (kind[j] == RATE and prior_first[j] < 0):
            below = answers[second[j]]
            out[j] = above / below if below > 0 else math.nan
        elif kind[j] == RATE:
            all_below = answers[prior_second[j]]
            prior = answers[prior_first[j]] / all_below if all_below > 0 else math.nan
            out[j] = (above + smoothing[j] * prior) / (answers[second[j]] + smoothing[j])
        else:
            out[j] = above
