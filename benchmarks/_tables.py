"""The tables of a benchmark: parquet files in or below ``--data-dir``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

__all__ = ["MissingTableError", "find_table", "read_table"]


class MissingTableError(FileNotFoundError):
    """A table that is not there: the benchmark, or the part of it, is left out."""


def find_table(options: argparse.Namespace, file: str) -> Path:
    """Where a table is, anywhere below the folder: wheels that carry tables may be unzipped as they are."""
    if options.data_dir is None:
        raise MissingTableError(f"{file} is needed: say where it is with --data-dir or MTL_CLASSIC_DATA.")
    found = sorted(Path(options.data_dir).rglob(file))
    if not found:
        raise MissingTableError(f"There is no {file} in {options.data_dir} (--data-dir or MTL_CLASSIC_DATA).")
    return found[0]


def read_table(options: argparse.Namespace, file: str) -> pd.DataFrame:
    """A table as a frame."""
    return pd.read_parquet(find_table(options, file))
