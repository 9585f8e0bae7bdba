"""Sharing between tasks where it can help: few labels, many labels, planted structure; beside one learner per task."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from benchmarks import _markdown
from benchmarks import _sharing_tables as tables
from benchmarks._ensemble_tables import Table
from benchmarks._measure import cpu_seconds, spread, write
from benchmarks._parts import asked_parts, earlier_result, result_name
from benchmarks._sharing_auto import automatic, judge, over_seeds, relative_rmse
from benchmarks._tables import MissingTableError
from benchmarks.complete_journey import prepare
from mtl_classic import (
    HistoryFeatures,
    MultiTaskModel,
    PerTaskModel,
    SharedTreesModel,
    TaskGraphModel,
    make_funnel,
)

Row = dict[str, Any]
Part = Callable[[int, argparse.Namespace], Iterable[Row]]


def run(options: argparse.Namespace) -> None:
    """Run every part that is asked for, seed by seed; other rows stay as an earlier run has left them."""
    rows: list[Row] = earlier_result(options, result_name(options, "sharing")).get("rows", [])
    measured: set[str] = set()
    for seed in range(options.seeds):
        for name in asked_parts(options, PARTS):
            try:
                for row in PARTS[name](seed, options):
                    if name not in measured:  # the first figure of a part takes the place of all of an earlier run
                        rows = [earlier for earlier in rows if earlier["part"] != name]
                        measured.add(name)
                    rows.append({"part": name, "seed": seed, **row})
                    print(*(row[key] for key in ("table", "model", "figure", "value", "alone", "cost")), flush=True)
                    _write(rows, options)  # after each: a run that is stopped has said what it knows
            except MissingTableError as error:
                print(f"{name} is left out: {error}")


def _write(rows: list[Row], options: argparse.Namespace) -> None:
    order = list(PARTS)
    rows = sorted(rows, key=lambda row: (order.index(row["part"]), row["seed"]))
    summary = []
    for key, group in pd.DataFrame(rows).groupby(["table", "figure", "model"], sort=False):
        summary.append(
            {
                **dict(zip(("table", "figure", "model"), key, strict=True)),
                "seeds": len(group),
                **spread(group["value"]),
                "against alone": spread(group["value"] - group["alone"]),
                "cost ÷ alone": group["cost"].mean(),
            }
        )
    lines = ["# Sharing between tasks", ""]
    lines += ["One thread; against one learner per task on the same rows; mean, least and greatest over the seeds.", ""]
    lines += _summary_table(summary)
    if tasks := over_seeds(rows):
        lines += [
            "",
            "Tasks over the seeds. Noise is that of the test rows and that of training, which the seeds show: the "
            "interval is the mean difference ± 1.96 standard errors of both.",
            "",
            *_tasks_table(tasks),
        ]
    write(
        options.out,
        result_name(options, "sharing"),
        {"summary": summary, "tasks": tasks, "rows": rows},
        "\n".join(lines),
        show=False,
    )


def _summary_table(summary: list[Row]) -> list[str]:
    heads = (
        "table",
        "figure",
        "model",
        "seeds",
        "mean",
        "low",
        "high",
        "difference",
        "low",
        "high",
        "fit time ÷ alone",
    )
    rows = (
        (
            *(str(s[key]) for key in heads[:4]),
            *(f"{s[key]:.4g}" for key in ("mean", "low", "high")),
            *(f"{s['against alone'][key]:+.4f}" for key in ("mean", "low", "high")),
            f"{s['cost ÷ alone']:.2f}",
        )
        for s in summary
    )
    return _markdown.table(heads, rows)


def _tasks_table(tasks: list[Row]) -> list[str]:
    heads = ("table", "model", "task", "change of loss, %", "low", "high", "verdict")
    rows = (
        (t["table"], t["model"], t["task"], *(f"{t[key]:+.2f}" for key in ("change", "low", "high")), t["verdict"])
        for t in tasks
    )
    return _markdown.table(heads, rows)


def compare_models(
    table: str,
    alone: Any,
    models: dict[str, Any],
    train: tuple[Any, Any],
    test: Any,
    figures: Mapping[str, Callable[..., float]],
    plan: Any = None,
) -> list[Row]:
    """Figures of each model beside those of the baseline."""
    seconds, fitted = cpu_seconds(lambda: alone.fit(*train, plan=plan))
    scores = fitted.predict_scores(test)
    base = {name: figure(scores) for name, figure in figures.items()}
    rows = []
    for name, model in models.items():
        cost, fitted = cpu_seconds(lambda: model.fit(*train, plan=plan))  # noqa: B023
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
    X, Y = _conflict(seed, 20_000)
    true = {("a", "opposite"), ("opposite", "a"), ("b", "equal"), ("equal", "b")}
    found = {edge[:2] for edge in TaskGraphModel(cv=3, random_state=seed).fit(X, Y).edges_}
    f1 = 2 * len(found & true) / (len(found) + len(true))
    shared = {"table": "planted conflict", "figure": "F1 of edges", "model": "task graph"}
    return [{**shared, "value": f1, "alone": 0.0, "cost": np.nan}]


def conflict(seed: int, options: argparse.Namespace) -> Iterable[Row]:
    """No harm: tasks worse than alone beyond the noise, among opposite, equal and unrelated ones."""
    X, Y = _conflict(seed, 20_000)
    train, test = np.arange(10_000), np.arange(10_000, 20_000)
    alone = PerTaskModel(random_state=seed)
    seconds, _ = cpu_seconds(lambda: alone.fit(X[train], Y.iloc[train]))
    for name, settings in CONFLICT_MODELS.items():
        model = MultiTaskModel(n_jobs=1, random_state=seed, **settings)
        cost, _ = cpu_seconds(lambda: model.fit(X[train], Y.iloc[train]))  # noqa: B023
        table = Table(X, Y, model.tasks_, X[test], Y.iloc[test], {})
        scores, base = (m.predict_scores(X[test]) for m in (model, alone))
        for row in judge(table, scores, base):
            yield {"table": "planted conflict", "model": name, "cost": cost / seconds, **row}


CONFLICT_MODELS: dict[str, dict[str, str]] = {
    "auto, fast": {"preset": "fast"},
    "auto, best": {"preset": "best"},
    "dynamic": {"structure": "dynamic"},
    "fusion": {"structure": "fusion"},
}


def _conflict(seed: int, n: int) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
    X = rng.normal(size=(n, 12))
    f, g = X[:, :6].sum(axis=1) / 2, X[:, 6:].sum(axis=1) / 2
    logits = {"a": f, "opposite": -f, "b": g, "equal": g, "coin": 0 * f, "other": X[:, 0] - X[:, 1]}
    return X, pd.DataFrame({name: (z + rng.logistic(size=n) > 0) * 1.0 for name, z in logits.items()})


def joint_funnel(seed: int, options: argparse.Namespace) -> list[Row]:
    """The correction through the product beside the product, with plenty of clicks and rare conversions, and without.

    Judged by the log-loss that is expected under the true probabilities: the noise of rare labels would drown it.
    """
    rows: list[Row] = []
    for name, rates in {"": (0.3, 0.35, 0.4), ", rare conversions": (0.5, 0.15, 0.2)}.items():
        shop = make_funnel(30_000, n_users=2_000, n_items=300, rates=rates, random_state=seed)
        table = HistoryFeatures(**shop.roles).fit_transform(shop.X, events=shop.events)
        early = (shop.X["day"] < shop.X["day"].quantile(0.7)).to_numpy()
        truth = shop.probabilities[~early]
        product, joint = (
            SharedTreesModel(shop.tasks, funnel=funnel, n_jobs=1, random_state=seed, **shop.roles)
            for funnel in ("product", "joint")
        )
        figures = {
            f"expected log-loss of {task}": lambda s, task=task: expected_log_loss(truth[task], s[task])  # noqa: B023
            for task in ("view", "cart", "buy")
        }
        train = table[early], shop.Y[early]
        rows += compare_models(f"planted funnel{name}", product, {"joint": joint}, train, table[~early], figures)
    return rows


def expected_log_loss(truth: pd.Series, score: pd.Series) -> float:
    """Mean log-loss over labels drawn with the true probabilities."""
    p, q = truth.to_numpy(), score.to_numpy()
    return float(-np.mean(p * np.log(q) + (1 - p) * np.log1p(-q)))


def journey(seed: int, options: argparse.Namespace) -> Iterable[Row]:
    """Discounted purchases with 1 % of their labels and with all, beside all purchases: the front door and direct."""
    table = _journey(options.households)
    tasks = tuple(task for task in table.tasks if task.name in ("buy", "discount"))
    X, X_test = (table.wide.iloc[rows] for rows in (table.fit_rows, table.test_rows))
    Y, Y_test = (table.journey.Y[["buy", "discount"]].iloc[rows] for rows in (table.fit_rows, table.test_rows))
    figures = {
        "AUC of discount": lambda s: roc_auc_score(Y_test["discount"], s["discount"]),
        "log-loss of discount": lambda s: log_loss(Y_test["discount"], s["discount"]),
    }
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    for share in (0.01, 1.0):
        labels = Y.copy()
        labels.loc[rng.random(len(labels)) >= share, "discount"] = np.nan
        alone = PerTaskModel({"discount": "binary"}, random_state=seed, **table.roles)
        auto = MultiTaskModel(tasks, aggregates=None, latent=None, n_jobs=1, random_state=seed, **table.roles)
        name = f"Complete Journey, {share:.0%} of the labels"
        seconds, base = cpu_seconds(lambda: alone.fit(X, labels[["discount"]]).predict_scores(X_test))  # noqa: B023
        cost, scores = cpu_seconds(lambda: auto.fit(X, labels).predict_scores(X_test))  # noqa: B023
        for key, figure in figures.items():
            shared = {"table": name, "figure": key, "model": "auto, fast"}
            yield {**shared, "value": figure(scores), "alone": figure(base), "cost": cost / seconds}


@lru_cache
def _journey(households: int | None) -> Any:
    return prepare(households)


def birds(seed: int, options: argparse.Namespace) -> list[Row]:
    """Rare labels on 322 rows: multi-output extra trees beside one forest per label."""
    t = tables.birds(options)
    figure = {"mean AP": lambda s: np.mean([average_precision_score(t.Y_test[name], s[name]) for name in t.Y_test])}
    alone = PerTaskModel(learner="extra_trees", random_state=seed)
    shared = {"shared extra trees": SharedTreesModel(trees="extra", random_state=seed)}
    return compare_models("birds", alone, shared, (t.X, t.Y), t.X_test, figure)


def rf1(seed: int, options: argparse.Namespace) -> list[Row]:
    """Eight river flows: average relative RMSE."""
    t = tables.rf1(options)
    figure = {"average relative RMSE": lambda s: relative_rmse(t, s)}
    graph = {"task graph": TaskGraphModel(t.tasks, random_state=seed)}
    alone = PerTaskModel(t.tasks, random_state=seed)
    return compare_models("rf1", alone, graph, (t.X, t.Y), t.X_test, figure, plan=tables.plan_for("rf1", t, seed))


def adult(seed: int, options: argparse.Namespace) -> list[Row]:
    """Income with 1 % of its labels, marriage with all."""
    return _few("adult", tables.adult(options, seed), "income", (0.01,), seed)


def clothing(seed: int, options: argparse.Namespace) -> list[Row]:
    """Recommended with few labels, rating with all."""
    return _few("women's clothing", tables.clothing(options, seed), "recommended", (0.01, 0.03, 0.1), seed)


def _few(name: str, table: Table, target: str, shares: tuple[float, ...], seed: int) -> list[Row]:
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[2])
    rows: list[Row] = []
    for share in shares:
        labels = table.Y.copy()
        labels.loc[rng.random(len(labels)) >= share, target] = np.nan
        rows += compare_models(
            f"{name}, {share:.0%} of the labels",
            PerTaskModel(table.tasks, random_state=seed),
            {"task graph": TaskGraphModel(table.tasks, random_state=seed)},
            (table.X, labels),
            table.X_test,
            {f"log-loss of {target}": lambda s: log_loss(table.Y_test[target], s[target])},
        )
    return rows


PARTS: dict[str, Part] = {
    part.__name__: part
    for part in (planted, edges, conflict, joint_funnel, journey, birds, rf1, adult, clothing, automatic)
}
