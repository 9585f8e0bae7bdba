"""The parts of a file: arrays as npy, texts as UTF-8, bytes as they are."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from mtl_classic.persistence._errors import ModelFileError

__all__ = ["array_from_bytes", "array_of", "array_to_bytes", "check_dtype", "dtype_from_json", "dtype_to_json"]

_KINDS = "biufcmMSU"
_MAX_HEADER = 10_000
_MAX_EMPTY = 1_000_000


def check_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Only plain numbers, dates and texts of fixed length, and records of them."""
    parts = [field[0] for field in (dtype.fields or {}).values()] if dtype.names else [dtype]
    if dtype.hasobject or any(part.kind not in _KINDS or part.subdtype is not None for part in parts):
        raise ModelFileError(f"Arrays of {dtype} are not kept in model files.")
    return dtype


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Such as ``"<f8"``; for records a list of (name, dtype)."""
    check_dtype(dtype)
    return dtype.str if dtype.names is None else [list(field) for field in np.lib.format.dtype_to_descr(dtype)]


def dtype_from_json(value: Any) -> np.dtype[Any]:
    """The dtype that `dtype_to_json` wrote."""
    if isinstance(value, list):
        fields = [(_text(name), _text(kind)) for name, kind in value]
        return check_dtype(np.lib.format.descr_to_dtype(fields))
    return check_dtype(np.dtype(_text(value)))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 100 or "," in value:
        raise ModelFileError(f"{value!r:.50} is no name of a dtype.")
    return value


def array_to_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """The array as a npy file, in its order of memory."""
    check_dtype(array.dtype)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from_bytes(data: bytes) -> np.ndarray[Any, Any]:
    """The array of a npy file; its header is believed only where the length of the data agrees."""
    buffer = io.BytesIO(data)
    version = np.lib.format.read_magic(buffer)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ModelFileError(f"An array is of the npy version {version}, which is not known.")
    shape, is_fortran, dtype = readers[version](buffer, max_header_size=_MAX_HEADER)
    return array_of(data[buffer.tell() :], check_dtype(dtype), shape, is_fortran)


def array_of(data: bytes, dtype: np.dtype[Any], shape: Any, is_fortran: bool) -> np.ndarray[Any, Any]:
    """A writable array of raw bytes."""
    shape = tuple(shape)
    if not all(type(length) is int and length >= 0 for length in shape) or len(shape) > 32:
        raise ModelFileError(f"An array has the shape {shape!r}.")
    size = math.prod(shape)
    if size * dtype.itemsize != len(data) or (dtype.itemsize == 0 and size > _MAX_EMPTY):
        raise ModelFileError(f"An array of {dtype} and shape {shape} has {len(data)} bytes.")
    array = np.empty(shape, dtype=dtype, order="F" if is_fortran else "C")
    if data:
        flat = array.reshape(-1, order="F" if is_fortran else "C")
        flat[:] = np.frombuffer(data, dtype=dtype)
    return array
