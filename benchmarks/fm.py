"""Factorization machines: speed, accuracy, sharing, columns for boosters; beside LightFM, myFM, xLearn where installed.

``--part`` runs these parts (names with commas); each part's figures take the place of those of the run before. Times
are CPU seconds of one thread, quoted as ratios within a part. The films come from a package that carries
MovieLens-100k, see `latent`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks import _fm_boosting, _fm_compile, _fm_quality, _fm_several, _fm_speed, _markdown
from benchmarks._measure import spread, write
from benchmarks._parts import earlier_result, made_parts, result_name, seeds_text

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], dict[str, list[float]]]]] = {
    "speed": (
        "Epochs: 10⁶ rows × 10⁵ columns × 20, uniform; Complete Journey, 11 one-hot fields",
        _fm_speed.run,
    ),
    "purchases": ("Complete Journey: purchases against popular products, 32 factors", _fm_quality.purchases),
    "samplers": ("The same purchases, 32 factors, one seed: samplers", _fm_quality.samplers),
    "films": ("MovieLens-100k, a random tenth to judge: 8 factors, 200 Gibbs sweeps", _fm_quality.films),
    "several": ("Several tasks: MovieLens-100k, a random tenth to judge; purchases for the time", _fm_several.several),
    "boosting": ("Scores as columns of LightGBM: the Complete Journey table", _fm_boosting.run),
    "compile": ("Compilation", _fm_compile.run),
    "days": ("Complete Journey: eight weeks day by day", _fm_quality.days),
}
PEERS = ("rectools-lightfm", "lightfm", "myfm", "xlearn")
AIMS: dict[str, tuple[str, float]] = {
    "synthetic: ours ÷ best peer, 8 factors": ("≥", 3.0),
    "synthetic: ours ÷ best peer, 16 factors": ("≥", 4.0),
    "synthetic: ours ÷ limit of the memory, 16 factors": ("≥", 0.6),
    "Complete Journey: ours ÷ best peer, 8 factors": ("≥", 3.0),
    "Complete Journey: ours ÷ best peer, 16 factors": ("≥", 4.0),
    "user × item, in time, 8 averaged: AUC − LightFM's best": ("≥", 0.005),
    "user × item, in time, 8 averaged: log-loss − LightFM's best": ("≤", -0.015),
    "fit time: user × item, in time, 8 averaged ÷ LightFM's fastest": ("≤", 1.0),
    "all pairs AUC − myFM's": ("≥", 0.0),
    "all pairs log-loss − myFM's": ("≤", 0.0),
    "all pairs by Gibbs AUC − myFM's": ("≥", 0.0),
    "all pairs by Gibbs log-loss − myFM's": ("≤", 0.0),
    "all pairs by Gibbs, 2 chains AUC − myFM's": ("≥", 0.0),
    "all pairs by Gibbs, 2 chains log-loss − myFM's": ("≤", 0.0),
    "ids only, RMSE: ours − myFM": ("≤", 0.001),
    "ids only, fit time ÷ myFM": ("≤", 0.5),
    "with side fields, RMSE: ours": ("≤", 0.872),
    "with side fields, RMSE: ours, 3 chains pooled": ("≤", 0.872),
    "with side fields and histories, RMSE: ours": ("≤", 0.872),
    "with side fields, RMSE: ours − myFM": ("≤", 0.001),
    "with side fields, fit time ÷ myFM": ("≤", 0.5),
    "four dense tasks, time, films × ids: joint ÷ separate": ("≤", 0.5),
    "four dense tasks, time, purchases × 11 fields: joint ÷ separate": ("≤", 0.5),
    "liked with 10 % of the labels, AUC: joint − separate": ("≥", 0.03),
    "tasks worse than separate after fallback, beyond the noise": ("≤", 0.0),
    "coupon AUC: gain of FM scores": ("≥", 0.025),
    "never-bought pairs, buy AUC: gain of both": ("≥", 0.012),
    "compile, s: one default fit, uncached": ("≤", 10.0),
    "compile, s: cached": ("≤", 1.0),
    "compile: functions compiled by the import": ("≤", 0.0),
    "log-loss gain ÷ that of a new fit: day by day, 8 passes each": ("≥", 0.95),
    "time of a day ÷ that of a new fit: day by day, 8 passes each": ("≤", 0.1),
}


def run(options: argparse.Namespace) -> None:
    """Run the parts and write the result after each; a part whose table is not there is left out."""
    file = result_name(options, "fm")
    earlier = earlier_result(options, file)
    parts, seeds = earlier.get("parts", {}), earlier.get("seeds", {})
    for name, figures in made_parts(options, PARTS):
        parts[name] = {"peers": _versions(), "summary": {key: spread(values) for key, values in figures.items()}}
        seeds[name] = options.seeds
        parts, seeds = ({key: found[key] for key in PARTS if key in found} for found in (parts, seeds))
        write(options.out, file, {"seeds": seeds, "parts": parts}, markdown(parts, seeds))


def _versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def markdown(parts: dict[str, Any], seeds: dict[str, int]) -> str:
    """The result as a page."""
    versions = {name: number for part in parts.values() for name, number in part["peers"].items()}
    lines = [
        "# Factorization machines",
        "",
        f"One thread; CPU seconds, ratios within a part; {seeds_text(seeds)} where accuracy is judged, if "
        "not said otherwise. Mean over seeds, with the least and the greatest. Peers: "
        f"{', '.join(f'{name} {number}' for name, number in versions.items()) or 'none installed'}.",
    ]
    for name, part in parts.items():
        lines += [
            "",
            f"## {PARTS[name][0]}",
            "",
            *_markdown.figures(part["summary"], AIMS),
        ]
    return "\n".join(lines)
