"""Out-of-fold scores of all tasks, and linear combinations of them that are themselves judged out of fold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtl_classic._core.base import Scores
from mtl_classic._core.losses import is_learnable
from mtl_classic._core.targets import Targets, row_weight
from mtl_classic._core.tasks import Task
from mtl_classic.learners._protocol import Floats, Rows
from mtl_classic.metrics import compare
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._graph_edges import Edge
from mtl_classic.multitask._linear_combiner import LinearCombiner, fit_linear
from mtl_classic.multitask._score_columns import as_columns, source_columns
from mtl_classic.multitask._verdicts import counted, row_losses

__all__ = ["OutOfFold", "looks_forward"]

MIN_ROWS = 10  # labelled rows outside a fold, below which its rows keep their own score


@dataclass
class OutOfFold:
    """First-level scores for rows that no learner saw, and what is built on them.

    Attributes
    ----------
    targets : Targets
    weights : ndarray of shape (n, n_tasks) or None
    scores : dict task -> ndarray
        NaN where no fold covers a row.
    plan : FoldPlan
    fold : ndarray of shape (n,)
    groups : ndarray or None
        Queries.
    clusters : array or None
        Who the rows belong to, for the bootstrap.
    scale : str
    penalty : float
    final : dict task -> ndarray
        Scores after combination; at first those of the first level.
    forward : bool
        Whether each fold is predicted from earlier ones only.
    """

    targets: Targets
    weights: Floats | None
    scores: Scores
    plan: FoldPlan
    fold: Rows
    groups: Rows | None
    clusters: Any
    scale: str
    penalty: float
    final: Scores = field(init=False)
    forward: bool = field(init=False)
    _weight: dict[str, Floats] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.final = dict(self.scores)
        self.covered = self.fold >= 0
        self.forward = looks_forward(self.plan)

    def able(self) -> set[str]:
        """Tasks that can be combined: they have enough labels, of two kinds."""
        return {task.name for task in self.targets.tasks if self._tell(task, self.usable(task))}

    def weight(self, task: Task) -> Floats:
        """Weights of the rows for a task, in its entire view."""
        if task.name not in self._weight:
            self._weight[task.name] = row_weight(self.targets, task, self.weights)
        return self._weight[task.name]

    def usable(self, task: Task) -> Rows:
        """Labelled, covered rows of positive weight."""
        y = self.targets.view(task.name)
        return np.flatnonzero(is_learnable(task.kind, y) & self.covered & (self.weight(task) > 0))

    def columns(self, task: Task, sources: Iterable[Edge]) -> Floats:
        """The task's own column and those of its sources, of shape (n, p)."""
        own = as_columns(task, self.scores[task.name], self.scale)
        return np.column_stack([own, *source_columns(sources, self.targets.tasks, self.scores, self.final, self.scale)])

    def fit(self, task: Task, columns: Floats, rows: Rows | None = None) -> LinearCombiner:
        """The line through all usable rows, or some of them."""
        rows = self.usable(task) if rows is None else rows
        return fit_linear(
            task.kind,
            columns[rows],
            self.targets.view(task.name)[rows],
            self.weight(task)[rows],
            penalty=self.penalty,
            n_classes=self.targets.n_classes(task),
            groups=self._queries(task, rows),
        )

    def cross(self, task: Task, columns: Floats) -> Floats:
        """Scores of lines from the rows that the fold's own model learnt from: in time, earlier ones of known labels.

        They have the shape of the task's own scores, which stay where there are too few rows to draw a line.
        """
        out = self.scores[task.name].copy()
        usable = self.usable(task)
        for learnt, test in self.plan.splits:
            inside = np.zeros(len(out), dtype=bool)
            inside[learnt] = True
            train = usable[inside[usable]]
            if self._tell(task, train):
                out[test] = self.fit(task, columns, train).predict(columns[test])
        return out

    def _tell(self, task: Task, rows: Rows) -> bool:
        """Whether the rows have enough labels, or queries with gain, to draw a line by, and of two kinds."""
        y, queries = self.targets.view(task.name)[rows], self._queries(task, rows)
        enough = len(rows if queries is None else np.unique(queries[y > 0])) >= MIN_ROWS
        return enough and bool((y != y[0]).any())

    def _queries(self, task: Task, rows: Rows) -> Rows | None:
        return self.groups[rows] if task.kind == "ranking" and self.groups is not None else None

    def losses(self, task: Task, scores: Floats) -> Floats:
        """Loss of each row in the entire space."""
        return row_losses(task, self._counted(task)[0], scores, self.groups)

    def loss_weight(self, task: Task) -> Floats:
        """What each of the `losses` weighs."""
        return self._counted(task)[1]

    def _counted(self, task: Task) -> tuple[Floats, Floats]:
        return counted(task, self.targets.view(task.name), self.weight(task), self.groups)

    def against_own(self, task: Task, scores: Floats) -> Any:
        """The paired bootstrap of combined scores against those of the task's own learner."""
        mine, own = self.losses(task, scores), self.losses(task, self.scores[task.name])
        table = compare(
            {task.name: mine}, {task.name: own}, clusters=self.clusters, sample_weight=self.loss_weight(task)
        )
        return table.iloc[0]


def looks_forward(plan: FoldPlan) -> bool:
    """Whether each fold is predicted from earlier ones only: `Temporal` folds, and splitters as TimeSeriesSplit."""
    fold = plan.fold
    return plan.temporal or all(fold[train].max(initial=-1) < k for k, (train, _) in enumerate(plan.splits))
