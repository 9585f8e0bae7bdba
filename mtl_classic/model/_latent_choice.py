"""Which latent features to try for a table, and whether they help it: a question to the validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.losses import EPSILON, losses
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.targets import Targets, encode_targets, entire_weight
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import is_datetime, time_dtype, to_time
from mtl_classic._core.validation import take_rows
from mtl_classic.events import EventLog
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    LatentFeatures,
    MatrixFactorization,
)
from mtl_classic.metrics import compare
from mtl_classic.model_selection import FoldPlan, make_folds
from mtl_classic.model_selection._crossfit import fit_name
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._maturity import temporal_folds
from mtl_classic.multitask._stages import Stage, stage
from mtl_classic.multitask._workbench import MIN_VALIDATION_EVENTS, n_events
from mtl_classic.preprocessing._blocks import is_number

__all__ = ["LatentChoice", "choose_latent", "latent_folds", "propose_latent"]

MIN_IDS = 20  # fewer users or items than this are a category that trees read themselves
MAX_FIELD = 1000  # categories of a side field; above, it is an id of something else
MIN_ROWS = 2000
FOLDS = 3
# Relative gain of a linear model that is worth growing trees for: .0015 on Complete Journey told trees nothing.
LEAST_GAIN = 0.003


def propose_latent(
    table: Any,
    tasks: Sequence[Task],
    roles: Mapping[str, str | None],
    seed: int,
    events: EventLog | None = None,
    n_jobs: int | None = None,
) -> LatentFeatures | None:
    """The latent features that suit the tasks, or None where there are no user and item to learn them for.

    A user × item factorization machine for each binary task without parent (at most three), with the context on the
    user's side; a Bayesian one for each regression task without parent; a matrix factorization of a log's pairs.
    Columns of history are left to the trees.

    Parameters
    ----------
    table : frame of shape (n, n_columns)
    tasks : sequence of Task
    roles : dict role -> column
    seed : int
    events : EventLog, default=None
    n_jobs : int, default=None
    """
    user, item = roles.get("user"), roles.get("item")
    if not isinstance(table, pd.DataFrame) or user is None or item is None or len(table) < MIN_ROWS:
        return None
    if min(table[user].nunique(), table[item].nunique()) < MIN_IDS:
        return None
    sides = _sides(table, user, item, tuple(c for c in (roles.get("time"), roles.get("query")) if c is not None))
    fields = [*sides["user"], *sides["item"]]
    shared: dict[str, Any] = {"categorical": fields, "exclude": [str(c) for c in table.columns if c not in fields]}
    models: list[tuple[str, Any]] = []
    learns: dict[str, str] = {}
    binary = [task for task in tasks if task.kind == "binary" and task.parent is None and not task.is_soft]
    for task in binary[:3]:
        name = f"fm_{task.name}"
        random_state = spawn_seed(seed, name)
        groups = [("user", "item")]
        fm = FactorizationMachineClassifier(groups=sides, interactions=groups, random_state=random_state, **shared)
        models.append((name, fm))
        learns[name] = task.name
    for task in [task for task in tasks if task.kind == "regression" and task.parent is None][:3]:
        name = f"fm_{task.name}"
        random_state = spawn_seed(seed, name)
        fm = FactorizationMachineRegressor(
            n_factors=8, solver="gibbs", max_iter=100, random_state=random_state, **shared
        )
        models.append((name, fm))
        learns[name] = task.name
    if events is not None and _has_pairs(events, table, roles.get("time")):
        random_state = spawn_seed(seed, "mf")
        pairs = MatrixFactorization(user=user, item=item, time=roles["time"], n_jobs=n_jobs, random_state=random_state)
        models.append(("mf", pairs))
    if not models:
        return None
    return LatentFeatures(models, cv=FOLDS, tasks=tasks, task=learns, time=roles.get("time"), n_jobs=n_jobs)


def latent_folds(
    labels: pd.DataFrame, tasks: Sequence[Task], *, time: Any = None, groups: Any = None, seed: int = 0
) -> FoldPlan:
    """Folds that latent columns are made in: of the past for rows with a time, else random ones.

    Beside later rows of the same user and item in its fit, a score would be better where learners are trained on it
    than where it is used. The price is that the first block of time has no scores.

    Parameters
    ----------
    labels : frame of shape (n, n_tasks)
    tasks : sequence of Task
    time : Series of shape (n,), default=None
    groups : array of shape (n,), default=None
        Queries, which are never split.
    seed : int
    """
    if time is not None and time.nunique() > FOLDS:
        return temporal_folds(FOLDS, labels, tasks, time, groups=groups)
    return make_folds(FOLDS, labels, groups=groups, random_state=seed)


@dataclass(frozen=True)
class LatentChoice:
    """Whether latent columns help a structure, and why.

    Where they help, and the trial left out the latest rows, its columns of all rows are of fits on the past already:
    `table` has them, and `staged` is the structure on it. In a random split both are None.
    """

    helps: bool
    why: str
    table: pd.DataFrame | None = None
    staged: Stage | None = None


def choose_latent(
    structure: MultiTaskEstimator,
    staged: Stage,
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
) -> LatentChoice:
    """Ask the validation rows whether latent columns help a structure.

    A linear model is asked first, of the columns that one fit on the training rows gives the validation rows. Only if
    it seems to gain something of note are trees grown on columns made out-of-fold, too; they are kept if at least one
    task is better beyond the noise and none is worse. Tasks with too few validation labels to tell have no say.

    Parameters
    ----------
    structure : unfitted structure
    staged : Stage
        Of the structure on the table without latent columns.
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
    """
    (train, valid), held_out = split, staged.held_out
    rows, judged, known = take_rows(table, train), take_rows(table, valid), take_rows(labels, train)
    targets = encode_targets(take_rows(labels, valid), held_out.tasks_, classes=held_out.classes_map_)
    who = None if clusters is None else np.asarray(clusters)[valid]
    taught, heavy = (None if weight is None else take_rows(weight, part) for part in (train, valid))
    without = held_out._scores(held_out._start_predict(judged), "entire")
    asked = clone(latent).fit(rows, known, sample_weight=taught, events=events)
    others = np.delete(np.arange(len(table)), train)  # validation rows, and those whose labels come too late for them
    told = asked.transform(take_rows(table, others))[asked.latent_features_]
    if not latent_help(without, told.iloc[np.searchsorted(others, valid)], targets, who, heavy):
        return LatentChoice(False, "latent features tell no task much more than its own score")
    plan = latent_folds(
        known if taught is None else known.where(taught[list(known)].to_numpy() > 0),
        held_out.tasks_,
        time=None if time is None else take_rows(time, train),
        groups=None if groups is None else np.asarray(groups)[train],
        seed=spawn_seed(seed, "latent trial"),
    )
    trained = asked._transform_fitted(rows, known, taught, events, plan)
    columns = pd.DataFrame(np.nan, index=table.index, columns=told.columns, dtype=np.float32)
    columns.iloc[train] = trained[told.columns].to_numpy()
    columns.iloc[others] = told.to_numpy()
    wide = pd.concat([table, columns], axis=1)
    tried = stage(structure, wide, labels, split, sample_weight=weight)
    trial = tried.held_out
    better, worse = compared_losses(
        targets, trial._scores(trial._start_predict(take_rows(wide, valid)), "entire"), without, who, heavy
    )
    shown = ", ".join(f"{name}: {why}" for name, why in (worse or better).items())
    if worse or not better:
        return LatentChoice(False, f"latent features make no task better, or one worse ({shown})")
    stamps = None if time is None else to_time(time)
    kept = (wide, tried) if stamps is not None and stamps[train].max() < stamps[others].min() else ()
    return LatentChoice(True, f"latent features help ({shown})", *kept)


def latent_help(
    scores: Scores, columns: pd.DataFrame, labels: Targets, clusters: Any, weights: pd.DataFrame | None = None
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
    error = (found["difference_high"] - found["difference_low"]) / (2 * 1.96)
    gain = -found["difference"]
    return _figures(found[(gain >= LEAST_GAIN * found["baseline"]) & (gain > error)])


def compared_losses(
    labels: Targets, ours: Scores, theirs: Scores, clusters: Any, weights: pd.DataFrame | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Tasks on which the first scores are better, and worse, than the second beyond the noise."""
    kinds = {task.name: task.kind for task in _judgeable(labels, ours, weights) if task.kind != "ranking"}
    own = {name: losses(kind, labels.view(name), ours[name]) for name, kind in kinds.items()}
    base = {name: losses(kind, labels.view(name), theirs[name]) for name, kind in kinds.items()}
    weight = _weights_in(labels, weights)
    return _better(own, base, clusters, weight), _better(base, own, clusters, weight)


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


def _better(
    own: dict[str, Any], base: dict[str, Any], clusters: Any, weight: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The figures of the tasks whose loss is less beyond the noise."""
    found = _compared(own, base, clusters, weight)
    return _figures(found[found["verdict"] == "better"])


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
    for part in (0, 1):
        train, test = np.flatnonzero((fold != part) & known), np.flatnonzero(fold == part)
        if len(train) < 10 or (y[train] == y[train[0]]).all():
            continue
        model = make_pipeline(StandardScaler(), _linear(kind))
        params = {} if weight is None else {fit_name(model, "sample_weight"): weight[train]}
        model.fit(columns[train], y[train], **params)
        score = model.predict_proba(columns[test])[:, 1] if kind == "binary" else model.predict(columns[test])
        result[test] = losses(kind, y[test], score)
    return result


def _linear(kind: str) -> Any:
    if kind == "binary":
        return LogisticRegression(max_iter=200)
    return PoissonRegressor(alpha=1e-4, max_iter=200) if kind == "count" else Ridge(1.0)


def _has_pairs(events: EventLog, table: pd.DataFrame, time: str | None) -> bool:
    """Whether a log says who met which item, and was there before most of the rows."""
    if (
        time is None
        or not {"user", "item"} <= set(events.roles)
        or is_datetime(time_dtype(table[time])) != events.is_datetime
    ):
        return False
    times = to_time(table[time], time)
    return events.before(np.partition(times, len(times) // 2)[len(times) // 2]).n_events > 0


def _sides(table: pd.DataFrame, user: str, item: str, roles: tuple[str, ...]) -> dict[str, list[str]]:
    """Categorical columns by side: what an item determines is the item's, all else the user's."""
    sides = {"user": [user], "item": [item]}
    for name in table.columns:
        column = table[name]
        numeric = pd.api.types.is_numeric_dtype(column.dtype) or is_number(column)
        if name in (user, item, *roles) or numeric or column.nunique() > MAX_FIELD:
            continue
        per_item = table.groupby(item, observed=True)[name].nunique()
        sides["item" if (per_item <= 1).mean() > 0.99 else "user"].append(str(name))
    return sides
