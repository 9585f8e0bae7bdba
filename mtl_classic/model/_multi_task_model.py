"""The front door: history, structure and ensemble, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from mtl_classic._core.base import FitInput, MultiTaskEstimator, Scores
from mtl_classic._core.exceptions import RoleError, TaskError
from mtl_classic._core.options import FOLDS, SECONDS, Kind, Option, list_of
from mtl_classic._core.random import root_seed
from mtl_classic._core.targets import decode_targets
from mtl_classic._core.task_weights import check_task_weights, fixed_task_weights
from mtl_classic._core.tasks import Task, label_frame
from mtl_classic._core.validation import Table, role_values, with_index_of
from mtl_classic.events import EventLog
from mtl_classic.learners._resolve import TakesLearner
from mtl_classic.model._architectures import STRUCTURES, families, is_standard, make_structure, simple_structure
from mtl_classic.model._best import Budget, fit_best
from mtl_classic.model._features import (
    ProposedLatent,
    add_given,
    add_proposed_latent,
    catch_up,
    history_steps,
    statistics_keys,
)
from mtl_classic.model._training import Roles, Training
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._maturity import mask_immature
from mtl_classic.model_selection._progress import Progress, Tracked, with_callbacks
from mtl_classic.multitask import FunnelModel, PerTaskModel
from mtl_classic.serving._methods import ServingMethods

__all__ = ["MultiTaskModel"]

PRESETS = ("fast", "best")
TRANSFORMER = Kind("a transformer", lambda given: isinstance(given, BaseEstimator))


class MultiTaskModel(Tracked, TakesLearner, ServingMethods, MultiTaskEstimator):
    """Several tasks on the same rows, from raw columns and an event log to scores.

    What ``"auto"`` puts together: history of user and item at each row's time (`HistoryFeatures`, from the log, or from
    the fitted rows where there is none); `TargetStatistics` of both where there is no time, and of columns of too many
    categories for trees (more than 255, and two rows each on average; 100 where rows have a time, but neither user nor
    item); then the funnel if any task has a parent, else a learner per task. ``preset="fast"`` fits that once.
    ``preset="best"`` does so with learners of some families and seeds (LightGBM, XGBoost, linear, extra trees where
    rows are few) and factorization machines, weighs them per task by greedy selection on the last fold of the plan,
    calibrates there where that helps beyond the noise, and fits those in use on all rows.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from ``Y``.
    user, item, time, query : str, default=None
        Columns with a role.
    preset : {"fast", "best"}, default="fast"
        With another ``learner`` than the default, or a structure that is neither a funnel nor a learner per task,
        ``"best"`` has no families: it averages three seeds of what is given.
    aggregates : "auto", None, list of Aggregate, or an unfitted transformer, default="auto"
        The history; None adds none. Tasks that an unfitted transformer leaves at None are those of this model, seeds
        come from its ``random_state``.
    latent : "auto", None, or an unfitted transformer, default="auto"
        Appends columns of latent factors after the history. "auto": where user and item are named, the score of a user
        × item factorization machine for each binary task without parent, of a Bayesian one for each regression task
        without parent, and of a matrix factorization of the log, if there is one; kept only if validation rows show
        that they help a task and harm none (``latent_choice_``). Where these are the latest rows, and a linear model
        gains by such columns, but trees do not surely or seem worse on a task, one more member of ``"best"``,
        lightgbm_latent, reads them, to be weighed task by task. Tasks and seeds are as for ``aggregates``.
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
    structure : {"auto", "parallel", "serial", "hierarchical", "fusion", "dynamic"} or an unfitted structure, \
            default="auto"
        How the tasks help each other. ``"parallel"``: a learner per task over the same features (`PerTaskModel`).
        ``"serial"``: a chain in the order of the tasks, and ``"dynamic"``: only the links that help out of fold
        (`TaskGraphModel`). ``"hierarchical"``: the levels of ``given`` (`FunnelModel`). ``"fusion"``: trees for all
        tasks together (`SharedTreesModel`, with the learner to fall back to). Tasks and roles that an unfitted
        structure, or a member of it, leaves at None are those of this model, as are its threads; seeds come from
        ``random_state``.
    ensemble : {"auto", None}, default="auto"
        None fits the structure alone; then ``"best"`` chooses the route of each funnel child on validation rows.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        For whatever is cross-fitted. With a time column an int means at most that many blocks of time; between
        training and predicted rows lies a gap of at least the longest delay of a task.
    task_weights : dict name -> weight, "uncertainty", "dynamic", "cv" or None, default=None
        Weights of the tasks in ``score`` and in the joint loss of ``"fusion"``, 1 where a dict names none; the names,
        for the latter only.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with non-zero children of negative parents.
    time_budget : float, default=None
        Seconds that the fit may take: ``"best"`` leaves out members and seeds that would exceed it, by what they took
        on a tenth of the rows where that is in doubt, and at the least fits its first member once. None fits them all.
    n_jobs : int, default=None
        Threads; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    pipeline_ : Pipeline
        The fitted parts, to take apart.
    tasks_ : tuple of Task
    fallbacks_ : dict task -> str
        Tasks that the structure took off what it does by default, and why.
    latent_choice_ : str
        Whether latent features were kept, and why.
    member_weights_ : DataFrame of shape (n_members, n_tasks)
        What each family counts for each task, with ``preset="best"``.
    n_immature_ : dict task -> int
        Labels left out because their ``delay`` was not over when the log (or the rows) ended.
    as_of_ : time of the last event that predictions know of; None without a history
    refreshed_ : DataFrame
        What `refresh` has moved, in a model that comes from it.

    Notes
    -----
    Cost: history O(events + rows) per aggregate. On the Complete Journey table ``"fast"`` then takes 0.9 times the fit
    of one LightGBM per task with default settings and early stopping, a tenth more with the trial of latent features,
    ``"best"`` 5.4; where those stop after a few rounds it takes more (9 on bank marketing, against ones refitted too).

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

    _options: ClassVar[dict[str, Option]] = {
        "cv": FOLDS,
        "time_budget": (SECONDS, None),
        "aggregates": ("auto", None, list_of("Aggregate objects"), TRANSFORMER),
        "latent": ("auto", None, TRANSFORMER),
    }

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
        task_weights: Mapping[str, float] | str | None = None,
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

    @with_callbacks
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
            Of the learners, and of what statistics of labels and latent features learn. Where the rows are the history,
            rows of weight 0 are events like all others.
        events : EventLog, default=None
            Rows see of it only what came before their own time. It may go on after the last of them: predictions know
            of it as if `observe` had told of it, but for users of factorizations other than ALS.
        plan : FoldPlan, default=None
            Folds for cross-fitting; its last fold stops boosters.
        """
        budget = Budget(self.time_budget)
        self._check_choices()
        progress = self._begin(2 if self.preset == "best" else 0, X, Y)
        training = self._training(X, Y, sample_weight, events, plan)
        steps = self._add_history(training)
        steps += [("latent", step)] if (step := self._add_latent(training)) is not None else []
        structure = self._structure(training)
        proposed = self._propose_latent(training, structure)
        self.latent_choice_ = proposed.why
        model, latent = self._fit_model(training, structure, proposed, budget, progress)
        steps += [("latent", latent)] if latent is not None else []
        catch_up(steps, events)
        self.pipeline_ = Pipeline([*steps, ("model", self._checked(model))])
        progress.end(X, Y)
        return self

    def _check_choices(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}.")
        if isinstance(self.structure, str) and self.structure not in ("auto", *STRUCTURES):
            raise ValueError(
                f"structure must be auto, {', '.join(STRUCTURES)} or an estimator, got {self.structure!r}."
            )
        if isinstance(self.structure, type) or not isinstance(self.structure, str | BaseEstimator | None):
            raise TypeError(f"structure must be a name or an unfitted estimator, got {self.structure!r}.")
        if isinstance(self.structure, BaseEstimator) and not isinstance(self.structure, MultiTaskEstimator):
            raise TypeError(
                f"structure must be a multi-task estimator such as PerTaskModel, got {self.structure!r}; for other "
                f"models give learner=, and put searches around the MultiTaskModel."
            )
        if self.ensemble not in ("auto", None):
            raise ValueError(f'ensemble must be "auto" or None, got {self.ensemble!r}.')
        for name, way in {"aggregates": "", "latent": "; make one of it: LatentFeatures([(name, model)])"}.items():
            given = getattr(self, name)
            if isinstance(given, BaseEstimator) and not hasattr(given, "fit_transform"):
                raise TypeError(f"{name} must be a transformer, got {given!r}{way}.")

    def _training(self, X: Any, Y: Any, sample_weight: Any, events: EventLog | None, plan: FoldPlan | None) -> Training:
        """Resolve tasks and roles, take away labels that are not mature, make the folds."""
        given = self._start_fit(X, Y, sample_weight)
        check_task_weights(fixed_task_weights(self.task_weights), given.targets.tasks)
        roles = self._all_roles(given.X, events)
        labels = self._mature(with_index_of(given.X, label_frame(Y)), given, roles, events)
        if any(self.n_immature_.values()):  # a class may be gone: learn classes and priors from what is left
            given = self._start_fit(X, _in_form(labels, self.form_), sample_weight)
            self.roles_ = roles
        told = _like_targets(labels, given)
        labels = told if self.on_conflict == "raise" else decode_targets(given.targets)
        return Training(
            given.X,
            labels,
            told,
            _in_form(labels, self.form_),
            given.X,
            given.targets.tasks,
            given.targets.classes,
            given.weights,
            roles,
            events,
            plan,
            root_seed(self.random_state),
            self.n_jobs,
        )

    def _all_roles(self, X: Table, events: EventLog | None) -> Roles:
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

    def _mature(self, labels: pd.DataFrame, given: FitInput, roles: Roles, events: EventLog | None) -> pd.DataFrame:
        """Labels with NaN where their delay was not over when the log, or without one the last row, ended."""
        self.n_immature_ = {}
        time = role_values(given.X, roles["time"])
        if time is None:
            return labels
        end = None if events is None else events.last_time
        labels, self.n_immature_ = mask_immature(labels, given.targets.tasks, time, end)
        return labels

    def _add_history(self, training: Training) -> list[tuple[str, Any]]:
        keys = statistics_keys(training, self.aggregates, self.structure)
        if training.plan is None and (self.preset == "best" or (keys and not training.has_time)):
            training.plan = training.make_plan(self.cv)
        steps = history_steps(training, self.aggregates, keys, self.cv, self.on_conflict)
        return [(name, add_given(training, step)) for name, step in steps]

    def _add_latent(self, training: Training) -> Any:
        if not isinstance(self.latent, BaseEstimator):
            return None
        return add_given(training, clone(self.latent))

    def _propose_latent(self, training: Training, structure: MultiTaskEstimator) -> ProposedLatent:
        """Latent features if they help, or may help a member; the structure in the stage in which that was found."""
        if not isinstance(self.latent, str):
            return ProposedLatent("none asked for" if self.latent is None else "latent features were given")
        staged_alike = isinstance(structure, PerTaskModel | FunnelModel)
        judged = structure if staged_alike else simple_structure(training, self.learner)
        averages = self._averages_families(training)
        by_member = averages and is_standard(structure, self.learner)
        proposed = add_proposed_latent(training, judged, by_member=by_member, shared=averages)
        return proposed if staged_alike else replace(proposed, staged=None)

    def _averages_families(self, training: Training) -> bool:
        return self.preset == "best" and self.ensemble is not None and training.plan is not None

    def _structure(self, training: Training) -> MultiTaskEstimator:
        chooses = self.preset == "best" and self.ensemble is None
        return make_structure(
            training,
            self.structure,
            self.learner,
            cv=self.cv,
            task_weights=self.task_weights,
            route="auto" if chooses else "product",
        )

    def _fit_model(
        self,
        training: Training,
        structure: MultiTaskEstimator,
        proposed: ProposedLatent,
        budget: Budget,
        progress: Progress,
    ) -> tuple[Any, Any]:
        """Fit the structure once; ``"best"`` fits several families and averages them. With it, the latent step."""
        self.fallbacks_ = {}
        for earlier in ("member_weights_", "refreshed_"):  # of an earlier fit
            self.__dict__.pop(earlier, None)
        if training.plan is not None and self._averages_families(training):
            members = families(training, structure, self.learner, proposed.offer)
            model, self.member_weights_, latent = fit_best(
                training, training.plan, members, budget, proposed.staged, progress
            )
            if latent is not None:
                self.latent_choice_ = "a member of the ensemble reads latent features (member_weights_ says for what)"
            return model, proposed.step or latent
        if proposed.staged is not None:
            model = proposed.staged.final()
        else:
            model = structure.fit(training.table, training.Y, sample_weight=training.weights, plan=training.plan)
        self.fallbacks_ = dict(getattr(model, "fallbacks_", {}))
        return model, proposed.step

    def _checked(self, model: Any) -> Any:
        own, its = ([task.name for task in m.tasks_] for m in (self, model))
        if own != its:
            raise TaskError(f"The structure has the tasks {its}, the model {own}; leave tasks= of the structure None.")
        return model

    def _scores(self, X: Table, space: str) -> Scores:
        *steps, (_, model) = self.pipeline_.steps  # once: another thread may be observing
        for _, step in steps:
            X = step.transform(X)
        scores: Scores = model._scores(model._start_predict(X), space)
        return scores


def _in_form(labels: pd.DataFrame, form: Any) -> Any:
    """Labels in the form that the user gave."""
    if form.is_1d:
        return labels.iloc[:, 0].to_numpy()
    return labels if form.is_frame else labels.to_numpy()


def _like_targets(labels: pd.DataFrame, given: FitInput) -> pd.DataFrame:
    """Labels with the tasks' names, for parts that match by name."""
    names = [task.name for task in given.targets.tasks]
    return labels[names] if set(names) <= set(labels.columns) else labels.set_axis(names, axis=1)
