"""Machines of single tasks, and which of them the joint one is worse than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.losses import losses
from mtl_classic._core.random import generator, spawn_seed
from mtl_classic.factorization._descent import descend_validated
from mtl_classic.factorization._outputs import TaskOutput
from mtl_classic.factorization._problem import Parameters, Problem, Rows
from mtl_classic.factorization._settings import Settings
from mtl_classic.factorization._solvers import StochasticSolver
from mtl_classic.metrics import compare

Array = npt.NDArray[Any]


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


def fit_alone(
    solver: StochasticSolver, training: Problem, validation: Problem, outputs: Sequence[TaskOutput],
    settings: Settings, n_factors: int,
) -> dict[str, Parameters]:  # fmt: skip
    """Fit a machine to each task that has labels to learn and labels to stop by."""
    alone = {}
    for output in outputs:
        ours, check = own_problem(training, output), own_problem(validation, output)
        if not check.n_rows or not ours.n_rows:
            continue
        single = output.loss != "softmax"
        parameters = Parameters(
            training.X.shape[1], n_factors if single else 0, solver.n_slots,
            n_outputs=None if single else output.width, n_private=0 if single else n_factors,
        )  # fmt: skip
        own, rng = own_randomness(settings, output)
        descend_validated(solver, ours, check, parameters, own, rng)
        alone[output.name] = parameters
    return alone


def pass_alone(
    solver: StochasticSolver, problem: Problem, output: TaskOutput, parameters: Parameters, settings: Settings
) -> None:
    """Take one pass over the new rows that have a label of the task."""
    own, rng = own_randomness(settings, output)
    descend_validated(solver, own_problem(problem, output), None, parameters, own, rng)


def own_randomness(settings: Settings, output: TaskOutput) -> tuple[Settings, np.random.Generator]:
    """Return the settings with a task's own seed, and the generator of its passes."""
    seed = spawn_seed(settings.seed, output.name)
    return replace(settings, seed=seed), generator(seed, "descent")


def find_harm(
    validation: Problem, outputs: Sequence[TaskOutput], kinds: Mapping[str, str], joint: Mapping[str, Array],
    alone: Mapping[str, Parameters], *, users: Array | None, level: float, seed: int,
) -> dict[str, str]:  # fmt: skip
    """Return the tasks that the joint machine, whose scores are given, predicts worse than their own one, and why."""
    rows, of_joint, of_own, weights = Rows.read(validation.X, validation.interactions), {}, {}, {}
    for output in outputs:
        if output.name not in alone:
            continue
        weights[output.name] = validation.weights[:, output.start]
        y = np.where(weights[output.name] > 0, _numbers(output, validation.targets), np.nan)
        raw = alone[output.name].scores(rows, validation.interactions)
        of_joint[output.name] = losses(kinds[output.name], y, output.expectation(joint[output.name]))
        of_own[output.name] = losses(kinds[output.name], y, output.expectation(raw))
    table = compare(of_joint, of_own, clusters=users, sample_weight=weights, level=level, random_state=seed)
    return {
        str(name): (
            f"the joint fit's validation loss {row['value']:.5g} is above {row['baseline']:.5g}, that of the task alone"
        )
        for name, row in table.iterrows()
        if row["verdict"] == "worse"
    }


def _numbers(output: TaskOutput, targets: Array) -> Array:
    """The labels as `losses` wants them: codes of classes, numbers on their own scale."""
    own = output.of(targets).astype(np.float64)
    return own.argmax(axis=1).astype(np.float64) if output.loss == "softmax" else own * output.scale + output.mean
