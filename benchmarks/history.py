"""HistoryFeatures beside the same numbers by pandas: grouped cumulative sums, looked up at both window ends.

Twelve aggregates on a million events and 200,000 rows; then, by HistoryFeatures alone, for its memory: ten million
events and a million rows, and a million rows with thirty labels that are their own log; and a model of these, whole.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._markdown import figures
from benchmarks._measure import PeakMemory, spread, write
from mtl_classic import LightGBMLearner, MultiTaskModel
from mtl_classic.events import Aggregate, EventLog, HistoryFeatures
from tests._reference.history import history as by_pandas

KEYS = ("user", "item", ("user", "item"))
AGGREGATES = [
    aggregate
    for key in KEYS
    for aggregate in (
        Aggregate(key, "count", window=30),
        Aggregate(key, "sum", value="value", window=90),
        Aggregate(key, "recency"),
        Aggregate(key, "decayed", half_life=14),
    )
]


def make(n_events: int, n_rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events and rows of 200 days; users and items of very different activity."""
    rng = np.random.default_rng(seed)
    n_users, n_items = max(n_events // 50, 10), max(n_events // 500, 10)

    def draw(n: int) -> dict[str, Any]:
        return {
            "user": (n_users * rng.random(n) ** 2).astype(np.int64),
            "item": (n_items * rng.random(n) ** 3).astype(np.int64),
            "day": rng.integers(0, 200, n),
        }

    return pd.DataFrame(draw(n_events) | {"value": rng.gamma(2.0, 5.0, n_events)}), pd.DataFrame(draw(n_rows))


def ours(events: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Log and columns, from frame to frame."""
    log = EventLog(events, user="user", item="item", time="day", value="value")
    table: pd.DataFrame = HistoryFeatures(AGGREGATES).fit_transform(rows, events=log)
    return table


def make_labelled(n_rows: int, n_labels: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and rare labels, three tenths of them missing."""
    rng = np.random.default_rng(seed)
    _, rows = make(n_rows, n_rows, seed)
    labels = {}
    for k in range(n_labels):
        label = (rng.random(n_rows) < 0.01).astype(np.float32)
        label[rng.random(n_rows) < 0.3] = np.nan
        labels[f"label{k}"] = label
    return rows, pd.DataFrame(labels, copy=False)


def of_labels(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Means of earlier labels: the rows are the log."""
    tasks = dict.fromkeys(labels, "binary")
    table: pd.DataFrame = HistoryFeatures(user="user", item="item", time="day", tasks=tasks).fit_transform(rows, labels)
    return table


def of_model(rows: pd.DataFrame, labels: pd.DataFrame) -> MultiTaskModel:
    """History, latent features tried, and trees of few rounds: more take more time, not more memory."""
    tasks, few = dict.fromkeys(labels, "binary"), LightGBMLearner(max_iter=5)
    model = MultiTaskModel(tasks, user="user", item="item", time="day", learner=few, n_jobs=1, random_state=0)
    model.fit(rows, labels)
    return model


def run(options: argparse.Namespace) -> None:
    """Compare, then measure memory."""
    ours(*make(1000, 100, 0))  # compile
    of_labels(*make_labelled(1000, 2, 0))
    ratios, errors = [], []
    for seed in range(options.seeds):
        events, rows = make(1_000_000, 200_000, seed)
        started = time.perf_counter()
        table = ours(events, rows)
        middle = time.perf_counter()
        reference = by_pandas(events, rows, AGGREGATES, time="day", value="value")
        ratios.append((time.perf_counter() - middle) / (middle - started))
        errors.append(_disagreement(table, reference))
        print(f"seed {seed}: {ratios[-1]:.1f} times as fast, largest relative difference {errors[-1]:.1e}", flush=True)
    events, rows = make(10_000_000, 1_000_000, 0)
    with PeakMemory() as peak:
        ours(events, rows)
    rows, labels = make_labelled(1_000_000, 30, 0)
    with PeakMemory() as own_peak:
        of_labels(rows, labels)
    with PeakMemory() as fit_peak:
        of_model(rows, labels)
    summary = {
        "pandas time ÷ ours": spread(ratios),
        "largest relative difference": spread(errors),
        "peak GiB above the frames, 10⁷ events × 10⁶ rows × 12 aggregates": spread([peak.mebibytes / 1024]),
        "peak GiB above the frames, 10⁶ rows × 30 labels, means of earlier labels in 90 columns": spread(
            [own_peak.mebibytes / 1024]
        ),
        "peak GiB above the frames, the same rows, a MultiTaskModel of the 30 tasks": spread(
            [fit_peak.mebibytes / 1024]
        ),
    }
    lines = [
        "# HistoryFeatures against pandas",
        "",
        f"{options.seeds} seeds; one thread.",
        "",
        *figures(summary, digits=3),
    ]
    write(options.out, "history", {"seeds": options.seeds, "summary": summary}, "\n".join(lines))


def _disagreement(table: pd.DataFrame, reference: pd.DataFrame) -> float:
    """Largest |a − b| / (1 + |b|); NaN must meet NaN."""
    own, other = table[reference.columns].to_numpy(dtype=float), reference.to_numpy(dtype=float)
    if (np.isnan(own) != np.isnan(other)).any():
        raise AssertionError("HistoryFeatures and pandas disagree on which values are missing.")
    return float(np.nanmax(np.abs(own - other) / (1 + np.abs(other))))
