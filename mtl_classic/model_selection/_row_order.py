"""Rows that resemble the ones before them: folds dealt out at random would put neighbours on both sides."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from mtl_classic._core.exceptions import RowOrderWarning
from mtl_classic._core.tasks import label_frame

__all__ = ["neighbour_correlation", "warn_of_row_order"]

LEAST_ROWS = 100
LEAST_VALUES = 20  # classes and small counts in runs are tables sorted by label or user, which is harmless
RESEMBLANCE = 0.9


def warn_of_row_order(Y: Any) -> None:
    """Warn where the rows look like consecutive measurements and neither time nor groups have been named.

    A label that changes by little from row to row, neither rising nor falling all the way (a table sorted by it), is
    what consecutive hours or days look like. A row held out at random then lies between two of the training rows,
    which tell of it, and the score says nothing of the hours to come.
    """
    frame = label_frame(Y)
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name]):
            near = neighbour_correlation(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
            if near > RESEMBLANCE:
                warnings.warn(
                    f"Task {name!r}: neighbouring rows have labels that are almost the same (correlation {near:.2f}), "
                    "and rows are held out at random: what is measured on them tells little of rows to come. If the "
                    "order of the rows is that of time, name the time column (time=) or hold out blocks "
                    "(make_folds(…, groups=block of each row)); if it means nothing, shuffle the rows.",
                    RowOrderWarning,
                    stacklevel=4,
                )
                return


def neighbour_correlation(y: npt.NDArray[np.float64]) -> float:
    """Rank correlation of each labelled row with the next, 1 − Σ (rᵢ₊₁ − rᵢ)² / (2 Σ (rᵢ − r̄)²) for ranks r of y.

    The rank form of von Neumann's ratio (Bartels 1982, doi 10.1080/01621459.1982.10477764), which a few wild labels or
    a jump of level do not decide. 0 where it says nothing: fewer than 100 labels, 20 values or fewer, sorted labels.
    """
    y = y[np.isfinite(y)]
    if len(y) < LEAST_ROWS or len(np.unique(y)) <= LEAST_VALUES:
        return 0.0
    ranks = rankdata(y)
    steps = np.diff(ranks)
    if (steps >= 0).all() or (steps <= 0).all():
        return 0.0
    return float(1 - (steps @ steps) / (2 * np.square(ranks - ranks.mean()).sum()))
