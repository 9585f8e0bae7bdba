"""Blocks of columns whose rows repeat each other: what makes exact field-wise solvers fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._kernels.fieldwise import count_pairs

__all__ = ["Patterns", "find_patterns", "guess_fields"]

Ints = npt.NDArray[np.int64]
# Fields are put into one block while the patterns' own work stays below this part of a pass over the rows.
ROOM = 0.25


@dataclass(frozen=True)
class Patterns:
    """A sparse matrix as blocks of columns, each with the distinct patterns of its rows; see `_kernels.fieldwise`.

    Attributes
    ----------
    codes : ndarray of uint32, shape (n_blocks, n)
        Pattern of every row in every block; the patterns of all blocks are numbered through.
    columns : ndarray of int64, shape (n_columns,)
        Columns of the matrix in the order of the blocks, those of a field beside each other.
    starts : ndarray of int64, shape (n_blocks + 1,)
        Where each block starts in `columns`.
    parts : ndarray of int64, shape (n_blocks,)
    simple : ndarray of bool, shape (n_blocks,)
        Blocks with one column and the number 1 in every pattern, and no column twice.
    indptr, patterns, values : the patterns' matrix by column, in the order of `columns`
    n_patterns : int
    """

    codes: npt.NDArray[np.uint32]
    columns: Ints
    starts: Ints
    parts: Ints
    simple: npt.NDArray[np.bool_]
    indptr: Ints
    patterns: Ints
    values: npt.NDArray[np.float64]
    n_patterns: int


@dataclass
class _Block:
    codes: Ints  # pattern of each row
    size: int  # number of patterns
    entries: int  # non-zeros of the patterns' matrix
    fields: list[int]
    part: int


def find_patterns(X: sparse.csr_matrix, field_of: Ints, part_of_field: Sequence[int]) -> Patterns:
    """Cut a matrix into blocks.

    Each field is a block; fields of one part that are properties of one another (age, gender and occupation of the
    user; the genres of an item) are put together where that makes hardly more patterns than there were.

    Parameters
    ----------
    X : csr_matrix of shape (n, n_columns)
        With sorted indices.
    field_of : ndarray of int64, shape (n_columns,)
        Field of each column.
    part_of_field : sequence of int
        Part of each field.

    Returns
    -------
    Patterns

    Notes
    -----
    Cost: a hash look-up per stored entry, and per row and pair of fields that is tried.
    """
    field_of_entry = field_of[X.indices]
    entries = np.argsort(field_of_entry, kind="stable")
    cuts = np.searchsorted(field_of_entry[entries], np.arange(len(part_of_field) + 1))
    fields = [_field_block(X, entries[cuts[k] : cuts[k + 1]], k, part) for k, part in enumerate(part_of_field)]
    blocks: list[_Block] = []
    slots = np.empty(1 << (X.shape[0] + 1).bit_length(), dtype=np.int64)
    for block in sorted(fields, key=lambda b: (-b.size, b.fields)):
        _place(block, blocks, slots)
    return _assemble(X, field_of, blocks)


def guess_fields(X: sparse.csr_matrix) -> Ints:
    """Guess the field of each column: the k-th entries of all rows are a field if they keep to a range of columns.

    That is what one-hot fields beside each other look like. Else, and where each range is a single column (a table of
    numbers), all columns are one field.
    """
    n, n_columns = X.shape
    width = X.nnz // n if n else 0
    field_of = np.zeros(n_columns, dtype=np.int64)
    if width < 2 or not (np.diff(X.indptr) == width).all():
        return field_of
    table = X.indices.reshape(n, width)
    low, high = table.min(axis=0), table.max(axis=0)
    if (high[:-1] < low[1:]).all() and (high > low).any():
        field_of += np.searchsorted(low[1:], np.arange(n_columns), side="right")
    return field_of


def _field_block(X: sparse.csr_matrix, mine: Ints, field: int, part: int) -> _Block:
    """Number the distinct rows of one field, of which `mine` are the entries.

    Factorize the first entry, then the pair of that and the second ….
    """
    rows = np.searchsorted(X.indptr, mine, side="right") - 1
    entry, kinds = _pairs(X.indices[mine], X.data[mine])
    first = np.searchsorted(rows, np.arange(X.shape[0]))
    count = np.bincount(rows, minlength=X.shape[0])
    codes, size = np.zeros(X.shape[0], dtype=np.int64), 1
    for t in range(int(count.max(initial=0))):
        there = count > t
        step = np.zeros(X.shape[0], dtype=np.int64)
        step[there] = 1 + entry[first[there] + t]
        codes, size = _factorize(codes * (kinds + 1) + step)
    representative = _first_rows(codes, size)
    return _Block(codes, size, int(count[representative].sum()), [field], part)


def _pairs(indices: Ints, values: npt.NDArray[np.floating]) -> tuple[Ints, int]:
    """Number the distinct pairs of column and value."""
    column, n_columns = _factorize(indices)
    value, _ = _factorize(values)
    return _factorize(value * max(n_columns, 1) + column)


def _factorize(values: npt.NDArray) -> tuple[Ints, int]:
    codes, distinct = pd.factorize(values)
    return codes.astype(np.int64, copy=False), len(distinct)


def _first_rows(codes: Ints, size: int) -> Ints:
    """A row of each pattern."""
    rows = np.empty(size, dtype=np.int64)
    rows[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return rows


def _place(block: _Block, blocks: list[_Block], slots: Ints) -> None:
    """Join the block with the one that it enlarges least, if that has room for it, or open a new one."""
    best, least = None, block.entries + ROOM * len(block.codes)
    for other in blocks:
        if other.part != block.part:
            continue
        entries = block.entries / block.size + other.entries / other.size  # of a pattern
        most = min(int((other.entries + least + 1) / entries) + 1, len(block.codes))
        if max(block.size, other.size) > most:
            continue
        size = count_pairs(other.codes, block.codes, block.size, most, slots)
        growth = round(size * entries) - other.entries
        if size <= most and (growth < least or (best is None and growth == least)):
            best, least = other, growth
    if best is None:
        blocks.append(block)
        return
    best.codes, best.size = _factorize(best.codes * block.size + block.codes)
    best.entries += int(least)
    best.fields += block.fields


def _assemble(X: sparse.csr_matrix, field_of: Ints, blocks: list[_Block]) -> Patterns:
    codes = np.empty((len(blocks), X.shape[0]), dtype=np.uint32)
    columns: list[Ints] = []
    matrices: list[sparse.csc_matrix] = []
    offset = 0
    for k, block in enumerate(blocks):
        mine = np.flatnonzero(np.isin(field_of, block.fields))
        columns.append(mine[np.argsort(field_of[mine], kind="stable")])
        matrices.append(X[_first_rows(block.codes, block.size)][:, columns[k]].tocsc())
        codes[k] = block.codes + offset
        offset += block.size
    together = sparse.block_diag(matrices, format="csc")
    together.sort_indices()
    return Patterns(
        codes=codes,
        columns=np.concatenate(columns),
        starts=np.cumsum([0, *map(len, columns)]),
        parts=np.array([block.part for block in blocks]),
        simple=np.array([_is_simple(matrix) for matrix in matrices]),
        indptr=together.indptr.astype(np.int64),
        patterns=together.indices.astype(np.int64),
        values=together.data.astype(np.float64),
        n_patterns=offset,
    )


def _is_simple(matrix: sparse.csc_matrix) -> bool:
    """Whether each pattern is a single 1."""
    return bool((matrix.data == 1).all() and (np.bincount(matrix.indices, minlength=matrix.shape[0]) == 1).all())
