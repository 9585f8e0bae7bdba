"""The architectures of multi-task learning by name, and the models of several families that "best" tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.random import seeds_within
from mtl_classic.factorization import MultiTaskFactorizationMachine
from mtl_classic.model._latent_choice import LatentOffer
from mtl_classic.model._training import Training
from mtl_classic.multitask import FunnelModel, PerTaskModel, SharedTreesModel, TaskGraphModel

__all__ = ["STRUCTURES", "Member", "families", "is_standard", "make_structure", "simple_structure"]

STRUCTURES = ("parallel", "serial", "hierarchical", "fusion", "dynamic")
MOST_ROWS = {"linear": 2_000_000, "extra_trees": 50_000}  # beyond, the family is not tried: it would take too long
ROWS_OF_A_FOREST = 1_500_000  # over all its extra trees
SEEDS = 2  # of the boosters among other families
SEEDS_ALONE = 3
KINDS_OF_FACTORS = ("binary", "multiclass", "regression", "count")


def simple_structure(training: Training, learner: Any, mode: str = "product") -> MultiTaskEstimator:
    """A funnel if any task has a parent, else a learner per task."""
    if any(task.parent for task in training.tasks):
        return FunnelModel(learner=learner, mode=mode, **_shared(training))
    return PerTaskModel(learner=learner, **_shared(training))


def make_structure(
    training: Training, structure: Any, learner: Any, *, cv: Any, task_weights: Any, route: str
) -> MultiTaskEstimator:
    """The unfitted structure that a name stands for, or a clone of the user's with what it leaves at None.

    Parameters
    ----------
    training : Training
    structure : name or unfitted estimator
    learner, cv, task_weights : as the front door has them
    route : str
        ``mode`` of a funnel.
    """
    shared = _shared(training)
    if isinstance(structure, BaseEstimator):
        return _completed(clone(structure), shared, training)
    if structure == "parallel":
        return PerTaskModel(learner=learner, **shared)
    if structure == "hierarchical":
        return FunnelModel(learner=learner, mode=route, **shared)
    if structure == "fusion":
        return SharedTreesModel(fallback=learner, task_weights=task_weights, **shared)
    if structure in ("serial", "dynamic"):
        weights = None if isinstance(task_weights, str) else task_weights
        return TaskGraphModel(edges=structure, learner=learner, cv=cv, task_weights=weights, **shared)
    return simple_structure(training, learner, route)


def _completed(structure: Any, shared: dict[str, Any], training: Training) -> Any:
    """Set what the user left at None; tasks, roles and seeds also in the members of an ensemble."""
    chosen = {}
    for name, value in structure.get_params(deep=True).items():
        *inside, last = name.split("__")
        if value is None and last in shared and not (inside and last in ("n_jobs", "random_state")):
            chosen[name] = shared[last]
    return structure.set_params(**chosen | seeds_within(structure, training.seed, "structure", unset=True))


def _shared(training: Training) -> dict[str, Any]:
    return {
        **training.roles,
        "tasks": training.tasks,
        "n_jobs": training.n_jobs,
        "random_state": training.seed_for("structure"),
    }


@dataclass(frozen=True)
class Member:
    """A model that may enter the ensemble.

    Attributes
    ----------
    name : str
    model : unfitted estimator
    cost : float
        Time to fit, as a multiple of the first member's.
    n_seeds : int
        Fits on all rows, with different seeds, that are averaged if it enters.
    latent : LatentOffer, default=None
        Whose columns it reads beside those of the table.
    """

    name: str
    model: MultiTaskEstimator
    cost: float = 1.0
    n_seeds: int = 1
    latent: LatentOffer | None = None


def is_standard(structure: MultiTaskEstimator, learner: Any) -> bool:
    """Whether nothing about structure and learner is of the user's own choice."""
    return type(structure) in (PerTaskModel, FunnelModel) and isinstance(learner, str) and learner == "lightgbm"


def families(
    training: Training, structure: MultiTaskEstimator, learner: Any, latent: LatentOffer | None = None
) -> list[Member]:
    """The structure, and what can stand beside it: the same with other learners, and factorization machines.

    A structure or a learner of the user's own choice is not second-guessed: then only its seeds are averaged.
    """
    if not is_standard(structure, learner):
        return [Member("model", structure, n_seeds=SEEDS_ALONE)]
    rows = len(training.labels)
    members = [Member("lightgbm", structure, n_seeds=SEEDS)]
    if latent is not None:
        members.append(Member("lightgbm_latent", structure, latent=latent))
    members.append(Member("xgboost", clone(structure).set_params(learner="xgboost"), 1.5, SEEDS))
    if rows <= MOST_ROWS["linear"]:
        members.append(Member("linear", clone(structure).set_params(learner="linear"), 0.7))
    if rows <= MOST_ROWS["extra_trees"]:
        forest = SharedTreesModel(trees="extra", n_trees=_n_extra_trees(rows), **_shared(training))
        members.append(Member("extra_trees", forest, 1.0))
    if isinstance(training.table, pd.DataFrame) and training.ids and _factorizable(training):
        members.append(Member("factors", _machine(training), 0.5))
    return members


def _n_extra_trees(rows: int) -> int:
    """Fewer where the rows are many: such trees differ less from their mean, and each takes longer to grow."""
    return int(np.clip(ROWS_OF_A_FOREST / max(rows, 1), 50, 300))


def _factorizable(training: Training) -> bool:
    return all(task.kind in KINDS_OF_FACTORS and not task.is_soft for task in training.tasks)


def _machine(training: Training) -> MultiTaskFactorizationMachine:
    left_out = [column for column in (training.roles["time"], training.roles["query"]) if column is not None]
    return MultiTaskFactorizationMachine(
        training.tasks,
        user=training.roles["user"],
        categorical=training.ids,
        exclude=left_out,
        fallback=False,
        random_state=training.seed_for("factors"),
    )
