"""The main job: a grocery chain's event log becomes a multi-task table, one model learns five tasks from it.

Prints, task by task, how the model compares with one LightGBM per task on the same columns and weeks.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from benchmarks._baselines import fit_one_per_task
from mtl_classic import HistoryFeatures, MultiTaskModel, evaluate
from mtl_classic._core.targets import encode_targets
from mtl_classic.datasets import load_complete_journey
from mtl_classic.learners._columns import FeatureColumns


def run(options: argparse.Namespace) -> None:
    """Load, fit, compare."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)

    say("Complete Journey: purchases of 2,469 households become rows (household, product type, week) …")
    journey = load_complete_journey(n_households=options.households)
    tasks = tuple(task for task in journey.tasks if task.kind != "ranking")
    X, Y = journey.X.drop(columns="week"), journey.Y
    test = np.asarray(journey.split) == "test"
    rates = ", ".join(f"{task.name} {Y[task.name].mean():.2%}" for task in tasks if task.kind == "binary")
    say(f"{len(X):,} rows, {journey.events.n_events:,} events; {rates}")

    say('MultiTaskModel, preset "fast": history, then the funnel buy → discount, coupon, quantity, spend …')
    model = MultiTaskModel(tasks, **journey.roles, n_jobs=-1, random_state=0)
    model.fit(X[~test], Y[~test], events=journey.events)

    say("one LightGBM per task (its defaults, early stopping), on the same columns, history included …")
    baseline = _one_lightgbm_per_task(journey, tasks, X, test)

    say("the test weeks:")
    table = evaluate(model, X[test], Y[test], baseline=baseline)
    columns = ["value", "baseline", "difference", "difference_low", "difference_high", "verdict"]
    with pd.option_context("display.width", 200, "display.max_rows", 100, "display.float_format", "{:.4f}".format):
        print(table[columns].to_string())
    say("done; value: MultiTaskModel, baseline: one LightGBM per task, verdict: paired bootstrap by household")


def _one_lightgbm_per_task(journey: object, tasks: tuple, X: pd.DataFrame, test: np.ndarray) -> pd.DataFrame:
    """Scores of the baseline on the test rows, by the history that the model has too."""
    wide = HistoryFeatures(**journey.roles).fit_transform(X, events=journey.events)
    fit_rows = np.flatnonzero(~test)
    columns = FeatureColumns(("time", "household"), ("product_type",)).fit(wide.iloc[fit_rows])
    features = columns.transform(wide.iloc[fit_rows])
    targets = encode_targets(journey.Y.iloc[fit_rows], tasks)
    labels = {task.name: (task.kind, targets.view(task.name)) for task in tasks}
    split = np.asarray(journey.split)[fit_rows]
    train, valid = np.flatnonzero(split == "train"), np.flatnonzero(split == "validation")
    fitted = fit_one_per_task(features, labels, train, valid, tuned=False)
    return pd.DataFrame(fitted.predict(columns.transform(wide[test]).values))
