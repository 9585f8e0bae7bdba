"""Fitted structures moved by new rows: the same parts, their learners told of more."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import Targets
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, take_rows
from mtl_classic.learners._protocol import ConstantFit, FitRequest, Floats
from mtl_classic.learners._resolve import resolve_learners
from mtl_classic.multitask._funnel import FunnelModel
from mtl_classic.multitask._per_task import PerTaskModel
from mtl_classic.multitask._workbench import _known_share, _query_codes

__all__ = ["refresh_structure"]


def refresh_structure(
    model: Any, X: Table, targets: Targets, weights: Floats | None, how: str, decay: float
) -> PerTaskModel | FunnelModel:
    """A copy of a fitted structure with refreshed parts; the routes of a funnel stay as they are.

    Parts without a labelled row among the new ones stay, and so do constants.

    Raises
    ------
    TypeError
        If a structure or learner cannot be refreshed.
    """
    if type(model) not in (PerTaskModel, FunnelModel):
        raise TypeError(f"{type(model).__name__} cannot be refreshed; PerTaskModel and FunnelModel can. Fit it anew.")
    queries = _query_codes(X, model.tasks_)
    if queries is not None:
        order = np.argsort(queries, kind="stable")
        X, targets, queries = take_rows(X, order), targets.take(order), queries[order]
        weights = None if weights is None else weights[order]
    features = model.columns_.transform(X)
    learners = resolve_learners(model.learner, model.tasks_)
    refreshed = copy(model)
    refreshed.fits_ = dict(model.fits_)
    for key, fit in model.fits_.items():
        name, part = key if isinstance(key, tuple) else (key, "entire")
        task, y, scale = _part(targets, name, part)
        weight = None if weights is None else weights[:, targets.position(name)]
        weight = weight if scale is None else scale if weight is None else weight * scale
        usable = (
            ~np.isnan(y) & (y >= 0 if task.kind == "multiclass" else True) & (True if weight is None else weight > 0)
        )
        if isinstance(fit, ConstantFit) or not usable.any():
            continue
        if not hasattr(learners[name], "refresh_task"):
            raise TypeError(
                f"The learner of the task {name!r}, {type(learners[name]).__name__}, cannot be refreshed; "
                f"LightGBMLearner can. Fit the model anew."
            )
        request = FitRequest(
            task, y, np.flatnonzero(usable), weight=weight, groups=queries if task.kind == "ranking" else None,
            n_classes=model._n_classes(task), seed=spawn_seed(root_seed(model.random_state), name, part, "refresh"),
            n_threads=model._threads(),
        )  # fmt: skip
        refreshed.fits_[key] = learners[name].refresh_task(fit, features, request, how, decay)
    return refreshed


def _part(targets: Targets, name: str, part: str) -> tuple[Task, Floats, Floats | None]:
    """What a part of a structure learns: its task, labels, and weights beside the user's."""
    task = targets.tasks[targets.position(name)]
    if part == "entire":
        return task, targets.view(name), _known_share(targets, task)
    if part == "conditional":
        return task, targets.view(name, "conditional"), None
    y = targets.view(name)
    if part == "happens":
        return Task(name, "binary"), np.where(np.isnan(y), np.nan, (y != 0).astype(np.float64)), None
    return task, np.where(y != 0, y, np.nan), None
