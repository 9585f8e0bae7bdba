"""The one out-of-fold store: members are cross-fitted once, and everything that is learnt from them reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_memory

from mtl_classic._core.base import Scores
from mtl_classic._core.parallel import split_budget, thread_limit
from mtl_classic._core.random import generator
from mtl_classic._core.score_frames import score_columns
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import n_rows
from mtl_classic._core.versions import library_versions
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import fit_folds
from mtl_classic.model_selection._fingerprint import fingerprint
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._progress import SILENT, Progress, settings_of, tell
from mtl_classic.multitask._out_of_fold import looks_forward
from mtl_classic.multitask._score_columns import read_scores

__all__ = [
    "Data",
    "OutOfFold",
    "cross_fit_members",
    "fit_bag",
    "fit_key",
    "fit_members",
    "latest_rows",
    "meta_splits",
    "time_blocks",
]

META_FOLDS = 5
META_BLOCKS = 3  # of a single fold in time
Member = tuple[str, Any]


@dataclass(frozen=True)
class Data:
    """What every fit of one ensemble reads, and its fingerprint.

    Attributes
    ----------
    X, Y : table and labels of n rows
    sample_weight : array or None
    events : EventLog or None
    key : str
        Changes with any of the above; "" where nothing is kept in a cache.
    """

    X: Any
    Y: Any
    sample_weight: Any = None
    events: Any = None
    key: str = ""

    def keyed(self, memory: Any) -> Data:
        """The same, with its fingerprint where a cache needs one: hashing the table once serves all fits."""
        if memory is None:
            return self
        return replace(self, key=fingerprint(self.X, self.Y, self.sample_weight, self.events))

    @property
    def fit_params(self) -> dict[str, Any]:
        """What is passed to every fit unchanged."""
        return {} if self.events is None else {"events": self.events}


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold scores of all members on all tasks.

    Attributes
    ----------
    names : tuple of str
        The members.
    tasks : tuple of Task
    classes : dict task -> classes
    fold : ndarray of shape (n,)
        Fold that predicted each row, -1 where none did.
    temporal : bool
        Whether each fold is predicted from earlier ones only.
    scores : dict member -> dict task -> ndarray of shape (n,) or (n, n_classes)
        NaN where no fold covers a row.
    models : dict member -> list of the fitted estimator of each fold; empty where they were not kept
    """

    names: tuple[str, ...]
    tasks: tuple[Task, ...]
    classes: Classes
    fold: Rows
    temporal: bool
    scores: dict[str, Scores]
    models: dict[str, list[Any]]

    def of_task(self, name: str) -> list[Any]:
        """Scores of one task, member by member."""
        return [self.scores[member][name] for member in self.names]

    def frame(self, index: pd.Index) -> pd.DataFrame:
        """All scores as a frame with the columns (member, score)."""
        columns = {
            (member, label): values
            for member in self.names
            for label, values in score_columns(self.scores[member], self.tasks, self.classes).items()
        }
        frame = pd.DataFrame(columns, index=index, copy=False)
        frame.columns = pd.MultiIndex.from_tuples(list(columns), names=["member", "score"])
        return frame


def cross_fit_members(
    members: Sequence[Member],
    data: Data,
    plan: FoldPlan,
    tasks: tuple[Task, ...],
    classes: Classes,
    *,
    keep_models: bool = False,
    memory: Any = None,
    n_jobs: int | None = None,
    progress: Progress = SILENT,
) -> OutOfFold:
    """Fit every member on every fold of the plan, in parallel over (member, fold), each pair kept in ``memory``.

    The numbers depend neither on ``n_jobs`` nor on where a stopped run left off: each pair is a fit of its own.
    """
    data = data.keyed(memory)
    pairs = [(name, member, split) for name, member in members for split in plan.splits]
    workers, threads = split_budget(n_jobs, len(pairs))
    fit = check_memory(memory).cache(_fit_fold, ignore=["member", "data", "split", "n_rows", "threads", "step"])
    budget = None if n_jobs is None else threads
    with progress.part("cross-fit", len(pairs)) as part:
        fitted = Parallel(n_jobs=workers)(
            delayed(tell)(
                step, fit, fit_key(memory, data, name, member, split), member, data, split, plan.n_rows, budget
            )
            for step, (name, member, split) in zip(part.steps(range(len(pairs))), pairs, strict=True)
        )
    k = len(plan)
    scores, models = {}, {}
    for i, (name, _) in enumerate(members):
        parts = fitted[i * k : (i + 1) * k]
        scores[name] = _assemble([part for _, part in parts], plan, tasks, classes)
        models[name] = [model for model, _ in parts] if keep_models else []
    names = tuple(name for name, _ in members)
    return OutOfFold(names, tasks, classes, plan.fold, looks_forward(plan), scores, models)


def fit_members(
    members: Iterable[Member],
    data: Data,
    *,
    plan: FoldPlan | None,
    memory: Any = None,
    n_jobs: int | None = None,
    progress: Progress = SILENT,
) -> list[Any]:
    """Fit members on all rows, in parallel, each kept in ``memory``."""
    check_plan(plan, n_rows(data.X))
    members, data = list(members), data.keyed(memory)
    workers, threads = split_budget(n_jobs, max(len(members), 1))
    fit = check_memory(memory).cache(_fit_all, ignore=["member", "data", "plan", "threads", "step"])
    splits = None if plan is None else plan.splits
    budget = None if n_jobs is None else threads
    with progress.part("refit", len(members)) as part:
        fitted: list[Any] = Parallel(n_jobs=workers)(
            delayed(tell)(step, fit, fit_key(memory, data, name, member, splits), member, data, plan, budget)
            for step, (name, member) in zip(part.steps(range(len(members))), members, strict=True)
        )
    return fitted


def fit_bag(
    member: Any, data: Data, split: tuple[Rows, Rows], n_rows: int, threads: int | None, step: Progress
) -> tuple[Any, Any]:
    """Fit one bag, and predict the rows that are not in it."""
    return _fit_fold("", member, data, split, n_rows, threads, step)


def latest_rows(fold: Rows, temporal: bool, enough: Callable[[Rows], bool]) -> Rows:
    """Covered rows to choose among members by: all, or of folds in time the last few that have enough labels.

    The last fold's models have seen almost as many rows as those that are fitted in the end, and the days just before
    those that will be predicted; the first fold's have seen a fraction, of which simple members make the most.
    """
    first = fold.max(initial=0) if temporal else 0
    while first > 0 and not enough(np.flatnonzero(fold >= first)):
        first -= 1
    return np.flatnonzero(fold >= first)


def meta_splits(fold: Rows, temporal: bool, time: Any = None, gap: int | float = 0) -> list[tuple[Rows, Rows]]:
    """Splits of the covered rows for what is learnt from out-of-fold scores, to judge it on rows that it has not seen.

    Later folds from earlier ones in time, else each fold from the others. A single fold is dealt out at random; if it
    is one in time, and the ``time`` of each row is given, it is cut into blocks, later ones judged from earlier ones:
    what fits a window and does not outlast it would seem to help if the window were dealt out. Rows less than the
    ``gap`` before those judged are left out: their labels were not yet known.
    """
    numbers = np.unique(fold[fold >= 0])
    if len(numbers) < 2:
        rows = np.flatnonzero(fold >= 0)
        part = np.full(len(fold), -1)
        if temporal and time is not None:
            part[rows] = time_blocks(to_time(time)[rows], META_BLOCKS)
            if part.max(initial=0) > 0:
                return meta_splits(part, True, time, gap)
        part[rows] = generator(0, "meta", len(rows)).permutation(len(rows)) % META_FOLDS
        return [(np.flatnonzero((part >= 0) & (part != k)), np.flatnonzero(part == k)) for k in range(META_FOLDS)]
    if temporal:
        splits = [(np.flatnonzero((fold >= 0) & (fold < k)), np.flatnonzero(fold == k)) for k in numbers[1:]]
        if not gap:
            return splits
        stamps = to_time(time)
        return [(train[stamps[train] < stamps[test].min() - gap], test) for train, test in splits]
    return [(np.flatnonzero((fold >= 0) & (fold != k)), np.flatnonzero(fold == k)) for k in numbers]


def time_blocks(time: Any, n_blocks: int) -> Rows:
    """Blocks of about as many rows, one after the other; rows of the same time are in the same."""
    first = pd.Series(time).rank(method="min").to_numpy() - 1
    codes: Rows = np.unique((first * n_blocks / max(len(first), 1)).astype(np.intp), return_inverse=True)[1]
    return codes


def fit_key(memory: Any, data: Data, name: str, member: Any, rows: Any) -> str:
    """What a cached fit depends on.

    Other versions of the libraries may fit otherwise, and may not read what was kept. The name is a part of it: members
    that differ in nothing else, their seeds being drawn, are not the same.
    """
    if memory is None:
        return ""
    member = settings_of(member)
    return str(joblib.hash((data.key, name, type(member).__qualname__, member, rows, library_versions())))


def _fit_fold(
    key: str, member: Any, data: Data, split: tuple[Rows, Rows], n_rows: int, threads: int | None, step: Progress
) -> tuple[Any, pd.DataFrame]:
    fit = fit_folds(
        member,
        data.X,
        data.Y,
        FoldPlan((split,), n_rows),
        [step],
        sample_weight=data.sample_weight,
        fit_params=data.fit_params,
        score=False,
        n_jobs=threads,
    )
    return fit.models[0], fit.predictions.iloc[split[1]]


def _fit_all(key: str, member: Any, data: Data, plan: FoldPlan | None, threads: int | None, step: Progress) -> Any:
    model = clone(member)
    if threads is not None and "n_jobs" in model.get_params(deep=False):
        model.set_params(n_jobs=threads)
    with thread_limit(threads or 1), step.fitting(model):
        return model.fit(data.X, data.Y, sample_weight=data.sample_weight, events=data.events, plan=plan)


def _assemble(parts: list[pd.DataFrame], plan: FoldPlan, tasks: Sequence[Task], classes: Classes) -> Scores:
    scores: Scores = {}
    for (_, test), part in zip(plan.splits, parts, strict=True):
        for name, values in read_scores(part, tasks, classes).items():
            if name not in scores:
                scores[name] = np.full((plan.n_rows, *values.shape[1:]), np.nan)
            scores[name][test] = values
    return scores
