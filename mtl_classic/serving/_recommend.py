"""From users to recommendations: candidates by the factors, ranked by the model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.keys import listed_ids
from mtl_classic._core.options import COUNT, TRUTH, check_option
from mtl_classic._core.validation import as_table
from mtl_classic.serving._factors import Factors, find_factors, log_of, seen_pairs
from mtl_classic.serving._top_k import check_k, top_k

__all__ = ["recommend_items"]

Array = npt.NDArray[Any]
_USERS_AT_ONCE = 500
_CANDIDATES = 200
_PAIRS_AT_ONCE = 20_000_000  # scores of factors held at a time


def recommend_items(
    model: Any,
    users: Any,
    k: int,
    *,
    by: Any,
    items: Any,
    exclude_seen: bool,
    n_candidates: int | None,
) -> pd.DataFrame:
    """What `MultiTaskModel.recommend` does."""
    check_k(k)
    check_option("exclude_seen", exclude_seen, TRUTH)
    check_option("n_candidates", n_candidates, (COUNT, None))
    n_candidates = max(_CANDIDATES, 10 * k) if n_candidates is None else int(n_candidates)
    if n_candidates < k:
        raise ValueError(f"n_candidates={n_candidates} are fewer than the k={k} that are asked for.")
    factors = find_factors(model)
    log = log_of(model)
    if exclude_seen and (log is None or log._is_lacking):
        raise ValueError(
            "What users have seen is in the event log, and there is none (a model that was loaded without its events "
            "needs observe(log) first); give exclude_seen=False."
        )
    who = _with_time(model, _table(users, model.roles_["user"], "users"), log)
    what = _table(factors.items if items is None else items, model.roles_["item"], "items")
    _check_columns(model, who, what)
    blocks = _candidates(model, who, what, factors, log if exclude_seen else None, n_candidates)
    by = model.tasks_[0].name if by is None else by
    first = next(blocks, None)
    columns = [model.roles_["user"], model.roles_["item"]]
    if first is None:
        return pd.DataFrame(columns=[*columns, "score", "rank"])
    return top_k(model, chain([first], blocks), by=by, k=k, per=columns[0], columns=columns)


def _table(given: Any, column: str, what: str) -> pd.DataFrame:
    """A row for each id, with the other columns of a frame: a user that came twice would get every item twice."""
    if isinstance(given, pd.DataFrame) or hasattr(given, "columns"):
        table = as_table(given)
        if column not in table.columns:
            raise ValueError(f"{what} has no column {column!r}; it has {', '.join(map(str, table.columns))}.")
    elif isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"{what} must be a list of ids, or a frame with a row for each, got {given!r}.")
    else:
        table = pd.DataFrame({column: given if isinstance(given, pd.Index) else pd.Series(listed_ids(given))})
    return pd.DataFrame(table.drop_duplicates(column, ignore_index=True))


def _with_time(model: Any, users: pd.DataFrame, log: Any) -> pd.DataFrame:
    """Users at the next instant after the log, where no time is given: a row sees only what is before it."""
    time = model.roles_["time"]
    if time is None or time in users.columns or log is None or not log.n_events:
        return users
    last = log.last_time
    if log.is_datetime:
        return users.assign(**{time: last + pd.Timedelta(1, "ns")})
    return users.assign(**{time: last + 1 if log.time.dtype.kind == "i" else np.nextafter(last, np.inf)})


def _check_columns(model: Any, users: pd.DataFrame, items: pd.DataFrame) -> None:
    both = {str(name) for name in users.columns} & {str(name) for name in items.columns}
    if both:
        raise ValueError(f"users and items both have the columns {', '.join(sorted(both))}; each belongs to one.")
    there = {*map(str, users.columns), *map(str, items.columns)}
    missing = [name for name in getattr(model, "feature_names_in_", ()) if name not in there]
    if missing:
        raise ValueError(
            f"The model reads the columns {', '.join(missing)} too: give users= as a frame with those of users and "
            f"context, items= as one with those of items."
        )


def _candidates(
    model: Any, users: pd.DataFrame, items: pd.DataFrame, factors: Factors, log: Any, n_candidates: int
) -> Iterator[pd.DataFrame]:
    """Rows of users with their best items by the factors, some users at a time."""
    user, item = model.roles_["user"], model.roles_["item"]
    at_once = max(1, min(_USERS_AT_ONCE, _PAIRS_AT_ONCE // max(len(items), 1)))
    for start in range(0, len(users), at_once):
        block = users.iloc[start : start + at_once]
        scores = np.asarray(factors.scores(block, items), dtype=np.float64)
        if log is not None:
            scores[seen_pairs(log, block[user], items[item])] = -np.inf
        row, column = _best(scores, n_candidates)
        if len(row):
            chosen = block.iloc[row].reset_index(drop=True), items.iloc[column].reset_index(drop=True)
            yield pd.concat(chosen, axis=1)


def _best(scores: Array, n: int) -> tuple[Array, Array]:
    """Row and column of the n largest finite scores of each row, the best first; of equal ones the first column."""
    least = max(scores.shape[1] - n, 0)
    is_candidate = np.isfinite(scores)
    if least:  # sorting all items of a large catalogue would take longer than to score the best
        scores = np.where(is_candidate, scores, -np.inf)
        is_candidate &= scores >= np.partition(scores, least, axis=1)[:, [least]]
    row, column = np.nonzero(is_candidate)
    order = np.lexsort((column, -scores[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return row[place < n], column[place < n]
