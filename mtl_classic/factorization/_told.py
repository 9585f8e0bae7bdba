"""What a factorization was told after its fit: the vectors of users as of the time of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.time import is_datetime, time_dtype, to_time
from mtl_classic.events import EventLog
from mtl_classic.events._log import axis_kind

__all__ = ["Told", "later_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """Pairs that were folded in, sorted by user, those of a user by time.

    Attributes
    ----------
    user, item : ndarray of int64, shape (n,)
        Codes.
    weight : ndarray of float64, shape (n,)
    time : ndarray of int64 or float64, shape (n,)
    of_dates : bool
        Whether the times are dates.
    """

    user: Ints
    item: Ints
    weight: Floats
    time: npt.NDArray[Any]
    of_dates: bool

    @property
    def latest(self) -> Any:
        """Time of the last."""
        return self.time.max()

    def latest_of(self, n_users: int) -> npt.NDArray[Any]:
        """Time of the last of each user, (n_users + 1,), the lowest there is where nothing was told, as of no user."""
        lowest = np.iinfo(np.int64).min if self.time.dtype.kind == "i" else -np.inf
        latest = np.full(n_users + 1, lowest, dtype=self.time.dtype)
        last = np.flatnonzero(np.append(self.user[1:] != self.user[:-1], True))
        latest[self.user[last]] = self.time[last]
        return latest

    @classmethod
    def of(
        cls, user: Ints, item: Ints, weight: Floats, time: npt.NDArray[Any], of_dates: bool, earlier: Told | None = None
    ) -> Told:
        """Pairs in any order, and those that were told earlier."""
        if earlier is not None:
            user, item = np.append(earlier.user, user), np.append(earlier.item, item)
            weight, time = np.append(earlier.weight, weight), np.append(earlier.time, time)
        order = np.lexsort((time, user))
        return cls(user[order], item[order], weight[order], time[order], of_dates)

    def not_yet(self, user: Ints, time: pd.Series) -> tuple[Ints, Ints]:
        """Rows before some event of their user that was told, and how many were told of before each; (m,) twice.

        A row whose time is missing, or not on the axis of the events, comes after all of them.
        """
        nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if is_datetime(time_dtype(time)) != self.of_dates:
            return nothing
        rows = np.flatnonzero(time.notna().to_numpy() & (user >= 0))
        times = to_time(time.iloc[rows])
        early = times <= self.latest  # none at all where candidates of the next day are scored
        rows, times = rows[early], times[early]
        if not len(rows):
            return nothing
        steps = np.unique(self.time)
        width = len(steps) + 1
        told = self.user * width + np.searchsorted(steps, self.time)
        asked = user[rows] * width + np.searchsorted(steps, times)
        known = np.searchsorted(told, asked)
        missing = known < np.searchsorted(self.user, user[rows], side="right")
        rows, known = rows[missing], known[missing]
        return rows, known - np.searchsorted(self.user, user[rows])

    def matrix(self, user: Ints, count: Ints, before: sparse.csr_matrix) -> sparse.csr_matrix:
        """Weights of users with the first so many pairs that were told of each; ``before``: those of the fit."""
        row = np.repeat(np.arange(len(user)), count)
        first = np.repeat(np.searchsorted(self.user, user) - np.r_[0, np.cumsum(count)[:-1]], count)
        pairs = first + np.arange(len(row))
        shape = len(user), before.shape[1]
        told = sparse.coo_matrix((self.weight[pairs], (row, self.item[pairs])), shape=shape)
        fitted = np.flatnonzero(user < before.shape[0])
        place = sparse.coo_matrix((np.ones(len(fitted)), (fitted, user[fitted])), shape=(len(user), before.shape[0]))
        return (told.tocsr() + place.tocsr() @ before).tocsr().astype(np.float32)


def later_of(time: Any, log: EventLog) -> Any:
    """The time so far or that of the log's last event, whichever is later; None is no event."""
    last = log.last_time
    if time is None or last is None:
        return last if time is None else time
    kinds = [axis_kind(time_dtype(pd.Series([one]))) for one in (time, last)]
    if kinds[0] != kinds[1]:
        raise TypeError(
            f"The times of the events so far are {kinds[0]}, those of the new ones {kinds[1]}; convert them to one."
        )
    return max(time, last)
