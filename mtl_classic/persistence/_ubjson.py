"""Universal Binary JSON in the one way in which XGBoost writes it; arrays of one type stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, error
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Span", "joined", "read_ubjson"]

_DEPTH = 16  # XGBoost's models have 8
_LENGTH = Struct(">q")
_HEAD = Struct(">BBq")  # "#L" and the length of an array
_FORMS = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_NUMBERS = {ord(sign): Struct(form) for sign, form in _FORMS.items()}
_DTYPES = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_OPEN, _CLOSE, _LIST, _TEXT, _LONG, _TYPE, _SIZE = (ord(sign) for sign in "{}[SL$#")


class Span(NamedTuple):
    """An array of one type in the data: the letter of the type, how many items, and where they begin and end."""

    kind: str
    size: int
    start: int
    end: int


def read_ubjson(data: bytes) -> Any:
    """The one value that the data is.

    Objects are dicts with keys of bytes, none twice; texts are bytes, numbers int or float, arrays of one type spans.

    Raises
    ------
    ValueError
        If the data is anything else. Cost: one step for each value, none for the items of an array of one type.
    """
    try:
        value, at = _value(data, 0, 0)
    except (IndexError, KeyError, error) as wrong:
        raise ValueError(f"no value where one should be: {wrong}") from None
    if at != len(data):
        raise ValueError("bytes after the end")
    return value


def joined(data: bytes, spans: Sequence[Span], kind: str) -> npt.NDArray[Any]:
    """The items of some arrays one after the other, in this machine's order of bytes."""
    if any(span.kind != kind for span in spans):
        raise ValueError("an array of another type")
    parts = b"".join([data[span.start : span.end] for span in spans])
    return np.frombuffer(parts, _DTYPES[kind]).astype(np.dtype(_DTYPES[kind]).newbyteorder("="))


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    sign = data[at]
    if sign == _LIST:
        return _typed(data, at + 1) if data[at + 1] == _TYPE else _list(data, at + 1, depth + 1)
    if sign == _TEXT:
        return _text(data, at + 1)
    if sign == _OPEN:
        return _object(data, at + 1, depth + 1)
    number = _NUMBERS[sign]
    return number.unpack_from(data, at + 1)[0], at + 1 + number.size


def _object(data: bytes, at: int, depth: int) -> tuple[dict[bytes, Any], int]:
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    found: dict[bytes, Any] = {}
    n_read = 0
    while data[at] != _CLOSE:
        key, at = _text(data, at)
        found[key], at = _value(data, at, depth)
        n_read += 1
    if len(found) != n_read:
        raise ValueError("a key that comes twice")
    return found, at + 1


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    sign, long, size = _HEAD.unpack_from(data, at)
    if sign != _SIZE or long != _LONG or depth > _DEPTH:
        raise ValueError("a list without a length, or nested too deeply")
    at += _HEAD.size
    if not 0 <= size <= len(data) - at:
        raise ValueError("a list that does not end")
    items = []
    for _ in range(size):
        item, at = _value(data, at, depth)
        items.append(item)
    return items, at


def _typed(data: bytes, at: int) -> tuple[Span, int]:
    sign, long, size = _HEAD.unpack_from(data, at + 2)
    start = at + 2 + _HEAD.size
    end = start + size * _NUMBERS[data[at + 1]].size
    if sign != _SIZE or long != _LONG or not start <= end <= len(data):
        raise ValueError("an array that does not end")
    return Span(chr(data[at + 1]), size, start, end), end


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    if data[at] != _LONG:
        raise ValueError("no length where one should be")
    start = at + 9
    end = start + _LENGTH.unpack_from(data, at + 1)[0]
    if not start <= end <= len(data):
        raise ValueError("a text that does not end")
    return data[start:end], end
