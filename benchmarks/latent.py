"""Latent features where ids decide: MovieLens ratings, the last fifth of each user's ratings to judge.

Beside one LightGBM per task with the ids as native categories. The table comes from a package that carries it, unzipped
into ``--data-dir``: MovieLens100k_data, _users and _items as ``.parquet.brotli``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import _markdown
from benchmarks._baselines import fit_one_per_task
from benchmarks._measure import cpu_seconds, spread, write
from benchmarks._tables import find_table
from mtl_classic import MultiTaskModel, Task
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import rmse, roc_auc

TASKS = (Task("rating", "regression"), Task("liked", "binary"))
ROLES = {"user": "user_id", "item": "movie_id"}


def load(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Rows with side columns, labels, and which rows are each user's last fifth."""
    return read(find_table(options, "MovieLens100k_data.parquet.brotli").parent)


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """The same from a folder."""
    data, users, items = (
        pd.read_parquet(folder / f"MovieLens100k_{name}.parquet.brotli") for name in ("data", "users", "items")
    )
    genres = [column for column in items if items[column].isin([0, 1]).all()]
    table = (
        data.merge(users, on="user_id")
        .merge(items, on="movie_id")
        .sort_values("timestamp", kind="stable", ignore_index=True)
    )
    test = (table.groupby("user_id")["timestamp"].rank(method="first", pct=True) > 0.8).to_numpy()
    X = table[["user_id", "movie_id", "age", "gender", "occupation", *genres]]
    Y = pd.DataFrame({"rating": table["rating"].astype(float), "liked": (table["rating"] >= 4).astype(float)})
    return X, Y, test


def run(options: argparse.Namespace) -> None:
    """Run all seeds and write the result."""
    X, Y, test = load(options)
    seeds = [_seed(X, Y, test, seed) for seed in range(options.seeds)]
    summary = {name: spread(s[name] for s in seeds) for name in seeds[0] if name != "choice"}
    lines = [
        "# MovieLens-100k",
        "",
        f"{(~test).sum():,} ratings to fit, {test.sum():,} to judge; {options.seeds} seeds; one thread.",
        "",
    ]
    lines += _markdown.figures(summary)
    choices = [s["choice"] for s in seeds]
    write(options.out, "latent", {"seeds": options.seeds, "summary": summary, "choices": choices}, "\n".join(lines))


def _seed(X: pd.DataFrame, Y: pd.DataFrame, test: np.ndarray, seed: int) -> dict[str, Any]:
    model = MultiTaskModel(TASKS, random_state=seed, **ROLES)
    seconds, _ = cpu_seconds(lambda: model.fit(X[~test], Y[~test]))
    scores = model.predict_scores(X[test])
    without = (
        MultiTaskModel(TASKS, latent=None, random_state=seed, **ROLES).fit(X[~test], Y[~test]).predict_scores(X[test])
    )
    native_seconds, base = native_ids(X, Y, test, seed)
    truth = Y[test]
    figures: dict[str, Any] = {
        "rating RMSE: LightGBM, native ids": rmse(truth["rating"], base["rating"]),
        "rating RMSE: ours without latent features": rmse(truth["rating"], without["rating"]),
        "rating RMSE: ours": rmse(truth["rating"], scores["rating"]),
        "liked AUC: LightGBM, native ids": roc_auc(truth["liked"], base["liked"]),
        "liked AUC: ours without latent features": roc_auc(truth["liked"], without["liked"]),
        "liked AUC: ours": roc_auc(truth["liked"], scores["liked"]),
    }
    figures["rating RMSE: difference"] = figures["rating RMSE: ours"] - figures["rating RMSE: LightGBM, native ids"]
    figures["liked AUC: difference"] = figures["liked AUC: ours"] - figures["liked AUC: LightGBM, native ids"]
    figures["fit time ÷ LightGBM, native ids"] = seconds / native_seconds
    return figures | {"choice": model.latent_choice_}


def native_ids(X: pd.DataFrame, Y: pd.DataFrame, test: np.ndarray, seed: int) -> tuple[float, dict[str, np.ndarray]]:
    """CPU seconds to fit one LightGBM per task that reads the ids as categories, and its scores of the test rows."""
    native = X.astype(dict.fromkeys(ROLES.values(), "category"))
    columns = FeatureColumns(max_categories=10**6).fit(native[~test])
    valid = np.random.default_rng(seed).random((~test).sum()) < 0.1
    rows = np.flatnonzero(~valid), np.flatnonzero(valid)
    labels = {task.name: (task.kind, Y.loc[~test, task.name].to_numpy()) for task in TASKS}
    features = columns.transform(native[~test])
    seconds, fitted = cpu_seconds(lambda: fit_one_per_task(features, labels, *rows, tuned=False, seed=seed))
    return seconds, fitted.predict(columns.transform(native[test]).values)
