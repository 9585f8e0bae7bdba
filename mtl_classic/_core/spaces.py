"""Scores of funnel children about all rows, and about those whose condition holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, fitting_order

__all__ = ["Scores", "condition_probability", "hold_monotone", "to_conditional"]

Floats = npt.NDArray[np.float64]
Scores = dict[str, Floats]


def condition_probability(task: Task, tasks: Sequence[Task], classes: Classes, entire: Scores) -> Floats:
    """P(the condition of a funnel child holds), from the entire-space scores of its ancestors.

    A binary parent's own probability; for a class of a multiclass parent the probability of the class times that of
    the parent's own condition, because multiclass scores are conditional.
    """
    by_name = {t.name: t for t in tasks}
    parent = by_name[str(task.parent)]
    if parent.kind == "binary":
        return entire[parent.name]
    labels = classes[parent.name]
    is_class = np.array([label == task.parent_class for label in ([] if labels is None else labels.tolist())])
    probability: Floats = entire[parent.name] @ is_class
    if parent.parent is not None:
        probability = probability * condition_probability(parent, tasks, classes, entire)
    return probability


def hold_monotone(tasks: Sequence[Task], classes: Classes, entire: Scores) -> Scores:
    """Lower binary children to their parent where they exceed it: P(child) ≤ P(parent) always."""
    held = dict(entire)
    for task in fitting_order(tasks):
        if task.parent is not None and task.kind == "binary":
            held[task.name] = np.minimum(held[task.name], condition_probability(task, tasks, classes, held))
    return held


def to_conditional(tasks: Sequence[Task], classes: Classes, entire: Scores) -> Scores:
    """Entire-space scores of a structure that has no conditional models, divided by the parent's probability."""
    conditional = dict(entire)
    for task in tasks:
        if task.parent is None or task.kind in ("multiclass", "ranking"):
            continue
        p = np.maximum(condition_probability(task, tasks, classes, entire), 1e-12)
        ratio = entire[task.name] / p
        conditional[task.name] = np.clip(ratio, 0.0, 1.0) if task.kind == "binary" else ratio
    return conditional
