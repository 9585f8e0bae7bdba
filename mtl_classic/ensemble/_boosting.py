"""Stagewise boosting over model families: each fits what the sum of those before it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from mtl_classic._core.base import FitInput, Floats, MultiTaskEstimator, Scores
from mtl_classic._core.losses import task_loss
from mtl_classic._core.options import FOLDS, SHARE_OR_ALL, Option
from mtl_classic._core.score_frames import score_names, scores_frame
from mtl_classic._core.spaces import hold_monotone
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, row_index
from mtl_classic.ensemble._links import from_link, gradient, scored_rows, to_link
from mtl_classic.ensemble._members import Composition, shared_plan
from mtl_classic.ensemble._store import Data, cross_fit_members, fit_members
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._progress import Progress, with_callbacks
from mtl_classic.multitask._out_of_fold import looks_forward

__all__ = ["BoostingEnsemble"]

LARGEST_STEP = 20.0  # residuals of rare events are small, so steps may be large


class BoostingEnsemble(Composition):
    r"""A sum of models of different families, each fitted to what the sum so far leaves.

    The first member is fitted to the labels. On the scale of the link (logit, logarithm, identity),

    .. math:: \eta_k = \eta_{k-1} + \gamma_k h_k, \qquad h_k \approx y - \mu(\eta_{k-1})

    each further member fits the negative gradient of the task's loss, by regression, and γ is found by line search for
    each task. Gradients are taken at out-of-fold scores: in-sample ones of a strong first member would leave nothing
    but noise. A task stops, early, at the stage that no longer lowers its loss on the validation rows.

    Parameters
    ----------
    estimators : list of (str, multi-task estimator)
        Unfitted, in order: a factorization machine, then boosted trees, then a linear model, say. All but the first are
        given the residuals as regression tasks.
    learning_rate : float, default=1.0
        Factor of every step but the first, in (0, 1].
    cv : int, splitter, Temporal or array of fold numbers, default=5
        An int gives folds in time where the members, or the log given to ``fit``, name a time. The last fold is the
        validation.
    groups : str, default=None
        Column whose groups are never split between folds; then folds are not in time.
    memory : str or joblib.Memory, default=None
        Where finished fits are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for folds and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds, and seeds members that have no seed of their own.

    Attributes
    ----------
    tasks_ : tuple of Task
    steps_ : DataFrame of shape (n_estimators, n_tasks)
        γ of each stage; 0 where the task has stopped. The first stage has 1.
    validation_losses_ : DataFrame of shape (n_estimators, n_tasks)
        After each stage, out-of-fold; NaN where the task had stopped.
    estimators_ : list of fitted estimators
        Those that some task takes a step with.
    named_estimators_ : dict name -> fitted estimator
    oof_scores_ : DataFrame
        Out-of-fold scores of the sum; NaN where no fold covers a row.
    fold_ : ndarray of shape (n,)
    n_uncovered_ : int
        Rows that no fold predicts.
    temporal_ : bool
        Whether folds are predicted from earlier ones only.

    Notes
    -----
    In time each stage needs residuals that lie before it, so it leaves out one more of the first folds; the stages end
    where there are none left. A ranking has no gradient by row, so its score is that of the first member. Cost: each
    member is fitted on every fold and, if it is used, on all rows.

    References
    ----------
    J. H. Friedman, Greedy function approximation: a gradient boosting machine, 2001, doi:10.1214/aos/1013203451.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import BoostingEnsemble, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(600, 3))
    >>> Y = np.c_[3 * X[:, 0] + np.sin(3 * X[:, 1]), X[:, 1] - X[:, 2]]
    >>> stages = [("linear", PerTaskModel(learner="linear")), ("trees", PerTaskModel(random_state=0))]
    >>> model = BoostingEnsemble(stages, cv=3, random_state=0).fit(X, Y)
    >>> bool(model.steps_.loc["trees", "y0"] > 0)  # what is left of a sine is not linear
    True
    """

    _options: ClassVar[dict[str, Option]] = {"learning_rate": SHARE_OR_ALL, "cv": (FOLDS, None)}

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        learning_rate: float = 1.0,
        cv: Any = 5,
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.learning_rate = learning_rate
        self.cv = cv
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> BoostingEnsemble:
        """Fit stage after stage.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to every member.
        plan : FoldPlan, default=None
            Used in place of ``cv``, and handed to every member.
        """
        self._check_members()
        given = self._start_fit(X, Y, sample_weight)
        progress = self._begin(2 * len(self.estimators), X, Y)
        Y = rows_of(Y)
        plan = shared_plan(self, given, Y, self.cv, plan, events)
        names = [task.name for task in self.tasks_]
        self.steps_ = pd.DataFrame(0.0, index=pd.Index(self._names(), name="member"), columns=names)
        self.validation_losses_ = self.steps_ * np.nan
        self.named_estimators_: dict[str, Any] = {}
        links: Scores = {}
        for k, (name, member) in enumerate(self._seeded_members()):
            going = [task for task in self.tasks_ if self._goes_on(task)] if k else list(self.tasks_)
            scored = [scored_rows(links[task.name]) for task in going] if k else []
            folds = _folds_from(plan, np.logical_and.reduce(scored)) if scored else plan
            if not going or folds is None:
                break
            stage = member if k == 0 else self._stage(member, going)
            labels = Y if k == 0 else self._residuals(given, links, going)
            data = Data(given.X, labels, given.weights if k == 0 else self._weights(given, going), events)
            scores = self._cross_fit(name, stage, data, folds, k, progress)
            for task in self.tasks_:
                self._step(k, name, task, given, links, scores, _line_rows(folds))
            if self.steps_.loc[name].any():
                (self.named_estimators_[name],) = fit_members(
                    [(name, stage)], data, plan=folds, memory=self.memory, n_jobs=self.n_jobs, progress=progress
                )
        self.estimators_ = list(self.named_estimators_.values())
        self._agree(self.estimators_[:1])
        self._report(given.X, links, plan)
        progress.end(X, Y)
        return self

    def _keeps_scores(self) -> bool:
        return True

    def _cross_fit(self, name: str, stage: Any, data: Data, plan: FoldPlan, k: int, progress: Progress) -> Scores:
        tasks, classes = self.tasks_, self.classes_map_
        if k:
            tasks = tuple(Task(column, "regression") for column in data.Y.columns)
            classes = dict.fromkeys([task.name for task in tasks])
        store = cross_fit_members(
            [(name, stage)], data, plan, tasks, classes, memory=self.memory, n_jobs=self.n_jobs, progress=progress
        )
        return store.scores[name]

    def _stage(self, member: Any, going: Sequence[Task]) -> Any:
        """The member as a regression of what is left."""
        query = tuple(dict.fromkeys(column for task in self.tasks_ for column in task.query_columns)) or None
        tasks = [Task(label, "regression", query=query) for task in going for label in self._outputs(task)]
        stage = clone(member)
        for part in [*stage.get_params(deep=True).values(), stage]:
            if isinstance(part, MultiTaskEstimator):
                own = part.get_params(deep=False)
                per_task = {
                    name: self._per_output(value, going) for name, value in own.items() if self._is_per_task(value)
                }
                part.set_params(**(per_task | ({"tasks": tasks} if "tasks" in own else {})))
        return stage

    def _is_per_task(self, value: Any) -> bool:
        return isinstance(value, Mapping) and bool(value) and set(value) <= {task.name for task in self.tasks_}

    def _per_output(self, value: Mapping[str, Any], going: Sequence[Task]) -> dict[str, Any]:
        """What was given per task, for the columns that the task has in this stage."""
        return {label: value[t.name] for t in going if t.name in value for label in self._outputs(t)}

    def _residuals(self, given: FitInput, links: Scores, going: Sequence[Task]) -> pd.DataFrame:
        """Labels of the next stage: the negative gradients of the tasks that go on."""
        columns: dict[str, Floats] = {}
        for task in going:
            slope = gradient(task.kind, given.targets.view(task.name), from_link(task.kind, links[task.name]))
            columns |= dict(zip(self._outputs(task), _as_rows(slope), strict=True))
        return pd.DataFrame(columns, index=row_index(given.X))

    def _weights(self, given: FitInput, going: Sequence[Task]) -> pd.DataFrame | None:
        """Weights of the next stage: a class has those of its task."""
        if all(given.entire_weight(task) is None for task in going):
            return None
        weights = {task.name: given.row_weight(task) for task in going}
        return pd.DataFrame({label: weights[task.name] for task in going for label in self._outputs(task)})

    def _goes_on(self, task: Task) -> bool:
        """Whether every stage so far has lowered the task's loss."""
        fitted = self.validation_losses_[task.name].dropna()
        return task.kind != "ranking" and bool((self.steps_.loc[fitted.index, task.name] > 0).all()) and len(fitted) > 0

    def _outputs(self, task: Task) -> list[str]:
        """The columns of a task in the stages after the first."""
        return score_names(task, self.classes_map_)

    def _direction(self, task: Task, scores: Scores) -> Floats:
        """What a stage after the first says of a task, on the scale of the link."""
        columns = np.column_stack([scores[label] for label in self._outputs(task)])
        return columns if task.kind == "multiclass" else columns[:, 0]

    def _step(
        self,
        k: int,
        name: str,
        task: Task,
        given: FitInput,
        links: Scores,
        scores: Scores,
        rows: tuple[Rows, Rows],
    ) -> None:
        """Take the stage's step for one task if it lowers the loss on the validation rows."""
        line, valid = rows
        y = given.targets.view(task.name)
        weight = given.entire_weight(task)

        def loss(eta: Floats, part: Rows) -> float:
            own = None if weight is None else weight[part]
            return task_loss(task.kind, y[part], from_link(task.kind, eta[part]), own)

        if k == 0:
            links[task.name] = to_link(task.kind, scores[task.name])
            self.steps_.loc[name, task.name] = 1.0
            if task.kind != "ranking":
                self.validation_losses_.loc[name, task.name] = loss(links[task.name], valid)
            return
        if not set(self._outputs(task)) <= set(scores):
            return
        direction, before = self._direction(task, scores), links[task.name]
        gamma = self.learning_rate * _line_search(lambda g: loss(before + g * direction, line))
        after = before + gamma * direction
        value, best = loss(after, valid), loss(before, valid)  # NaN without labels: then there is no step
        self.validation_losses_.loc[name, task.name] = min(value, best)
        if value < best:
            self.steps_.loc[name, task.name] = gamma
            links[task.name] = after

    def _report(self, X: Table, links: Scores, plan: FoldPlan) -> None:
        scores = {task.name: from_link(task.kind, links[task.name]) for task in self.tasks_}
        scores = hold_monotone(self.tasks_, self.classes_map_, scores)
        self.oof_scores_ = scores_frame(scores, self.tasks_, self.classes_map_, row_index(X))
        self.fold_, self.temporal_ = plan.fold, looks_forward(plan)
        self.n_uncovered_ = int((plan.fold < 0).sum())

    def _scores(self, X: Table, space: str) -> Scores:
        first, *others = self.named_estimators_.items()
        scores = first[1]._scores(first[1]._start_predict(X), "entire")
        links = {task.name: to_link(task.kind, scores[task.name]) for task in self.tasks_}
        for name, member in others:
            stage, steps = member._scores(member._start_predict(X), "entire"), self.steps_.loc[name]
            for task in self.tasks_:
                if step := steps[task.name]:
                    links[task.name] = links[task.name] + step * self._direction(task, stage)
        entire = {task.name: from_link(task.kind, links[task.name]) for task in self.tasks_}
        return self._in_space(entire, space)


def _line_rows(plan: FoldPlan) -> tuple[Rows, Rows]:
    """Rows that the steps are searched on, and validation rows: the last fold, or half of the only one."""
    last = len(plan) - 1
    line, valid = np.flatnonzero((plan.fold >= 0) & (plan.fold < last)), np.flatnonzero(plan.fold == last)
    return (line, valid) if len(line) else (valid[::2], valid[1::2])


def _folds_from(plan: FoldPlan, known: npt.NDArray[np.bool_]) -> FoldPlan | None:
    """The folds that have residuals to train on: in time, each stage leaves out one more of the first."""
    splits = tuple((train, test) for train, test in plan.splits if known[train].any() and known[test].all())
    return FoldPlan(splits, plan.n_rows, plan.temporal) if splits else None


def _line_search(loss: Any) -> float:
    """The step of least loss."""
    found = minimize_scalar(loss, bounds=(0.0, LARGEST_STEP), method="bounded", options={"xatol": 1e-3})
    return float(found.x) if found.fun < loss(0.0) else 0.0


def _as_rows(values: Floats) -> list[Floats]:
    return [values] if values.ndim == 1 else list(values.T)
