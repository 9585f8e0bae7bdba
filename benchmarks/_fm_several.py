"""Several tasks at once: what a joint fit costs, and what tasks with few labels gain."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from benchmarks._fm_data import journey
from benchmarks._fm_quality import Figures, gather
from benchmarks._measure import cpu_seconds
from benchmarks.latent import load as load_ratings
from mtl_classic import Task
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    MultiTaskFactorizationMachine,
)
from mtl_classic.metrics import compare, losses, rmse, roc_auc

DENSE = {"rating": "regression", "liked": "binary", "loved": "binary", "disliked": "binary"}


def film_tasks(options: argparse.Namespace, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Ids, four tasks, and a random tenth to judge."""
    X, Y, _ = load_ratings(options)
    Y = Y.assign(loved=(Y["rating"] == 5) * 1.0, disliked=(Y["rating"] <= 2) * 1.0)[list(DENSE)]
    test = np.random.default_rng(np.random.SeedSequence([seed, 10])).random(len(X)) < 0.1
    return X[["user_id", "movie_id"]], Y, test


def several(options: argparse.Namespace) -> Figures:
    """The cost of four dense tasks at once, and what 10 % of the labels of two gain from a third."""
    seeds = []
    for seed in range(options.seeds):
        X, Y, test = film_tasks(options, seed)
        times = {
            "four dense tasks, time, films × ids: joint ÷ separate": _dense(
                X[~test], Y[~test], DENSE, seed > 0, categorical=list(X), random_state=seed
            ),
            "four dense tasks, time, purchases × 11 fields: joint ÷ separate": _dense_purchases(seed),
        }
        seeds.append(times | _few_labels(X, Y, test, seed))
        print(f"several, seed {seed}:", {key: round(value, 4) for key, value in seeds[-1].items()}, flush=True)
    return gather(seeds)


def _dense(X: Any, Y: pd.DataFrame, kinds: dict[str, str], warm: bool, **params: Any) -> float:
    """Time of a joint fit ÷ time of four; ten passes each, so that both do the same work."""
    common: dict[str, Any] = {"max_iter": 10, "early_stopping": False, **params}

    def separate() -> None:
        for name, kind in kinds.items():
            machine = FactorizationMachineClassifier if kind == "binary" else FactorizationMachineRegressor
            machine(**common).fit(X, Y[name])

    joint = MultiTaskFactorizationMachine(kinds, fallback=False, **common)
    if not warm:  # compile
        joint.fit(X, Y)
        separate()
    (joint_time, _), (separate_time, _) = cpu_seconds(lambda: joint.fit(X, Y)), cpu_seconds(separate)
    return joint_time / separate_time


def _dense_purchases(seed: int) -> float:
    """Four binary tasks on the rows of the purchases: what was bought, and less and less of that."""
    data = journey()
    rng = np.random.default_rng(np.random.SeedSequence([seed, 40]))
    Y = pd.DataFrame({f"task{k}": data.y * (rng.random(len(data.y)) < 1 - 0.2 * k) for k in range(4)})
    return _dense(data.X, Y, dict.fromkeys(Y, "binary"), seed > 0, random_state=seed)


def _few_labels(X: pd.DataFrame, Y: pd.DataFrame, test: np.ndarray, seed: int) -> dict[str, float]:
    tasks = [Task("rating", "regression"), Task("liked", "binary"), Task("disliked", "binary")]
    train = Y.loc[~test, [task.name for task in tasks]].copy()
    rng = np.random.default_rng(np.random.SeedSequence([seed, 30]))
    for name in ("liked", "disliked"):
        train.loc[rng.random(len(train)) >= 0.1, name] = np.nan
    separate = {}
    for task in tasks:
        machine = MultiTaskFactorizationMachine([task], categorical=list(X), random_state=seed)
        labelled = train[task.name].notna()
        machine.fit(X[~test][labelled], train.loc[labelled, [task.name]])
        separate[task.name] = machine.predict_scores(X[test])[task.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        joint = MultiTaskFactorizationMachine(tasks, categorical=list(X), random_state=seed).fit(X[~test], train)
        strict = clone(joint).set_params(fallback_level=0.95).fit(X[~test], train)
        bound = MultiTaskFactorizationMachine(tasks, categorical=list(X), random_state=seed, fallback=False)
        bound.fit(X[~test], train)
    scores, proven, without = (machine.predict_scores(X[test]) for machine in (joint, strict, bound))
    truth, figures = Y[test], {}
    for name in ("liked", "disliked"):
        figures[f"{name} with 10 % of the labels, AUC: separate"] = roc_auc(truth[name], separate[name])
        figures[f"{name} with 10 % of the labels, AUC: joint"] = roc_auc(truth[name], scores[name])
        figures[f"{name} with 10 % of the labels, AUC: joint − separate"] = roc_auc(
            truth[name], scores[name]
        ) - roc_auc(truth[name], separate[name])
    figures["rating RMSE: separate"] = rmse(truth["rating"], separate["rating"])
    figures["rating RMSE: joint, without fallback"] = rmse(truth["rating"], without["rating"])
    figures["rating RMSE: joint, after fallback"] = rmse(truth["rating"], scores["rating"])
    own, by_proof, base = (
        {task.name: losses(task.kind, truth[task.name].to_numpy(), np.asarray(s[task.name])) for task in tasks}
        for s in (scores, proven, separate)
    )
    for name, judged in (("", own), (" where harm is proven at 95 %", by_proof)):
        verdicts = compare(judged, base, clusters=X.loc[test, "user_id"].to_numpy())["verdict"]
        worse = float((verdicts == "worse").sum())
        figures[f"tasks worse than separate after fallback{name}, beyond the noise"] = worse
    return figures
