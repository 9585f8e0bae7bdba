"""Fitted structures moved by new rows: the same parts, their learners told of more."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtl_classic._core.losses import is_learnable
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import Targets, decode_targets, encode_targets, known_share
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, take_rows
from mtl_classic.learners._protocol import ConstantFit, FitRequest, Floats
from mtl_classic.learners._resolve import resolve_learners
from mtl_classic.multitask._funnel import FunnelModel
from mtl_classic.multitask._per_task import PerTaskModel
from mtl_classic.multitask._task_graph import TaskGraphModel
from mtl_classic.multitask._workbench import checked_queries, conditional_labels, hurdle_labels, telling_weights

__all__ = ["KEPT", "LEFT", "Outcome", "refresh_structure"]

KEPT, LEFT = "kept", "cannot"  # nothing to move it by; no way to move it


@dataclass(frozen=True)
class Outcome:
    """What became of one part of a model.

    Attributes
    ----------
    task, part : str
        The part of the structure: "entire", "conditional", "happens", "amount", "combination".
    learner : str
        Its class.
    outcome : {"leaves", "rounds", "coefficients", "pass", "kept", "cannot"}
    why : str
        Of those that stay as they were.
    member : str, default=""
        In which member of an ensemble.
    """

    task: str
    part: str
    learner: str
    outcome: str
    why: str = ""
    member: str = ""


def refresh_structure(
    model: Any, X: Table, targets: Targets, weights: Floats | None, how: str, decay: float
) -> tuple[Any, list[Outcome]]:
    """A copy of a fitted structure with refreshed parts, and what became of each; routes of a funnel stay.

    Parts without a labelled row among the new ones stay, and so do constants, and what has no ``refresh_task``.
    """
    if type(model) is TaskGraphModel:
        return _refresh_graph(model, X, targets, weights, how, decay)
    if type(model) not in (PerTaskModel, FunnelModel):
        name = type(model).__name__
        why = f"{name} cannot be refreshed; PerTaskModel, FunnelModel and TaskGraphModel can"
        return model, [Outcome(task.name, "entire", name, LEFT, why) for task in model.tasks_]
    weights, queries = telling_weights(weights, targets), checked_queries(X, targets)
    if queries is not None:
        order = np.argsort(queries, kind="stable")
        X, targets, queries = take_rows(X, order), targets.take(order), queries[order]
        weights = None if weights is None else weights[order]
    features = model.columns_.transform(X)
    learners = resolve_learners(model.learner, model.tasks_)
    refreshed = copy(model)
    refreshed.fits_ = dict(model.fits_)
    outcomes: list[Outcome] = []
    for key, fit in model.fits_.items():
        name, part = key if isinstance(key, tuple) else (key, "entire")
        task, y, scale = _part(targets, weights, name, part)
        weight = None if weights is None else weights[:, targets.position(name)]
        weight = weight if scale is None else scale if weight is None else weight * scale
        usable = is_learnable(task.kind, y) & (True if weight is None else weight > 0)
        outcomes.append(_outcome(name, part, fit, learners[name], bool(usable.any()), how))
        if outcomes[-1].outcome in (KEPT, LEFT):
            continue
        request = FitRequest(
            task, y, np.flatnonzero(usable), weight=weight, groups=queries if task.kind == "ranking" else None,
            n_classes=model._n_classes(task), seed=spawn_seed(root_seed(model.random_state), name, part, "refresh"),
            n_threads=model._threads(),
        )  # fmt: skip
        learner: Any = learners[name]
        moved = learner.refresh_task(fit, features, request, how, decay)
        if moved is None:
            outcomes[-1] = replace(outcomes[-1], outcome=KEPT, why="the new rows lack a class that it knows")
        else:
            refreshed.fits_[key] = moved
    return refreshed, outcomes


def _refresh_graph(
    model: TaskGraphModel, X: Table, targets: Targets, weights: Floats | None, how: str, decay: float
) -> tuple[TaskGraphModel, list[Outcome]]:
    """First-level learners and combining ones move, these by first-level scores that have not seen the new labels."""
    base = model.base_._scores(model.base_._start_predict(X), "entire")
    refreshed = copy(model)
    refreshed.base_, outcomes = refresh_structure(model.base_, X, targets, weights, how, decay)
    refreshed.combiners_ = dict(model.combiners_)
    labels = decode_targets(targets)
    for task, read, _ in model._combinations(X, base):
        combiner = model.combiners_[task.name]
        if not isinstance(combiner, PerTaskModel):
            why = "its line keeps its slopes"
            outcomes.append(Outcome(task.name, "combination", type(combiner).__name__, KEPT, why))
            continue
        single = encode_targets(labels[[task.name]], combiner.tasks_, classes=targets.classes)
        weight = None if weights is None else weights[:, [targets.position(task.name)]]
        moved, own = refresh_structure(combiner, combiner._start_predict(read), single, weight, how, decay)
        refreshed.combiners_[task.name] = moved
        outcomes += [replace(outcome, part="combination") for outcome in own]
    return refreshed, outcomes


def _outcome(name: str, part: str, fit: Any, learner: Any, has_rows: bool, how: str) -> Outcome:
    """What is to become of a part."""
    kind = type(learner).__name__
    if isinstance(fit, ConstantFit):
        return Outcome(name, part, kind, KEPT, "it is a constant, with no trees to move")
    if not has_rows:
        return Outcome(name, part, kind, KEPT, "no new row has a label for it")
    way = how if hasattr(learner, "refresh_task") else None
    if hasattr(learner, "refresh_way"):
        way = learner.refresh_way(fit, how)
        if way is None and learner.refresh_way(fit, "rounds") is not None:
            return Outcome(name, part, kind, LEFT, 'its leaves hold no values to move, but lines; how="rounds" can')
    if way is None:
        inner = f" ({type(fit.model).__name__})" if hasattr(fit, "model") else ""
        why = f"{kind}{inner} cannot be refreshed; LightGBM, XGBoost, forests and linear models can"
        return Outcome(name, part, kind, LEFT, why)
    return Outcome(name, part, kind, way)


def _part(targets: Targets, weights: Floats | None, name: str, part: str) -> tuple[Task, Floats, Floats | None]:
    """What a part of a structure learns: its task, labels, and weights beside the user's."""
    task = targets.tasks[targets.position(name)]
    if part == "entire":
        return task, targets.view(name), known_share(targets, task, weights)
    if part == "conditional":
        return task, conditional_labels(targets, task), None
    return *hurdle_labels(task, targets.view(name))[part], None
