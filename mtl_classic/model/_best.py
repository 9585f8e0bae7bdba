"""The ensemble of ``preset="best"``: several families, weighed per task on rows they have not seen, within a budget."""

from __future__ import annotations

import time as clock
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.validation import take_rows
from mtl_classic.ensemble import AveragingEnsemble, CalibratedModel
from mtl_classic.model._architectures import Member
from mtl_classic.model._training import Training
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._folds import Rows
from mtl_classic.multitask._stages import Stage, stage
from mtl_classic.multitask._workbench import MIN_VALIDATION_EVENTS, n_events

__all__ = ["Budget", "fit_best"]

LEAST_SHARE = 0.05  # a member with less weight on every task is not worth its prediction time


@dataclass
class Budget:
    """Seconds from the start of the fit, or no limit."""

    seconds: float | None
    started: float = field(default_factory=clock.monotonic)

    def allows(self, further: float) -> bool:
        """Whether this many further seconds fit into it."""
        return self.seconds is None or clock.monotonic() - self.started + further <= self.seconds


@dataclass
class Candidate:
    """A member after its first stage."""

    member: Member
    staged: Stage


def fit_best(
    training: Training, plan: FoldPlan, members: list[Member], budget: Budget, staged: Stage | None = None
) -> tuple[Any, pd.DataFrame]:
    """Fit the members without the validation rows, weigh and calibrate them there, then fit those used on all rows.

    Parameters
    ----------
    training : Training
    plan : FoldPlan
        Its last fold are the validation rows.
    members : list of Member
        The first is fitted whatever the budget.
    budget : Budget
        A member enters if it is expected to leave time for the fits on all rows.
    staged : Stage, default=None
        The first member's first stage, where it has been done.

    Returns
    -------
    model : fitted estimator
    weights : DataFrame of shape (n_members, n_tasks)
    """
    candidates = _candidates(training, members, plan.last, budget, staged)
    rows = plan.last[1]
    table, labels = take_rows(training.table, rows), take_rows(training.Y, rows)
    weight = None if training.weights is None else training.weights[rows]
    held_out = [(c.member.name, c.staged.held_out) for c in candidates]
    judge = AveragingEnsemble(held_out, weights="greedy", cv="prefit").fit(table, labels, sample_weight=weight)
    calibrated = CalibratedModel(judge, cv="prefit").fit(table, labels, sample_weight=weight)
    shares = _without_small(_pooled_where_in_doubt(judge.weights_, training, rows))
    if not budget.allows(candidates[0].staged.seconds):  # not even one refit: what there is
        final = _average(held_out, shares, training)
    else:
        final = _final(training, candidates, shares, budget)
    return (calibrated.over(final) if calibrated.maps_ else final), shares


def _candidates(
    training: Training, members: list[Member], split: Any, budget: Budget, staged: Stage | None
) -> list[Candidate]:
    found: list[Candidate] = []
    for member in members:
        planned = sum(c.staged.seconds for c in found)
        if found and not budget.allows(planned + 2 * member.cost * found[0].staged.seconds):
            continue
        if staged is not None and not found:
            own: Stage | None = staged
        else:
            own = _staged(training, member, split, found[0].staged if found else None)
        if own is None:
            continue
        if found and not _same_classes(own.held_out, found[0].staged.held_out):
            continue  # a class lives in the validation rows alone, and this family can't know it before
        found.append(Candidate(member, own))
    return found


def _staged(training: Training, member: Member, split: Any, first: Stage | None) -> Stage | None:
    """The member's first stage; None, with a warning, if a further member cannot be fitted to this table."""
    try:
        return stage(member.model, training.table, training.Y, split, sample_weight=training.weights, like=first)
    except ValueError as error:
        if first is None:
            raise
        warnings.warn(f"{member.name} is left out of the ensemble: {error}", FallbackWarning, stacklevel=2)
        return None


def _same_classes(one: Any, other: Any) -> bool:
    return all(
        (one.classes_map_[name] is None) == (classes is None) and np.array_equal(one.classes_map_[name], classes)
        for name, classes in other.classes_map_.items()
    )


def _pooled_where_in_doubt(weights: pd.DataFrame, training: Training, rows: Rows) -> pd.DataFrame:
    """For tasks with too few validation labels to weigh members by: the mean weights of all such tasks together.

    Where all of them together have too few, the first member alone.
    """
    events = {}
    for task in training.tasks:
        y = training.given.targets.view(task.name)[rows]
        if (known := n_events(task, y[~np.isnan(y)])) < MIN_VALIDATION_EVENTS:
            events[task.name] = known
    judged = [name for name, known in events.items() if known]
    if sum(events.values()) >= MIN_VALIDATION_EVENTS:
        pooled = weights[judged].mean(axis=1)
    else:
        pooled = pd.Series((weights.index == weights.index[0]).astype(np.float64), index=weights.index)
    for name in events:
        weights[name] = pooled
    return weights


def _without_small(weights: pd.DataFrame) -> pd.DataFrame:
    """Weights without the members that hardly count for any task."""
    kept = weights.loc[(weights >= LEAST_SHARE).any(axis=1)]
    return kept / kept.sum()


def _final(training: Training, candidates: list[Candidate], shares: pd.DataFrame, budget: Budget) -> AveragingEnsemble:
    """Fit the members in use on all rows, the heaviest with several seeds as long as there is time."""
    used = sorted(
        (c for c in candidates if c.member.name in shares.index), key=lambda c: -shares.loc[c.member.name].sum()
    )
    fitted: dict[str, list[Any]] = {}
    for c in used:
        if not fitted or budget.allows(c.staged.seconds):
            fitted[c.member.name] = [c.staged.final()]
    for c in used:
        for k in range(1, c.member.n_seeds):
            if c.member.name in fitted and budget.allows(c.staged.seconds):
                seed = spawn_seed(training.seed, c.member.name, "seed", k)
                fitted[c.member.name].append(c.staged.final(seed))
    rows: dict[str, Any] = {}
    models: list[tuple[str, Any]] = []
    for name, seeds in fitted.items():
        for k, model in enumerate(seeds):
            own = name if k == 0 else f"{name}_seed{k}"
            models.append((own, model))
            rows[own] = shares.loc[name] / len(seeds)
    weights = pd.DataFrame(rows).T
    weights.loc[:, weights.sum() == 0] = 1.0  # no time was left for the members of this task
    return _average(models, weights / weights.sum(), training)


def _average(models: list[tuple[str, Any]], weights: pd.DataFrame, training: Training) -> AveragingEnsemble:
    used = [(name, model) for name, model in models if name in weights.index]
    per_task = {task: weights.loc[[name for name, _ in used], task].tolist() for task in weights.columns}
    return AveragingEnsemble(used, weights=per_task, cv="prefit").fit(training.table, training.Y)
