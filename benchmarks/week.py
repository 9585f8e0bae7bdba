"""The week of a model: fourteen days, refreshes, the watch, files, single requests, a night of many candidates."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import _markdown
from benchmarks import _week_days as days
from benchmarks import _week_refresh as weeks
from benchmarks import _week_scale as scale
from benchmarks._measure import spread, write
from benchmarks._parts import asked_parts, earlier_result, result_name, seeds_text

OBSERVED = "observe of 1 % of a log ÷ building anew"
WITH_FEATURES = "observe of 1 % and features of 1000 rows ÷ the same from building anew"
LOGS = (1_000_000, 5_000_000)
SINGLE = "single request ÷ its boosters' own"
COMPILED = "observe of 1 % by a compiled model ÷ compiling it anew"
SAMPLING = "calibration error at 1:10 corrected less that of all rows"
LIMITED = "memory of scoring in chunks ÷ a limit of 30 MB"
RESUMED = "killed runs that end in the same file"
# What each figure must not exceed, or must reach, by the words before the first comma.
BOUNDS = {
    "GiB above log and model": "< 4",
    "time ÷ (1.2 × plain boosters + history)": "≤ 1",
    "slope in rows": "≤ 1.05",
    OBSERVED: "≤ .05",
    "load time ÷ joblib's": "≤ 1",
    "load time": "≤ 1",
    "size ÷ boosters' text and arrays compressed": "≤ 1.2",
    LIMITED: "≤ 1",
    SINGLE: "≤ 1.5",
    SAMPLING: "within .01",
    RESUMED: "1",
    "largest difference of AUC": "≤ .01",
    "days of false alarm among 30": "≤ 1 at alpha = .01",
    "shifted column told on its day": "1",
    "15 % unseen users told on its day": "1",
    "10 % calibration drift told on its day": "1",
}


def run(options: argparse.Namespace) -> None:
    """Measure each part; ``--rows`` candidates in the night, once; the others over seeds.

    ``--part`` measures these parts anew (names with commas); the others stay as an earlier run has left them. The
    result is written after each part.
    """
    numbers = range(options.seeds)
    parts: dict[str, Callable[[], Mapping[str, Any]]] = {
        "nights": lambda: days.nights(options.seeds),
        "refresh": lambda: scale.spreads([weeks.refreshed(s, options.households) for s in numbers]),
        "watch": lambda: {name: spread([value]) for name, value in days.watch().items()},
        "sampling": lambda: {SAMPLING: spread(days.sampling(s) for s in numbers)},
        "resume": lambda: {RESUMED: spread(float(days.resumed(s)) for s in numbers)},
        "observe": lambda: _observed(numbers),
        "files": lambda: scale.spreads([scale.files(s) for s in numbers]),
        "limit": lambda: {LIMITED: spread(scale.limited(s) for s in numbers)},
        "request": lambda: {
            **_over_seeds((SINGLE, COMPILED), [scale.single_request(s) for s in numbers]),
            f"{SINGLE}, XGBoost": spread(scale.request_of(s, learner="xgboost") for s in numbers),
            f"{SINGLE}, preset best": spread(scale.request_of(s, preset="best") for s in numbers),
        },
        "candidates": lambda: {
            name: spread([value]) for name, value in scale.score(options.rows or 10_000_000, 0).items()
        },
    }
    files = result_name(options, "week")
    earlier = earlier_result(options, files)
    found, seeds = earlier.get("parts", {}), earlier.get("seeds", {})
    for name in asked_parts(options, parts):
        found[name], seeds[name] = dict(parts[name]()), options.seeds
        found, seeds = ({key: known[key] for key in parts if key in known} for known in (found, seeds))
        write(options.out, files, {"seeds": seeds, "parts": found}, markdown(found, seeds))


def markdown(parts: Mapping[str, Mapping[str, Any]], seeds: Mapping[str, int]) -> str:
    """The result as a page."""
    lines = [
        "# The week of a model",
        "",
        f"Preset fast; CPU time, one thread; {seeds_text(seeds)}. Once: the watch, and a night of candidates",
        "× 5 tasks with history, factors and `top_k` of 20 per user.",
        "",
    ]
    rows = (
        (name, *(f"{v[key]:.3g}" for key in ("mean", "low", "high")), BOUNDS.get(name.split(", ")[0], ""))
        for summary in parts.values()
        for name, v in summary.items()
    )
    return "\n".join(lines + _markdown.table(("figure", "mean", "low", "high", "must be"), rows))


def _observed(seeds: range) -> dict[str, dict[str, float]]:
    found = {}
    for n in LOGS:
        names = [f"{name}, {n // 10**6} million events" for name in (OBSERVED, WITH_FEATURES)]
        found |= _over_seeds(names, [scale.observe(seed, n) for seed in seeds])
    return found


def _over_seeds(names: Sequence[str], measured: list[tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {name: spread(values) for name, values in zip(names, zip(*measured, strict=True), strict=True)}
