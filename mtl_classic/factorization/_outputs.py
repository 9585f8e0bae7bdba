"""Labels of several tasks as outputs of one machine: what is learnt, by which loss, on which scale."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import ConstantTaskWarning, LabelError, TaskError, UnlabelledTaskError
from mtl_classic._core.targets import Classes, Targets, encode_targets, entire_weights
from mtl_classic._core.tasks import Task
from mtl_classic.factorization._draws import Scale
from mtl_classic.factorization._losses import to_mean
from mtl_classic.factorization._problem import Problem

Array = npt.NDArray[Any]
LOSSES = {"binary": "log", "regression": "squared", "count": "poisson", "multiclass": "softmax"}


@dataclass(frozen=True)
class TaskOutput:
    """Where a task's scores lie among the outputs, and what they mean: numbers are mean + scale · score."""

    name: str
    loss: str
    start: int
    width: int
    mean: float = 0.0
    scale: float = 1.0

    def of(self, scores: Array) -> Array:
        """Return the task's own scores, (n,), or (n, n_classes) for a softmax."""
        part = scores[:, self.start : self.start + self.width]
        return part if self.loss == "softmax" else part[:, 0]

    def expectation(self, scores: Array) -> Array:
        """Return what the task's own scores predict: probabilities, rates, numbers."""
        return to_mean(self.loss, scores.astype(np.float64)) * self.scale + self.mean

    def code(self, y: Array) -> Array:
        """Return labels as the loss wants them, (n, width)."""
        if self.loss == "softmax":
            return np.eye(self.width)[y.astype(np.intp)]
        return ((y - self.mean) / self.scale)[:, None]


def label_weights(targets: Targets, weights: Array | None) -> Array:
    """Return the weights of all labels in the entire view (n, n_tasks), 0 where one is missing."""
    for task in targets.tasks:
        if task.kind not in LOSSES:
            raise TaskError(
                f"Task {task.name!r} is of the kind {task.kind!r}, which MultiTaskFactorizationMachine does not learn; "
                f"it learns {', '.join(LOSSES)}. A ranking has FactorizationMachineRegressor(loss='bpr')."
            )
    classes = np.array([task.kind == "multiclass" for task in targets.tasks])
    known = ~np.isnan(targets.entire) & ~(classes & (targets.entire < 0))
    own = entire_weights(targets, weights)
    return np.where(known, 1.0 if own is None else own, 0.0)


def find_constants(targets: Targets, weights: Array) -> dict[str, Array]:
    """Return what tasks predict whose labels are all the same: a number, or a share per class; and warn of them."""
    constants = {}
    for k, task in enumerate(targets.tasks):
        y = targets.entire[weights[:, k] > 0, k]
        if len(y) and (y != y[0]).any():
            continue
        value, classes = float(y[0]) if len(y) else 0.0, targets.classes[task.name]
        found = f"all with the same label ({value:g})" if len(y) else "none of a weight above 0"
        warnings.warn(
            f"Task {task.name!r} has {len(y)} labelled rows, {found}; a constant is trained.",
            ConstantTaskWarning,
            stacklevel=4,
        )
        if task.kind == "multiclass" and classes is not None:
            constants[task.name] = np.eye(len(classes))[int(value)]
        else:
            constants[task.name] = np.asarray(value)
    return constants


def make_outputs(targets: Targets, weights: Array, constants: Container[str]) -> tuple[TaskOutput, ...]:
    """Return the outputs of the tasks that are no constants."""
    outputs: list[TaskOutput] = []
    for k, task in enumerate(targets.tasks):
        if task.name in constants:
            continue
        at = outputs[-1].start + outputs[-1].width if outputs else 0
        loss, classes, counted = LOSSES[task.kind], targets.classes[task.name], weights[:, k] > 0
        if loss == "softmax" and classes is not None:
            outputs.append(TaskOutput(task.name, loss, at, len(classes)))
            continue
        scale = Scale()
        if loss == "squared" and counted.any():
            scale = Scale.of(targets.entire[counted, k], weights[counted, k])
        outputs.append(TaskOutput(task.name, loss, at, 1, scale.mean, scale.deviation))
    return tuple(outputs)


def code_labels(targets: Targets, weights: Array, outputs: Sequence[TaskOutput]) -> tuple[Array, Array]:
    """Return targets and weights, float32 of shape (n, n_outputs); 0 where a label does not count."""
    columns, masks = [], []
    for output in outputs:
        k = targets.position(output.name)
        counted = weights[:, k] > 0
        columns.append(output.code(np.where(counted, targets.entire[:, k], output.mean)))
        masks.append(np.repeat(weights[:, [k]], output.width, axis=1))
    return np.hstack(columns).astype(np.float32), np.hstack(masks).astype(np.float32)


def labelled_rows(problem: Problem) -> Array:
    """Return the rows with a label of some task."""
    return np.flatnonzero((problem.weights > 0).any(axis=1))


def announced_classes(tasks: Sequence[Task], announced: Any) -> Classes:
    """Return the classes of the tasks that they were announced for: a dict task → labels, or those of the only task."""
    if announced is None:
        return {}
    if not isinstance(announced, Mapping):
        if len(tasks) > 1:
            raise TypeError(f"classes must be a dict task -> labels, because there are {len(tasks)} tasks.")
        announced = {tasks[0].name: announced}
    able = {task.name: replace(task, given=None) for task in tasks if task.is_classification and not task.is_soft}
    if unknown := [name for name in announced if name not in able]:
        raise TaskError(
            f"classes= names {', '.join(map(repr, unknown))}; the tasks with classes are {', '.join(able) or 'none'}."
        )
    frames = {name: pd.DataFrame({name: pd.Series(list(labels))}) for name, labels in announced.items()}
    return {name: encode_targets(frame, [able[name]]).classes[name] for name, frame in frames.items()}


def refuse_unlabelled(targets: Targets, weights: Array, announced: Container[str]) -> None:
    """Refuse first rows that do not say what a task's labels are like: the scale of numbers, the classes."""
    for k, task in enumerate(targets.tasks):
        if task.name not in announced and not (weights[:, k] > 0).any():
            raise UnlabelledTaskError(
                f"Task {task.name!r} has no label in the first {len(targets)} rows, which set the scale of numbers; "
                f"begin with rows that have one, or announce its classes=."
            )


def refuse_other_labels(targets: Targets, weights: Array, constants: Mapping[str, Array]) -> None:
    """Refuse labels that the rows before did not allow for: further classes, further values of constants."""
    for k, task in enumerate(targets.tasks):
        y, classes = targets.entire[:, k], targets.classes[task.name]
        if task.kind == "multiclass" and (y == -1).any() and classes is not None:
            raise LabelError(
                f"Task {task.name!r} has {int((y == -1).sum())} labels of classes that were not announced; expected "
                f"{', '.join(map(str, classes))}. The first partial_fit takes classes=."
            )
        if task.name in constants:
            constant = constants[task.name]
            value = float(constant.argmax() if constant.ndim else constant)
            if (y[weights[:, k] > 0] != value).any():
                raise LabelError(
                    f"The labels of task {task.name!r} were all the same at fit, which trained a constant; these "
                    f"differ, and there is nothing to go on from. Fit anew with rows of all labels."
                )
