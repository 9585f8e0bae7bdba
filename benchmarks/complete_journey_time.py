"""What Complete Journey costs: fits, predictions and bins of ours beside five LightGBMs, in the same run.

CPU seconds of one thread, quoted as ratios within a seed; predictions are the fastest of three. Run it while nothing
else runs: other work slows what reads much memory more than what reads little.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import lightgbm as lgb
import numpy as np
from sklearn.base import clone

from benchmarks import _markdown
from benchmarks._baselines import fit_one_per_task
from benchmarks._measure import added_memory, cpu_seconds, spread, write
from benchmarks._parts import result_name
from benchmarks.complete_journey import Features, Table, prepare
from mtl_classic import FunnelModel, MultiTaskModel
from mtl_classic.learners import LightGBMLearner

AIMS: dict[str, tuple[str, float]] = {
    "fit time: funnel ÷ five LightGBMs (defaults)": ("≤", 0.45),
    "fit time: funnel ÷ five LightGBMs (tuned)": ("≤", 0.45),
    "fit time: fast ÷ five LightGBMs (defaults)": ("≤", 1.0),
    "fit time: best ÷ five LightGBMs (defaults)": ("≤", 6.0),
    "predict time: fast ÷ five LightGBMs": ("≤", 1.2),
    "predict time: best ÷ five LightGBMs": ("≤", 4.0),
    "predict time: funnel ÷ five LightGBMs": ("≤", 1.2),
    "binning time: shared ÷ separate": ("≤", 0.3),
    "binning memory: shared ÷ separate": ("≤", 0.5),
}
REPEATS = 3


def run(options: argparse.Namespace) -> None:
    """Time all seeds and write the result after each."""
    table = prepare(options.households)
    features = Features(table)
    seeds: list[dict[str, float]] = []
    for seed in range(options.seeds):
        seeds.append(time_seed(table, features, seed))
        summary = {name: spread(known(s[name] for s in seeds)) for name in seeds[0]}
        name = result_name(options, "complete_journey_time")
        write(options.out, name, {"seeds": len(seeds), "summary": summary}, markdown(summary, seeds))


def time_seed(table: Table, features: Features, seed: int) -> dict[str, float]:
    """Ratios of one seed."""
    X, Y = table.wide.iloc[table.fit_rows], table.journey.Y.iloc[table.fit_rows]
    X_test = table.wide.iloc[table.test_rows]
    labels = {task.name: (task.kind, features.targets.view(task.name)) for task in table.tasks}

    def single(tuned: bool) -> tuple[float, Any]:
        return cpu_seconds(
            lambda: fit_one_per_task(
                features.fit, labels, table.train, table.valid, tuned=tuned, refit=False, seed=seed
            )
        )

    # First: later, memory that others have left is used again and seems to be free, as it may in later seeds (NaN).
    bins = binning(features, labels)
    (default_time, _), (tuned_time, tuned) = single(False), single(True)
    baseline = fastest(lambda: tuned.predict(features.test.values))
    funnel = FunnelModel(table.tasks, refit=False, random_state=seed, **table.roles)
    funnel_time, _ = cpu_seconds(lambda: funnel.fit(X, Y, plan=table.plan))
    figures = {
        "fit time: funnel ÷ five LightGBMs (defaults)": funnel_time / default_time,
        "fit time: funnel ÷ five LightGBMs (tuned)": funnel_time / tuned_time,
        "predict time: funnel ÷ five LightGBMs": fastest(lambda: funnel.predict_scores(X_test)) / baseline,
        "history time ÷ five LightGBMs (defaults)": table.history_seconds / default_time,
    }
    for preset in ("fast", "best"):
        model = MultiTaskModel(
            table.tasks, aggregates=None, latent=None, preset=preset, random_state=seed, **table.roles
        )
        seconds, _ = cpu_seconds(lambda: model.fit(X, Y))  # noqa: B023
        figures[f"fit time: {preset} ÷ five LightGBMs (defaults)"] = seconds / default_time
        figures[f"fit time: {preset} ÷ five LightGBMs (tuned)"] = seconds / tuned_time
        predict = fastest(lambda: model.predict_scores(X_test))  # noqa: B023
        figures[f"predict time: {preset} ÷ five LightGBMs"] = predict / baseline
        if preset == "fast":
            searching = clone(model).set_params(latent="auto")
            seconds, _ = cpu_seconds(lambda: searching.fit(X, Y))  # noqa: B023
            figures["fit time: fast, latent features tried ÷ five LightGBMs (defaults)"] = seconds / default_time
    return figures | bins


def known(values: Iterable[float]) -> list[float]:
    """Those that could be measured; NaN where none could."""
    return [value for value in values if not np.isnan(value)] or [float("nan")]


def fastest(work: Callable[[], Any]) -> float:
    """CPU seconds of the fastest of some repeats."""
    return min(cpu_seconds(work)[0] for _ in range(REPEATS))


def binning(features: Features, labels: dict[str, Any]) -> dict[str, float]:
    """One binned matrix for five tasks against five of them."""

    def separate() -> list[lgb.Dataset]:
        made = []
        for kind, y in labels.values():
            data = lgb.Dataset(
                features.fit.values, y, categorical_feature=list(features.fit.categorical), params=params
            )
            made.append((kind, data.construct()))
        return made

    params = {"verbosity": -1, "num_threads": 1, "force_col_wise": True}
    learner = LightGBMLearner()
    shared_time, _ = cpu_seconds(lambda: learner.bin(features.fit))
    separate_time, _ = cpu_seconds(separate)
    shared_memory, kept = added_memory(lambda: learner.bin(features.fit))
    del kept
    separate_memory, kept = added_memory(separate)
    del kept
    return {
        "binning time: shared ÷ separate": shared_time / separate_time,
        "binning memory: shared ÷ separate": shared_memory / separate_memory if separate_memory else float("nan"),
    }


def markdown(summary: dict[str, Any], seeds: list[dict[str, float]]) -> str:
    """The table of ratios."""
    lines = [
        "# Complete Journey: times",
        "",
        f"{len(seeds)} seeds; one thread; ratios of CPU seconds within a seed. Mean over seeds, least, greatest.",
        "",
        *_markdown.figures(summary, AIMS, digits=3),
    ]
    return "\n".join(lines)
