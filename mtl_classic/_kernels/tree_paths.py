"""Sums of rows over all nodes of a tree, and what nodes without a row take from above."""

from numba import njit

__all__ = ["add_along_paths", "fill_from_parents"]


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


@njit(cache=True, nogil=True)
def fill_from_parents(parents, mass, values):
    """Set values of nodes without mass to those of the node above, from the root down; the root keeps its own.

    parents : int64 (n_nodes), each before its children; mass : float64 (n_nodes, k); values : float64 (n_nodes, k).
    """
    for node in range(1, parents.size):
        for k in range(values.shape[1]):
            if mass[node, k] <= 0:
                values[node, k] = values[parents[node], k]
