"""Pairs of rows of one query, the first with the higher label: what BPR learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def sample_pairs(targets: Array, query: Array, rng: np.random.Generator) -> Array:
    """Pair each row that has lower-labelled rows in its query with one of them, at random: (n_pairs, 2) row numbers."""
    order = np.lexsort((targets, query))
    sorted_query, sorted_targets = query[order], targets[order]
    query_starts = np.flatnonzero(np.r_[True, sorted_query[1:] != sorted_query[:-1]])
    start = query_starts[np.cumsum(np.r_[False, sorted_query[1:] != sorted_query[:-1]])]
    changed = np.r_[True, (sorted_query[1:] != sorted_query[:-1]) | (sorted_targets[1:] != sorted_targets[:-1])]
    below = np.flatnonzero(changed)[np.cumsum(changed) - 1] - start
    first = np.flatnonzero(below > 0)
    second = start[first] + (rng.random(len(first)) * below[first]).astype(np.int64)
    return np.column_stack([order[first], order[second]])


def has_pairs(targets: Array, query: Array) -> bool:
    """Whether some query has rows of different labels."""
    order = np.lexsort((targets, query))
    query, targets = query[order], targets[order]
    return bool(((query[1:] == query[:-1]) & (targets[1:] != targets[:-1])).any())
