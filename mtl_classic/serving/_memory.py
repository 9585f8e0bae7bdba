"""How many rows of a chunk a limit of memory allows, found out on the first chunks."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.validation import Table, n_rows

__all__ = ["Gauge", "table_bytes", "to_bytes"]

_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?b?)\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
FIRST, SECOND = 100, 8000  # rows; from the second, boosters are read from flat arrays, which are made once
SHARE = (
    0.6  # of the limit; allocators keep up to half as much again as is in use, and libraries have rooms of their own
)


def to_bytes(limit: Any) -> int:
    """A number of bytes: 500000000, "500MB" (10⁶), "500MiB" or, as joblib writes it, "500M" (2²⁰)."""
    if isinstance(limit, int | np.integer) and not isinstance(limit, bool):
        n_bytes = int(limit)
    else:
        match = _SIZE.fullmatch(limit) if isinstance(limit, str) else None
        if match is None:
            raise ValueError(
                f'memory_limit must be a number of bytes, or a text like "500MB" or "2GiB"; got {limit!r}.'
            )
        base = 1000 if match[3].lower() == "b" else 1024
        n_bytes = int(float(match[1]) * base ** _POWER[match[2].lower()])
    if n_bytes < 1:
        raise ValueError(f"memory_limit must be at least one byte, got {limit!r}.")
    return n_bytes


class Gauge:
    """Chooses the rows of the next chunk.

    The memory of n rows is taken to be ``a + b n``: the highest that Python and numpy had allocated while they were
    scored, and rows and scores of this chunk and of the one before, which the caller may hold. What is made once
    (codes of the log, compiled kernels, flat trees) is made in chunks that are not measured.

    Parameters
    ----------
    limit : int
        Bytes.
    most : int
        Rows that no chunk exceeds.
    """

    def __init__(self, limit: int, most: int) -> None:
        self.limit, self.most = limit, most
        self.plan = [FIRST, FIRST]
        self.measured: list[tuple[int, int]] = []
        self.final: int | None = None

    @property
    def size(self) -> int:
        """Most rows of the next chunk."""
        return min(self.most, self.plan[0] if self.final is None else self.final)

    def run(self, work: Callable[[Table], pd.DataFrame], table: Table) -> pd.DataFrame:
        """The result of the work on a chunk, measured if there is something to find out yet."""
        if self.final is not None or not n_rows(table):
            return work(table)
        if len(self.plan) % 2 == 0:
            result = work(table)
        else:
            taken, result = _traced(work, table)
            self.measured.append((n_rows(table), taken))
        self._next()
        return result

    def _next(self) -> None:
        self.plan.pop(0)
        if self.plan:
            return
        n, taken = self.measured[-1]
        if len(self.measured) == 1:
            fits = min(int(SHARE * self.limit / max(taken / n, 1)), self.most, SECOND)
            self.plan = [fits if fits > 2 * n else max(n // 4, 1)] * 2  # another size, to tell what is fixed
            return
        per_row, fixed = taken / n, 0.0
        before, taken_before = self.measured[0]
        if n != before:
            per_row = max((taken - taken_before) / (n - before), 1.0)
            fixed = max(taken - per_row * n, 0.0)
        self.final = int((SHARE * self.limit - fixed) / per_row)
        if self.final < 1:
            raise ValueError(
                f"memory_limit allows {self.limit} bytes, but scoring one row takes about {int(fixed + per_row)} of "
                f"memory with what a chunk needs anyway; allow at least {int((fixed + per_row) / SHARE) + 1}."
            )


def _traced(work: Callable[[Table], pd.DataFrame], table: Table) -> tuple[int, pd.DataFrame]:
    """The highest number of bytes while a chunk is scored, its rows and those of the chunk before included."""
    was_on = tracemalloc.is_tracing()
    if was_on:
        tracemalloc.reset_peak()
    else:
        tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = work(table)
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_on:
            tracemalloc.stop()
    return taken + 2 * table_bytes(table) + table_bytes(result), result


def table_bytes(table: Table) -> int:
    """Bytes that a table holds."""
    if isinstance(table, pd.DataFrame):
        return int(table.memory_usage(deep=True).sum())
    parts = [getattr(table, name) for name in ("data", "indices", "indptr") if hasattr(table, "indptr")]
    return sum(int(part.nbytes) for part in parts) if parts else int(table.nbytes)
