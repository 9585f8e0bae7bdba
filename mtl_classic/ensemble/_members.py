"""What ensembles share: the tasks, roles and columns of their members, and one fold plan for all levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import FitInput, MultiTaskEstimator, Scores
from mtl_classic._core.delays import longest_delay
from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import COLUMN, Option, list_of
from mtl_classic._core.random import root_seed, seeded, spawn_seed
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import (
    Table,
    align_columns,
    as_table,
    register_columns,
    role_values,
)
from mtl_classic.ensemble._store import Member, meta_splits
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._plans import plan_for, time_for_folds
from mtl_classic.model_selection._progress import Tracked

__all__ = ["Composition", "OverMembers", "in_all_classes", "reseeded", "shared_plan"]

DEFAULT_FOLDS = 5
LEARNT = ("tasks_", "classes_map_", "roles_", "form_", "priors_")


class OverMembers(Tracked, MultiTaskEstimator):
    """Base of models of models: tasks and roles are those of the members, so they are said once."""

    groups: str | None
    random_state: Any
    _options: ClassVar[dict[str, Option]] = {"groups": (COLUMN, None)}

    def _given_members(self) -> list[Any]:
        return [self.estimator]

    def _seeded_members(self) -> list[Member]:
        """The members to fit; those without a seed have one from ``random_state``, if that is set, for all their fits.

        A part with a seed of its own seeds what is in it.
        """
        members = list(zip(self._names(), self._given_members(), strict=True))
        if self.random_state is None:
            return members
        root = root_seed(self.random_state)
        return [(name, seeded(member, root, "member", name)) for name, member in members]

    def _names(self) -> list[str]:
        return ["model"]

    def _members(self) -> list[Any]:
        """The members, taken out of what keeps fitted ones from being cloned."""
        return [m.estimator if isinstance(m, FrozenEstimator) else m for m in self._given_members()]

    def _first(self, name: str) -> Any:
        """The first member's answer that is not None."""
        return next((value for m in self._members() if (value := getattr(m, name, None)) is not None), None)

    @property
    def tasks(self) -> Any:
        """Tasks as the members were given them; None infers them from Y."""
        return self._first("tasks")

    @property
    def user(self) -> str | None:
        """The user column of the members."""
        return self._first("user")

    @property
    def item(self) -> str | None:
        """The item column of the members."""
        return self._first("item")

    @property
    def time(self) -> str | None:
        """The time column of the members."""
        return self._first("time")

    @property
    def query(self) -> str | None:
        """The query column of the members."""
        return self._first("query")

    @available_if(lambda self: any(hasattr(member, "observe") for member in self._members()))
    def observe(self, events: Any, y: Any = None) -> Self:
        """Tell the fitted members of new events, as their own ``observe`` does; nothing is refitted.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log
        y : labels, default=None
            For members whose history is made of the fitted rows.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        kept = [getattr(self, name, []) for name in ("estimators_", "fold_estimators_", "estimator_")]
        models = [model for part in kept for model in (part if isinstance(part, list) else [part])]
        for model in {id(model): model for model in models}.values():  # each once, wherever it is kept
            if hasattr(model, "observe"):
                model.observe(events, y)
        return self

    def _conflict_rule(self) -> Any:
        return self._members()[0]._conflict_rule()

    def _known_tasks(self) -> tuple[Task, ...] | None:
        known = super()._known_tasks()
        members = self._members()
        return known if known is not None or not members else members[0]._known_tasks()

    def _check_members(self) -> None:
        """Refuse what is no multi-task estimator, and members that were given different tasks."""
        cv = getattr(self, "cv", None)
        if any(isinstance(m, FrozenEstimator) for m in self._given_members()) and not (
            isinstance(cv, str) and cv == "prefit"
        ):
            raise TypeError('Frozen members are not fitted again: they need cv="prefit", on rows they have not seen.')
        given: list[Any] = []
        for member in self._members():
            if not isinstance(member, MultiTaskEstimator):
                raise TypeError(
                    f"{member!r} is no multi-task estimator such as PerTaskModel; an ensemble is made of those "
                    f"(put a pipeline around the ensemble, not into it)."
                )
            if (tasks := getattr(member, "tasks", None)) is not None:
                given.append(resolve_tasks(tasks, None))
        for tasks in given[1:]:
            _same_tasks(given[0], tasks)

    def _agree(self, members: Sequence[Any], *, all_classes: bool = True) -> None:
        """Refuse fitted members that speak of other tasks than the ensemble, or have not seen all its classes."""
        for member in members:
            _same_tasks(self.tasks_, member.tasks_)
            for task in self.tasks_ if all_classes else ():
                own, other = self.classes_map_[task.name], member.classes_map_[task.name]
                if own is not None and not np.array_equal(own, other):
                    raise TaskError(f"Members must have seen the same classes of {task.name!r}: {own} against {other}.")

    def _take_over(self, members: Sequence[Any]) -> None:
        """The ensemble of fitted members speaks of the same tasks, columns and classes as they do."""
        for member in members:
            check_is_fitted(
                member,
                "tasks_",
                msg='cv="prefit" takes fitted members, and this %(name)s is not: fit it, or, where the ensemble is '
                "cloned (as searches and cross-validation do), wrap it in sklearn.frozen.FrozenEstimator.",
            )
        for name in LEARNT:
            setattr(self, name, getattr(members[0], name))
        if hasattr(members[0], "classes_"):
            self.classes_ = members[0].classes_
        elif hasattr(self, "classes_"):
            del self.classes_
        self._agree(members)

    def _start_prefit(self, members: Sequence[Any], X: Any, Y: Any, sample_weight: Any) -> FitInput:
        """Check rows for members that are fitted already: their classes hold, and any label may be missing here."""
        self._take_over(members)
        return self._with_labels(self._columns_of(members, as_table(X)), Y, sample_weight)

    def _columns_of(self, members: Sequence[Any], table: Table) -> Table:
        """Remember the columns that any of the members reads, in the order of the table."""
        named = [getattr(member, "feature_names_in_", None) for member in members]
        if isinstance(table, pd.DataFrame) and all(names is not None for names in named):
            read = {name for names in named if names is not None for name in names}
            table = table[[column for column in table.columns if column in read]]
        for member in members:
            align_columns(member, table)  # refuses a table that lacks a column
        register_columns(self, table)
        return table

    def _keeps_scores(self) -> bool:
        """Whether a fit leaves out-of-fold scores of the ensemble itself: ``oof_scores_``, ``fold_``, ``temporal_``."""
        return False

    def _meta_splits(self, X: Any, fold: Rows, temporal: bool, events: Any) -> list[tuple[Rows, Rows]]:
        """Splits of the rows with out-of-fold scores for what is learnt from these; labels are waited for."""
        time = role_values(X, time_for_folds(X, self.roles_["time"], events))
        return meta_splits(fold, temporal, time, longest_delay(self.tasks_, time))

    def _users(self, X: Any) -> Any:
        """Who the rows belong to, for the noise of differences: users, else every row on its own."""
        values = role_values(X, self.roles_["user"])
        return None if values is None else values.to_numpy()


class Composition(_BaseComposition, OverMembers):
    """Base of the ensembles of named members."""

    estimators: Sequence[tuple[str, Any]]
    _options: ClassVar[dict[str, Option]] = {"estimators": list_of("(name, estimator)")}

    def _given_members(self) -> list[Any]:
        return [member for _, member in self.estimators]

    def _names(self) -> list[str]:
        return [name for name, _ in self.estimators]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with those of the members as ``name__param``."""
        params: dict[str, Any] = self._get_params("estimators", deep=deep)
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters, also those of members as ``name__param``."""
        self._set_params("estimators", **params)
        return self

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: what the members say, as ``name__param``."""
        return {f"{name}__{key}": v for name, member in self.estimators for key, v in member.search_space().items()}

    def _check_members(self) -> None:
        if not self.estimators:
            raise ValueError(f"{type(self).__name__} needs at least one (name, estimator) in estimators.")
        if not all(isinstance(m, tuple) and len(m) == 2 for m in self.estimators):
            raise TypeError(f"estimators must be a list of (name, estimator), got {self.estimators!r}.")
        self._validate_names(self._names())
        super()._check_members()


def reseeded(estimator: Any, root: int, k: int) -> Any:
    """The k-th clone of those that differ in ``random_state`` only, their parts' included."""
    names = [name for name in estimator.get_params() if name.split("__")[-1] == "random_state"]
    return clone(estimator).set_params(**{n: spawn_seed(root, "seed", k, *n.split("__")[:-1]) for n in names})


def in_all_classes(scores: Scores, own: Classes, classes: Classes) -> Scores:
    """Multiclass scores with a column for every class: of those that a member has not seen the probability is 0."""
    wide = dict(scores)
    for name, values in scores.items():
        known, wanted = own[name], classes[name]
        if values.ndim == 2 and known is not None and wanted is not None and len(known) < len(wanted):
            wide[name] = np.zeros((len(values), len(wanted)))
            wide[name][:, np.isin(wanted, known)] = values
    return wide


def _same_tasks(own: Sequence[Task], other: Sequence[Task]) -> None:
    if [(t.name, t.kind, t.given) for t in own] != [(t.name, t.kind, t.given) for t in other]:
        names = [[f"{task.name} ({task.kind})" for task in tasks] for tasks in (own, other)]
        raise TaskError(f"Members must have the same tasks, in the same order: {names[0]} against {names[1]}.")


def shared_plan(model: OverMembers, given: FitInput, Y: Any, cv: Any, plan: FoldPlan | None, events: Any) -> FoldPlan:
    """The plan that was passed, else folds in time where there is a time, else of whole groups and queries."""
    seed = spawn_seed(root_seed(getattr(model, "random_state", None)), "folds")
    cv = DEFAULT_FOLDS if cv is None else cv
    time, groups = time_for_folds(given.X, model.roles_["time"], events), model.groups
    return plan_for(
        given.X, Y, given.targets.tasks, cv, plan, time=time, groups=groups, seed=seed, sample_weight=given.weights
    )
