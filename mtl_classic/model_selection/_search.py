"""Search for better settings of a multi-task estimator, judged on all its tasks."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import MultiTaskEstimator, all_or_nothing
from mtl_classic._core.options import COLUMN, FOLDS, TRUTH, Option
from mtl_classic._core.parallel import n_threads, thread_limit
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.task_weights import check_task_weights
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import as_table, check_labels_of
from mtl_classic.model_selection._crossfit import events_for, fit_name, rows_of
from mtl_classic.model_selection._fingerprint import fingerprint
from mtl_classic.model_selection._folds import FoldPlan
from mtl_classic.model_selection._plans import plan_for, time_for_folds
from mtl_classic.model_selection._progress import Progress, Tracked, with_callbacks
from mtl_classic.model_selection._scorers import TaskScores, multitask_scorer
from mtl_classic.model_selection._search_delegates import BestEstimator
from mtl_classic.model_selection._search_results import choose, cv_results, points_frame, undominated
from mtl_classic.model_selection._search_run import Limits, run_search
from mtl_classic.model_selection._search_space import Dimension, Floats, read_space
from mtl_classic.model_selection._search_trial import FAILED, Judge, Outcome, Work

__all__ = ["MultiTaskSearchCV"]

STRATEGIES = ("grid", "random", "bayesian", "genetic")
OBJECTIVES = ("mean", "worst", "pareto")
SURROGATES = ("tpe", "gp")


class MultiTaskSearchCV(Tracked, BestEstimator):
    r"""Search for the settings that do best on all tasks, by cross-validation.

    Each task t of a candidate is scored by what it takes off the loss of a model that knows the label's distribution
    only, :math:`s_t = 1 - L_t / L_t^{prior}`, so that log-losses, squared errors and deviances can be compared: 0 is
    the prior, 1 is perfect. Rows without a label do not count.

    Parameters
    ----------
    estimator : multi-task estimator, or a pipeline that ends in one
    space : dict parameter -> list or scipy distribution, default=None
        Nested parameters as ``step__parameter``. Ascending or descending lists of numbers are searched as a scale,
        others as choices. None is what the estimator declares itself: its method ``search_space()``.
    strategy : {"grid", "random", "bayesian", "genetic"}, default="bayesian"
        All combinations of lists; independent draws; where a model of what has been found expects most; NSGA-II.
    objective : {"mean", "worst", "pareto"} or dict task -> weight, default="mean"
        The mean of the tasks' scores; their least; all of them, for a front of trade-offs; or a weighted mean, in
        which tasks that the dict does not name do not count.
    n_trials : int, default=None
        Candidates in all, those found in the storage included. None is 50, or all of the grid.
    time_budget : float, default=None
        Seconds for the search and the refit; at least one candidate is judged. What is found then depends on the
        machine.
    cv : int, splitter, Temporal, (train, test) pairs or array of fold numbers, default=5
        In time where the estimator, or the log given to ``fit``, names a time column, else by whole queries where there
        is a ranking task.
    groups : str, default=None
        Column whose groups are never split between folds; then folds are not in time.
    metrics : dict name -> scorer or name of a metric, default=None
        Further figures to be kept for each candidate, from `multitask_scorer`: `pick` can ask for them. Their names
        are none of a task or a searched parameter. ``{"ap": "average_precision"}`` is the mean over tasks that have it.
    surrogate : {"tpe", "gp"}, default="gp"
        Of the Bayesian search: a tree-structured Parzen estimator, or a Gaussian process with expected improvement.
    pruning : bool, default=True
        Give a candidate up after a fold if it is then worse than the median of those that have finished. Not with
        ``objective="pareto"``.
    storage : str or path, default=None
        A file (SQLite) or a URL of Optuna's, where every candidate is kept: a search that was stopped and is fitted
        again goes on where it was, and tries again what had failed. Searches of other data, spaces, metrics or
        settings in the same file do not disturb it; two at the same time of the same would.
    refit : bool, str or callable, default=True
        Fit the best settings on all rows. The name of a metric or a task: the best are those of which it is greatest.
        A callable is given ``cv_results_`` and returns the position of the best.
    error_score : "raise" or NaN, default=NaN
        NaN: a candidate whose fit fails is noted as failed, and the search goes on.
    n_jobs : int, default=None
        Threads, for candidates at the same time and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds and draws the candidates. The estimator keeps its own: where that is None, fits differ.

    Attributes
    ----------
    best_params_ : dict
        With ``"pareto"``: those of the point of the front of greatest mean.
    best_score_ : float
        With ``"pareto"``: its mean. With the name of a metric or a task as ``refit``: that one's.
    best_index_ : int
    best_estimator_ : fitted estimator
        If ``refit``.
    refit_time_ : float
        Seconds.
    cv_results_ : dict of arrays
        scikit-learn's columns: "score" is the objective, "score_TASK" each task, "score_METRIC" each metric; further
        the state of each candidate ("complete", "pruned" or "failed").
    pareto_front_ : DataFrame
        Complete candidates that no other beats on all tasks: their scores, metrics and parameters.
    n_splits_ : int
    tasks_ : tuple of Task

    Raises
    ------
    ValueError
        On settings that are none, an empty or unknown space, or if every candidate failed.
    ImportError
        If Optuna is not installed (the extra ``search``).

    Notes
    -----
    Cost: a fit per candidate and fold, and one for the refit. Candidates are drawn four at a time (genetic: a
    generation) and judged in parallel. The folds' models stop early on rows of their own, as `cross_fit` says. A fit
    that is interrupted or fails, the refit included, leaves the search as it was; a storage keeps what was judged.

    References
    ----------
    T. Akiba et al., Optuna, KDD 2019, doi:10.1145/3292500.3330701; J. Bergstra et al., Algorithms for hyper-parameter
    optimization, NeurIPS 2011 (TPE); K. Deb et al., NSGA-II, IEEE Trans. Evol. Comp. 2002, doi:10.1109/4235.996017.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import MultiTaskSearchCV, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> Y = np.c_[X[:, 0] > X[:, 1], X.sum(axis=1) > 0]
    >>> space = {"learner": ["linear", "lightgbm"]}
    >>> search = MultiTaskSearchCV(PerTaskModel(random_state=0), space, strategy="grid", cv=2, random_state=0).fit(X, Y)
    >>> search.best_params_
    {'learner': 'linear'}
    >>> search.predict_scores(X).shape
    (200, 2)
    """

    cv_results_: dict[str, Any]
    pareto_front_: pd.DataFrame

    _options: ClassVar[dict[str, Option]] = {"cv": FOLDS, "groups": (COLUMN, None), "pruning": TRUTH}

    def __init__(
        self,
        estimator: Any,
        space: Mapping[str, Any] | None = None,
        *,
        strategy: str = "bayesian",
        objective: str | Mapping[str, float] = "mean",
        n_trials: int | None = None,
        time_budget: float | None = None,
        cv: Any = 5,
        groups: str | None = None,
        metrics: Mapping[str, str | Callable[[Any, Any, Any], float]] | None = None,
        surrogate: str = "gp",
        pruning: bool = True,
        storage: str | os.PathLike[str] | None = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        error_score: Any = np.nan,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.strategy = strategy
        self.objective = objective
        self.n_trials = n_trials
        self.time_budget = time_budget
        self.cv = cv
        self.groups = groups
        self.metrics = metrics
        self.surrogate = surrogate
        self.pruning = pruning
        self.storage = storage
        self.refit = refit
        self.error_score = error_score
        self.n_jobs = n_jobs
        self.random_state = random_state

    @all_or_nothing
    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> MultiTaskSearchCV:
        """Judge candidates until the trials or the time are used up, then fit the best on all rows.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
            For the fits, of a pipeline its last step; candidates are judged without.
        events : EventLog, default=None
            Handed to every fit, of a pipeline to all steps that read them.
        plan : FoldPlan, default=None
            Shared with other levels; takes the place of ``cv`` and ``groups``.
        """
        started = time.time()
        self._check_settings()
        storage = None if self.storage is None else os.fspath(self.storage)
        if Y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        dimensions = read_space(self.space, self.estimator)
        model = _last_step(self.estimator)
        tasks = resolve_tasks(getattr(model, "tasks", None), Y)
        metrics = {name: multitask_scorer(m) if isinstance(m, str) else m for name, m in (self.metrics or {}).items()}
        self._check_names(tasks, list(metrics), dimensions)
        judge = self._judge(tasks)
        X, Y = as_table(X), rows_of(Y)
        check_labels_of(X, Y, sample_weight)
        key = fingerprint(X, Y, sample_weight, events) if self.storage else ""
        seed = int(key[:8], 16) if self.storage and self.random_state is None else root_seed(self.random_state)
        plan = plan_for(
            X, Y, tasks, self.cv, plan, time=time_for_folds(X, getattr(model, "time", None), events),
            groups=self.groups, seed=spawn_seed(seed, "folds"), sample_weight=sample_weight,
        )  # fmt: skip
        work = Work(
            self.estimator, dimensions, X, Y, plan, TaskScores(metrics), judge,
            bool(self.pruning) and judge.objective != "pareto", self.n_jobs, sample_weight,
            events_for(self.estimator, events), isinstance(self.error_score, str),
        )  # fmt: skip
        limits = Limits(self.n_trials, self.time_budget, started, reserve_refit=self.refit is not False)
        strategy = self.surrogate if self.strategy == "bayesian" else self.strategy
        progress = self._begin(1 + (self.refit is not False), X, Y)
        outcomes = run_search(work, strategy, limits, storage=storage, key=key, seed=seed, progress=progress)
        for name in ("best_estimator_", "refit_time_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self.tasks_, self.n_splits_ = tasks, len(plan)
        self._report(work, outcomes)
        if self.refit is not False:
            self._refit(work, progress)
        progress.end(X, Y)
        return self

    def pick(
        self, weights: Mapping[str, float] | None = None, *, at_least: Mapping[str, float] | None = None
    ) -> dict[str, Any]:
        """Parameters of another point: the one that suits given weights of the tasks, or keeps a constraint.

        Parameters
        ----------
        weights : dict task -> weight, default=None
            None weighs all tasks equally; of a dict, tasks that it does not name do not count.
        at_least : dict name -> value, default=None
            Least scores of tasks, or figures of ``metrics``: "coupon average precision at least .1".

        Returns
        -------
        dict
            For ``clone(search.estimator).set_params(**params)``.

        Raises
        ------
        ValueError
            If no candidate keeps the constraints.
        """
        check_is_fitted(self)
        task_weights = _weights_of(weights, self.tasks_, "weights")
        judged = self._points[[name for name in self._points if f"mean_test_score_{name}" in self.cv_results_]]
        best = choose(judged, [task.name for task in self.tasks_], task_weights, at_least)
        return dict(self.cv_results_["params"][best])

    def _check_settings(self) -> None:
        for name, allowed in (("strategy", STRATEGIES), ("surrogate", SURROGATES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")
        if not isinstance(self.objective, Mapping) and self.objective not in OBJECTIVES:
            raise ValueError(
                f"objective must be one of {', '.join(OBJECTIVES)}, or a dict task -> weight; got {self.objective!r}."
            )
        kinds: tuple[tuple[str, type, str], ...] = (
            ("n_trials", Integral, "an integer"),
            ("time_budget", Real, "a number of seconds"),
        )
        for name, kind, what in kinds:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{name} must be {what} or None, got {value!r}.")
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive or None, got {value!r}.")
        if self.storage is not None and not isinstance(self.storage, str | os.PathLike):
            raise TypeError(f"storage must be a file, a URL or None, got {self.storage!r}.")
        if not isinstance(self.refit, bool | str) and not callable(self.refit):
            raise ValueError(
                f"refit must be True, False, a metric's or a task's name, or callable; got {self.refit!r}."
            )
        self._check_metrics()
        is_nan = isinstance(self.error_score, Real) and math.isnan(self.error_score)
        if not is_nan and not (isinstance(self.error_score, str) and self.error_score == "raise"):
            raise ValueError(f'error_score must be "raise" or NaN, got {self.error_score!r}.')
        if not isinstance(_last_step(self.estimator), MultiTaskEstimator):
            raise TypeError(
                f"estimator must be a multi-task estimator such as PerTaskModel, or a pipeline that ends in one; got "
                f"{type(self.estimator).__name__}."
            )

    def _check_metrics(self) -> None:
        if self.metrics is not None and not isinstance(self.metrics, Mapping):
            raise TypeError(
                f'metrics must be a dict name -> scorer, such as {{"ap": multitask_scorer("average_precision")}}; got '
                f"{self.metrics!r}."
            )
        for name, scorer in (self.metrics or {}).items():
            if not isinstance(scorer, str) and not callable(scorer):
                raise TypeError(
                    f"metrics[{name!r}] must be a scorer (estimator, X, Y) -> float, as of multitask_scorer, or the "
                    f"name of a metric; got {scorer!r}."
                )

    def _check_names(self, tasks: Sequence[Task], metrics: Sequence[str], dimensions: Sequence[Dimension]) -> None:
        """Tasks, metrics and parameters are columns of one frame; the best may be chosen by a task or metric."""
        names = [*(task.name for task in tasks), *metrics, *(d.name for d in dimensions)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Tasks, metrics and searched parameters must differ in their names, as all are columns of "
                f"pareto_front_; rename {', '.join(twice)}."
            )
        judged = names[: len(tasks) + len(metrics)]
        if isinstance(self.refit, str) and self.refit not in judged:
            raise ValueError(
                f"refit names {self.refit!r}, which is neither a task nor a metric; there are {', '.join(judged)}."
            )

    def _judge(self, tasks: tuple[Task, ...]) -> Judge:
        given = self.objective if isinstance(self.objective, Mapping) else None
        return Judge("mean" if given is not None else str(self.objective), _weights_of(given, tasks, "objective"))

    def _report(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        failed = [outcome for outcome in outcomes if outcome.state == FAILED]
        if len(failed) == len(outcomes):
            raise ValueError(f"All {len(failed)} candidates failed. The first:\n{failed[0].error}")
        if failed:
            message = f"{len(failed)} of {len(outcomes)} candidates failed. The first:\n{failed[0].error}"
            warnings.warn(message, FitFailedWarning, stacklevel=4)
        tasks = [task.name for task in self.tasks_]
        names = [*tasks, *work.scorer.metrics]
        self.cv_results_ = cv_results(work, outcomes, names)
        self._points = points_frame(work, self.cv_results_, names)
        self.pareto_front_ = self._points[undominated(self._points[tasks].to_numpy())]
        scores = self.cv_results_[f"mean_test_score_{self.refit}" if isinstance(self.refit, str) else "mean_test_score"]
        if np.isnan(scores).all():
            raise ValueError(f"refit={self.refit!r} chooses by what has no value in any candidate; name another.")
        self.best_index_ = int(self.refit(self.cv_results_)) if callable(self.refit) else int(np.nanargmax(scores))
        self.best_params_ = dict(self.cv_results_["params"][self.best_index_])
        self.best_score_ = float(scores[self.best_index_])

    def _refit(self, work: Work, progress: Progress) -> None:
        started = time.perf_counter()
        params = {name: clone(value, safe=False) for name, value in self.best_params_.items()}
        model = clone(self.estimator).set_params(**params)
        weights = {} if work.sample_weight is None else {fit_name(model, "sample_weight"): work.sample_weight}
        with thread_limit(n_threads(self.n_jobs)):
            if self.n_jobs is not None and "n_jobs" in model.get_params(deep=False):
                model.set_params(n_jobs=self.n_jobs)
            with progress.part("refit", 1) as part, part.steps([0])[0].fitting(model):
                self.best_estimator_ = model.fit(work.X, work.Y, **weights, **work.fit_params)
        self.refit_time_ = time.perf_counter() - started


def _last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _weights_of(given: Mapping[str, float] | None, tasks: Sequence[Task], what: str) -> Floats:
    """Weights of an objective: a task that the dict does not name is not asked for."""
    zeros = {task.name: 0.0 for task in tasks}
    return check_task_weights(zeros | dict(given) if isinstance(given, Mapping) else given, tasks, what)
