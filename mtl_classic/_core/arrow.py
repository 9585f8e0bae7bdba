"""Columns whose values Arrow holds, or in another byte order or width, in the types that all parts know."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["as_known_type", "frame_from_arrow", "from_arrow", "keep_long_integers"]

_TEXT = ("string", "large_string", "string_view")
_EXACT = 2.0**53  # from here on neighbouring integers are the same float


def from_arrow(column: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers, flags, dates, durations, texts, categories and decimals of Arrow as those of pandas, else objects."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        known = _known_type(dtype)
        return column if known == dtype else column.astype(known)
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
    if dtype.kind == "f":
        return column.astype(_known_type(np.dtype(held.to_pandas_dtype())))
    if dtype.kind in "biu":
        plain: Any = pd.api.types.pandas_dtype("boolean" if kind == "bool" else _masked(kind))
        exact = plain.__from_arrow__(column.array.__arrow_array__())  # `astype` goes by way of floats
        return pd.Series(exact, index=column.index, name=column.name)
    return column.astype("string[pyarrow]" if kind in _TEXT else object)


def as_known_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers as pandas reads them: it looks nothing up in another byte order, nor by halves and long doubles."""
    return values.astype(_known_type(values.dtype), copy=False)


def _known_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize == 2 else np.float64)
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def keep_long_integers(frame: pd.DataFrame, held: Any) -> pd.DataFrame:
    """A frame of a table of Arrow, with ids of 64 bits beside missing ones whole: as floats they would be mixed up.

    Parameters
    ----------
    frame : DataFrame
        What pandas made of the columns: floats, where whole numbers have gaps.
    held : pyarrow.Table
        All its columns, or some.
    """
    for name, column in zip(held.column_names, held.columns, strict=True):
        if str(column.type) not in ("int64", "uint64") or name not in frame or frame[name].dtype.kind != "f":
            continue
        if not frame[name].abs().max() < _EXACT:  # of missing ones alone too: other parts may have such ids
            dtype: Any = pd.api.types.pandas_dtype(_masked(str(column.type)))
            frame[name] = dtype.__from_arrow__(column)
    return frame


def _masked(kind: str) -> str:
    """UInt8 of uint8."""
    return kind.replace("i", "I").replace("u", "U")


def frame_from_arrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame itself where no column needs another type, else a shallow copy."""
    held = [
        j
        for j, dtype in enumerate(frame.dtypes)
        if isinstance(dtype, pd.ArrowDtype) or (isinstance(dtype, np.dtype) and _known_type(dtype) != dtype)
    ]
    if not held:
        return frame
    frame = frame.copy(deep=False)
    for j in held:
        frame.isetitem(j, from_arrow(frame.iloc[:, j]).array)
    return frame
