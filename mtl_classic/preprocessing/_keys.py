"""Keys of statistics: columns, or combinations of columns, as integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.options import check_option, list_of
from mtl_classic._core.validation import find_role
from mtl_classic.preprocessing._blocks import is_number
from mtl_classic.preprocessing._vocabulary import UNSEEN, Codes, Vocabulary

__all__ = ["Key", "KeyCoder", "as_frame", "find_keys", "with_columns"]

Key = tuple[Any, ...]


class KeyCoder:
    """Codes of a column, or of the combinations of several."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.vocabularies = [Vocabulary() for _ in key]
        self.pairs = [Vocabulary() for _ in key[1:]]

    @property
    def size(self) -> int:
        return len(self.pairs[-1] if self.pairs else self.vocabularies[0])

    def learn(self, frame: pd.DataFrame) -> Codes:
        return self._run(frame, Vocabulary.learn)

    def codes(self, frame: pd.DataFrame) -> Codes:
        return self._run(frame, Vocabulary.codes)

    def _run(self, frame: pd.DataFrame, step: Any) -> Codes:
        codes: Codes = step(self.vocabularies[0], frame[self.key[0]])
        for column, vocabulary, pairs in zip(self.key[1:], self.vocabularies[1:], self.pairs, strict=True):
            other = step(vocabulary, frame[column])
            unseen = (codes == UNSEEN) | (other == UNSEEN)
            # Both factors are at most the number of rows, so that the product fits into 64 bits.
            codes = step(pairs, pd.Series(np.where(unseen, -1, codes * len(vocabulary) + other)))
        return codes


def find_keys(columns: Sequence[Any] | None, frame: pd.DataFrame) -> list[Key]:
    """What a user gives as ``columns=``, as tuples of existing columns."""
    if columns is None:
        return [(name,) for name in frame.columns if not is_number(frame[name])]
    check_option("columns", columns, list_of("names or tuples of names"))
    keys = [tuple(_find(frame, name) for name in (key if isinstance(key, tuple) else (key,))) for key in columns]
    if len(set(keys)) < len(keys) or not all(keys):
        raise ValueError(f"columns must be distinct and not empty, got {list(columns)!r}.")
    return keys


def _find(frame: pd.DataFrame, name: Any) -> Any:
    if isinstance(name, str):
        return find_role(frame.columns, name, "statistics")
    if name not in frame.columns:
        raise RoleError(f"There is no column {name!r}; the columns are {', '.join(map(str, frame.columns))}.")
    return name


def as_frame(table: Any) -> pd.DataFrame:
    """An array as a frame with numbers for names."""
    return table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)


def with_columns(frame: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """The frame itself if it has columns of these names, else by position, where they are those of an array."""
    missing = [name for name in names if name not in frame.columns]
    if not missing:
        return frame
    places = range(frame.shape[1])
    if all(name in places for name in names):
        return frame.set_axis(places, axis=1)
    raise ValueError(
        f"X lacks the columns {', '.join(map(repr, missing))} of the fit; it has {', '.join(map(repr, frame.columns))}."
    )
