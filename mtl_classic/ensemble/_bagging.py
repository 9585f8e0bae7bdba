"""Bagging: copies of one model on resampled rows, users or blocks of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_memory

from mtl_classic._core.base import FitInput, Floats, Scores, query_codes
from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.options import COUNT, FINITE_POSITIVE, SHARE_OR_ALL, TRUTH, TWO_OR_MORE, Option, check_option
from mtl_classic._core.parallel import split_budget
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.score_frames import scores_frame
from mtl_classic._core.spaces import hold_monotone
from mtl_classic._core.targets import Classes
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import Table, n_rows, resolve_roles, role_values, row_index
from mtl_classic.ensemble._averaging import training_moments
from mtl_classic.ensemble._links import average, scored_rows, to_average
from mtl_classic.ensemble._members import OverMembers, in_all_classes, reseeded
from mtl_classic.ensemble._store import Data, fit_bag, fit_key, time_blocks
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._dealing import group_codes as codes_of_users
from mtl_classic.model_selection._folds import Rows
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._progress import Progress, tell, with_callbacks
from mtl_classic.multitask._score_columns import read_scores

__all__ = ["BaggingEnsemble"]

RESAMPLE = ("rows", "users", "time")
TRIES = 100  # draws of a bag before giving up on one that has every task in it


class BaggingEnsemble(OverMembers):
    """The mean of one model fitted on samples of the rows.

    A bag draws rows, users or blocks of time, with or without replacement; a row counts as often as it was drawn,
    through its sample weight. Rows that a bag did not draw are predicted by it: out-of-bag scores, as honest as those
    of cross-fitting (but for labels of one user or time, if rows are drawn). Means are as in `AveragingEnsemble`.

    Parameters
    ----------
    estimator : multi-task estimator
        Unfitted.
    n_estimators : int, default=8
    resample : {"rows", "users", "time"}, default="rows"
        What is drawn: rows (queries, where a task ranks), all rows of a user, or blocks of consecutive times.
    n_blocks : int, default=20
        Blocks of time, of about as many rows each.
    bootstrap : bool, default=True
        Whether to draw with replacement. Members that are stable already, such as boosted trees that stop early, lose
        more by a bootstrap, whose bags hold 63 % of the rows, than their mean wins back: False with ``max_samples=0.9``
        is for them. A row is then judged by one bag in ten, four rows in ten by none of eight.
    max_samples : float, default=1.0
        Draws as a share of the rows, users or blocks; below 1 without replacement.
    max_features : float, default=1.0
        Share of the feature columns that each bag reads, drawn without replacement; roles are always there.
    groups : str, default=None
        Column that holds the users to draw, in place of the member's own ``user``; of ``resample="users"`` only.
    memory : str or joblib.Memory, default=None
        Where finished bags are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for bags and within them; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    tasks_ : tuple of Task
    estimators_ : list of fitted estimators
    features_ : list of arrays
        Positions of the columns that each bag reads.
    oob_scores_ : DataFrame of n rows
        Out-of-bag scores, NaN for rows that every bag drew.
    oob_score_ : float
        Mean over tasks of 1 − loss / loss of the training prior, as `score`, on the out-of-bag scores.
    oob_task_scores_ : Series
        The same, task by task.
    oof_scores_, fold_, temporal_ : as of the other ensembles
        ``oob_scores_``, zeros and False.
    moments_ : dict task -> list of (mean, spread), by which the bags' scores of a ranking are standardized

    Notes
    -----
    Cost: ``n_estimators`` fits, on about 63 % of the rows by bootstrap. Bagging lowers variance: it helps trees and
    factor models, hardly what is linear.

    References
    ----------
    L. Breiman, Bagging predictors, 1996, doi:10.1007/BF00058655.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import BaggingEnsemble, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> Y = np.c_[X[:, 0] + X[:, 1], X[:, 0] - X[:, 2]]
    >>> model = BaggingEnsemble(PerTaskModel(random_state=0), n_estimators=3, random_state=0).fit(X, Y)
    >>> mean, spread = model.predict_scores(X, return_std=True)
    >>> bool(model.oob_score_ > 0.5), bool((spread > 0).all(axis=None))
    (True, True)
    """

    _options: ClassVar[dict[str, Option]] = {
        "n_estimators": COUNT, "n_blocks": TWO_OR_MORE, "bootstrap": TRUTH, "max_samples": FINITE_POSITIVE,
        "max_features": SHARE_OR_ALL,
    }  # fmt: skip

    def __init__(
        self,
        estimator: Any,
        n_estimators: int = 8,
        *,
        resample: str = "rows",
        n_blocks: int = 20,
        bootstrap: bool = True,
        max_samples: float = 1.0,
        max_features: float = 1.0,
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.resample = resample
        self.n_blocks = n_blocks
        self.bootstrap = bootstrap
        self.max_samples = max_samples
        self.max_features = max_features
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> BaggingEnsemble:
        """Draw the bags and fit a clone on each.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to every bag.
        plan : FoldPlan, default=None
            Not used: a bag leaves out rows of its own. Accepted so that all ensembles are called alike.
        """
        self._check_members()
        self._check_settings()
        given = self._start_fit(X, Y, sample_weight)
        check_plan(plan, n_rows(given.X))
        progress = self._begin(1, X, Y)
        Y = rows_of(Y)
        seed = root_seed(self.random_state)
        codes = self._units(given)
        counts = [self._draw(given, codes, seed, b) for b in range(self.n_estimators)]
        self.features_ = [self._columns(given.X, seed, b) for b in range(self.n_estimators)]
        members = [reseeded(self.estimator, seed, b) for b in range(self.n_estimators)]
        bags = list(zip(members, counts, self.features_, strict=True))
        data = Data(given.X, Y, given.weights, events).keyed(self.memory)
        workers, threads = split_budget(self.n_jobs, self.n_estimators)
        fit = check_memory(self.memory).cache(
            _fit_one, ignore=["member", "data", "counts", "columns", "threads", "step"]
        )
        budget = None if self.n_jobs is None else threads
        with progress.part("bags", self.n_estimators) as part:
            steps = part.steps(range(self.n_estimators))
            fitted = Parallel(n_jobs=workers)(
                delayed(tell)(step, fit, fit_key(self.memory, data, "", bag[0], bag[1:]), *bag, data, budget)
                for step, bag in zip(steps, bags, strict=True)
            )
        self.estimators_ = [model for model, _ in fitted]
        self._agree(self.estimators_, all_classes=False)
        self.moments_ = training_moments(self.tasks_, self._parts(), given.X)
        self._judge_out_of_bag(given, counts, [frame for _, frame in fitted])
        progress.end(X, Y)
        return self

    def _keeps_scores(self) -> bool:
        return True

    def _check_settings(self) -> None:
        if self.resample not in RESAMPLE:
            raise ValueError(f"resample must be one of {', '.join(RESAMPLE)}, got {self.resample!r}.")
        if isinstance(self.max_samples, Integral) and self.max_samples > 1:
            raise ValueError(f"max_samples is a share of the rows, as 0.9, not a count; got {self.max_samples!r}.")
        if not self.bootstrap and self.max_samples >= 1:
            raise ValueError(
                f"Without replacement max_samples must be below 1, or no row is left out of a bag; got "
                f"max_samples={self.max_samples!r} with bootstrap=False."
            )

    def _units(self, given: FitInput) -> Rows:
        """What is drawn together: a code for each row."""
        X = given.X
        if self.resample == "users":
            name = self.groups if self.groups is not None else self.roles_["user"]
            column = role_values(X, resolve_roles(X, user=name)["user"] if name is not None else None)
            if column is None:
                raise RoleError('resample="users" needs the users of the rows: name the column with groups=.')
            return np.asarray(codes_of_users(column), dtype=np.intp)
        if self.resample == "time":
            column = role_values(X, self.roles_["time"])
            if column is None:
                raise RoleError('resample="time" needs the time of the rows: name the time column of the member.')
            return time_blocks(to_time(column), self.n_blocks)
        queries = query_codes(X, self.tasks_)
        return np.arange(n_rows(X)) if queries is None else queries

    def _draw(self, given: FitInput, codes: Rows, seed: int, b: int) -> npt.NDArray[np.int64]:
        """How often each row is in the bag; drawn again where a task would have no label, or only one class."""
        n_units = int(codes.max()) + 1
        if n_units < 2:
            raise ValueError(f"Bags are drawn from at least two {self.resample}, got n_samples={n_units}.")
        size = max(1, round(self.max_samples * n_units))
        random = generator(seed, "bag", b)
        for _ in range(TRIES):
            units = random.integers(0, n_units, size) if self.bootstrap else random.permutation(n_units)[:size]
            drawn = np.bincount(units, minlength=n_units)[codes]
            if (drawn == 0).any() and self._complete(given, drawn > 0):
                return np.asarray(drawn, dtype=np.int64)
        raise ValueError(
            f"{TRIES} bags of {size} of {n_units} {self.resample} all lacked a label that the rows have, or rows left "
            f"out; the labels are too few to resample: use AveragingEnsemble over seeds, or smaller units."
        )

    def _complete(self, given: FitInput, inside: npt.NDArray[np.bool_]) -> bool:
        for task in self.tasks_:
            y = given.counted(task.name)
            labels = [y[rows & ~np.isnan(y)] for rows in (np.ones(len(y), bool), inside)]
            kinds = [min(len(np.unique(values)), 2) for values in labels]
            if kinds[1] < kinds[0]:
                return False
        return True

    def _columns(self, X: Table, seed: int, b: int) -> Rows:
        """Positions of the columns of one bag, in their order."""
        names = list(X.columns) if isinstance(X, pd.DataFrame) else list(range(X.shape[1]))
        queries = {column for task in self.tasks_ for column in task.query_columns}
        held = {*(role for role in self.roles_.values() if role is not None), *queries, *self._named_columns()}
        free = [j for j, name in enumerate(names) if name not in held]
        if self.max_features == 1.0 or not free:
            return np.arange(len(names))
        size = max(1, round(self.max_features * len(free)))
        chosen = set(generator(seed, "features", b).choice(free, size, replace=False).tolist())
        return np.asarray([j for j in range(len(names)) if j in chosen or j not in free], dtype=np.intp)

    def _named_columns(self) -> set[Any]:
        """Columns that the member's own parameters name, which it would miss."""
        return set().union(*map(_names_in, self.estimator.get_params(deep=True).values()))

    def _judge_out_of_bag(self, given: FitInput, counts: list[Any], frames: list[pd.DataFrame]) -> None:
        n = n_rows(given.X)
        bags = [read_scores(frame, self.tasks_, self.classes_map_) for frame in frames]

        scores = {}
        for task in self.tasks_:  # one after the other: all rows of all bags and tasks are many
            parts = [np.full((n, *bag[task.name].shape[1:]), np.nan) for bag in bags]
            for whole, drawn, bag in zip(parts, counts, bags, strict=True):
                whole[drawn == 0] = bag[task.name]
            scores[task.name] = self._mean_known(task, parts)
        scores = hold_monotone(self.tasks_, self.classes_map_, scores)
        self.oob_scores_ = scores_frame(scores, self.tasks_, self.classes_map_, row_index(given.X))
        self.oof_scores_, self.temporal_, self.fold_ = self.oob_scores_, False, np.zeros(n, dtype=np.intp)
        judged = {}
        for task in self.tasks_:
            known = scored_rows(scores[task.name])
            y = np.where(known, given.targets.view(task.name), np.nan)
            score = np.where(known.reshape(-1, *([1] * (scores[task.name].ndim - 1))), scores[task.name], 0.0)
            judged[task.name] = self._task_score(task, given.X, y, score, given.entire_weight(task))
        self.oob_task_scores_ = pd.Series(judged, name="score").rename_axis("task")
        self.oob_score_ = float(self.oob_task_scores_.mean())

    def _mean_known(self, task: Any, parts: list[Floats]) -> Floats:
        """Mean over the bags that did not draw the row."""
        stacked = np.asarray(parts)
        known = ~np.isnan(stacked)
        filled = np.where(known, stacked, 1.0)
        share = known / np.maximum(known.sum(axis=0), 1)
        mean = average(task, list(filled), list(share), self.moments_.get(task.name))
        return np.where(known.any(axis=0), mean, np.nan)

    def _parts(self) -> list[_Reader]:
        bags = zip(self.estimators_, self.features_, strict=True)
        return [_Reader(model, columns, self.classes_map_) for model, columns in bags]

    def _bag_scores(self, X: Table, space: str) -> list[Scores]:
        return [bag._scores(X, space) for bag in self._parts()]

    def _scores(self, X: Table, space: str) -> Scores:
        bags = self._bag_scores(X, "entire")
        share = np.full(len(bags), 1 / len(bags))
        scores = {
            task.name: average(task, [s[task.name] for s in bags], share, self.moments_.get(task.name))
            for task in self.tasks_
        }
        return self._in_space(scores, space)

    def predict_scores(self, X: Any, space: str = "entire", *, return_std: bool = False) -> Any:
        """Scores of all tasks, and how much the bags differ.

        Parameters
        ----------
        X : table of shape (n, n_features)
        space : {"entire", "conditional"}, default="entire"
        return_std : bool, default=False

        Returns
        -------
        DataFrame, or two of them
            The means; with ``return_std`` also the standard deviation (over the number of bags: ddof 0) of the bags'
            scores, in the same columns: the uncertainty of the mean function, not of a single label.
        """
        check_option("return_std", return_std, TRUTH)
        mean = super().predict_scores(X, space)
        if not return_std:
            return mean
        bags = self._bag_scores(self._start_predict(X), space)
        spread = {task.name: self._spread(task, [s[task.name] for s in bags]) for task in self.tasks_}
        return mean, scores_frame(spread, self.tasks_, self.classes_map_, mean.index)

    def _spread(self, task: Any, parts: list[Floats]) -> Floats:
        """Standard deviation over the bags; scores of a ranking are standardized, as for their mean."""
        if task.kind == "ranking":
            parts = [
                to_average(task.kind, values, m) for values, m in zip(parts, self.moments_[task.name], strict=True)
            ]
        return np.asarray(np.std(parts, axis=0))

    def predict(self, X: Any, *, return_std: bool = False) -> Any:
        """Labels of all tasks, with ``return_std`` also the standard deviation of the bags' scores.

        Parameters
        ----------
        X : table of shape (n, n_features)
        return_std : bool, default=False

        Returns
        -------
        labels, or (labels, DataFrame)
        """
        check_option("return_std", return_std, TRUTH)
        labels = super().predict(X)
        return (labels, self.predict_scores(X, return_std=True)[1]) if return_std else labels


class _Reader:
    """A fitted bag that reads its own columns of a whole table, and speaks of the classes of all bags."""

    def __init__(self, model: Any, columns: Rows, classes: Classes) -> None:
        self.model, self.columns, self.classes = model, columns, classes

    def _start_predict(self, X: Table) -> Table:
        return X

    def _scores(self, X: Table, space: str) -> Scores:
        scores: Scores = self.model._scores(self.model._start_predict(_take_columns(X, self.columns)), space)
        return in_all_classes(scores, self.model.classes_map_, self.classes)


def _fit_one(
    key: str, member: Any, counts: Any, columns: Rows, data: Data, threads: int | None, step: Progress
) -> tuple[Any, pd.DataFrame]:
    """One bag: in-bag rows weighted by how often they were drawn, out-of-bag rows predicted."""
    weight = counts.astype(np.float64) if data.sample_weight is None else counts[:, None] * data.sample_weight
    inside, outside = np.flatnonzero(counts > 0), np.flatnonzero(counts == 0)
    part = Data(_take_columns(data.X, columns), data.Y, weight, data.events)
    return fit_bag(member, part, (inside, outside), len(counts), threads, step)


def _names_in(value: Any) -> set[Any]:
    """What may name a column in a parameter: strings, also in lists, dicts and aggregates, where numbers may, too."""
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, np.ndarray | pd.Index) and value.dtype.kind in "OU":
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return set().union(*({part} if isinstance(part, int) else _names_in(part) for part in value))
    return {value} if isinstance(value, str) else set()


def _take_columns(X: Table, columns: Rows) -> Table:
    if len(columns) == X.shape[1]:
        return X
    return X.iloc[:, columns] if isinstance(X, pd.DataFrame) else X[:, columns]
