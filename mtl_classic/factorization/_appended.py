"""Columns appended to a frame: its own columns stay, and no name is there twice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["append_columns"]


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
