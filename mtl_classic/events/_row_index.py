"""The history of single rows: the log grouped once by every key, so that a row costs searches, not a pass."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import KeyCodes
from mtl_classic._core.time import time_dtype, to_time
from mtl_classic._kernels import history as kernels
from mtl_classic._kernels import history_row as row_kernels
from mtl_classic.events._aggregate import Aggregate
from mtl_classic.events._history import HistoryFeatures
from mtl_classic.events._keys import Keyed
from mtl_classic.events._log import EventLog, axis_kind
from mtl_classic.events._windows import AlignedLog, Grouped, decayed_prefix

__all__ = ["HistoryIndex"]

Array = npt.NDArray[Any]
_KINDS = {
    "count": row_kernels.COUNT, "sum": row_kernels.SUM, "mean": row_kernels.MEAN, "rate": row_kernels.RATE,
    "recency": row_kernels.RECENCY, "gap": row_kernels.GAP, "decayed": row_kernels.DECAYED,
}  # fmt: skip


class HistoryIndex:
    """The columns of a fitted `HistoryFeatures` for one row at a time, as of its log now.

    They are those of ``transform``, bit for bit. Reading is thread-safe. Building costs a grouping of the log per key
    set and filter, and 16 bytes an event for each.

    Parameters
    ----------
    history : HistoryFeatures
        Fitted.
    """

    def __init__(self, history: HistoryFeatures) -> None:
        self.names = tuple(aggregate.name for aggregate in history.aggregates_)
        self.time = history.roles_["time"]
        self.log_kind, self.is_datetime = history.log_.axis_kind, history.log_.is_datetime
        self.is_empty = not history.log_.n_events
        self.tables = {
            keys: KeyTable(history.log_, [history._columns_of(key, history.feature_names_in_) for key in keys])
            for keys in dict.fromkeys((*(tuple(aggregate.keys) for aggregate in history._asked), ()))
        }
        self._ask(history)

    def columns(self, row: Mapping[str, Any]) -> npt.NDArray[np.float32] | None:
        """The columns of a row, by its values of time and keys; None for a time between the integers of the log."""
        time = self._axis_time(row[self.time])
        if time is None:
            return None
        keys = np.array([table.position(row) for table in self.tables.values()], dtype=np.int64)
        answers = np.empty(len(self._questions[0]))
        row_kernels.answer_row(time, keys, *self._questions, *self._events, answers)
        out = np.empty(len(self.names), dtype=np.float32)
        row_kernels.combine_answers(*self._formulas, answers, out)
        return out

    def _axis_time(self, value: Any) -> Any:
        if self.is_datetime and isinstance(value, pd.Timestamp) and value.tz is None and self.log_kind == "dates":
            return value.as_unit("ns").value
        series = pd.Series([value]).infer_objects()
        if not self.is_empty and axis_kind(time_dtype(series)) != self.log_kind:
            raise TypeError(f"The times of the log are {self.log_kind}, that of the row ({self.time!r}) is {value!r}.")
        number = to_time(series, self.time)[0]
        if not self.is_integer:
            return float(number)
        return int(number) if self.is_empty or float(number).is_integer() else None

    def _ask(self, history: HistoryFeatures) -> None:
        """Turn aggregates into questions to streams, and formulas of their answers."""
        log = history.log_
        events = AlignedLog(log, np.empty(0, log.time.dtype), history.lag, history._delays)
        self.is_integer = events.times.dtype == np.int64
        for aggregate in history._asked:
            events.prepare(aggregate)
        questions = _Questions(events, self.tables)
        formulas = [_formula(questions, aggregate) for aggregate in history._asked]
        *answers, smoothing = (np.array(column) for column in zip(*formulas, strict=True))
        self._formulas = (*(column.astype(np.int64) for column in answers), smoothing.astype(np.float64))
        self._questions, self._events = questions.arrays(events.offset(None), events.unit)


class KeyTable:
    """Numbers of the keys of one set, from the values of a row.

    Parameters
    ----------
    log : EventLog
    columns : list of (column of the rows, column of the log)
    """

    def __init__(self, log: EventLog, columns: list[tuple[str, str]]) -> None:
        self.columns = columns
        encoded = [log.encode(name) for _, name in columns]
        self.sizes = [len(values) for _, values in encoded]
        self.codes = [KeyCodes(name, values) for (name, _), (_, values) in zip(columns, encoded, strict=True)]
        self.combined: list[Array] = []
        self.distinct = (
            [np.arange(self.sizes[0])] if len(columns) == 1 else self._pairs([codes for codes, _ in encoded])
        )

    def _pairs(self, codes: list[Array]) -> list[Array]:
        """The combinations that occur, numbered; combinations of several are made two at a time."""
        if not codes:
            return []
        ids = codes[0]
        for other, size in zip(codes[1:], self.sizes[1:], strict=True):
            at = np.flatnonzero((ids >= 0) & (other >= 0))
            both = ids[at] * size + other[at]
            found, known = pd.factorize(both)
            order = np.argsort(known)
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            self.combined.append(known[order])
            ids = np.full(len(ids), -1)
            ids[at] = rank[found]
            first = np.empty(len(known), dtype=np.intp)  # any event that has it
            first[ids[at]] = at
        return [column[first] for column in codes]

    def keyed(self, names: tuple[str, ...], time_dtype: Any) -> Keyed:
        """All keys as rows that ask for history."""
        n = len(self.distinct[0]) if self.distinct else 1
        times = np.zeros(n, time_dtype)
        codes = dict(zip(names, self.distinct, strict=True))
        return Keyed(
            times, np.arange(n), codes, {name: column for name, (_, column) in zip(names, self.columns, strict=True)}
        )

    def position(self, row: Mapping[str, Any]) -> int:
        """The number of a row's key, -1 where the log does not have it."""
        position = 0
        for k, codes in enumerate(self.codes):
            code = codes.get(row[codes.name])
            if code is None:
                return -1
            if k == 0:
                position = code
                continue
            both, known = position * self.sizes[k] + code, self.combined[k - 1]
            position = bisect_left(known, both)
            if position == len(known) or known[position] != both:
                return -1
        return position


class _Questions:
    """Questions and the streams that they ask, each once."""

    def __init__(self, events: AlignedLog, tables: Mapping[tuple[str, ...], KeyTable]) -> None:
        self.events, self.sets = events, list(tables)
        self.grouped = {
            keys: Grouped(events, table.keyed(keys, events.times.dtype), keys) for keys, table in tables.items()
        }
        self.streams: dict[Any, int] = {}
        self.parts: list[Any] = []
        self.prefixes: dict[Any, int] = {}
        self.sums: list[Array] = []
        self.asked: dict[tuple[Any, ...], int] = {}

    def ask(
        self, kind: int, keys: tuple[str, ...], where: Any, value: str | None, window: Any, half_life: Any = None
    ) -> int:
        """The number of a question."""
        stream = self._stream(keys, where, value)
        sums = self._prefix(kind, keys, stream, value, half_life)
        far = 0 if window is None else self.events.offset(window)
        decay = 1.0 if half_life is None else float(self.events.duration(half_life, "half_life"))
        question = (kind, self.sets.index(keys), stream, window is not None, far, sums, decay)
        return self.asked.setdefault(question, len(self.asked))

    def _stream(self, keys: tuple[str, ...], where: Any, value: str | None) -> int:
        part = self.grouped[keys].stream(where, value)
        if id(part) not in self.streams:
            self.streams[id(part)] = len(self.parts)
            self.parts.append(part)
        return self.streams[id(part)]

    def _prefix(self, kind: int, keys: tuple[str, ...], stream: int, value: str | None, half_life: Any) -> int:
        """Where the running sums of a question begin, -1 where it needs none."""
        if kind not in (row_kernels.SUM, row_kernels.DECAYED):
            return -1
        if (stream, value, half_life) not in self.prefixes:
            part = self.parts[stream]
            if kind == row_kernels.DECAYED:
                duration = float(self.events.duration(half_life, "half_life"))
                sums = decayed_prefix(self.grouped[keys], part, value, duration)
            else:
                sums = np.empty(len(part.order))
                kernels.prefix_sum(self.events.amounts(str(value), part.order), part.indptr, sums)
            self.prefixes[stream, value, half_life] = sum(map(len, self.sums))
            self.sums.append(sums)
        return self.prefixes[stream, value, half_life]

    def arrays(self, near: Any, unit: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Arguments of `answer_row`: what describes the questions, and the events."""
        kind, key_set, stream, has_far, far, sums, decay = zip(*self.asked, strict=True)
        dtype = self.events.times.dtype
        questions = (
            *(np.array(column, dtype=np.int64) for column in (kind, key_set, stream)),
            np.array(has_far, dtype=np.bool_),
            np.array(far, dtype=dtype),
            dtype.type(near),
            np.array(sums, dtype=np.int64),
            np.array(decay, dtype=np.float64),
            unit,
        )
        times, starts = _end_to_end([part.times for part in self.parts], dtype)
        indptr, pointers = _end_to_end([part.indptr for part in self.parts], np.int64)
        return questions, (times, starts, indptr, pointers, _end_to_end(self.sums, np.float64)[0])


def _end_to_end(arrays: list[Array], dtype: Any) -> tuple[Array, Array]:
    """All arrays in one, and where each begins."""
    sizes = np.array([len(array) for array in arrays], dtype=np.int64)
    whole = np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)
    return whole, np.cumsum(sizes) - sizes


def _formula(questions: _Questions, aggregate: Aggregate) -> tuple[int, int, int, int, int, float]:
    """Kind, the questions whose answers it takes (two, and two of its prior; -1 = none), smoothing."""
    kind, keys, window = _KINDS[aggregate.stat], tuple(aggregate.keys), aggregate.window
    value = questions.events.value_name(aggregate)
    count, total = row_kernels.COUNT, row_kernels.SUM
    if aggregate.stat != "rate":
        asked = total if aggregate.stat == "mean" else kind
        first = questions.ask(asked, keys, aggregate.where, value, window, aggregate.half_life)
        second = questions.ask(count, keys, aggregate.where, value, window) if aggregate.stat == "mean" else -1
        return kind, first, second, -1, -1, 0.0

    def rate(of: tuple[str, ...]) -> tuple[int, int]:
        above = questions.ask(count if value is None else total, of, aggregate.where, value, window)
        among = (aggregate.per, None) if value is None or aggregate.per is not None else (aggregate.where, value)
        return above, questions.ask(count, of, among[0], among[1], window)

    prior = rate(()) if aggregate.smoothing > 0 else (-1, -1)
    return kind, *rate(keys), *prior, float(aggregate.smoothing)
