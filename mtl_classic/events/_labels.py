"""label_from_events: what happened to each row within the horizon, as one column per task."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.delays import label_delays
from mtl_classic._core.exceptions import FunnelConflictWarning, RoleError, TaskError
from mtl_classic._core.tasks import Task, fitting_order, resolve_tasks
from mtl_classic._core.time import to_duration
from mtl_classic._core.validation import as_table, find_role
from mtl_classic.events._column import as_floats
from mtl_classic.events._keys import key_rows
from mtl_classic.events._log import EventLog
from mtl_classic.events._windows import sum_ahead

Floats = npt.NDArray[np.float64]
ROLES = ("user", "item", "time")
TOLERATED = 0.05  # share of a child's rows without its parent: a horizon always cuts some visits in two


@dataclass(frozen=True)
class _Source:
    """Where a label comes from: which events, how much each adds, and which events make it positive for a child."""

    weights: Floats | None
    events: npt.NDArray[np.bool_]


def label_from_events(
    rows: Any,
    log: EventLog,
    tasks: Iterable[Task] | Mapping[str, str],
    horizon: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    as_of: Any = None,
) -> pd.DataFrame:
    """Labels of rows from what happened to their user and item in [t, t + horizon).

    For each task the first rule that applies:

    1. the log has events of a type called like the task: binary = one happened, count = their number,
       regression = the sum of their `value`;
    2. the log has a column called like the task: binary = true (non-zero) in any event, count and regression = its sum,
       over the events of the parent (`given`) or all events;
    3. neither, but a parent: count = number, regression = sum of `value`, over the events of the parent.

    What happens at t itself counts. Where rows are events of the log themselves (purchases, of which we ask whether
    another follows), give them a time just after theirs, or each row is its own label.

    A child is 0 where its parent is 0 (the entire view); a warning tells where more than one in twenty of its rows are
    lost to that. Where the horizon or the delay, both from the row's time on (a child's delay is not shorter than its
    parent's), is not over at the end of the log, the label is NaN: it has not matured. NaN goes before 0: of a child
    too whose parent is 0.

    Parameters
    ----------
    rows : DataFrame of shape (n, n_columns)
    log : EventLog
    tasks : list of Task or dict of name to kind
        Of the kinds binary, count and regression.
    horizon : duration
        ``"1D"``, a timedelta, or a number on a numeric time axis.
    user, item, time : str, optional
        Columns of the rows; None: called as in the log.
    as_of : time, optional
        Up to when, inclusively, the log is complete; None: the time of its last event. Give it where times are rounded:
        a log of dates whose last date is complete knows more than the midnight of that date.

    Returns
    -------
    DataFrame of shape (n, n_tasks), float64
        Columns in the order of the tasks, the index of `rows`.

    Raises
    ------
    RoleError
        A role column that the rows do not have.
    TaskError
        A task that none of the rules can make, or of a kind that events do not define (multiclass, ranking).

    Warns
    -----
    FunnelConflictWarning
        Of children that often happened where the parent's label is 0.

    Notes
    -----
    O(n_events + n_rows) per task after one counting sort of the events that the rows ask for.

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic import Task
    >>> from mtl_classic.events import EventLog, label_from_events
    >>> events = pd.DataFrame({"user": [1, 1, 2, 2], "item": [7, 7, 7, 8], "week": [1, 1, 1, 3],
    ...                        "type": ["click", "buy", "click", "click"], "price": [0.0, 9.5, 0.0, 0.0]})
    >>> log = EventLog(events, user="user", item="item", time="week", event="type", value="price")
    >>> rows = pd.DataFrame({"user": [1, 2, 2, 2], "item": [7, 7, 8, 8], "week": [1, 1, 1, 3]})
    >>> tasks = [Task("click", "binary"), Task("buy", "binary", given="click"),
    ...          Task("spend", "regression", given="buy")]
    >>> label_from_events(rows, log, tasks, horizon=2)
       click  buy  spend
    0    1.0  1.0    9.5
    1    1.0  0.0    0.0
    2    0.0  0.0    0.0
    3    NaN  NaN    NaN
    """
    table = as_table(rows)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"rows must be a frame with the columns of the roles, got {type(rows).__name__}.")
    if not isinstance(log, EventLog):
        raise TypeError(f"log must be an EventLog, got {type(log).__name__}; wrap the frame: EventLog(frame, …).")
    resolved = resolve_tasks(tasks, None)
    axis = np.dtype("datetime64[ns]") if log.is_datetime else log.time.dtype
    sources = _find_sources(log, resolved)
    column = {role: _column(table, log, role, name) for role, name in zip(ROLES, (user, item, time), strict=True)}
    length = to_duration(horizon, axis, "horizon")
    if not length > 0:
        raise ValueError(f"the horizon must be longer than zero, got {horizon!r}.")
    keys = {role: (table[column[role]], log.roles[role]) for role in ("user", "item")}
    keyed = key_rows(log, table[column["time"]], keys)
    parts = [(source.events, source.weights) for source in sources.values()]
    sums = dict(zip(sources, sum_ahead(log, keyed, ("user", "item"), length, parts), strict=True))
    labels, orphans = _labels(resolved, sums)
    end = _end_of(log, as_of)
    for name, delay in label_delays(resolved, axis).items():
        labels[name][~_is_over(keyed.times, max(length, delay), end)] = np.nan
    _warn_of_orphans(resolved, labels, orphans)
    return pd.DataFrame({task.name: labels[task.name] for task in resolved}, index=table.index)


def _column(table: pd.DataFrame, log: EventLog, role: str, name: str | None) -> str:
    try:
        wanted = log.roles[role] if name is None else name
        return str(find_role(table.columns, wanted, role, index=table.index.names))
    except RoleError as error:
        raise RoleError(f"{error} Name the one of the rows by {role}=.") from None


def _find_sources(log: EventLog, tasks: tuple[Task, ...]) -> dict[str, _Source]:
    sources: dict[str, _Source] = {}
    for task in fitting_order(tasks):
        if task.kind not in ("binary", "count", "regression"):
            raise TaskError(
                f"the {task.kind} task {task.name!r} cannot be made from events, only binary, count and regression "
                "tasks can; leave it out here and add its column to Y."
            )
        sources[task.name] = _find_source(log, task, sources.get(task.parent or ""))
    return sources


def _find_source(log: EventLog, task: Task, parent: _Source | None) -> _Source:
    if task.name in log.event_types:
        codes, types = log.encode(log.roles["event"])
        return _Source(_amount(log, task), codes == types.get_loc(task.name))
    among = np.ones(log.n_events, dtype=bool) if parent is None else parent.events
    if task.name in log.columns:
        found = as_floats(log.column(task.name))
        if found is None:
            raise TaskError(f"the column {task.name!r} of the log holds texts; a label needs numbers or flags.")
        numbers = np.nan_to_num(found)
        happened = among & (numbers != 0)
        return _Source(None if task.kind == "binary" else numbers, happened)
    if parent is not None and task.kind != "binary":
        return _Source(_amount(log, task), among)
    known = ", ".join(map(str, log.event_types)) or "none"
    orphan = "" if parent is not None else ", and has no parent (given=)"
    raise TaskError(
        f"the task {task.name!r} is neither an event type of the log ({known}) nor one of its columns "
        f"({', '.join(log.columns)}){orphan}; rename the task, or add that column to the frame of the log."
    )


def _amount(log: EventLog, task: Task) -> Floats | None:
    """What an event adds: its value for a regression, else 1 (None)."""
    if task.kind != "regression":
        return None
    if "value" not in log.roles:
        raise TaskError(f"the regression task {task.name!r} sums the log's value; give one: EventLog(…, value=column).")
    return np.nan_to_num(log.column(log.roles["value"]).astype(np.float64))


def _labels(tasks: tuple[Task, ...], sums: Mapping[str, Floats]) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Labels, and of each child the rows where it happened without its parent, where its label is 0."""
    labels: dict[str, Floats] = {}
    orphans: dict[str, npt.NDArray[np.bool_]] = {}
    for task in fitting_order(tasks):
        label = (sums[task.name] > 0).astype(np.float64) if task.kind == "binary" else sums[task.name].copy()
        if task.parent is not None:
            orphans[task.name] = (label != 0) & (labels[task.parent] == 0)
            label[orphans[task.name]] = 0.0
        labels[task.name] = label
    return labels, orphans


def _warn_of_orphans(tasks: tuple[Task, ...], labels: Mapping[str, Floats], orphans: Mapping[str, Any]) -> None:
    found = []
    for task in (task for task in tasks if task.name in orphans):
        known = ~np.isnan(labels[task.name])
        lost = int((orphans[task.name] & known).sum())
        happened = lost + np.count_nonzero(labels[task.name][known])
        if lost > TOLERATED * happened:
            found.append(f"{task.name!r} in {lost} of {happened} rows where {task.parent!r} is 0")
    if found:
        warnings.warn(
            f"Tasks happened where the task on which they depend did not: {', '.join(found)}. These labels are 0, too. "
            f"Leave given= out of what happens without its parent; or out of the tasks that make the labels alone, and "
            f'fit with on_conflict="lift", which makes the parents positive.',
            FunnelConflictWarning,
            stacklevel=3,
        )


def _end_of(log: EventLog, as_of: Any) -> Any:
    """The last instant that the log knows, on its axis; None where it is empty."""
    if as_of is None:
        return log.time[-1] if log.n_events else None
    end = log._to_axis(as_of, "as_of")
    # Of 10.0 or 10.7 weeks a log of whole weeks knows the tenth; one of parts of weeks knows of 10 no more than 10.0.
    return math.floor(end) if log.time.dtype == np.int64 else float(end)


def _is_over(times: npt.NDArray[Any], length: int | float, end: Any) -> npt.NDArray[np.bool_]:
    """Whether [t, t + length) is over where the log ends: at `end`, or before the next integer if that is one."""
    if end is None:
        return np.zeros(len(times), dtype=bool)
    return np.asarray(times <= (int(end) - length + 1 if isinstance(end, int | np.integer) else end - length))
