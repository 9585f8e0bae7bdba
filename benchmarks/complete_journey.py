"""Complete Journey: five tasks of a grocery chain, ours beside one LightGBM per task, on the same columns and weeks.

Train on weeks 34–41, stop and choose on 42–44, judge on 45–50. A seed changes every model's random numbers and the
labels that are hidden; the rows stay. What it costs is the business of ``complete_journey_time``.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from benchmarks import _markdown
from benchmarks._baselines import fit_one_per_task
from benchmarks._measure import cpu_seconds, spread, write
from benchmarks._parts import result_name
from mtl_classic import FunnelModel, MultiTaskModel, PerTaskModel, Task
from mtl_classic._core.losses import task_loss
from mtl_classic._core.targets import encode_targets
from mtl_classic.datasets import load_complete_journey
from mtl_classic.events import HistoryFeatures
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import average_precision, compare, losses, ndcg, r2, roc_auc
from mtl_classic.model_selection import FoldPlan

Scores = dict[str, np.ndarray]


@dataclass
class Table:
    """The table with its history, cut by weeks, and the encoded matrix that all models read."""

    journey: Any
    tasks: tuple[Task, ...]
    ranking: Task
    roles: dict[str, str]
    wide: pd.DataFrame
    fit_rows: np.ndarray
    test_rows: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    history_seconds: float

    @property
    def plan(self) -> FoldPlan:
        """The one split: training and validation weeks."""
        return FoldPlan(((self.train, self.valid),), len(self.fit_rows), temporal=True)


def run(options: argparse.Namespace) -> None:
    """Run all seeds and write the result."""
    table = prepare(options.households)
    features = Features(table)
    seeds = []
    for seed in range(options.seeds):
        seeds.append(run_seed(table, features, seed))
        print(
            f"seed {seed}:", {name: round(float(value), 5) for name, value in seeds[-1]["figures"].items()}, flush=True
        )
        _write(table, seeds, options)  # after each: a run that is stopped has said what it knows


def _write(table: Table, seeds: list[dict[str, Any]], options: argparse.Namespace) -> None:
    summary = {name: spread(s["figures"][name] for s in seeds) for name in seeds[0]["figures"]}
    verdicts = [s["verdicts"] for s in seeds]
    result = {"seeds": len(seeds), "rows": describe(table), "summary": summary, "verdicts": verdicts}
    write(options.out, result_name(options, "complete_journey"), result, markdown(table, summary, verdicts, len(seeds)))


def prepare(households: int | None) -> Table:
    """Load the table and append its history."""
    journey = load_complete_journey(n_households=households)
    roles = dict(journey.roles)
    seconds, wide = cpu_seconds(
        lambda: HistoryFeatures(**roles).fit_transform(journey.X, journey.Y, events=journey.events)
    )
    wide = wide.drop(
        columns="week"
    )  # a calendar number beyond all that was seen: time says the same, and is no feature
    split = np.asarray(journey.split)
    fit_rows = np.flatnonzero(split != "test")
    of_fit = split[fit_rows]
    return Table(
        journey=journey,
        tasks=tuple(task for task in journey.tasks if task.kind != "ranking"),
        ranking=Task("relevance", "ranking", query=("household", "time")),
        roles=roles,
        wide=wide,
        fit_rows=fit_rows,
        test_rows=np.flatnonzero(split == "test"),
        train=np.flatnonzero(of_fit == "train"),
        valid=np.flatnonzero(of_fit == "validation"),
        history_seconds=seconds,
    )


class Features:
    """The encoded matrices of fit and test rows, with history and without, and the labels."""

    def __init__(self, table: Table) -> None:
        exclude = ("time", "household")
        raw = list(table.journey.X.columns)
        columns = FeatureColumns(exclude, ("product_type",)).fit(table.wide.iloc[table.fit_rows])
        self.fit = columns.transform(table.wide.iloc[table.fit_rows])
        self.test = columns.transform(table.wide.iloc[table.test_rows])
        self.raw_columns = [j for j, name in enumerate(self.fit.names) if name in raw]
        labels = table.journey.Y
        self.targets = encode_targets(labels.iloc[table.fit_rows], table.tasks)
        self.test_targets = encode_targets(labels.iloc[table.test_rows], table.tasks, classes=self.targets.classes)

    def raw(self, features: Any) -> Any:
        """The same matrix without its columns of history."""
        kept = tuple(k for k, j in enumerate(self.raw_columns) if j in features.categorical)
        return type(features)(np.ascontiguousarray(features.values[:, self.raw_columns]), features.names, kept)


def run_seed(table: Table, features: Features, seed: int) -> dict[str, Any]:
    """All comparisons of one seed."""
    figures: dict[str, float] = {}
    X, Y = table.wide.iloc[table.fit_rows], table.journey.Y.iloc[table.fit_rows]
    X_test = table.wide.iloc[table.test_rows]
    labels = {task.name: (task.kind, features.targets.view(task.name)) for task in table.tasks}

    def single(tuned: bool, only: tuple[str, ...] = (), matrix: Any = None, refit: bool = False) -> Any:
        chosen = {name: label for name, label in labels.items() if not only or name in only}
        return fit_one_per_task(
            matrix or features.fit, chosen, table.train, table.valid, tuned=tuned, refit=refit, seed=seed
        )

    default, tuned = single(tuned=False), single(tuned=True)
    raw = single(tuned=True, only=("buy",), matrix=features.raw(features.fit))
    tuned_scores = tuned.predict(features.test.values)
    default_scores = default.predict(features.test.values)
    raw_scores = raw.predict(features.raw(features.test).values)
    funnel = FunnelModel(table.tasks, refit=False, random_state=seed, **table.roles)
    funnel_scores = columns_of(funnel.fit(X, Y, plan=table.plan).predict_scores(X_test))
    figures |= quality(features, raw_scores, default_scores, tuned_scores, funnel_scores)
    average = FunnelModel(table.tasks, mode="average", refit=False, random_state=seed, **table.roles).fit(
        X, Y, plan=table.plan
    )
    average_scores = columns_of(average.predict_scores(X_test))
    figures |= {
        f"funnel, averaged with direct, against tuned: {n}": v
        for n, v in changes(features, average_scores, tuned_scores).items()
    }
    ours = PerTaskModel(table.tasks, refit=False, random_state=seed, **table.roles).fit(X, Y, plan=table.plan)
    ours_scores = columns_of(ours.predict_scores(X_test))
    figures |= {
        f"funnel against our own learners: {n}": v for n, v in changes(features, funnel_scores, ours_scores).items()
    }
    figures |= few_labels(table, features, X, seed)
    figures |= ranking(table, X, X_test, funnel_scores, seed)
    refit_scores = single(tuned=True, refit=True).predict(features.test.values)
    verdicts = {}
    for preset in ("fast", "best"):
        model = MultiTaskModel(
            table.tasks, aggregates=None, latent=None, preset=preset, random_state=seed, **table.roles
        )
        scores = columns_of(model.fit(X, Y).predict_scores(X_test))
        figures |= {f"{preset}: {name}": value for name, value in changes(features, scores, tuned_scores).items()}
        verdicts[preset] = {
            "tuned": judge(table, features, scores, tuned_scores),
            "tuned, refitted too": judge(table, features, scores, refit_scores),
            "fallbacks": model.fallbacks_,
            "members": model.member_weights_.to_dict() if preset == "best" else {},
        }
    return {"figures": figures, "verdicts": verdicts}


def columns_of(frame: pd.DataFrame) -> Scores:
    """Scores as arrays by task."""
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def loss_of(features: Features, name: str, scores: Scores) -> float:
    """Proper loss on the test rows."""
    task = next(t for t in features.targets.tasks if t.name == name)
    return task_loss(task.kind, features.test_targets.view(name), scores[name])


def changes(features: Features, ours: Scores, theirs: Scores) -> dict[str, float]:
    """Relative changes of loss in percent, and the difference of R² for spend."""
    figures = {}
    for name in ("buy", "discount", "coupon", "quantity"):
        figures[f"{name} loss change, %"] = 100 * (loss_of(features, name, ours) / loss_of(features, name, theirs) - 1)
    y = features.test_targets.view("spend")
    figures["spend R² difference"] = r2(y, ours["spend"]) - r2(y, theirs["spend"])
    return figures


def quality(features: Features, raw: Scores, default: Scores, tuned: Scores, funnel: Scores) -> dict[str, float]:
    """Accuracy of history, funnel and rarity-aware defaults."""
    buy, coupon = features.test_targets.view("buy"), features.test_targets.view("coupon")
    figures = {
        "buy AUC: raw columns": roc_auc(buy, raw["buy"]),
        "buy AUC: with history": roc_auc(buy, tuned["buy"]),
        "buy AUC: gain of history": roc_auc(buy, tuned["buy"]) - roc_auc(buy, raw["buy"]),
    }
    figures |= {f"funnel against tuned: {name}": value for name, value in changes(features, funnel, tuned).items()}
    auc = {
        key: roc_auc(coupon, scores["coupon"])
        for key, scores in {"ours": funnel, "default": default, "tuned": tuned}.items()
    }
    ap = {
        key: average_precision(coupon, scores["coupon"])
        for key, scores in {"ours": funnel, "default": default, "tuned": tuned}.items()
    }
    figures |= {f"coupon AUC: {key}": value for key, value in auc.items()}
    figures["coupon AUC: ours − LightGBM defaults"] = auc["ours"] - auc["default"]
    figures["coupon average precision: ours ÷ LightGBM defaults − 1, %"] = 100 * (ap["ours"] / ap["default"] - 1)
    for name in ("buy", "discount", "coupon", "quantity", "spend"):
        figures[f"tuned loss: {name}"] = loss_of(features, name, tuned)
    return figures


def few_labels(table: Table, features: Features, X: pd.DataFrame, seed: int) -> dict[str, float]:
    """Hide all but 1 % or 10 % of the discount labels; the purchase stays known."""
    figures = {}
    for percent in (1, 10):
        rng = np.random.default_rng(np.random.SeedSequence([seed, percent]))
        Y = table.journey.Y.iloc[table.fit_rows][["buy", "discount"]].copy()
        Y.loc[rng.random(len(Y)) >= percent / 100, "discount"] = np.nan
        alone = PerTaskModel({"discount": "binary"}, random_state=seed, **table.roles).fit(
            X, Y[["discount"]], plan=table.plan
        )
        pair = tuple(task for task in table.tasks if task.name in Y)
        funnel = FunnelModel(pair, random_state=seed, **table.roles).fit(X, Y, plan=table.plan)
        X_test = table.wide.iloc[table.test_rows]
        ours, direct = (loss_of(features, "discount", columns_of(m.predict_scores(X_test))) for m in (funnel, alone))
        figures[f"discount with {percent} % of its labels: funnel against direct, %"] = 100 * (ours / direct - 1)
    return figures


def ranking(table: Table, X: pd.DataFrame, X_test: pd.DataFrame, funnel: Scores, seed: int) -> dict[str, float]:
    """Lambdarank within (household, week), alone and averaged with the funnel's scores, all as standard scores."""
    Y = table.journey.Y[["relevance"]]
    model = PerTaskModel((table.ranking,), refit=False, random_state=seed, **table.roles)
    model.fit(X, Y.iloc[table.fit_rows], plan=table.plan)
    score = model.predict_scores(X_test)["relevance"].to_numpy()
    query = X_test.groupby(["household", "time"], sort=False).ngroup().to_numpy()
    relevance = Y.iloc[table.test_rows]["relevance"].to_numpy()

    def standard(values: np.ndarray) -> np.ndarray:
        by = pd.Series(values).groupby(query)
        return ((values - by.transform("mean")) / by.transform("std").clip(lower=1e-12)).to_numpy()

    alone = ndcg(relevance, score, query, k=10)
    ranks, spend = standard(score), standard(np.log(np.maximum(funnel["spend"], 1e-9)))
    buy = standard(logit(funnel["buy"]))
    both = ndcg(relevance, ranks + spend, query, k=10)
    three = ndcg(relevance, 2 * ranks + spend + buy, query, k=10)
    return {
        "NDCG@10: lambdarank": alone,
        "NDCG@10: averaged with mean spend": both,
        "NDCG@10: gain": both - alone,
        "NDCG@10: averaged with mean spend and P(buy), half and quarters": three,
        "NDCG@10: gain of both": three - alone,
    }


def judge(table: Table, features: Features, ours: Scores, theirs: Scores) -> dict[str, Any]:
    """Verdict of each task: the paired bootstrap by household, Holm-corrected."""
    household = table.wide["household"].to_numpy()[table.test_rows]
    own, base = (
        {t.name: losses(t.kind, features.test_targets.view(t.name), s[t.name]) for t in table.tasks}
        for s in (ours, theirs)
    )
    frame = compare(own, base, clusters=household)
    shown = frame[["value", "baseline", "difference", "difference_low", "difference_high", "verdict"]]
    return {str(name): row.to_dict() for name, row in shown.iterrows()}


def describe(table: Table) -> dict[str, Any]:
    """Sizes and base rates."""
    Y = table.journey.Y.iloc[table.test_rows]
    return {
        "all": len(table.wide),
        "train": len(table.train),
        "validation": len(table.valid),
        "test": len(table.test_rows),
        "columns": table.wide.shape[1],
        "test means": {name: float(Y[name].mean()) for name in Y},
    }


AIMS: dict[str, tuple[str, float]] = {
    "buy AUC: gain of history": ("≥", 0.030),
    "funnel against tuned: discount loss change, %": ("≤", -0.25),
    "funnel against tuned: quantity loss change, %": ("≤", -0.5),
    "funnel against tuned: coupon loss change, %": ("≤", 0.3),
    "funnel against tuned: spend R² difference": ("≥", 0.012),
    "coupon AUC: ours − LightGBM defaults": ("≥", 0.015),
    "coupon average precision: ours ÷ LightGBM defaults − 1, %": ("≥", 15.0),
    "discount with 1 % of its labels: funnel against direct, %": ("≤", -3.0),
    "discount with 10 % of its labels: funnel against direct, %": ("≤", -0.7),
    "NDCG@10: gain": ("≥", 0.002),
}


def markdown(table: Table, summary: dict[str, Any], verdicts: list[Any], seeds: int) -> str:
    """The result as a page."""
    sizes = describe(table)
    lines = [
        "# Complete Journey",
        "",
        f"{sizes['all']:,} rows (household, product type, week); train {sizes['train']:,}, validation "
        f"{sizes['validation']:,}, test {sizes['test']:,}; {seeds} seeds; one thread. Mean over seeds, with the least "
        "and the greatest.",
        "",
        *_markdown.figures(summary, AIMS),
        "",
        "Verdicts by seed (paired bootstrap by household, Holm over tasks) against one tuned LightGBM per task:",
        "",
    ]
    rows = []
    for preset in verdicts[0]:
        for baseline in [b for b in verdicts[0][preset] if b not in ("fallbacks", "members")]:
            for task in verdicts[0][preset][baseline]:
                each = [v[preset][baseline][task] for v in verdicts]
                change = np.mean([100 * row["difference"] / row["baseline"] for row in each])
                rows.append((preset, baseline, task, f"{change:+.2f}", ", ".join(row["verdict"] for row in each)))
    heads = ("preset", "baseline", "task", "change of loss, %", "verdicts")
    return "\n".join(lines + _markdown.table(heads, rows))


warnings.filterwarnings("ignore", message=".*categorical_feature.*")
