"""The ensemble of ``preset="best"``: several families, weighed per task on rows they have not seen, within a budget."""

from __future__ import annotations

import time as clock
import warnings
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import Scores
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.validation import Table, register_columns, take_rows
from mtl_classic.ensemble import AveragingEnsemble, CalibratedModel
from mtl_classic.factorization import LatentFeatures
from mtl_classic.model._architectures import Member
from mtl_classic.model._training import Training
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._progress import SILENT, Progress
from mtl_classic.multitask._stages import Stage, stage
from mtl_classic.multitask._workbench import MIN_VALIDATION_EVENTS, n_events

__all__ = ["Budget", "fit_best"]

LEAST_SHARE = 0.05  # a member with less weight on every task is not worth its prediction time
SLACK = 0.02  # of a budget: for weights, calibration, and what a second fit takes more than the first
SURELY = 8.0  # a member that may take so many times what is expected, and fits even so, needs no trial
TRIAL_SHARE = 10  # a trial is made on one row in so many


@dataclass
class Budget:
    """Seconds from the start of the fit, or no limit."""

    seconds: float | None
    started: float = field(default_factory=lambda: clock.monotonic())

    def allows(self, further: float) -> bool:
        """Whether this many further seconds fit into it."""
        if self.seconds is None:
            return True
        return clock.monotonic() - self.started + further <= (1 - SLACK) * self.seconds


@dataclass
class Candidate:
    """A member after its first stage, with its scores of the validation rows.

    Attributes
    ----------
    member : Member
    staged : Stage
    scores : dict task -> ndarray
    """

    member: Member
    staged: Stage
    scores: Scores

    @property
    def answer(self) -> Any:
        """The model of the first stage for the validation rows only: it is not asked again, nor for latent columns."""
        model = copy(self.staged.held_out)
        if self.member.latent is not None:
            register_columns(model, self.member.latent.trial.table)
        model._start_predict = lambda X: X
        model._scores = lambda X, space: dict(self.scores)
        return model


def fit_best(
    training: Training,
    plan: FoldPlan,
    members: list[Member],
    budget: Budget,
    staged: Stage | None = None,
    progress: Progress = SILENT,
) -> tuple[Any, pd.DataFrame, LatentFeatures | None]:
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
    progress : Progress
        Of the whole fit: both stages are parts of it.

    Returns
    -------
    model : fitted estimator
    weights : DataFrame of shape (n_members, n_tasks)
    latent : fitted LatentFeatures, or None
        Whose columns the model must be given, where a member in use reads them.
    """
    train, rows = plan.last
    untaught = _untaught(training, train)
    table, labels = take_rows(training.table, rows), take_rows(training.labels, rows)
    labels = labels.assign(**dict.fromkeys(untaught, np.nan))
    weight = None if training.weights is None else training.weights[rows]
    candidates = _candidates(training, members, plan.last, budget, staged, progress)
    answers = [(c.member.name, c.answer) for c in candidates]
    judge = AveragingEnsemble(answers, weights="greedy", cv="prefit").fit(table, labels, sample_weight=weight)
    shares = _without_small(_pooled_where_in_doubt(judge.weights_, training, rows, untaught))
    judged = _average(answers, shares).fit(table, labels)
    calibrated = CalibratedModel(judged, cv="prefit").fit(table, labels, sample_weight=weight)
    if not budget.allows(candidates[0].staged.seconds):  # not even one refit: what there is
        held_out = [(c.member.name, c.staged.held_out) for c in candidates]
        offer = next((c.member.latent for c in candidates if c.member.latent and c.member.name in shares.index), None)
        wide, step = (training.table, None) if offer is None else (offer.table, offer.trial.asked)
        _keep_from(step, [c.staged.held_out for c in candidates if c.member.latent is None])
        final = _average(held_out, shares).fit(wide, training.Y)
    else:
        final, step = _final(training, candidates, shares, budget, progress)
    return (calibrated.over(final) if calibrated.maps_ else final), shares, step


def _candidates(
    training: Training,
    members: list[Member],
    split: Any,
    budget: Budget,
    staged: Stage | None,
    progress: Progress,
) -> list[Candidate]:
    """The members that the budget allows, fitted on the training rows."""
    found: list[Candidate] = []
    with progress.part("members", len(members)) as part:
        for member, step in zip(members, part.steps(range(len(members))), strict=True):
            offer = member.latent
            if found and offer is None and not _affordable(training, member, split, budget, found):
                continue
            with step.fitting():
                given = offer.staged if offer is not None else staged if not found else None
                own = given or _staged(training, member, split, found[0].staged if found else None)
                if own is None or (found and not _same_classes(own.held_out, found[0].staged.held_out)):
                    continue  # a class lives in the validation rows alone, and this family can't know it before
                judged = take_rows(training.table if offer is None else offer.table, split[1])
                scores = own.held_out._scores(own.held_out._start_predict(judged), "entire")
                found.append(Candidate(member, own, scores))
    return found


def _affordable(training: Training, member: Member, split: Any, budget: Budget, found: list[Candidate]) -> bool:
    """Whether both fits of a further member, after those on all rows that are planned, are expected to fit.

    Where that hangs on how long it takes, this is tried on a few of the rows: families differ by the table, the slowest
    by a factor of ten.
    """
    planned = sum(c.staged.seconds for c in found)
    expected = member.cost * found[0].staged.seconds
    if budget.seconds is None or budget.allows(planned + 2 * SURELY * expected):
        return True
    if not budget.allows(planned + 2 * expected):
        return False
    return budget.allows(planned + 2 * max(expected, _seconds_tried(training, member, split)))


def _seconds_tried(training: Training, member: Member, split: Any) -> float:
    """Seconds of a first stage as a trial on one row in ten has them; 0 if that cannot be fitted on so few."""
    train, valid = (rows[::TRIAL_SHARE] for rows in split)
    rows = np.concatenate([train, valid])
    weights = None if training.weights is None else training.weights[rows]
    few = (np.arange(len(train)), np.arange(len(train), len(rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows, not of the table
        try:
            tried = stage(
                member.model, take_rows(training.table, rows), take_rows(training.Y, rows), few, sample_weight=weights
            )
        except ValueError:
            return 0.0
    return TRIAL_SHARE * tried.seconds


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


def _untaught(training: Training, train: Rows) -> list[str]:
    """Tasks without a label among the training rows: their models have seen the validation rows, for want of others."""
    return [name for name, y in training.counted_views(train).items() if np.isnan(y).all()]


def _pooled_where_in_doubt(weights: pd.DataFrame, training: Training, rows: Rows, untaught: list[str]) -> pd.DataFrame:
    """For tasks with too few validation labels to weigh members by: the mean weights of all such tasks together.

    Where all of them together have too few, the first member alone. Labels of tasks that are not taught do not count.
    """
    events, labels = {}, training.counted_views(rows)
    for task in training.tasks:
        y = labels[task.name]
        known = 0.0 if task.name in untaught else n_events(task, y[~np.isnan(y)])
        if known < MIN_VALIDATION_EVENTS:
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


def _final(
    training: Training, candidates: list[Candidate], shares: pd.DataFrame, budget: Budget, progress: Progress
) -> tuple[AveragingEnsemble, LatentFeatures | None]:
    """Fit the members in use on all rows, the heaviest with several seeds as long as there is time.

    A member that reads latent features takes the place, and the time, of further seeds.
    """
    used = sorted(
        (c for c in candidates if c.member.name in shares.index), key=lambda c: -shares.loc[c.member.name].sum()
    )
    wanted = [(c, 0) for c in used]
    if all(c.member.latent is None for c in used):
        wanted += [(c, k) for c in used for k in range(1, c.member.n_seeds)]
    table: Table = training.table
    latent: LatentFeatures | None = None
    fitted: dict[str, list[Any]] = {}
    with progress.part("refit", len(wanted)) as part:
        for (c, k), step in zip(wanted, part.steps(range(len(wanted))), strict=True):
            name, offer = c.member.name, c.member.latent
            needed = c.staged.seconds + (0.0 if offer is None else offer.trial.seconds)
            if (fitted and not budget.allows(needed)) or (k and name not in fitted):
                continue
            with step.fitting():
                seed = spawn_seed(training.seed, name, "seed", k) if k else None
                fitted.setdefault(name, []).append(c.staged.final(seed))
                if offer is not None:
                    table, latent = offer.table, offer.trial.fit_all()
    rows: dict[str, Any] = {}
    models: list[tuple[str, Any]] = []
    for name, seeds in fitted.items():
        for k, model in enumerate(seeds):
            own = name if k == 0 else f"{name}_seed{k}"
            models.append((own, model))
            rows[own] = shares.loc[name] / len(seeds)
    weights = pd.DataFrame(rows).T
    weights.loc[:, weights.sum() == 0] = 1.0  # no time was left for the members of this task
    others = {c.member.name for c in used if c.member.latent is None}
    _keep_from(latent, [model for name, seeds in fitted.items() if name in others for model in seeds])
    return _average(models, weights / weights.sum()).fit(table, training.Y), latent


def _keep_from(latent: LatentFeatures | None, models: list[Any]) -> None:
    """Exclude the latent columns, which are for one member only, also from fits of the others' clones."""
    names = [] if latent is None else latent.latent_features_
    for model in models if names else ():
        model.set_params(exclude=[*model.exclude, *names])


def _average(models: list[tuple[str, Any]], weights: pd.DataFrame) -> AveragingEnsemble:
    """The average, still to be fitted, of those fitted models that have a weight."""
    used = [(name, model) for name, model in models if name in weights.index]
    per_task = {task: weights.loc[[name for name, _ in used], task].tolist() for task in weights.columns}
    return AveragingEnsemble(used, weights=per_task, cv="prefit")
