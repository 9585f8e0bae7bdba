"""Averages of several multi-task models, each kind in the space that suits it, with weights per task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mtl_classic._core.base import FitInput, Floats, Scores, group_codes
from mtl_classic._core.options import COUNT, FOLDS, MAPPING, NOT_NEGATIVE, Option, check_option
from mtl_classic._core.random import root_seed
from mtl_classic._core.score_frames import scores_frame
from mtl_classic._core.spaces import hold_monotone
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, row_index
from mtl_classic.ensemble._links import average
from mtl_classic.ensemble._members import Composition, reseeded, shared_plan
from mtl_classic.ensemble._selection import Problem, check_costs, choose_weights, make_problem, pull_of
from mtl_classic.ensemble._store import Data, Member, OutOfFold, cross_fit_members, fit_members, latest_rows
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._progress import Progress, with_callbacks
from mtl_classic.multitask._workbench import n_events

__all__ = [
    "AveragingEnsemble",
    "average_over_seeds",
    "average_task",
    "fold_moments",
    "latest",
    "make_problems",
    "training_moments",
]

ENOUGH_EVENTS = 100  # labels of the rarer class to weigh members by the last fold alone
LEARNT_WEIGHTS = ("greedy", "optimize")
OUT_OF_FOLD = ("oof_predictions_", "oof_scores_", "fold_", "temporal_", "n_uncovered_")


class AveragingEnsemble(Composition):
    r"""The weighted mean of several multi-task models, with weights of its own for each task.

    Probabilities and means of regression are averaged as they are, :math:`\sum_m w_m f_m(x)`, so that a funnel stays
    consistent (child ≤ parent); counts in the logarithm, :math:`\exp \sum_m w_m \log f_m(x)`; ranking scores after
    standardizing each member by the mean and spread of its scores on the training rows.

    Parameters
    ----------
    estimators : list of (str, multi-task estimator)
        Unfitted; reachable as ``name__param``. With ``cv="prefit"`` fitted ones.
    weights : None, list of float, dict task -> list of float, "greedy" or "optimize", default=None
        None is uniform; a list holds one non-negative weight per estimator. ``"greedy"``: members are added with
        replacement, each time the one that lowers the task's out-of-fold loss most. ``"optimize"``: convex weights of
        least out-of-fold loss (a ranking has no slope: its weights are greedy). Both are pulled to uniform a little. Of
        folds in time the last one counts, and those before it only for tasks that have too few labels there: its models
        are the most like those fitted in the end.
    cv : int, splitter, Temporal, array of fold numbers, "prefit" or None, default=None
        Folds for learnt weights; None is 5, in time where the members, or the log given to ``fit``, name a time.
        ``"prefit"``: the rows given to ``fit`` are rows that the members have not seen, and learnt weights are chosen
        on them.
    max_members : int, default=None
        The most members that all tasks together may use; one used by two tasks counts once.
    costs : dict name -> float, default=None
        What a member counts against ``max_members`` (its prediction time, say); 1 where not said.
    shrinkage : float, default=None
        Strength of the pull to uniform, in rows: learnt weights have the least :math:`\ell(w) / \ell(1/M) +
        s/n \lVert w - 1/M \rVert^2` over n rows and M members (in units of the mean label's loss, if that is less than
        the uniform average's). None is 10, or 100 where the folds are in time, or the members of ``cv="prefit"`` name a
        time: what was best in one window is less surely so in the next.
    groups : str, default=None
        Column whose groups are never split between folds; then folds are not in time.
    memory : str or joblib.Memory, default=None
        Where finished fits are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for (member, fold) pairs and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds, and seeds members that have no seed of their own.

    Attributes
    ----------
    tasks_ : tuple of Task
    weights_ : DataFrame of shape (n_estimators, n_tasks)
        Columns sum to 1.
    estimators_ : list of fitted estimators
        Those that some task uses.
    named_estimators_ : dict name -> fitted estimator
    oof_predictions_ : DataFrame with the columns (member, score)
        Out-of-fold scores of every member, NaN where no fold covers a row; with learnt weights only.
    oof_scores_ : DataFrame
        Those of the ensemble; with learnt weights only.
    fold_ : ndarray of shape (n,)
        Fold that predicted each row, -1 where none did; with learnt weights only.
    n_uncovered_ : int
        Rows that no fold predicts, which do not count for the weights; with learnt weights only.
    temporal_ : bool
        Whether folds are predicted from earlier ones only; with learnt weights only.
    moments_ : dict task -> list of (mean, spread)
        By which scores of a ranking are standardized, a pair for each used estimator; of ranking tasks only.

    Notes
    -----
    Cost: a fit of each used member; for learnt weights also of every member on every fold, and at most 40 × members
    passes over the rows of each task.

    References
    ----------
    R. Caruana et al., Ensemble selection from libraries of models, 2004, doi:10.1145/1015330.1015432.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import AveragingEnsemble, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> Y = np.c_[X[:, 0] > X[:, 1], X.sum(axis=1) > 0]
    >>> members = [("trees", PerTaskModel(random_state=0)), ("linear", PerTaskModel(learner="linear"))]
    >>> model = AveragingEnsemble(members, weights="greedy", cv=2, random_state=0).fit(X, Y)
    >>> model.weights_.loc["linear"].round(1).to_dict()
    {'y0': 1.0, 'y1': 1.0}
    >>> model.predict_scores(X).shape
    (200, 2)
    """

    _options: ClassVar[dict[str, Option]] = {
        "cv": (FOLDS, "prefit", None), "max_members": (COUNT, None), "costs": (MAPPING, None),
        "shrinkage": (NOT_NEGATIVE, None),
    }  # fmt: skip

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        weights: Sequence[float] | Mapping[str, Sequence[float]] | str | None = None,
        cv: Any = None,
        max_members: int | None = None,
        costs: Mapping[str, float] | None = None,
        shrinkage: float | None = None,
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.cv = cv
        self.max_members = max_members
        self.costs = costs
        self.shrinkage = shrinkage
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> AveragingEnsemble:
        """Choose the weights, then fit every member that has any on all rows.

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
        self._check_settings()
        for name in OUT_OF_FOLD:  # of an earlier fit
            self.__dict__.pop(name, None)
        progress = self._begin(0 if isinstance(self.cv, str) else 1 + self._learns(), X, Y)
        if isinstance(self.cv, str):
            given = self._start_prefit(self._members(), X, Y, sample_weight)
            self.weights_ = self._held_out_weights(given) if self._learns() else self._given_weights()
            self._keep_used(dict(zip(self._names(), self._members(), strict=True)))
        else:
            given = self._start_fit(X, Y, sample_weight)
            Y = rows_of(Y)
            data = Data(given.X, Y, given.weights, events)
            members = self._seeded_members()
            if self._learns():
                plan = shared_plan(self, given, Y, self.cv, plan, events)
                self.weights_ = self._out_of_fold_weights(given, data, members, plan, progress)
            else:
                self.weights_ = self._given_weights()
            used = [member for member in members if self.weights_.loc[member[0]].any()]
            fitted = fit_members(used, data, plan=plan, memory=self.memory, n_jobs=self.n_jobs, progress=progress)
            self._keep_used(dict(zip([name for name, _ in used], fitted, strict=True)))
            self._agree(fitted)
        self.moments_ = training_moments(self.tasks_, self.estimators_, given.X)
        progress.end(X, Y)
        return self

    def _learns(self) -> bool:
        return isinstance(self.weights, str)

    def _keeps_scores(self) -> bool:
        return self._learns() and not isinstance(self.cv, str)

    def _check_settings(self) -> None:
        if isinstance(self.weights, str) and self.weights not in LEARNT_WEIGHTS:
            raise ValueError(f'weights must be None, a list, "greedy" or "optimize", got {self.weights!r}.')
        if self.max_members is not None and not self._learns():
            raise ValueError(
                f"max_members={self.max_members!r} needs learnt weights to have an effect "
                f'(weights="greedy" or "optimize"), got weights={self.weights!r}.'
            )
        check_costs(self.costs, self._names())
        if not self._learns() and not isinstance(self.weights, Mapping):
            _check_weights(self.weights, len(self.estimators))

    def _given_weights(self) -> pd.DataFrame:
        names, given = [task.name for task in self.tasks_], self.weights
        if isinstance(given, Mapping) and set(given) != set(names):
            raise ValueError(f"weights must name every task, {', '.join(names)}; got {', '.join(map(str, given))}.")
        columns = [given[name] if isinstance(given, Mapping) else given for name in names]
        return self._frame(np.column_stack([_check_weights(column, len(self.estimators)) for column in columns]))

    def _frame(self, weights: Any) -> pd.DataFrame:
        columns = pd.Index([task.name for task in self.tasks_], name="task")
        return pd.DataFrame(weights, index=pd.Index(self._names(), name="member"), columns=columns)

    def _choose(self, problems: list[Problem]) -> pd.DataFrame:
        costs = check_costs(self.costs, self._names())
        return self._frame(choose_weights(problems, str(self.weights), max_members=self.max_members, costs=costs))

    def _held_out_weights(self, given: FitInput) -> pd.DataFrame:
        scores = [member._scores(member._start_predict(given.X), "entire") for member in self._members()]
        pull = pull_of(self.shrinkage, self.roles_["time"] is not None)
        problems = make_problems(given, ([s[task.name] for s in scores] for task in self.tasks_), pull)
        return self._choose(list(problems))

    def _out_of_fold_weights(
        self, given: FitInput, data: Data, members: list[Member], plan: FoldPlan, progress: Progress
    ) -> pd.DataFrame:
        store = cross_fit_members(
            members,
            data,
            plan,
            self.tasks_,
            self.classes_map_,
            memory=self.memory,
            n_jobs=self.n_jobs,
            progress=progress,
        )
        pull = pull_of(self.shrinkage, store.temporal)
        problems = make_problems(given, (store.of_task(task.name) for task in self.tasks_), pull)
        weights = self._choose([latest(problem, store) for problem in problems])
        index = row_index(given.X)
        self.oof_predictions_, self.fold_ = store.frame(index), store.fold
        self.n_uncovered_ = int((store.fold < 0).sum())
        scores = averaged(store, weights)
        self.oof_scores_ = scores_frame(scores, self.tasks_, self.classes_map_, index)
        self.temporal_ = store.temporal
        return weights

    def _keep_used(self, fitted: Mapping[str, Any]) -> None:
        self.named_estimators_ = {name: m for name, m in fitted.items() if self.weights_.loc[name].any()}
        self.estimators_ = list(self.named_estimators_.values())

    def _scores(self, X: Table, space: str) -> Scores:
        members = [member._scores(member._start_predict(X), "entire") for member in self.estimators_]
        return self._averaged(members, space, self._mixing())

    def _mixing(self) -> dict[str, Floats]:
        """The weights of each task."""
        weights = self.weights_.loc[list(self.named_estimators_)]
        return {task.name: weights[task.name].to_numpy() for task in self.tasks_}

    def _averaged(self, members: list[Scores], space: str, weights: dict[str, Floats]) -> Scores:
        """The average of what members say of the entire space; given its parent, a child is their ratio."""
        scores = {
            task.name: average(task, [s[task.name] for s in members], weights[task.name], self.moments_.get(task.name))
            for task in self.tasks_
        }
        return self._in_space(scores, space)


def average_over_seeds(estimator: Any, n_seeds: int, random_state: Any = None) -> AveragingEnsemble:
    """An unfitted ensemble of clones that differ in ``random_state`` only.

    Parameters
    ----------
    estimator : multi-task estimator
    n_seeds : int
    random_state : int, RandomState or None

    Returns
    -------
    AveragingEnsemble

    Examples
    --------
    >>> from mtl_classic import PerTaskModel, average_over_seeds
    >>> [name for name, _ in average_over_seeds(PerTaskModel(), 2, random_state=0).estimators]
    ['seed0', 'seed1']
    """
    check_option("n_seeds", n_seeds, COUNT)
    root = root_seed(random_state)
    if not any(name.split("__")[-1] == "random_state" for name in estimator.get_params()):
        raise ValueError(f"{type(estimator).__name__} has no random_state: its seeds would all give the same model.")
    return AveragingEnsemble([(f"seed{k}", reseeded(estimator, root, k)) for k in range(n_seeds)])


def make_problems(given: FitInput, scores: Iterable[Sequence[Any]], pull: float) -> Iterator[Problem]:
    """For each task its labelled rows with the members' scores; ``pull`` is that of learnt weights to uniform."""
    for task, members in zip(given.targets.tasks, scores, strict=True):
        y, weight = given.targets.view(task.name), given.entire_weight(task)
        yield make_problem(task, y, members, weight, group_codes(given.X, task), pull)


def latest(problem: Problem, store: OutOfFold) -> Problem:
    """The rows by which members are weighed: of folds in time, those of the last with enough labels."""

    def enough(rows: Rows) -> bool:
        return n_events(problem.task, problem.within(rows).y) >= ENOUGH_EVENTS

    return problem.within(latest_rows(store.fold, store.temporal, enough)) if store.temporal else problem


def training_moments(tasks: Sequence[Any], members: Sequence[Any], X: Any) -> dict[str, list[tuple[float, float]]]:
    """Mean and spread of each member's ranking scores, by which they are standardized."""
    ranking = [task for task in tasks if task.kind == "ranking"]
    moments: dict[str, list[tuple[float, float]]] = {task.name: [] for task in ranking}
    for member in members if ranking else ():
        scores = member._scores(member._start_predict(X), "entire")
        for task in ranking:
            values = scores[task.name]
            moments[task.name].append((float(values.mean()), float(values.std()) or 1.0))
    return moments


def averaged(store: OutOfFold, weights: pd.DataFrame) -> Scores:
    """Out-of-fold scores of the weighted average; NaN where no fold covers a row."""
    scores = {task.name: average_task(store, task, weights[task.name].to_numpy()) for task in store.tasks}
    return hold_monotone(store.tasks, store.classes, scores)


def average_task(store: OutOfFold, task: Task, weights: Floats) -> Floats:
    """Out-of-fold scores of one task's weighted average."""
    parts, used = [store.of_task(task.name)[m] for m in np.flatnonzero(weights)], weights[weights != 0]
    moments = [fold_moments(values) for values in parts] if task.kind == "ranking" else None
    return average(task, parts, used, moments)


def fold_moments(scores: Floats) -> tuple[float, float]:
    """Mean and spread of a member's out-of-fold ranking scores."""
    return float(np.nanmean(scores)), float(np.nanstd(scores)) or 1.0


def _check_weights(weights: Any, n: int) -> Any:
    try:
        values = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    except (ValueError, TypeError):
        values = np.empty(0)
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(
            f"weights must be {n} non-negative numbers, one per estimator and not all zero; got {weights!r}."
        )
    return values / values.sum()
