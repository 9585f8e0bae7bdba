"""The engine of history: all aggregates of some rows over a log, one sort per key set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.time import to_duration
from mtl_classic._kernels import history as kernels
from mtl_classic.events._aggregate import KNOWN, Aggregate, as_conditions
from mtl_classic.events._column import as_numbers
from mtl_classic.events._keys import Ints, Keyed, group, shared_keys
from mtl_classic.events._log import EventLog

Floats = npt.NDArray[np.float64]
NANOSECONDS_PER_DAY = 86_400_000_000_000.0
KEPT_PRIORS = 8  # of 8 bytes a row each
_LONGEST = 2**62  # 146 years of nanoseconds: longer ones reach before every event, and would overflow


def compute_aggregates(
    aggregates: Sequence[Aggregate],
    log: EventLog,
    rows: Keyed,
    *,
    lag: Any = None,
    delays: Mapping[str, int | float] | None = None,
    n_threads: int = 1,
    dtype: npt.DTypeLike = np.float32,
) -> npt.NDArray[Any]:
    """The aggregates of all rows, shape (n_rows, n_aggregates), column by column in memory.

    `delays` tells how long after an event some of its columns are known, on the axis of the log.

    Cost: per key set one counting sort of the events whose key occurs in the rows and one gallop of the rows through
    them per window end, O(n_events + n_rows · log); memory about 40 bytes an event and 60 bytes a row.
    """
    out = np.empty((len(rows.times), len(aggregates)), dtype=dtype, order="F")
    events = AlignedLog(log, rows.times, lag, delays)
    by_keys: dict[tuple[str, ...], list[int]] = {}
    for j, aggregate in enumerate(aggregates):
        by_keys.setdefault(tuple(aggregate.keys), []).append(j)
        events.prepare(aggregate)
    priors = _Priors(aggregates, events, rows)

    def fill(keys: tuple[str, ...]) -> None:
        grouped = Grouped(events, rows, keys)
        last_use = {key: j for j in by_keys[keys] for key in _streams_of(aggregates[j], events)}
        for j in by_keys[keys]:
            _fill(grouped, aggregates[j], priors, out[:, j])
            for key in [key for key, last in last_use.items() if last == j]:
                grouped.drop(key)  # of many tasks each would hold some arrays of the rows

    if n_threads <= 1 or len(by_keys) == 1:
        for keys in by_keys:
            fill(keys)
    else:  # threads only divide the key sets among themselves: the numbers are the same for any count
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(fill, by_keys))
    return out


def sum_ahead(
    log: EventLog,
    rows: Keyed,
    keys: tuple[str, ...],
    horizon: int | float,
    parts: Sequence[tuple[npt.NDArray[np.bool_], Floats | None]],
) -> list[Floats]:
    """For each part (which events, how much each adds; None = 1) the sum over [t, t + horizon) of the row's keys.

    `horizon` is on the axis of the log.
    """
    events = AlignedLog(log, rows.times, None)
    grouped = Grouped(events, rows, keys)
    ahead = -np.int64(math.ceil(min(horizon, _LONGEST))) if events.times.dtype == np.int64 else np.float64(-horizon)
    sums = []
    for keep, weights in parts:
        stream = grouped.filtered(keep)
        low, high = grouped.end(stream, events.offset(None)), grouped.end(stream, ahead)
        out = (high - low).astype(np.float64)
        if weights is not None:
            prefix = np.empty(len(stream.order))
            kernels.prefix_sum(weights[stream.order], stream.indptr, prefix)
            kernels.window_sum(prefix, stream.indptr, grouped.row_keys, low, high, out)
        sums.append(out)
    return sums


class AlignedLog:
    """The log as arrays on the axis of the rows, with its filters evaluated once."""

    def __init__(
        self,
        log: EventLog,
        row_times: npt.NDArray[Any],
        lag: Any,
        delays: Mapping[str, int | float] | None = None,
    ) -> None:
        self.log = log
        self.delays = {name: int(delay) if delay == int(delay) else delay for name, delay in (delays or {}).items()}
        fractions = [np.float64 for delay in self.delays.values() if isinstance(delay, float)]
        both = np.result_type(log.time.dtype, row_times.dtype, *fractions)
        self.times = log.time.astype(both, copy=False)
        self.row_times = row_times.astype(both)
        self.unit = NANOSECONDS_PER_DAY if log.is_datetime else 1.0
        self.lag = 0 if lag is None else to_duration(lag, self._like, "lag")
        self.masks: dict[Any, npt.NDArray[np.uint8] | None] = {}  # a bit for each event; None: all match
        self.values: dict[str, npt.NDArray[Any]] = {}

    @property
    def _like(self) -> Any:
        return np.dtype("datetime64[ns]") if self.log.is_datetime else self.times.dtype

    def duration(self, value: Any, what: str) -> int | float:
        duration = to_duration(value, self._like, what)
        if not duration > 0:
            raise ValueError(f"a {what} must be longer than zero, got {value!r}.")
        return duration

    def offset(self, window: Any) -> Any:
        """How far before the row's time an end of its window lies; on an integer axis the integer that cuts alike."""
        back = self.lag if window is None else self.lag + self.duration(window, "window")
        return np.int64(math.floor(min(back, _LONGEST))) if self.times.dtype == np.int64 else np.float64(back)

    def conditions(self, spec: Any, value: str | None = None) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """A filter as (column, allowed values) pairs; that the value is known is one more."""
        valued = ((value, (KNOWN,)),) if value is not None else ()
        return (*as_conditions(spec, self.log.roles.get("event")), *valued)

    def value_name(self, aggregate: Aggregate) -> str | None:
        if aggregate.value is None and aggregate.stat in ("sum", "mean"):
            if "value" not in self.log.roles:
                raise ValueError(f"{aggregate.name}: name a value= column, for the log has no value column of its own.")
            return self.log.roles["value"]
        return aggregate.value

    def prepare(self, aggregate: Aggregate) -> None:
        """Evaluate what the threads share: filters, values, key codes."""
        value = self.value_name(aggregate)
        if value is not None and value not in self.values:
            self.values[value] = _numbers(self.log, value)
        for condition in (*self.conditions(aggregate.where, value), *self.conditions(aggregate.per)):
            if condition not in self.masks:
                matches = _matches(self.log, *condition)
                self.masks[condition] = None if matches.all() else np.packbits(matches)

    def keep(self, conditions: Any) -> npt.NDArray[np.bool_] | None:
        """Which events match all conditions; None: all."""
        masks = [self.masks[condition] for condition in conditions]
        parts = [np.unpackbits(mask, count=len(self.times)).view(np.bool_) for mask in masks if mask is not None]
        return np.logical_and.reduce(parts) if parts else None

    def delay(self, conditions: Any) -> int | float:
        """How long after an event it is known whether it matches, and its value."""
        return max((self.delays.get(column, 0) for column, _ in conditions), default=0)

    def amounts(self, value: str, order: Ints) -> Floats:
        return self.values[value][order].astype(np.float64, copy=False)


@dataclass
class Stream:
    """Grouped events that match a filter; the ends of the windows and the prefix sums are made once."""

    order: Ints
    indptr: Ints
    times: npt.NDArray[Any]
    ends: dict[Any, Ints]
    prefixes: dict[Any, Floats]


class Grouped:
    """The events and the rows of one key set, grouped by key, in the order of time within a key."""

    def __init__(self, events: AlignedLog, rows: Keyed, keys: tuple[str, ...]) -> None:
        self.events = events
        self.row_keys, event_keys, n_keys = shared_keys(events.log, rows, keys)
        nothing = np.empty(0, np.int64)
        self.row_order, _ = group(self.row_keys, n_keys, rows.order)
        order, indptr = group(event_keys, n_keys, nothing)
        self.whole = Stream(order, indptr, events.times[order], {}, {})
        self.streams: dict[Any, Stream] = {}

    def stream(self, spec: Any, value: str | None) -> Stream:
        conditions = self.events.conditions(spec, value)
        if conditions not in self.streams:
            self.streams[conditions] = self._matching(conditions)
        return self.streams[conditions]

    def drop(self, *which: Any) -> None:
        """Forget streams, all if none is named, and the sums of values that they have."""
        for conditions in which or tuple(self.streams):
            if self.streams.pop(conditions) is self.whole:
                self.whole.prefixes.clear()

    def _matching(self, conditions: Any) -> Stream:
        keep, delay = self.events.keep(conditions), self.events.delay(conditions)
        stream = self.whole if keep is None else self.filtered(keep)
        return Stream(stream.order, stream.indptr, stream.times + delay, {}, {}) if delay else stream

    def filtered(self, keep: npt.NDArray[np.bool_]) -> Stream:
        order, indptr = np.empty_like(self.whole.order), np.empty_like(self.whole.indptr)
        n = kernels.filter_grouped(self.whole.order, self.whole.indptr, keep, order, indptr)
        order = order[:n].copy()
        return Stream(order, indptr, self.events.times[order], {}, {})

    def window(self, stream: Stream, window: Any) -> tuple[Ints, Ints]:
        """First event seen and first event no longer seen, per row."""
        high = self.end(stream, self.events.offset(None))
        if window is not None:
            return self.end(stream, self.events.offset(window)), high
        if "start" not in stream.ends:
            stream.ends["start"] = np.append(stream.indptr[:-1], 0)[self.row_keys]  # no key, -1, takes the last
        return stream.ends["start"], high

    def end(self, stream: Stream, offset: Any) -> Ints:
        if offset not in stream.ends:
            stream.ends[offset] = np.zeros(len(self.row_keys), np.int64)
            kernels.window_positions(
                stream.times,
                stream.indptr,
                self.row_keys,
                self.row_order,
                self.events.row_times,
                offset,
                stream.ends[offset],
            )
        return stream.ends[offset]

    def total(self, stream: Stream, value: str, window: Any) -> Floats:
        if value not in stream.prefixes:
            stream.prefixes[value] = np.empty(len(stream.order))
            kernels.prefix_sum(self.events.amounts(value, stream.order), stream.indptr, stream.prefixes[value])
        out = np.empty(len(self.row_keys))
        low, high = self.window(stream, window)
        kernels.window_sum(stream.prefixes[value], stream.indptr, self.row_keys, low, high, out)
        return out


class _Priors:
    """The rate over all keys in the window of each row: what a rate shrinks to. Of many labels none is kept."""

    def __init__(self, aggregates: Sequence[Aggregate], events: AlignedLog, rows: Keyed) -> None:
        self.events, self.rows = events, rows
        self.n_rates = len({self._what(rate) for rate in aggregates if rate.stat == "rate"})
        self.kept: dict[Any, Floats] = {}
        self.everything: Grouped | None = None
        self._lock = Lock()

    def of(self, rate: Aggregate) -> Floats:
        what = self._what(rate)
        with self._lock:
            if what in self.kept:
                return self.kept[what]
            if self.everything is None:
                self.everything = Grouped(self.events, self.rows, ())
            prior = _ratio(*_rate_parts(self.everything, rate))
            self.everything.drop()
            if self.n_rates <= KEPT_PRIORS:
                self.kept[what] = prior
            if len(self.kept) == self.n_rates:
                self.everything = None
            return prior

    def _what(self, rate: Aggregate) -> Any:
        above, *below = _streams_of(rate, self.events)
        return above, tuple(below), str(rate.window)


def _fill(grouped: Grouped, aggregate: Aggregate, priors: _Priors, out: npt.NDArray[Any]) -> None:
    """One column, by its statistic."""
    events = grouped.events
    value = events.value_name(aggregate)
    if aggregate.stat == "rate":
        above, below = _rate_parts(grouped, aggregate)
        weight = aggregate.smoothing
        out[:] = (above + weight * priors.of(aggregate)) / (below + weight) if weight > 0 else _ratio(above, below)
        return
    stream = grouped.stream(aggregate.where, value)
    low, high = grouped.window(stream, aggregate.window)
    if aggregate.stat == "count":
        out[:] = high - low
    elif aggregate.stat == "recency":
        kernels.window_recency(stream.times, events.row_times, low, high, events.unit, out)
    elif aggregate.stat == "gap":
        kernels.window_gap(stream.times, low, high, events.unit, out)
    elif aggregate.stat == "decayed":
        half_life = float(events.duration(aggregate.half_life, "half_life"))
        prefix = decayed_prefix(grouped, stream, value, half_life)
        kernels.window_decayed(
            prefix, stream.times, stream.indptr, grouped.row_keys, events.row_times, low, high, half_life, out
        )
    elif aggregate.stat == "sum":
        out[:] = grouped.total(stream, str(value), aggregate.window)
    else:
        out[:] = _ratio(grouped.total(stream, str(value), aggregate.window), (high - low).astype(np.float64))


def _streams_of(aggregate: Aggregate, events: AlignedLog) -> list[Any]:
    """The streams that a column reads: their conditions."""
    own = events.conditions(aggregate.where, events.value_name(aggregate))
    return [own, events.conditions(aggregate.per)] if _divides(aggregate) else [own]


def _divides(aggregate: Aggregate) -> bool:
    """Whether a statistic is a rate per events of another filter."""
    return aggregate.stat == "rate" and (aggregate.value is None or aggregate.per is not None)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Quotients, NaN where nothing was seen (even if the numerator counts other events and is not 0)."""
    out = np.full(len(above), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def _rate_parts(grouped: Grouped, aggregate: Aggregate) -> tuple[Floats, Floats]:
    """Numerator and denominator of a rate before smoothing."""
    value = aggregate.value
    above = grouped.stream(aggregate.where, value)
    low, high = grouped.window(above, aggregate.window)
    numerator = (high - low).astype(np.float64) if value is None else grouped.total(above, value, aggregate.window)
    if _divides(aggregate):
        low, high = grouped.window(grouped.stream(aggregate.per, None), aggregate.window)
    return numerator, (high - low).astype(np.float64)


def decayed_prefix(grouped: Grouped, stream: Stream, value: str | None, half_life: float) -> Floats:
    if (value, half_life) not in stream.prefixes:
        values = np.ones(len(stream.order)) if value is None else grouped.events.amounts(value, stream.order)
        stream.prefixes[value, half_life] = np.empty(len(stream.order))
        kernels.decayed_prefix(stream.times, values, stream.indptr, half_life, stream.prefixes[value, half_life])
    return stream.prefixes[value, half_life]


def _numbers(log: EventLog, name: str) -> npt.NDArray[Any]:
    """The column as it is, if it is one of numbers or flags; NaN is a missing value."""
    values = as_numbers(log.column(name))
    if values is None:
        raise TypeError(f"the value column {name!r} of the log must hold numbers; convert it, e.g. by pd.to_numeric.")
    if np.isinf(values).any():
        raise ValueError(f"the value column {name!r} of the log holds {int(np.isinf(values).sum())} infinite values.")
    return values


def _matches(log: EventLog, column: str, allowed: tuple[Any, ...]) -> npt.NDArray[np.bool_]:
    if allowed == (KNOWN,):
        return ~pd.isna(log.column(column))
    codes, values = log.encode(column)
    missing = any(pd.api.types.is_scalar(value) and pd.isna(value) for value in allowed)
    wanted = np.append(np.asarray(values.isin(list(allowed))), missing)  # the code -1, missing, takes the last
    return np.asarray(wanted[codes], dtype=np.bool_)
