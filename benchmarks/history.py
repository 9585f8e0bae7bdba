"""HistoryFeatures beside the same numbers by pandas: grouped cumulative sums, looked up at both window ends.

Twelve aggregates on a million events and 200,000 rows; then ten million events and a million rows by HistoryFeatures
alone, for its memory.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._markdown import figures
from benchmarks._measure import PeakMemory, spread, write
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


def run(options: argparse.Namespace) -> None:
    """Compare, then measure memory."""
    ours(*make(1000, 100, 0))  # compile
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
    summary = {
        "pandas time ÷ ours": spread(ratios),
        "largest relative difference": spread(errors),
        "peak GiB above the frames, 10⁷ events × 10⁶ rows × 12 aggregates": spread([peak.mebibytes / 1024]),
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
