"""Tables split by time: our presets beside one LightGBM per task, on the same columns."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from benchmarks import _markdown
from benchmarks._baselines import fit_one_per_task
from benchmarks._measure import cpu_seconds, spread, write
from mtl_classic import EventLog, MultiTaskModel, Task
from mtl_classic._core.targets import encode_targets
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import evaluate_scores

PRESETS = ("fast", "best")
BASELINES = ("defaults", "tuned")
WITH_LATENT = "best, latent features"


@dataclass
class PlainTable:
    """Rows in time order, with labels; ``settings`` of our model; ``clusters``: the column whose values are drawn.

    ``events``, where there is a log that latent features, of ``"best"``, are learnt from in one more fit.
    """

    name: str
    title: str
    X: pd.DataFrame
    Y: pd.DataFrame
    tasks: tuple[Task, ...]
    roles: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    clusters: str | None = None
    events: EventLog | None = None

    def split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows to train on, to stop by, and to judge on: the last fifth of the time, and a tenth before."""
        time = self.X[self.roles["time"]]
        stop, cut = (time.iloc[int(share * len(time))] for share in (0.7, 0.8))
        return tuple(np.flatnonzero(rows) for rows in (time < stop, (time >= stop) & (time < cut), time >= cut))


def compare_presets(table: PlainTable, options: argparse.Namespace) -> None:
    """Fit on the first 80 % of the time, judge on the rest; all seeds."""
    train, valid, test = table.split()
    fit_rows = np.r_[train, valid]  # the first ones, so that positions in the table are those among them
    seeds = [_seed(table, fit_rows, test, train, valid, seed) for seed in range(options.seeds)]
    figures = {name: spread(s["figures"][name] for s in seeds) for name in seeds[0]["figures"]}
    rows = {"fit": len(fit_rows), "test": len(test)}
    result = {"seeds": options.seeds, "rows": rows, "summary": figures, "by_seed": seeds}
    write(options.out, table.name, result, _page(table, rows, figures, seeds))


def _seed(
    table: PlainTable, fit_rows: np.ndarray, test: np.ndarray, train: np.ndarray, valid: np.ndarray, seed: int
) -> dict[str, Any]:
    X, Y = table.X.iloc[fit_rows], table.Y.iloc[fit_rows]
    models, times = {}, {}
    for preset in PRESETS:
        model = MultiTaskModel(table.tasks, preset=preset, random_state=seed, **table.roles, **table.settings)
        times[preset], models[preset] = cpu_seconds(lambda: model.fit(X, Y))  # noqa: B023
    if table.events is not None:
        model = clone(models["best"]).set_params(latent="auto")
        times[WITH_LATENT], models[WITH_LATENT] = cpu_seconds(lambda: model.fit(X, Y, events=table.events))
    history = models["fast"].pipeline_[:-1]
    wide, wide_test = (history.transform(part) if len(history) else part for part in (X, table.X.iloc[test]))
    columns = FeatureColumns(tuple(table.roles.values())[-1:], tuple(table.roles.values())).fit(wide)
    features, features_test = columns.transform(wide), columns.transform(wide_test)
    targets = encode_targets(Y, table.tasks)
    labels = {task.name: (task.kind, targets.view(task.name)) for task in table.tasks}
    verdicts: dict[str, Any] = {}
    for baseline in BASELINES:
        times[baseline], fitted = cpu_seconds(
            lambda: fit_one_per_task(features, labels, train, valid, tuned=baseline == "tuned", refit=True, seed=seed)  # noqa: B023
        )
        scores = pd.DataFrame(fitted.predict(features_test.values))
        for preset, model in models.items():
            verdicts[f"{preset} against {baseline}"] = _judge(table, model, test, scores)
    figures = {f"fit time: {name} ÷ {b}": times[name] / times[b] for name in models for b in BASELINES}
    result = {"figures": figures, "verdicts": verdicts}
    if WITH_LATENT in models:
        without = models["best"].predict_scores(table.X.iloc[test]).reset_index(drop=True)
        verdicts[f"{WITH_LATENT}, against best"] = _judge(table, models[WITH_LATENT], test, without)
        result["latent"] = {
            "choice": models[WITH_LATENT].latent_choice_,
            "weights": models[WITH_LATENT].member_weights_.to_dict(),
        }
    return result


def _judge(table: PlainTable, model: MultiTaskModel, test: np.ndarray, baseline: pd.DataFrame) -> dict[str, Any]:
    frame = evaluate_scores(
        table.Y.iloc[test],
        model.predict_scores(table.X.iloc[test]),
        tasks=table.tasks,
        baseline=baseline,
        clusters=None if table.clusters is None else table.X[table.clusters].iloc[test],
        metrics=["loss"],
    )
    columns = ["value", "baseline", "difference", "difference_low", "difference_high", "verdict"]
    return {str(name): row.to_dict() for (name, _), row in frame[columns].iterrows()}


def _page(table: PlainTable, rows: dict[str, int], figures: dict[str, Any], seeds: list[dict[str, Any]]) -> str:
    lines = [f"# {table.title}", ""]
    lines += [
        f"{rows['fit']:,} rows to fit, the {rows['test']:,} latest to judge; {len(seeds)} seeds; one thread; "
        "baselines are refitted on all fit rows.",
        "",
    ]
    lines += [*_markdown.figures(figures, digits=3), ""]
    judged = []
    for pair in seeds[0]["verdicts"]:
        for task in seeds[0]["verdicts"][pair]:
            each = [s["verdicts"][pair][task] for s in seeds]
            value, base = (np.mean([row[key] for row in each]) for key in ("value", "baseline"))
            change, verdicts = 100 * (value / base - 1), ", ".join(row["verdict"] for row in each)
            judged.append((pair, task, f"{value:.5g}", f"{base:.5g}", f"{change:+.2f}", verdicts))
    heads = ("preset, baseline", "task", "loss", "baseline's", "change, %", "verdict by seed")
    return "\n".join(lines + _markdown.table(heads, judged))
