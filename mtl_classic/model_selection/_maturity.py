"""Labels that are known only some time after their row: which are mature, and folds that respect the delay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.delays import label_delays, longest_delay
from mtl_classic._core.exceptions import FoldError, LabelError
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import is_datetime, time_dtype, to_duration, to_time
from mtl_classic.model_selection._dealing import group_codes
from mtl_classic.model_selection._folds import FoldPlan, Temporal, make_folds

__all__ = ["mask_immature", "temporal_folds"]


def mask_immature(
    labels: pd.DataFrame, tasks: tuple[Task, ...], time: Any, end: Any = None, *, all_may_go: bool = False
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Labels with NaN where their delay was not over at the ``end``.

    Parameters
    ----------
    labels : DataFrame of n rows
        Columns named like the tasks, or in their order.
    tasks : tuple of Task
    time : array of shape (n,)
        Time of each row.
    end : time, default=None
        When observation ended; None is the time of the last row.
    all_may_go : bool, default=False
        Whether a task may be left without a label.

    Returns
    -------
    labels : DataFrame
        A copy, if anything changed.
    n_immature : dict task -> int
        Labels taken away, for the tasks that have a delay.

    Raises
    ------
    LabelError
        If no label of a task is left, unless all may go.
    """
    delays = {name: delay for name, delay in label_delays(tasks, time_dtype(time)).items() if delay > 0}
    if not delays:
        return labels, {}
    stamps = to_time(time)
    last = stamps.max() if end is None else to_time(pd.Series([end]))[0]
    by_name = {task.name for task in tasks} <= set(labels.columns)
    counts = {}
    masked = labels.copy(deep=False)
    for j, task in enumerate(tasks):
        if task.name not in delays:
            continue
        column = task.name if by_name else labels.columns[j]
        immature = stamps + delays[task.name] > last
        counts[task.name] = int((labels[column].notna() & immature).sum())
        masked[column] = labels[column].where(~immature)
        if not all_may_go and masked[column].isna().all():
            raise LabelError(
                f"No label of {task.name!r} is mature: the log (without one: the rows) ends before the delay is over "
                f"for any row; give a log that reaches further, or earlier rows."
            )
    return masked, counts


def temporal_folds(cv: Any, Y: Any, tasks: Iterable[Task], time: Any, *, groups: Any = None) -> FoldPlan:
    """Folds in time with a gap of at least the longest delay.

    An int ``cv`` is the most that there may be: a gap that swallows the first block makes the blocks fewer and larger.
    A query that lives on into a block belongs to it, as where boosters stop.
    """
    gap = longest_delay(tasks, time)
    if groups is not None:
        time = _of_last_row(time, group_codes(groups))
    if isinstance(cv, Temporal):
        own = 0 if cv.gap is None else to_duration(cv.gap, time_dtype(time), "gap")
        return make_folds(Temporal(cv.n_splits, _duration(max(gap, own), time)), Y, groups=groups, time=time)
    if int(cv) < 2:
        raise FoldError(f"cv must be at least 2 folds, a splitter or a column of fold numbers, got {cv!r}.")
    for n_splits in range(min(int(cv), len(pd.unique(pd.Series(time))) - 1), 1, -1):
        try:
            return make_folds(Temporal(n_splits, _duration(gap, time)), Y, groups=groups, time=time)
        except FoldError:
            continue
    return make_folds(Temporal(1, _duration(gap, time)), Y, groups=groups, time=time)


def _of_last_row(time: Any, codes: Any) -> pd.Series[Any]:
    """The time of the last row of each row's group."""
    times = pd.Series(time)
    order = np.argsort(to_time(times), kind="stable")
    last = np.empty(codes.max(initial=-1) + 1, dtype=np.intp)
    last[codes[order]] = order
    return times.iloc[last[codes]]


def _duration(gap: int | float, time: Any) -> Any:
    return pd.Timedelta(int(gap), "ns") if is_datetime(time_dtype(time)) else gap
