"""Which latent features to try for a table, and the folds that their columns are made in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import query_columns
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import is_datetime, time_dtype, to_time
from mtl_classic.events import EventLog
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    LatentFeatures,
    MatrixFactorization,
)
from mtl_classic.model_selection import FoldPlan, make_folds
from mtl_classic.model_selection._maturity import temporal_folds
from mtl_classic.preprocessing._blocks import is_number

__all__ = ["latent_folds", "propose_latent"]

MIN_IDS = 20  # fewer users or items than this are a category that trees read themselves
MAX_FIELD = 1000  # categories of a side field; above, it is an id of something else
MIN_ROWS = 2000
FOLDS = 3


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
    others = [c for c in (roles.get("time"), roles.get("query")) if c is not None]
    sides = _sides(table, user, item, (*others, *query_columns(table, tasks)))
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


def _has_pairs(events: EventLog, table: pd.DataFrame, time: str | None) -> bool:
    """Whether a log says who met which item, and was there before most of the rows."""
    if (
        time is None
        or not {"user", "item"} <= set(events.roles)
        or is_datetime(time_dtype(table[time])) != events.is_datetime
    ):
        return False
    times = to_time(table[time], time)
    return events._before(np.partition(times, len(times) // 2)[len(times) // 2]).n_events > 0


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
