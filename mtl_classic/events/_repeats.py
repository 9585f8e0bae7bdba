"""Events told twice count twice; told in bulk, they are told so."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import RepeatedEventsWarning

ENOUGH = 100  # of fewer events more than half may be equal to others by chance


def warn_of_repeats(columns: Mapping[str, npt.NDArray[Any]], new: npt.NDArray[np.bool_], are_late: bool) -> None:
    """Warn where more than half of the new events are equal, in all columns, to others.

    Those of the last time of a log may be another part of a day that comes in parts: then only an event that the log
    holds once says something, as is true of no more than a share of 1 / e where events are equal by chance.
    """
    told = int(new.sum())
    if told < ENOUGH:
        return
    number = pd.DataFrame(columns, copy=False).groupby(list(columns), sort=False, dropna=False).ngroup().to_numpy()
    held = np.bincount(number[~new], minlength=int(number.max()) + 1)[number[new]]
    repeated = int(np.count_nonzero(held if are_late else held == 1))
    if repeated > told / 2:
        warnings.warn(
            f"{repeated} of {told} events are equal to events that the log holds already, and count once more. "
            f"Tell a log, and what observes, of new events only.",
            RepeatedEventsWarning,
            stacklevel=2,
        )
