"""Joint descent for several tasks: labels as outputs, a checkpoint per task, weights that follow the losses."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.exceptions import ConstantTaskWarning, TaskError
from mtl_classic._core.random import generator
from mtl_classic._core.targets import Targets
from mtl_classic._core.tasks import Task
from mtl_classic.factorization._descent import Judge, refuse_divergence, start_parameters
from mtl_classic.factorization._draws import Scale
from mtl_classic.factorization._epochs import OutputsEpoch
from mtl_classic.factorization._losses import to_mean
from mtl_classic.factorization._problem import Parameters, Problem, mean_one
from mtl_classic.factorization._settings import Settings, StepRules

Array = npt.NDArray[Any]
LOSSES = {"binary": "log", "regression": "squared", "count": "poisson", "multiclass": "softmax"}
# Temperature of dynamic weight averaging, as in its paper.
TEMPERATURE = 2.0


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


def label_weights(targets: Targets, weights: Array | None) -> Array:
    """Return the weights of all labels (n, n_tasks), float32: 0 where one is missing, 1 in the mean of the others."""
    for task in targets.tasks:
        if task.kind not in LOSSES:
            raise TaskError(
                f"Task {task.name!r} is of the kind {task.kind!r}, which MultiTaskFactorizationMachine does not learn; "
                f"it learns {', '.join(LOSSES)}. A ranking has FactorizationMachineRegressor(loss='bpr')."
            )
    classes = np.array([task.kind == "multiclass" for task in targets.tasks])
    known = ~np.isnan(targets.entire) & ~(classes & (targets.entire < 0))
    return mean_one(np.where(known, 1.0 if weights is None else weights, 0.0)).astype(np.float32)


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


def code_tasks(
    targets: Targets, weights: Array, constants: Container[str]
) -> tuple[tuple[TaskOutput, ...], Array, Array]:
    """Return the outputs of the tasks that are no constants, and targets and weights (n, n_outputs)."""
    outputs, columns, masks, at = [], [], [], 0
    for k, task in enumerate(targets.tasks):
        if task.name in constants:
            continue
        weight, classes = weights[:, k], targets.classes[task.name]
        y = np.where(weight > 0, targets.entire[:, k], 0.0)
        output, coded = _code(task, y, weight, at, 0 if classes is None else len(classes))
        outputs.append(output)
        columns.append(coded.reshape(len(y), output.width))
        masks.append(np.repeat(weight[:, None], output.width, axis=1))
        at += output.width
    return tuple(outputs), np.hstack(columns).astype(np.float32), np.hstack(masks)


def _code(task: Task, y: Array, weight: Array, at: int, n_classes: int) -> tuple[TaskOutput, Array]:
    loss = LOSSES[task.kind]
    if loss == "softmax":
        return TaskOutput(task.name, loss, at, n_classes), np.eye(n_classes)[y.astype(np.intp)]
    if loss == "squared":
        counted = weight > 0
        scale = Scale.of(y[counted], weight[counted]) if counted.any() else Scale()
        coded = np.where(counted, scale.apply(y), 0.0)
        return TaskOutput(task.name, loss, at, 1, scale.mean, scale.deviation), coded
    return TaskOutput(task.name, loss, at, 1), y


def own_problem(problem: Problem, output: TaskOutput) -> Problem:
    """Return the problem of one task on its labelled rows."""
    part = slice(output.start, output.start + output.width)
    targets, weights = problem.targets[:, part], problem.weights[:, part]
    single = output.loss != "softmax"
    alone = Problem(
        problem.X, targets[:, 0] if single else targets, weights[:, 0] if single else weights,
        output.loss if single else ((output.loss, output.width),), problem.interactions, problem.reg_factors,
        problem.reg_linear, None, problem.fields,
    )  # fmt: skip
    return alone.take(np.flatnonzero(weights[:, 0] > 0))


@dataclass(frozen=True)
class JointReport:
    """The parameters of the passes that were the best for some task, the best pass of each task, all losses."""

    checkpoints: dict[int, Parameters]
    best: list[int]
    losses: list[list[float]]


def descend_jointly(
    solver: StepRules, training: Problem, validation: Problem | None, outputs: Sequence[TaskOutput],
    parameters: Parameters, settings: Settings, task_weights: Array | str,
) -> JointReport:  # fmt: skip
    """Fit all tasks; each keeps the pass that was the best for it, and the fit stops when none improves."""
    start_parameters(solver, training, parameters, settings)
    rng, anchor = generator(settings.seed, "descent"), find_anchor(training, outputs)
    epoch = OutputsEpoch(solver, training, parameters, settings, rng, anchor)
    judge = Judge(training if validation is None else validation, settings.seed)
    losses, best = [judge.each(parameters)], [0] * len(outputs)
    checkpoints = {0: parameters.copy()}
    while len(losses) <= settings.max_iter:
        set_importance(epoch, outputs, task_weights, losses)
        epoch.run()
        if validation is None and isinstance(task_weights, np.ndarray):
            losses.append(losses[-1])  # nobody asks
        else:
            losses.append(judge.each(parameters))
        now = len(losses) - 1
        for k, loss in enumerate(losses[-1]):
            if validation is None or np.isnan(loss) or loss < losses[best[k]][k] - settings.tol:
                best[k] = now
        checkpoints = {at: kept for at, kept in checkpoints.items() if at in best}
        if now in best:
            checkpoints[now] = parameters.copy()
        judged = [b for b, loss in zip(best, losses[-1], strict=True) if not np.isnan(loss)]
        if validation is not None and now - max(judged, default=now) >= settings.n_iter_no_change:
            break
    refuse_divergence(parameters, [])
    return JointReport(checkpoints, best, losses)


def find_anchor(problem: Problem, outputs: Sequence[TaskOutput]) -> int:
    """Return the output with the most labels, whose interaction weights stay 1; -1 where there are only softmaxes.

    Without it factors could grow and interaction weights shrink, or the other way round, past any penalty. Names break
    ties, so that the order of the tasks does not matter.
    """
    count = {output: (problem.weights[:, output.start] > 0).sum() for output in outputs if output.width == 1}
    return max(count, key=lambda output: (count[output], output.name)).start if count else -1


def set_importance(
    epoch: OutputsEpoch, outputs: Sequence[TaskOutput], task_weights: Array | str, losses: list[list[float]]
) -> None:
    """Set the weights of the tasks in the coming pass.

    Uncertainty: 1 / loss, which minimizes Σ exp(−s) loss + s over the s. Dynamic: softmax of the last two losses' ratio
    over 2, so that tasks that improve slowly count more. Both are scaled to a mean of 1.
    """
    if isinstance(task_weights, str):
        latest = np.array(losses[-1])
        if task_weights == "uncertainty":
            raw = 1 / np.maximum(latest, 1e-3)
        elif len(losses) > 2:
            raw = np.exp(latest / np.maximum(losses[-2], 1e-12) / TEMPERATURE)
        else:
            raw = np.ones(len(latest))
        raw = np.where(np.isfinite(raw), raw, np.nan)
        each = np.nan_to_num(raw / np.nanmean(raw), nan=1.0) if np.isfinite(raw).any() else np.ones(len(raw))
    else:
        each = task_weights
    for weight, output in zip(each, outputs, strict=True):
        epoch.importance[output.start : output.start + output.width] = weight
