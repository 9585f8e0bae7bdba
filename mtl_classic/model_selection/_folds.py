"""Folds: pure functions from labels, groups and time to a plan that every level shares."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.exceptions import FoldError
from mtl_classic._core.options import FOLDS, check_option
from mtl_classic._core.tasks import label_frame
from mtl_classic._core.time import check_duration, time_dtype, to_duration, to_time
from mtl_classic._core.validation import check_order
from mtl_classic.model_selection._dealing import Rows, deal, group_codes
from mtl_classic.model_selection._row_order import warn_of_row_order

__all__ = ["FoldPlan", "Rows", "Temporal", "make_folds"]


@dataclass(frozen=True)
class Temporal:
    """Expanding windows in time: each fold is predicted from what came before it.

    The rows are cut into ``n_splits + 1`` blocks of about as many labelled rows at distinct times; block k + 1 is
    predicted by a model of the blocks up to k, less the rows at most ``gap`` before it. The first is never predicted.

    Parameters
    ----------
    n_splits : int, default=5
    gap : str, timedelta or number, default=None
        Rows at most this long before the first one of the predicted block, those exactly so long included, are not
        trained on; at least the longest delay of a label.

    Examples
    --------
    >>> from mtl_classic.model_selection import Temporal, make_folds
    >>> plan = make_folds(Temporal(2), [0, 1, 0, 1, 0, 1], time=[1, 1, 2, 2, 3, 3])
    >>> plan.fold.tolist()
    [-1, -1, 0, 0, 1, 1]
    """

    n_splits: int = 5
    gap: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.n_splits, bool) or not isinstance(self.n_splits, Integral):
            raise TypeError(f"n_splits must be an integer, got {self.n_splits!r}.")
        if self.n_splits < 1:
            raise FoldError(f"Temporal needs at least one split, got n_splits={self.n_splits}.")
        check_duration("gap", self.gap)


@dataclass(frozen=True)
class FoldPlan:
    """Which rows train and which are predicted, fold by fold.

    Attributes
    ----------
    splits : tuple of (train, test)
        Row positions; the test rows of different folds are disjoint.
    n_rows : int
    temporal : bool
        Whether later folds are later in time.

    Examples
    --------
    >>> from mtl_classic.model_selection import make_folds
    >>> plan = make_folds(2, [0, 1, 0, 1], random_state=0)
    >>> sorted(plan.fold.tolist())
    [0, 0, 1, 1]
    """

    splits: tuple[tuple[Rows, Rows], ...]
    n_rows: int
    temporal: bool = False

    @property
    def fold(self) -> Rows:
        """Fold that predicts each row, -1 where none does; shape (n_rows,)."""
        fold = np.full(self.n_rows, -1, dtype=np.intp)
        for k, (_, test) in enumerate(self.splits):
            fold[test] = k
        return fold

    @property
    def last(self) -> tuple[Rows, Rows]:
        """Training and validation rows of the last fold: what early stopping uses."""
        return self.splits[-1]

    def __len__(self) -> int:
        return len(self.splits)


def make_folds(cv: Any, Y: Any, *, groups: Any = None, time: Any = None, random_state: Any = None) -> FoldPlan:
    """Make a fold plan.

    Parameters
    ----------
    cv : int, splitter, Temporal, (train, test) pairs, or array of shape (n,)
        An int gives that many folds: blocks of time where ``time`` is given (as `Temporal`), else shuffled whole groups
        where ``groups`` are, else rows dealt out so that rare positives and missing labels of every task are spread
        evenly. A splitter is anything with scikit-learn's ``split``; a list of pairs holds what it yields, the row
        positions of each fold. An array holds the fold number of each row (negative: never predicted).
    Y : labels of shape (n,) or (n, n_tasks)
        Used for spreading and for the number of rows; in time, rows without any label count for no block.
    groups : array of shape (n,), default=None
        Rows of one group (a user, a query) are never split; in time a group must lie within one block.
    time : array of shape (n,), default=None
    random_state : int, RandomState or None

    Returns
    -------
    FoldPlan

    Raises
    ------
    FoldError
        If there are fewer groups, rows or distinct times than folds, or given folds split a group.

    Warns
    -----
    RowOrderWarning
        If rows are dealt out at random although neighbours have almost the same labels, as consecutive hours have.

    Examples
    --------
    >>> from mtl_classic import make_folds
    >>> rare = [1, 0, 0, 0, 1, 0, 0, 0]
    >>> [sum(rare[i] for i in test) for _, test in make_folds(2, rare, random_state=0).splits]
    [1, 1]
    """
    n = len(Y)
    codes = group_codes(groups)
    if codes is not None and len(codes) != n:
        raise FoldError(f"groups has {len(codes)} values for {n} rows.")
    check_order(Y, "Y", cv=cv, groups=groups, time=time)
    check_option("cv", cv, FOLDS)
    if isinstance(cv, int | np.integer):
        if cv < 2:
            raise FoldError(f"cv={cv}: at least two folds are needed.")
        if time is not None:
            return _temporal(Temporal(int(cv)), Y, time, codes)
        if codes is None:
            warn_of_row_order(Y)
        return _from_numbers(deal(int(cv), Y, codes, random_state), codes)
    if isinstance(cv, Temporal):
        if time is None:
            raise FoldError(
                "Temporal folds need the time of each row; give time=, or name the time column of the estimator."
            )
        return _temporal(cv, Y, time, codes)
    if hasattr(cv, "split"):
        return _of_splitter(cv, Y, n, groups, codes)
    if isinstance(cv, list | tuple | Iterator):
        cv = list(cv)
        if cv and all(isinstance(one, list | tuple | np.ndarray) for one in cv):
            return _checked(_pairs(cv, n), n, codes)
    return _from_numbers(_fold_column(cv, n), codes)


def _of_splitter(cv: Any, Y: Any, n: int, groups: Any, codes: Rows | None) -> FoldPlan:
    """The folds of a splitter of scikit-learn, which is given the label if there is one only."""
    labels = label_frame(Y)
    y = labels.iloc[:, 0].to_numpy() if labels.shape[1] == 1 else None
    with warnings.catch_warnings():  # a splitter may ignore the groups, as long as it leaves them whole
        warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
        try:
            return _checked(cv.split(np.zeros((n, 1)), y, groups), n, codes)
        except FoldError:
            raise
        except (TypeError, ValueError) as error:
            if codes is None and "group" in f"{type(cv).__name__} {error}".lower():
                raise FoldError(
                    f"{cv} keeps groups whole, and was given none. Give them as groups= (of an estimator that has "
                    f'this parameter: the name of a column, groups="user"), or the fold number of each row as cv.'
                ) from error
            if y is not None:
                raise
            raise FoldError(
                f"{cv} cannot split rows of several tasks, of which it is given no labels ({error}). Give an int "
                f"(folds stratified for every task), or the fold number of each row."
            ) from error


def _pairs(cv: list[Any], n: int) -> list[tuple[Rows, Rows]]:
    """Pairs of training and test rows as positions, which masks are turned into."""
    pairs: list[tuple[Rows, Rows]] = []
    for k, pair in enumerate(cv):
        if len(pair) != 2:
            raise FoldError(f"Fold {k} of cv must be a pair (train, test) of row positions, got {len(pair)} parts.")
        train, test = (np.asarray(rows) for rows in pair)
        for rows in (train, test):
            mask = rows.dtype == bool and rows.shape == (n,)
            if not mask and (rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu")):
                raise FoldError(
                    f"Fold {k} of cv must be a pair (train, test) of row positions, got an array of shape "
                    f"{rows.shape} of {rows.dtype}."
                )
            if not mask and rows.size and not (rows.min() >= 0 and rows.max() < n):
                raise FoldError(f"Fold {k} of cv names rows from {rows.min()} to {rows.max()}; there are 0 to {n - 1}.")
        train, test = (np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp) for rows in (train, test))
        pairs.append((train, test))
    return pairs


def _fold_column(cv: Any, n: int) -> Rows:
    fold = np.asarray(cv)
    if fold.shape != (n,) or fold.dtype.kind not in "iu":
        raise FoldError(f"cv as a column of fold numbers must be {n} integers, got shape {fold.shape} of {fold.dtype}.")
    return fold.astype(np.intp)


def _from_numbers(fold: Rows, codes: Rows | None) -> FoldPlan:
    numbers = np.unique(fold[fold >= 0])
    if len(numbers) < 2:
        raise FoldError(f"At least two folds are needed, got {len(numbers)}.")
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in numbers]
    return _checked(splits, len(fold), codes)


def _checked(splits: Iterable[tuple[Any, Any]], n: int, codes: Rows | None) -> FoldPlan:
    plan = FoldPlan(tuple((np.asarray(a, dtype=np.intp), np.asarray(b, dtype=np.intp)) for a, b in splits), n)
    seen = np.zeros(n, dtype=np.intp)
    n_groups = 0 if codes is None else int(codes.max(initial=-1)) + 1
    for k, (train, test) in enumerate(plan.splits):
        seen[test] += 1
        if not len(train) or not len(test):
            raise FoldError(f"Fold {k} has {len(train)} training and {len(test)} test rows; both must be positive.")
        both = _n_shared(train, test, n)
        if both:
            raise FoldError(f"Fold {k} trains on {both} of the rows that it predicts; training and test must differ.")
        if codes is not None:
            shared = _n_shared(codes[train], codes[test], n_groups)
            if shared:
                raise FoldError(
                    f"Fold {k} splits {shared} groups (users or queries) between training and test; use whole groups."
                )
    if (seen > 1).any():
        raise FoldError(
            f"{int((seen > 1).sum())} rows are predicted by more than one fold; "
            f"every row may be in one test fold at most."
        )
    return plan


def _n_shared(left: Rows, right: Rows, size: int) -> int:
    """How many numbers below ``size`` occur in both."""
    one, other = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    one[left], other[right] = True, True
    return int((one & other).sum())


def _temporal(cv: Temporal, Y: Any, time: Any, codes: Rows | None) -> FoldPlan:
    stamps, n = to_time(time), len(Y)
    if len(stamps) != n:
        raise FoldError(f"time has {len(stamps)} values for {n} rows.")
    gap = 0 if cv.gap is None else to_duration(cv.gap, time_dtype(time), "gap")
    labelled = label_frame(Y).notna().any(axis=1).to_numpy()
    distinct, counts = np.unique(stamps[labelled] if labelled.any() else stamps, return_counts=True)
    blocks = cv.n_splits + 1
    if len(distinct) < blocks:
        raise FoldError(
            f"{cv.n_splits} temporal folds need {blocks} distinct times, got {len(distinct)}; use fewer splits."
        )
    block = _blocks(counts, blocks)
    starts = distinct[np.searchsorted(block, np.arange(blocks))]
    of_row = np.maximum(np.searchsorted(starts, stamps, side="right") - 1, 0)
    _check_queries(of_row, codes)
    splits = []
    for k in range(1, blocks):
        train, test = np.flatnonzero(stamps < starts[k] - gap), np.flatnonzero(of_row == k)
        if not len(train):
            raise FoldError(
                f"The gap {cv.gap} leaves no training rows before the block of {len(test)} rows; "
                f"use fewer splits or a shorter gap."
            )
        splits.append((train, test))
    return FoldPlan(tuple(splits), n, temporal=True)


def _blocks(counts: npt.NDArray[np.intp], blocks: int) -> Rows:
    """The block of each distinct time, by the middle of its rows; every block gets at least one time."""
    n_times = len(counts)
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    block = (middle * blocks).astype(np.intp)
    most = np.arange(n_times)  # heavy times may leave a block empty, at the start, at the end or between
    least = most + blocks - n_times
    block = np.clip(block, least, most)
    block = most + np.minimum.accumulate(block - most)
    return np.maximum(block, least)


def _check_queries(block_of_row: Rows, codes: Rows | None) -> None:
    """In time only queries are groups (users live through many blocks), and a query lies within one block."""
    if codes is None or not len(codes):
        return
    first, last = np.full(codes.max() + 1, len(codes)), np.full(codes.max() + 1, -1)
    np.minimum.at(first, codes, block_of_row)
    np.maximum.at(last, codes, block_of_row)
    split = int((first < last).sum())
    if split:
        raise FoldError(
            f"{split} groups have rows in more than one block of time; a query must lie within one time, and users are "
            f"kept whole in folds without time= only."
        )
