"""Windows over event histories: events grouped by key, prefix sums within a key, two ends of a window for every row.

Conventions: the events of key k are ``indptr[k] : indptr[k + 1]``, ascending in time; a row with the key -1 has no
events. Times are int64 or float64, both sides alike. The window of a row is ``low[row] : high[row]`` in the grouped
events. Sums restart at every key, so no event of another key touches a single bit of a row. All kernels release the
interpreter lock and write into the arrays given to them.
"""

import math

import numpy as np
from numba import njit

__all__ = [
    "combine_codes",
    "decayed_prefix",
    "filter_grouped",
    "group_by_code",
    "look_up_keys",
    "number_keys",
    "prefix_sum",
    "window_decayed",
    "window_gap",
    "window_positions",
    "window_recency",
    "window_sum",
]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: multiplies, and keeps the high bits


@njit(cache=True, nogil=True)
def combine_codes(codes, other, n_other, out):
    """``out = codes * n_other + other``, -1 where one of the two is missing (-1). In place is allowed."""
    for i in range(codes.size):
        out[i] = codes[i] * n_other + other[i] if codes[i] >= 0 and other[i] >= 0 else -1


@njit(cache=True, nogil=True, inline="always")
def _slot(key, slots):
    """The slot of a hash table (a power of two, -1 = empty) that holds the key, or the empty one where it belongs."""
    mask = slots.size - 1
    position = np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(32)) & mask
    while slots[position] != -1 and slots[position] != key:
        position = (position + 1) & mask
    return position


@njit(cache=True, nogil=True)
def number_keys(keys, slots, ids, out):
    """Number the distinct keys (int64, -1 = none) from 0 in order of appearance; returns how many there are.

    ``slots`` and ``ids`` (int64, length a power of two, more than the keys; slots filled with -1) become the table.
    """
    n = 0
    for i in range(keys.size):
        if keys[i] < 0:
            out[i] = -1
            continue
        position = _slot(keys[i], slots)
        if slots[position] == -1:
            slots[position] = keys[i]
            ids[position] = n
            n += 1
        out[i] = ids[position]
    return n


@njit(cache=True, nogil=True)
def look_up_keys(keys, slots, ids, out):
    """The numbers of keys in a table of `number_keys`, -1 where a key is not in it."""
    for i in range(keys.size):
        out[i] = -1
        if keys[i] >= 0:
            position = _slot(keys[i], slots)
            if slots[position] != -1:
                out[i] = ids[position]


@njit(cache=True, nogil=True)
def group_by_code(codes, visit, indptr, order):
    """A stable counting sort: ``order[indptr[k]:indptr[k + 1]]`` are the positions with the code k.

    They are visited in the order ``visit``, or from first to last if that is empty; codes of -1 are left out, so that
    only ``order[:indptr[-1]]`` is written. ``indptr`` (number of codes + 1) must be zero.
    """
    for i in range(codes.size):
        if codes[i] >= 0:
            indptr[codes[i] + 1] += 1
    for k in range(1, indptr.size):
        indptr[k] += indptr[k - 1]
    fill = indptr.copy()
    for i in range(codes.size):
        position = visit[i] if visit.size else i
        code = codes[position]
        if code >= 0:
            order[fill[code]] = position
            fill[code] += 1


@njit(cache=True, nogil=True)
def filter_grouped(order, indptr, keep, out_order, out_indptr):
    """The grouped events that ``keep`` (bool per event) holds for, grouped; returns their number."""
    n = 0
    for k in range(indptr.size - 1):
        out_indptr[k] = n
        for e in range(indptr[k], indptr[k + 1]):
            if keep[order[e]]:
                out_order[n] = order[e]
                n += 1
    out_indptr[indptr.size - 1] = n
    return n


@njit(cache=True, nogil=True)
def window_positions(times, indptr, row_keys, row_order, row_times, offset, out):
    """For each row the first event of its key that is not earlier than ``row time - offset``.

    ``row_order`` holds the rows with a key, by key and time, so that the search of a row starts where the one before
    ended and gallops: O(rows · log(events between two rows)).
    """
    key = -1
    position = 0
    for i in range(row_order.size):
        row = row_order[i]
        if row_keys[row] != key:
            key = row_keys[row]
            position = indptr[key]
        stop = indptr[key + 1]
        cut = row_times[row] - offset
        low = position
        high = position
        step = 1
        while high < stop and times[high] < cut:
            low = high + 1
            high += step
            step *= 2
        high = min(high, stop)
        while low < high:
            middle = (low + high) >> 1
            if times[middle] < cut:
                low = middle + 1
            else:
                high = middle
        position = low
        out[row] = low


@njit(cache=True, nogil=True)
def prefix_sum(values, indptr, out):
    """Sums up to and including each event, within its key."""
    for k in range(indptr.size - 1):
        total = 0.0
        for e in range(indptr[k], indptr[k + 1]):
            total += values[e]
            out[e] = total


@njit(cache=True, nogil=True)
def window_sum(prefix, indptr, row_keys, low, high, out):
    """Sum over the window, exactly 0 where it is empty."""
    for row in range(row_keys.size):
        total = 0.0
        if high[row] > low[row]:
            total = prefix[high[row] - 1]
            if low[row] > indptr[row_keys[row]]:
                total -= prefix[low[row] - 1]
        out[row] = total


@njit(cache=True, nogil=True)
def decayed_prefix(times, values, indptr, half_life, out):
    """``out[e] = Σ values[d] · 2^(-(times[e] - times[d]) / half_life)`` over the events d ≤ e of the key.

    By recursion, relative to the time of the event itself: nothing overflows, however long the log.
    """
    rate = math.log(2.0) / half_life
    for k in range(indptr.size - 1):
        total = 0.0
        for e in range(indptr[k], indptr[k + 1]):
            if e > indptr[k]:
                total *= math.exp(-rate * (times[e] - times[e - 1]))
            total += values[e]
            out[e] = total


@njit(cache=True, nogil=True)
def window_decayed(prefix, times, indptr, row_keys, row_times, low, high, half_life, out):
    """``Σ values · 2^(-(row time - event time) / half_life)`` over the window, exactly 0 where it is empty."""
    rate = math.log(2.0) / half_life
    for row in range(row_keys.size):
        total = 0.0
        if high[row] > low[row]:
            last = high[row] - 1
            total = prefix[last] * math.exp(-rate * (row_times[row] - times[last]))
            if low[row] > indptr[row_keys[row]]:
                before = low[row] - 1
                total -= prefix[before] * math.exp(-rate * (row_times[row] - times[before]))
        out[row] = total


@njit(cache=True, nogil=True)
def window_recency(times, row_times, low, high, unit, out):
    """Time from the last event of the window to the row, in units; NaN where the window is empty."""
    for row in range(row_times.size):
        out[row] = (row_times[row] - times[high[row] - 1]) / unit if high[row] > low[row] else math.nan


@njit(cache=True, nogil=True)
def window_gap(times, low, high, unit, out):
    """Mean time between successive events of the window, in units; NaN with fewer than two events."""
    for row in range(low.size):
        n = high[row] - low[row]
        out[row] = (times[high[row] - 1] - times[low[row]]) / (unit * (n - 1)) if n > 1 else math.nan
