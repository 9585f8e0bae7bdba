"""Where structures fit their learners: one matrix, binned once, one validation split, one seed for each task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.base import FitInput, query_codes
from mtl_classic._core.delays import longest_delay
from mtl_classic._core.exceptions import FoldError, LabelError, RoleError, TaskError, UnusedColumnsWarning
from mtl_classic._core.losses import is_learnable
from mtl_classic._core.parallel import n_threads
from mtl_classic._core.random import spawn_seed
from mtl_classic._core.targets import Targets, known_share
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, find_role, role_values, take_rows
from mtl_classic.learners._columns import FeatureColumns, Features
from mtl_classic.learners._protocol import FitRequest, Floats, Learner, Rows, TaskFit
from mtl_classic.learners._resolve import resolve_learners
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._validation_split import validation_split

__all__ = [
    "MIN_VALIDATION_EVENTS",
    "Component",
    "Workbench",
    "can_stop",
    "checked_queries",
    "conditional_labels",
    "hurdle_labels",
    "n_events",
    "open_workbench",
    "telling_weights",
]

MIN_VALIDATION_EVENTS = 10  # fewer rows of the rarer class than this, and stopping by them would follow noise
LIGHT = 0.01  # weights below this count no rows: learners bound and shrink leaves by numbers of rows


@dataclass(frozen=True)
class Component:
    """A fit on all its rows, and where there was a validation split the one that has not seen it."""

    fit: TaskFit
    held_out: TaskFit | None


@dataclass
class Workbench:
    """Everything that the fits of one structure share.

    Rows are in the order of fitting: sorted by query where there is a ranking task, else as they came.

    In the phase ``"whole"`` a part stops by the validation rows and is then fitted on all rows. ``"held out"`` ends
    before that, and lets no part see a validation row, unless all of its labels are there: nothing can be judged by
    such a part. ``"final"`` is what was left to do, for the ``rounds`` found.
    """

    columns: FeatureColumns
    features: Features
    targets: Targets
    weights: Floats | None
    groups: Rows | None
    split: tuple[Rows, Rows] | None
    learners: dict[str, Learner]
    binned: dict[int, Any]
    refit: bool
    seed: int
    threads: int
    order: Rows | None
    clusters: Any
    phase: str = "whole"
    rounds: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def fit_entire(self, task: Task, *, judged: bool = False) -> Component:
        """Fit a task on its entire view.

        A negative ancestor makes a child's label known to be 0. Where only a share of the children of positive ones is
        labelled, those zeros weigh that share, or the child would seem rarer than it is.
        """
        scale = known_share(self.targets, task, self.weights)
        return self.fit(task, self.targets.view(task.name), scale=scale, judged=judged)

    def fit(
        self,
        task: Task,
        y: Floats,
        purpose: str = "own",
        *,
        learner: Learner | None = None,
        scale: Floats | None = None,
        judged: bool = False,
    ) -> Component:
        """Fit one task on the rows where ``y`` is not NaN and the weight not 0; ``scale`` multiplies the weights.

        Of a learner that does not stop early there is a fit without the validation rows only if it is to be ``judged``.
        """
        learner = learner or self.learners[task.name]
        binned = self._bin(learner)
        weight = None if self.weights is None else self.weights[:, self.targets.position(task.name)]
        if scale is not None:
            weight = scale if weight is None else weight * scale
        usable = is_learnable(task.kind, y)
        if weight is not None:
            usable &= weight > 0
            weight = None if (weight[usable] == 1).all() else weight
        everything = FitRequest(
            task,
            y,
            rows=np.flatnonzero(usable),
            weight=weight,
            groups=self.groups if task.kind == "ranking" else None,
            n_classes=self.targets.n_classes(task),
            seed=spawn_seed(self.seed, task.name, purpose),
            n_threads=self.threads,
        )
        key = (task.name, purpose)
        if self.phase == "final":
            everything = replace(everything, n_rounds=self.rounds.get(key))
            return Component(learner.fit_task(binned, everything), None)
        stops = learner.early_stops
        rows = self._validation(task, y, usable) if stops or judged else None
        if rows is None:
            train = everything.rows if self.split is None else self.split[0][usable[self.split[0]]]
            if self.phase == "held out" and len(train):
                everything = replace(everything, rows=train)
            return Component(learner.fit_task(binned, everything), None)
        held_out = learner.fit_task(binned, replace(everything, rows=rows[0], valid_rows=rows[1] if stops else None))
        self.rounds[key] = held_out.n_rounds
        if self.phase == "held out" or (stops and not self.refit):
            return Component(held_out, held_out)
        return Component(learner.fit_task(binned, replace(everything, n_rounds=held_out.n_rounds)), held_out)

    def _bin(self, learner: Learner) -> Any:
        if id(learner) not in self.binned:
            self.binned[id(learner)] = learner.bin(self.features, n_threads=self.threads)
        return self.binned[id(learner)]

    def _validation(self, task: Task, y: Floats, usable: npt.NDArray[np.bool_]) -> tuple[Rows, Rows] | None:
        """Training and validation rows of one task, or None where there are too few labels to stop by."""
        if self.split is None:
            return None
        train, valid = (rows[usable[rows]] for rows in self.split)
        return (train, valid) if can_stop(task, y, usable, self.split) and (y[train] != y[train[0]]).any() else None


def open_workbench(
    model: Any,
    given: FitInput,
    *,
    plan: FoldPlan | None,
    seed: int,
    learner: Any,
    early_stopping: bool,
    like: Workbench | None = None,
    option: str = "learner",
) -> Workbench:
    """Encode the features once, put queries together, and choose the validation rows.

    Parameters
    ----------
    model : structure with ``roles_`` and the parameters ``exclude``, ``max_categories``, ``validation_fraction``,
        ``refit``, ``n_jobs``
    given : FitInput
    plan : FoldPlan or None
        Early stopping uses its last fold; without one a part of the rows is split off.
    seed : int
    learner : what the user gave as ``learner=``
    early_stopping : bool
    like : Workbench, default=None
        One of another structure on the same rows, whose encoded features and labels are taken over where they would be
        the same.
    option : str, default="learner"
        The name of the parameter that gave the learner, for errors.
    """
    check_plan(plan, len(given.targets))
    tasks, roles = given.targets.tasks, model.roles_
    learners = resolve_learners(learner, tasks, option)
    queries = checked_queries(given.X, given.targets)
    order = None
    X, targets, weights = given.X, given.targets, telling_weights(given.weights, given.targets)
    split = _split(model, given, queries, plan, seed) if early_stopping else None
    if queries is not None:
        order = np.argsort(queries, kind="stable")
        place = np.argsort(order)
        X, targets, queries = take_rows(X, order), targets.take(order), queries[order]
        weights = None if weights is None else weights[order]
        split = None if split is None else (np.sort(place[split[0]]), np.sort(place[split[1]]))
    targets = targets if like is None else targets.shared_with(like.targets)
    columns = FeatureColumns(_excluded(X, tasks, roles, model.exclude), _ids(roles), model.max_categories)
    if like is not None and columns.settings == like.columns.settings:
        columns, features = like.columns, like.features
    else:
        features = columns.fit(X).transform(X)
        _tell_of_unused(columns, X)
    return Workbench(
        columns,
        features,
        targets,
        weights,
        queries,
        split,
        learners,
        {},
        model.refit,
        seed,
        n_threads(model.n_jobs),
        order,
        _clusters(X, roles, queries),
    )


def conditional_labels(targets: Targets, task: Task) -> Floats:
    """What a model of a child given its parent learns from: the conditional view, but not where the parent is unknown.

    There the view holds children that happened (so the parent did) without those that did not (it may have been the
    parent that did not): learnt from, they would make the child seem likelier than it is. They stay where the known
    parents never have a zero, as amounts, and where no other child happened.
    """
    y = targets.view(task.name, "conditional")
    if task.parent is None or task.kind in ("multiclass", "ranking"):
        return y
    known = ~np.isnan(targets.view(task.parent))
    told = y[known & ~np.isnan(y)]
    return np.where(known, y, np.nan) if (told == 0).any() and (told != 0).any() else y


def hurdle_labels(task: Task, y: Floats) -> dict[str, tuple[Task, Floats]]:
    """The two parts of a hurdle, each a task with its labels: whether there is anything, and how much."""
    happens = np.where(np.isnan(y), np.nan, (y != 0).astype(np.float64))
    return {"happens": (Task(task.name, "binary"), happens), "amount": (task, np.where(y != 0, y, np.nan))}


def telling_weights(weights: Floats | None, targets: Targets) -> Floats | None:
    """The user's weights; those of a task that are all tiny, as where they add up to 1, are multiplied up.

    A weight stands for as many rows, so that weights without a scale of their own would leave nothing but the prior.
    The typical weight, the sum of squares over the sum, becomes 1: then they add up to the effective number of rows.
    """
    if weights is None:
        return None
    steady = np.array(weights)
    for j, own in enumerate(steady.T):
        counted = own[~np.isnan(targets.entire[:, j])]
        largest = counted.max(initial=0.0)
        if largest > 0:
            relative = counted / largest  # squares would be too small
            typical = (relative**2).sum() / relative.sum()
            if largest * typical < LIGHT:
                steady[:, j] = own / largest / typical
    return steady


def n_events(task: Task, y: Floats) -> float:
    """Labelled rows that carry information: outside the commonest class, counts and grades that are not 0, else all."""
    if task.kind == "binary":
        return float(min(y.sum(), len(y) - y.sum()))
    if task.kind == "multiclass":
        return float(len(y) - np.unique(y, return_counts=True)[1].max(initial=0))
    return float((y > 0).sum()) if task.kind in ("count", "ranking") else float(len(y))


def can_stop(task: Task, y: Floats, usable: npt.NDArray[np.bool_], split: tuple[Rows, Rows]) -> bool:
    """Whether both parts of a split have usable labels enough to stop by."""
    return all(n_events(task, y[rows[usable[rows]]]) >= MIN_VALIDATION_EVENTS for rows in split)


def _split(
    model: Any, given: FitInput, queries: Rows | None, plan: FoldPlan | None, seed: int
) -> tuple[Rows, Rows] | None:
    if plan is not None:
        if queries is not None:
            shared = len(np.intersect1d(queries[plan.last[0]], queries[plan.last[1]]))
            if shared:
                raise FoldError(
                    f"The last fold of the plan splits {shared} queries between training and validation; "
                    f"make it with make_folds(…, groups=the query)."
                )
        return plan.last
    Y = pd.DataFrame({task.name: given.counted(task.name) for task in given.targets.tasks})
    time = role_values(given.X, model.roles_["time"])
    gap = longest_delay(given.targets.tasks, time)
    random_state = spawn_seed(seed, "validation")
    return validation_split(Y, model.validation_fraction, groups=queries, time=time, gap=gap, random_state=random_state)


def checked_queries(X: Table, targets: Targets) -> Rows | None:
    """The query of each row, where there are ranking tasks: one for all of them, known wherever there is a label."""
    ranking = [task for task in targets.tasks if task.kind == "ranking"]
    if not ranking:
        return None
    different = {task.query_columns for task in ranking}
    if len(different) > 1:
        raise TaskError(
            f"Ranking tasks of one model share their query; got {sorted(different)}. Use one model for each."
        )
    codes = query_codes(X, ranking)
    columns = [str(find_role(X.columns, name, "query")) for name in ranking[0].query_columns]
    missing = X[columns].isna().any(axis=1).to_numpy()
    for task in ranking:
        n_missing = int((missing & ~np.isnan(targets.view(task.name))).sum())
        if n_missing:
            raise LabelError(f"The query of the ranking task {task.name!r} is missing in {n_missing} rows; fill it in.")
    return codes


def _clusters(X: Table, roles: dict[str, str | None], queries: Rows | None) -> Any:
    """Whose rows are drawn together when noise is judged: users, else queries, else single rows."""
    users = role_values(X, roles["user"])
    return queries if users is None else users.to_numpy()


def _excluded(X: Table, tasks: Sequence[Task], roles: dict[str, str | None], exclude: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(X, pd.DataFrame):
        if len(exclude):
            raise RoleError(f"exclude={list(exclude)} names columns, so X must be a frame, got {type(X).__name__}.")
        return ()
    columns = [str(c) for c in X.columns]
    unknown = [str(name) for name in exclude if not any(c == name or c.endswith(f"__{name}") for c in columns)]
    if unknown:
        raise RoleError(
            f"exclude= names columns that X does not have: {', '.join(unknown)}; it has {', '.join(columns)}."
        )
    names = [*exclude, *(c for c in (roles["time"], roles["query"]) if c is not None)]
    names += [c for task in tasks for c in task.query_columns]
    prefixed = [c for c in columns if any(c.endswith(f"__{name}") for name in names)]
    return tuple(dict.fromkeys([*names, *prefixed]))


def _tell_of_unused(columns: FeatureColumns, X: Table) -> None:
    """Warn of columns left out for their many values, but for roles and where further columns begin with their name.

    Those columns are what `TargetStatistics`, histories and factor models have made of them.
    """
    unused = {name: n for name, n in columns.left_out_.items() if name not in columns.ids}
    unused = {name: n for name, n in unused.items() if not any(str(c).startswith(f"{name}__") for c in X.columns)}
    if unused:
        found = ", ".join(f"{name!r} ({n} values)" for name, n in unused.items())
        warnings.warn(
            f"Columns that are no features, for having more than max_categories={columns.max_categories} values: "
            f"{found}. Put TargetStatistics before the model, name what they are (user=, item=), make numbers or "
            f"dates of texts, or leave them out (exclude=).",
            UnusedColumnsWarning,
            stacklevel=2,
        )


def _ids(roles: dict[str, str | None]) -> tuple[str, ...]:
    return tuple(column for what in ("user", "item") if (column := roles[what]) is not None)
