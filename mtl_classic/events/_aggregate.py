"""Aggregate: one column of history, described."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import COLUMN, COLUMNS, FINITE, check_option
from mtl_classic._core.time import check_duration

STATS = ("count", "sum", "mean", "rate", "recency", "gap", "decayed")
KNOWN = "__known__"  # among the allowed values of a filter: whatever is not missing
_UNITS = (("w", 604_800), ("D", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class Aggregate:
    r"""One history column: a statistic over the earlier events that share the row's keys.

    A row at time :math:`t` sees the events e of its keys with :math:`t - lag - window \le t_e < t - lag` that match
    `where`; with :math:`v_e` the `value` of an event and n the number of those seen:

    ======= ========================================================== =============================
    stat    formula                                                    nothing seen
    ======= ========================================================== =============================
    count   :math:`n`                                                  0
    sum     :math:`\sum v_e`                                           0
    mean    :math:`\sum v_e / n`                                       NaN
    rate    :math:`(a + s\,p) / (b + s)`, see below                    p (NaN before the first event)
    recency :math:`t - \max t_e`                                       NaN
    gap     :math:`(\max t_e - \min t_e) / (n - 1)`                    NaN (also for n = 1)
    decayed :math:`\sum v_e\, 2^{-(t - t_e) / half\_life}`             0
    ======= ========================================================== =============================

    Times come out in days where time is a date, else in the unit of the numbers. Events whose value is missing count
    for nothing in sum, mean, rate and decayed values.

    **rate**: without `value`, a = number of events that match `where`, b = number that match `per` (all events of the
    keys if None): buys per view. With `value` and no `per`, a = sum of the values, b = number of events that have
    one: a smoothed mean. With both, a = sum of the values over `where`, b = number of events that match `per`: revenue
    per view. p is a / b over *all* keys in the same window of the same row (NaN where that b is 0), so the prior looks
    ahead no more than the rest; s = `smoothing` is its weight in events.

    Parameters
    ----------
    keys : str or tuple of str
        Columns that rows and log share; "user" and "item" also stand for the columns of those roles; ``()`` takes all
        events together.
    stat : {"count", "sum", "mean", "rate", "recency", "gap", "decayed"}
    value : str, optional
        A numeric column of the log. None: the log's `value` for sum and mean; 1 per event for decayed and rate.
    where : event type, or dict of column to value (or list of values), optional
        Which events count. None or NaN among the values stands for events whose value is missing.
    window : duration, optional
        ``"8w"``, a timedelta, or a number on a numeric time axis; None looks back to the start of the log.
    half_life : duration
        Needed by decayed, only there.
    per : event type or dict, optional
        The denominator of a rate.
    smoothing : float, default=10
        Weight of the prior of a rate, ≥ 0. At 0 a rate has no prior: it is NaN where b = 0.

    Raises
    ------
    ValueError, TypeError
        An unknown statistic, or options that it does not have.

    References
    ----------
    The smoothed rate: D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes", SIGKDD
    Explorations 3 (2001), doi:10.1145/507533.507538.

    Examples
    --------
    >>> Aggregate(("user", "item"), "count", where="buy", window="8w").name
    'user_item__count__buy__8w'
    >>> Aggregate("item", "rate", where="buy", per="view").name
    'item__rate__buy_per_view'
    >>> Aggregate("user", "decayed", half_life="4w").name
    'user__decayed__half_life_4w'
    """

    keys: str | tuple[str, ...]
    stat: str
    value: str | None = field(default=None, kw_only=True)
    where: Any = field(default=None, kw_only=True)
    window: Any = field(default=None, kw_only=True)
    half_life: Any = field(default=None, kw_only=True)
    per: Any = field(default=None, kw_only=True)
    smoothing: float = field(default=10.0, kw_only=True)

    def __post_init__(self) -> None:
        check_option("keys", self.keys, (COLUMN, COLUMNS))
        keys = (self.keys,) if isinstance(self.keys, str) else tuple(self.keys)
        if not all(isinstance(key, str) for key in keys):
            raise TypeError(f"keys are names of columns, got {self.keys!r}.")
        if len(set(keys)) < len(keys):
            raise ValueError(f"each key once, got {self.keys!r}.")
        object.__setattr__(self, "keys", keys)
        if self.stat not in STATS:
            raise ValueError(f"stat must be one of {', '.join(STATS)}; got {self.stat!r}.")
        if (self.half_life is not None) != (self.stat == "decayed"):
            raise ValueError(
                f'half_life goes with stat="decayed" and only there; got {self.half_life!r} for {self.stat!r}.'
            )
        if self.per is not None and self.stat != "rate":
            raise ValueError(f'per= is the denominator of stat="rate"; got it for {self.stat!r}.')
        if self.stat == "rate" and self.where is None and self.value is None:
            raise ValueError('stat="rate" needs where= (which events), value= (which amount), or both.')
        if self.value is not None and self.stat in ("count", "recency", "gap"):
            raise ValueError(f"stat={self.stat!r} takes no value; filter by where= instead.")
        check_option("value", self.value, (COLUMN, None))
        check_duration("window", self.window)
        check_duration("half_life", self.half_life)
        check_option("smoothing", self.smoothing, FINITE)

    @property
    def name(self) -> str:
        """Name of the column: keys, statistic, value, filter, window; letters, digits, ``_ - . =`` only."""
        condition = _filter_text(self.where)
        if self.per is not None:
            condition = f"{condition or self.value}_per_{_filter_text(self.per)}"
        parts = ["_".join(self.keys) or "all", self.stat, self.value, condition, duration_text(self.window)]
        if self.half_life is not None:
            parts.append(f"half_life_{duration_text(self.half_life)}")
        return "__".join(re.sub(r"[^\w.=\-]+", "_", part) for part in parts if part)


def as_conditions(spec: Any, event: str | None) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """A filter in one form: (column, allowed values) pairs; an event type stands for its column."""
    if spec is None:
        return ()
    if isinstance(spec, Mapping):
        return tuple(
            (str(column), tuple(values) if pd.api.types.is_list_like(values) else (values,))
            for column, values in spec.items()
        )
    if event is None:
        raise ValueError(
            f"the filter {spec!r} is an event type, but the log has no event column; give EventLog(event=...)."
        )
    return ((event, (spec,)),)


def duration_text(duration: Any) -> str:
    """A short text of a duration: 8w, 12h, 30min, or the number itself; empty for None."""
    if duration is None or isinstance(duration, str):
        return duration or ""
    if not isinstance(duration, timedelta | np.timedelta64):
        return f"{duration:g}"
    seconds = pd.Timedelta(duration).total_seconds()
    return next((f"{seconds / unit:g}{name}" for name, unit in _UNITS if seconds % unit == 0), f"{seconds:g}s")


def _filter_text(spec: Any) -> str:
    if spec is None:
        return ""
    if isinstance(spec, Mapping):
        return "_".join(f"{column}={_values_text(values)}" for column, values in spec.items())
    return str(spec)


def _values_text(values: Any) -> str:
    return "_or_".join(map(str, values)) if pd.api.types.is_list_like(values) else str(values)
