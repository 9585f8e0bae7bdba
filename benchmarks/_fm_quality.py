"""Accuracy and fit time: purchases, film ratings, several tasks at once, days as they come."""

from __future__ import annotations

import argparse
import warnings
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from benchmarks import _fm_peers as peers
from benchmarks._fm_data import FIELDS, GROUPS, journey, journey_frame, log_loss_and_auc, ratings
from benchmarks._measure import cpu_seconds
from benchmarks.latent import load as load_ratings
from mtl_classic import Task
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    MultiTaskFactorizationMachine,
)
from mtl_classic.metrics import compare, log_loss, losses, rmse, roc_auc

SIDES: dict[str, Any] = {"groups": GROUPS, "interactions": [("user", "item")]}
LIGHTFM_PENALTIES = (0.0, 1e-6, 1e-5)
SWEEPS = 200
DENSE = {"rating": "regression", "liked": "binary", "loved": "binary", "disliked": "binary"}
# Weeks: fitted once; streamed day by day; judged.
FIRST_STREAMED_WEEK, FIRST_JUDGED_WEEK = 39, 47
PASSES = (1, 3)

Figures = dict[str, list[float]]


def gather(seeds: list[dict[str, float]]) -> Figures:
    """Figures of seeds as lists."""
    return {name: [seed[name] for seed in seeds if name in seed] for name in {k: None for s in seeds for k in s}}


def purchases(options: argparse.Namespace) -> Figures:
    """Complete Journey, 32 factors: all pairs, user side × item side, LightFM; myFM with the first seed only."""
    data, seeds = journey(), []
    warm_up(data.fields)
    for seed in range(options.seeds):
        judged: dict[str, dict[str, float]] = {}
        for name, ways in (("FM, all pairs", {}), ("FM, user × item", SIDES)):
            model = FactorizationMachineClassifier(n_factors=32, fields=data.fields, random_state=seed, **ways)
            seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y))  # noqa: B023
            judged[name] = {
                **log_loss_and_auc(data.y_test, model.predict_proba(data.X_test)[:, 1]),
                "CPU seconds": seconds,
                "epochs": model.n_iter_,
            }
        if peers.LightFM is not None:
            judged |= _lightfm(data, seed)
        if peers.myfm is not None and seed == 0:
            judged["myFM"] = _myfm(data, seed)
        figures = {f"{name}: {key}": value for name, row in judged.items() for key, value in row.items()}
        seeds.append(figures | _against_peers(judged))
        print(f"purchases, seed {seed}:", {key: round(value, 4) for key, value in seeds[-1].items()}, flush=True)
    return gather(seeds)


def warm_up(fields: dict[str, np.ndarray]) -> None:
    """Compile."""
    small = journey()
    for ways in ({}, SIDES):
        FactorizationMachineClassifier(n_factors=32, fields=fields, max_iter=1, random_state=0, **ways).fit(
            small.X[:2000], small.y[:2000]
        ).predict(small.X[:10])


def _lightfm(data: Any, seed: int) -> dict[str, dict[str, float]]:
    rows = {}
    sides = None
    for penalty in LIGHTFM_PENALTIES:
        model = peers.LightFMRows(data, 32, seed, penalty)
        seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y, seed))  # noqa: B023
        sides = sides or model.sides(data.X_test)
        rows[f"LightFM, penalty {penalty:g}"] = {
            **log_loss_and_auc(data.y_test, model.probability(sides)),
            "CPU seconds": seconds,
        }
    return rows


def _myfm(data: Any, seed: int) -> dict[str, float]:
    model = peers.myfm.MyFMClassifier(rank=32, random_seed=seed)
    fit = partial(peers.fit_myfm, model, data.X.astype(np.float64), data.y > 0, n_iter=100, n_kept_samples=40)
    seconds, _ = cpu_seconds(partial(fit, group_shapes=peers.myfm_groups(data)))
    return {
        **log_loss_and_auc(data.y_test, model.predict_proba(data.X_test.astype(np.float64))),
        "CPU seconds": seconds,
    }


def _against_peers(judged: dict[str, dict[str, float]]) -> dict[str, float]:
    ours, figures = judged["FM, user × item"], {}
    rivals = [row for name, row in judged.items() if name.startswith("LightFM")]
    if rivals:
        figures["user × item AUC − LightFM's best"] = ours["AUC"] - max(row["AUC"] for row in rivals)
        figures["user × item log-loss − LightFM's best"] = ours["log-loss"] - min(row["log-loss"] for row in rivals)
        least = min(row["CPU seconds"] for row in rivals)
        figures["fit time: user × item ÷ LightFM's fastest"] = ours["CPU seconds"] / least
    if "myFM" in judged:
        own, other = judged["FM, all pairs"], judged["myFM"]
        figures["all pairs AUC − myFM's"] = own["AUC"] - other["AUC"]
        figures["all pairs log-loss − myFM's"] = own["log-loss"] - other["log-loss"]
        figures["fit time: all pairs ÷ myFM"] = own["CPU seconds"] / other["CPU seconds"]
    return figures


def films(options: argparse.Namespace) -> Figures:
    """MovieLens-100k, 8 factors, 200 sweeps of Gibbs sampling, beside myFM."""
    seeds = []
    for seed in range(options.seeds):
        figures: dict[str, float] = {}
        for side, name in ((False, "ids only"), (True, "with side fields")):
            data = ratings(options, side=side, seed=seed)
            model = FactorizationMachineRegressor(
                n_factors=8, solver="gibbs", max_iter=SWEEPS, fields=data.fields, random_state=seed
            )
            if seed == 0:
                FactorizationMachineRegressor(n_factors=8, solver="gibbs", max_iter=2, fields=data.fields).fit(
                    data.X, data.y
                ).predict(data.X_test)  # compile
            seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y))  # noqa: B023
            figures[f"{name}, RMSE: ours"] = rmse(data.y_test, model.predict(data.X_test))
            if peers.myfm is None:
                continue
            other = peers.myfm.MyFMRegressor(rank=8, random_seed=seed)
            fit = partial(peers.fit_myfm, other, data.X.astype(np.float64), data.y, n_iter=SWEEPS)
            other_seconds, _ = cpu_seconds(partial(fit, group_shapes=peers.myfm_groups(data)))
            figures[f"{name}, RMSE: myFM"] = rmse(data.y_test, other.predict(data.X_test.astype(np.float64)))
            figures[f"{name}, RMSE: ours − myFM"] = figures[f"{name}, RMSE: ours"] - figures[f"{name}, RMSE: myFM"]
            figures[f"{name}, fit time ÷ myFM"] = seconds / other_seconds
        seeds.append(figures)
    return gather(seeds)


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
        bound = MultiTaskFactorizationMachine(tasks, categorical=list(X), random_state=seed, fallback=False)
        bound.fit(X[~test], train)
    scores, without = joint.predict_scores(X[test]), bound.predict_scores(X[test])
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
    own, base = (
        {task.name: losses(task.kind, truth[task.name].to_numpy(), np.asarray(s[task.name])) for task in tasks}
        for s in (scores, separate)
    )
    verdicts = compare(own, base, clusters=X.loc[test, "user_id"].to_numpy())["verdict"]
    figures["tasks worse than separate after fallback, beyond the noise"] = float((verdicts == "worse").sum())
    return figures


def days(options: argparse.Namespace) -> Figures:
    """Days of purchases by ``partial_fit`` in turn, against the model as it was, and one fitted anew on all."""
    frame = journey_frame()
    y, week, day = frame["bought"].to_numpy(), frame["week"].to_numpy(), frame["day"].to_numpy()
    X = frame[FIELDS]
    base, test = week < FIRST_STREAMED_WEEK, week >= FIRST_JUDGED_WEEK
    streamed = ~base & ~test
    seeds = []
    for seed in range(options.seeds):
        machine = FactorizationMachineClassifier(categorical=["household", "product"], random_state=seed, **SIDES)
        fitted = clone(machine).fit(X[base], y[base])
        anew = clone(machine)
        refit_seconds, _ = cpu_seconds(partial(anew.fit, X[~test], y[~test]))
        before, full = (_judge(model, X[test], y[test]) for model in (fitted, anew))
        figures = {"log-loss: as it was": before["log-loss"], "log-loss: fitted anew": full["log-loss"]}
        for passes in PASSES:
            model, seconds = deepcopy(fitted), []
            for today in np.unique(day[streamed]):
                rows = np.flatnonzero(streamed & (day == today))
                step = partial(model.partial_fit, X.iloc[rows], y[rows])
                seconds.append(sum(cpu_seconds(step)[0] for _ in range(passes)))
            after = _judge(model, X[test], y[test])
            name = f"day by day, {passes} pass{'es' if passes > 1 else ''} each"
            figures |= {
                f"log-loss: {name}": after["log-loss"],
                f"log-loss gain ÷ that of a new fit: {name}": (before["log-loss"] - after["log-loss"])
                / (before["log-loss"] - full["log-loss"]),
                f"AUC gain ÷ that of a new fit: {name}": (after["AUC"] - before["AUC"]) / (full["AUC"] - before["AUC"]),
                f"time of a day ÷ that of a new fit: {name}": float(np.mean(seconds)) / refit_seconds,
            }
        seeds.append(figures)
        print(f"days, seed {seed}:", {key: round(value, 4) for key, value in figures.items()}, flush=True)
    return gather(seeds)


def _judge(model: Any, X: pd.DataFrame, y: np.ndarray) -> dict[str, float]:
    probability = model.predict_proba(X)[:, 1]
    return {"log-loss": log_loss(y, probability), "AUC": roc_auc(y, probability)}
