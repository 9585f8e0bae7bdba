"""Calibration per task from out-of-fold scores, where it helps beyond the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from mtl_classic._core.base import FitInput, Floats, Scores
from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.losses import losses
from mtl_classic._core.options import FOLDS, Option
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, n_rows, row_index, take_over_columns
from mtl_classic.ensemble._links import SMALLEST, from_link, scored_rows
from mtl_classic.ensemble._members import OverMembers, shared_plan
from mtl_classic.ensemble._store import Data, cross_fit_members, fit_members
from mtl_classic.metrics._significance import compare_pairs
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._plans import time_for_folds
from mtl_classic.model_selection._progress import Progress, with_callbacks
from mtl_classic.multitask._score_columns import read_scores

__all__ = ["CalibratedModel"]

METHODS = {"binary": ("sigmoid", "beta", "isotonic"), "multiclass": ("temperature",)}
HELD = 1.0  # pull of sigmoid, beta and temperature to "no change", in rows


class CalibratedModel(OverMembers):
    r"""A model whose probabilities are corrected, task by task, by a map learnt from out-of-fold scores.

    ``sigmoid``: logit q = a logit p + b; ``beta``: logit q = a ln p − b ln(1 − p) + c; ``isotonic``: the best monotone
    steps, which stay 0.5 / (n + 1) away from 0 and 1 for n labels; ``temperature``, for multiclass: q ∝ p^t. Sigmoid
    and beta read p clipped to [1e-6, 1 − 1e-6], temperature p of at least 1e-6. A map is kept only if it lowers the
    log-loss of rows that it was not fitted on beyond the noise (paired bootstrap by user, else by row; Holm over tasks
    and methods). Of folds in time those are rows of later folds, of a single one its later rows. Binary children of a
    funnel are held at or below their parents.

    Parameters
    ----------
    estimator : multi-task estimator
        Unfitted, or fitted with ``cv="prefit"``. One that keeps out-of-fold scores of its own (`AveragingEnsemble` with
        learnt weights, `StackingEnsemble`, `BaggingEnsemble`, `BoostingEnsemble`) is fitted once, by its own ``cv`` and
        ``groups``, and those are read.
    method : {"auto", "sigmoid", "beta", "isotonic", "temperature"} or dict task -> method, default="auto"
        ``"auto"`` chooses among those for the kind. Binary methods leave multiclass tasks to ``"temperature"``, and
        that leaves binary ones to ``"sigmoid"``. In a dict None leaves a task as it is, as do all that it lacks.
    cv : int, splitter, Temporal, array of fold numbers or "prefit", default=5
        ``"prefit"``: the rows given to ``fit`` are rows that the estimator has not seen; where it names a time, a map
        is judged by those later than the ones it was fitted on.
    groups : str, default=None
        Column whose groups are never split between folds; then folds are not in time.
    memory : str or joblib.Memory, default=None
        Where finished fits are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for folds and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds, and seeds an estimator that has no seed of its own.

    Attributes
    ----------
    tasks_ : tuple of Task
    estimator_ : fitted estimator
    methods_ : dict task -> str or None
        What each classification task is calibrated by.
    report_ : DataFrame
        A row per (task, method): loss after, loss before, the interval of the difference, and the verdict.
    oof_scores_ : DataFrame
        Out-of-fold scores before calibration.
    maps_ : dict task -> callable
        From scores to calibrated ones; of tasks that have a method.

    Notes
    -----
    Cost: a fit per fold and one on all rows; the maps are one-dimensional.

    References
    ----------
    M. Kull, T. Silva Filho, P. Flach, Beyond sigmoids: beta calibration, 2017, doi:10.1214/17-EJS1338SI.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from mtl_classic import CalibratedModel, PerTaskModel
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 1))
    >>> X = np.hstack([x] * 5)  # naive Bayes counts the same evidence five times
    >>> model = PerTaskModel(learner=GaussianNB())
    >>> calibrated = CalibratedModel(model, random_state=0).fit(X, x[:, 0] + rng.normal(size=1000) > 0)
    >>> calibrated.methods_
    {'y0': 'sigmoid'}
    """

    _options: ClassVar[dict[str, Option]] = {"cv": (FOLDS, "prefit", None)}

    def __init__(
        self,
        estimator: Any,
        *,
        method: str | Mapping[str, str | None] = "auto",
        cv: Any = 5,
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> CalibratedModel:
        """Fit the model, and for each classification task the map that helps most, if any.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to the estimator.
        plan : FoldPlan, default=None
            Used in place of ``cv``, and handed to the estimator.
        """
        self._check_members()
        if isinstance(self.cv, str):
            given = self._start_prefit(self._members(), X, Y, sample_weight)
        else:
            given = self._start_fit(X, Y, sample_weight)
        Y = rows_of(Y)
        asked = _check_methods(self.method, self.tasks_)
        progress = self._begin(0 if isinstance(self.cv, str) else 2 - _keeps_scores(self.estimator), X, Y)
        scores, splits = self._honest_scores(given, Data(given.X, Y, given.weights, events), plan, progress)
        self._choose(given, asked, scores, splits)
        progress.end(X, Y)
        return self

    def over(self, estimator: Any) -> CalibratedModel:
        """The same maps over another fitted estimator of the same tasks: this one's refit on more rows, say.

        Parameters
        ----------
        estimator : fitted multi-task estimator

        Returns
        -------
        CalibratedModel
        """
        other = copy(self)
        other.estimator = other.estimator_ = estimator
        take_over_columns(other, estimator)
        other._agree([estimator])
        return other

    def _honest_scores(
        self, given: FitInput, data: Data, plan: FoldPlan | None, progress: Progress
    ) -> tuple[Scores, list[tuple[Rows, Rows]]]:
        """Scores of rows that their model was not fitted on, and how to split those for the maps."""
        if isinstance(self.cv, str):
            (self.estimator_,) = self._members()
            frame = self.estimator_.predict_scores(given.X)
            self.oof_scores_, fold = frame, np.zeros(n_rows(given.X), dtype=np.intp)
            temporal = time_for_folds(given.X, self.roles_["time"], data.events) is not None
            splits = self._meta_splits(given.X, fold, temporal, data.events)
            return read_scores(frame, self.tasks_, self.classes_map_), splits
        run: Any = {"memory": self.memory, "n_jobs": self.n_jobs, "progress": progress}
        if _keeps_scores(self.estimator):
            (self.estimator_,) = fit_members(self._seeded_members(), data, plan=plan, **run)
            self._agree([self.estimator_])
            self.oof_scores_ = self.estimator_.oof_scores_
            scores = read_scores(self.oof_scores_, self.tasks_, self.classes_map_)
            return scores, self._meta_splits(given.X, self.estimator_.fold_, self.estimator_.temporal_, data.events)
        plan = shared_plan(self, given, data.Y, self.cv, plan, data.events)
        members = self._seeded_members()
        store = cross_fit_members(members, data, plan, self.tasks_, self.classes_map_, **run)
        self.oof_scores_ = store.frame(row_index(given.X))["model"]
        (self.estimator_,) = fit_members(members, data, plan=plan, **run)
        self._agree([self.estimator_])
        return store.scores["model"], self._meta_splits(given.X, store.fold, store.temporal, data.events)

    def _choose(
        self, given: FitInput, asked: dict[str, tuple[str, ...]], scores: Scores, splits: list[tuple[Rows, Rows]]
    ) -> None:
        keys = [(task.name, method) for task in self.tasks_ for method in asked[task.name]]

        def pairs() -> Iterator[tuple[str, Floats, Floats, Floats]]:
            for task in self.tasks_:
                if not asked[task.name]:
                    continue
                y, own = given.targets.view(task.name), given.row_weight(task)
                before = losses(task.kind, y, scores[task.name])
                for method in asked[task.name]:
                    held_out = _held_out(method, y, scores[task.name], own, splits)
                    yield f"{task.name}/{method}", losses(task.kind, y, held_out), before, own

        self.methods_: dict[str, str | None] = {task.name: None for task in self.tasks_ if task.is_classification}
        self.maps_: dict[str, Any] = {}
        table = compare_pairs(pairs(), clusters=self._users(given.X))
        columns = [[key[k] for key in keys] for k in range(2)]
        self.report_ = table.set_axis(pd.MultiIndex.from_arrays(columns, names=["task", "method"]), axis=0)
        for task in self.tasks_ if keys else ():  # there may be no task of a kind that is calibrated
            mine = self.report_.loc[[key for key in keys if key[0] == task.name]]
            better = mine.loc[mine["verdict"] == "better", "difference"]
            if len(better):
                method = str(better.index[int(better.to_numpy().argmin())][1])
                self.methods_[task.name] = method
                y = given.targets.view(task.name)
                self.maps_[task.name] = _fit_map(method, y, scores[task.name], given.row_weight(task))

    def _scores(self, X: Table, space: str) -> Scores:
        def inner(asked: str) -> Scores:
            scores: Scores = self.estimator_._scores(self.estimator_._start_predict(X), asked)
            return scores

        return self._mapped(inner, space)

    def _mapped(self, inner: Callable[[str], Scores], space: str) -> Scores:
        """The calibrated scores, from a function of the space that gives those of the model."""
        if space == "conditional" and not self.maps_:
            return inner(space)
        entire = inner("entire")
        for name, calibrate in self.maps_.items():
            entire[name] = calibrate(entire[name])
        return self._in_space(entire, space)


@dataclass(frozen=True)
class _Sloped:
    """logit q = coefficients · basis(p): the sigmoid and beta maps."""

    method: str
    coefficients: Floats

    def __call__(self, p: Floats) -> Floats:
        columns = _basis(self.method, p)[0].T
        terms = [c * column for c, column in zip(self.coefficients, columns, strict=True)]
        return from_link("binary", np.sum(terms, axis=0))  # a matrix product rounds by how many rows there are


@dataclass(frozen=True)
class _Steps:
    """Monotone steps, never quite 0 or 1: a certain mistake costs without limit."""

    model: IsotonicRegression = field(repr=False)
    floor: float

    def __call__(self, p: Floats) -> Floats:
        return np.clip(self.model.predict(p), self.floor, 1 - self.floor) if len(p) else p


@dataclass(frozen=True)
class _Temperature:
    """q ∝ p ** t."""

    exponent: float

    def __call__(self, p: Floats) -> Floats:
        return from_link("multiclass", self.exponent * np.log(np.maximum(p, SMALLEST)))


def _fit_map(method: str, y: Floats, score: Floats, weight: Floats) -> Any:
    known = scored_rows(score) & ~np.isnan(y) & (weight > 0)
    y, score, weight = y[known], score[known], weight[known]
    if method == "isotonic":
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score, y, sample_weight=weight)
        return _Steps(model, 0.5 / (len(y) + 1))
    share = weight / weight.mean()
    if method == "temperature":
        logs, code = np.log(np.maximum(score, SMALLEST)), np.maximum(y, 0).astype(np.intp)
        rows, seen = np.arange(len(y)), y >= 0

        def by_temperature(t: Floats) -> float:
            q = from_link("multiclass", t[0] * logs)[rows, code]
            return float((share * seen) @ -np.log(np.maximum(q, 1e-300)) + HELD / 2 * (t[0] - 1) ** 2) / len(y)

        return _Temperature(float(minimize(by_temperature, [1.0], bounds=[(0.01, 100.0)], method="L-BFGS-B").x[0]))
    basis, start, bounds = _basis(method, score)

    def objective(c: Floats) -> tuple[float, Floats]:
        eta = basis @ c
        value = share @ (np.logaddexp(0, eta) - y * eta) + HELD / 2 * ((c - start) @ (c - start))
        slope = basis.T @ (share * (from_link("binary", eta) - y)) + HELD * (c - start)
        return float(value) / len(y), slope / len(y)

    return _Sloped(method, minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def _basis(method: str, p: Floats) -> tuple[Floats, Floats, list[tuple[float | None, float | None]]]:
    """Columns of the map's logit, the coefficients of no change, and their bounds."""
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    up, down, one = np.log(p), -np.log1p(-p), np.ones(len(p))
    if method == "sigmoid":
        return np.column_stack([up + down, one]), np.array([1.0, 0.0]), [(0.0, None), (None, None)]
    return np.column_stack([up, down, one]), np.array([1.0, 1.0, 0.0]), [(0.0, None), (0.0, None), (None, None)]


def _held_out(method: str, y: Floats, score: Floats, weight: Floats, splits: list[tuple[Rows, Rows]]) -> Floats:
    """Scores after maps that were fitted on other rows; NaN elsewhere, and where the model has none."""
    out = np.full(score.shape, np.nan)
    scored = scored_rows(score)
    told = scored & ~np.isnan(y) & (weight > 0)
    for train, held in splits:
        test = held[scored[held]]
        if len(np.unique(y[train][told[train]])) > 1 and len(test):
            out[test] = _fit_map(method, y[train], score[train], weight[train])(score[test])
    return out


def _keeps_scores(estimator: Any) -> bool:
    """Whether the estimator, once fitted, has out-of-fold scores of its own."""
    return isinstance(estimator, OverMembers) and estimator._keeps_scores()


def _check_methods(method: Any, tasks: tuple[Task, ...]) -> dict[str, tuple[str, ...]]:
    """The methods to try, task by task."""
    known = ("auto", *METHODS["binary"], *METHODS["multiclass"])
    given = dict(method) if isinstance(method, Mapping) else {task.name: method for task in tasks}
    unknown = sorted(set(given) - {task.name for task in tasks})
    if unknown:
        raise TaskError(f"method names unknown tasks: {', '.join(unknown)}.")
    found: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        one = given.get(task.name)
        if one is not None and one not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {one!r}.")
        choices = METHODS.get(task.kind, ())
        found[task.name] = () if one is None else choices if one == "auto" or one not in choices else (one,)
        if one in METHODS["multiclass"] and task.kind == "binary":
            found[task.name] = ("sigmoid",)  # the temperature of two classes, with a shift
    return found
