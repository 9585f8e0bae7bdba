"""Rows from wherever they are, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic._core.validation import Table, as_table, n_rows, take_rows
from mtl_classic.serving import _parquet

__all__ = ["Chunks", "open_chunks"]


@dataclass(frozen=True)
class Chunks:
    """Tables of at most `chunk_size` rows, and how many rows there are in all where that is known."""

    tables: Iterator[Table]
    total: int | None


def open_chunks(source: Any, chunk_size: int) -> Chunks:
    """Cut a source into chunks.

    Parameters
    ----------
    source : table, path of a Parquet file or of a folder of them, list of paths, or iterable of tables
    chunk_size : int
        Most rows of a chunk. Tables of an iterable that have fewer are taken as they come.
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int | np.integer) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a number of rows, at least 1, got {chunk_size!r}.")
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, list | tuple) and source and all(isinstance(item, str | Path) for item in source):
        files = _parquet.list_files(source)
        return Chunks(_parquet.read_chunks(files, chunk_size), _parquet.count_rows(files))
    if _is_stream(source):
        return Chunks((part for table in source for part in _cut(as_table(table), chunk_size)), None)
    table = as_table(source)
    return Chunks(_cut(table, chunk_size), n_rows(table))


def _is_stream(source: Any) -> bool:
    """Whether a source is an iterable of tables rather than a table."""
    if isinstance(source, pd.DataFrame | np.ndarray) or sparse.issparse(source) or hasattr(source, "columns"):
        return False
    if isinstance(source, list | tuple):
        return bool(source) and (
            hasattr(source[0], "columns") or (isinstance(source[0], np.ndarray) and source[0].ndim == 2)
        )
    return isinstance(source, Iterable)


def _cut(table: Table, chunk_size: int) -> Iterator[Table]:
    n = n_rows(table)
    if n <= chunk_size:
        yield table
        return
    for start in range(0, n, chunk_size):
        yield take_rows(table, np.arange(start, min(start + chunk_size, n)))
