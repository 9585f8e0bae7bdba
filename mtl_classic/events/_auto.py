"""aggregates="auto": which history a log, or the fitted rows, are asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.time import to_time
from mtl_classic.events._aggregate import Aggregate, duration_text
from mtl_classic.events._column import as_floats
from mtl_classic.events._log import EventLog

MAX_CATEGORIES = 1000  # a shared column with more values is an id of its own: name it in aggregates= if it is a key
MAX_TYPES = 3
PRICE_SPREAD = 0.1  # share of a column's variance: one that varies less within an item is the item's price
RISING = 0.95  # rank correlation with the order of time
SAMPLE = 200_000
_INEXACT = frozenset(("floating", "mixed-integer-float", "decimal", "complex"))
_TIMES = frozenset(("datetime64", "datetime", "date", "timedelta64", "timedelta", "period"))
_HOUR, _DAY, _WEEK = 3_600_000_000_000, 86_400_000_000_000, 604_800_000_000_000
_LADDER = (
    *(hours * _HOUR for hours in (1, 3, 6, 12)),
    *(days * _DAY for days in (1, 3)),
    *(weeks * _WEEK for weeks in (1, 2, 4, 8, 13, 26, 52, 104)),
)


def choose_for_log(
    log: EventLog, shared: Sequence[str], user: str | None, item: str | None, labels: Sequence[str] = ()
) -> tuple[Aggregate, ...]:
    """The automatic aggregates of a log; the rule stands in the docstring of `HistoryFeatures`.

    `shared` are the columns that rows and log share, under the log's names, roles excepted; `labels` what is to be
    told.
    """
    base = _role_keys(user, item)
    side = _side_keys(log, [name for name in shared if _is_moderate(log, name)], user, item)
    if not base:
        base, side = side[:3], []
    short, medium, long = span_windows(log.time, log.is_datetime)
    types, deepest = _types(log, labels)
    several = len(types) > 1
    amounts = _amounts(log, deepest, shared)
    chosen: list[Aggregate] = []
    for keys in base:
        chosen += [Aggregate(keys, "count", window=window) for window in dict.fromkeys((short, medium, long))]
        chosen += [Aggregate(keys, "count", where=kind, window=long) for kind in types if several]
        chosen += [Aggregate(keys, "recency"), Aggregate(keys, "gap")]
        chosen += [Aggregate(keys, "recency", where=deepest)] if several else []
        chosen += [Aggregate(keys, "decayed", where=deepest, half_life=medium)]
        chosen += [] if several or short == medium else [Aggregate(keys, "decayed", half_life=short)]
        chosen += [Aggregate(keys, "rate", where=b, per=a) for a, b in pairwise(types)]
        chosen += [Aggregate(keys, stat, value=value, where=kind, window=long) for stat, value, kind in amounts]
    for keys in side[:2]:
        chosen += [Aggregate(keys, "count", where=deepest, window=medium)]
        chosen += [
            Aggregate(keys, "decayed", half_life=medium),
            Aggregate(keys, "recency", where=deepest),
        ]
    return tuple(chosen)


def choose_for_rows(
    X: pd.DataFrame, labels: Sequence[str], user: str | None, item: str | None, time: str
) -> tuple[Aggregate, ...]:
    """The automatic aggregates where the rows themselves are the log.

    Rows that are predicted after the fit find a log that ends with the fitted rows. What the log's age changes by
    itself (recencies, counts in a window) would mean another thing there than in training; the mean of earlier labels
    does not.
    """
    base = _role_keys(user, item)
    base += [(name,) for name in _categories(X, (user, item, time))[: 3 - len(base)]]
    if labels:
        return tuple(Aggregate(keys, "rate", where=label) for keys in base for label in labels)
    axis = np.sort(to_time(X[time], time))
    windows = dict.fromkeys(span_windows(axis, not pd.api.types.is_numeric_dtype(X[time].dtype)))
    chosen: list[Aggregate] = []
    for keys in base:
        chosen += [Aggregate(keys, "count", window=window) for window in windows]
        chosen += [Aggregate(keys, "recency"), Aggregate(keys, "gap")]
    return tuple(chosen)


def span_windows(axis: Any, is_datetime: bool) -> tuple[Any, Any, Any]:
    """Short, medium and long window: the largest handsome durations within 1/24, 1/6 and 1/2 of the span."""
    span = float(axis[-1] - axis[0]) if len(axis) else 0.0
    if is_datetime:
        short, medium, long = (
            max((step for step in _LADDER if step <= span / part), default=_LADDER[0]) for part in (24, 6, 2)
        )
        return tuple(duration_text(np.timedelta64(step, "ns")) for step in (short, medium, long))  # type: ignore[return-value]
    whole = axis.dtype.kind in "iu"
    powers = (2.0 ** math.floor(math.log2(span / part)) if span > 0 else 1.0 for part in (24, 6, 2))
    return tuple(max(1, int(power)) if whole else power for power in powers)  # type: ignore[return-value]


def _role_keys(user: str | None, item: str | None) -> list[tuple[str, ...]]:
    """User, item, and both together, as far as they are there."""
    roles = [name for name in (user, item) if name is not None]
    return [(name,) for name in roles] + ([tuple(roles)] if len(roles) == 2 else [])


def _types(log: EventLog, labels: Sequence[str]) -> tuple[list[Any], Any]:
    """Event types that are asked for, the most frequent first, and of those called like a label the rarest."""
    named = [kind for kind in log.event_types if kind in labels][-MAX_TYPES:]
    others = [kind for kind in log.event_types if kind not in named][: MAX_TYPES - len(named)]
    types = [kind for kind in log.event_types if kind in (*named, *others)]
    return types, (named or types)[-1] if len(types) > 1 else None


def _amounts(log: EventLog, deepest: Any, shared: Sequence[str]) -> list[tuple[str, str | None, Any]]:
    """What is measured, as (statistic, column, event type): sum and mean of the log's value, shares of flags, means.

    Of the deepest type, and of all events where others have amounts too: a return is deeper than the sale.
    """
    value = log.roles.get("value")
    measured: list[tuple[str, str | None]] = [] if value is None else [("sum", None), ("mean", None)]
    others = [name for name in log.columns if name not in {*log.roles.values(), *shared} and _is_amount(log, name)]
    for name in others[: 3 if deepest is None else 1]:
        found = pd.unique(log.column(name)[-SAMPLE:])
        measured.append(("rate" if set(found[~pd.isna(found)].tolist()) <= {0, 1} else "mean", name))
    chosen: list[tuple[str, str | None, Any]] = [(stat, name, deepest) for stat, name in measured]
    if deepest is not None:
        chosen += [(stat, name, None) for stat, name in measured if _varies(log, deepest, name or value)]
    return chosen


def _varies(log: EventLog, deepest: Any, name: Any) -> bool:
    """Whether events of other types than the deepest have amounts that differ within an item, so are not its price."""
    codes, types = log.encode(log.roles["event"])
    amounts = as_floats(log.column(name))
    if amounts is None:
        return False
    kept = (codes != types.get_indexer(pd.Index([deepest]))[0]) & np.isfinite(amounts)
    kept[:-SAMPLE] = False
    items, found = log.encode(log.roles["item"])[0][kept], pd.Series(amounts[kept])
    within = found - found.groupby(items).transform("mean")
    freedom = len(found) - len(np.unique(items))
    return freedom > 0 and (within**2).sum() / freedom > PRICE_SPREAD * found.var()


def _side_keys(log: EventLog, columns: Sequence[str], user: str | None, item: str | None) -> list[tuple[str, ...]]:
    """Shared columns as keys: an item's attribute with the user, a user's with the item, a context with both."""
    by_size = sorted(columns, key=lambda name: -len(log.encode(name)[1]))
    keys: list[tuple[str, ...]] = []
    for name in by_size:
        mine, its = user and _determines(log, user, name), item and _determines(log, item, name)
        keys += [(user, name)] if user and not mine else []
        keys += [(item, name)] if item and not its else []
        keys += [(name,)] if not (user or item) else []
    return keys


def _determines(log: EventLog, role: str, name: str) -> bool:
    """Whether a user (item) nearly always comes with the same value: then it is an attribute of the user (item)."""
    codes, values = (log.encode(column)[0][-SAMPLE:] for column in (role, name))
    pairs = len(np.unique(codes * (values.max(initial=0) + 2) + values))
    return pairs <= 1.1 * len(np.unique(codes))


def _is_moderate(log: EventLog, name: str) -> bool:
    if log.column(name).dtype.kind not in "Obiu":
        return False
    values = log.encode(name)[1]
    return 2 <= len(values) <= MAX_CATEGORIES and _held(values) not in _INEXACT | _TIMES


def _is_amount(log: EventLog, name: str) -> bool:
    """Whether a column is one of numbers that do not rise with time, as numbers of orders, years and stamps do."""
    numbers = as_floats(log.column(name)[-SAMPLE:])
    if numbers is None:
        return False
    known = numbers[~np.isnan(numbers)]
    if len(known) < 3 or len(np.unique(known)) < 3:
        return True
    return bool(pd.Series(known).rank().corr(pd.Series(np.arange(len(known)))) < RISING)


def _categories(X: pd.DataFrame, taken: Collection[str | None]) -> list[str]:
    """Columns of texts and categories of moderate number, the finest first."""
    sizes = {str(name): _n_values(X[name]) for name in X.columns if name not in taken and _is_category(X[name])}
    return [name for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]) if 2 <= size <= MAX_CATEGORIES]


def _n_values(column: pd.Series) -> int:
    try:
        return int(column.nunique())
    except TypeError:  # of lists or dicts, which are no keys
        return 0


def _is_category(column: pd.Series) -> bool:
    """Whether a column is one of texts or categories, whatever type holds it."""
    if column.dtype == object:
        return _held(column) not in _INEXACT | _TIMES | {"integer", "boolean"}
    return isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column.dtype)


def _held(values: Any) -> str:
    """What values are, as objects too: drivers of databases give dates and decimals as such."""
    return pd.api.types.infer_dtype(values, skipna=True)
