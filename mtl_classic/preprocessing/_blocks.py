"""How one field becomes columns: a slot per value, hashed slots, or a scaled number with an indicator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from numbers import Real

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.time import is_datetime, to_time
from mtl_classic.preprocessing._vocabulary import Vocabulary

__all__ = ["Hashed", "Number", "OneHot", "is_number"]

Ints = npt.NDArray[np.int64]
NANOSECONDS_PER_DAY = 86_400_000_000_000
LARGEST = 1e30  # statistics of them, and single precision, stay finite
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
DATED = ("datetime", "datetime64", "date", "timedelta", "timedelta64", "period")


@dataclass
class OneHot:
    """A column per frequent value; slot 0 of the field is "other"."""

    vocabulary: Vocabulary
    min_count: int
    counts: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    slot_of: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # by code; 0 = other
    kind: str = "onehot"

    def copy(self) -> OneHot:
        """One that learns on its own; what it knows so far is shared."""
        return replace(self, vocabulary=Vocabulary(self.vocabulary.values))

    def count(self, codes: Ints) -> None:
        """Count rows per code."""
        new = np.bincount(codes, minlength=len(self.vocabulary))
        self.counts = new + _padded(self.counts, len(new))

    def promote(self, first: int) -> int:
        """Give slots to the values that have become frequent, from ``first`` on; return how many."""
        self.slot_of = _padded(self.slot_of, len(self.counts))
        ready = np.flatnonzero((self.counts >= self.min_count) & (self.slot_of == 0))
        self.slot_of[ready] = np.arange(first, first + len(ready))
        return len(ready)

    def codes(self, column: pd.Series) -> Ints:
        return self.vocabulary.codes(column)

    def slots(self, codes: Ints) -> Ints:
        """Slots of codes; the code -1 of an unseen value takes the zero appended last."""
        return np.append(self.slot_of, 0)[codes]

    def names(self, name: str) -> list[str]:
        values = ["(missing)", *map(str, self.vocabulary.values)]
        by_slot = {int(self.slot_of[code]): values[code] for code in np.flatnonzero(self.slot_of)}
        return [f"{name}=(other)", *(f"{name}={by_slot[slot]}" for slot in sorted(by_slot))]


@dataclass
class Hashed:
    """``n_hash`` columns that values share; slot 0 of the field is for missing values."""

    n_hash: int
    kind: str = "hashed"

    def codes(self, column: pd.Series) -> Ints:
        """Slots of all rows: 1 + hash mod n_hash, equal for equal values whatever the dtype that holds them."""
        distinct, values = pd.factorize(column)
        hashes = pd.util.hash_array(np.asarray(_canonical(pd.Index(values)), dtype=object), categorize=False)
        return np.append((hashes % np.uint64(self.n_hash)).astype(np.int64) + 1, 0)[distinct]

    def slots(self, codes: Ints) -> Ints:
        return codes

    def names(self, name: str) -> list[str]:
        return [f"{name}=(other)", *(f"{name}#{bucket}" for bucket in range(self.n_hash))]


@dataclass
class Number:
    """A scaled column and an indicator of missing values; where nothing was known, all values are missing."""

    mean: float
    deviation: float
    clip: float | None
    kind: str = "number"
    dated: bool | None = None  # whether there were dates; None where nothing was known

    @property
    def is_known(self) -> bool:
        """Whether there was any value to learn from."""
        return self.dated is not None

    @classmethod
    def learn(cls, column: pd.Series, scale: str | None, clip: float | None) -> Number:
        column = _typed(column)
        values, _ = as_numbers(column)
        known = values[~np.isnan(values)]
        dated = _is_dated(column) if len(known) else None
        if scale is None or not len(known):
            return cls(0.0, 1.0, clip if scale else None, dated=dated)
        mean, deviation = float(known.mean()), float(known.std())
        rounding = 10 * np.finfo(np.float64).eps * abs(mean)  # what the deviation of a constant may come to
        return cls(mean, deviation if deviation > rounding else 1.0, clip, dated=dated)

    def encode(self, column: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Scaled values, 1 where missing (the indicator's entry), and the mask of missing rows."""
        column = _typed(column)
        values, missing = as_numbers(column)
        if self.dated not in (None, _is_dated(column)) and not missing.all():
            held, holds = ("dates", "numbers") if self.dated else ("numbers", "dates")
            raise TypeError(f"{column.name!r} held {held} when it was learnt; it holds {holds} now.")
        if not self.is_known:
            return np.ones(len(values)), np.ones(len(values), dtype=bool)
        scaled = (values - self.mean) / self.deviation
        if self.clip is not None:
            scaled = np.clip(scaled, -self.clip, self.clip)
        return np.where(missing, 1.0, scaled), missing

    def names(self, name: str) -> list[str]:
        return [name, f"{name}=(missing)"]


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers, dates or durations, as objects too; booleans are categories."""
    if column.dtype == object:
        return _holds_numbers(column) or _is_dated(column)
    dtype = column.dtype
    numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    return numeric or _is_dated(column)


def _holds_numbers(column: pd.Series) -> bool:
    """Whether objects are numbers of Python, decimals among them, as drivers of databases give them."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if not kind.startswith("mixed") or kind in NUMBERS:
        return kind in NUMBERS
    return all(isinstance(value, Real | Decimal) and not isinstance(value, bool) for value in column.dropna())


def _is_dated(column: pd.Series) -> bool:
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) in DATED
    return is_datetime(column.dtype) or column.dtype.kind == "m" or isinstance(column.dtype, pd.PeriodDtype)


def as_numbers(column: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """A column as float64 (days for dates and durations), none beyond ±`LARGEST`, and which rows are missing."""
    column = _typed(column)
    if not is_number(column):
        raise TypeError(f"{column.name!r} held numbers or dates when it was learnt; it holds {column.dtype} now.")
    missing = column.isna().to_numpy()
    if column.dtype.kind == "m":
        days = column.to_numpy(dtype="timedelta64[ns]").astype(np.int64) / NANOSECONDS_PER_DAY
        return np.where(missing, np.nan, days), missing
    if not is_datetime(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(numbers).any():  # of objects: others are checked at the door
            raise ValueError(f"Infinite values in the column {column.name!r}; expected finite numbers, or NaN.")
        return np.clip(numbers, -LARGEST, LARGEST), missing
    values = np.full(len(column), np.nan)
    values[~missing] = to_time(column[~missing], str(column.name)) / NANOSECONDS_PER_DAY
    return values, missing


def _typed(column: pd.Series) -> pd.Series:
    """A column of objects as what they are, such as a single row of mixed columns; periods as their beginnings."""
    if column.dtype == object:
        if column.isna().all():
            return pd.Series(np.nan, column.index, name=column.name)
        column = column.where(column.notna(), None).infer_objects()  # NA would keep it one of objects
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.dt.to_timestamp()
    return pd.to_datetime(column, utc=True) if column.dtype == object and _is_dated(column) else column


def _canonical(values: pd.Index) -> list[str]:
    """Values as text that is equal for equal values: 3 and 3.0 are one value."""
    if values.dtype.kind == "f":
        return [str(int(v)) if v.is_integer() else str(v) for v in values.tolist()]
    return [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values.tolist()]


def _padded(values: Ints, length: int) -> Ints:
    return np.concatenate([values, np.zeros(length - len(values), dtype=np.int64)])
