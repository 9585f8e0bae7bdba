"""Task weights chosen by cross-validation: ``task_weights="cv"`` of the models that learn all tasks by one loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import clone

from mtl_classic._core.base import group_codes
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.validation import as_table, role_values, take_rows, with_index_of
from mtl_classic.metrics import evaluate_scores
from mtl_classic.model_selection._crossfit import cross_fit, rows_of
from mtl_classic.model_selection._folds import FoldPlan
from mtl_classic.model_selection._plans import plan_for

__all__ = ["choose_task_weights"]

TILT = 3.0
FOLDS = 3


def choose_task_weights(
    model: Any, X: Any, Y: Any, *, sample_weight: Any = None, plan: FoldPlan | None = None
) -> dict[str, float]:
    """Weights for a joint loss: equal ones, unless others help.

    Equal weights are compared with those that give one task three times as much, on out-of-fold predictions. Of the
    tilts that make some task better beyond the noise and none worse (paired bootstrap, Holm over the tasks) that of the
    least mean loss, relative to equal weights, is taken.

    Parameters
    ----------
    model : estimator with ``task_weights`` and ``fallback``, of which the tasks and roles are known already
    X, Y : table and labels of n rows
    sample_weight : array of n rows, default=None
    plan : FoldPlan, default=None
        None: three folds, in time where the model names a time column.

    Notes
    -----
    Cost: (n_tasks + 1) × n_folds fits, without fallbacks.
    """
    tasks = model.tasks_
    names = [task.name for task in tasks]
    equal = dict.fromkeys(names, 1.0)
    if len(tasks) == 1:
        return equal
    X, seed = as_table(X), root_seed(model.random_state)
    Y = with_index_of(X, rows_of(Y))
    plan = plan_for(
        X, Y, tasks, FOLDS, plan, time=model.roles_["time"], groups=None, seed=spawn_seed(seed, "task weights"),
        sample_weight=sample_weight,
    )  # fmt: skip
    rows = np.flatnonzero(plan.fold >= 0)
    covered, labels = take_rows(X, rows), take_rows(Y, rows)
    users = role_values(covered, model.roles_["user"])

    def out_of_fold(weights: dict[str, float]) -> Any:
        candidate = clone(model).set_params(task_weights=weights, fallback=None, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            return cross_fit(candidate, X, Y, plan, sample_weight=sample_weight, score=False).predictions.iloc[rows]

    shared = {
        "tasks": tasks, "classes": model.classes_map_, "metrics": ["loss"], "on_conflict": model._conflict_rule(),
        "groups": {task.name: group_codes(covered, task) for task in tasks if task.kind == "ranking"} or None,
        "clusters": None if users is None else users.to_numpy(), "random_state": seed % 2**31,
        "sample_weight": None if sample_weight is None else take_rows(rows_of(sample_weight), rows),
    }  # fmt: skip
    plain, best, least = out_of_fold(equal), equal, 0.0
    for name in names:
        weights = equal | {name: TILT}
        table = evaluate_scores(labels, out_of_fold(weights), baseline=plain, **shared)
        change = float((table["difference"] / table["baseline"].abs()).mean())
        helps = (table["verdict"] == "better").any() and not (table["verdict"] == "worse").any()
        if helps and change < least:
            best, least = weights, change
    return best
