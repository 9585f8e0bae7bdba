"""Factor scores as columns of LightGBM, on the Complete Journey table: the rare label, and pairs never bought."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._baselines import fit_one_per_task
from benchmarks._fm_quality import Figures, gather
from benchmarks.complete_journey import Table, prepare
from mtl_classic._core.targets import encode_targets
from mtl_classic.factorization import FactorizationMachineClassifier, LatentFeatures, MatrixFactorization
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import roc_auc

ITEM = ["product_type", "category", "department"]


def run(options: argparse.Namespace) -> Figures:
    """Scores of the train weeks' rows out-of-fold, those of later weeks by the models of all train weeks."""
    table = prepare(options.households)
    seeds = []
    for seed in range(options.seeds):
        seeds.append(rare_label(table, seed) | never_bought(table, seed))
        print(f"boosting, seed {seed}:", {key: round(value, 4) for key, value in seeds[-1].items()}, flush=True)
    return gather(seeds)


def machine(frame: pd.DataFrame, seed: int) -> FactorizationMachineClassifier:
    """User side × item side; numbers and the rest of the context are on the user side."""
    user = [column for column in frame if column not in (*ITEM, "time", "week")]
    return FactorizationMachineClassifier(
        categorical=["household"],
        exclude=[column for column in ("time", "week") if column in frame],
        groups={"user": user, "item": ITEM},
        interactions=[("user", "item")],
        random_state=seed,
    )


def rare_label(table: Table, seed: int) -> dict[str, float]:
    """Coupon, raw columns: with and without scores of factorization machines of coupon and of buy."""
    raw = table.journey.X.drop(columns="week")
    Y = table.journey.Y[["buy", "coupon"]]
    tasks = [task for task in table.tasks if task.name in Y]
    models = [(name, machine(raw, seed)) for name in Y]
    latent = LatentFeatures(models, task={name: name for name in Y}, tasks=tasks, random_state=seed)
    wide = _with_columns(table, latent, raw, Y)
    with_scores, without = (_auc(table, frame, "coupon", seed) for frame in (wide, raw))
    alone = roc_auc(_labels(table, "coupon"), wide["coupon__score"].to_numpy()[table.test_rows])
    return {
        "coupon AUC: raw columns": without,
        "coupon AUC: FM score alone": alone,
        "coupon AUC: with out-of-fold FM scores": with_scores,
        "coupon AUC: gain of FM scores": with_scores - without,
    }


def never_bought(table: Table, seed: int) -> dict[str, float]:
    """Buy, with history columns, on the rows whose household never bought the product type before."""
    raw, buy = table.journey.X.drop(columns="week"), table.journey.Y[["buy"]]
    roles = {"user": "household", "item": "product_type", "time": "time"}
    als = LatentFeatures([("als", MatrixFactorization(random_state=seed, **roles))], random_state=seed)
    # Folds in time: beside rows of later weeks in its fit, a score would be better than it is where it is used.
    fm = LatentFeatures([("fm", machine(raw, seed))], tasks=[table.tasks[0]], time="time", random_state=seed)
    als_columns, fm_columns = (
        _with_columns(table, latent, raw, buy, **extra).drop(columns=list(raw))
        for latent, extra in ((als, {"events": table.journey.events}), (fm, {}))
    )
    new = first_time(table)
    figures = {"never-bought pairs: share of the test rows": float(new[table.test_rows].mean())}
    for name, frame in {
        "history": table.wide,
        "history + ALS scores": pd.concat([table.wide, als_columns], axis=1),
        "history + FM score": pd.concat([table.wide, fm_columns], axis=1),
        "history + both": pd.concat([table.wide, als_columns, fm_columns], axis=1),
    }.items():
        scores = _scores(table, frame, "buy", seed)
        y, rows = _labels(table, "buy"), new[table.test_rows]
        figures[f"never-bought pairs, buy AUC: {name}"] = roc_auc(y[rows], scores[rows])
    base = figures["never-bought pairs, buy AUC: history"]
    figures["never-bought pairs, buy AUC: gain of both"] = figures["never-bought pairs, buy AUC: history + both"] - base
    return figures


def first_time(table: Table) -> np.ndarray:
    """Rows whose pair has no event before the row's time."""
    events = table.journey.events.to_frame()
    first = events.groupby(["household", "product_type"], observed=True)["time"].min().rename("first").reset_index()
    rows = table.journey.X[["household", "product_type", "time"]].merge(
        first, on=["household", "product_type"], how="left"
    )
    return ~(rows["first"] < rows["time"]).to_numpy()


def _with_columns(table: Table, latent: LatentFeatures, X: pd.DataFrame, Y: pd.DataFrame, **extra: Any) -> pd.DataFrame:
    """All rows with the latent columns: train weeks by `fit_transform`, later ones by `transform`."""
    train = table.fit_rows[table.train]
    later = np.setdiff1d(np.arange(len(X)), train)
    fitted = latent.fit_transform(X.iloc[train], Y.iloc[train], **extra)
    return pd.concat([fitted, latent.transform(X.iloc[later])]).sort_index()


def _labels(table: Table, name: str) -> np.ndarray:
    return encode_targets(table.journey.Y.iloc[table.test_rows], table.tasks).view(name)


def _scores(table: Table, frame: pd.DataFrame, name: str, seed: int) -> np.ndarray:
    """LightGBM fitted on the train weeks, stopped by the validation weeks."""
    columns = FeatureColumns(("time", "household"), ("product_type",)).fit(frame.iloc[table.fit_rows])
    y = encode_targets(table.journey.Y.iloc[table.fit_rows], table.tasks).view(name)
    fitted = fit_one_per_task(
        columns.transform(frame.iloc[table.fit_rows]),
        {name: ("binary", y)},
        table.train,
        table.valid,
        tuned=True,
        seed=seed,
    )
    return fitted.predict(columns.transform(frame.iloc[table.test_rows]).values)[name]


def _auc(table: Table, frame: pd.DataFrame, name: str, seed: int) -> float:
    return roc_auc(_labels(table, name), _scores(table, frame, name, seed))
