"""Accuracy and fit time: purchases, film ratings, days as they come."""

from __future__ import annotations

import argparse
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import clone

from benchmarks import _fm_peers as peers
from benchmarks._fm_data import (
    FIELDS,
    GROUPS,
    Encoded,
    journey,
    journey_frame,
    log_loss_and_auc,
    ratings,
    with_histories,
)
from benchmarks._measure import cpu_seconds
from mtl_classic.factorization import Adagrad, FactorizationMachineClassifier, FactorizationMachineRegressor
from mtl_classic.metrics import log_loss, rmse, roc_auc

SIDES: dict[str, Any] = {"groups": GROUPS, "interactions": [("user", "item")]}
# Learning rate, penalty, start of the accumulators, penalty of the weights, size of the first factors; those of the
# machines that are told the time were tried on weeks 40 to 46. Ours are chosen by the fit's own validation rows,
# LightFM's by the rows to judge; its last setting is stopped by the latest rows, as ours are.
SETTINGS = ((0.05, 0.01, 1.0, 1e-4, 0.01), (0.1, 0.01, 1.0, 1e-4, 0.01), (0.2, 0.005, 10.0, 1e-4, 0.01))
TIMED_SETTINGS = ((0.1, 0.01, 1.0, 0.01, 0.1), (0.2, 0.005, 10.0, 0.01, 0.1), (0.2, 0.005, 10.0, 0.03, 0.2))
LATEST = 0.05
LIGHTFM_SETTINGS = ((0.05, 0.0, False), (0.05, 1e-5, False), (0.1, 1e-5, False), (0.1, 1e-5, True))
MEMBERS, LIGHTFM_MEMBERS = 8, 4
SWEEPS, PURCHASE_SWEEPS, PURCHASE_DRAWS = 200, 100, 40
CHAINS, PURCHASE_CHAINS = 3, 2
# Weeks: fitted once; streamed day by day; judged.
FIRST_STREAMED_WEEK, FIRST_JUDGED_WEEK = 39, 47
# The last was chosen on earlier weeks, 43 to 46 after streaming from 35 on.
PASSES = (1, 3, 8)

Figures = dict[str, list[float]]


def gather(seeds: list[dict[str, float]]) -> Figures:
    """Figures of seeds as lists."""
    return {name: [seed[name] for seed in seeds if name in seed] for name in {k: None for s in seeds for k in s}}


def purchases(options: argparse.Namespace) -> Figures:
    """Complete Journey, 32 factors: all pairs, user side × item side, LightFM.

    One machine, and eight averaged that are told the time of the rows.
    """
    data, seeds = journey(), []
    warm_up(data.fields)
    for seed in range(options.seeds):
        judged: dict[str, dict[str, float]] = {}
        for name, ways in (("all pairs", {}), ("user × item", SIDES)):
            judged[_called(name, 1)] = _best_setting(data, seed, ways)
            timed = {"n_members": MEMBERS, "validation_fraction": LATEST, **ways}
            judged[_called(name, MEMBERS)] = _best_setting(data, seed, timed, data.time)
        if peers.LightFM is not None:
            judged |= _lightfm(data, seed)
        seeds.append(_rows(judged) | _against_lightfm(judged, 1) | _against_lightfm(judged, MEMBERS))
        print(f"purchases, seed {seed}:", {key: round(value, 4) for key, value in seeds[-1].items()}, flush=True)
    return gather(seeds)


def warm_up(fields: dict[str, np.ndarray]) -> None:
    """Compile."""
    small = journey()
    for ways in ({}, SIDES):
        FactorizationMachineClassifier(n_factors=32, fields=fields, max_iter=1, random_state=0, **ways).fit(
            small.X[:2000], small.y[:2000]
        ).predict(small.X[:10])


def samplers(options: argparse.Namespace) -> Figures:
    """The same rows, one seed: the stochastic fit, Gibbs sampling, and myFM (all pairs), which takes minutes."""
    data = journey()
    warm_up(data.fields)
    judged = {
        "FM, all pairs": _best_setting(data, 0, {}),
        "FM, all pairs by Gibbs": _gibbs(data, 0, {}),
        f"FM, all pairs by Gibbs, {PURCHASE_CHAINS} chains": _gibbs(data, 0, {"n_members": PURCHASE_CHAINS}),
        "FM, user × item by Gibbs": _gibbs(data, 0, SIDES),
    }
    if peers.myfm is not None:
        judged["myFM"] = _myfm(data, 0)
    return gather([_rows(judged) | _against_myfm(judged)])


def _rows(judged: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name}: {key}": value for name, row in judged.items() for key, value in row.items()}


def _called(name: str, n_members: int) -> str:
    return f"FM, {name}" if n_members == 1 else f"FM, {name}, in time, {n_members} averaged"


def _best_setting(data: Encoded, seed: int, ways: dict[str, Any], time: np.ndarray | None = None) -> dict[str, float]:
    """The setting with the least loss of the rows that the fit itself holds out: random ones, or the latest."""
    tried = []
    for rate, penalty, start, of_weights, first in SETTINGS if time is None else TIMED_SETTINGS:
        model = FactorizationMachineClassifier(
            n_factors=32, solver=Adagrad(accumulator_start=start), learning_rate=rate, reg_factors=penalty,
            reg_linear=of_weights, init_scale=first, fields=data.fields, random_state=seed, **ways,
        )  # fmt: skip
        seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y, time=time))  # noqa: B023
        tried.append((min(model.validation_losses_), seconds, model))
    _, seconds, model = min(tried, key=lambda one: one[0])
    return {
        **log_loss_and_auc(data.y_test, model.predict_proba(data.X_test)[:, 1]),
        "CPU seconds": seconds,
        "CPU seconds of all settings": sum(one[1] for one in tried),
        "learning rate": model.learning_rate,
        "penalty": model.reg_factors,
        "accumulators' start": model.solver.accumulator_start,
        "epochs": model.n_iter_,
    }


def _gibbs(data: Encoded, seed: int, ways: dict[str, Any]) -> dict[str, float]:
    model = FactorizationMachineClassifier(
        n_factors=32, solver="gibbs", loss="probit",
        max_iter=PURCHASE_SWEEPS, fields=data.fields, random_state=seed, **ways,
    )  # fmt: skip
    clone(model).set_params(max_iter=2).fit(data.X[:2000], data.y[:2000])  # compile
    seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y))
    return {**log_loss_and_auc(data.y_test, model.predict_proba(data.X_test)[:, 1]), "CPU seconds": seconds}


def _lightfm(data: Any, seed: int) -> dict[str, dict[str, float]]:
    """Each setting, and the mean score of four of the best one."""
    rows, models = {}, {}
    sides = peers.LightFMRows(data, 32, seed).sides(data.X_test)

    def fit(setting: tuple[float, float, bool], seed: int) -> tuple[Any, float]:
        rate, penalty, latest = setting
        model = peers.LightFMRows(data, 32, seed, rate, penalty)
        seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y, seed, latest=latest))
        return model.score(sides), seconds

    for setting in LIGHTFM_SETTINGS:
        name = "LightFM, rate {:g}, penalty {:g}".format(*setting[:2]) + ", in time" * setting[2]
        score, seconds = fit(setting, seed)
        rows[name], models[name] = {**log_loss_and_auc(data.y_test, expit(score)), "CPU seconds": seconds}, setting
    best = models[max(rows, key=lambda name: rows[name]["AUC"])]
    fits = [fit(best, LIGHTFM_MEMBERS * seed + k + 1000) for k in range(LIGHTFM_MEMBERS)]
    rows[f"LightFM, {LIGHTFM_MEMBERS} averaged"] = {
        **log_loss_and_auc(data.y_test, expit(np.mean([score for score, _ in fits], axis=0))),
        "CPU seconds": sum(seconds for _, seconds in fits),
    }
    return rows


def _myfm(data: Any, seed: int) -> dict[str, float]:
    model = peers.myfm.MyFMClassifier(rank=32, random_seed=seed)
    fit = partial(
        peers.fit_myfm,
        model,
        data.X.astype(np.float64),
        data.y > 0,
        n_iter=PURCHASE_SWEEPS,
        n_kept_samples=PURCHASE_DRAWS,
    )
    seconds, _ = cpu_seconds(partial(fit, group_shapes=peers.myfm_groups(data)))
    return {
        **log_loss_and_auc(data.y_test, model.predict_proba(data.X_test.astype(np.float64))),
        "CPU seconds": seconds,
    }


def _against_lightfm(judged: dict[str, dict[str, float]], n_members: int) -> dict[str, float]:
    """Against the best of LightFM's single fits, by each figure."""
    rivals = [row for name, row in judged.items() if name.startswith("LightFM, rate")]
    if not rivals:
        return {}
    name, ours = _called("user × item", n_members).removeprefix("FM, "), judged[_called("user × item", n_members)]
    return {
        f"{name}: AUC − LightFM's best": ours["AUC"] - max(row["AUC"] for row in rivals),
        f"{name}: log-loss − LightFM's best": ours["log-loss"] - min(row["log-loss"] for row in rivals),
        f"fit time: {name} ÷ LightFM's fastest": ours["CPU seconds"] / min(row["CPU seconds"] for row in rivals),
    }


def _against_myfm(judged: dict[str, dict[str, float]]) -> dict[str, float]:
    figures = {}
    if "myFM" in judged:
        for name in ("all pairs", "all pairs by Gibbs", f"all pairs by Gibbs, {PURCHASE_CHAINS} chains"):
            own, other = judged[f"FM, {name}"], judged["myFM"]
            figures[f"{name} AUC − myFM's"] = own["AUC"] - other["AUC"]
            figures[f"{name} log-loss − myFM's"] = own["log-loss"] - other["log-loss"]
            figures[f"fit time: {name} ÷ myFM"] = own["CPU seconds"] / other["CPU seconds"]
    return figures


def films(options: argparse.Namespace) -> Figures:
    """MovieLens-100k, 8 factors, 200 sweeps of Gibbs sampling, beside myFM.

    The last row adds who has rated what, in the rows to fit, to the side fields; it was tried on validation rows of
    two seeds. Two chains of the same sampler differ by a thousandth: of each sampler a few are run, and their errors
    averaged. Then there is the error of one machine of as many chains (`n_members`).
    """
    seeds = []
    for seed in range(options.seeds):
        figures: dict[str, float] = {}
        for side, name in ((False, "ids only"), (True, "with side fields")):
            data = ratings(options, side=side, seed=seed)
            if seed == 0:
                _chain(data, 0, sweeps=2)  # compile
            chains = [_chain(data, CHAINS * seed + k) for k in range(CHAINS)]
            error, seconds = np.mean(chains, axis=0)
            figures[f"{name}, RMSE: ours"] = error
            pooled_error, pooled_seconds = _chain(data, CHAINS * seed, n_members=CHAINS)
            figures[f"{name}, RMSE: ours, {CHAINS} chains pooled"] = pooled_error
            if peers.myfm is None:
                continue
            other_error, other_seconds = np.mean([_myfm_chain(data, CHAINS * seed + k) for k in range(CHAINS)], axis=0)
            figures[f"{name}, RMSE: myFM"] = other_error
            figures[f"{name}, RMSE: ours − myFM"] = error - other_error
            figures[f"{name}, RMSE: spread of our chains"] = float(np.ptp([chain[0] for chain in chains]))
            figures[f"{name}, fit time ÷ myFM"] = seconds / other_seconds
            figures[f"{name}, fit time ÷ myFM, {CHAINS} chains pooled"] = pooled_seconds / other_seconds
        histories = with_histories(data)
        chains = [_chain(histories, CHAINS * seed + k, scale=False) for k in range(CHAINS)]
        figures["with side fields and histories, RMSE: ours"] = float(np.mean(chains, axis=0)[0])
        figures["fit time: with histories ÷ without"] = float(np.mean(chains, axis=0)[1]) / seconds
        seeds.append(figures)
        print(f"films, seed {seed}:", {key: round(value, 4) for key, value in figures.items()}, flush=True)
    return gather(seeds)


def _chain(data: Encoded, seed: int, sweeps: int = SWEEPS, **params: Any) -> tuple[float, float]:
    """RMSE and CPU seconds of the fit."""
    model = FactorizationMachineRegressor(
        n_factors=8, solver="gibbs", max_iter=sweeps, fields=data.fields, random_state=seed, **params
    )
    seconds, _ = cpu_seconds(lambda: model.fit(data.X, data.y))
    return rmse(data.y_test, model.predict(data.X_test)), seconds


def _myfm_chain(data: Encoded, seed: int) -> tuple[float, float]:
    model = peers.myfm.MyFMRegressor(rank=8, random_seed=seed)
    fit = partial(peers.fit_myfm, model, data.X.astype(np.float64), data.y, n_iter=SWEEPS)
    seconds, _ = cpu_seconds(partial(fit, group_shapes=peers.myfm_groups(data)))
    return rmse(data.y_test, model.predict(data.X_test.astype(np.float64))), seconds


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
