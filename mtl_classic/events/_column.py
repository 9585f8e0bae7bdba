"""One column of an event log: a read-only array, of numbers or of integer codes into distinct values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import are_of_other_kinds, key_kind

_LARGEST_EXACT = 2**53  # beyond it neighbouring integers are the same float
_NUMERIC = frozenset(("integer", "floating", "mixed-integer-float", "decimal", "boolean"))  # of infer_dtype


@dataclass(frozen=True)
class Column:
    """A column: numbers as they are, or codes (-1 = missing) into distinct values."""

    data: npt.NDArray[Any]
    values: npt.NDArray[Any] | None = None

    def decode(self) -> npt.NDArray[Any]:
        if self.values is None:
            return self.data
        padded = np.append(self.values, np.array([None], dtype=object))  # the code -1 takes the last: missing
        return cast("npt.NDArray[Any]", padded[self.data])

    def encode(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        if self.values is None:
            codes, values = pd.factorize(self.data)
            return codes.astype(np.int64, copy=False), values
        return self.data.astype(np.int64), self.values

    def fingerprint(self) -> bytes:
        if self.values is None:
            return self.data.dtype.str.encode() + np.ascontiguousarray(self.data).tobytes()
        hashes = pd.util.hash_array(self.values) if len(self.values) else np.zeros(0, np.uint64)
        return cast(bytes, np.append(hashes, np.uint64(0))[self.data].tobytes())


def as_column(series: pd.Series[Any], name: str, amount: bool) -> Column:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = np.asarray(series.cat.categories, dtype=object)
        return Column(series.cat.codes.to_numpy().astype(np.int32), values)
    if isinstance(dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    numbers = _as_numbers(series, amount)
    if numbers is not None:
        return Column(numbers)
    try:
        codes, distinct = pd.factorize(series)
    except TypeError as error:
        raise TypeError(
            f"column {name!r} of the event log holds values that cannot be compared: {error}; leave it out."
        ) from error
    return Column(codes.astype(np.int32), np.asarray(distinct, dtype=object))


def _as_numbers(series: pd.Series[Any], amount: bool) -> npt.NDArray[Any] | None:
    """The column as a plain array, or None where it must be coded: texts, and integers that have missing values."""
    dtype = series.dtype
    if amount and pd.api.types.is_object_dtype(dtype):
        if not _are_numbers(series.to_numpy()) and series.notna().any():  # none of a day on which nobody bought
            return None
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if isinstance(dtype, np.dtype):
        return series.to_numpy() if dtype.kind in "biufmM" else None
    if not pd.api.types.is_numeric_dtype(dtype):
        return None
    if amount or pd.api.types.is_float_dtype(dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return None if series.isna().any() else np.asarray(series.to_numpy())


def joined_column(
    old: Column, new: Column, known: pd.Index[Any] | None, amount: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Data of both and their distinct values: old codes stay, new values come at the end.

    `known` are the distinct values of the old column, as an index. An amount stays a number, to 16 digits.
    """
    old, new = _typed_like(old, new), _typed_like(new, old)
    if old.values is None and new.values is None and (amount or _fit_one_array(old.data, new.data)):
        return old.data, new.data, None
    codes, values = _coded(old)
    tail, found = _coded(new)
    if known is None:  # numbers until now, which have gaps from now on
        known = pd.Index(values)
    place = known.get_indexer(pd.Index(found)).astype(np.int32)
    unknown = np.flatnonzero(place < 0)
    place[unknown] = len(values) + np.arange(len(unknown), dtype=np.int32)
    tail = np.append(place, np.int32(-1))[tail]  # the code -1, missing, takes the last
    return codes, tail, np.concatenate([values, found[unknown]]) if len(unknown) else values


def _typed_like(column: Column, other: Column) -> Column:
    """A column without any value beside one of floats, dates or durations: missing ones of its type."""
    dtype = other.data.dtype
    if other.values is not None or dtype.kind not in "fmM" or column.data.dtype == dtype or not _is_void(column):
        return column
    return Column(np.full(len(column.data), np.nan if dtype.kind == "f" else "NaT", dtype=dtype))


def _fit_one_array(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bool:
    """Whether one type holds the values of both, and ids that differ still do: floats count to 2 ** 53 only."""
    kinds = {old.dtype.kind, new.dtype.kind}
    if kinds & set("mM"):
        return len(kinds) == 1
    if np.result_type(old, new).kind != "f":
        return True
    whole = [part for part in (old, new) if part.dtype.kind in "iu" and len(part)]
    return all(max(int(part.max()), -int(part.min())) <= _LARGEST_EXACT for part in whole)


def _coded(column: Column) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Codes and the distinct values that they number: its own, if the column has them."""
    if column.values is not None:
        return column.data, column.values
    codes, distinct = pd.factorize(column.data)
    return codes.astype(np.int32), np.asarray(pd.Series(distinct).astype(object), dtype=object)


def check_same_kind(old: Column, new: Column, name: str) -> None:
    """Refuse text in place of numbers, or the other way: keys would match nothing, values could not be read."""
    kinds = _held_kind(old), _held_kind(new)
    if "text" in kinds and are_of_other_kinds(*kinds) and not _is_void(old) and not _is_void(new):
        raise TypeError(
            f"the column {name!r} of the log holds {kinds[0]}, that of the events appended {kinds[1]}; convert one."
        )


def _held_kind(column: Column) -> str:
    return key_kind(pd.Index(column.data[:1] if column.values is None else column.values))  # one tells those of a type


def _is_void(column: Column) -> bool:
    """Whether all values are missing."""
    return bool((pd.isna(column.data) if column.values is None else column.data < 0).all())


def check_amounts(column: Column, name: str) -> None:
    if not len(column.data):  # an empty frame has no types yet
        return
    if column.values is not None or column.data.dtype.kind not in "biuf":
        raise TypeError(
            f"the value column {name!r} of the event log must hold numbers; convert it, e.g. by pd.to_numeric."
        )
    if column.data.dtype.kind == "f" and np.isinf(column.data).any():
        count = int(np.isinf(column.data).sum())
        raise ValueError(f"the value column {name!r} holds {count} infinite values; replace them by numbers or NaN.")


def as_numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Values as they are if they are an array of numbers or flags, else as float64; None if they are neither."""
    return values if values.dtype.kind in "biuf" else as_floats(values)


def as_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """Values as float64, NaN where missing; None if they are no numbers or flags."""
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    if values.dtype.kind != "O" or not _are_numbers(values):
        return None
    return np.asarray(pd.Series(values).astype(np.float64))


def _are_numbers(objects: Any) -> bool:
    """Whether objects are numbers or flags of Python, decimals among them, as drivers of databases give them."""
    kind = pd.api.types.infer_dtype(objects, skipna=True)
    if kind != "mixed":
        return kind in _NUMERIC
    return all(isinstance(value, Real | Decimal) for value in objects[~pd.isna(objects)])
