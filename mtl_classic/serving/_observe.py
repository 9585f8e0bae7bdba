"""Telling the steps of a pipeline of new events."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from threading import RLock
from typing import Any

from mtl_classic.events import HistoryFeatures
from mtl_classic.factorization import MatrixFactorization

__all__ = ["OBSERVING", "own_step", "tell"]

OBSERVING = RLock()  # a log is read, appended to and replaced: of two threads at once, the events of one would be lost


def own_step(step: Any) -> Any:
    """A copy that events move without moving the step of another model; what no event moves is shared."""
    if not hasattr(step, "observe"):
        return step
    return copy(step) if isinstance(step, HistoryFeatures) else deepcopy(step)  # a log is never changed, only replaced


def tell(steps: Iterable[Any], events: Any, y: Any) -> None:
    """Let the steps observe: copies, that take the place of the old ones when all of them have.

    Labels are for history that is made of the fitted rows.

    Raises
    ------
    ValueError
        On labels that no step reads, or rows without those that one does.
    """
    moved = [step for step in steps if hasattr(step, "observe") and not _learnt_from_labels(step)]
    of_rows = [step for step in moved if getattr(step, "own_", False)]
    if of_rows and y is None:
        raise ValueError(
            "The history of this model is made of the rows that it was fitted on (there was no events=): give new rows "
            "and their labels, observe(X, y), NaN where they are not known."
        )
    if y is not None and not of_rows:
        raise ValueError("y is for models whose history is made of the fitted rows; this one is told of events alone.")
    new = _new_to_factors(events, moved)
    for step in moved:
        if step in of_rows:
            step.observe(events, y)
        else:
            step.observe(events if isinstance(step, HistoryFeatures) else new)


def _new_to_factors(events: Any, steps: Iterable[Any]) -> Any:
    """Where a file left out the events of the log, the later ones alone: factors in it hold those that it left out."""
    for step in steps:
        if isinstance(step, HistoryFeatures) and not step.own_ and step.log_._left_out_to is not None:
            whole = step.log_.append(events)
            return whole._after(step.log_._left_out_to)
    return events


def _learnt_from_labels(step: Any) -> bool:
    """Whether its factors are of labels, which events do not move, as those inside of `LatentFeatures`."""
    return isinstance(step, MatrixFactorization) and not step._event_roles
