"""From JSON and arrays to an object: one loop over the nodes, each made of those before it."""

from __future__ import annotations

import base64
import datetime as dt
import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic.persistence._archive import Mapped
from mtl_classic.persistence._encode import BIT_GENERATORS, DENSE_ARRAYS, SCALAR_TYPES, SMALL_ARRAYS, SPARSE
from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._integers import WIDTHS
from mtl_classic.persistence._members import array_from_bytes, array_of, dtype_from_json, integers_of, mapped_array
from mtl_classic.persistence._states import from_state
from mtl_classic.persistence._write_pandas import Node

__all__ = ["Decoder"]

_T = TypeVar("_T")
_COPIES = frozenset({"sparse", "multi_index", "intervals", "periods", "index", "series", "frame"})
_MOST_COPIES = 32  # an honest number kept in one byte takes eight, a column of them eight more
_LEAST_ROOM = 2**26  # bytes
_UNITS = ("s", "ms", "us", "ns")
_FLOATS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_MASKED = (
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)), "Float32", "Float64", "boolean",
)  # fmt: skip


class Decoder:
    """Makes values of nodes and members.

    Parameters
    ----------
    members : mapping of name to bytes, or where they lie in the file
    n_bytes : int, default=0
        Of the nodes as text. Values that copy others may not be many times as large as all that was read.
    """

    def __init__(self, members: Mapping[str, bytes | Mapped], n_bytes: int = 0) -> None:
        self._members = members
        self._made: list[Any] = []
        self._unused = set(members)
        sizes = {name: data.size if isinstance(data, Mapped) else len(data) for name, data in members.items()}
        self._left = {name: sizes.get(name, 0) for name in (SMALL_ARRAYS, DENSE_ARRAYS)}
        self._room = _LEAST_ROOM + _MOST_COPIES * (n_bytes + sum(sizes.values()))

    def run(self, nodes: list[Node], root: Any) -> Any:
        """The value of the root, after all nodes are made."""
        if not isinstance(nodes, list):
            raise ModelFileError("The nodes of the file are no list.")
        with _without_collector():
            for node in nodes:
                kind = node["t"]
                if kind not in _READERS:
                    raise ModelFileError(f"The file holds a value of the kind {kind!r}, which is not known.")
                self._made.append(_READERS[kind](self, node))
                if kind in _COPIES:
                    self._make_room(self._made[-1])
        if self._unused:
            raise ModelFileError(f"The file has members that nothing refers to: {', '.join(sorted(self._unused))}.")
        return self.value(root)

    def made_of(self, cls: type[_T]) -> list[_T]:
        """The objects of a class that were made."""
        return [value for value in self._made if isinstance(value, cls)]

    def value(self, value: Any) -> Any:
        """The value of a JSON scalar or a reference."""
        kind = type(value)
        if kind is str:
            if value[:1] != "@":
                return value
            return value[1:] if value[:2] == "@@" else self._referred(value[1:])
        if kind is dict or kind is list:
            raise ModelFileError(f"The file has a {kind.__name__} where a value is expected.")
        return value

    def _referred(self, digits: str) -> Any:
        position = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else len(self._made)
        if position >= len(self._made):
            raise ModelFileError(f"The file refers to a value that is not there: {digits!r:.20}.")
        return self._made[position]

    def items(self, values: Any) -> list[Any]:
        """Values of a list."""
        if not isinstance(values, list):
            raise ModelFileError(f"The file has {values!r:.40} where a list is expected.")
        return [self.value(item) for item in values]

    def member(self, name: Any) -> bytes:
        """The bytes of a member."""
        data = self.anywhere(name)
        if isinstance(data, Mapped):
            raise ModelFileError(f"The member {name!r} is no array.")
        return data

    def anywhere(self, name: Any) -> bytes | Mapped:
        """The bytes of a member, or where they lie; a second time, they would be in memory twice."""
        if name not in self._members:
            raise ModelFileError(f"The member {name!r} is missing.")
        if name not in self._unused:
            raise ModelFileError(f"The member {name!r} is used twice.")
        self._unused.discard(name)
        return self._members[name]

    def part(self, name: str, start: int, size: int) -> memoryview:
        """Some bytes of a member that small arrays share."""
        data = self._members.get(name)
        if not isinstance(data, bytes) or start < 0:
            raise ModelFileError(f"The member {name!r} is missing, or has no byte {start}.")
        self._unused.discard(name)
        self._left[name] -= size
        if self._left[name] < 0:
            raise ModelFileError(f"The member {name!r} is used twice.")
        return memoryview(data)[start : start + size]

    def _make_room(self, made: Any) -> None:
        if isinstance(made, pd.DataFrame):
            size = int(made.memory_usage(index=False).sum())
        elif isinstance(made, pd.MultiIndex):
            size = sum(codes.nbytes for codes in made.codes)
        else:
            size = made.data.nbytes + made.indices.nbytes if sparse.issparse(made) else made.nbytes
        self._room -= size
        if self._room < 0:
            raise ModelFileError("The file says things over and over: it would take far more memory than it has bytes.")


@contextmanager
def _without_collector() -> Iterator[None]:
    """All that is made here stays: Python's collector of garbage would look through it in vain, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _dict(decoder: Decoder, node: Node) -> dict[Any, Any]:
    return {decoder.value(key): decoder.value(item) for key, item in node["v"]}


def _text(decoder: Decoder, node: Node) -> str:
    return decoder.member(node["m"]).decode("utf-8", "surrogatepass")


def _float(decoder: Decoder, node: Node) -> float:
    return _FLOATS[node["v"]]


def _array(decoder: Decoder, node: Node) -> Any:
    data = decoder.anywhere(node["m"])
    if isinstance(data, Mapped):
        return _frozen(mapped_array(data.path, data.offset, data.size, data.head), node)
    return _frozen(array_from_bytes(data), node)


def _small(decoder: Decoder, node: Node) -> Any:
    dtype = dtype_from_json(node["d"])
    raw = _placed(decoder, node, math.prod(node["shape"]) * dtype.itemsize)
    return _frozen(array_of(raw, dtype, node["shape"], bool(node.get("fortran"))), node)


def _placed(decoder: Decoder, node: Node, size: int) -> bytes | memoryview:
    """The bytes of an array among the small ones."""
    if size <= 0:
        return b""
    return decoder.part(DENSE_ARRAYS if node.get("dense") else SMALL_ARRAYS, int(node["at"]), size)


def _integers(decoder: Decoder, node: Node) -> Any:
    if node["as"] not in WIDTHS:
        raise ModelFileError(f"The file holds whole numbers as {node['as']!r:.20}.")
    width = int(node["as"][1:])
    raw = decoder.member(node["m"]) if "m" in node else _placed(decoder, node, math.prod(node["shape"]) * width)
    return _frozen(integers_of(raw, node, dtype_from_json(node["d"]), bool(node.get("fortran"))), node)


def _objects(decoder: Decoder, node: Node) -> Any:
    items = decoder.items(node["v"])
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return _frozen(array.reshape([int(length) for length in node["shape"]]), node)


def _frozen(array: Any, node: Node) -> Any:
    if node.get("frozen"):
        array.flags.writeable = False
    return array


def _masked_array(decoder: Decoder, node: Node) -> Any:
    data, mask = decoder.items(node["v"])
    return np.ma.MaskedArray(data, mask=mask)


def _numpy_scalar(decoder: Decoder, node: Node) -> Any:
    return array_of(base64.b64decode(node["v"], validate=True), dtype_from_json(node["d"]), (1,), False)[0]


def _sparse(decoder: Decoder, node: Node) -> Any:
    if node["c"] not in SPARSE:
        raise ModelFileError(f"The file holds a sparse matrix of the kind {node['c']!r}.")
    matrix = getattr(sparse, node["c"])(tuple(decoder.items(node["v"])), shape=tuple(map(int, node["shape"])))
    matrix.check_format(full_check=True)
    return matrix


def _dtype(decoder: Decoder, node: Node) -> np.dtype[Any]:
    return np.dtype(object) if node["v"] == "O" else dtype_from_json(node["v"])


def _type(decoder: Decoder, node: Node) -> type:
    return SCALAR_TYPES[node["v"]]


def _random_state(decoder: Decoder, node: Node) -> np.random.RandomState:
    state = np.random.RandomState()
    state.set_state(decoder.value(node["v"]))
    return state


def _generator(decoder: Decoder, node: Node) -> np.random.Generator:
    state = decoder.value(node["v"])
    if state["bit_generator"] not in BIT_GENERATORS:
        raise ModelFileError(f"The file draws from {state['bit_generator']!r}, which is not known.")
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    return np.random.Generator(bits)


def _timestamp(decoder: Decoder, node: Node) -> pd.Timestamp:
    stamp = pd.Timestamp(np.datetime64(int(node["v"]), _unit(node)))
    return stamp if node["zone"] is None else stamp.tz_localize("UTC").tz_convert(_zone(node))


def _timedelta(decoder: Decoder, node: Node) -> pd.Timedelta:
    return pd.Timedelta(np.timedelta64(int(node["v"]), _unit(node)))


def _unit(node: Node) -> Any:
    if node["unit"] not in _UNITS:
        raise ModelFileError(f"The file counts time in {node['unit']!r}.")
    return node["unit"]


def _zone(node: Node) -> str:
    """The name of a zone; names are looked up in a folder, so they may not climb out of it."""
    zone = node["zone"]
    if not isinstance(zone, str) or len(zone) > 64 or ".." in zone or zone.startswith(("/", "\\", "dateutil")):
        raise ModelFileError(f"The file has the time zone {zone!r}.")
    return zone


def _missing(decoder: Decoder, node: Node) -> Any:
    return {"NA": pd.NA, "NaT": pd.NaT}[node["v"]]


def _categorical(decoder: Decoder, node: Node) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(decoder.value(node["v"]), ordered=bool(node["ordered"]))


def _zoned(decoder: Decoder, node: Node) -> pd.DatetimeTZDtype:
    return pd.DatetimeTZDtype(_unit(node), _zone(node))


def _string(decoder: Decoder, node: Node) -> Any:
    missing: Any = {"NA": pd.NA, "nan": np.nan}[node["missing"]]
    storage: Any = {"python": "python", "pyarrow": "pyarrow"}[node["storage"]]
    try:
        return pd.StringDtype(storage, na_value=missing)
    except ImportError:  # the file was written where pyarrow is installed; the same texts without it
        return pd.StringDtype("python", na_value=missing)


def _masked(decoder: Decoder, node: Node) -> Any:
    if node["v"] not in _MASKED:
        raise ModelFileError(f"The file holds a column of the dtype {node['v']!r:.40}.")
    return pd.api.types.pandas_dtype(node["v"])


def _range_index(decoder: Decoder, node: Node) -> pd.RangeIndex:
    start, stop, step = decoder.items(node["v"])
    return pd.RangeIndex(start, stop, step, name=decoder.value(node["name"]))


def _multi_index(decoder: Decoder, node: Node) -> pd.MultiIndex:
    levels, codes, names = (decoder.items(node[part]) for part in ("levels", "codes", "names"))
    return pd.MultiIndex(levels, codes, names=names)


def _intervals(decoder: Decoder, node: Node) -> pd.IntervalIndex:
    left, right = decoder.items(node["v"])
    return pd.IntervalIndex.from_arrays(left, right, closed=node["closed"], name=decoder.value(node["name"]))


def _periods(decoder: Decoder, node: Node) -> pd.PeriodIndex:
    cls: Any = pd.PeriodIndex  # whose stubs lack the method
    index: pd.PeriodIndex = cls.from_ordinals(decoder.value(node["v"]), freq=node["every"])
    return index.rename(decoder.value(node["name"]))


def _index(decoder: Decoder, node: Node) -> pd.Index[Any]:
    return pd.Index(_column(decoder, node["v"]), name=decoder.value(node["name"]), copy=False)


def _column(decoder: Decoder, parts: Any) -> Any:
    """What `_write_pandas._column` took apart."""
    dtype, values = decoder.items(parts)
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Categorical.from_codes(values, dtype=dtype)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(dtype.tz)
    if isinstance(dtype, np.dtype):
        return values if values.dtype == dtype and dtype.kind in "biuf" else pd.Index(values, dtype=dtype)
    return pd.array(values, dtype=dtype)


def _series(decoder: Decoder, node: Node) -> pd.Series[Any]:
    index, name = decoder.value(node["index"]), decoder.value(node["name"])
    return pd.Series(_column(decoder, node["v"]), index=index, name=name)


def _frame(decoder: Decoder, node: Node) -> pd.DataFrame:
    index = decoder.value(node["index"])
    columns = [pd.Series(_column(decoder, parts), index=index) for parts in node["v"]]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
    return frame.set_axis(decoder.value(node["columns"]), axis=1)


def _object(decoder: Decoder, node: Node) -> Any:
    return from_state(node["c"], {key: decoder.value(item) for key, item in node["s"].items()})


_READERS: dict[str, Callable[[Decoder, Node], Any]] = {
    "list": lambda decoder, node: decoder.items(node["v"]),
    "tuple": lambda decoder, node: tuple(decoder.items(node["v"])),
    "set": lambda decoder, node: set(decoder.items(node["v"])),
    "frozenset": lambda decoder, node: frozenset(decoder.items(node["v"])),
    "dict": _dict,
    "text": _text,
    "bytes": lambda decoder, node: decoder.member(node["m"]),
    "float": _float,
    "complex": lambda decoder, node: complex(*decoder.items(node["v"])),
    "slice": lambda decoder, node: slice(*decoder.items(node["v"])),
    "range": lambda decoder, node: range(*decoder.items(node["v"])),
    "array": _array,
    "small": _small,
    "integers": _integers,
    "objects": _objects,
    "masked_array": _masked_array,
    "scalar": _numpy_scalar,
    "sparse": _sparse,
    "dtype": _dtype,
    "type": _type,
    "random_state": _random_state,
    "generator": _generator,
    "timestamp": _timestamp,
    "timedelta": _timedelta,
    "duration": lambda decoder, node: dt.timedelta(*decoder.items(node["v"])),
    "datetime": lambda decoder, node: dt.datetime.fromisoformat(node["v"]),
    "date": lambda decoder, node: dt.date.fromisoformat(node["v"]),
    "decimal": lambda decoder, node: Decimal(node["v"]),
    "interval": lambda decoder, node: pd.Interval(*decoder.items([*node["v"], node["closed"]])),
    "period": lambda decoder, node: pd.Period(ordinal=int(node["v"]), freq=node["every"]),
    "missing": _missing,
    "categorical": _categorical,
    "zoned": _zoned,
    "string": _string,
    "masked": _masked,
    "range_index": _range_index,
    "multi_index": _multi_index,
    "intervals": _intervals,
    "periods": _periods,
    "index": _index,
    "series": _series,
    "frame": _frame,
    "object": _object,
}
