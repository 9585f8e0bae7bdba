"""Keys of rows and events as integers: the same number for the same user, item or pair on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import are_of_other_kinds, key_kind, key_positions
from mtl_classic._core.time import time_dtype, to_time
from mtl_classic._kernels import history as kernels
from mtl_classic.events._column import as_column
from mtl_classic.events._log import EventLog, axis_kind

Ints = npt.NDArray[np.int64]
_LARGEST_CODE = 2**62


@dataclass(frozen=True)
class Keyed:
    """Rows that ask for history.

    Attributes
    ----------
    times : ndarray of shape (n_rows,), int64 or float64, on the axis of the log
    order : ndarray of shape (n_rows,), the rows in the order of time
    codes : dict key name -> ndarray of shape (n_rows,), codes of the log's column, -1 = not in the log
    columns : dict key name -> column of the log
    """

    times: npt.NDArray[Any]
    order: Ints
    codes: Mapping[str, Ints]
    columns: Mapping[str, str]


def key_rows(log: EventLog, times: pd.Series[Any], keys: Mapping[str, tuple[pd.Series[Any], str]]) -> Keyed:
    """Rows by their times and keys: key name -> (column of the rows, name of the column of the log)."""
    axis = to_time(times, str(times.name))
    kind = axis_kind(time_dtype(times))
    if log.n_events and len(axis) and kind != log.axis_kind:
        raise TypeError(
            f"the times of the log are {log.axis_kind}, those of the rows ({times.name!r}) {kind}; convert one."
        )
    codes = {key: _codes_in_log(log, column, series) for key, (series, column) in keys.items()}
    order = np.argsort(axis, kind="stable").astype(np.int64)
    return Keyed(axis, order, codes, {key: column for key, (_, column) in keys.items()})


def shared_keys(log: EventLog, rows: Keyed, keys: tuple[str, ...]) -> tuple[Ints, Ints, int]:
    """Numbers from 0 for the keys that occur in the rows, for rows and events; -1 for events that no row asks for."""
    if not keys:
        return np.zeros(len(rows.times), np.int64), np.zeros(log.n_events, np.int64), 1
    row_codes, event_codes = rows.codes[keys[0]], log.encode(rows.columns[keys[0]])[0]
    space = len(log.encode(rows.columns[keys[0]])[1])
    for key in keys[1:]:
        codes, values = log.encode(rows.columns[key])
        if space * len(values) > _LARGEST_CODE:  # number the pairs that exist, so that the product fits again
            row_codes, event_codes, space = _renumbered(row_codes, event_codes)
        row_codes = _combined(row_codes, rows.codes[key], len(values))
        event_codes = _combined(event_codes, codes, len(values))
        space *= len(values)
    slots = np.full(1 << max(4, int(2 * len(row_codes)).bit_length()), -1, np.int64)
    ids = np.empty_like(slots)
    row_keys, event_keys = np.empty(len(row_codes), np.int64), np.empty(log.n_events, np.int64)
    n_keys = kernels.number_keys(row_codes, slots, ids, row_keys)
    kernels.look_up_keys(event_codes, slots, ids, event_keys)
    return row_keys, event_keys, n_keys


def _renumbered(row_codes: Ints, event_codes: Ints) -> tuple[Ints, Ints, int]:
    numbers, distinct = pd.factorize(event_codes)
    found = pd.Index(distinct).get_indexer(pd.Index(row_codes))
    return np.where(row_codes < 0, -1, found), np.where(event_codes < 0, -1, numbers), len(distinct)


def _combined(codes: Ints, other: Ints, n_other: int) -> Ints:
    out = np.empty(len(codes), np.int64)
    kernels.combine_codes(codes, other, n_other, out)
    return out


def group(codes: Ints, n_keys: int, visit: Ints) -> tuple[Ints, Ints]:
    indptr, order = np.zeros(n_keys + 1, np.int64), np.empty(len(codes), np.int64)
    kernels.group_by_code(codes, visit, indptr, order)
    return order[: indptr[-1]].copy(), indptr


def _codes_in_log(log: EventLog, column: str, series: pd.Series[Any]) -> Ints:
    """Codes of the log's column for the values of the rows, -1 where the log does not have them."""
    known = log.encode(column)[1]
    codes, distinct = as_column(series, str(series.name), amount=False).encode()
    asked = pd.Index(distinct)
    kinds = key_kind(known), key_kind(asked)
    if are_of_other_kinds(*kinds):
        raise TypeError(
            f"the column {column!r} of the log holds {kinds[0]}, the column {series.name!r} of the rows {kinds[1]}; "
            f"convert one."
        )
    positions = np.append(key_positions(known, asked), -1)  # the code -1, missing, takes the last
    return positions[codes]
