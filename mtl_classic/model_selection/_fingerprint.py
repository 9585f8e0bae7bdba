"""A hash of what is in tables, labels and weights, by which finished fits and searches are found again."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import pandas as pd

__all__ = ["fingerprint"]


def fingerprint(*values: Any) -> str:
    """The same for the same values in the same order, however pandas and numpy have laid them out in memory."""
    return str(joblib.hash([_content(value) for value in values]))


def _content(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    if not isinstance(value, pd.DataFrame | pd.Series):
        return value
    frame = pd.DataFrame(value)
    try:
        rows = pd.util.hash_pandas_object(frame).to_numpy()
    except TypeError:  # lists and the like in cells
        return value
    return list(frame.columns), list(map(str, frame.dtypes)), rows
