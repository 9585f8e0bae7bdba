"""The front door: history, structure and ensemble, put together."""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from mtl_classic._core.base import FitInput, Floats, MultiTaskEstimator, Scores, group_codes
from mtl_classic._core.exceptions import RoleError, TaskError
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import decode_targets, encode_targets
from mtl_classic._core.task_weights import check_task_weights
from mtl_classic._core.tasks import Task, label_frame
from mtl_classic._core.validation import Table, role_values
from mtl_classic.ensemble import AveragingEnsemble, average_over_seeds
from mtl_classic.events import EventLog, HistoryFeatures
from mtl_classic.factorization import LatentFeatures
from mtl_classic.model_selection import FoldPlan, Temporal, cross_fit, make_folds
from mtl_classic.model_selection._folds import longest_delay, validation_split
from mtl_classic.model_selection._maturity import mask_immature, temporal_folds
from mtl_classic.multitask import FunnelModel, PerTaskModel
from mtl_classic.multitask._latent_choice import choose_latent, propose_latent
from mtl_classic.multitask._routes import better_routes
from mtl_classic.multitask._structure import LearnerStructure
from mtl_classic.preprocessing import TargetStatistics
from mtl_classic.serving._methods import ServingMethods

__all__ = ["MultiTaskModel"]

PRESETS = ("fast", "best")
STRUCTURES = {"parallel": PerTaskModel, "hierarchical": FunnelModel}
BEST_SEEDS = 3
VALIDATION_SHARE = 0.1
ROUTE_FOLDS = 2  # folds, the last of the plan, that judge the routes of a funnel: in time the nearest to use


class MultiTaskModel(ServingMethods, MultiTaskEstimator):
    """Several tasks on the same rows, from raw columns and an event log to scores.

    What ``"auto"`` puts together: history of user and item at each row's time (`HistoryFeatures`, from the log, or from
    the fitted rows where there is none; `TargetStatistics` where there is no time), then the funnel if any task has a
    parent, else a learner per task. ``preset="fast"`` fits that once. ``preset="best"`` first chooses the route of each
    funnel child by cross-fitting (the product unless another is better beyond the noise), then averages three seeds.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from ``Y``.
    user, item, time, query : str, default=None
        Columns with a role.
    preset : {"fast", "best"}, default="fast"
    aggregates : "auto", None, list of Aggregate, or an unfitted transformer, default="auto"
        The history; None adds none.
    latent : "auto", None, or an unfitted transformer, default="auto"
        Appends columns of latent factors after the history. "auto": where user and item are named, the score of a user
        × item factorization machine for each binary task without parent, and of a Bayesian one for each regression task
        without parent; kept only if validation rows show that they help a task and harm none (``latent_choice_``).
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
    structure : {"auto", "parallel", "hierarchical"} or an unfitted structure, default="auto"
        ``"parallel"`` is `PerTaskModel`, ``"hierarchical"`` `FunnelModel`. Tasks, roles, seed and threads that an
        unfitted structure leaves at None are those of this model.
    ensemble : {"auto", None}, default="auto"
        None averages no seeds.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        For whatever is cross-fitted. With a time column an int means at most that many blocks of time; between
        training and predicted rows lies a gap of at least the longest delay of a task.
    task_weights : dict name -> weight, default=None
        Weights of the tasks in ``score``.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with non-zero children of negative parents.
    time_budget : float, default=None
        Seconds after which ``"best"`` starts no further fit.
    n_jobs : int, default=None
        Threads; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    pipeline_ : Pipeline
        The fitted parts, to take apart.
    tasks_ : tuple of Task
    fallbacks_ : dict task -> str
        Children that were taken off the funnel's product, and why.
    latent_choice_ : str
        Whether latent features were kept, and why.
    n_immature_ : dict task -> int
        Labels left out because their ``delay`` was not over when the log (or the rows) ended.

    Notes
    -----
    Cost: history O(events + rows) per aggregate; ``"fast"`` then about one LightGBM per task, in a funnel less.

    Examples
    --------
    >>> from mtl_classic import MultiTaskModel, make_funnel
    >>> shop = make_funnel(n_rows=2000, random_state=0)
    >>> model = MultiTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y, events=shop.events)
    >>> scores = model.predict_scores(shop.X)
    >>> bool((scores["buy"] <= scores["cart"]).all())
    True
    """

    pipeline_: Pipeline
    fallbacks_: dict[str, str]
    n_immature_: dict[str, int]

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        query: str | None = None,
        preset: str = "fast",
        aggregates: Any = "auto",
        latent: Any = "auto",
        learner: Any = "lightgbm",
        structure: Any = "auto",
        ensemble: Any = "auto",
        cv: Any = 5,
        task_weights: Mapping[str, float] | None = None,
        on_conflict: str = "raise",
        time_budget: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.tasks = tasks
        self.user = user
        self.item = item
        self.time = time
        self.query = query
        self.preset = preset
        self.aggregates = aggregates
        self.latent = latent
        self.learner = learner
        self.structure = structure
        self.ensemble = ensemble
        self.cv = cv
        self.task_weights = task_weights
        self.on_conflict = on_conflict
        self.time_budget = time_budget
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        Y: Any,
        *,
        sample_weight: Any = None,
        events: EventLog | None = None,
        plan: FoldPlan | None = None,
    ) -> MultiTaskModel:
        """Fit history, structure and ensemble.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
            Raw columns; ids, times and dates included.
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Rows see of it only what came before their own time.
        plan : FoldPlan, default=None
            Folds for cross-fitting; its last fold stops boosters.
        """
        started = clock.monotonic()
        self._check_choices(events)
        given = self._start_fit(X, Y, sample_weight)
        check_task_weights(self.task_weights, given.targets.tasks)
        seed = root_seed(self.random_state)
        roles = self._all_roles(given.X, events)
        labels = self._mature(label_frame(Y), given, roles, events)
        if any(self.n_immature_.values()):  # a class may be gone: learn classes and priors from what is left
            given = self._start_fit(X, _reduce(labels, self.form_.is_1d, self.form_.is_frame), sample_weight)
            self.roles_ = roles
        if plan is None and self._needs_plan(roles, events):
            plan = self._plan(given, labels, roles, seed)
        steps, table = self._transform_training(given, labels, roles, events, plan, seed)
        structure = self._structure(given, roles, seed)
        latent, fitted = self._latent(structure, table, labels, given, roles, plan, seed)
        if latent is not None:
            steps, table = [*steps, ("latent", latent[0])], latent[1]
        model = self._fit_model(structure, table, labels, given.weights, plan, seed, started, fitted)
        self.pipeline_ = Pipeline([*steps, ("model", model)])
        return self

    def _check_choices(self, events: Any) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}.")
        if isinstance(self.structure, str) and self.structure not in ("auto", *STRUCTURES):
            raise ValueError(
                f"structure must be auto, {', '.join(STRUCTURES)} or an estimator, got {self.structure!r}."
            )
        for name, value in {"structure": self.structure, "latent": self.latent}.items():
            if isinstance(value, type) or not isinstance(value, str | BaseEstimator | None):
                raise TypeError(f"{name} must be a name or an unfitted estimator, got {value!r}.")
        if self.ensemble not in ("auto", None):
            raise ValueError(f'ensemble must be "auto" or None, got {self.ensemble!r}.')
        if isinstance(self.latent, str) and self.latent != "auto":
            raise ValueError(f'latent must be "auto", None or a transformer, got {self.latent!r}.')
        if events is not None and not isinstance(events, EventLog):
            raise TypeError(
                f"events must be an EventLog, got {type(events).__name__}; make one with EventLog(frame, …)."
            )

    def _all_roles(self, X: Table, events: EventLog | None) -> dict[str, str | None]:
        """The user's roles, and where it names none the columns called like those of the log."""
        roles = dict(self.roles_)
        if events is not None and isinstance(X, pd.DataFrame):
            for role in ("user", "item", "time"):
                name = events.roles.get(role)
                if roles[role] is None and name in X.columns:
                    roles[role] = name
        if events is not None and roles["time"] is None:
            raise RoleError("An event log was given, but no time column of the rows; name it with time=.")
        self.roles_ = roles
        return roles

    def _mature(
        self, labels: pd.DataFrame, given: FitInput, roles: dict[str, str | None], events: EventLog | None
    ) -> pd.DataFrame:
        """Labels with NaN where their delay was not over when the log, or without one the last row, ended."""
        self.n_immature_ = {}
        time = role_values(given.X, roles["time"])
        if time is None:
            return labels
        end = None if events is None else events.last_time
        labels, self.n_immature_ = mask_immature(labels, given.targets.tasks, time, end)
        return labels

    def _needs_plan(self, roles: dict[str, str | None], events: EventLog | None) -> bool:
        return self._uses_target_statistics(roles, events) or self.preset == "best"

    def _uses_target_statistics(self, roles: dict[str, str | None], events: EventLog | None) -> bool:
        ids = [column for column in (roles["user"], roles["item"]) if column is not None]
        return self.aggregates == "auto" and events is None and roles["time"] is None and bool(ids)

    def _plan(self, given: FitInput, labels: pd.DataFrame, roles: dict[str, str | None], seed: int) -> FoldPlan:
        time = role_values(given.X, roles["time"])
        groups = _queries(given)
        if time is not None and isinstance(self.cv, int | np.integer | Temporal) and time.nunique() > 1:
            return temporal_folds(self.cv, labels, given.targets.tasks, time, groups=groups)
        seed = spawn_seed(seed, "folds")
        time = time if isinstance(self.cv, Temporal) else None
        return make_folds(self.cv, labels, groups=groups, time=time, random_state=seed)

    def _transform_training(
        self,
        given: FitInput,
        labels: pd.DataFrame,
        roles: dict[str, str | None],
        events: EventLog | None,
        plan: FoldPlan | None,
        seed: int,
    ) -> tuple[list[tuple[str, Any]], Table]:
        """The fitted transformers, and the training table with their columns (out-of-fold where they read Y)."""
        steps: list[tuple[str, Any]] = []
        table = given.X
        history = self._history(given, roles, events, seed)
        latent = clone(self.latent) if isinstance(self.latent, BaseEstimator) else None
        own = self._named_labels(labels, given)
        for name, step in (("history", history), ("latent", latent)):
            if step is None:
                continue
            offered = {"events": events, "plan": plan}
            known = {key: value for key, value in offered.items() if _takes(step, key) and value is not None}
            table = step.fit_transform(table, own, **known)
            steps.append((name, step))
        return steps, table

    def _history(self, given: FitInput, roles: dict[str, str | None], events: EventLog | None, seed: int) -> Any:
        if self.aggregates is None:
            return None
        if isinstance(self.aggregates, BaseEstimator):
            return clone(self.aggregates)
        named = {role: roles[role] for role in ("user", "item", "time")}
        tasks = _by_name(given.targets.tasks)
        ids = [column for column in (roles["user"], roles["item"]) if column is not None]
        if self._uses_target_statistics(roles, events):
            means_seed = spawn_seed(seed, "means")
            return TargetStatistics(columns=ids, tasks=tasks, cv=self.cv, random_state=means_seed)
        if roles["time"] is None or (self.aggregates == "auto" and not ids):
            if self.aggregates != "auto":
                raise RoleError("aggregates were given, but no time column of the rows; name it with time=.")
            return None
        return HistoryFeatures(self.aggregates, **named, tasks=tasks, n_jobs=self.n_jobs)

    def _latent(
        self,
        structure: Any,
        table: Table,
        labels: pd.DataFrame,
        given: FitInput,
        roles: dict[str, str | None],
        plan: FoldPlan | None,
        seed: int,
    ) -> tuple[tuple[LatentFeatures, Table] | None, Any]:
        """Latent features and the table with them where they help; else the structure that was fitted to find out."""
        self.latent_choice_ = (
            "latent features were given" if isinstance(self.latent, BaseEstimator) else "none asked for"
        )
        if self.latent != "auto" or isinstance(self.latent, BaseEstimator):
            return None, None
        self.latent_choice_ = "no user and item with enough rows to learn latent features for"
        latent = propose_latent(table, _by_name(given.targets.tasks), roles, spawn_seed(seed, "latent"))
        if latent is None or not isinstance(structure, LearnerStructure):
            return None, None
        own = self._named_labels(labels, given)
        time = role_values(given.X, roles["time"])
        gap = longest_delay(given.targets.tasks, time)
        queries = _queries(given)
        split = (
            plan.last
            if plan is not None
            else validation_split(
                own, VALIDATION_SHARE, groups=queries, time=time, gap=gap, random_state=spawn_seed(seed, "validation")
            )
        )
        if split is None:
            return None, None
        user = role_values(given.X, roles["user"])
        choice = choose_latent(structure, latent, table, own, split, weight=given.weights, clusters=user, seed=seed)
        self.latent_choice_ = choice.why
        if not choice.helps:
            return None, choice.structure
        folds = make_folds(latent.cv, own, groups=queries, random_state=spawn_seed(seed, "latent folds"))
        return (latent, latent.fit_transform(table, own, plan=folds)), None

    def _named_labels(self, labels: pd.DataFrame, given: FitInput) -> pd.DataFrame:
        return _like_targets(labels, given) if self.on_conflict == "raise" else decode_targets(given.targets)

    def _structure(self, given: FitInput, roles: dict[str, str | None], seed: int) -> Any:
        tasks = given.targets.tasks
        ours: dict[str, Any] = {
            **roles,
            "tasks": tasks,
            "n_jobs": self.n_jobs,
            "random_state": spawn_seed(seed, "structure"),
        }
        if isinstance(self.structure, BaseEstimator):
            structure = clone(self.structure)
            own = structure.get_params(deep=False)
            structure.set_params(**{name: value for name, value in ours.items() if name in own and own[name] is None})
            return structure
        name = self.structure
        if name == "auto":
            name = "hierarchical" if any(task.parent for task in tasks) else "parallel"
        return STRUCTURES[name](learner=self.learner, on_conflict=self.on_conflict, **ours)

    def _fit_model(
        self,
        structure: Any,
        table: Table,
        labels: pd.DataFrame,
        weight: Floats | None,
        plan: FoldPlan | None,
        seed: int,
        started: float,
        fitted: Any,
    ) -> Any:
        """Fit the structure; ``"best"`` chooses routes by cross-fitting first, and averages seeds."""
        self.fallbacks_ = {}
        labels_like = _reduce(labels, self.form_.is_1d, self.form_.is_frame)
        if self.preset == "fast" or plan is None:
            model = fitted
            if model is None:
                model = structure.fit(table, labels_like, sample_weight=weight, plan=plan)
            self.fallbacks_ = dict(getattr(model, "fallbacks_", {}))
            return self._checked(model)
        if isinstance(structure, FunnelModel) and structure.mode == "product" and self._time_left(started):
            self._choose_routes(structure, table, labels, weight, plan)
        if self.ensemble is None:
            return self._checked(structure.fit(table, labels_like, sample_weight=weight, plan=plan))
        return self._checked(self._average_seeds(structure, table, labels_like, weight, plan, seed, started))

    def _checked(self, model: Any) -> Any:
        own, its = ([task.name for task in m.tasks_] for m in (self, model))
        if own != its:
            raise TaskError(f"The structure has the tasks {its}, the model {own}; leave tasks= of the structure None.")
        return model

    def _choose_routes(
        self, structure: FunnelModel, table: Table, labels: Any, weight: Floats | None, plan: FoldPlan
    ) -> None:
        trial = clone(structure).set_params(mode="average", refit=False)
        latest = FoldPlan(plan.splits[-ROUTE_FOLDS:], plan.n_rows, plan.temporal)
        fit = cross_fit(
            trial, table, labels, latest, method="route_scores", sample_weight=weight, score=False, n_jobs=self.n_jobs
        )
        targets = encode_targets(labels, self.tasks_, classes=self.classes_map_, on_conflict=self._conflict_rule())
        user = role_values(table, self.roles_["user"])
        chosen = better_routes(fit.predictions, targets, weight, None if user is None else user.to_numpy())
        structure.set_params(mode={name: route for name, (route, _) in chosen.items()} or "product")
        self.fallbacks_ = {name: why for name, (_, why) in chosen.items()}

    def _average_seeds(
        self, structure: Any, table: Table, labels: Any, weight: Any, plan: FoldPlan, seed: int, started: float
    ) -> AveragingEnsemble:
        members: list[tuple[str, Any]] = []
        for name, member in average_over_seeds(structure, BEST_SEEDS, spawn_seed(seed, "seeds")).estimators:
            if members and not self._time_left(started):
                break
            members.append((name, member.fit(table, labels, sample_weight=weight, plan=plan)))
        return AveragingEnsemble(members, cv="prefit").fit(table, labels)

    def _time_left(self, started: float) -> bool:
        return self.time_budget is None or clock.monotonic() - started < self.time_budget

    def _scores(self, X: Table, space: str) -> Scores:
        for _, step in self.pipeline_.steps[:-1]:
            X = step.transform(X)
        model = self.pipeline_.steps[-1][1]
        scores: Scores = model._scores(model._start_predict(X), space)
        return scores


def _by_name(tasks: Iterable[Task]) -> list[Task]:
    """In an order that does not depend on the user's, so that it changes no column."""
    return sorted(tasks, key=lambda task: task.name)


def _queries(given: FitInput) -> Any:
    ranking = [task for task in given.targets.tasks if task.kind == "ranking"]
    return group_codes(given.X, ranking[0]) if ranking else None


def _reduce(labels: pd.DataFrame, is_1d: bool, is_frame: bool) -> Any:
    """Labels in the form that the user gave."""
    if is_1d:
        return labels.iloc[:, 0].to_numpy()
    return labels if is_frame else labels.to_numpy()


def _like_targets(labels: pd.DataFrame, given: FitInput) -> pd.DataFrame:
    """Labels with the tasks' names, for transformers that match by name."""
    names = [task.name for task in given.targets.tasks]
    return labels[names] if set(names) <= set(labels.columns) else labels.set_axis(names, axis=1)


def _takes(step: Any, parameter: str) -> bool:
    return hasattr(step, "fit_transform") and parameter in signature(step.fit_transform).parameters
