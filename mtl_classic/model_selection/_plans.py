"""One fold plan for all levels of models of models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import query_codes
from mtl_classic._core.exceptions import FoldError
from mtl_classic._core.targets import match_columns
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, check_sample_weight, n_rows, resolve_roles, role_values
from mtl_classic.model_selection._folds import FoldPlan, Temporal, make_folds
from mtl_classic.model_selection._maturity import temporal_folds

__all__ = ["check_plan", "labels_for_folds", "plan_for", "time_for_folds"]


def plan_for(
    X: Table,
    Y: Any,
    tasks: tuple[Task, ...],
    cv: Any,
    plan: FoldPlan | None,
    *,
    time: str | None,
    groups: str | None,
    seed: int,
    sample_weight: Any = None,
) -> FoldPlan:
    """The plan that was passed, else folds of whole groups, else in time where there is one, else of whole queries.

    Parameters
    ----------
    X, Y : table and labels of n rows
    tasks : tuple of Task
    cv : int, splitter, Temporal or array of fold numbers
    plan : FoldPlan or None
    time, groups : str or None
        Columns of X.
    seed : int
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
        As in `labels_for_folds`.
    """
    check_plan(plan, n_rows(X))
    if plan is not None:
        return plan
    Y = labels_for_folds(Y, tasks, sample_weight, cv)
    queries = query_codes(X, tasks)
    columns = resolve_roles(X, groups=groups, time=time)
    if columns["groups"] is not None:
        if isinstance(cv, Temporal):
            raise FoldError(f"groups={groups!r} are kept whole, but {cv} cuts by time; give one of the two.")
        return make_folds(cv, Y, groups=X[columns["groups"]].to_numpy(), random_state=seed)
    stamps = role_values(X, columns["time"])
    if stamps is not None and isinstance(cv, int | np.integer | Temporal) and stamps.nunique() > 1:
        return temporal_folds(cv, Y, tasks, stamps, groups=queries)
    return make_folds(cv, Y, groups=queries, time=stamps if isinstance(cv, Temporal) else None, random_state=seed)


def labels_for_folds(Y: Any, tasks: tuple[Task, ...], sample_weight: Any, cv: Any = None) -> pd.DataFrame:
    """The labels by which folds are dealt: those of tasks; without weight missing, but for splitters, which refuse it.

    Parameters
    ----------
    Y : labels of n rows
    tasks : tuple of Task
    sample_weight : array of shape (n,) or (n, n_tasks), or None
    cv : int, splitter, Temporal or array of fold numbers, default=None
    """
    weights = check_sample_weight(sample_weight, tasks, len(Y))
    labels = match_columns(Y, tasks)
    if weights is None or weights.all() or hasattr(cv, "split"):
        return labels
    return labels.where(weights > 0)


def time_for_folds(X: Table, time: str | None, events: Any) -> str | None:
    """The time column that was named, else that of a log: a model of the log may know what came after earlier rows."""
    own = None if events is None else events.roles["time"]
    return own if time is None and isinstance(X, pd.DataFrame) and own in X.columns else time


def check_plan(plan: Any, n: int) -> None:
    """Refuse as ``plan=`` what is no plan, or one for other rows.

    Parameters
    ----------
    plan : FoldPlan or None
        None: one is made where it is needed.
    n : int
        Number of rows expected.

    Raises
    ------
    TypeError, FoldError
    """
    if not isinstance(plan, FoldPlan | None):
        raise TypeError(f"plan must be a FoldPlan, got {type(plan).__name__}; make one with make_folds(…).")
    if plan is not None and plan.n_rows != n:
        raise FoldError(f"The fold plan is for {plan.n_rows} rows, but X has {n}.")
