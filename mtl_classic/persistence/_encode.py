"""From an object to JSON and arrays.

A value is a JSON scalar, or the text ``"@i"``: the i-th node of a flat list; texts that begin so have one @ more. A
node names only nodes before it, so that reading is one loop, and an object that two others hold is one node. Whatever
is not known here, or not of a class of `_classes`, is refused with the path that leads to it.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
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

Node = dict[str, Any]


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
    """The log with its columns and roles, and neither events nor the distinct values that they had."""
    empty = log._slice(0)
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


def _timestamp(encoder: Encoder, value: pd.Timestamp) -> Node:
    naive = value if value.tz is None else value.tz_convert("UTC").tz_localize(None)
    zone = None if value.tz is None else zone_name(value.tz, encoder._where())
    return {"t": "timestamp", "v": int(naive.asm8.astype(np.int64)), "unit": value.unit, "zone": zone}


def _timedelta(encoder: Encoder, value: pd.Timedelta) -> Node:
    return {"t": "timedelta", "v": int(value.asm8.astype(np.int64)), "unit": value.unit}


def _duration(encoder: Encoder, value: dt.timedelta) -> Node:
    return {"t": "duration", "v": [value.days, value.seconds, value.microseconds]}


def _date(encoder: Encoder, value: dt.date) -> Node:
    if getattr(value, "tzinfo", None) is not None:
        raise TypeError(f"{encoder._where()} is a datetime with a zone; a pandas Timestamp can be saved.")
    return {"t": type(value).__name__, "v": value.isoformat()}


def zone_name(zone: Any, where: str) -> str:
    """The name of a time zone by which pandas finds it again."""
    name = str(zone)
    try:
        known = pd.Timestamp(0).tz_localize("UTC").tz_convert(name).utcoffset() is not None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise TypeError(f"{where} has the time zone {zone!r}, which has no name; convert to one like 'Europe/Paris'.")
    return name


def _extension_dtype(encoder: Encoder, value: Any) -> Node:
    if isinstance(value, pd.CategoricalDtype):
        categories = None if value.categories is None else value.categories
        return {"t": "categorical", "v": encoder.value(categories, ".categories"), "ordered": bool(value.ordered)}
    if isinstance(value, pd.DatetimeTZDtype):
        return {"t": "zoned", "unit": value.unit, "zone": zone_name(value.tz, encoder._where())}
    if isinstance(value, pd.StringDtype):
        missing = "NA" if value.na_value is pd.NA else "nan"
        return {"t": "string", "storage": value.storage, "missing": missing}
    if isinstance(value, pd.BooleanDtype) or type(value).__module__.startswith("pandas.core.arrays.masked") or (
        hasattr(value, "numpy_dtype") and value.name[0] in "IUF"
    ):  # fmt: skip
        return {"t": "masked", "v": value.name}
    raise TypeError(f"{encoder._where()} has the dtype {value}, which is not saved; convert the column to another one.")


def _index(encoder: Encoder, value: pd.Index[Any]) -> Node:
    if isinstance(value, pd.MultiIndex):
        levels, codes, names = (encoder.items(parts) for parts in (value.levels, value.codes, value.names))
        return {"t": "multi_index", "levels": levels, "codes": codes, "names": names}
    if isinstance(value, pd.IntervalIndex | pd.PeriodIndex):
        raise TypeError(f"{encoder._where()} is a {type(value).__name__}, which is not saved; convert it to texts.")
    if isinstance(value, pd.RangeIndex):
        parts = encoder.items((value.start, value.stop, value.step))
        return {"t": "range_index", "v": parts, "name": encoder.value(value.name, ".name")}
    return {"t": "index", "v": _column(encoder, value), "name": encoder.value(value.name, ".name")}


def _column(encoder: Encoder, values: Any) -> list[Any]:
    """Dtype and an array of what a pandas column holds."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        array: Any = np.asarray(pd.Categorical(values).codes)
    elif isinstance(dtype, pd.DatetimeTZDtype):
        array = np.asarray(pd.DatetimeIndex(values).tz_convert("UTC").tz_localize(None).to_numpy())
    else:
        array = values.to_numpy() if isinstance(dtype, np.dtype) else np.asarray(values, dtype=object)
    return [encoder.value(dtype, ".dtype"), encoder.value(array, ".values")]


def _series(encoder: Encoder, value: pd.Series[Any]) -> Node:
    index, name = encoder.value(value.index, ".index"), encoder.value(value.name, ".name")
    return {"t": "series", "v": _column(encoder, value), "index": index, "name": name}


def _frame(encoder: Encoder, value: pd.DataFrame) -> Node:
    columns = [_column(encoder, value.iloc[:, j]) for j in range(value.shape[1])]
    index, names = encoder.value(value.index, ".index"), encoder.value(value.columns, ".columns")
    return {"t": "frame", "v": columns, "index": index, "columns": names}


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
    pd.Timestamp: _timestamp,
    pd.Timedelta: _timedelta,
    dt.timedelta: _duration,
    dt.datetime: _date,
    dt.date: _date,
    np.random.RandomState: _random_state,
    np.random.Generator: _generator,
    pd.Series: _series,
    pd.DataFrame: _frame,
}
_INSTANCES: tuple[tuple[type, Callable[[Encoder, Any], Node]], ...] = (
    (np.ma.MaskedArray, _masked_array),
    (np.ndarray, _array),
    (np.generic, _numpy_scalar),
    (np.dtype, _dtype),
    (type, _type),
    (pd.Index, _index),
    (pd.api.extensions.ExtensionDtype, _extension_dtype),
    (sparse.spmatrix, _sparse),
    (sparse.sparray, _sparse),
)
