"""Deep multi-task models (MMoE, PLE, ESMM) beside ours on two shops: same columns, history included, same split.

A network's settings and each task's number of epochs are chosen on the validation rows, with a seed of their own; then
it is trained on all fit rows, as ours is. Users' ids are no input: as embeddings they raised the loss there (MMoE,
Complete Journey); those of items are.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import _markdown, complete_journey, online_retail
from benchmarks._measure import cpu_seconds, spread, write
from benchmarks._parts import earlier_result, made_parts, result_name
from mtl_classic import MultiTaskModel, Task
from mtl_classic.metrics import evaluate_scores

TUNING_SEED = 1000
OURS = "fast"
Scores = dict[str, np.ndarray]


@dataclass
class Shop:
    """A table with its history, and the rows to train on, to choose on, and to judge on; the first task is the parent.

    ``roles``: user, item and time; ``fit`` are training and validation rows together.
    """

    X: pd.DataFrame
    Y: pd.DataFrame
    tasks: tuple[Task, ...]
    roles: dict[str, str]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @property
    def fit(self) -> np.ndarray:
        """All rows that a final model is fitted on."""
        return np.sort(np.r_[self.train, self.valid])

    def judge(self, ours: Scores, theirs: Scores) -> dict[str, Any]:
        """Loss of each task, the difference and its verdict: paired bootstrap by user, Holm over the tasks."""
        frame = evaluate_scores(
            self.Y.iloc[self.test],
            ours,
            tasks=self.tasks,
            baseline=theirs,
            clusters=self.X[self.roles["user"]].iloc[self.test],
            metrics=["loss"],
        )
        columns = ["value", "baseline", "difference", "difference_low", "difference_high", "verdict"]
        return {str(name): row.to_dict() for (name, _), row in frame[columns].iterrows()}


def _journey(options: argparse.Namespace) -> Shop:
    table = complete_journey.prepare(options.households)
    train, valid = table.fit_rows[table.train], table.fit_rows[table.valid]
    names = [task.name for task in table.tasks]
    return Shop(table.wide, table.journey.Y[names], table.tasks, table.roles, train, valid, table.test_rows)


def _retail(options: argparse.Namespace) -> Shop:
    table = online_retail.prepare(options)
    return Shop(table.X, table.Y, table.tasks, table.roles, *table.split())


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], Shop]]] = {
    "journey": ("Complete Journey", _journey),
    "retail": ("Online Retail II", _retail),
}


def run(options: argparse.Namespace) -> None:
    """Run the parts and write the result after each seed; a part whose table is not there is left out."""
    try:
        import torch
    except ModuleNotFoundError:
        raise SystemExit("deep needs PyTorch, which is no dependency of this project: pip install torch") from None
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # moments of rarely seen ids would slow every step
    for part, shop in made_parts(options, PARTS):
        _run_part(part, shop, options)


def _run_part(part: str, shop: Shop, options: argparse.Namespace) -> None:
    """Choose settings, run all seeds and write the result after each."""
    from benchmarks._deep_models import MODELS

    networks = [Network(shop, name) for name in MODELS]
    seeds: list[dict[str, Any]] = []
    scores: defaultdict[str, list[Scores]] = defaultdict(list)
    for seed in range(options.seeds):
        seconds = _fit_all(shop, networks, seed, scores)
        seeds.append(_compare(shop, {name: found[-1] for name, found in scores.items()}) | {"cpu": seconds})
        print(f"{part}, seed {seed}:", seeds[-1]["losses"], seconds, flush=True)
        _write(part, shop, networks, seeds, _compare(shop, _averages(scores)), options)


class Network:
    """One architecture: its settings and epochs, chosen once, and its fits on all fit rows."""

    def __init__(self, shop: Shop, name: str) -> None:
        import torch

        from benchmarks._deep_models import Inputs, Settings

        self.name = name
        self.kinds = {task.name: task.kind for task in shop.tasks}
        X = shop.X.drop(columns=[shop.roles["time"], shop.roles["user"]])
        categorical = list(X.select_dtypes("category"))
        self.inputs = Inputs(categorical, [c for c in X if c not in categorical]).fit(X.iloc[shop.train])
        Y = torch.from_numpy(shop.Y[list(self.kinds)].to_numpy(np.float32, na_value=0.0))
        parts = {"train": shop.train, "valid": shop.valid, "fit": shop.fit, "test": shop.test}
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
        """Trained on all fit rows."""
        return self._model(self.settings, seed).fit(*self.data["fit"], epochs=self.epochs)

    def predict(self, model: Any) -> Scores:
        """Scores of the test rows."""
        scores: Scores = model.predict(self.data["test"][0])
        return scores


def _fit_all(shop: Shop, networks: Sequence[Network], seed: int, scores: dict[str, list[Scores]]) -> dict[str, float]:
    """Fit every model with this seed, add its scores of the test rows, and return the CPU seconds of the fits."""
    X, Y = shop.X.iloc[shop.fit], shop.Y.iloc[shop.fit]
    ours = MultiTaskModel(shop.tasks, aggregates=None, latent=None, preset=OURS, random_state=seed, **shop.roles)
    seconds = {OURS: cpu_seconds(lambda: ours.fit(X, Y))[0]}
    frame = ours.predict_scores(shop.X.iloc[shop.test])
    scores[OURS].append({str(name): frame[name].to_numpy() for name in frame})
    for network in networks:
        seconds[network.name], model = cpu_seconds(lambda network=network: network.fit(seed))
        scores[network.name].append(network.predict(model))
    return seconds


def _averages(scores: Mapping[str, list[Scores]]) -> dict[str, Scores]:
    """Every model averaged over its seeds."""
    return {
        name: {task: np.mean([s[task] for s in found], axis=0) for task in found[0]} for name, found in scores.items()
    }


def _compare(shop: Shop, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Losses of all models, and how ours differ from each network's."""
    verdicts = {name: shop.judge(scores[OURS], found) for name, found in scores.items() if name != OURS}
    losses = {name: {task: row["baseline"] for task, row in judged.items()} for name, judged in verdicts.items()}
    ours = {task: row["value"] for task, row in next(iter(verdicts.values())).items()}
    return {"losses": {OURS: ours, **losses}, "verdicts": verdicts}


def _write(
    part: str,
    shop: Shop,
    networks: Sequence[Network],
    seeds: list[dict[str, Any]],
    averaged: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    file = result_name(options, "deep")
    found = earlier_result(options, file).get("parts", {})
    found[part] = {
        "rows": {"train": len(shop.train), "validation": len(shop.valid), "test": len(shop.test)},
        "test means": {str(name): float(mean) for name, mean in shop.Y.iloc[shop.test].mean().items()},
        "settings": {network.name: vars(network.settings) | {"epochs": network.epochs} for network in networks},
        "seeds": seeds,
        "averaged over the seeds": averaged,
    }
    parts = {name: found[name] for name in PARTS if name in found}
    write(options.out, file, {"parts": parts}, _page(parts))


def _page(parts: Mapping[str, Any]) -> str:
    """The result as a page."""
    lines = [
        "# Deep multi-task models",
        "",
        "One thread; all models fitted on training and validation rows after a choice on the latter. Change of loss of "
        "`fast` against the network's, in percent, mean over the seeds, and verdicts seed by seed (paired bootstrap by "
        "user, Holm over tasks); then both averaged over the seeds; CPU time to fit, ours ÷ the network's (whose "
        "settings and epochs are known then).",
    ]
    heads = ("network", "task", "change, %", "verdicts", "averaged over seeds", "fit time")
    for name, part in parts.items():
        seeds, rows = part["seeds"], part["rows"]
        lines += ["", f"## {PARTS[name][0]}", ""]
        lines += [f"{rows['test']:,} test rows, {rows['train'] + rows['validation']:,} to fit; {len(seeds)} seeds.", ""]
        lines += _markdown.table(heads, _rows_of(seeds, part["averaged over the seeds"]["verdicts"]))
    return "\n".join(lines)


def _rows_of(seeds: Sequence[Mapping[str, Any]], averaged: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, verdicts in averaged.items():
        ratio = spread(s["cpu"][OURS] / s["cpu"][name] for s in seeds)
        for task, both in verdicts.items():
            each = [s["verdicts"][name][task] for s in seeds]
            change, words = np.mean([_percent(row) for row in each]), ", ".join(row["verdict"] for row in each)
            time = f"{ratio['mean']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"
            rows.append((name, task, f"{change:+.2f}", words, f"{_percent(both):+.2f} ({both['verdict']})", time))
    return rows


def _percent(row: Mapping[str, float]) -> float:
    return 100 * row["difference"] / row["baseline"]
