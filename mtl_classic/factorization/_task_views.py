"""Scores of funnel children: never above the parent, and given the parent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, fitting_order

Array = npt.NDArray[Any]
Scores = dict[str, Array]


def entire_scores(tasks: Sequence[Task], classes: Classes, scores: Scores) -> Scores:
    """Lower binary children to their parent's probability where they exceed it."""
    held = dict(scores)
    for task in fitting_order(tasks):
        if task.parent is not None and task.kind == "binary":
            held[task.name] = np.minimum(held[task.name], parent_probability(task, tasks, classes, held))
    return held


def conditional_scores(tasks: Sequence[Task], classes: Classes, entire: Scores) -> Scores:
    """Divide children by their parent's probability; multiclass children are conditional already."""
    conditional = dict(entire)
    for task in tasks:
        if task.parent is None or task.kind == "multiclass":
            continue
        ratio = entire[task.name] / np.maximum(parent_probability(task, tasks, classes, entire), 1e-12)
        conditional[task.name] = np.clip(ratio, 0, 1) if task.kind == "binary" else ratio
    return conditional


def parent_probability(task: Task, tasks: Sequence[Task], classes: Classes, scores: Scores) -> Array:
    """Return P(the parent is what the task needs), (n,); a multiclass parent's counts times that of its own need."""
    parent = next(other for other in tasks if other.name == task.parent)
    if parent.kind == "binary":
        return scores[parent.name]
    code = np.flatnonzero(np.asarray(classes[parent.name]) == task.parent_class)[0]
    probability = scores[parent.name][:, code]
    return probability if parent.parent is None else probability * parent_probability(parent, tasks, classes, scores)
