"""Fourteen days of a shop: scored every night, told of every day; the watch over it; a killed run."""

from __future__ import annotations

import os
import signal
import tempfile
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._measure import spread
from mtl_classic import (
    HistoryFeatures,
    MultiTaskModel,
    PerTaskModel,
    load_model,
    make_funnel,
    monitor,
    monitor_reference,
    save_model,
    write_scores,
)
from mtl_classic.metrics import correct_sampling, expected_calibration_error, roc_auc
from tests.inspection.stream import day, make_model

N_DAYS = 14


def nightly_auc(seed: int, lag: str | None, n_rows: int = 60_000) -> dict[str, float]:
    """AUC of scores made at midnight, with the log until then, less that of the same rows with the whole log."""
    shop = make_funnel(n_rows, n_users=3000, n_items=400, n_days=56, random_state=seed)
    days, events = shop.X["day"].to_numpy(), shop.events.to_frame()
    first = 56 - N_DAYS
    train = days < first
    midnight = shop.X["time"].min().normalize()
    at_fit = shop.events.before(midnight + pd.Timedelta(days=first))
    history = HistoryFeatures(**shop.roles, lag=lag)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=history, latent=None, random_state=seed, n_jobs=1)
    model.fit(shop.X[train], shop.Y[train], events=at_fit)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model.zip", include_events=True)
        offline = load_model(Path(folder) / "model.zip").observe(events[events["time"] > at_fit.last_time])
    worst: dict[str, float] = {task.name: 0.0 for task in shop.tasks if task.kind == "binary"}
    for number in range(first, 56):
        rows, labels = shop.X[days == number], shop.Y[days == number]
        night, later = model.predict_scores(rows), offline.predict_scores(rows)
        for name in worst:
            gap = abs(roc_auc(labels[name], night[name]) - roc_auc(labels[name], later[name]))
            worst[name] = max(worst[name], float(gap))
        start = midnight + pd.Timedelta(days=number)
        model.observe(events[(events["time"] >= start) & (events["time"] < start + pd.Timedelta("1D"))])
    return worst


def watch(n_quiet: int = 30) -> dict[str, float]:
    """Days of false alarm among quiet ones, and whether each planted change is told on its first day."""
    model = make_model()
    model.reference_ = monitor_reference(model, pd.concat([day(number)[0] for number in (-3, -2, -1)]))
    quiet = 0
    for number in range(1, n_quiet + 1):
        X, Y = day(number)
        quiet += monitor(model, X, X, Y).loc[("overall", "", ""), "verdict"] != "ok"
    told = {"column": 0, "ids": 0, "calibration": 0}
    for number in range(40, 50):
        X, Y = day(number)
        surge = X["user"].where(np.random.default_rng(number).random(len(X)) < 0.85, X["user"] + 10**6)
        drifted, fewer = day(number, drift=1.1)
        told["column"] += _told(monitor(model, X.assign(price=X["price"] * 1.5)), "stability", "price")
        told["ids"] += _told(monitor(model, X.assign(user=surge)), "unseen", "user")
        told["calibration"] += _told(monitor(model, drifted, drifted, fewer), "calibration", "click")
    return {
        f"days of false alarm among {n_quiet}": quiet,
        "shifted column told on its day, share of 10": told["column"] / 10,
        "15 % unseen users told on its day, share of 10": told["ids"] / 10,
        "10 % calibration drift told on its day, share of 10": told["calibration"] / 10,
    }


def _told(report: pd.DataFrame, check: str, name: str) -> bool:
    return bool((report.loc[check].loc[name, "verdict"] != "ok").any())


def sampling(seed: int, n: int = 60_000) -> float:
    """Calibration error of a model of one negative in ten, corrected, less that of a model of all rows."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(2 * n, 3)), columns=list("abc"))
    y = (rng.random(2 * n) < 1 / (1 + np.exp(-(X["a"] - 0.5 * X["b"] - 3.0)))).astype(float).to_numpy()
    kept = np.flatnonzero((y[:n] == 1) | (rng.random(n) < 0.1))
    errors = []
    for rows, rate in ((np.arange(n), 1.0), (kept, 0.1)):
        model = PerTaskModel({"click": "binary"}, random_state=seed, n_jobs=1).fit(X.iloc[rows], y[rows])
        scores = correct_sampling(model.predict_scores(X.iloc[n:])["click"], rate)
        errors.append(expected_calibration_error(y[n:], scores))
    return float(errors[1] - errors[0])


def resumed(seed: int) -> bool:
    """Whether a run that was killed twice, and begun again, leaves the file of a run that was left alone."""
    shop = make_funnel(20_000, random_state=seed)
    model = MultiTaskModel(shop.tasks, **shop.roles, latent=None, random_state=seed, n_jobs=1)
    model.fit(shop.X, shop.Y, events=shop.events)
    with tempfile.TemporaryDirectory() as folder:
        whole, part, saved = (Path(folder) / name for name in ("whole.parquet", "part.parquet", "model.zip"))
        save_model(model, saved, include_events=True)
        write_scores(load_model(saved), shop.X, whole, keep=["user", "item"], chunk_size=2000)
        for n_chunks in (3, 2):
            child = get_context("spawn").Process(target=_killed, args=(saved, shop.X, part, n_chunks))
            child.start()
            child.join()
            if child.exitcode != -signal.SIGKILL:
                raise AssertionError(f"The child was to be killed, but ended with {child.exitcode}.")
        write_scores(load_model(saved), shop.X, part, keep=["user", "item"], chunk_size=2000)
        return sha256(part.read_bytes()).digest() == sha256(whole.read_bytes()).digest()


def _killed(saved: Path, X: pd.DataFrame, path: Path, n_chunks: int) -> None:
    """A scoring run that kills itself after some chunks."""
    done: list[int] = []

    def progress(rows: int, total: int | None) -> None:
        done.append(rows)
        if len(done) > n_chunks:
            os.kill(os.getpid(), signal.SIGKILL)

    write_scores(load_model(saved), X, path, keep=["user", "item"], chunk_size=2000, progress=progress)


def nights(seeds: int) -> dict[str, dict[str, Any]]:
    """The largest difference of AUC of any night and task, over seeds, with and without the staleness in training."""
    return {
        f"largest difference of AUC, {name}": spread(max(nightly_auc(seed, lag).values()) for seed in range(seeds))
        for name, lag in (("history up to the moment in training", None), ("lag of a day in training", "1D"))
    }
