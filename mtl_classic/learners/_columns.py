"""From a table to the numbers that boosters read: one float32 matrix for all tasks, categories as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.keys import key_positions, refuse_other_kind
from mtl_classic._core.validation import Table, n_rows
from mtl_classic.learners._dates import (
    calendar_part,
    days,
    holds,
    is_date,
    is_text,
    is_time,
    is_written,
    parts_that_vary,
    written_dates,
)

__all__ = ["MAX_CATEGORIES", "FeatureColumns", "Features", "wide_columns"]

LARGEST = np.float32(1e30)  # sums over rows stay finite
BLOCK = 1024  # rows
MAX_CATEGORIES = 255
NO_FEATURE = "holds no numbers, categories or dates; convert it, or name it in exclude="
EXACT = float(2**24)  # whole numbers up to this are exact in single precision
_NUMBERS = (int, float, np.number, np.bool_, Real, Decimal)


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
    _seen: dict[int, tuple[Any, Any]] = field(default_factory=dict, repr=False, compare=False)

    def seen_through(self, transformer: Any) -> Any:
        """The matrix in double precision through a fitted transformer, kept for the other tasks that share it."""
        if id(transformer) not in self._seen:
            self._seen[id(transformer)] = transformer, transformer.transform(self.values.astype(np.float64))
        return self._seen[id(transformer)][1]

    def __len__(self) -> int:
        return n_rows(self.values)

    def take(self, rows: npt.NDArray[Any]) -> Features:
        """Some rows."""
        return Features(self.values[rows], self.names, self.categorical)


@dataclass
class FeatureColumns:
    """Learns which columns are features and the categories of each; then encodes any table the same way.

    Ordered categories are numbers, the position of each in the order; texts that are all dates of ISO 8601 are dates.
    Dates are days from 1970 on, with columns ``name__hour``, ``name__day_of_week`` and ``name__day_of_year`` beside
    them where these vary (in UTC, if the dates have a zone).

    Parameters
    ----------
    exclude : sequence of str
        Columns that are roles, not features.
    ids : sequence of str
        Role columns that are categories whatever their dtype, as long as they are few.
    max_categories : int, default=255
        Categorical columns with more values are left out, unless they are ordered: they hurt trees, and belong to the
        factor models.
    """

    exclude: Sequence[str] = ()
    ids: Sequence[str] = ()
    max_categories: int = MAX_CATEGORIES
    names_: tuple[str, ...] = field(default=(), init=False)
    all_names_: tuple[str, ...] | None = field(default=None, init=False)
    categories_: dict[str, pd.Index] = field(default_factory=dict, init=False)
    is_sparse_: bool | None = field(default=None, init=False)
    offsets_: dict[str, float] = field(default_factory=dict, init=False)
    dated_: dict[str, bool] = field(default_factory=dict, init=False)  # whether what is no category held dates
    left_out_: dict[str, int] = field(default_factory=dict, init=False)  # with how many values each has
    ordered_: tuple[str, ...] = field(default=(), init=False)  # columns whose codes are numbers
    written_: tuple[str, ...] = field(default=(), init=False)  # columns that held dates as texts
    calendar_: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)  # feature -> its date and part

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions of the columns whose codes have no order."""
        unordered = self.categories_.keys() - set(self.ordered_)
        return tuple(j for j, name in enumerate(self.names_) if name in unordered)

    @property
    def settings(self) -> tuple[Any, ...]:
        """What decides, with the table, which columns are features."""
        return tuple(self.exclude), tuple(self.ids), self.max_categories

    def fit(self, X: Table) -> FeatureColumns:
        """Learn names and categories from the training table."""
        self.categories_, self.offsets_, self.dated_, self.left_out_, self.names_ = {}, {}, {}, {}, ()
        self.ordered_, self.written_, self.calendar_ = (), (), {}
        frame = _object_frame(X)
        self.is_sparse_ = bool(sparse.issparse(X))
        self.all_names_ = None if frame is None else tuple(map(str, frame.columns))
        if frame is None:
            self.names_ = tuple(f"x{j}" for j in range(X.shape[1]))
            self.offsets_ = {} if self.is_sparse_ else _offsets(self.names_, X)
            return self
        names: list[str] = []
        for name in frame.columns:
            if name in self.exclude:
                continue
            column = frame[name]
            if name in self.ids or _is_categorical(column):
                categories = _categories(column)
                if len(categories) > self.max_categories:
                    self.left_out_[str(name)] = len(categories)
                    continue
                self.categories_[str(name)] = categories
            elif _is_ordered(column):
                self.categories_[str(name)] = column.cat.categories
                self.ordered_ += (str(name),)
            else:
                self._learn_numbers(column, str(name))
            names.append(str(name))
        taken = {str(name) for name in frame.columns}
        self.calendar_ = {name: told for name, told in self.calendar_.items() if name not in taken}
        self.names_ = (*names, *self.calendar_)
        return self

    def _learn_numbers(self, column: pd.Series, name: str) -> None:
        if is_written(column):
            self.written_ += (name,)
            column = written_dates(column)
        timed = is_time(column)
        if column.notna().any():
            self.dated_[name] = timed
        if timed and is_date(column):
            self.calendar_ |= {f"{name}__{part}": (name, part) for part in parts_that_vary(days(column))}
        if column.dtype != np.float32 and not timed:
            self.offsets_ |= _offsets([name], _doubles(column, NO_FEATURE)[:, None])

    def transform(self, X: Table) -> Features:
        """Encode a table with the columns of the fit, by name, else by position."""
        frame = self._as_fitted(X)
        if frame is None:
            return Features(self._stored(X), self.names_, ())
        by_name = {str(name): name for name in frame.columns}
        own = {name: self._numbers(frame[by_name[name]], name) for name in self.names_ if name not in self.calendar_}
        columns = [*own.values(), *(calendar_part(own[name], part) for name, part in self.calendar_.values())]
        if not columns:  # nothing to learn from: a constant column keeps every learner working
            columns = [np.zeros(len(frame), np.float32)]
        values = np.empty((len(frame), len(columns)), dtype=np.float32)
        for first in range(0, len(frame), BLOCK):  # rows that fit into the cache: column by column would miss it
            rows = slice(first, first + BLOCK)
            np.stack([column[rows] for column in columns], axis=1, out=values[rows])
        stored = sparse.csr_matrix(values) if self.is_sparse_ else values
        return Features(stored, self.names_ or ("constant",), self.categorical)

    def _stored(self, X: Table) -> Any:
        """Plain numbers, sparse or not as at fit: XGBoost takes what is absent as missing, and a 0 as a number."""
        if not sparse.issparse(X):
            return sparse.csr_matrix(_to_float32(X)) if self.is_sparse_ else _to_float32(self._moved(X))
        if self.is_sparse_ is False:
            values = np.empty(X.shape, dtype=np.float32)
            for first in range(0, X.shape[0], BLOCK):
                values[first : first + BLOCK] = _to_float32(self._moved(X[first : first + BLOCK].toarray()))
            return values
        values = _to_float32(X)
        if (values.data == 0).any():
            values = values.copy() if values is X else values
            values.eliminate_zeros()
        return values

    def _as_fitted(self, X: Table) -> pd.DataFrame | None:
        """A frame with the names of the fit, or None where the fit saw plain numbers."""
        if self.all_names_ is None:
            names, frame = [f"x{j}" for j in range(X.shape[1])], _object_frame(X)
            if frame is None:
                return None
            return frame.set_axis(names, axis=1)
        if sparse.issparse(X):
            X = X.toarray()
        if not isinstance(X, pd.DataFrame):
            return pd.DataFrame(X, columns=list(self.all_names_))
        by_name = set(self.names_) - set(self.calendar_) <= {str(name) for name in X.columns}
        return X if by_name or X.shape[1] != len(self.all_names_) else X.set_axis(list(self.all_names_), axis=1)

    def _moved(self, X: Any) -> Any:
        return X - np.array([self.offsets_.get(name, 0.0) for name in self.names_]) if self.offsets_ else X

    def _numbers(self, column: pd.Series, name: str) -> npt.NDArray[np.floating[Any]]:
        """A column as numbers in single precision; dates in double, for their calendar."""
        categories, offset = self.categories_.get(name), self.offsets_.get(name)
        if categories is not None:
            codes = _codes(column, categories).astype(np.float32)
            refuse_other_kind(categories, column, codes >= 0)
            codes[codes < 0] = np.nan
            return codes
        if name in self.written_ and is_text(column):
            column = written_dates(column)
        timed = is_time(column)
        if self.dated_.get(name, timed) != timed and column.notna().any():
            held = "numbers" if timed else "dates"
            raise TypeError(f"Column {name!r} held {held} at fit; now it does not: it is of {column.dtype}.")
        if column.dtype == np.float32 and offset is None:
            return column.to_numpy()
        if timed:
            return days(column)
        numbers = _doubles(column)
        return np.asarray(_to_float32(numbers if offset is None else numbers - offset))


def wide_columns(X: Table, exclude: Sequence[Any], most: int) -> dict[Any, int]:
    """The categorical columns of more than ``most`` values, with how many each has."""
    if not isinstance(X, pd.DataFrame):
        return {}
    found = {name: _values(X[name]) for name in X.columns if name not in exclude and _is_categorical(X[name])}
    return {name: len(values) for name, values in found.items() if len(values) > most}


def _offsets(names: Sequence[str], values: Any) -> dict[str, float]:
    """The least number of each column whose numbers are far from 0 and near each other, as those of epochs and ids.

    In single precision they would be the same: of milliseconds since 1970 two minutes.
    """
    if values.dtype == np.float32 or not len(values):
        return {}
    low, high = (edge.reduce(values, axis=0).astype(np.float64) for edge in (np.fmin, np.fmax))
    largest = np.maximum(np.abs(low), np.abs(high))
    far = (largest > EXACT) & (largest < LARGEST) & (high / 2 - low / 2 < largest / 4)
    return {name: float(low[j]) for j, name in enumerate(names) if far[j]}


def _doubles(column: pd.Series, wrong: str = "held numbers at fit; now it does not") -> npt.NDArray[np.float64]:
    try:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise TypeError(f"Column {column.name!r} {wrong}: {error}.") from None
    if column.dtype == object and np.isinf(numbers).any():  # other dtypes are checked at the door
        raise ValueError(f"Infinite values in the column {column.name!r}; expected finite numbers, or NaN.")
    return np.asarray(numbers)


def _to_float32(values: Any) -> Any:
    """Single precision; numbers beyond its range are held at `LARGEST`, because boosters refuse infinity."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    numbers = out.data if sparse.issparse(out) else out
    np.clip(numbers, -LARGEST, LARGEST, out=numbers)
    return out


def _object_frame(X: Table) -> pd.DataFrame | None:
    """The table as a frame where its columns need looking at one by one, else None."""
    if isinstance(X, pd.DataFrame):
        return X
    if not sparse.issparse(X) and X.dtype.kind not in "fiub":
        return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).infer_objects()
    return None


def _is_ordered(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype) and bool(column.dtype.ordered)


def _is_categorical(column: pd.Series) -> bool:
    """Whether a column holds categories without an order."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return not dtype.ordered
    if is_text(column):
        return not is_written(column)
    return pd.api.types.is_object_dtype(dtype) and not (holds(column, _NUMBERS) or is_time(column))


def _values(column: pd.Series) -> pd.Index:
    """The categories that the rows have, each once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.unique(column.cat.codes)
        return column.cat.categories[codes[codes >= 0]]
    try:
        return pd.Index(pd.unique(column.dropna()))
    except TypeError as error:
        raise TypeError(
            f"Column {column.name!r} holds values that cannot be compared: {error}; leave it out, or make numbers "
            f"or texts of it."
        ) from None


def _categories(column: pd.Series) -> pd.Index:
    """Values in sorted order (by text where they cannot be compared), so that row order changes nothing."""
    values = _values(column)
    try:
        return values.sort_values()
    except TypeError:
        return pd.Index(sorted(values, key=_text_and_type), dtype=object, tupleize_cols=False)


def _text_and_type(value: Any) -> tuple[str, str]:
    return str(value), type(value).__name__


def _codes(column: pd.Series, categories: pd.Index) -> npt.NDArray[np.int64]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        of_category = key_positions(categories, column.cat.categories)
        codes = column.cat.codes.to_numpy()
        return np.where(codes >= 0, of_category[codes] if len(of_category) else -1, -1)
    codes = key_positions(categories, pd.Index(column))
    codes[column.isna().to_numpy()] = -1
    return codes
