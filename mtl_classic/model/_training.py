"""What every part of the front door is fitted on: mature labels, roles, folds, seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import Floats, query_codes
from mtl_classic._core.delays import longest_delay
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.targets import Classes, encode_targets
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, n_rows, role_values, take_rows
from mtl_classic.events import EventLog
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._plans import check_plan, labels_for_folds, plan_for
from mtl_classic.model_selection._validation_split import validation_split

__all__ = ["Roles", "Training"]

Roles = dict[str, str | None]
VALIDATION_SHARE = 0.1


@dataclass
class Training:
    """The rows to fit on.

    Attributes
    ----------
    table : table of shape (n, p)
        Raw columns first; history and latent features are appended as they are made.
    labels : DataFrame of shape (n, n_tasks)
        Named by task, NaN where unlabelled or not mature; what contradicted each other is settled.
    told : DataFrame
        The same as the user told them, for parts that settle contradictions themselves.
    Y : the same labels in the form that the user gave
    X : table
        The raw columns alone.
    tasks : tuple of Task
    classes : dict task -> ndarray or None
    weights : ndarray of shape (n, n_tasks), or None
        Sample weights, 0 where a label was dropped.
    roles : dict role -> column or None
    events : EventLog or None
    plan : FoldPlan or None
    seed : int
    n_jobs : int or None
    """

    table: Table
    labels: pd.DataFrame
    told: pd.DataFrame
    Y: Any
    X: Table
    tasks: tuple[Task, ...]
    classes: Classes
    weights: Floats | None
    roles: Roles
    events: EventLog | None
    plan: FoldPlan | None
    seed: int
    n_jobs: int | None

    def __post_init__(self) -> None:
        check_plan(self.plan, n_rows(self.X))

    @property
    def sorted_tasks(self) -> list[Task]:
        """In an order that does not depend on the user's, so that it changes no column."""
        return sorted(self.tasks, key=lambda task: task.name)

    @property
    def named_weights(self) -> pd.DataFrame | None:
        """Sample weights with the tasks as columns, for parts that have the tasks in another order."""
        names = [task.name for task in self.tasks]
        return None if self.weights is None else pd.DataFrame(self.weights, columns=names)

    @property
    def counted(self) -> pd.DataFrame:
        """Labels, NaN also in rows without weight."""
        return labels_for_folds(self.labels, self.tasks, self.weights)

    def counted_views(self, rows: Rows) -> dict[str, Floats]:
        """Encoded labels of some rows by task, in the entire view, NaN also without weight."""
        views = encode_targets(take_rows(self.labels, rows), self.tasks, classes=self.classes).entire
        if self.weights is not None:
            views = np.where(self.weights[rows] > 0, views, np.nan)
        return {task.name: view for task, view in zip(self.tasks, views.T, strict=True)}

    @property
    def ids(self) -> list[str]:
        """The columns of user and item."""
        return [column for column in (self.roles["user"], self.roles["item"]) if column is not None]

    @property
    def has_time(self) -> bool:
        """Whether the rows have a time."""
        return self.roles["time"] is not None

    @property
    def time(self) -> Any:
        """Values of the time column, or None."""
        return role_values(self.X, self.roles["time"])

    @property
    def users(self) -> Any:
        """Who the rows belong to, for the noise of differences."""
        values = role_values(self.X, self.roles["user"])
        return None if values is None else values.to_numpy()

    @property
    def queries(self) -> Any:
        """Codes of the ranking groups, which are never split."""
        return query_codes(self.X, self.tasks)

    def seed_for(self, *names: Any) -> int:
        """A seed of one part's own."""
        return spawn_seed(self.seed, *names)

    def make_plan(self, cv: Any) -> FoldPlan:
        """Folds: in time where the rows have one and ``cv`` is a number."""
        time, seed = self.roles["time"], self.seed_for("folds")
        return plan_for(
            self.X,
            self.labels,
            self.tasks,
            cv,
            None,
            time=time,
            groups=None,
            seed=seed,
            sample_weight=self.weights,
        )

    def split(self) -> tuple[Rows, Rows] | None:
        """Training and validation rows by which choices are made: the last fold of the plan, else a tenth of the rows.

        None where there are too few rows to hold any out.
        """
        if self.plan is not None:
            return self.plan.last
        gap, seed = longest_delay(self.tasks, self.time), self.seed_for("validation")
        return validation_split(
            self.counted, VALIDATION_SHARE, groups=self.queries, time=self.time, gap=gap, random_state=seed
        )
