"""``structure="auto"`` beside one LightGBM per task, on tables that nobody chose it for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._baselines import fit_one_per_task
from benchmarks._ensemble_tables import Table
from benchmarks._measure import cpu_seconds
from benchmarks._sharing_tables import plan_for, tables
from mtl_classic import FoldPlan, MultiTaskModel
from mtl_classic._core.targets import encode_targets
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import evaluate_scores
from mtl_classic.model_selection._validation_split import validation_split

Row = dict[str, Any]

PRESETS = ("fast", "best")
BASELINES = ("defaults", "tuned")
SHOWN = ("value", "baseline", "difference", "difference_low", "difference_high", "verdict")


def automatic(seed: int, options: argparse.Namespace) -> Iterator[Row]:
    """Each preset with every choice left to it, on each table.

    The baselines are LightGBM with the library's defaults, and regularized for rare labels; both stop early on a tenth
    of the rows (in time, the latest; where there is a plan, its last fold) and are then fitted on all rows for the
    rounds found, as ours are.
    """
    for name, table in tables(seed, options):
        plan = plan_for(name, table, seed)
        alone = {kind: _alone(table, kind == "tuned", seed, plan) for kind in BASELINES}
        for preset in PRESETS:
            model = MultiTaskModel(table.tasks, preset=preset, n_jobs=1, random_state=seed, **table.roles)
            cost, _ = cpu_seconds(lambda: model.fit(table.X, table.Y, plan=plan))  # noqa: B023
            scores = model.predict_scores(table.X_test)
            for kind, (seconds, base) in alone.items():
                shared = {"table": name, "model": f"auto, {preset}, against {kind}", "cost": cost / seconds}
                for row in judge(table, scores, base):
                    yield {**shared, **row}


def judge(table: Table, scores: pd.DataFrame, base: pd.DataFrame) -> Iterator[Row]:
    """Losses of all tasks beside those of a baseline, on the test rows of a table."""
    found = evaluate_scores(table.Y_test, scores, tasks=table.tasks, baseline=base, metrics=["loss"])
    tasks = {str(task): {key: row[key] for key in SHOWN} for (task, _), row in found.iterrows()}
    ratio = float((found["value"] / found["baseline"]).mean())
    worse = float((found["verdict"] == "worse").sum())
    yield {"figure": "mean of loss ÷ loss alone", "value": ratio, "alone": 1.0, "tasks": tasks}
    yield {"figure": "tasks worse beyond the noise", "value": worse, "alone": 0.0}
    if all(task.kind == "regression" for task in table.tasks):
        own, others = (relative_rmse(table, s) for s in (scores, base))
        yield {"figure": "average relative RMSE", "value": own, "alone": others}


def over_seeds(rows: Sequence[Row]) -> list[Row]:
    """For each task the mean difference over the seeds, with the noise of the test rows and of training."""
    differences: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        for task, found in row.get("tasks", {}).items():
            differences.setdefault((row["table"], row["model"], task), []).append(found)
    out = []
    for (table, model, task), found in differences.items():
        d, low, high, base = (
            np.array([f[key] for f in found]) for key in ("difference", "difference_low", "difference_high", "baseline")
        )
        of_rows = np.mean(((high - low) / (2 * 1.96)) ** 2)
        of_training = d.var(ddof=1) / len(d) if len(d) > 1 else 0.0
        change, margin = (100 * x / base.mean() for x in (d.mean(), 1.96 * np.sqrt(of_rows + of_training)))
        verdict = "worse" if change > margin else "better" if change < -margin else "same"
        out.append(
            {"table": table, "model": model, "task": task, "seeds": len(d), "verdict": verdict, "change": change}
        )
        out[-1] |= {"low": change - margin, "high": change + margin}
    return out


def relative_rmse(table: Table, scores: pd.DataFrame) -> float:
    """Mean over tasks of the root of squared error ÷ that of the training mean."""
    errors, prior = ((s - table.Y_test) ** 2 for s in (scores[list(table.Y)], table.Y.mean()))
    return float(np.sqrt(errors.mean() / prior.mean()).mean())


def _alone(table: Table, tuned: bool, seed: int, plan: FoldPlan | None) -> tuple[float, pd.DataFrame]:
    """CPU seconds and test scores of one LightGBM per task."""
    time = table.X[table.roles["time"]] if "time" in table.roles else None
    columns = FeatureColumns(tuple(table.roles.values()), ()).fit(table.X)
    split = plan.last if plan else validation_split(table.Y, 0.1, groups=None, time=time, random_state=seed)
    if split is None:
        raise ValueError("The table is too small to stop by a part of it.")
    train, valid = split
    targets = encode_targets(table.Y, table.tasks)
    labels = {task.name: (task.kind, targets.view(task.name)) for task in table.tasks}
    features = columns.transform(table.X)
    seconds, fitted = cpu_seconds(
        lambda: fit_one_per_task(features, labels, train, valid, tuned=tuned, refit=True, seed=seed)
    )
    return seconds, pd.DataFrame(fitted.predict(columns.transform(table.X_test).values), index=table.X_test.index)
