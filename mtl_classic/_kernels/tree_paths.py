"""Sums of rows over all nodes of a tree."""

from numba import njit

__all__ = ["add_along_paths"]


@njit(cache=True, nogil=True)
def add_along_paths(leaves, parents, values, out):
    """Add each row's values to its leaf and to every node above it, row after row.

    leaves : int64 (n); parents : int64 (n_nodes), that of the root, node 0, is not read; values : float64 (n, k);
    out : float64 (n_nodes, k), added to.
    """
    for i in range(leaves.size):
        node = leaves[i]
        while True:
            for k in range(values.shape[1]):
                out[node, k] += values[i, k]
            if node == 0:
                break
            node = parents[node]
