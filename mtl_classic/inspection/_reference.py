"""What columns and scores looked like when all was well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.base import query_columns
from mtl_classic._core.options import COLUMNS, check_option
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import as_table, find_role
from mtl_classic.inspection._drift import effective_rows
from mtl_classic.metrics._fitted import end_of, role_column, scores_of
from mtl_classic.preprocessing._blocks import as_numbers as numbers_of
from mtl_classic.preprocessing._blocks import is_number

__all__ = ["ColumnReference", "Reference", "as_frame", "cluster_codes", "hashes", "monitor_reference"]

N_BINS = 10
MAX_VALUES = 50  # a column of texts with more values is judged by those that are new, not by their shares
CLOCK = 0.85  # a number whose ranks follow time so closely moves by its nature
LATEST = 0.1  # share of the rows, by time, in which new ids are counted

Floats = npt.NDArray[np.float64]


@dataclass
class ColumnReference:
    """One column: how its values are binned, and what there was.

    Attributes
    ----------
    kind : {"number", "category", "id", "clock"}
    missing : float
        Share of missing values.
    edges : ndarray of float64, upper ends of the bins of a number but the last
    values : Index of the values of a category
    counts : ndarray of float64, rows per bin, "other" the last of a category
    ids : ndarray of uint64, sorted hashes of the values of an id
    unseen : float
        Share of rows with an id that had not been seen before them.
    """

    kind: str
    missing: float = 0.0
    edges: Floats = field(default_factory=lambda: np.zeros(0))
    values: pd.Index = field(default_factory=lambda: pd.Index([], dtype=object))
    counts: Floats = field(default_factory=lambda: np.zeros(0))
    ids: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    unseen: float = 0.0

    def count(self, column: pd.Series) -> npt.NDArray[Any]:
        """Rows per bin; missing ones are in none."""
        if self.kind == "category":
            codes = self.values.get_indexer(pd.Index(column.dropna().astype(object)))
            return np.bincount(np.where(codes < 0, len(self.values), codes), minlength=len(self.values) + 1).astype(
                np.float64
            )
        values = as_numbers(column)
        values = values[~np.isnan(values)]
        return np.bincount(np.searchsorted(self.edges, values), minlength=len(self.edges) + 1).astype(np.float64)


@dataclass
class Reference:
    """What `monitor_reference` keeps: a histogram per column and score, ids as hashes; no rows."""

    columns: dict[str, ColumnReference]
    scores: dict[str, ColumnReference]
    n_rows: int
    n_effective: float


def monitor_reference(model: Any, X: Any, *, exclude: Sequence[str] = ()) -> Reference:
    """What columns and scores look like now, for `monitor` to compare with later.

    Keep it on the model, ``model.reference_ = monitor_reference(model, X)``: there `monitor` looks for it, and
    `save_model` takes it along.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one.
    X : frame of shape (n, n_features)
        Rows like those that will be served. Best are rows that the model was not fitted on, the last days held out:
        scores of fitted rows are spread wider than those of new ones. All rows of the fit know more ids.
    exclude : sequence of str, default=()
        Columns that are not watched.

    Returns
    -------
    Reference
        Numbers by deciles, texts and categories with at most 50 values by value, ids (user, item, texts with more
        values) as hashes of 8 bytes. Time and query are not watched, and of numbers that move with time (whose ranks
        correlate by more than 0.85 with it) only the missing values.

    Raises
    ------
    RoleError
        On excluded columns that X does not have.

    Notes
    -----
    Cost: one prediction, one sort per column.

    Examples
    --------
    >>> from mtl_classic import PerTaskModel, make_funnel, monitor_reference
    >>> shop = make_funnel(2000, n_users=200, n_items=50, random_state=0)
    >>> model = PerTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y)
    >>> model.reference_ = monitor_reference(model, shop.X)
    >>> {name: column.kind for name, column in model.reference_.columns.items()}
    {'user': 'id', 'item': 'id', 'day': 'clock', 'category': 'category', 'device': 'category', 'price': 'number'}
    """
    check_option("exclude", exclude, COLUMNS)
    table = as_frame(X)
    if not len(table):
        raise ValueError("monitor_reference was given no rows; at least one is needed.")
    final, _ = end_of(model)
    roles = {role: role_column(final, table, role) for role in ("user", "item", "time", "query")}
    time = None if roles["time"] is None else to_time(table[roles["time"]], "time")
    ids = {roles["user"], roles["item"]}
    left_out = {find_role(table.columns, str(name), "excluded") for name in exclude} | {roles["time"], roles["query"]}
    left_out |= set(query_columns(table, final.tasks_)) - ids
    watched = [name for name in table.columns if str(name) not in left_out]
    columns = {str(name): _describe(table[name], name in ids, time) for name in watched}
    scores = scores_of(model, X, "entire")
    described = {str(name): _describe(scores[name], False, None) for name in scores.columns}
    clusters = cluster_codes(table, roles["user"])
    return Reference(columns, described, len(table), effective_rows(clusters, len(table)))


def as_frame(X: Any) -> pd.DataFrame:
    """A table as a frame; the columns of an array are named x0, x1 and so on."""
    table = as_table(X)
    if isinstance(table, pd.DataFrame):
        return table
    return pd.DataFrame(np.asarray(table.todense() if hasattr(table, "todense") else table)).add_prefix("x")


def _describe(column: pd.Series, is_id: bool, time: npt.NDArray[Any] | None) -> ColumnReference:
    missing = float(column.isna().mean())
    known = column.dropna()
    try:
        is_id = is_id or (not _is_number(column) and known.nunique() > MAX_VALUES)
    except TypeError as error:
        raise TypeError(
            f"Column {column.name!r} holds values that cannot be compared: {error}; name it in exclude=."
        ) from None
    if is_id:
        return _describe_ids(column, missing, time)
    if not _is_number(column):
        reference = ColumnReference("category", missing, values=pd.Index(sorted(known.unique(), key=str), dtype=object))
    else:
        values = as_numbers(column)
        if time is not None and _moves_with(values, time):
            return ColumnReference("clock", missing)
        reference = ColumnReference("number", missing, edges=_edges(values[~np.isnan(values)]))
    reference.counts = reference.count(column)
    return reference


def _edges(values: Floats) -> Floats:
    """Deciles; below a least value that many rows have, which is one of them, begins a bin that no row has."""
    if not len(values):
        return np.zeros(0)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    return np.concatenate([np.nextafter(edges[:1], -np.inf), edges]) if edges[0] == values.min() else edges


def _describe_ids(column: pd.Series, missing: float, time: npt.NDArray[Any] | None) -> ColumnReference:
    hashed = hashes(column)
    known = ~column.isna().to_numpy()
    ids, counts = np.unique(hashed[known], return_counts=True)
    n = int(known.sum())
    if time is None:  # how often the next row of a sample is new: as often as one of its rows was alone (Good, Turing)
        unseen = float((counts == 1).sum()) / max(n, 1)
    else:
        order = np.argsort(time[known], kind="stable")
        start = int(n * (1 - LATEST))
        seen = np.isin(hashed[known][order][start:], hashed[known][order][:start])
        unseen = float((~seen).mean()) if len(seen) else 0.0
    return ColumnReference("id", missing, ids=ids, unseen=unseen)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) or is_number(column)


def as_numbers(column: pd.Series) -> Floats:
    """A column as float64, NaN where missing and where text is no number; dates and durations in days."""
    if is_number(column):
        return numbers_of(column)[0]
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _moves_with(values: Floats, time: npt.NDArray[Any]) -> bool:
    known = ~np.isnan(values)
    both = pd.DataFrame({"values": values[known], "time": time[known]})
    if known.sum() < 3 or (both.nunique() < 2).any():
        return False
    return bool(abs(both["values"].corr(both["time"], method="spearman")) > CLOCK)


def hashes(column: pd.Series) -> npt.NDArray[np.uint64]:
    """A hash per row, equal for equal values whatever the dtype that holds them: 3, 3.0 and "3"; 0 where missing."""
    codes, distinct = pd.factorize(column)
    texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in pd.Index(distinct).tolist()]
    hashed = pd.util.hash_array(np.asarray(texts, dtype=object), categorize=False) if texts else np.zeros(0, np.uint64)
    return np.append(hashed, np.uint64(0))[codes]


def cluster_codes(table: pd.DataFrame, column: str | None) -> npt.NDArray[np.intp] | None:
    """Rows of the same user belong together; a missing user is one of its own kind."""
    if column is None or column not in table.columns:
        return None
    codes = pd.factorize(table[column])[0].astype(np.intp)
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    return codes
