"""Columns appended to a table: its own columns stay, and no name is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

__all__ = ["append_columns", "append_to_table"]


def append_columns(table: pd.DataFrame, parts: Sequence[pd.DataFrame | pd.Series]) -> pd.DataFrame:
    """Return the table with columns of the same rows beside it.

    Raises
    ------
    ValueError
        If it has columns of their names.
    """
    joined = pd.concat([table, *(part.set_axis(table.index, axis=0) for part in parts)], axis=1)
    if not joined.columns.is_unique:
        repeated = joined.columns[joined.columns.duplicated()].unique()
        raise ValueError(
            f"X has columns of the names that would be appended: {', '.join(map(str, repeated))}; rename them."
        )
    return joined


def append_to_table(table: Any, parts: Sequence[pd.DataFrame]) -> Any:
    """The same for an array or CSR, too."""
    if isinstance(table, pd.DataFrame):
        return append_columns(table, parts)
    if sparse.issparse(table):
        return sparse.hstack([table, *(sparse.csr_matrix(part.to_numpy()) for part in parts)], format="csr")
    return np.hstack([table, *(part.to_numpy() for part in parts)])
