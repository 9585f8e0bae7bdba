"""A model moved by the rows of the last days, without fitting it anew."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from mtl_classic._core.targets import Targets, encode_targets
from mtl_classic._core.tasks import label_frame
from mtl_classic._core.validation import Table, check_sample_weight, n_rows, role_values, take_rows
from mtl_classic.ensemble import AveragingEnsemble, CalibratedModel
from mtl_classic.factorization import LatentFeatures
from mtl_classic.factorization._fm_base import BaseFactorizationMachine
from mtl_classic.factorization._members import LatentMember
from mtl_classic.model_selection._maturity import mask_immature
from mtl_classic.multitask._refresh import refresh_structure

__all__ = ["refresh_model"]

HOW = ("leaves", "rounds")


def refresh_model(model: Any, X: Any, Y: Any, sample_weight: Any, how: str, decay: float) -> Any:
    """What `MultiTaskModel.refresh` does."""
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(HOW)}, got {how!r}.")
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is the share of the old leaf values, from 0 to 1, got {decay!r}.")
    table = model._start_predict(X)
    targets = _targets(model, table, Y)
    if len(targets) != n_rows(table) or not len(targets):
        raise ValueError(f"X has {n_rows(table)} rows and Y {len(targets)}; expected the same number, at least one.")
    weights = check_sample_weight(sample_weight, model.tasks_, len(targets))
    steps: list[tuple[str, Any]] = []
    for name, step in model.pipeline_.steps[:-1]:
        before, table = table, step.transform(table)  # by factors that have not seen these labels
        step = copy(step)
        steps.append(
            (name, _moved_latent(step, before, targets, weights) if isinstance(step, LatentFeatures) else step)
        )
    name, last = model.pipeline_.steps[-1]
    refreshed = copy(model)
    moved = _refreshed(last, last._start_predict(table), targets, weights, how, decay)
    refreshed.pipeline_ = Pipeline([*steps, (name, moved)])
    return refreshed


def _targets(model: Any, table: Table, Y: Any) -> Targets:
    """Labels in the coding of the fit, without those that are not mature as far as the log goes."""
    labels, time = label_frame(Y), role_values(table, model.roles_["time"])
    names = [task.name for task in model.tasks_]
    if not set(names) <= set(labels.columns) and len(names) == labels.shape[1]:
        labels = labels.set_axis(names, axis=1)
    if time is not None:
        labels, _ = mask_immature(labels, model.tasks_, time, model.as_of_)
    return encode_targets(labels, model.tasks_, classes=model.classes_map_, on_conflict=model._conflict_rule())


def _refreshed(model: Any, table: Table, targets: Targets, weights: Any, how: str, decay: float) -> Any:
    if isinstance(model, CalibratedModel):
        return model.over(_refreshed(model.estimator_, table, targets, weights, how, decay))
    if not isinstance(model, AveragingEnsemble):
        return refresh_structure(model, table, targets, weights, how, decay)
    new = copy(model)
    new.named_estimators_ = {
        name: _refreshed(member, member._start_predict(table), targets, weights, how, decay)
        for name, member in model.named_estimators_.items()
    }
    new.estimators_ = list(new.named_estimators_.values())
    if model.cv == "prefit":
        new.estimators = list(new.named_estimators_.items())
    return new


def _moved_latent(step: LatentFeatures, table: Table, targets: Targets, weights: Any) -> LatentFeatures:
    """Latent features whose factorization machines have made a pass over the new rows, where their solver can."""
    step._members = {name: _moved_member(member, table, targets, weights) for name, member in step._members.items()}
    step.models_ = {name: member.model_ for name, member in step._members.items()}
    return step


def _moved_member(member: LatentMember, table: Table, targets: Targets, weights: Any) -> LatentMember:
    new, model = copy(member), member.model_
    if not isinstance(model, BaseFactorizationMachine) or not hasattr(model, "partial_fit"):
        new.model_ = copy(model) if isinstance(model, BaseEstimator) else model
        return new
    y = targets.view(str(member.task))
    weight = None if weights is None else weights[:, targets.position(str(member.task))]
    known = np.flatnonzero(~np.isnan(y) & (y != -1) & (True if weight is None else weight > 0))
    new.model_ = deepcopy(model)
    if len(known):
        given = None if weight is None else weight[known]
        labels = new._labels(targets, y[known])
        new.model_.partial_fit(take_rows(table, known), labels, sample_weight=given)
    return new
