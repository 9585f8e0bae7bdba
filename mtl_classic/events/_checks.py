"""What HistoryFeatures is given, checked before any work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.keys import are_of_other_kinds, key_kind
from mtl_classic._core.time import to_duration
from mtl_classic._core.validation import as_table
from mtl_classic.events._aggregate import KNOWN, Aggregate, as_conditions
from mtl_classic.events._column import as_numbers
from mtl_classic.events._log import EventLog


def as_rows(X: Any) -> pd.DataFrame:
    """X as a pandas frame with texts as column names."""
    table = as_table(X)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"history is keyed by columns with names, so X must be a frame; got {type(X).__name__}.")
    unnamed = [name for name in table.columns if not isinstance(name, str)]
    if unnamed:
        raise TypeError(f"columns must have texts as names; these do not: {unnamed[:5]}.")
    return table


def is_auto(aggregates: Any) -> bool:
    """Whether the aggregates are to be chosen; any other text, and what is no Aggregate, is refused."""
    if isinstance(aggregates, str):
        if aggregates != "auto":
            raise ValueError(f'aggregates must be "auto" or a list of Aggregate, got {aggregates!r}.')
        return True
    if isinstance(aggregates, Aggregate):
        raise TypeError("aggregates must be a list of Aggregate objects, got a single one; put it into a list.")
    if not isinstance(aggregates, Collection):
        raise TypeError(f'aggregates must be "auto" or a list of Aggregate objects, got {aggregates!r}.')
    strange = [type(aggregate).__name__ for aggregate in aggregates if not isinstance(aggregate, Aggregate)]
    if strange or not len(aggregates):
        raise TypeError(f"aggregates must be a list of Aggregate objects, got {strange or 'an empty list'}.")
    return False


def check_on_log(aggregates: Sequence[Aggregate], log: EventLog, lag: Any) -> None:
    """Refuse durations, columns and event types that make no sense for the log."""
    axis = np.dtype("datetime64[ns]") if log.is_datetime else log.time.dtype
    if lag is not None:
        to_duration(lag, axis, "lag")
    for aggregate in aggregates:
        for what, duration in (("window", aggregate.window), ("half_life", aggregate.half_life)):
            if duration is not None and not to_duration(duration, axis, f"{aggregate.name}: {what}") > 0:
                raise ValueError(f"{aggregate.name}: the {what} must be longer than zero, got {duration!r}.")
        for spec in (aggregate.where, aggregate.per):
            _check_filter(aggregate, spec, log)
        _check_value(aggregate, log)


def check_names(aggregates: Sequence[Aggregate], columns: Sequence[str]) -> None:
    """Refuse columns that would be made twice, or that X has already."""
    names = [aggregate.name for aggregate in aggregates]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two aggregates would make the same column: {repeated}; each aggregate once.")
    taken = sorted(set(names) & set(columns))
    if taken:
        raise ValueError(f"X already has columns of the names that are to be added: {taken}; rename or drop them.")


def _check_filter(aggregate: Aggregate, spec: Any, log: EventLog) -> None:
    if isinstance(spec, Mapping):
        missing = [column for column in spec if column not in log.columns]
        if missing:
            raise ValueError(f"{aggregate.name}: the log has no column {missing}; it has {list(log.columns)}.")
        for column, values in as_conditions(spec, None):
            if values != (KNOWN,):
                _check_kind(aggregate, column, pd.Index(values, dtype=object), log.encode(column)[1])
    elif spec is not None and spec not in log.event_types:
        known = f"its types are {list(log.event_types)}" if "event" in log.roles else "it has no event column"
        raise ValueError(f"{aggregate.name}: the log has no events of the type {spec!r}; {known}.")


def _check_kind(aggregate: Aggregate, column: str, asked: pd.Index[Any], known: pd.Index[Any]) -> None:
    """Refuse text in place of numbers, and the like, which no event would ever match."""
    kinds = key_kind(known), key_kind(asked.dropna())
    if are_of_other_kinds(*kinds) and not known.isin(asked).any():  # to pandas, 1 is True
        raise TypeError(f"{aggregate.name}: the column {column!r} of the log holds {kinds[0]}, the filter {kinds[1]}.")


def _check_value(aggregate: Aggregate, log: EventLog) -> None:
    if aggregate.value is None:
        if aggregate.stat in ("sum", "mean") and "value" not in log.roles:
            raise ValueError(f"{aggregate.name}: name a value= column, for the log has no value column of its own.")
    elif aggregate.value not in log.columns:
        raise ValueError(f"{aggregate.name}: the log has no column {aggregate.value!r}; it has {list(log.columns)}.")
    elif as_numbers(log.column(aggregate.value)) is None:
        raise TypeError(f"{aggregate.name}: the column {aggregate.value!r} of the log does not hold numbers.")
