"""Ids and categories: text never matches a number, though it look like it, so that one for the other is refused."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import LostDigitsWarning

__all__ = [
    "KeyCodes", "are_of_other_kinds", "join_keys", "key_kind", "key_positions", "listed_ids", "refuse_other_kind",
    "value_kind", "warn_of_lost_digits",
]  # fmt: skip

_EXACT = 2.0**53  # from here on neighbouring integers are the same float

_EXACT_OF_BYTES = {2: 2.0**11, 4: 2.0**24}  # the same of smaller floats

_KINDS = {
    "string": "text", "integer": "numbers", "floating": "numbers", "mixed-integer-float": "numbers",
    "boolean": "truth values", "datetime64": "dates", "datetime": "dates", "date": "dates",
    "timedelta64": "durations", "timedelta": "durations",
}  # fmt: skip
_TYPES: tuple[tuple[str, Any], ...] = (
    ("text", str),
    ("truth values", bool | np.bool_),
    ("dates", dt.date | np.datetime64),
    ("durations", dt.timedelta | np.timedelta64),
    ("numbers", int | float | np.number),
)


def listed_ids(ids: Iterable[Any]) -> list[Any]:
    """Ids that somebody asks for, one by one; those of an array of Arrow as Python has them: its scalars equal none."""
    return list(ids.to_pylist() if hasattr(ids, "to_pylist") else ids)


def key_kind(values: pd.Index[Any]) -> str:
    """What ids are: "text", "numbers", "truth values", "dates", "durations" or "other"."""
    if not len(values):  # nothing that could differ, whatever its type
        return "other"
    held = values.categories if isinstance(values, pd.CategoricalIndex) else values
    return _KINDS.get(pd.api.types.infer_dtype(held, skipna=True), "other")


def value_kind(value: Any) -> str:
    """The same of one id; missing, it is "other"."""
    if value is pd.NaT or value is pd.NA:
        return "other"
    kind = next((kind for kind, types in _TYPES if isinstance(value, types)), "other")
    return kind if kind == "text" or value == value else "other"


def are_of_other_kinds(kind: str, other: str) -> bool:
    """Whether no value of one kind is ever one of the other."""
    return kind != other and "other" not in (kind, other)


def refuse_other_kind(known: pd.Index[Any], column: pd.Series[Any], is_known: npt.NDArray[np.bool_]) -> None:
    """Refuse text in place of numbers, and the like, where no value is known: all would be unseen for ever.

    Raises
    ------
    TypeError
    """
    if is_known.any() or column.isna().all():
        return
    kinds = key_kind(known), key_kind(pd.Index(column.dropna().unique()))
    if are_of_other_kinds(*kinds):
        raise TypeError(f"{column.name!r} held {kinds[0]} when it was learnt; it holds {kinds[1]} now.")


def key_positions(known: pd.Index[Any], asked: pd.Index[Any]) -> npt.NDArray[np.int64]:
    """Where ids are among the known ones, -1 where they are not; long ones are not compared as floats."""
    known, asked = _of_one_type(known, asked)
    return known.get_indexer(asked).astype(np.int64, copy=False)


def join_keys(known: pd.Index[Any], new: pd.Index[Any]) -> pd.Index[Any]:
    """Known ids, then new ones; long ones stay apart."""
    known, new = _of_one_type(known, new)
    return known.append(new)


def _of_one_type(*indexes: pd.Index[Any]) -> tuple[pd.Index[Any], ...]:
    """Numbers that pandas would compare as floats, as objects where that would mix them up."""
    kinds = {index.dtype.kind for index in indexes}
    if len(kinds) > 1 and kinds <= set("iuf") and any(map(_is_inexact, indexes)):
        return tuple(index.astype(object) for index in indexes)
    return indexes


def _is_inexact(index: pd.Index[Any]) -> bool:
    """Whether integers have gaps, or are too long for floats."""
    if index.dtype.kind == "f":
        return False
    return index.hasnans or bool(np.abs(index.to_numpy(dtype=np.float64)).max(initial=0.0) >= _EXACT)


def warn_of_lost_digits(X: Any, columns: Iterable[str | None], given: Any = None) -> None:
    """Warn of ids that are floats too long to tell neighbours apart, as reading whole numbers with gaps makes them.

    ``given`` is the table as it came, where that may be another: halves are single in X.
    """
    X = given if isinstance(given, pd.DataFrame) else X
    for name in columns:
        if name is None or X[name].dtype.kind != "f":
            continue
        largest, exact = X[name].abs().max(), _EXACT_OF_BYTES.get(X[name].dtype.itemsize, _EXACT)
        if pd.notna(largest) and largest >= exact:
            warnings.warn(
                f"The column {name!r} holds ids as {X[name].dtype}, up to {largest:.17g}: from {exact:.0f} on "
                f"neighbouring whole numbers are the same float, and different ids may have become one. Read them as "
                f'text or as "Int64".',
                LostDigitsWarning,
                stacklevel=4,
            )


class KeyCodes:
    """Codes of the values that a column had, one value at a time.

    Parameters
    ----------
    name : str
    values : Index
        Without missing ones.
    codes : ndarray of int, default=None
        0, 1 … if None.
    """

    def __init__(self, name: str, values: pd.Index[Any], codes: npt.NDArray[np.integer[Any]] | None = None) -> None:
        self.name, self.kind = name, key_kind(values)
        numbers = range(len(values)) if codes is None else codes.tolist()
        self._codes: dict[Any, int] = dict(zip(values.tolist(), numbers, strict=True))

    def get(self, value: Any) -> int | None:
        """The code of a value; None where it is missing or unseen.

        Raises
        ------
        TypeError
            On text in place of numbers, and the like.
        """
        code = self._codes.get(value)
        if code is not None and isinstance(value, bool | np.bool_) == (self.kind == "truth values"):
            return code
        if are_of_other_kinds(value_kind(value), self.kind):  # to Python, True is 1
            raise TypeError(f"{self.name!r} held {self.kind} when it was learnt; the row has {value!r}.")
        return code
