"""Parquet files, read and written a chunk at a time; pyarrow is imported on first use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from mtl_classic._core.arrow import keep_long_integers

__all__ = ["count_rows", "list_files", "merge", "read_chunks", "read_table", "write_table"]

_READ_AHEAD = 8192  # rows


def _pyarrow(module: str = "pyarrow") -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ImportError("Parquet files need pyarrow: pip install 'mtl-classic[data]'.") from None


def list_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files, and the Parquet files of folders in the order of their names."""
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not found or not all(file.is_file() for file in found):
            raise FileNotFoundError(f"There is no Parquet file {path}.")
        files += found
    return files


def count_rows(files: Sequence[Path]) -> int:
    """Rows of all files, from their metadata."""
    return sum(map(_count_rows_of, files))


def _count_rows_of(file: Path) -> int:
    parquet = _pyarrow("pyarrow.parquet")
    try:
        return int(parquet.read_metadata(file).num_rows)
    except ValueError as error:
        raise ValueError(f"{file} is no Parquet file, or damaged: {error} Of other files give the frames.") from None


def read_chunks(files: Sequence[Path], size: Callable[[], int]) -> Iterator[pd.DataFrame]:
    """Frames of as many rows as are asked for, fewer only where a file ends: a chunk never spans two files."""
    pyarrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
    for path in files:
        with parquet.ParquetFile(path) as file:
            rows = file.schema_arrow.empty_table()
            for batch in file.iter_batches(batch_size=_READ_AHEAD):
                rows = pyarrow.concat_tables([rows, pyarrow.Table.from_batches([batch])])
                while rows.num_rows >= (n := size()):
                    part = rows.slice(0, n)
                    yield keep_long_integers(part.to_pandas(), part)
                    rows = rows.slice(n)
            if rows.num_rows or not file.metadata.num_rows:  # no rows are a chunk, as an empty table is
                yield keep_long_integers(rows.to_pandas(), rows)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write one file, whole or not at all."""
    pyarrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
    _put(path, lambda temporary: parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), temporary))


def read_table(path: Path) -> pd.DataFrame:
    """A file that `write_table` wrote."""
    return _pyarrow("pyarrow.parquet").read_table(path).to_pandas()


def merge(parts: Sequence[Path], path: Path) -> None:
    """One file of many, a row group for each, with one part in memory at a time."""
    pyarrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
    schemas = [parquet.read_schema(part).remove_metadata() for part in parts]
    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")  # a column may be all missing in one part

    def write(temporary: Path) -> None:
        with parquet.ParquetWriter(temporary, schema) as writer:
            for part in parts:
                writer.write_table(parquet.read_table(part).replace_schema_metadata(None).cast(schema))

    _put(path, write)


def _put(path: Path, write: Any) -> None:
    """A file that is replaced leaves its mode to the new one; a link goes on to lead there."""
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
