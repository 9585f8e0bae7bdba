"""Columns whose values Arrow holds, in the types of pandas that all parts know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["frame_from_arrow", "from_arrow"]


def from_arrow(column: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers, flags, dates, durations, texts, categories and decimals of Arrow as those of pandas; others stay."""
    dtype = column.dtype
    if not isinstance(dtype, pd.ArrowDtype):
        return column
    held = dtype.pyarrow_dtype
    if dtype.kind in "mM":
        unit: Any = getattr(held, "unit", "s")
        zone = getattr(held, "tz", None)
        if zone is not None:
            return column.astype(pd.DatetimeTZDtype(unit, zone))
        return column.astype(np.dtype(f"{dtype.kind}8[{unit}]"))
    kind = str(held)
    if kind.startswith("dictionary"):
        return column.astype(object).astype("category")  # pandas reads no dictionary with gaps
    if kind.startswith("decimal"):
        return column.astype("float64")
    if dtype.kind in "biuf":
        whole = kind.replace("i", "I").replace("u", "U")  # UInt8 of uint8
        plain: Any = {"b": "boolean", "f": held.to_pandas_dtype()}.get(dtype.kind, whole)
        return column.astype(plain)
    return column.astype("string[pyarrow]") if "string" in kind else column


def frame_from_arrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame itself where no column needs another type, else a shallow copy."""
    held = [j for j, dtype in enumerate(frame.dtypes) if isinstance(dtype, pd.ArrowDtype)]
    if not held:
        return frame
    frame = frame.copy(deep=False)
    for j in held:
        frame.isetitem(j, from_arrow(frame.iloc[:, j]).array)
    return frame
