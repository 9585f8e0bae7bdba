"""When labels are known: a task's delay after its row, in the unit of the time axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic._core.time import time_dtype, to_duration

__all__ = ["check_delays", "label_delays", "longest_delay"]


def label_delays(tasks: Iterable[Task], axis: Any) -> dict[str, int | float]:
    """How long after the row's time each label is known.

    A child is known no sooner than its parent, which makes it 0 if negative.

    Parameters
    ----------
    tasks : iterable of Task
    axis : dtype
        Of the time axis.
    """
    delays: dict[str, int | float] = {}
    for task in fitting_order(tasks):
        own = 0 if task.delay is None else to_duration(task.delay, axis, f"delay of {task.name!r}")
        delays[task.name] = max(own, delays[task.parent]) if task.parent is not None else own
    return delays


def longest_delay(tasks: Iterable[Task], time: Any) -> int | float:
    """The longest delay of the tasks, on the axis of the values of ``time``; 0 without time."""
    return 0 if time is None else max(label_delays(tasks, time_dtype(time)).values(), default=0)


def check_delays(tasks: Iterable[Task], time: str | None) -> None:
    """Refuse delays that are counted from a time that nobody has named."""
    delayed = [f"{task.name!r} ({task.delay})" for task in tasks if task.delay is not None]
    if delayed and time is None:
        raise RoleError(
            f"A delay is counted from the time of a row, and no time column is named: {', '.join(delayed)}. Name it "
            f"(time=), or leave the delay out where every label is final."
        )
