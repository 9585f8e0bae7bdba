"""One row on its way through a compiled model: named values, and blocks of columns that parts have added."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import KeyCodes
from mtl_classic.learners._columns import LARGEST, FeatureColumns
from mtl_classic.learners._dates import calendar_part, days, written_dates

__all__ = ["Encoders", "Row", "RowEncoder", "Source", "Sources", "as_number", "held", "is_missing"]

Floats32 = npt.NDArray[np.float32]
Source = tuple[int, int] | None  # block and position in it; None: a named value
Sources = dict[str, Source]
_DAY = 86_400_000_000_000  # nanoseconds
_BOUND = float(LARGEST)
_TIMES = (dt.date, dt.timedelta, np.datetime64, np.timedelta64, pd.Period)


class Row:
    """The values of a row: by name as the caller gave them, and the blocks of the parts so far."""

    __slots__ = ("blocks", "encoded", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.blocks: list[npt.NDArray[np.floating[Any]]] = []
        self.encoded: dict[RowEncoder, Floats32] = {}

    def get(self, name: str, source: Source) -> Any:
        """The value of a column."""
        return self.values[name] if source is None else self.blocks[source[0]][source[1]]

    def frame(self, columns: Sequence[str], sources: Mapping[str, Source]) -> pd.DataFrame:
        """The row as a frame, for parts that read nothing else."""
        data: dict[str, Any] = {}
        for name in columns:
            source = sources.get(name)
            if source is None:
                data[name] = [self.values[name]]
            else:
                data[name] = self.blocks[source[0]][source[1] : source[1] + 1]
        return pd.DataFrame(data)


class RowEncoder:
    """What `FeatureColumns` makes of a table, for one row.

    Parameters
    ----------
    columns : FeatureColumns
    sources : mapping of column to Source
        Columns that are not in it are named values.
    """

    def __init__(self, columns: FeatureColumns, sources: Mapping[str, Source]) -> None:
        self.names = columns.names_ or ("constant",)
        self.categorical = columns.categorical
        self.written = frozenset(columns.written_)
        offsets = np.array([columns.offsets_.get(name, 0.0) for name in self.names])
        named: list[tuple[int, str, KeyCodes | None, bool | None, Source, float]] = []
        moved: dict[int, list[tuple[int, int]]] = {}
        places = {name: j for j, name in enumerate(columns.names_)}
        self.calendar: dict[str, list[tuple[int, str]]] = {}
        for told, (name, part) in columns.calendar_.items():
            self.calendar.setdefault(name, []).append((places[told], part))
        for name, j in places.items():
            if name in columns.calendar_:
                continue
            source, categories = sources.get(name), columns.categories_.get(name)
            if source is None or categories is not None:
                codes = None if categories is None else KeyCodes(name, categories)
                named.append((j, name, codes, columns.dated_.get(name), source, float(offsets[j])))
            else:
                moved.setdefault(source[0], []).append((j, source[1]))
        self.named = named
        self.moved: list[tuple[int, Any, Any, Any]] = []
        for block, pairs in moved.items():
            to, at = (np.array(places) for places in zip(*pairs, strict=True))
            self.moved.append((block, to, at, offsets[to] if offsets[to].any() else None))

    def encode(self, row: Row) -> Floats32:
        """The features, float32, NaN where missing; made once for a row."""
        if self not in row.encoded:
            row.encoded[self] = self._encode(row)
        return row.encoded[self]

    def _encode(self, row: Row) -> Floats32:
        out = np.zeros(len(self.names), dtype=np.float32)
        for block, to, at, offset in self.moved:
            out[to] = row.blocks[block][at] if offset is None else row.blocks[block][at] - offset
        for j, name, codes, dated, source, offset in self.named:
            value = row.get(name, source)
            if isinstance(value, str) and name in self.written:
                value = written_dates(pd.Series([value], name=name)).iloc[0]
            if codes is None:
                number = as_number(value, name, dated)
                out[j] = held(number - offset)
                for k, part in self.calendar.get(name, ()):
                    out[k] = calendar_part(np.array([number]), part)[0]
            else:
                code = codes.get(value)
                out[j] = math.nan if code is None else code
        return out


class Encoders:
    """Encoders of a model's parts; parts that learnt the same of their columns share one.

    Parameters
    ----------
    sources : mapping of column to Source
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._known: list[tuple[FeatureColumns, RowEncoder]] = []

    def of(self, columns: FeatureColumns) -> RowEncoder:
        """The encoder of these columns."""
        for known, encoder in self._known:
            if _are_alike(known, columns):
                return encoder
        self._known.append((columns, RowEncoder(columns, self.sources)))
        return self._known[-1][1]


def is_missing(value: Any) -> bool:
    """None, NaN, NA and NaT."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)


def as_number(value: Any, name: str, dated: bool | None = None) -> float:
    """A number, dates and durations in days, NaN where missing; one for the other is refused where it is known."""
    if isinstance(value, float | int):
        number = float(value)
    elif is_missing(value):
        return math.nan
    elif isinstance(value, _TIMES):
        if dated is False:
            raise TypeError(f"{name!r} held numbers at fit; the row has {value!r}.")
        return _in_days(value)
    else:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name!r} held numbers or dates at fit; the row has {value!r}.") from None
    if math.isinf(number):
        raise ValueError(f"Infinite value (infinity) in {name!r}; expected a finite number, or NaN for missing.")
    if dated and number == number:
        raise TypeError(f"{name!r} held dates at fit; the row has {value!r}.")
    return number


def _in_days(value: Any) -> float:
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        try:
            return value.as_unit("ns").value / _DAY
        except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta):
            return float(days(pd.Series([value]))[0])
    if isinstance(value, pd.Period):
        return _in_days(value.to_timestamp())
    is_day = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    return _in_days(pd.Timestamp(value) if is_day else pd.Series([value]).iloc[0])


def _are_alike(a: FeatureColumns, b: FeatureColumns) -> bool:
    if any(
        getattr(a, name) != getattr(b, name)
        for name in ("names_", "offsets_", "dated_", "ordered_", "written_", "calendar_")
    ):
        return False
    if a.categories_.keys() != b.categories_.keys():
        return False
    return all(values.equals(b.categories_[name]) for name, values in a.categories_.items())


def held(number: float) -> float:
    return number if number != number else min(max(number, -_BOUND), _BOUND)
