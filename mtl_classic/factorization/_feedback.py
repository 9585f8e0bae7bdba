"""Who took what, how often or how well: the pairs that matrix factorization learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic.events import EventLog
from mtl_classic.factorization._design import listed
from mtl_classic.preprocessing._vocabulary import Vocabulary

__all__ = ["Feedback", "Ids", "check_log", "feedback_from_events", "feedback_from_rows"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Ids:
    """Ids of one side as codes 0, 1 …, sorted, later ones at the end; -1 for those not known, and for missing."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()

    def __len__(self) -> int:
        return len(self.vocabulary.values)

    @property
    def values(self) -> pd.Index:
        """The ids, in the order of the codes."""
        return self.vocabulary.values

    def learn(self, column: pd.Series) -> Ints:
        """Add new ids and return all codes."""
        if len(self):
            self.codes(column)
        return np.maximum(self.vocabulary.learn(column) - 1, -1)

    def codes(self, column: pd.Series) -> Ints:
        """Return the codes; numbers in place of text, or the reverse, are refused."""
        return np.maximum(self.vocabulary.codes(column) - 1, -1)

    def copy(self) -> Ids:
        """One that learns on its own."""
        other = Ids()
        other.vocabulary = Vocabulary(self.vocabulary.values)
        return other


@dataclass(frozen=True)
class Feedback:
    """Pairs, not necessarily distinct.

    Attributes
    ----------
    user, item : Series
        Without missing ids.
    value : ndarray of float64, shape (n,)
        Weights, positive; for ratings the ratings.
    weight : ndarray of float64, shape (n,)
        Weights, positive.
    time : ndarray of int64 or float64, shape (n,)
        Of the events; None for pairs of rows.
    """

    user: pd.Series
    item: pd.Series
    value: Floats
    weight: Floats
    time: npt.NDArray[Any] | None = None


def feedback_from_events(
    log: EventLog, *, event: Any = None, weight: str | Mapping[Any, float] | None = None, ratings: bool = False
) -> Feedback:
    """Events of some types.

    Parameters
    ----------
    log : EventLog
    event : type or list of types, default=None
        None is all types.
    weight : str, dict of type to weight, or None
        A column of the log, or a weight per event type (others 0); None weighs all events the same.
    ratings : bool
        Whether the log's value is what is to be predicted; events without one are left out then.
    """
    frame = pd.DataFrame({"user": log.column(log.roles["user"]), "item": log.column(log.roles["item"])})
    keep = frame.notna().all(axis=1).to_numpy()
    types = log.column(log.roles["event"]) if "event" in log.roles else None
    if types is None and (event is not None or isinstance(weight, Mapping)):
        raise ValueError(
            "event= and weights per event type need a log with event types; make it with EventLog(…, event=…)."
        )
    if event is not None:
        keep = keep & pd.Series(types).isin(listed(event)).to_numpy()
    if isinstance(weight, Mapping):
        weights = _weights(pd.Series(types).map(dict(weight)), "weight")
    else:
        weights = np.ones(len(frame)) if weight is None else _weights(pd.Series(log.column(weight)), weight)
    value = weights
    if ratings:
        if "value" not in log.roles:
            raise ValueError("Ratings are the log's value; make the log with EventLog(…, value=…).")
        value = np.asarray(log.column(log.roles["value"]), dtype=np.float64)
    return _kept(frame["user"], frame["item"], value, weights, keep, log.time)


def check_log(log: EventLog, event: Any) -> None:
    """Refuse types that the log of a fit lacks; a part of it, or later events, may lack some."""
    unknown = [] if event is None else [name for name in listed(event) if name not in log.event_types]
    if unknown and log.event_types:
        raise ValueError(f"The log has no events of the types {unknown}; it has {list(log.event_types)}.")


def feedback_from_rows(
    X: pd.DataFrame, user: str, item: str, y: Floats, *, weight: str | None = None, sample_weight: Floats | None = None,
    ratings: bool = False,
) -> Feedback:  # fmt: skip
    """Rows where a task is positive, weighted by how positive it is; with ratings, all rows with a label."""
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight is not None:
        weights = weights * _weights(X[weight], weight)
    keep = (X[user].notna() & X[item].notna()).to_numpy() & ~np.isnan(y)
    if not ratings:
        keep = keep & (y > 0)
        weights = weights * np.where(keep, y, 0.0)
    return _kept(X[user], X[item], y if ratings else weights, weights, keep)


def _kept(
    user: pd.Series, item: pd.Series, value: Floats, weight: Floats, keep: npt.NDArray[np.bool_], time: Any = None
) -> Feedback:
    keep = keep & (weight > 0) & ~np.isnan(value)
    user, item = (column[keep].reset_index(drop=True) for column in (user, item))
    return Feedback(user, item, value[keep], weight[keep], None if time is None else time[keep])


def _weights(column: pd.Series, name: str) -> Floats:
    values = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=0.0)
    if wrong := int(((values < 0) | np.isinf(values)).sum()):
        raise ValueError(f"Weights must not be negative nor infinite; {name!r} has {wrong} such values.")
    return values
