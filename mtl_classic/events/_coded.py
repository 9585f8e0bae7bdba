"""A column of a log as integer codes, which grow with the log in the time of what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic.events._column import Column
from mtl_classic.events._room import Room

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coded:
    """Codes of a column, (n_events,), -1 where missing, and the distinct values that they number."""

    codes: Ints
    values: pd.Index[Any]
    kind: Any  # of what the column held: its dtype, or None of codes
    room: Room | None = None

    @classmethod
    def of(cls, column: Column, values: pd.Index[Any] | None, older: Coded | None) -> Self:
        """Code a column; `older` are the codes of its first rows, `values` those that it has itself, if any."""
        kind = column.data.dtype if values is None else None
        if older is None or older.kind != kind:
            codes, distinct = column.encode()
            return cls(codes, pd.Index(distinct) if values is None else values, kind)
        tail = column.data[len(older.codes) :]
        if values is None:
            codes, values = _numbered(tail, older.values)
        else:
            codes = tail.astype(np.int64)
        size, room = len(column.data), older.room
        if room is None or not room.take(len(older.codes), codes):
            room = Room(older.codes, codes)
        return cls(room.array[:size], values, kind, room)


def _numbered(tail: npt.NDArray[Any], known: pd.Index[Any]) -> tuple[Ints, pd.Index[Any]]:
    """Codes of further values, in the order of appearance: what factorizing all at once gives."""
    codes = known.get_indexer(pd.Index(tail)).astype(np.int64, copy=False)
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        more, distinct = pd.factorize(tail[unknown])
        codes[unknown] = np.where(more < 0, -1, len(known) + more)
        known = known.append(pd.Index(distinct)) if len(distinct) else known
    return codes, known
