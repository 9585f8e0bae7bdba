"""Without an event log the rows that are fitted are the log, with their labels as columns, known after their delay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.delays import label_delays
from mtl_classic._core.targets import Targets
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import is_datetime, time_dtype, to_time
from mtl_classic.events._aggregate import KNOWN, Aggregate
from mtl_classic.events._log import EventLog

ROW = "row"  # the event type of the rows themselves
MAX_CLASSES = 8


def log_of_rows(
    X: pd.DataFrame, targets: Targets | None, *, time: str, columns: Sequence[str], labels: Collection[str]
) -> EventLog:
    """The log of the fitted rows: an event each, with its labels (entire view, NaN where there is none) as columns."""
    axis, dtype = to_time(X[time], time), time_dtype(X[time])
    frame = X[[name for name in columns if name != time]].reset_index(drop=True)
    frame[time] = axis
    if is_datetime(dtype):
        stamps = pd.Series(axis.view("datetime64[ns]"))
        zone = getattr(dtype, "tz", None)
        frame[time] = stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    if targets is not None:
        told = (pair for task in targets.tasks for pair in _labels_of(task, targets, labels))
        made = {label_column(name): _narrow(label) for name, label in told}
        frame = pd.concat([frame, pd.DataFrame(made, copy=False)], axis=1)
    some_key = (*columns, time)[0]  # a log needs both roles; the history asks for its keys by name
    return EventLog(frame, user=some_key, item=some_key, time=time)


def label_names(task: Task, targets: Targets, asked: Collection[Any] = ()) -> list[str]:
    """What the labels of a task are called as event types: like the task, or `task=class`.

    Of more than eight classes these are the eight commonest, and those that are asked for.
    """
    names = _all_names(task, targets)
    if len(names) <= MAX_CLASSES:
        return names
    label = targets.view(task.name)
    counts = np.bincount(label[~np.isnan(label)].astype(np.intp), minlength=len(names))
    common = set(np.argsort(-counts, kind="stable")[:MAX_CLASSES].tolist())
    return [name for code, name in enumerate(names) if code in common or name in asked]


def _all_names(task: Task, targets: Targets) -> list[str]:
    if task.kind != "multiclass":
        return [task.name]
    classes = targets.classes[task.name]
    return [] if classes is None else [f"{task.name}={value}" for value in classes]


def label_column(name: str) -> str:
    """The column of the log that holds a label."""
    return f"__label__{name}"


def delays_of_labels(targets: Targets, axis: Any, labels: Collection[str]) -> dict[str, int | float]:
    """How long after its row a column of labels is known: the longest `delay` of the task and its ancestors."""
    delays = label_delays(targets.tasks, axis)
    named = {name: task.name for task in targets.tasks for name in _all_names(task, targets)}
    return {label_column(name): delays[named[name]] for name in labels}


def last_known(log: EventLog, delays: Mapping[str, int | float]) -> Any:
    """The time of the last row, or when the last label was known, if that is later; None if the log is empty."""
    if not log.n_events:
        return None
    times = [log.time[-1]]
    for column, delay in delays.items():
        if delay and len(known := np.flatnonzero(~np.isnan(log.column(column)))):
            times.append(log.time[known[-1]] + delay)
    return log._from_axis(np.asarray([max(times)])).iloc[0]


def on_own_log(aggregate: Aggregate, labels: Collection[str], columns: Collection[str]) -> Aggregate:
    """The aggregate on the log of the rows, where an event type is the rows of which a label is known, or all of them.

    A sum, mean or rate of a label without `value` is of its values; so is one of a `value` that is called like a label
    and like no column of the rows. Where there is but one label, sums and means without `value` mean that.
    """
    value, where = aggregate.value, aggregate.where
    if value in labels and value not in columns:
        value = label_column(str(value))
    elif value is None and aggregate.stat in ("sum", "mean", "rate") and aggregate.per is None:
        if not isinstance(where, Mapping) and where in labels:
            value, where = label_column(where), None
        elif aggregate.stat != "rate" and where != ROW:
            if len(labels) != 1:
                raise ValueError(
                    f"{aggregate.name}: without an event log say which label it is about: where= or value= one of "
                    f"{list(labels)}."
                )
            (label,) = labels
            value = label_column(label)
    filters = (_known(aggregate, spec, labels) for spec in (where, aggregate.per))
    return replace(aggregate, value=value, **dict(zip(("where", "per"), filters, strict=True)))


def _known(aggregate: Aggregate, spec: Any, labels: Collection[str]) -> Any:
    """A filter on columns of the log in place of an event type."""
    if spec is None or isinstance(spec, Mapping):
        return spec
    if spec == ROW:
        return {}
    if spec not in labels:
        raise ValueError(
            f"{aggregate.name}: there are no events of the type {spec!r}; without an event log the types are "
            f"{[ROW, *labels]}."
        )
    return {label_column(spec): KNOWN}


def _labels_of(task: Task, targets: Targets, labels: Collection[str]) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Names and values of those labels that are a task's: itself, or one indicator per class."""
    label = targets.view(task.name)
    unknown = np.isnan(label)
    for code, name in enumerate(_all_names(task, targets)):
        if name in labels:
            yield name, np.where(unknown, np.nan, label == code) if task.kind == "multiclass" else label


def _narrow(label: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The same numbers in half the memory, if they fit."""
    label = np.ascontiguousarray(label)
    with np.errstate(over="ignore"):
        half = label.astype(np.float32)
    return half if np.array_equal(half, label, equal_nan=True) else label
