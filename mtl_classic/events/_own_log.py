"""Without an event log the rows that are fitted are the log: each row, and each label once it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.delays import label_delays
from mtl_classic._core.targets import Targets
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import is_datetime, time_dtype, to_time
from mtl_classic.events._aggregate import Aggregate
from mtl_classic.events._log import EventLog

ROW = "row"  # the event type of the rows themselves
EVENT, VALUE = "__event__", "__value__"
MAX_CLASSES = 8


def log_of_rows(X: pd.DataFrame, targets: Targets | None, *, time: str, columns: Sequence[str]) -> EventLog:
    """The log of the fitted rows.

    Each row is an event of the type "row" at its time; each label is an event of the type of its task (`task=class`
    per class of a multiclass task of at most eight classes) at the row's time plus the longest `delay` of the task and
    its ancestors, with the label (entire view) as value. Labels that are NaN never enter.
    """
    axis = to_time(X[time], time)
    names = [ROW]
    parts = [_events(X, columns, time, axis, np.full(len(X), np.nan), np.ones(len(X), dtype=bool))]
    if targets is not None:
        delays = label_delays(targets.tasks, time_dtype(X[time]))
        for task in targets.tasks:
            known_at = axis + np.asarray(delays[task.name])
            for name, label in label_columns(task, targets):
                names.append(name)
                parts.append(_events(X, columns, time, known_at, label, ~np.isnan(label)))
    sizes = [len(part) for part in parts]
    frame = pd.concat(parts, ignore_index=True)
    parts.clear()
    frame.insert(frame.shape[1] - 1, EVENT, _categories(names, sizes))  # before the value
    dtype = time_dtype(X[time])
    if is_datetime(dtype):
        stamps = pd.Series(frame[time].to_numpy().view("datetime64[ns]"))
        zone = getattr(dtype, "tz", None)
        frame[time] = stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    some_key = columns[0]  # a log needs both roles; the history asks for its keys by name
    return EventLog(frame, user=some_key, item=some_key, time=time, event=EVENT, value=VALUE)


def label_columns(task: Task, targets: Targets) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """Event types and values of a task's labels: itself, or one indicator per class."""
    label = targets.view(task.name)
    classes = targets.classes[task.name]
    if task.kind != "multiclass":
        return [(task.name, label)]
    if classes is None or len(classes) > MAX_CLASSES:
        return []
    return [
        (f"{task.name}={value}", np.where(np.isnan(label), np.nan, (label == code).astype(np.float64)))
        for code, value in enumerate(classes)
    ]


def on_own_log(aggregate: Aggregate, labels: Sequence[str]) -> Aggregate:
    """The aggregate on the log of the rows, where "all events" would mix rows and labels.

    Without `where`, statistics of values of the rows and counts mean the rows; label statistics mean the only task.
    A rate of a task without `value` is the smoothed mean of its labels.
    """
    of_labels = aggregate.value is None and aggregate.stat in ("sum", "mean", "rate")
    where = aggregate.where
    if where is None:
        if of_labels and len(labels) != 1:
            raise ValueError(
                f"{aggregate.name}: without an event log say which label it is about: where= one of {list(labels)}."
            )
        where = labels[0] if of_labels else ROW
    if aggregate.stat == "rate" and aggregate.value is None and aggregate.per is None and where in labels:
        return replace(aggregate, where=where, value=VALUE)
    return replace(aggregate, where=where)


def _events(
    X: pd.DataFrame,
    columns: Sequence[str],
    time: str,
    times: npt.NDArray[Any],
    value: npt.NDArray[np.float64],
    rows: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    part = X.loc[rows, [name for name in columns if name != time]].reset_index(drop=True)
    part[time], part[VALUE] = times[rows], value[rows]
    return part


def _categories(names: Sequence[str], sizes: Sequence[int]) -> pd.Series[str]:
    """Each name so many times."""
    codes, distinct = pd.factorize(pd.Index(names))
    return pd.Series(pd.Categorical.from_codes(np.repeat(codes, sizes), distinct))
