"""Stochastic descent: rows in shuffled blocks, epochs until the validation rows stop improving."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.random import generator, spawn_seed
from mtl_classic.factorization._epochs import Epoch, make_epoch
from mtl_classic.factorization._latest import calibrate, latest_units, rescale
from mtl_classic.factorization._losses import bias_start, class_bias_start, mean_loss
from mtl_classic.factorization._machines import join_machines, split_machine
from mtl_classic.factorization._pairs import has_pairs, sample_pairs
from mtl_classic.factorization._problem import Parameters, Problem, Rows
from mtl_classic.factorization._settings import Report, Settings, StepRules

Array = npt.NDArray[Any]
# Validation losses of fewer rows are mostly noise: then all rows are trained on, for max_iter epochs.
FEWEST_VALIDATION_ROWS = 25


def descend(solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings) -> Report:
    """Fit the parameters; with validation rows those of the best epoch are kept."""
    rng = generator(settings.seed, "descent")
    training, validation, _ = split_validation(problem, settings, rng)
    return descend_validated(solver, training, validation, parameters, settings, rng)


def descend_validated(
    solver: StepRules, training: Problem, validation: Problem | None, parameters: Parameters, settings: Settings,
    rng: np.random.Generator,
) -> Report:  # fmt: skip
    """Fit the parameters on some rows and stop by others, if there are any.

    Members of an average take their passes side by side, and stop together, by the loss of their mean score. Where
    rows have times, the validation rows are the latest: they then tell the scale of the scores, and are learnt too.
    """
    members = split_machine(parameters, 1 if settings.resume else settings.n_members)
    epochs = _start_members(solver, training, members, settings, rng)
    if validation is None:
        for epoch in epochs:
            for _ in range(settings.max_iter):
                epoch.run()
        report = Report(settings.max_iter)
    else:
        judge = Judge(validation, settings.seed)
        report = _descend_until_worse(epochs, members, judge, settings)
        if validation.time is not None:
            _learn_latest(solver, validation, judge.scores(*members), members, settings)
    for member in members:
        refuse_divergence(member, report.validation_losses)
    if len(members) > 1:
        join_machines(members, parameters)
    return report


def _start_members(
    solver: StepRules, problem: Problem, members: list[Parameters], settings: Settings, rng: np.random.Generator
) -> list[Epoch]:
    """Start each member with random numbers of its own; they share the rows' copy."""
    epochs: list[Epoch] = []
    for k, member in enumerate(members):
        own = replace(settings, seed=spawn_seed(settings.seed, f"member {k}")) if k else settings
        start_parameters(solver, problem, member, own)
        if k:
            epochs.append(epochs[0].for_member(member, own, generator(own.seed, "descent")))
        else:
            epochs.append(make_epoch(solver, problem, member, own, rng))
    return epochs


def _descend_until_worse(epochs: list[Epoch], members: list[Parameters], judge: Judge, settings: Settings) -> Report:
    losses, best, kept = [judge(*members)], 0, [member.copy() for member in members]
    while len(losses) <= settings.max_iter and len(losses) - 1 - best < settings.n_iter_no_change:
        for epoch in epochs:
            epoch.run()
        losses.append(judge(*members))
        if losses[-1] < losses[best] - settings.tol:
            best = len(losses) - 1
            for member, copy in zip(members, kept, strict=True):
                copy.restore(member)
    for member, copy in zip(members, kept, strict=True):
        refuse_divergence(member, losses)
        member.restore(copy)
    return Report(best, losses[1:])


def _learn_latest(
    solver: StepRules, latest: Problem, scores: Array, members: list[Parameters], settings: Settings
) -> None:
    """Take one pass over the latest rows, and give the scores the scale that was right for these before it."""
    shift, slope = calibrate(latest, scores)
    more = replace(settings, resume=True)
    for epoch in _start_members(solver, latest, members, more, generator(settings.seed, "latest")):
        epoch.run()
    for member in members:
        rescale(member, shift, slope)


def split_validation(
    problem: Problem, settings: Settings, rng: np.random.Generator
) -> tuple[Problem, Problem | None, Array]:
    """Return the training rows, the validation rows or None, and the numbers of these; a query is never split.

    The latest ones where rows have times, else random ones.
    """
    nobody = np.zeros(0, dtype=np.intp)
    if not settings.early_stopping:
        return problem, None, nobody
    units, unit = (
        (problem.n_rows, np.arange(problem.n_rows))
        if problem.query is None
        else (problem.query.max() + 1, problem.query)
    )
    count = round(settings.validation_fraction * units)
    if problem.time is None:
        drawn = np.zeros(units, dtype=bool)
        drawn[rng.permutation(units)[:count]] = True
    else:
        drawn = latest_units(problem.time, unit, count)
    held = drawn[unit]
    if held.sum() < FEWEST_VALIDATION_ROWS or not problem.weights[held].any() or not problem.weights[~held].any():
        return problem, None, nobody
    rows = np.flatnonzero(held)
    training, validation = problem.take(np.flatnonzero(~held)), problem.take(rows)
    if any(part.query is not None and not has_pairs(part.targets, part.query) for part in (training, validation)):
        return problem, None, nobody
    return training, validation, rows


def start_parameters(
    solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings, others: Problem | None = None
) -> None:
    """Draw the factors of columns not seen before, N(0, init_scale), and start their slots.

    Start biases, mixers and shares unless the fit goes on; `others` are rows for `start_biases`.
    """
    factor_rule, linear_rule = solver.rules(solver.rate(settings), parameters.dtype.type)
    present = np.zeros(parameters.n_columns, dtype=bool)
    present[problem.X.indices] = True
    new = np.flatnonzero(present & ~parameters.seen)
    rng = generator(settings.seed, "factors", parameters.clock)
    factors = np.zeros((len(new), parameters.n_slots, parameters.width), dtype=parameters.dtype)
    factors[:, 0, parameters.live] = rng.normal(0, settings.init_scale, (len(new), int(parameters.live.sum())))
    linear = np.zeros((len(new), parameters.n_slots, parameters.output_width), dtype=parameters.dtype)
    solver.start(factors, factor_rule)
    solver.start(linear, linear_rule)
    parameters.factor_slots[new], parameters.linear_slots[new] = factors, linear
    parameters.seen[new] = True
    if not settings.resume:
        outputs = parameters.n_outputs or 1
        parameters.bias_slots[0, :outputs] = start_biases(problem, others)
        parameters.mixer_slots[:, 0, : parameters.n_factors] = 1
        solver.start(parameters.bias_slots, linear_rule)
        solver.start(parameters.mixer_slots, factor_rule)
        parameters.share_slots[0, :outputs] = 1
        solver.start(parameters.share_slots, linear_rule)


def start_biases(problem: Problem, others: Problem | None) -> Array:
    """Return the scores of the labels' means; of an output without labels, those of its labels in other rows."""
    if problem.targets.ndim == 1:
        return np.array([bias_start(problem.loss, problem.targets, problem.weights)])
    starts: list[Any] = []
    at = 0
    for loss, width in problem.loss:
        rows = problem if others is None or problem.weights[:, at].any() else others
        targets, weights = rows.targets[:, at : at + width], rows.weights[:, at : at + width]
        if loss == "softmax":
            starts.append(class_bias_start(targets, weights))
        else:
            starts.append([bias_start(loss, targets[:, 0], weights[:, 0])])
        at += width
    return np.concatenate(starts)


class Judge:
    """The mean loss of the validation rows; the sum over the losses where there are several."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.rows = problem, Rows.read(problem.X, problem.interactions)
        self.pairs = None
        if problem.query is not None:
            self.pairs = sample_pairs(problem.targets, problem.query, generator(seed, "validation pairs"))

    def scores(self, *members: Parameters) -> Array:
        """Return the members' mean score."""
        scores = members[0].scores(self.rows, self.problem.interactions)
        for member in members[1:]:
            scores = scores + member.scores(self.rows, self.problem.interactions)
        return scores / scores.dtype.type(len(members))

    def __call__(self, *members: Parameters) -> float:
        """Return the loss of the members' mean score; NaN where parameters are not finite any more."""
        return float(sum(self.each(*members)))

    def each(self, *members: Parameters) -> list[float]:
        """Return the losses one by one."""
        problem, scores = self.problem, self.scores(*members)
        if self.pairs is not None:
            first, second = self.pairs.T
            differences = scores[first] - scores[second]
            return [mean_loss("log", differences, np.ones(len(first)), problem.weights[first])]
        if problem.targets.ndim == 1:
            return [mean_loss(problem.loss, scores, problem.targets, problem.weights)]
        losses, at = [], 0
        for loss, width in problem.loss:
            part = slice(at, at + width) if loss == "softmax" else at
            losses.append(mean_loss(loss, scores[:, part], problem.targets[:, part], problem.weights[:, part]))
            at += width
        return losses


def refuse_divergence(parameters: Parameters, losses: list[float]) -> None:
    """Say so where the numbers have run away."""
    if not parameters.is_finite() or not np.isfinite(losses).all():
        raise ValueError(
            "The fit diverged: its parameters are no longer finite numbers. Scale the columns (scale=True), lower "
            "learning_rate, or raise the penalties."
        )
