"""Joint descent for several tasks: a checkpoint per task, weights that follow the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.random import generator
from mtl_classic._core.task_weights import dynamic_weights, uncertainty_weights
from mtl_classic.factorization._descent import Judge, refuse_divergence, start_parameters
from mtl_classic.factorization._epochs import OutputsEpoch
from mtl_classic.factorization._losses import mean_loss
from mtl_classic.factorization._outputs import TaskOutput
from mtl_classic.factorization._problem import Parameters, Problem
from mtl_classic.factorization._settings import Settings, StepRules

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class JointReport:
    """The parameters of the passes that were the best for some task, the best pass of each task, all losses."""

    checkpoints: dict[int, Parameters]
    best: list[int]
    losses: list[list[float]]


def descend_jointly(
    solver: StepRules, training: Problem, validation: Problem | None, outputs: Sequence[TaskOutput],
    parameters: Parameters, settings: Settings, task_weights: Array | str, anchor: int,
) -> JointReport:  # fmt: skip
    """Fit all tasks; each keeps the pass that was the best for it, and the fit stops when none improves."""
    start_parameters(solver, training, parameters, settings, validation)
    epoch = OutputsEpoch(solver, training, parameters, settings, generator(settings.seed, "descent"), anchor)
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


def pass_jointly(
    solver: StepRules, problem: Problem, outputs: Sequence[TaskOutput], parameters: Parameters, settings: Settings,
    task_weights: Array | str, losses: list[list[float]], anchor: int,
) -> None:  # fmt: skip
    """Take one pass over new rows; `losses` are those of the passes before, and of these rows before this one."""
    epoch = OutputsEpoch(solver, problem, parameters, settings, generator(settings.seed, "descent"), anchor)
    set_importance(epoch, outputs, task_weights, losses)
    epoch.run()
    refuse_divergence(parameters, [])


def losses_of_tasks(problem: Problem, outputs: Sequence[TaskOutput], scores: Mapping[str, Array]) -> list[float]:
    """Return the mean loss of every task, whose own scores are given; NaN without labels."""
    losses = []
    for output in outputs:
        part = slice(output.start, output.start + output.width)
        weights = problem.weights[:, part if output.loss == "softmax" else output.start]
        losses.append(mean_loss(output.loss, scores[output.name], output.of(problem.targets), weights))
    return losses


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
    """Set the weights of the tasks in the coming pass; those that follow the losses begin with equal ones."""
    if not isinstance(task_weights, str):
        each = task_weights
    elif task_weights == "uncertainty":
        each = uncertainty_weights(np.array(losses[-1]))
    elif len(losses) > 2:
        each = dynamic_weights(np.array(losses[-1]), np.array(losses[-2]))
    else:
        each = np.ones(len(outputs))
    for weight, output in zip(each, outputs, strict=True):
        epoch.importance[output.start : output.start + output.width] = weight
