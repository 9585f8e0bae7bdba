"""CSR rows copied in another order, their entries sorted by part.

What the kernels of factorization machines stream through.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def count_entries(indices, indptr, rows, parts, n_parts, bounds):  # type: ignore[no-untyped-def]
    """Fill `bounds` (len(rows) · n_parts + 1).

    Where each part of each row will start; `parts` is the part of a column, or None for one part.
    """
    bounds[0] = 0
    for r in range(rows.shape[0]):
        for a in range(n_parts):
            bounds[r * n_parts + a + 1] = 0
        for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
            a = 0 if parts is None else parts[indices[p]]
            bounds[r * n_parts + a + 1] += 1
        for a in range(n_parts):
            bounds[r * n_parts + a + 1] += bounds[r * n_parts + a]


@njit(cache=True, nogil=True)
def copy_entries(values, indices, indptr, rows, parts, n_parts, bounds, new_values, new_indices):  # type: ignore[no-untyped-def]
    """Copy the entries of `rows` to where `bounds` says.

    Within a part their order stays. `values` and `new_values` are None where all are 1.
    """
    for r in range(rows.shape[0]):
        for a in range(n_parts):
            place = bounds[r * n_parts + a]
            for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
                if parts is None or parts[indices[p]] == a:
                    new_indices[place] = indices[p]
                    if values is not None:
                        new_values[place] = values[p]
                    place += 1
