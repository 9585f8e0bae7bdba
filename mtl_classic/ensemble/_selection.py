"""Weights of members per task from out-of-fold scores: greedy selection, or convex weights of least loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from mtl_classic._core.base import Floats
from mtl_classic._core.losses import EPSILON, least_loss, losses, prior_scores, task_loss
from mtl_classic._core.tasks import Task
from mtl_classic.ensemble._links import scored_rows, to_average

__all__ = [
    "Problem",
    "check_costs",
    "choose_weights",
    "greedy_weights",
    "make_problem",
    "optimal_weights",
    "pull_of",
    "thinned",
]

GREEDY_STEPS = 40
PATIENCE = 6  # steps without gain before the selection ends
BUDGET_ROWS = 20_000  # rows enough to tell which member matters least
TOLERANCE = 1e-4  # of a solver, in units of the loss
PULL = 10.0  # rows
PULL_IN_TIME = 100.0  # chosen on rolling origins within hotel bookings: what is best of one window is so of fewer later


@dataclass(frozen=True)
class Problem:
    """One task's labelled, covered rows, with the members' scores on the scale of their average.

    Attributes
    ----------
    task : Task
    y : ndarray of shape (n,)
    parts : ndarray of shape (n_members, n) or (n_members, n, n_classes)
    weight : ndarray of shape (n,)
    groups : ndarray of shape (n,), or None
        Queries of a ranking.
    rows : ndarray of shape (n,)
        Positions among all rows.
    pull : float
        How strongly weights are pulled to uniform, in rows.
    """

    task: Task
    y: Floats
    parts: Floats
    weight: Floats
    groups: npt.NDArray[np.intp] | None
    rows: npt.NDArray[np.intp]
    pull: float

    def take(self, chosen: npt.NDArray[Any]) -> Problem:
        """Some of the rows."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(
            self,
            y=self.y[chosen],
            parts=self.parts[:, chosen],
            weight=self.weight[chosen],
            groups=groups,
            rows=self.rows[chosen],
        )

    def within(self, rows: npt.NDArray[np.intp]) -> Problem:
        """Those of the rows that are among the given positions."""
        return self.take(np.flatnonzero(np.isin(self.rows, rows)))

    def loss(self, mean: Floats) -> float:
        """Mean loss of an average."""
        if self.task.kind == "ranking":
            found = task_loss("ranking", self.y, mean, self.weight, self.groups)
            return 0.0 if np.isnan(found) else found
        score = np.exp(mean) if self.task.kind == "count" else mean
        return float(np.average(losses(self.task.kind, self.y, score), weights=self.weight))

    def distance(self, weights: Floats) -> float:
        """What weights cost for not being uniform, in units of `scale`: pull / n ‖w − 1/M‖²."""
        off = weights - 1 / len(weights)
        return self.pull / len(self.y) * float(off @ off)

    def scale(self, parts: Floats) -> float:
        """Loss of the uniform average, or of a constant if that is less: beside one member astray all are alike."""
        constant = self._loss_of_constant()
        return max(min(self.loss(parts.mean(axis=0)), constant), EPSILON * min(constant, 1.0))

    def _loss_of_constant(self) -> float:
        """Loss of the mean label; infinite where all labels are the same, and for rankings."""
        kind, shape = self.task.kind, self.parts.shape[1:]
        if kind == "ranking":
            return float("inf")
        constant = prior_scores(kind, self.y, shape[-1], self.weight)
        loss = float(np.average(losses(kind, self.y, np.broadcast_to(constant, shape)), weights=self.weight))
        return loss if loss > least_loss(kind) else float("inf")


def pull_of(shrinkage: float | None, temporal: bool) -> float:
    """The strength of the pull to uniform, where it is not given: more where the rows to come are later ones."""
    return shrinkage if shrinkage is not None else PULL_IN_TIME if temporal else PULL


def make_problem(
    task: Task,
    y: Floats,
    scores: Sequence[Floats],
    weight: Floats | None,
    groups: npt.NDArray[np.intp] | None,
    pull: float,
) -> Problem:
    """Keep the rows with a label, a weight and a score of every member."""
    known = ~np.isnan(y)
    if weight is not None:
        known &= weight > 0
    for values in scores:
        known &= scored_rows(values)
    rows = np.flatnonzero(known)
    parts = []
    for values in scores:
        mine = values[rows]
        parts.append(to_average(task.kind, mine, (float(mine.mean()), float(mine.std()) or 1.0) if len(rows) else None))
    chosen = np.ones(len(rows)) if weight is None else weight[rows]
    return Problem(task, y[rows], np.asarray(parts), chosen, None if groups is None else groups[rows], rows, pull)


def greedy_weights(problem: Problem, allowed: Sequence[int] | None = None) -> Floats:
    r"""Start from the best member, then add, with replacement, the one that lowers the objective most.

    The objective is that of `optimal_weights`: the loss of the mean, and a small pull to uniform.

    Returns
    -------
    ndarray of shape (n_members,)
        Shares of the additions up to the least objective; they sum to 1.
    """
    chosen = np.arange(len(problem.parts)) if allowed is None else np.asarray(allowed)
    parts, weights = problem.parts if allowed is None else problem.parts[chosen], np.zeros(len(problem.parts))
    if not len(problem.y):
        weights[chosen] = 1 / len(chosen)
        return weights
    counts, best_counts = np.zeros(len(chosen)), np.zeros(len(chosen))
    total, best, since, scale = np.zeros(parts.shape[1:]), np.inf, 0, problem.scale(parts)
    unit = np.eye(len(chosen))
    for step in range(1, GREEDY_STEPS + 1):
        found = [
            problem.loss((total + part) / step) / scale + problem.distance((counts + one) / step)
            for part, one in zip(parts, unit, strict=True)
        ]
        m = int(np.argmin(found))
        counts[m] += 1
        total = total + parts[m]
        if min(found) < best:
            best, best_counts, since = min(found), counts.copy(), 0
        else:
            since += 1
            if since == PATIENCE:
                break
    weights[chosen] = best_counts / best_counts.sum()
    return weights


def choose_weights(
    problems: Sequence[Problem],
    method: str,
    *,
    max_members: float | None,
    costs: Sequence[float],
) -> Floats:
    """Weights of all tasks within the budget.

    Parameters
    ----------
    problems : sequence of Problem
    method : {"greedy", "optimize"}
    max_members : float or None
        The costs of the members that any task uses sum to at most this, or to the least cost if that is more.
    costs : sequence of float, one per member

    Returns
    -------
    ndarray of shape (n_members, n_tasks)
    """
    allowed = list(range(len(costs)))
    weights = _solve(problems, method, allowed)
    if max_members is None:
        return weights
    small = [p.take(thinned(np.arange(len(p.y)), max(1, len(p.y) // BUDGET_ROWS), p.groups)) for p in problems]
    budget = max(max_members, min(costs))  # one model there must be
    while (used := [m for m in allowed if weights[m].any()]) and sum(costs[m] for m in used) > budget:
        affordable = [m for m in allowed if costs[m] <= budget]
        allowed = _drop_one(small, used, costs) if set(used) <= set(affordable) else affordable
        weights = _solve(problems, method, allowed)
    return weights


def thinned(rows: npt.NDArray[np.intp], step: int, groups: npt.NDArray[np.intp] | None) -> npt.NDArray[np.intp]:
    """One of ``step`` rows, or of queries with all their rows."""
    return rows[::step] if groups is None else rows[np.unique(groups[rows], return_inverse=True)[1] % step == 0]


def optimal_weights(problem: Problem, allowed: Sequence[int]) -> Floats:
    r"""Convex weights of least loss, pulled to uniform.

    .. math:: \min_{w \ge 0, \sum w = 1} \frac{1}{n} \sum_i \ell(y_i, \textstyle\sum_m w_m f_m(x_i)) / \ell_0
              + \frac{s}{n} \lVert w - 1/M \rVert^2

    with :math:`\ell_0` the loss of the uniform average (of the mean label, if that is less) and s the problem's
    ``pull``, in rows. A ranking has no slope: its weights are greedy, as those that no solver finds.
    """
    if problem.task.kind == "ranking" or not len(problem.y):
        return greedy_weights(problem, allowed)
    chosen, n = list(allowed), len(problem.y)
    parts, uniform = problem.parts[chosen], np.full(len(chosen), 1 / len(chosen))
    scale = problem.scale(parts)

    def objective(w: Floats) -> tuple[float, Floats]:
        mean = np.tensordot(w, parts, axes=1)
        value = problem.loss(mean) / scale + problem.distance(w)
        return value, _slopes(problem, parts, mean) / scale + 2 * problem.pull / n * (w - uniform)

    found = minimize(
        objective,
        uniform,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(chosen),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
    )
    w = np.where(found.x > 1e-4, found.x, 0.0)  # a member of no weight need not be fitted
    weights = np.zeros(len(problem.parts))
    weights[chosen] = w / w.sum() if np.isfinite(w).all() and w.sum() > 0 else uniform
    alone = min(objective(one)[0] for one in np.eye(len(chosen)))
    return weights if objective(weights[chosen])[0] <= alone + TOLERANCE else greedy_weights(problem, allowed)


def _solve(problems: Sequence[Problem], method: str, allowed: Sequence[int]) -> Floats:
    solve = greedy_weights if method == "greedy" else optimal_weights
    return np.column_stack([solve(problem, allowed) for problem in problems])


def _drop_one(problems: Sequence[Problem], used: Sequence[int], costs: Sequence[float]) -> list[int]:
    """Leave out the member whose absence raises the mean normalized loss least, per unit of its cost."""
    base = [p.loss(p.parts[list(used)].mean(axis=0)) or 1.0 if len(p.y) else 1.0 for p in problems]

    def total(allowed: Sequence[int]) -> float:
        found = [p.loss(np.tensordot(greedy_weights(p, allowed), p.parts, axes=1)) for p in problems if len(p.y)]
        return float(np.sum(np.asarray(found) / [b for b, p in zip(base, problems, strict=True) if len(p.y)]))

    full = total(used)
    harm = {m: (total([a for a in used if a != m]) - full) / max(costs[m], EPSILON) for m in used}
    worst = min(harm, key=lambda m: harm[m])
    return [m for m in used if m != worst]


def _slopes(problem: Problem, parts: Floats, mean: Floats) -> Floats:
    """Slope of the mean loss in each weight."""
    kind, y = problem.task.kind, problem.y
    share = problem.weight / problem.weight.sum()
    if kind == "multiclass":
        code = np.maximum(y, 0).astype(np.intp)
        rows = np.arange(len(y))
        p = np.maximum(mean[rows, code], EPSILON)
        return np.asarray(-(parts[:, rows, code] * (share * (y >= 0) / p)).sum(axis=1))
    if kind == "binary":
        p = np.clip(mean, EPSILON, 1 - EPSILON)
        slope = (p - y) / (p * (1 - p))
    elif kind == "count":
        slope = 2 * (np.exp(mean) - y)
    else:
        slope = 2 * (mean - y)
    return np.asarray(parts @ (share * slope))


def check_costs(costs: Mapping[str, float] | None, names: Sequence[str]) -> list[float]:
    """What each member counts against the budget; 1 where not said."""
    given = dict(costs or {})
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"costs names unknown members: {', '.join(unknown)}; the members are {', '.join(names)}.")
    values = [float(given.get(name, 1.0)) for name in names]
    if not np.isfinite(values).all() or min(values) < 0:
        raise ValueError(f"costs must be finite and not negative, got {given}.")
    return values
