"""From a table to the numbers that boosters read: one float32 matrix for all tasks, categories as codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.validation import Table, n_rows

__all__ = ["FeatureColumns", "Features"]

_DAY = 86_400_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Features:
    """A numeric matrix with names.

    Attributes
    ----------
    values : ndarray of shape (n, p), float32, or CSR
        NaN is missing; categories are codes, unseen ones NaN.
    names : tuple of str
    categorical : tuple of int
        Positions of the columns that hold codes.
    """

    values: Any
    names: tuple[str, ...]
    categorical: tuple[int, ...]

    def __len__(self) -> int:
        return n_rows(self.values)

    def take(self, rows: npt.NDArray[Any]) -> Features:
        """Some rows."""
        return Features(self.values[rows], self.names, self.categorical)


@dataclass
class FeatureColumns:
    """Learns which columns are features and the categories of each; then encodes any table the same way.

    Parameters
    ----------
    exclude : sequence of str
        Columns that are roles, not features.
    ids : sequence of str
        Role columns that are categories whatever their dtype, as long as they are few.
    max_categories : int, default=255
        Categorical columns with more values are left out: they hurt trees, and belong to the factor models.
    """

    exclude: Sequence[str] = ()
    ids: Sequence[str] = ()
    max_categories: int = 255
    names_: tuple[str, ...] = field(default=(), init=False)
    categories_: dict[str, pd.Index] = field(default_factory=dict, init=False)
    left_out_: tuple[str, ...] = field(default=(), init=False)

    def fit(self, X: Table) -> FeatureColumns:
        """Learn names and categories from the training table."""
        self.categories_, self.left_out_, self.names_ = {}, (), ()
        frame = _object_frame(X)
        if frame is None:
            self.names_ = tuple(f"x{j}" for j in range(X.shape[1]))
            return self
        names: list[str] = []
        left_out: list[str] = []
        for name in frame.columns:
            if name in self.exclude:
                continue
            column = frame[name]
            if name in self.ids or _is_categorical(column):
                categories = _categories(column)
                if len(categories) > self.max_categories:
                    left_out.append(str(name))
                    continue
                self.categories_[str(name)] = categories
            names.append(str(name))
        self.names_, self.left_out_ = tuple(names), tuple(left_out)
        return self

    def transform(self, X: Table) -> Features:
        """Encode a table with the columns of the fit."""
        frame = _object_frame(X)
        if frame is None:
            values = X.astype(np.float32) if sparse.issparse(X) else np.asarray(X, dtype=np.float32)
            return Features(values, self.names_, ())
        values = np.empty((len(frame), max(len(self.names_), 1)), dtype=np.float32)
        if not self.names_:
            values[:] = 0.0  # nothing to learn from: a constant column keeps every learner working
        by_name = {str(name): name for name in frame.columns}
        for j, name in enumerate(self.names_):
            values[:, j] = self._numbers(frame[by_name[name]], self.categories_.get(name))
        categorical = tuple(j for j, name in enumerate(self.names_) if name in self.categories_)
        return Features(values, self.names_ or ("constant",), categorical)

    @staticmethod
    def _numbers(column: pd.Series, categories: pd.Index | None) -> npt.NDArray[np.float32]:
        if categories is not None:
            codes = _codes(column, categories).astype(np.float32)
            codes[codes < 0] = np.nan
            return codes
        if column.dtype.kind in "Mm":
            days = column.to_numpy().astype(f"{column.dtype.kind}8[ns]")
            numbers = days.view(np.int64) / _DAY
            return np.where(np.isnat(days), np.nan, numbers).astype(np.float32)
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            return FeatureColumns._numbers(column.dt.tz_convert("UTC").dt.tz_localize(None), None)
        return column.to_numpy(dtype=np.float32, na_value=np.nan)


def _object_frame(X: Table) -> pd.DataFrame | None:
    """The table as a frame where its columns need looking at one by one, else None."""
    if isinstance(X, pd.DataFrame):
        return X
    if not sparse.issparse(X) and X.dtype.kind not in "fiub":
        return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).infer_objects()
    return None


def _is_categorical(column: pd.Series) -> bool:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or (pd.api.types.is_string_dtype(dtype) and dtype != object):
        return True
    return dtype == object and not _all_numbers(column.dropna())


def _all_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float | np.number | bool) for value in values)


def _categories(column: pd.Series) -> pd.Index:
    """Values in sorted order (by text where they cannot be compared), so that row order changes nothing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    values = pd.Index(pd.unique(column.dropna()))
    try:
        return values.sort_values()
    except TypeError:
        return pd.Index(sorted(values, key=str), dtype=object)


def _codes(column: pd.Series, categories: pd.Index) -> npt.NDArray[np.intp]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        of_category = categories.get_indexer(column.cat.categories)
        codes = column.cat.codes.to_numpy()
        return np.where(codes >= 0, of_category[codes] if len(of_category) else -1, -1)
    codes = categories.get_indexer(pd.Index(column))
    codes[column.isna().to_numpy()] = -1
    return codes
