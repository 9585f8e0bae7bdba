"""What the structures that fit a learner for each task share: their parameters, and the way back from components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.parallel import n_threads
from mtl_classic._core.random import root_seed
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic._core.validation import Table
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.learners._protocol import Floats
from mtl_classic.learners._resolve import TakesLearner
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._workbench import Workbench, open_workbench

__all__ = ["LearnerStructure", "condition_probability", "hold_monotone", "predict_components", "to_conditional"]


class LearnerStructure(TakesLearner, MultiTaskEstimator):
    """Base of the structures over one binned matrix."""

    learner: Any
    exclude: Sequence[str]
    early_stopping: bool
    n_jobs: int | None
    random_state: Any
    columns_: FeatureColumns
    fits_: dict[Any, Any]

    def _open(
        self, X: Any, Y: Any, sample_weight: Any, plan: FoldPlan | None, like: Workbench | None = None
    ) -> Workbench:
        given = self._start_fit(X, Y, sample_weight)
        bench = open_workbench(
            self,
            given,
            plan=plan,
            seed=root_seed(self.random_state),
            learner=self.learner,
            early_stopping=self.early_stopping,
            like=like,
        )
        self.columns_ = bench.columns
        return bench

    def _threads(self) -> int:
        return n_threads(self.n_jobs)


def condition_probability(task: Task, tasks: Sequence[Task], classes: Classes, entire: Scores) -> Floats:
    """P(the condition of a funnel child holds), from the entire-space scores of its ancestors.

    A binary parent's own probability; for a class of a multiclass parent the probability of the class times that of
    the parent's own condition, because multiclass scores are conditional.
    """
    by_name = {t.name: t for t in tasks}
    parent = by_name[str(task.parent)]
    if parent.kind == "binary":
        return entire[parent.name]
    labels = classes[parent.name]
    code = np.flatnonzero(np.asarray(labels) == task.parent_class)[0]
    probability: Floats = entire[parent.name][:, code]
    if parent.parent is not None:
        probability = probability * condition_probability(parent, tasks, classes, entire)
    return probability


def hold_monotone(tasks: Sequence[Task], classes: Classes, entire: Scores) -> Scores:
    """Lower binary children to their parent where they exceed it: P(child) ≤ P(parent) always."""
    held = dict(entire)
    for task in fitting_order(tasks):
        if task.parent is not None and task.kind == "binary":
            held[task.name] = np.minimum(held[task.name], condition_probability(task, tasks, classes, held))
    return held


def to_conditional(tasks: Sequence[Task], classes: Classes, entire: Scores) -> Scores:
    """Entire-space scores of a structure that has no conditional models, divided by the parent's probability."""
    conditional = dict(entire)
    for task in tasks:
        if task.parent is None or task.kind in ("multiclass", "ranking"):
            continue
        p = np.maximum(condition_probability(task, tasks, classes, entire), 1e-12)
        ratio = entire[task.name] / p
        conditional[task.name] = np.clip(ratio, 0.0, 1.0) if task.kind == "binary" else ratio
    return conditional


def predict_components(model: LearnerStructure, X: Table, fits: dict[Any, Any]) -> dict[Any, Floats]:
    """Scores of every component over one encoding of the table."""
    features = model.columns_.transform(X)
    return {key: fit.predict(features, model._threads()) for key, fit in fits.items()}
