"""The course of a search: candidates are drawn, judged in parallel, and kept, until trials or time are used up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from mtl_classic import __version__
from mtl_classic._core.parallel import split_budget
from mtl_classic._core.random import generator
from mtl_classic.model_selection._progress import SILENT, Progress, settings_of
from mtl_classic.model_selection._search_space import Codes, Dimension, Floats, grid_points, n_points
from mtl_classic.model_selection._search_trial import COMPLETE, Deadline, Outcome, Work, run_trial

__all__ = ["Limits", "run_search"]

BATCH = 4  # candidates drawn together; not the number of workers, which changes no result
GENERATIONS = 8
DEFAULT_TRIALS = 50
N_QUANTILES = 65
MAX_LISTED = 10_000  # points of a space of lists that are enumerated to draw without replacement


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes
    ----------
    n_trials : int or None
    time_budget : float or None
        Seconds.
    started : float
        Seconds since the epoch.
    reserve_refit : bool
        Whether the budget must leave time for a fit on all rows.
    """

    n_trials: int | None
    time_budget: float | None
    started: float
    reserve_refit: bool

    def deadline(self, outcomes: Sequence[Outcome]) -> Deadline | None:
        """When folds must end, so that the refit of any candidate ends within the budget; None before the first."""
        if self.time_budget is None or not outcomes:
            return None
        folds = [outcome.seconds.sum(axis=1) for outcome in outcomes]
        each = [float(np.nanmean(one)) for one in folds if not np.isnan(one).all()] or [0.0]
        n_folds = len(folds[0])
        refit = max(each) * n_folds / max(n_folds - 1, 1) if self.reserve_refit else 0.0
        return Deadline(self.started + self.time_budget - refit, float(np.mean(each)))


def run_search(
    work: Work,
    strategy: str,
    limits: Limits,
    *,
    storage: str | None,
    key: str,
    seed: int,
    progress: Progress = SILENT,
) -> Sequence[Outcome]:
    """Judge candidates, those that the storage holds already included.

    Parameters
    ----------
    work : Work
    strategy : {"grid", "random", "tpe", "gp", "genetic"}
    limits : Limits
    storage : str or None
    key : str
        Fingerprint of the data.
    seed : int
    progress : Progress
        Of the whole fit: the search is a part of it, each fold of a candidate a step.
    """
    try:
        from mtl_classic.model_selection._search_study import open_study
    except ModuleNotFoundError as error:
        raise ImportError(f"A search needs {error.name}: pip install 'mtl-classic[search]'.") from error

    name = f"mtl_classic-{strategy}-{_fingerprint(work, strategy, key, seed)}" if storage is not None else None
    strategy, n_trials, batch, order = _sizes(work.dimensions, strategy, limits, seed)
    study_of = open_study(storage, name, work.dimensions, work.judge, strategy=strategy, seed=seed, population=batch)
    with study_of as study, progress.part("search", (n_trials - len(study.outcomes)) * len(work.plan)) as part:
        while (left := n_trials - len(study.outcomes)) > 0:
            deadline = limits.deadline(study.outcomes)
            if deadline is not None and deadline.passed():
                break
            unknown = limits.time_budget is not None and deadline is None  # one candidate tells how long they take
            asked = study.ask(1 if unknown else min(left, batch), order)
            finished = [outcome.scores for outcome in study.outcomes if outcome.state == COMPLETE]
            for number, outcome in _judge(work, asked, finished, deadline, part):
                study.tell(number, outcome)
            study.collect()
        return study.outcomes


def _sizes(
    dimensions: Sequence[Dimension], strategy: str, limits: Limits, seed: int
) -> tuple[str, int, int, list[int] | None]:
    """How to draw, candidates in all and at a time, and the order of a grid that may not be finished.

    Random draws from lists are a grid in random order, so that nothing is drawn twice; so is any search that tries all.
    """
    size = len(grid_points(dimensions)) if strategy == "grid" else n_points(dimensions)
    default = size if strategy == "grid" else DEFAULT_TRIALS
    n_trials = int(min(default if limits.n_trials is None else limits.n_trials, size))
    if strategy == "grid" or n_trials == size or (strategy == "random" and size <= MAX_LISTED):
        shuffled = strategy != "grid" or n_trials < size or limits.time_budget is not None
        order = generator(seed, "grid").permutation(int(size)).tolist() if shuffled else None
        return "grid", n_trials, BATCH, order
    return strategy, n_trials, max(BATCH, n_trials // GENERATIONS) if strategy == "genetic" else BATCH, None


def _fingerprint(work: Work, strategy: str, key: str, seed: int) -> str:
    """The same for the same search only: data, folds, settings, space and seed."""
    model = settings_of(work.estimator)
    space = [(d.name, d.low, d.high, d.log, d.integer, d.values, _quantiles(d)) for d in work.dimensions]
    metrics = [(name, _scorer_key(scorer)) for name, scorer in work.scorer.metrics.items()]  # kept by position
    judged = (work.judge.objective, work.judge.weights, metrics, work.pruning)
    return str(joblib.hash((__version__, key, seed, work.plan.splits, model, space, judged, strategy)))


def _quantiles(d: Dimension) -> Any:
    """What a distribution is told apart by; scipy's own state holds that of the global random numbers."""
    return None if d.quantiles is None else d.quantiles.ppf(np.linspace(d.low, d.high, N_QUANTILES))


def _scorer_key(scorer: Any) -> str:
    """A hash of a scorer; of one that cannot be pickled, such as a lambda, its place and its code."""
    try:
        return str(joblib.hash(scorer))
    except Exception:
        code = getattr(scorer, "__code__", None)
        parts = (code.co_code, repr(code.co_consts), code.co_names) if code is not None else None
        return str(joblib.hash((getattr(scorer, "__qualname__", type(scorer).__qualname__), parts)))


def _judge(
    work: Work,
    asked: Sequence[tuple[int, Codes]],
    finished: Sequence[Floats],
    deadline: Deadline | None,
    part: Progress,
) -> Iterable[tuple[int, Outcome | None]]:
    """Outcomes as they come."""
    workers, threads = split_budget(work.n_jobs, len(asked))
    if work.n_jobs is not None:
        work = replace(work, n_jobs=threads)
    n_folds = len(work.plan)
    jobs = [
        delayed(_numbered)(
            number, work, codes, finished, deadline,
            part.steps(range(number * n_folds, (number + 1) * n_folds), "candidate and fold"),
        )
        for number, codes in asked
    ]  # fmt: skip
    found: Iterable[tuple[int, Outcome | None]] = Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)
    return found


def _numbered(
    number: int,
    work: Work,
    codes: Codes,
    finished: Sequence[Floats],
    deadline: Deadline | None,
    steps: Sequence[Progress],
) -> tuple[int, Outcome | None]:
    return number, run_trial(work, codes, finished, deadline, steps)
