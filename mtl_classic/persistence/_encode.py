"""From an object to JSON and arrays.

A value is a JSON scalar, or the text ``"@i"``: the i-th node of a flat list; texts that begin so have one @ more. A
node names only nodes before it, so that reading is one loop, and an object that two others hold is one node. Whatever
is not known here, or not of a class of `_classes`, is refused with the path that leads to it.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic.events import EventLog
from mtl_classic.events._column import Column
from mtl_classic.persistence._archive import hardly_compresses
from mtl_classic.persistence._classes import name_of_class
from mtl_classic.persistence._integers import narrow
from mtl_classic.persistence._members import array_to_bytes, dtype_to_json
from mtl_classic.persistence._states import to_state
from mtl_classic.persistence._write_pandas import (
    Node,
    write_dtype,
    write_frame,
    write_index,
    write_interval,
    write_period,
    write_series,
    write_timedelta,
    write_timestamp,
)

__all__ = ["DENSE_ARRAYS", "SCALAR_TYPES", "SMALL_ARRAYS", "Encoder"]

MAX_DEPTH = 100
SHORT_TEXT = 2000  # characters
SMALL_ARRAY = 2**16  # bytes; smaller ones share a member, for a forest has thousands
SMALL_ARRAYS = "arrays/small.bin"
DENSE_ARRAYS = "arrays/dense.bin"  # those that do not compress, apart from those that do
_WORTH_A_LOOK = 1024  # bytes of an array
_DENSE_BELOW = 1.3  # what compresses less is dense; most of it was narrowed before
SCALAR_TYPES: dict[str, type] = {
    **{f"numpy.{name}": getattr(np, name) for name in (
        "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
        "float64", "complex64", "complex128", "str_", "bytes_", "object_", "datetime64", "timedelta64",
    )},
    **{f"builtins.{kind.__name__}": kind for kind in (bool, int, float, complex, str, bytes, object)},
}  # fmt: skip
_NAME_OF_TYPE = {kind: name for name, kind in SCALAR_TYPES.items()}
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
SPARSE = ("csr_matrix", "csc_matrix", "csr_array", "csc_array")


class Encoder:
    """Turns values into nodes and members.

    Parameters
    ----------
    keep_events : bool
        Whether event logs are kept with their events, or empty.
    narrows : bool, default=True
        Whether whole numbers are kept in fewer bytes; without, arrays can be read where they lie.

    Attributes
    ----------
    nodes : list of dict
    members : dict of name to bytes
    small, dense : bytearray, the small arrays one after the other
    classes : set of str
    logs : list of EventLog, those that were met
    """

    def __init__(self, *, keep_events: bool, narrows: bool = True) -> None:
        self.keep_events = keep_events
        self.narrows = narrows
        self.nodes: list[Node] = []
        self.members: dict[str, bytes] = {}
        self.small, self.dense = bytearray(), bytearray()
        self.classes: set[str] = set()
        self.logs: list[EventLog] = []
        self._memo: dict[int, int] = {}
        self._alive: list[Any] = []  # as long as an object lives, no other gets its id
        self._open: set[int] = set()
        self._path: list[str] = []

    def value(self, value: Any, where: str) -> Any:
        """A JSON scalar, or the reference to a node."""
        kind = type(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float and np.isfinite(value):
            return value
        if kind is str and len(value) <= SHORT_TEXT:
            return f"@{value}" if value.startswith("@") else value
        if id(value) not in self._memo:
            self._add(value, where)
        return f"@{self._memo[id(value)]}"

    def _add(self, value: Any, where: str) -> None:
        self._path.append(where)
        if id(value) in self._open:
            raise TypeError(f"{self._where()} holds itself; objects in a circle cannot be saved.")
        if len(self._path) > MAX_DEPTH:
            raise TypeError(f"{self._where()} lies more than {MAX_DEPTH} levels deep; such objects are not saved.")
        self._open.add(id(value))
        node = self._node(value)
        self._open.remove(id(value))
        self._path.pop()
        self._memo[id(value)] = len(self.nodes)
        self._alive.append(value)
        self.nodes.append(node)

    def _where(self) -> str:
        return "".join(self._path)

    def _node(self, value: Any) -> Node:
        write = _EXACT.get(type(value))
        if write is None:
            write = next((write for kind, write in _INSTANCES if isinstance(value, kind)), None)
        if write is None and (value is pd.NA or value is pd.NaT):
            return {"t": "missing", "v": "NaT" if value is pd.NaT else "NA"}
        return self._object(value) if write is None else write(self, value)

    def _object(self, value: Any) -> Node:
        name = name_of_class(type(value))
        if name is None:
            raise TypeError(
                f"{self._where()} is a {type(value).__module__}.{type(value).__qualname__}, which is not saved: model "
                f"files hold the estimators of mtl_classic, common ones of scikit-learn, numbers, texts, arrays and "
                f"pandas objects, and no functions. Replace it, or leave it out."
            )
        self.classes.add(name)
        if isinstance(value, EventLog):
            self.logs.append(value)
            value = value if self.keep_events else without_events(value)
        try:
            state = to_state(value, name)
        except TypeError as error:
            raise TypeError(f"{self._where()}: {error}.") from None
        return {"t": "object", "c": name, "s": {key: self.value(item, f".{key}") for key, item in state.items()}}

    def finish(self) -> dict[str, bytes]:
        """All members."""
        shared = {SMALL_ARRAYS: self.small, DENSE_ARRAYS: self.dense}
        return self.members | {name: bytes(data) for name, data in shared.items() if data}

    def member(self, folder: str, ending: str, data: bytes) -> str:
        """A new member, named by its number."""
        name = f"{folder}/{len(self.members)}.{ending}"
        self.members[name] = data
        return name

    def place(self, flat: np.ndarray[Any, Any]) -> Node:
        """Where a small array begins, and among which others."""
        data = flat.tobytes()
        is_dense = len(data) >= _WORTH_A_LOOK and hardly_compresses(data, _DENSE_BELOW)
        room = self.dense if is_dense else self.small
        start = len(room)
        room += data
        return {"at": start} | ({"dense": True} if is_dense else {})

    def items(self, values: Any) -> list[Any]:
        """Values of a sequence."""
        return [self.value(item, f"[{k}]") for k, item in enumerate(values)]


def without_events(log: EventLog) -> EventLog:
    """The log with its columns, roles and last time, and neither events nor the distinct values that they had."""
    empty = log._slice(slice(0))
    empty._left_out_to = log.last_time if log._left_out_to is None else log._left_out_to
    empty._columns = {
        name: Column(column.data, None if column.values is None else column.values[:0])
        for name, column in empty._columns.items()
    }
    return empty


def _sequence(kind: str) -> Callable[[Encoder, Any], Node]:
    return lambda encoder, value: {"t": kind, "v": encoder.items(value)}


def _set(encoder: Encoder, value: Any) -> Node:
    ordered = sorted(value, key=lambda item: (str(type(item)), repr(item)))  # so that equal models give equal files
    return {"t": type(value).__name__, "v": encoder.items(ordered)}


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Node:
    pairs = []
    for key, item in value.items():
        where = f"[{key!r:.40}]"
        pairs.append([encoder.value(key, where), encoder.value(item, where)])
    return {"t": "dict", "v": pairs}


def _text(encoder: Encoder, value: str) -> Node:
    return {"t": "text", "m": encoder.member("texts", "txt", value.encode("utf-8", "surrogatepass"))}


def _bytes(encoder: Encoder, value: bytes) -> Node:
    return {"t": "bytes", "m": encoder.member("bytes", "bin", value)}


def _float(encoder: Encoder, value: float) -> Node:
    return {"t": "float", "v": repr(value)}


def _complex(encoder: Encoder, value: complex) -> Node:
    return {"t": "complex", "v": [encoder.value(value.real, ".real"), encoder.value(value.imag, ".imag")]}


def _slice(encoder: Encoder, value: Any) -> Node:
    parts = (value.start, value.stop, value.step)
    return {"t": type(value).__name__, "v": encoder.items(parts)}


def _array(encoder: Encoder, value: np.ndarray[Any, Any]) -> Node:
    if type(value) not in (np.ndarray, np.memmap):
        raise TypeError(f"{encoder._where()} is a {type(value).__name__}; of arrays only numpy.ndarray is saved.")
    frozen = {} if value.flags.writeable else {"frozen": True}
    if value.dtype == object:
        return {"t": "objects", "shape": list(value.shape), "v": encoder.items(value.ravel())} | frozen
    is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    flat = value.ravel("F" if is_fortran else "C")
    narrowed = narrow(flat) if encoder.narrows else None
    if narrowed is None and value.nbytes > SMALL_ARRAY:
        return {"t": "array", "m": encoder.member("arrays", "npy", array_to_bytes(value))} | frozen
    order = {"fortran": True} if is_fortran else {}
    told = {"d": dtype_to_json(value.dtype), "shape": list(value.shape)} | order | frozen
    if narrowed is None:
        return {"t": "small"} | encoder.place(flat) | told
    packed, how = narrowed
    if packed.nbytes <= SMALL_ARRAY:
        return {"t": "integers"} | encoder.place(packed) | how | told
    return {"t": "integers", "m": encoder.member("arrays", "bin", packed.tobytes())} | how | told


def _masked_array(encoder: Encoder, value: Any) -> Node:
    """Search results of scikit-learn: parameters that a candidate does not have are masked."""
    parts = [encoder.value(np.asarray(value.data), ".data"), encoder.value(np.ma.getmaskarray(value), ".mask")]
    return {"t": "masked_array", "v": parts}


def _numpy_scalar(encoder: Encoder, value: np.generic) -> Node:
    array = np.asarray(value)
    return {"t": "scalar", "d": dtype_to_json(array.dtype), "v": base64.b64encode(array.tobytes()).decode()}


def _sparse(encoder: Encoder, value: Any) -> Node:
    name = type(value).__name__
    if name not in SPARSE:
        raise TypeError(f"{encoder._where()} is a {name}; of sparse matrices {', '.join(SPARSE)} are saved.")
    parts = [encoder.value(getattr(value, part), f".{part}") for part in ("data", "indices", "indptr")]
    return {"t": "sparse", "c": name, "shape": [int(n) for n in value.shape], "v": parts}


def _dtype(encoder: Encoder, value: np.dtype[Any]) -> Node:
    return {"t": "dtype", "v": "O" if value.hasobject else dtype_to_json(value)}


def _type(encoder: Encoder, value: type) -> Node:
    if value not in _NAME_OF_TYPE:
        raise TypeError(
            f"{encoder._where()} is the type {value.__qualname__}; of types only those of numbers are saved."
        )
    return {"t": "type", "v": _NAME_OF_TYPE[value]}


def _random_state(encoder: Encoder, value: np.random.RandomState) -> Node:
    return {"t": "random_state", "v": encoder.value(value.get_state(legacy=False), ".state")}


def _generator(encoder: Encoder, value: np.random.Generator) -> Node:
    state = value.bit_generator.state
    if state["bit_generator"] not in BIT_GENERATORS:
        raise TypeError(f"{encoder._where()} draws from {state['bit_generator']}, which is not known.")
    return {"t": "generator", "v": encoder.value(state, ".state")}


def _duration(encoder: Encoder, value: dt.timedelta) -> Node:
    return {"t": "duration", "v": [value.days, value.seconds, value.microseconds]}


def _decimal(encoder: Encoder, value: Decimal) -> Node:
    return {"t": "decimal", "v": str(value)}


def _date(encoder: Encoder, value: dt.date) -> Node:
    if getattr(value, "tzinfo", None) is not None:
        raise TypeError(f"{encoder._where()} is a datetime with a zone; a pandas Timestamp can be saved.")
    return {"t": type(value).__name__, "v": value.isoformat()}


_EXACT: dict[type, Callable[[Encoder, Any], Node]] = {
    list: _sequence("list"),
    tuple: _sequence("tuple"),
    set: _set,
    frozenset: _set,
    dict: _dict,
    str: _text,
    bytes: _bytes,
    float: _float,
    complex: _complex,
    slice: _slice,
    range: _slice,
    pd.Timestamp: write_timestamp,
    pd.Timedelta: write_timedelta,
    pd.Interval: write_interval,
    pd.Period: write_period,
    dt.timedelta: _duration,
    dt.datetime: _date,
    dt.date: _date,
    Decimal: _decimal,
    np.random.RandomState: _random_state,
    np.random.Generator: _generator,
    pd.Series: write_series,
    pd.DataFrame: write_frame,
}
_INSTANCES: tuple[tuple[type, Callable[[Encoder, Any], Node]], ...] = (
    (np.ma.MaskedArray, _masked_array),
    (np.ndarray, _array),
    (np.generic, _numpy_scalar),
    (np.dtype, _dtype),
    (type, _type),
    (pd.Index, write_index),
    (pd.api.extensions.ExtensionDtype, write_dtype),
    (sparse.spmatrix, _sparse),
    (sparse.sparray, _sparse),
)
