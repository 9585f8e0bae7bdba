"""Objects of pandas as nodes, for `Encoder`: times, intervals, types, indices, columns and frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "Node", "write_dtype", "write_frame", "write_index", "write_interval", "write_period", "write_series",
    "write_timedelta", "write_timestamp",
]  # fmt: skip

Node = dict[str, Any]


def write_timestamp(encoder: Any, value: pd.Timestamp) -> Node:
    naive = value if value.tz is None else value.tz_convert("UTC").tz_localize(None)
    zone = None if value.tz is None else _zone_name(value.tz, encoder._where())
    return {"t": "timestamp", "v": int(naive.asm8.astype(np.int64)), "unit": value.unit, "zone": zone}


def write_timedelta(encoder: Any, value: pd.Timedelta) -> Node:
    return {"t": "timedelta", "v": int(value.asm8.astype(np.int64)), "unit": value.unit}


def write_interval(encoder: Any, value: pd.Interval[Any]) -> Node:
    return {"t": "interval", "v": encoder.items((value.left, value.right)), "closed": value.closed}


def write_period(encoder: Any, value: pd.Period) -> Node:
    return {"t": "period", "v": value.ordinal, "every": value.freqstr}


def write_dtype(encoder: Any, value: Any) -> Node:
    if isinstance(value, pd.CategoricalDtype):
        categories = None if value.categories is None else value.categories
        return {"t": "categorical", "v": encoder.value(categories, ".categories"), "ordered": bool(value.ordered)}
    if isinstance(value, pd.DatetimeTZDtype):
        return {"t": "zoned", "unit": value.unit, "zone": _zone_name(value.tz, encoder._where())}
    if isinstance(value, pd.StringDtype):
        missing = "NA" if value.na_value is pd.NA else "nan"
        return {"t": "string", "storage": value.storage, "missing": missing}
    if isinstance(value, pd.BooleanDtype) or type(value).__module__.startswith("pandas.core.arrays.masked") or (
        hasattr(value, "numpy_dtype") and value.name[0] in "IUF"
    ):  # fmt: skip
        return {"t": "masked", "v": value.name}
    raise TypeError(f"{encoder._where()} has the dtype {value}, which is not saved; convert the column to another one.")


def write_index(encoder: Any, value: pd.Index[Any]) -> Node:
    if isinstance(value, pd.MultiIndex):
        levels, codes, names = (encoder.items(parts) for parts in (value.levels, value.codes, value.names))
        return {"t": "multi_index", "levels": levels, "codes": codes, "names": names}
    if isinstance(value, pd.IntervalIndex):
        parts = [encoder.value(end, name) for end, name in ((value.left, ".left"), (value.right, ".right"))]
        return {"t": "intervals", "v": parts, "closed": value.closed, "name": encoder.value(value.name, ".name")}
    if isinstance(value, pd.PeriodIndex):
        ordinals = encoder.value(value.asi8, ".asi8")
        return {"t": "periods", "v": ordinals, "every": value.freqstr, "name": encoder.value(value.name, ".name")}
    if isinstance(value, pd.RangeIndex):
        parts = encoder.items((value.start, value.stop, value.step))
        return {"t": "range_index", "v": parts, "name": encoder.value(value.name, ".name")}
    return {"t": "index", "v": _column(encoder, value), "name": encoder.value(value.name, ".name")}


def _column(encoder: Any, values: Any) -> list[Any]:
    """Dtype and an array of what a pandas column holds."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        array: Any = np.asarray(pd.Categorical(values).codes)
    elif isinstance(dtype, pd.DatetimeTZDtype):
        array = np.asarray(pd.DatetimeIndex(values).tz_convert("UTC").tz_localize(None).to_numpy())
    else:
        array = values.to_numpy() if isinstance(dtype, np.dtype) else np.asarray(values, dtype=object)
    return [encoder.value(dtype, ".dtype"), encoder.value(array, ".values")]


def write_series(encoder: Any, value: pd.Series[Any]) -> Node:
    index, name = encoder.value(value.index, ".index"), encoder.value(value.name, ".name")
    return {"t": "series", "v": _column(encoder, value), "index": index, "name": name}


def write_frame(encoder: Any, value: pd.DataFrame) -> Node:
    columns = [_column(encoder, value.iloc[:, j]) for j in range(value.shape[1])]
    index, names = encoder.value(value.index, ".index"), encoder.value(value.columns, ".columns")
    return {"t": "frame", "v": columns, "index": index, "columns": names}


def _zone_name(zone: Any, where: str) -> str:
    """The name of a time zone by which pandas finds it again."""
    name = str(zone)
    try:
        known = pd.Timestamp(0).tz_localize("UTC").tz_convert(name).utcoffset() is not None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise TypeError(f"{where} has the time zone {zone!r}, which has no name; convert to one like 'Europe/Paris'.")
    return name
