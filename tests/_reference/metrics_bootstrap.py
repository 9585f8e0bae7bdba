"""Slow twin of the bootstrap: the rows of every drawn cluster are written down as often as it was drawn."""

import numpy as np


def replicate(function, counts, clusters, *arrays, n_queries=0):
    """A metric of the rows that a draw of clusters consists of.

    With ``n_queries`` the last array holds query codes: a cluster drawn twice brings its queries twice, not queries of
    twice the length.
    """
    rows, copies = [], []
    for cluster, count in enumerate(counts):
        for copy in range(int(count)):
            mine = np.flatnonzero(clusters == cluster)
            rows.append(mine)
            copies.append(np.full(len(mine), copy))
    rows, copies = np.concatenate(rows), np.concatenate(copies)
    drawn = [array[rows] for array in arrays]
    if n_queries:
        drawn[-1] = drawn[-1] + copies * n_queries
    return function(*drawn)


def holm(p_values):
    """Step down through the p-values from the smallest."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for step, i in enumerate(order):
        running = max(running, (len(p_values) - step) * p_values[i])
        adjusted[i] = min(1.0, running)
    return adjusted
