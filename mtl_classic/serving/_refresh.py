"""A model moved by the rows of the last days, without fitting it anew."""

from __future__ import annotations

import warnings
from copy import copy, deepcopy
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.losses import is_learnable
from mtl_classic._core.options import NUMBER, Kind, check_option
from mtl_classic._core.targets import Targets, decode_targets, encode_targets, match_columns
from mtl_classic._core.validation import Table, check_labels_of, check_sample_weight, role_values, take_rows
from mtl_classic.ensemble import AveragingEnsemble, CalibratedModel, StackingEnsemble
from mtl_classic.factorization import LatentFeatures, MatrixFactorization, MultiTaskFactorizationMachine
from mtl_classic.factorization._fm_base import BaseFactorizationMachine
from mtl_classic.factorization._members import LatentMember
from mtl_classic.model_selection._maturity import mask_immature
from mtl_classic.multitask._refresh import KEPT, LEFT, Outcome, refresh_structure
from mtl_classic.serving._factors import log_of
from mtl_classic.serving._observe import own_step

__all__ = ["refresh_model"]

DECAY = Kind("a number from 0 to 1", NUMBER.is_type, lambda value: 0 <= value <= 1)
HOW = ("leaves", "rounds")
COLUMNS = ["member", "task", "part", "learner", "outcome", "why"]


def refresh_model(model: Any, X: Any, Y: Any, sample_weight: Any, how: str, decay: float) -> Any:
    """What `MultiTaskModel.refresh` does."""
    check_option("how", how, HOW)
    check_option("decay", decay, DECAY)
    table = model._start_predict(X)
    targets = _targets(model, table, Y)
    check_labels_of(table, targets, sample_weight)
    if not len(targets):
        raise ValueError("X and Y have 0 rows; a refresh needs at least one.")
    weights = check_sample_weight(sample_weight, model.tasks_, len(targets))
    steps: list[tuple[str, Any]] = []
    outcomes: list[Outcome] = []
    first, log = _first_time(model, table, targets), log_of(model)
    for name, step in model.pipeline_.steps[:-1]:
        then = step._before(first, log) if first is not None and hasattr(step, "_before") else step
        before, table = table, then.transform(table)  # by factors that have not seen these labels
        step = copy(step) if isinstance(step, LatentFeatures) else own_step(step)
        if isinstance(step, LatentFeatures):
            outcomes += _move_latent(step, before, targets, weights)
        steps.append((name, step))
    name, last = model.pipeline_.steps[-1]
    refreshed = copy(model)
    moved, of_model = _refreshed(last, last._start_predict(table), targets, weights, how, decay)
    refreshed.pipeline_ = Pipeline([*steps, (name, moved)])
    refreshed.refreshed_ = _told(outcomes + of_model)
    return refreshed


def _first_time(model: Any, table: Table, targets: Targets) -> Any:
    """The time of the first row with a label; None without times or labels."""
    time, labelled = role_values(table, model.roles_["time"]), np.flatnonzero(~np.isnan(targets.entire).all(axis=1))
    return None if time is None or not len(labelled) else pd.Series(time).iloc[labelled].min()


def _told(outcomes: list[Outcome]) -> pd.DataFrame:
    """All outcomes as a table; an error if nothing could be moved, a warning if something could not."""
    left = [outcome for outcome in outcomes if outcome.outcome == LEFT]
    reasons = "; ".join(dict.fromkeys(outcome.why for outcome in left))
    if left and all(outcome.outcome in (LEFT, KEPT) for outcome in outcomes):
        raise TypeError(f"Nothing of this model can be refreshed: {reasons}. Fit it anew.")
    if left:
        warnings.warn(
            f"{len(left)} of {len(outcomes)} parts stay as they were: {reasons}. See refreshed_.",
            FallbackWarning,
            stacklevel=4,
        )
    return pd.DataFrame([asdict(outcome) for outcome in outcomes])[COLUMNS]


def _targets(model: Any, table: Table, Y: Any) -> Targets:
    """Labels in the coding of the fit, without those that are not mature as far as the log goes."""
    labels, time = match_columns(Y, model.tasks_), role_values(table, model.roles_["time"])
    if time is not None:
        labels, _ = mask_immature(labels, model.tasks_, time, model.as_of_, all_may_go=True)
    return encode_targets(labels, model.tasks_, classes=model.classes_map_, on_conflict=model._conflict_rule())


def _refreshed(
    model: Any, table: Table, targets: Targets, weights: Any, how: str, decay: float
) -> tuple[Any, list[Outcome]]:
    if isinstance(model, CalibratedModel):
        inner, outcomes = _refreshed(model.estimator_, table, targets, weights, how, decay)
        return model.over(inner), outcomes
    if isinstance(model, MultiTaskFactorizationMachine):
        return _passed(model, table, targets, weights)
    if not isinstance(model, AveragingEnsemble | StackingEnsemble):
        return refresh_structure(model, table, targets, weights, how, decay)
    new, outcomes = copy(model), []
    new.named_estimators_ = {}
    for name, member in model.named_estimators_.items():
        moved, own = _refreshed(member, member._start_predict(table), targets, weights, how, decay)
        new.named_estimators_[name] = moved
        outcomes += [replace(one, member="/".join(filter(None, (name, one.member)))) for one in own]
    new.estimators_ = list(new.named_estimators_.values())
    if isinstance(model.cv, str) and model.cv == "prefit":
        new.estimators = list(new.named_estimators_.items())
    return new, outcomes


def _passed(
    model: MultiTaskFactorizationMachine, table: Table, targets: Targets, weights: Any
) -> tuple[Any, list[Outcome]]:
    """The machine of several tasks after a pass over the new rows."""
    labels, why = decode_targets(targets), {}
    for task in model.tasks_:
        if task.name in model.constants_:
            labels[task.name], why[task.name] = None, "it is a constant, with no factors to move"
        elif labels[task.name].isna().all():
            why[task.name] = "no new row has a label for it"
    outcomes = [
        Outcome(task.name, "entire", type(model).__name__, KEPT if task.name in why else "pass", why.get(task.name, ""))
        for task in model.tasks_
    ]
    if len(why) == len(model.tasks_):
        return model, outcomes
    given = targets.weigh(weights)
    order = [targets.position(task.name) for task in model.tasks_]
    moved = deepcopy(model).partial_fit(table, labels, sample_weight=None if given is None else given[:, order])
    return moved, outcomes


def _move_latent(step: LatentFeatures, table: Table, targets: Targets, weights: Any) -> list[Outcome]:
    """Let the factorization machines make a pass over the new rows, where their solver can."""
    members, outcomes = {}, []
    for name, member in step._members.items():
        if isinstance(member.model_, MultiTaskFactorizationMachine):
            members[name] = copy(member)
            members[name].model_, own = _passed(member.model_, table, targets, weights)
            outcomes += [replace(one, part="factors", member=f"latent/{name}") for one in own]
            continue
        members[name], outcome, why = _moved_member(member, table, targets, weights)
        task = "" if member.task is None else str(member.task)
        outcomes.append(Outcome(task, "factors", type(member.model_).__name__, outcome, why, f"latent/{name}"))
    step._members, step.models_ = members, {name: member.model_ for name, member in members.items()}
    return outcomes


def _moved_member(member: LatentMember, table: Table, targets: Targets, weights: Any) -> tuple[LatentMember, str, str]:
    new, model = copy(member), member.model_
    if isinstance(model, MatrixFactorization):
        new.model_ = deepcopy(model)  # events that are told to the new model must not move users of the old one
        return new, KEPT, "observe moves its users; items keep their factors"
    if not isinstance(model, BaseFactorizationMachine) or not hasattr(model, "partial_fit"):
        new.model_ = copy(model) if isinstance(model, BaseEstimator) else model
        return new, LEFT, f"{type(model).__name__} of this solver makes no passes"
    at = targets.position(str(member.task))
    y, weight = targets.entire[:, at], None if weights is None else weights[:, at]
    known = np.flatnonzero(is_learnable(targets.tasks[at].kind, y) & (True if weight is None else weight > 0))
    if not len(known):
        return new, KEPT, "no new row has a label for it"
    new.model_ = deepcopy(model)
    given = None if weight is None else weight[known]
    new.model_.partial_fit(take_rows(table, known), new._labels(y[known]), sample_weight=given)
    return new, "pass", ""
