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


def warn_of_repeats(columns: Mapping[str, npt.NDArray[Any]], new: npt.NDArray[np.bool_]) -> None:
    """Warn where more than half of the new events are equal, in all columns, to others."""
    told = int(new.sum())
    if told < ENOUGH:
        return
    number = pd.DataFrame(columns, copy=False).groupby(list(columns), sort=False, dropna=False).ngroup().to_numpy()
    repeated = int(np.isin(number[new], number[~new]).sum())
    if repeated > told / 2:
        warnings.warn(
            f"{repeated} of {told} events are equal to events that the log holds already, and count once more. "
            f"Tell a log, and what observes, of new events only.",
            RepeatedEventsWarning,
            stacklevel=2,
        )
