"""The rows by which a fit stops: the latest in time, else whole groups, else some of every stratum."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtl_classic._core.time import to_time
from mtl_classic.model_selection._dealing import Rows, deal_share, group_codes
from mtl_classic.model_selection._row_order import warn_of_row_order

__all__ = ["validation_split"]


def validation_split(
    Y: Any, fraction: float, *, groups: Any = None, time: Any = None, gap: int | float = 0, random_state: Any = None
) -> tuple[Rows, Rows] | None:
    """Training and validation rows for early stopping: the latest in time, else whole groups, else spread evenly.

    ``gap`` keeps training rows this far before the validation rows, in the unit of the time axis; a group that lives on
    into the validation is validation. Returns None where there are too few rows, groups or times to hold any out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction}.")
    codes = group_codes(groups)
    if time is not None:
        stamps = to_time(time)
        if codes is not None:
            last = np.full(codes.max(initial=-1) + 1, stamps.min())
            np.maximum.at(last, codes, stamps)
            stamps = last[codes]
        distinct, counts = np.unique(stamps, return_counts=True)
        if len(distinct) < 2:
            return None
        cut = int(np.searchsorted(np.cumsum(counts), len(stamps) - fraction * len(stamps), side="right"))
        start = distinct[max(cut, 1)]
        train = np.flatnonzero(stamps < start - gap)
        return (train, np.flatnonzero(stamps >= start)) if len(train) else None
    if (len(Y) if codes is None else codes.max(initial=-1) + 1) < max(round(1 / fraction), 1 / (1 - fraction)):
        return None
    if codes is None:
        warn_of_row_order(Y)
    held_out = deal_share(fraction, Y, codes, random_state)
    return np.flatnonzero(held_out == 0), np.flatnonzero(held_out)
