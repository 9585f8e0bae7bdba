"""Rows for the factorization machines: random ones, purchases against popular products, film ratings."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks import _tables
from benchmarks.latent import load as load_ratings
from mtl_classic.datasets._journey_tables import purchase_lines, read_table
from mtl_classic.metrics import log_loss, roc_auc
from mtl_classic.preprocessing import FieldEncoder

# The side that chooses, with what is known of the moment, and the side that is chosen.
GROUPS = {
    "user": ["household", "age", "income", "kids_count", "store", "weekday"],
    "item": ["product", "product_type", "category", "department", "brand"],
}
FIELDS = [*GROUPS["user"], *GROUPS["item"]]
N_PURCHASES, N_NEGATIVES, POPULARITY = 200_000, 4, 0.75
FIRST_TEST_WEEK = 47


@dataclass(frozen=True)
class Encoded:
    """Rows as CSR, split; `fields` is field → columns, a block each; `time` is that of the rows to fit."""

    X: sparse.csr_matrix
    y: np.ndarray
    X_test: sparse.csr_matrix
    y_test: np.ndarray
    fields: dict[str, np.ndarray]
    time: np.ndarray | None = None

    def columns(self, group: str) -> np.ndarray:
        """Columns of a side."""
        return np.concatenate([self.fields[name] for name in GROUPS[group]])


def synthetic(n_rows: int = 10**6, n_columns: int = 10**5, n_fields: int = 20) -> Encoded:
    """One-hot fields of equal size, all values equally frequent; labels say nothing."""
    rng = np.random.default_rng(0)
    size = n_columns // n_fields
    indices = (rng.integers(0, size, (n_rows, n_fields)) + size * np.arange(n_fields)).astype(np.int32)
    indptr = np.arange(0, n_rows * n_fields + 1, n_fields, dtype=np.int32)
    X = sparse.csr_matrix((np.ones(indices.size, np.float32), indices.ravel(), indptr), shape=(n_rows, n_columns))
    y = (rng.random(n_rows) < 0.5).astype(np.float32)
    names = [name for side in (("user", 10), ("item", 10)) for name in [side[0]] * side[1]]
    fields = {f"{name}{k}": np.arange(k * size, (k + 1) * size) for k, name in enumerate(names)}
    return Encoded(X, y, X[:0], y[:0], fields)


@lru_cache(maxsize=1)
def journey_frame() -> pd.DataFrame:
    """Purchases, each with four products drawn by popularity in the same period; in order of time.

    All purchases of some households, so that what one buys again and again is there; negatives by purchases to the
    power of 3/4, as word2vec draws them, with the purchase's household, store and day. Periods are before and from
    `FIRST_TEST_WEEK` on, so that no product gives itself away by its time. Columns are the eleven of `FIELDS`,
    ``week``, ``day`` (number of the day) and ``bought``.
    """
    rng = np.random.default_rng(0)
    lines = purchase_lines()
    later = (lines["week"] >= FIRST_TEST_WEEK).to_numpy()
    households = rng.permutation(lines["household"].unique())
    so_far = lines["household"].value_counts().reindex(households).cumsum()
    chosen = np.flatnonzero(lines["household"].isin(households[(so_far < N_PURCHASES).to_numpy()]))
    negatives = np.empty((len(chosen), N_NEGATIVES), dtype=np.int64)
    for period in (False, True):
        mine, pool = later[chosen] == period, np.flatnonzero(later == period)
        _, first, count = np.unique(lines["product_id"].to_numpy()[pool], return_index=True, return_counts=True)
        weight = count**POPULARITY
        negatives[mine] = pool[first[rng.choice(len(first), (mine.sum(), N_NEGATIVES), p=weight / weight.sum())]]
    item = np.column_stack([chosen, negatives]).ravel()
    bought = lines.iloc[np.repeat(chosen, 1 + N_NEGATIVES)].reset_index(drop=True)
    people = read_table("demographics").set_index("household_id").reindex(bought["household"])
    taken = lines[["product_id", "product_type", "category", "department"]].iloc[item].reset_index(drop=True)
    brands = read_table("products", ["product_id", "brand"]).set_index("product_id")["brand"]
    return pd.DataFrame(
        {
            "household": bought["household"],
            **{name: people[name].astype("category").array for name in ("age", "income", "kids_count")},
            "store": bought["store"],
            "weekday": bought["time"].dt.day_name().astype("category"),
            "product": taken["product_id"],
            **{name: taken[name] for name in ("product_type", "category", "department")},
            "brand": brands.reindex(taken["product_id"]).astype("category").array,
            "week": bought["week"],
            "day": (bought["time"] - bought["time"].iloc[0].normalize()).dt.days,
            "bought": np.tile(np.r_[1.0, np.zeros(N_NEGATIVES)], len(chosen)),
        }
    )


@lru_cache(maxsize=1)
def journey() -> Encoded:
    """The purchases one-hot, 11 columns a row; the last weeks to judge."""
    frame = journey_frame()
    train = (frame["week"] < FIRST_TEST_WEEK).to_numpy()
    encoder = FieldEncoder(categorical=["household", "product"]).fit(frame.loc[train, FIELDS])
    y = frame["bought"].to_numpy(np.float32)
    X, X_test = (encoder.transform(frame.loc[rows, FIELDS]) for rows in (train, ~train))
    return Encoded(X, y[train], X_test, y[~train], dict(encoder.fields_), frame["day"].to_numpy()[train])


def ratings(options: argparse.Namespace, *, side: bool, seed: int) -> Encoded:
    """MovieLens-100k, a random tenth to judge: the two ids, and for `side` all else that is known of them, as fields.

    That is age (classes of five years), gender, occupation, the first digit of the zip code; the year of release, and
    the genres of a film, one field of several ones.
    """
    frame, Y, _ = load_ratings(options)
    genres = list(frame.columns[5:])
    names = ["user_id", "movie_id"]
    table = frame[names]
    if side:
        zips = _attribute(options, "users", "user_id", "zip_code").str[0]
        years = _attribute(options, "items", "movie_id", "release_date").str[-4:]
        table = frame[[*names, "gender", "occupation"]].assign(
            age=frame["age"] // 5,
            region=zips.reindex(frame["user_id"]).to_numpy(),
            year=years.reindex(frame["movie_id"]).to_numpy(),
        )
        names = list(table)
    test = np.random.default_rng(np.random.SeedSequence([seed, 10])).random(len(frame)) < 0.1
    encoder = FieldEncoder(categorical=names).fit(table[~test])
    X, fields = encoder.transform(table), dict(encoder.fields_)
    if side:
        fields["genres"] = X.shape[1] + np.arange(len(genres))
        X = sparse.hstack([X, sparse.csr_matrix(frame[genres].to_numpy(np.float32))], format="csr")
    y = Y["rating"].to_numpy()
    return Encoded(X[~test], y[~test], X[test], y[test], fields)


def with_histories(data: Encoded) -> Encoded:
    """Ratings with two more fields: the films that the user has rated, and the users who have rated the film.

    Of the rows to fit only, whatever the ratings were (the implicit feedback of SVD++); each set of n has length 1, by
    1 / √n in each of its columns.
    """
    users, films = (data.X[:, data.fields[name]] for name in ("user_id", "movie_id"))
    rated = (users.T @ films).tocsr()
    rated.data[:] = 1
    sets = {}
    for name, side, ones in (("rated", "user_id", rated), ("raters", "movie_id", rated.T.tocsr())):
        lengths = np.sqrt(np.maximum(np.asarray(ones.sum(axis=1)).ravel(), 1))
        sets[name] = (side, (sparse.diags(1 / lengths) @ ones).tocsr())
    fields, width = dict(data.fields), data.X.shape[1]
    for name, (_, of_each) in sets.items():
        fields[name] = width + np.arange(of_each.shape[1])
        width += of_each.shape[1]

    def widened(X: sparse.csr_matrix) -> sparse.csr_matrix:
        blocks = [X, *(X[:, data.fields[side]] @ of_each for side, of_each in sets.values())]
        return sparse.hstack(blocks, format="csr").astype(np.float32)

    return Encoded(widened(data.X), data.y, widened(data.X_test), data.y_test, fields)


def _attribute(options: argparse.Namespace, table: str, key: str, name: str) -> pd.Series:
    frame = _tables.read_table(options, f"MovieLens100k_{table}.parquet.brotli")
    return frame.set_index(key)[name]


def log_loss_and_auc(y: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    """What binary labels are judged by."""
    return {"AUC": roc_auc(y, probability), "log-loss": log_loss(y, probability)}
