"""Rows from wherever they are, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic._core.validation import Table, as_table, n_rows, take_rows
from mtl_classic.serving import _parquet

__all__ = ["Chunks", "fixed_size", "open_chunks"]


@dataclass(frozen=True)
class Chunks:
    """Tables of so many rows at most, and how many rows there are in all where that is known."""

    tables: Iterator[Table]
    total: int | None


def open_chunks(source: Any, size: Callable[[], int]) -> Chunks:
    """Cut a source into chunks.

    Parameters
    ----------
    source : table, path of a Parquet file or of a folder of them, list of paths, or iterable of tables
    size : callable
        Most rows of the next chunk. Tables of an iterable that have fewer are taken as they come.
    """
    if isinstance(source, list | tuple) and not source:
        raise ValueError("There is nothing to score: the list of files or tables is empty.")
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, list | tuple) and all(isinstance(item, str | Path) for item in source):
        files = _parquet.list_files(source)
        return Chunks(_parquet.read_chunks(files, size), _parquet.count_rows(files))
    if _is_stream(source):
        return Chunks((part for table in source for part in _cut(as_table(table), size)), None)
    table = as_table(source)
    return Chunks(_cut(table, size), n_rows(table))


def _is_stream(source: Any) -> bool:
    """Whether a source is an iterable of tables rather than a table."""
    if isinstance(source, pd.DataFrame | np.ndarray) or sparse.issparse(source) or hasattr(source, "columns"):
        return False
    if isinstance(source, list | tuple):
        return hasattr(source[0], "columns") or (isinstance(source[0], np.ndarray) and source[0].ndim == 2)
    return isinstance(source, Iterable)


def _cut(table: Table, size: Callable[[], int]) -> Iterator[Table]:
    n, start = n_rows(table), 0
    if n <= size():
        yield table
        return
    while start < n:
        stop = min(start + size(), n)
        yield take_rows(table, np.arange(start, stop))
        start = stop


def fixed_size(chunk_size: Any) -> Callable[[], int]:
    """The same number of rows for every chunk."""
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int | np.integer) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a number of rows, at least 1, got {chunk_size!r}.")
    return lambda: int(chunk_size)
