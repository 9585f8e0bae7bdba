"""Deep multi-task models (MMoE, PLE, ESMM) beside ours on Complete Journey: same columns, history included, same weeks.

A network's settings and each task's number of epochs are chosen on the validation weeks, with a seed of their own; then
it is trained on all fit weeks, as ours is. Household ids are no input: as embeddings they raised the loss there (MMoE).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._measure import cpu_seconds, spread, write
from benchmarks._parts import result_name
from benchmarks.complete_journey import Features, Scores, Table, changes, columns_of, describe, judge, loss_of, prepare
from mtl_classic import MultiTaskModel

TUNING_SEED = 1000
OURS = "fast"


def run(options: argparse.Namespace) -> None:
    """Choose settings, run all seeds and write the result after each."""
    try:
        from benchmarks._deep_models import MODELS
    except ModuleNotFoundError:
        raise SystemExit("deep needs PyTorch, which is no dependency of this project: pip install torch") from None
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # moments of rarely seen ids would slow every step
    table = prepare(options.households)
    features = Features(table)
    networks = [Network(table, name) for name in MODELS]
    seeds: list[dict[str, Any]] = []
    scores: defaultdict[str, list[Scores]] = defaultdict(list)
    for seed in range(options.seeds):
        seconds = _fit_all(table, networks, seed, scores)
        seeds.append(_compare(table, features, {name: found[-1] for name, found in scores.items()}) | {"cpu": seconds})
        print(f"seed {seed}:", seeds[-1]["losses"], seconds, flush=True)
        _write(table, networks, seeds, _compare(table, features, _averages(scores)), options)


class Network:
    """One architecture: its settings and epochs, chosen once, and its fits on all fit weeks."""

    def __init__(self, table: Table, name: str) -> None:
        import torch

        from benchmarks._deep_models import Inputs, Settings

        self.name = name
        self.kinds = {task.name: task.kind for task in table.tasks}
        X = table.wide.drop(columns=["time", "household"])
        categorical = list(X.select_dtypes("category"))
        train, valid = table.fit_rows[table.train], table.fit_rows[table.valid]
        self.inputs = Inputs(categorical, [column for column in X if column not in categorical]).fit(X.iloc[train])
        Y = torch.from_numpy(table.journey.Y[list(self.kinds)].to_numpy(np.float32, na_value=0.0))
        parts = {"train": train, "valid": valid, "fit": table.fit_rows, "test": table.test_rows}
        self.data = {part: (self.inputs.transform(X.iloc[rows]), Y[rows]) for part, rows in parts.items()}
        candidates = [Settings(equal_tasks=equal) for equal in (True, False)]
        models = [self._model(s, TUNING_SEED).fit(*self.data["train"], valid=self.data["valid"]) for s in candidates]
        best = min(models, key=lambda model: model.validation)
        self.settings, self.epochs = best.settings, best.epochs
        print(name, [round(model.validation, 4) for model in models], self.settings, self.epochs, flush=True)

    def _model(self, settings: Any, seed: int) -> Any:
        from benchmarks._deep_models import DeepModel

        return DeepModel(self.name, self.kinds, self.inputs, settings, seed)

    def fit(self, seed: int) -> Any:
        """Trained on all fit weeks."""
        return self._model(self.settings, seed).fit(*self.data["fit"], epochs=self.epochs)

    def predict(self, model: Any) -> Scores:
        """Scores of the test rows."""
        scores: Scores = model.predict(self.data["test"][0])
        return scores


def _fit_all(table: Table, networks: Sequence[Network], seed: int, scores: dict[str, list[Scores]]) -> dict[str, float]:
    """Fit every model with this seed, add its scores of the test rows, and return the CPU seconds of the fits."""
    X, Y = table.wide.iloc[table.fit_rows], table.journey.Y.iloc[table.fit_rows]
    ours = MultiTaskModel(table.tasks, aggregates=None, latent=None, preset=OURS, random_state=seed, **table.roles)
    seconds = {OURS: cpu_seconds(lambda: ours.fit(X, Y))[0]}
    scores[OURS].append(columns_of(ours.predict_scores(table.wide.iloc[table.test_rows])))
    for network in networks:
        seconds[network.name], model = cpu_seconds(lambda network=network: network.fit(seed))
        scores[network.name].append(network.predict(model))
    return seconds


def _averages(scores: Mapping[str, list[Scores]]) -> dict[str, Scores]:
    """Every model averaged over its seeds."""
    return {
        name: {task: np.mean([s[task] for s in found], axis=0) for task in found[0]} for name, found in scores.items()
    }


def _compare(table: Table, features: Features, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Losses of all models, and how ours differ from each network's."""
    tasks, networks = [task.name for task in table.tasks], [name for name in scores if name != OURS]
    return {
        "losses": {name: {task: loss_of(features, task, found) for task in tasks} for name, found in scores.items()},
        "changes": {name: changes(features, scores[OURS], scores[name]) for name in networks},
        "verdicts": {name: judge(table, features, scores[OURS], scores[name]) for name in networks},
    }


def _write(
    table: Table,
    networks: Sequence[Network],
    seeds: list[dict[str, Any]],
    averaged: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    settings = {network.name: vars(network.settings) | {"epochs": network.epochs} for network in networks}
    result = {"rows": describe(table), "settings": settings, "seeds": seeds, "averaged over the seeds": averaged}
    write(options.out, result_name(options, "deep"), result, _markdown(len(table.test_rows), seeds, averaged))


def _markdown(n_rows: int, seeds: list[dict[str, Any]], averaged: dict[str, Any]) -> str:
    """The result as a page."""
    lines = [
        "# Deep multi-task models",
        "",
        f"Complete Journey, {n_rows:,} test rows; {len(seeds)} seeds, one thread; all models fitted on training and "
        "validation weeks after a choice on the latter. Change of loss of `fast` against the network's, in percent, "
        "mean over the seeds, and verdicts seed by seed (paired bootstrap by household, Holm over tasks); then both "
        "averaged over the seeds; CPU time to fit, ours ÷ the network's (whose settings and epochs are known then).",
        "",
        "| network | task | change, % | verdicts | averaged over seeds | fit time |",
        "|---|---|---|---|---|---|",
    ]
    for name, verdicts in averaged["verdicts"].items():
        ratio = spread(s["cpu"][OURS] / s["cpu"][name] for s in seeds)
        for task, both in verdicts.items():
            rows = [s["verdicts"][name][task] for s in seeds]
            lines.append(
                f"| {name} | {task} | {np.mean([_percent(row) for row in rows]):+.2f} | "
                f"{', '.join(row['verdict'] for row in rows)} | {_percent(both):+.2f} ({both['verdict']}) | "
                f"{ratio['mean']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f}) |"
            )
    return "\n".join(lines)


def _percent(row: Mapping[str, float]) -> float:
    return 100 * row["difference"] / row["baseline"]
