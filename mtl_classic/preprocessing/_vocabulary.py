"""Values of a column as integer codes, at a hash look-up per row (per category where the column is categorical)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import join_keys, key_positions, refuse_other_kind

__all__ = ["MISSING", "UNSEEN", "Vocabulary"]

UNSEEN = -1
MISSING = 0

Codes = npt.NDArray[np.int64]


class Vocabulary:
    """The values of one column and their codes: ``UNSEEN`` (-1), ``MISSING`` (0), then 1, 2 … for ``values``.

    Values are in sorted order when they are learnt, so that codes do not depend on the order of the rows; later values
    are added at the end, so that codes never move.

    Parameters
    ----------
    values : Index
        Distinct values without missing ones.
    """

    def __init__(self, values: pd.Index | None = None) -> None:
        self.values = pd.Index([], dtype=object) if values is None else values

    def __len__(self) -> int:
        return len(self.values) + 1

    def codes(self, column: pd.Series) -> Codes:
        """Codes of all rows, int64 of shape (n,); text in place of numbers, or the reverse, is refused."""
        if isinstance(column.dtype, pd.CategoricalDtype):
            # One look-up per category; the code -1 of a missing row takes the entry appended last.
            table = np.append(self._look_up(column.cat.categories), MISSING)
            codes = np.asarray(table[column.cat.codes.to_numpy()], dtype=np.int64)
        else:
            try:
                codes = self._look_up(pd.Index(column))
            except TypeError as error:
                raise _not_comparable(column, error) from None
            codes[column.isna().to_numpy()] = MISSING
        refuse_other_kind(self.values, column, codes > MISSING)
        return codes

    def learn(self, column: pd.Series) -> Codes:
        """Add the values that are new, then return the codes of all rows."""
        new = _distinct(column)
        new = new[self._look_up(new) == UNSEEN]
        if len(new):
            self.values = _sorted(new) if not len(self.values) else join_keys(self.values, _sorted(new))
        return self.codes(column)

    def _look_up(self, values: pd.Index) -> Codes:
        positions = key_positions(self.values, values)
        return np.where(positions < 0, UNSEEN, positions + 1)


def _distinct(column: pd.Series) -> pd.Index:
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = np.bincount(column.cat.codes.to_numpy() + 1, minlength=len(column.cat.categories) + 1)[1:] > 0
        return column.cat.categories[used]
    try:
        return pd.Index(column.dropna().unique())
    except TypeError as error:
        raise _not_comparable(column, error) from None


def _not_comparable(column: pd.Series, error: TypeError) -> TypeError:
    return TypeError(f"Column {column.name!r} holds values that cannot be compared: {error}.")


def _sorted(values: pd.Index) -> pd.Index:
    try:
        return values.sort_values()
    except TypeError:  # mixed types: any order will do that depends on the values alone
        return pd.Index(sorted(values, key=_type_and_text), dtype=object, tupleize_cols=False)


def _type_and_text(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)
