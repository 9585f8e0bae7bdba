"""One candidate of a search, judged fold by fold, and given up where it is hopeless."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from mtl_classic.model_selection._crossfit import fit_folds
from mtl_classic.model_selection._folds import FoldPlan
from mtl_classic.model_selection._progress import Progress
from mtl_classic.model_selection._scorers import TaskScores
from mtl_classic.model_selection._search_space import Codes, Dimension, Floats

__all__ = ["COMPLETE", "FAILED", "PRUNED", "Deadline", "Judge", "Outcome", "Work", "run_trial"]

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MIN_FINISHED = 4  # complete candidates before any is given up


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate.

    Attributes
    ----------
    codes : dict parameter -> number
    state : {"complete", "pruned", "failed"}
    scores : ndarray of shape (n_folds, n_tasks + n_metrics)
        Rows of folds that were not reached are NaN.
    seconds : ndarray of shape (n_folds, 2)
        Fitting, scoring.
    error : str
    """

    codes: Codes
    state: str
    scores: Floats
    seconds: Floats
    error: str = ""


@dataclass(frozen=True)
class Judge:
    """From scores of folds and tasks to what is searched for.

    Attributes
    ----------
    objective : {"mean", "worst", "pareto"}
    weights : ndarray of shape (n_tasks,)
        Of the tasks in the mean.
    """

    objective: str
    weights: Floats

    def by_task(self, scores: Floats) -> Floats:
        """Mean over the folds reached, of each task; NaN where no fold has a label."""
        own = scores[:, : len(self.weights)]
        known = ~np.isnan(own)
        total = np.where(known, own, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)

    def values(self, scores: Floats) -> Floats:
        """The objective, or with ``"pareto"`` one for each task; NaN where no task has a label.

        A task alone that no fold has a label of is 0 for all candidates, and tells nothing.
        """
        tasks = self.by_task(scores)
        if self.objective != "pareto":
            return np.array([self.summary(tasks)])
        return tasks if np.isnan(tasks).all() else np.nan_to_num(tasks)

    def summary(self, tasks: Floats) -> float:
        """One number from the scores of the tasks: their least, or their mean."""
        judged = ~np.isnan(tasks) & (self.weights > 0)
        if not judged.any():
            return float("nan")
        if self.objective == "worst":
            return float(tasks[judged].min())
        return float(np.average(tasks[judged], weights=self.weights[judged]))


@dataclass(frozen=True)
class Deadline:
    """When the last fold must have ended, and how long one is expected to take.

    Attributes
    ----------
    end : float
        Seconds since the epoch.
    fold : float
        Seconds.
    """

    end: float
    fold: float

    def passed(self, own: Floats | None = None) -> bool:
        """Whether another fold would end too late, of a candidate whose own folds so far took so many seconds."""
        slowest = 0.0 if own is None else float(own.max(initial=0.0))
        return time.time() + max(self.fold, slowest) > self.end


@dataclass(frozen=True)
class Work:
    """What all trials of a search have in common."""

    estimator: Any
    dimensions: Sequence[Dimension]
    X: Any
    Y: Any
    plan: FoldPlan
    scorer: TaskScores
    judge: Judge
    pruning: bool
    n_jobs: int | None
    sample_weight: Any
    fit_params: dict[str, Any]
    raise_errors: bool

    def params(self, codes: Codes) -> dict[str, Any]:
        """The parameters that codes stand for."""
        return {d.name: d.value(codes[d.name]) for d in self.dimensions}


def run_trial(
    work: Work, codes: Codes, finished: Sequence[Floats], deadline: Deadline | None, steps: Sequence[Progress]
) -> Outcome | None:
    """Judge a candidate fold by fold.

    It is given up where, on the folds so far, it is worse than the median of the candidates that had finished when it
    was drawn: so the order in which parallel trials end changes nothing. None if the time was over before its end.
    """
    n_folds, n_scores = len(work.plan), len(work.judge.weights) + len(work.scorer.metrics)
    scores, seconds = np.full((n_folds, n_scores), np.nan), np.full((n_folds, 2), np.nan)
    params = work.params(codes)
    for k, split in enumerate(work.plan.splits):
        if deadline is not None and deadline.passed(seconds[:k].sum(axis=1)):
            return None
        scorer = _Timed(work.scorer)
        started = time.perf_counter()
        try:
            model = clone(work.estimator).set_params(**{name: clone(v, safe=False) for name, v in params.items()})
            fit = fit_folds(
                model, work.X, work.Y, FoldPlan((split,), work.plan.n_rows), [steps[k]], method=None, score=scorer,
                sample_weight=work.sample_weight, fit_params=work.fit_params, n_jobs=work.n_jobs,
            )  # fmt: skip
            scores[k] = fit.scores[0]
        except Exception:
            if work.raise_errors:
                raise
            return Outcome(codes, FAILED, scores, seconds, traceback.format_exc())
        scoring = scorer.seconds
        seconds[k] = time.perf_counter() - started - scoring, scoring
        if work.pruning and k + 1 < n_folds and _hopeless(work.judge, scores[: k + 1], finished):
            return Outcome(codes, PRUNED, scores, seconds)
    if np.isnan(work.judge.values(scores)).any():
        return Outcome(
            codes, FAILED, scores, seconds, "No score: no task that counts has a label in the rows of any fold."
        )
    return Outcome(codes, COMPLETE, scores, seconds)


def _hopeless(judge: Judge, scores: Floats, finished: Sequence[Floats]) -> bool:
    """Whether it is behind most of the others on the folds so far, where any task that counts has a label."""
    others = [judge.summary(judge.by_task(other[: len(scores)])) for other in finished]
    known = [value for value in others if not np.isnan(value)]
    return len(known) >= MIN_FINISHED and bool(judge.summary(judge.by_task(scores)) < np.median(known))


class _Timed:
    """A scorer that knows how long it took."""

    def __init__(self, scorer: TaskScores) -> None:
        self.scorer, self.seconds = scorer, 0.0

    def __call__(self, estimator: Any, X: Any, Y: Any) -> Any:
        started = time.perf_counter()
        value = self.scorer(estimator, X, Y)
        self.seconds = time.perf_counter() - started
        return value
