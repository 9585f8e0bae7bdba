"""A hash of what is in tables, labels and weights, by which finished fits and searches are found again."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy import sparse

__all__ = ["fingerprint"]


def fingerprint(*values: Any) -> str:
    """The same for the same values in the same order, however pandas, numpy and scipy have laid them out in memory."""
    return str(joblib.hash([_content(value) for value in values]))


def _content(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    if sparse.issparse(value):  # beside its arrays it keeps what it has found out about them
        rows = value.tocsr()
        return rows.shape, rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    if not isinstance(value, pd.DataFrame | pd.Series):
        return value
    frame = pd.DataFrame(value)
    try:
        rows = pd.util.hash_pandas_object(frame).to_numpy()
    except TypeError:  # lists and the like in cells
        return value
    return list(frame.columns), [_type(column) for _, column in frame.items()], rows


def _type(column: pd.Series[Any]) -> Any:
    """What the hashes of values do not tell: 1 from "1" among objects, and which of ordered categories is positive."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return bool(dtype.ordered), pd.util.hash_pandas_object(pd.Series(dtype.categories)).to_numpy()
    return str(dtype), pd.api.types.infer_dtype(column) if pd.api.types.is_object_dtype(dtype) else None
