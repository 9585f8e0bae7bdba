"""One row as a factorization machine reads it: a column and a value for each field."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from mtl_classic._core.keys import KeyCodes
from mtl_classic.preprocessing import FieldEncoder
from mtl_classic.preprocessing._blocks import Number, OneHot
from mtl_classic.preprocessing._vocabulary import MISSING
from mtl_classic.serving._row_values import Row, Source, Sources, as_number, held, is_missing

__all__ = ["RowDesign"]


class RowDesign:
    """What `FieldEncoder` makes of a frame, for one row.

    Parameters
    ----------
    encoder : FieldEncoder
        Such that `can_read`.
    sources : mapping of column to Source
    """

    def __init__(self, encoder: FieldEncoder, sources: Sources) -> None:
        self.n_columns = encoder.n_columns_
        self.numbers: list[tuple[str, Source, Number, int, int]] = []
        self.categories: list[tuple[str, Source, KeyCodes, int, int]] = []
        for name, state in encoder._fields.items():
            columns = encoder.fields_[name]
            if isinstance(state, Number):
                self.numbers.append((name, sources.get(name), state, int(columns[0]), int(columns[1])))
            elif isinstance(state, OneHot):
                of_code = columns[state.slots(np.arange(len(state.vocabulary)))]
                found = KeyCodes(name, state.vocabulary.values, of_code[1:])
                self.categories.append((name, sources.get(name), found, int(of_code[MISSING]), int(columns[0])))

    @staticmethod
    def can_read(encoder: Any) -> bool:
        """Whether there are one-hot and number fields only."""
        return encoder is not None and all(isinstance(field, OneHot | Number) for field in encoder._fields.values())

    def entries(self, row: Row) -> list[tuple[int, float]]:
        """Column and value of each field, in no order."""
        entries = []
        for name, at, found, missing, other in self.categories:
            value = row.get(name, at)
            column = found.get(value)
            if column is None:
                column = missing if is_missing(value) else other
            entries.append((column, 1.0))
        for name, at, state, column, missing in self.numbers:
            value = row.get(name, at)
            if isinstance(value, str | bool | np.bool_):
                raise TypeError(f"{name!r} held numbers or dates when it was learnt; the row has {value!r}.")
            value = held(as_number(value, name, state.dated))
            if value != value or not state.is_known:
                entries.append((missing, 1.0))
                continue
            scaled = (value - state.mean) / state.deviation
            entries.append((column, scaled if state.clip is None else min(max(scaled, -state.clip), state.clip)))
        return entries

    def matrix(self, row: Row) -> sparse.csr_matrix:
        """The same as float32 of shape (1, n_columns)."""
        columns, values = zip(*sorted(self.entries(row)), strict=True)
        data, indices = np.array(values, dtype=np.float32), np.array(columns, dtype=np.int32)
        return sparse.csr_matrix((data, indices, np.array([0, len(data)], np.int32)), shape=(1, self.n_columns))
