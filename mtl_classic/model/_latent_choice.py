"""Whether latent features help a table: a question to the validation rows."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.preprocessing import StandardScaler

from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.losses import EPSILON, losses
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.targets import Targets, encode_targets, entire_weight
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import take_rows
from mtl_classic.events import EventLog
from mtl_classic.factorization import LatentFeatures
from mtl_classic.learners._sklearn import as_both_classes
from mtl_classic.metrics import compare
from mtl_classic.model._latent_proposal import latent_folds
from mtl_classic.model_selection._folds import Rows
from mtl_classic.multitask._stages import Stage, stage
from mtl_classic.multitask._workbench import MIN_VALIDATION_EVENTS, n_events

__all__ = ["LatentChoice", "LatentOffer", "LatentTrial", "choose_latent"]

# Relative gain of a linear model that is worth growing trees for. With .0015, on Complete Journey, trees gained on
# purchases and lost as much on discounts.
LEAST_GAIN = 0.003


@dataclass(frozen=True)
class LatentChoice:
    """Whether latent columns help a structure, and why.

    Where trees were grown on them, and the trial left out the latest rows, its columns of all rows are of fits on the
    past already: `table` has them, and `staged` is the structure on it. In a random split both are None.
    """

    helps: bool
    why: str
    table: pd.DataFrame | None = None
    staged: Stage | None = None


class LatentTrial:
    """Latent columns of a table, made without a look at its validation rows.

    Parameters
    ----------
    latent : unfitted `LatentFeatures`
    table : frame of shape (n, n_columns)
    labels : frame of shape (n, n_tasks)
    split : (training rows, validation rows)
    events : EventLog, default=None
        Of which no model sees what came after the rows that it is fitted on.
    weight : frame of shape (n, n_tasks), default=None
        Sample weights, with the tasks as columns.
    clusters : array of shape (n,), default=None
        Whose rows are drawn together: users, else queries.
    time : Series of shape (n,), default=None
    groups : array of shape (n,), default=None
        Queries, which are never split.
    seed : int

    Attributes
    ----------
    in_time : bool
        Whether the training rows are the earliest: then the columns of all rows are of fits on the past.
    asked : LatentFeatures, or None
        Fitted on the training rows, by `seems_to_help`.
    seconds : float
        That this took.
    """

    def __init__(
        self,
        latent: LatentFeatures,
        table: pd.DataFrame,
        labels: pd.DataFrame,
        split: tuple[Rows, Rows],
        *,
        events: EventLog | None = None,
        weight: pd.DataFrame | None = None,
        clusters: Any = None,
        time: Any = None,
        groups: Any = None,
        seed: int = 0,
    ) -> None:
        self.latent, self.table, self.labels, self.split = latent, table, labels, split
        self.events, self.weight, self.clusters, self.time = events, weight, clusters, time
        self.groups, self.seed, self.seconds = groups, seed, 0.0
        self.asked: LatentFeatures | None = None
        # validation rows, and those whose labels come too late for them
        self._others = np.delete(np.arange(len(table)), split[0])
        stamps = None if time is None else to_time(time)
        self.in_time = stamps is not None and bool(stamps[split[0]].max() < stamps[self._others].min())

    def seems_to_help(self, staged: Stage) -> bool:
        """Whether a linear model gains by the columns that one fit on the training rows gives the validation rows.

        Parameters
        ----------
        staged : Stage
            Of a structure on the table without latent columns.
        """
        (train, valid), began = self.split, clock.monotonic()
        self.asked = clone(self.latent).fit(
            take_rows(self.table, train), self._known, sample_weight=self._weight_of(train), events=self.events
        )
        self._told = self.asked.transform(take_rows(self.table, self._others))[self.asked.latent_features_]
        self.seconds = clock.monotonic() - began
        columns = self._told.iloc[np.searchsorted(self._others, valid)]
        without = self._scores(staged, self.table)
        return bool(latent_help(without, columns, *self._judged(staged)))

    def compared(
        self, staged: Stage, tried: Stage, wide: pd.DataFrame, safely: bool
    ) -> tuple[dict[str, str], dict[str, str]]:
        """`compared_losses` of trees with the columns and of those without."""
        labels, clusters, weight = self._judged(staged)
        ours, theirs = self._scores(tried, wide), self._scores(staged, self.table)
        return compared_losses(labels, ours, theirs, clusters, weight, safely=safely)

    def _scores(self, staged: Stage, table: pd.DataFrame) -> Scores:
        """Those of the validation rows by a structure that has not seen them."""
        rows = take_rows(table, self.split[1])
        return dict(staged.held_out._scores(staged.held_out._start_predict(rows), "entire"))

    def wide(self, tasks: Sequence[Task]) -> pd.DataFrame:
        """The table with its columns: out-of-fold for the training rows, of the fit on these for all others."""
        train, known, weight = self.split[0], self._known, self._weight_of(self.split[0])
        plan = latent_folds(
            known if weight is None else known.where(weight[list(known)].to_numpy() > 0),
            tasks,
            time=None if self.time is None else take_rows(self.time, train),
            groups=None if self.groups is None else np.asarray(self.groups)[train],
            seed=spawn_seed(self.seed, "latent trial"),
        )
        if self.asked is None:
            raise RuntimeError("seems_to_help comes first: it fits the models of the training rows.")
        trained = self.asked._transform_fitted(take_rows(self.table, train), known, weight, self.events, plan)
        made = pd.DataFrame(np.nan, index=self.table.index, columns=self._told.columns, dtype=np.float32)
        made.iloc[train] = trained[self._told.columns].to_numpy()
        made.iloc[self._others] = self._told.to_numpy()
        return pd.concat([self.table, made], axis=1)

    def fit_all(self) -> LatentFeatures:
        """The latent features of all rows, for rows to come."""
        return self.latent.fit(self.table, self.labels, sample_weight=self.weight, events=self.events)

    @property
    def _known(self) -> pd.DataFrame:
        return take_rows(self.labels, self.split[0])

    def _weight_of(self, rows: Rows) -> pd.DataFrame | None:
        return None if self.weight is None else take_rows(self.weight, rows)

    def _judged(self, staged: Stage) -> tuple[Targets, Any, pd.DataFrame | None]:
        """Labels, clusters and weights of the validation rows."""
        model, valid = staged.held_out, self.split[1]
        targets = encode_targets(take_rows(self.labels, valid), model.tasks_, classes=model.classes_map_)
        return targets, None if self.clusters is None else np.asarray(self.clusters)[valid], self._weight_of(valid)


@dataclass(frozen=True)
class LatentOffer:
    """Latent features that one member of an ensemble may read: the table with them, and its first stage on it."""

    trial: LatentTrial
    table: pd.DataFrame
    staged: Stage


def choose_latent(
    structure: MultiTaskEstimator, staged: Stage, trial: LatentTrial, *, by_member: bool, shared: bool = True
) -> LatentChoice:
    """Ask the validation rows whether latent columns help a structure.

    A linear model is asked first. Only if it seems to gain something of note are trees grown on columns made
    out-of-fold, too; they are kept if at least one task is better beyond the noise and none is worse. Tasks with too
    few validation labels to tell have no say.

    Where one member of an ensemble can read them alone, they are kept for all only if no task even seems worse.

    Parameters
    ----------
    structure : unfitted structure
    staged : Stage
        Of the structure on the table without latent columns.
    trial : LatentTrial
    by_member : bool
    shared : bool, default=True
        Whether further structures will take over the encoded features.
    """
    if not trial.seems_to_help(staged):
        return LatentChoice(False, "latent features tell no task much more than its own score")
    wide = trial.wide(staged.held_out.tasks_)
    tried = stage(structure, wide, trial.labels, trial.split, sample_weight=trial.weight, shared=shared)
    better, worse = trial.compared(staged, tried, wide, safely=by_member)
    shown = ", ".join(f"{name}: {why}" for name, why in (worse or better).items())
    kept = (wide, tried) if trial.in_time else ()
    if worse or not better:
        return LatentChoice(False, f"latent features make no task better, or one worse ({shown})", *kept)
    return LatentChoice(True, f"latent features help ({shown})", *kept)


def latent_help(
    scores: Scores,
    columns: pd.DataFrame,
    labels: Targets,
    clusters: Any,
    weights: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Tasks whose scores a linear model improves by the latent columns by `LEAST_GAIN` and a standard error.

    On one half of the validation rows a linear model of the score, and of the score and the columns, is fitted, and
    judged on the other half, both ways: cheap enough to ask before trees are grown on the columns. Trees find more in
    them, and surer, so that such a gain need not be beyond the noise; theirs must be.
    """
    extra = np.nan_to_num(columns.to_numpy(dtype=np.float64))
    fold = np.arange(len(extra)) % 2 if clusters is None else pd.factorize(clusters)[0] % 2
    weight = _weights_in(labels, weights)
    own, base = {}, {}
    for task in _judgeable(labels, scores, weights):
        if task.kind in ("binary", "regression", "count"):
            y = labels.view(task.name)
            link = _link(task.kind, scores[task.name])
            wide = np.column_stack([link, extra])
            own[task.name] = _stacked_losses(task.kind, wide, y, fold, weight[task.name])
            base[task.name] = _stacked_losses(task.kind, link[:, None], y, fold, weight[task.name])
    found = _compared(own, base, clusters, weight)
    return _seem_better(found[-found["difference"] >= LEAST_GAIN * found["baseline"]])


def compared_losses(
    labels: Targets,
    ours: Scores,
    theirs: Scores,
    clusters: Any,
    weights: pd.DataFrame | None = None,
    *,
    safely: bool = False,
) -> tuple[dict[str, str], dict[str, str]]:
    """Tasks on which the first scores are better, and worse, than the second beyond the noise.

    ``safely``, a standard error is enough to be worse.
    """
    better, worse = (_losses_compared(labels, *pair, clusters, weights) for pair in ((ours, theirs), (theirs, ours)))
    surely = [_figures(found[found["verdict"] == "better"]) for found in (better, worse)]
    return surely[0], _seem_better(worse) if safely else surely[1]


def _losses_compared(
    labels: Targets, ours: Scores, theirs: Scores, clusters: Any, weights: pd.DataFrame | None
) -> pd.DataFrame:
    """The comparison of both scores' losses, of the tasks that can be judged."""
    kinds = {task.name: task.kind for task in _judgeable(labels, ours, weights) if task.kind != "ranking"}
    own, base = (
        {name: losses(kind, labels.view(name), scores[name]) for name, kind in kinds.items()}
        for scores in (ours, theirs)
    )
    return _compared(own, base, clusters, _weights_in(labels, weights))


def _seem_better(found: pd.DataFrame) -> dict[str, str]:
    """The figures of the tasks whose loss is less by a standard error."""
    error = (found["difference_high"] - found["difference_low"]) / (2 * 1.96)
    return _figures(found[-found["difference"] > error])


def _weights_in(labels: Targets, weights: pd.DataFrame | None) -> dict[str, Any]:
    """Weights of the rows for each task's entire view; None where all are 1."""
    given = None if weights is None else weights[[task.name for task in labels.tasks]].to_numpy()
    return {task.name: entire_weight(labels, task, given) for task in labels.tasks}


def _judgeable(labels: Targets, scores: Scores, weights: pd.DataFrame | None) -> list[Task]:
    """Tasks with enough labels among the rows to tell a gain from noise."""
    judgeable = []
    for task in labels.tasks:
        y = labels.view(task.name)
        known = ~np.isnan(y) if weights is None else ~np.isnan(y) & (weights[task.name].to_numpy() > 0)
        if task.name in scores and n_events(task, y[known]) >= MIN_VALIDATION_EVENTS:
            judgeable.append(task)
    return judgeable


def _compared(
    own: dict[str, Any], base: dict[str, Any], clusters: Any, weight: Mapping[str, Any] | None
) -> pd.DataFrame:
    if own:
        return compare(own, base, clusters=clusters, sample_weight=weight)
    columns = ("value", "baseline", "difference", "difference_low", "difference_high", "verdict")
    return pd.DataFrame({name: [] for name in columns})


def _figures(found: pd.DataFrame) -> dict[str, str]:
    return {
        str(name): f"validation loss {row['value']:.5g} against {row['baseline']:.5g}" for name, row in found.iterrows()
    }


def _link(kind: str, score: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if kind == "binary":
        return np.asarray(logit(np.clip(score, EPSILON, 1 - EPSILON)))
    return np.log(np.maximum(score, EPSILON)) if kind == "count" else score


def _stacked_losses(
    kind: str, columns: npt.NDArray[Any], y: npt.NDArray[Any], fold: npt.NDArray[Any], weight: Any = None
) -> npt.NDArray[Any]:
    known = ~np.isnan(y) if weight is None else ~np.isnan(y) & (weight > 0)
    result = np.full(len(y), np.nan)
    soft = kind == "binary" and not np.isin(y[known], (0, 1)).all()
    for part in (0, 1):
        train, test = np.flatnonzero((fold != part) & known), np.flatnonzero(fold == part)
        if len(train) < 10 or (y[train] == y[train[0]]).all():
            continue
        scaler, model = StandardScaler().fit(columns[train]), _linear(kind)
        told = scaler.transform(columns[train]), y[train], None if weight is None else weight[train]
        table, labels, own = as_both_classes(*told) if soft else told
        model.fit(table, labels, sample_weight=own)
        asked = scaler.transform(columns[test])
        score = model.predict_proba(asked)[:, 1] if kind == "binary" else model.predict(asked)
        result[test] = losses(kind, y[test], score)
    return result


def _linear(kind: str) -> Any:
    if kind == "binary":
        return LogisticRegression(max_iter=200)
    return PoissonRegressor(alpha=1e-4, max_iter=200) if kind == "count" else Ridge(1.0)
