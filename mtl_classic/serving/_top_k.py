"""The best candidates of each user, from a stream of chunks, in the memory of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.options import COLUMN, COLUMNS, FUNCTION, Kind, check_option
from mtl_classic._core.validation import Table, find_role
from mtl_classic.metrics._fitted import end_of, role_column
from mtl_classic.serving._scores import CHUNK_SIZE, Progress, scored_chunks

__all__ = ["check_k", "top_k"]

SCORE_NAME = Kind("the name of a score", COLUMN.is_type)
ROLES = ("user", "item", "time", "query")
SCORE, RANK = "score", "rank"
_POSITION, _FIRST = "__position__", "__first__"


def top_k(
    model: Any,
    candidates: Any,
    *,
    by: str | Callable[[pd.DataFrame, Table], Any],
    k: int = 20,
    per: str | Sequence[str] | None = "user",
    columns: Sequence[str] | None = None,
    space: str = "entire",
    chunk_size: int = CHUNK_SIZE,
    memory_limit: int | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The k best candidates of each user (or any other group), from a table, files, or a stream of chunks.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one; rows are as they go into it.
    candidates : frame, path of a Parquet file or of a folder of them, list of paths, or iterable of frames
        A row per candidate; the rows of a user may be anywhere.
    by : str or callable
        A column of the scores (a task, or ``task=class``), or a function of the scores and the rows of a chunk that
        returns an array (n,): ``lambda scores, rows: scores["buy"] * rows["margin"]``. Rows at −inf are left out.
    k : int, default=20
    per : str, list of str or None, default="user"
        The groups: a role of the model ("user", "query"), a column, or several; None is one list of all.
    columns : list of str, default=None
        Columns of the candidates to return. None: ``per`` and the columns of the model's roles, all columns if it has
        no roles.
    space : {"entire", "conditional"}, default="entire"
    chunk_size : int, default=100000
        Most rows scored at a time; the result does not depend on it.
    memory_limit : int or str, default=None
        Bytes that a chunk may take, as in `predict_scores_in_chunks`; the best rows so far come on top.
    progress : callable, default=None
        Called after each chunk with the rows done and the rows in all (None where that is not known).

    Returns
    -------
    DataFrame
        The chosen columns, ``score`` and ``rank`` (from 1); groups in the order of their first candidate, the best
        first, of equal scores the earlier candidate.

    Raises
    ------
    ValueError
        If there is no such score, if a score is NaN, k is not positive, or ``per`` or ``columns`` name columns
        "score" or "rank" of the candidates.
    RoleError
        If there is no such column.

    Notes
    -----
    Memory: a chunk with its features, and about twice k rows per group. Cost: the scores; a sort of each chunk.

    Examples
    --------
    >>> from mtl_classic import PerTaskModel, make_funnel, top_k
    >>> shop = make_funnel(2000, n_users=50, n_items=40, random_state=0)
    >>> model = PerTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y)
    >>> best = top_k(model, shop.X, by="spend", k=3, columns=["user", "item"], chunk_size=500)
    >>> int(best.groupby("user").size().max()), list(best.columns)
    (3, ['user', 'item', 'score', 'rank'])
    """
    check_k(k)
    check_option("by", by, (SCORE_NAME, FUNCTION))
    check_option("per", per, (COLUMN, COLUMNS, None))
    check_option("columns", columns, (COLUMNS, None))
    best = _Best(int(k))
    final, _ = end_of(model)
    done = 0
    for table, scores in scored_chunks(model, candidates, space, chunk_size, progress, memory_limit):
        if not isinstance(table, pd.DataFrame):
            raise TypeError(
                f"candidates must have named columns to be grouped and returned, got {type(table).__name__}."
            )
        groups, kept = _group_columns(final, table, per), _kept_columns(final, table, per, columns)
        _check_names([*groups, *kept])
        best.add(table, groups, kept, _values(by, scores, table), done)
        done += len(table)
    return best.result()


def check_k(k: Any) -> None:
    """Refuse what is no number of candidates."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}.")


class _Best:
    """The best rows so far; parts wait until they are as many as the best."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.groups: list[str] = []
        self.columns: list[str] = []
        self.best = pd.DataFrame()
        self.waiting: list[pd.DataFrame] = []
        self.n_waiting = 0

    def add(
        self, table: pd.DataFrame, groups: list[str], columns: list[str], values: npt.NDArray[np.float64], start: int
    ) -> None:
        self.groups, self.columns = groups, columns
        part = table[list(dict.fromkeys([*columns, *groups]))].reset_index(drop=True)
        position = np.arange(start, start + len(table))
        part = part.assign(**{SCORE: values, _POSITION: position, _FIRST: position})
        part = self._reduced(part[values > -np.inf])
        self.waiting.append(part)
        self.n_waiting += len(part)
        if self.n_waiting > len(self.best):
            self._merge()

    def result(self) -> pd.DataFrame:
        self._merge()
        if not len(self.best):
            return pd.DataFrame(columns=[*self.columns, SCORE, RANK])
        frame = self.best.sort_values([_FIRST, SCORE, _POSITION], ascending=[True, False, True], ignore_index=True)
        rank = frame.groupby(_FIRST, sort=False).cumcount() + 1
        return frame[self.columns].assign(**{SCORE: frame[SCORE], RANK: rank})

    def _merge(self) -> None:
        parts = [part for part in (self.best, *self.waiting) if len(part)]
        self.waiting, self.n_waiting = [], 0
        if parts:
            self.best = self._reduced(pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0])

    def _reduced(self, part: pd.DataFrame) -> pd.DataFrame:
        """The k best of each group; each row knows where its group began."""
        if not len(part):
            return part
        codes = self._codes(part)
        order = np.lexsort((part[_POSITION].to_numpy(), -part[SCORE].to_numpy(), codes))
        sizes = np.bincount(codes)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        first = np.full(len(sizes), np.iinfo(np.int64).max)
        np.minimum.at(first, codes, part[_FIRST].to_numpy())
        within = np.arange(len(part)) - starts[codes[order]]
        chosen = np.sort(order[within < self.k])
        return part.iloc[chosen].assign(**{_FIRST: first[codes[chosen]]})

    def _codes(self, part: pd.DataFrame) -> npt.NDArray[np.intp]:
        if not self.groups:
            return np.zeros(len(part), dtype=np.intp)
        groups = part.groupby(self.groups, sort=False, dropna=False, observed=True)
        return np.asarray(groups.ngroup(), dtype=np.intp)


def _group_columns(model: Any, table: pd.DataFrame, per: str | Sequence[str] | None) -> list[str]:
    names = [] if per is None else [per] if isinstance(per, str) else list(per)
    return [_column(model, table, name) for name in names]


def _column(model: Any, table: pd.DataFrame, name: str) -> str:
    """A role of the model, else a column of that name."""
    column = role_column(model, table, name) if name in ROLES else None
    if column is not None:
        return column
    try:
        return str(find_role(table.columns, name, "group"))
    except RoleError as error:
        raise RoleError(f"{error} Give per= a column, or None for one list of all rows.") from None


def _kept_columns(
    model: Any, table: pd.DataFrame, per: str | Sequence[str] | None, columns: Sequence[str] | None
) -> list[str]:
    if columns is not None:
        return [str(find_role(table.columns, name, "returned")) for name in columns]
    named = [column for role in ROLES if (column := role_column(model, table, role)) is not None]
    if not named:
        return [str(name) for name in table.columns if name not in (SCORE, RANK)]
    return list(dict.fromkeys([*_group_columns(model, table, per), *named]))


def _check_names(names: Sequence[str]) -> None:
    taken = [name for name in (SCORE, RANK) if name in names]
    if taken:
        raise ValueError(
            f"per and columns name {taken}, which the result has too; rename the columns of the candidates."
        )


def _values(by: str | Callable[[pd.DataFrame, Table], Any], scores: pd.DataFrame, table: Table) -> Any:
    if callable(by):
        values = np.asarray(by(scores, table), dtype=np.float64)
    elif by in scores.columns:
        values = scores[by].to_numpy(dtype=np.float64)
    else:
        raise ValueError(f"by={by!r} is no score of the model; it has {', '.join(map(str, scores.columns))}.")
    if values.shape != (len(scores),):
        raise ValueError(f"by gave values of the shape {values.shape} for {len(scores)} rows; expected one per row.")
    if np.isnan(values).any():
        raise ValueError(
            f"by gave NaN for {int(np.isnan(values).sum())} of {len(values)} rows; use -inf to leave rows out."
        )
    return values
