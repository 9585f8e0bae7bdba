"""The parts of a file: arrays as npy, texts as UTF-8, bytes as they are."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._integers import widened

__all__ = [
    "array_from_bytes", "array_of", "array_to_bytes", "check_dtype", "dtype_from_json", "dtype_to_json", "integers_of",
    "mapped_array",
]  # fmt: skip

_KINDS = "biufcmMSU"
_MAX_HEADER = 10_000
_MAX_EMPTY = 1_000_000
# Headers as numpy writes them: reading them as Python, as numpy does, takes longer than most arrays.
_PLAIN = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': ('[^']{1,20}'|\[[^\]]{1,5000}\]), 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]{0,300})\), \} *\n",
    re.DOTALL,
)
_FIELD = re.compile(r"\('(\w{0,100})', '([^']{1,20})'\)")


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
    return _dtype_of(tuple(map(tuple, value)) if isinstance(value, list) else value)


@lru_cache(maxsize=1000)  # the nodes of a forest have one dtype, in a thousand places
def _dtype_of(value: Any) -> np.dtype[Any]:
    if isinstance(value, tuple):
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
    dtype, shape, is_fortran, start = read_header(data)
    return array_of(memoryview(data)[start:], dtype, shape, is_fortran)


def mapped_array(path: Path, offset: int, size: int, head: bytes) -> np.ndarray[Any, Any]:
    """The array of a npy file that lies uncompressed in another; what is written to it stays in memory."""
    dtype, shape, is_fortran, start = read_header(head)
    _check_length(size - start, dtype, shape)
    return np.memmap(path, dtype, "c", offset + start, shape, "F" if is_fortran else "C")


def read_header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Dtype, shape, order, and where the numbers begin."""
    plain = _PLAIN.match(data)
    if plain is not None and plain.end() == 10 + int.from_bytes(plain[1], "little"):  # what numpy writes of numbers
        shape = tuple(int(length) for length in plain[4].split(b",") if length.strip())
        return _dtype_named(plain[2].decode()), shape, plain[3] == b"True", plain.end()
    buffer = io.BytesIO(data)
    version = np.lib.format.read_magic(buffer)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ModelFileError(f"An array is of the npy version {version}, which is not known.")
    shape, is_fortran, dtype = readers[version](buffer, max_header_size=_MAX_HEADER)
    return check_dtype(dtype), shape, is_fortran, buffer.tell()


@lru_cache(maxsize=1000)
def _dtype_named(text: str) -> np.dtype[Any]:
    """The dtype of a header: ``'<f8'``, or a list of names and dtypes."""
    if not text.startswith("["):
        return dtype_from_json(text[1:-1])
    fields = _FIELD.findall(text)
    if not fields or text != "[" + ", ".join(f"('{name}', '{kind}')" for name, kind in fields) + "]":
        raise ModelFileError(f"An array has a dtype that is not read here: {text:.60}.")
    return dtype_from_json(fields)


def array_of(data: bytes | memoryview, dtype: np.dtype[Any], shape: Any, is_fortran: bool) -> np.ndarray[Any, Any]:
    """A writable array of raw bytes."""
    shape = tuple(shape)
    _check_length(len(data), dtype, shape)
    array = np.empty(shape, dtype=dtype, order="F" if is_fortran else "C")
    if data:
        flat = array.reshape(-1, order="F" if is_fortran else "C")
        flat[:] = np.frombuffer(data, dtype=dtype)
    return array


def integers_of(
    data: bytes | memoryview, told: Mapping[str, Any], dtype: np.dtype[Any], is_fortran: bool
) -> np.ndarray[Any, Any]:
    """A writable array of whole numbers that were narrowed."""
    packed, shape = np.dtype(f"<{told['as']}"), tuple(told["shape"])
    _check_length(len(data), packed, shape)
    array = np.empty(shape, dtype=dtype, order="F" if is_fortran else "C")
    widened(np.frombuffer(data, dtype=packed), told, array.reshape(-1, order="F" if is_fortran else "C"))
    return array


def _check_length(n_bytes: int, dtype: np.dtype[Any], shape: tuple[Any, ...]) -> None:
    if not all(type(length) is int and length >= 0 for length in shape) or len(shape) > 32:
        raise ModelFileError(f"An array has the shape {shape!r}.")
    size = math.prod(shape)
    if size * dtype.itemsize != n_bytes or (dtype.itemsize == 0 and size > _MAX_EMPTY):
        raise ModelFileError(f"An array of {dtype} and shape {shape} has {n_bytes} bytes.")
