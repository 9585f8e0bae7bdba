"""Averages of several multi-task models, each kind in the space that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import _BaseComposition

from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.losses import EPSILON
from mtl_classic._core.parallel import n_threads, thread_limit
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table
from mtl_classic.model_selection import FoldPlan

__all__ = ["AveragingEnsemble", "average_over_seeds"]


class AveragingEnsemble(_BaseComposition, MultiTaskEstimator):
    r"""The weighted mean of several multi-task models.

    Probabilities and means of regression are averaged as they are, :math:`\sum_m w_m f_m(x)`, so that a funnel stays
    consistent (child ≤ parent); counts in the logarithm, :math:`\exp \sum_m w_m \log f_m(x)`; ranking scores after
    standardizing each member by the mean and spread of its scores on the training rows.

    Parameters
    ----------
    estimators : list of (str, multi-task estimator)
        Unfitted; reachable as ``name__param``. With ``cv="prefit"`` fitted ones.
    weights : None or list of float, default=None
        One per estimator, non-negative; None is uniform.
    cv : None or "prefit", default=None
    n_jobs : int, default=None
        Threads; members are fitted one after the other.

    Attributes
    ----------
    tasks_ : tuple of Task
    estimators_ : list of fitted estimators
    weights_ : ndarray of shape (n_estimators,), sums to 1

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import AveragingEnsemble, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> Y = np.c_[X[:, 0] > 0, X[:, 1] > 0]
    >>> members = [("trees", PerTaskModel(random_state=0)), ("linear", PerTaskModel(learner="linear"))]
    >>> AveragingEnsemble(members).fit(X, Y).predict_scores(X).shape
    (200, 2)
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        weights: Sequence[float] | None = None,
        cv: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.cv = cv
        self.n_jobs = n_jobs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with those of the members as ``name__param``."""
        params: dict[str, Any] = self._get_params("estimators", deep=deep)
        return params

    def set_params(self, **params: Any) -> AveragingEnsemble:
        """Set parameters, also those of members as ``name__param``."""
        self._set_params("estimators", **params)
        return self

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> AveragingEnsemble:
        """Fit every member on all rows (``cv="prefit"``: only check that they agree on the tasks).

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to every member.
        plan : FoldPlan, default=None
            Handed to every member.
        """
        names = [name for name, _ in self.estimators]
        if not names:
            raise ValueError("AveragingEnsemble needs at least one (name, estimator).")
        self._validate_names(names)
        _check_members(self.estimators)
        self.weights_ = _check_weights(self.weights, len(names))
        if self.cv not in (None, "prefit"):
            raise ValueError(f'cv must be None or "prefit", got {self.cv!r}.')
        self.estimators_ = []
        for _, member in self.estimators:
            if self.cv is None:
                with thread_limit(n_threads(self.n_jobs)):
                    member = clone(member).fit(X, Y, sample_weight=sample_weight, events=events, plan=plan)
            self.estimators_.append(member)
        self._take_over(self.estimators_)
        self.moments_ = self._moments(X)
        return self

    def _take_over(self, members: Sequence[Any]) -> None:
        """The ensemble speaks of the same tasks, columns and classes as its members."""
        first = members[0]
        for member in members[1:]:
            if member.tasks_ != first.tasks_:
                own, other = ([task.name for task in m.tasks_] for m in (first, member))
                raise TaskError(f"Members must have the same tasks, in the same order: {own} against {other}.")
            for task in first.tasks_:
                own, other = first.classes_map_[task.name], member.classes_map_[task.name]
                if own is not None and not np.array_equal(own, other):
                    raise TaskError(f"Members must have seen the same classes of {task.name!r}: {own} against {other}.")
        for name in ("tasks_", "classes_map_", "roles_", "form_", "priors_", "n_features_in_"):
            setattr(self, name, getattr(first, name))
        for name in ("feature_names_in_", "classes_"):
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
            elif hasattr(self, name):
                delattr(self, name)

    def _conflict_rule(self) -> Any:
        return self.estimators_[0]._conflict_rule()

    def _known_tasks(self) -> tuple[Task, ...] | None:
        known = super()._known_tasks()
        return known if known is not None or not self.estimators else self.estimators[0][1]._known_tasks()

    def _moments(self, X: Any) -> dict[str, list[tuple[float, float]]]:
        ranking = [task for task in self.tasks_ if task.kind == "ranking"]
        moments: dict[str, list[tuple[float, float]]] = {task.name: [] for task in ranking}
        for member in self.estimators_ if ranking else ():
            scores = member._scores(member._start_predict(X), "entire")
            for task in ranking:
                values = scores[task.name]
                moments[task.name].append((float(values.mean()), float(values.std()) or 1.0))
        return moments

    def _scores(self, X: Table, space: str) -> Scores:
        members = [member._scores(member._start_predict(X), space) for member in self.estimators_]
        return {task.name: self._average(task, [scores[task.name] for scores in members]) for task in self.tasks_}

    def _average(self, task: Task, scores: list[Any]) -> Any:
        if task.kind == "count":
            scores = [np.log(np.maximum(values, EPSILON)) for values in scores]
        elif task.kind == "ranking":
            scores = [(v - mean) / spread for v, (mean, spread) in zip(scores, self.moments_[task.name], strict=True)]
        mean = sum(w * values for w, values in zip(self.weights_, scores, strict=True))
        return np.exp(mean) if task.kind == "count" else mean


def average_over_seeds(estimator: Any, n_seeds: int, random_state: Any = None) -> AveragingEnsemble:
    """An unfitted ensemble of clones that differ in ``random_state`` only."""
    root = root_seed(random_state)
    seeds = [name for name in estimator.get_params() if name.split("__")[-1] == "random_state"]
    if not seeds:
        raise ValueError(f"{type(estimator).__name__} has no random_state: its seeds would all give the same model.")
    members = []
    for k in range(n_seeds):
        given = {name: spawn_seed(root, "seed", k, *name.split("__")[:-1]) for name in seeds}
        members.append((f"seed{k}", clone(estimator).set_params(**given)))
    return AveragingEnsemble(members)


def _check_members(estimators: Sequence[tuple[str, Any]]) -> None:
    for name, member in estimators:
        if not isinstance(member, MultiTaskEstimator):
            raise TypeError(
                f"The member {name!r} is a {type(member).__name__}; expected a multi-task estimator such as "
                f"PerTaskModel (put a pipeline around the ensemble, not into it)."
            )


def _check_weights(weights: Sequence[float] | None, n: int) -> Any:
    values = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(
            f"weights must be {n} non-negative numbers, one per estimator and not all zero; got {weights!r}."
        )
    return values / values.sum()
