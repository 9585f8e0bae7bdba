"""Ten million candidates scored as a stream, and what surrounds the night: load, observe, single requests."""

from __future__ import annotations

import os
import tempfile
import time
import timeit
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from benchmarks._measure import PeakMemory, cpu_seconds, spread
from mtl_classic import (
    EventLog,
    HistoryFeatures,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskModel,
    PerTaskModel,
    Task,
    load_model,
    make_funnel,
    predict_scores_in_chunks,
    save_model,
)
from mtl_classic.persistence._encode import Encoder

CHUNK = 100_000
LIMIT = 30_000_000  # bytes
EVERY = 10  # the plain boosters predict every tenth chunk, so that both are measured on the same machine at once


def make_model(seed: int, n_rows: int = 100_000) -> tuple[MultiTaskModel, Any]:
    """Five tasks of a shop of 20,000 users and 3000 items: history, ALS factors, funnel; preset fast."""
    shop = make_funnel(n_rows, n_users=20_000, n_items=3000, random_state=seed)
    Y = shop.Y.assign(large=(shop.Y["spend"] > 10).astype(float))
    tasks = [*shop.tasks, Task("large", "binary", given="buy")]
    latent = LatentFeatures([("als", MatrixFactorization(n_factors=16, random_state=seed))], random_state=seed)
    model = MultiTaskModel(tasks, **shop.roles, latent=latent, random_state=seed, n_jobs=1)
    return model.fit(shop.X, Y, events=shop.events), (shop, tasks, Y)


class Candidates:
    """Frames of random pairs for the day after the log; the seconds that making them takes are kept apart."""

    def __init__(self, shop: Any, n_rows: int, seed: int) -> None:
        self.shop, self.n_rows, self.rng = shop, n_rows, np.random.default_rng(seed)
        self.seconds = 0.0
        self.items = shop.X.drop_duplicates("item").reset_index(drop=True)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for start in range(0, self.n_rows, CHUNK):
            began = time.process_time()
            frame = self.frame(min(CHUNK, self.n_rows - start), start)
            self.seconds += time.process_time() - began
            yield frame

    def frame(self, n: int, start: int) -> pd.DataFrame:
        """Users one after the other, as a night's candidates come; items at random."""
        user = (start + np.arange(n)) * 20_000 // self.n_rows
        item = self.items.iloc[self.rng.integers(0, len(self.items), n)].reset_index(drop=True)
        device = pd.Categorical.from_codes(self.rng.integers(0, 3, n), dtype=self.shop.X["device"].dtype)
        when = self.shop.events.last_time.normalize() + pd.Timedelta("1D")
        return item[["item", "category", "price"]].assign(user=user, device=device, time=when, day=60)


def score(n_rows: int, seed: int) -> dict[str, Any]:
    """`top_k` over a stream against the history and one plain booster per task on the same rows.

    In a process of its own that has only loaded the model, so that the memory is that of scoring.
    """
    model, (shop, tasks, Y) = make_model(seed)
    plain, plain_columns = _plain_boosters(model, shop, tasks, Y, seed)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model.zip", include_events=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            run = pool.submit(_stream, str(Path(folder) / "model.zip"), Candidates(shop, n_rows, seed)).result()
    marks, gibibytes, n_users = run
    whole = marks[-1][1]
    history, boosters = _parts(model, plain, plain_columns, Candidates(shop, n_rows, seed))
    done, seconds = next((done, seconds) for done, seconds in marks if done >= n_rows / 10)
    return {
        "rows": n_rows,
        "lists": n_users,
        "GiB above log and model": gibibytes,
        "seconds": whole,
        "history seconds": history,
        "plain booster seconds": boosters,
        "time ÷ (1.2 × plain boosters + history)": whole / (1.2 * boosters + history),
        "slope in rows": float(np.log(whole / seconds) / np.log(n_rows / done)),
    }


def _stream(path: str, source: Candidates) -> tuple[list[tuple[int, float]], float, int]:
    """CPU seconds by rows done, without those of making rows; peak memory above that of the loaded model; lists."""
    model = load_model(path)
    model.top_k(Candidates(source.shop, 1000, 0), "spend", 20)  # compile
    marks: list[tuple[int, float]] = []
    began = time.process_time()

    def progress(done: int, _: int | None) -> None:
        marks.append((done, time.process_time() - began - source.seconds))

    with PeakMemory() as peak:
        best = model.top_k(source, "spend", 20, progress=progress)
    return marks, peak.mebibytes / 1024, int(best["user"].nunique())


def limited(seed: int, n_rows: int = 300_000) -> float:
    """Resident memory that `predict_scores_in_chunks` adds at its highest ÷ the limit that it was given."""
    model, (shop, _, _) = make_model(seed, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model.zip", include_events=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            candidates = Candidates(shop, n_rows, seed).frame(n_rows, 0)
            return pool.submit(_limited, str(Path(folder) / "model.zip"), candidates, LIMIT).result()


def _limited(path: str, candidates: pd.DataFrame, limit: int) -> float:
    model = load_model(path)
    model.predict_scores(candidates.head(9000))  # what is made once
    with PeakMemory() as peak:
        for _ in predict_scores_in_chunks(model, candidates, memory_limit=limit):
            pass
    return peak.mebibytes * 2**20 / limit


def _plain_boosters(model: Any, shop: Any, tasks: Any, Y: Any, seed: int) -> tuple[list[Any], Any]:
    """One LightGBM per task, on the columns that the model's own learners read."""
    table = shop.X
    for _, step in model.pipeline_.steps[:-1]:
        table = step.transform(table)
    baseline = PerTaskModel(tasks, **shop.roles, random_state=seed, n_jobs=1).fit(table, Y)
    return [(fit.booster, fit.n_rounds) for fit in baseline.fits_.values()], baseline.columns_


def _parts(model: Any, boosters: list[Any], columns: Any, source: Candidates) -> tuple[float, float]:
    """Seconds of the history on all rows, and of the plain boosters' own prediction, from every tenth chunk."""
    history, *rest = [step for _, step in model.pipeline_.steps[:-1]]
    seconds = [0.0, 0.0]
    n_seen = 0
    for k, frame in enumerate(source):
        if k % EVERY:
            continue
        n_seen += len(frame)
        spent, table = cpu_seconds(lambda frame=frame: history.transform(frame))
        seconds[0] += spent
        for step in rest:
            table = step.transform(table)
        values = columns.transform(table).values
        for booster, n_rounds in boosters:
            spent, _ = cpu_seconds(lambda b=booster, n=n_rounds, v=values: b.predict(v, num_iteration=n, num_threads=1))
            seconds[1] += spent
    return tuple(total * source.n_rows / n_seen for total in seconds)  # type: ignore[return-value]


def single_request(seed: int, n_rows: int = 200) -> tuple[float, float]:
    """Time of one row of the compiled model ÷ that of its boosters' own prediction of one row; medians.

    And the time in which a compiled model observes a day's events ÷ that of compiling it anew.
    """
    model, (shop, _, _) = make_model(seed)
    compiled = model.compile_for_serving()
    rows = shop.X.iloc[-n_rows:]
    table = rows
    for _, step in model.pipeline_.steps[:-1]:
        table = step.transform(table)
    last = model.pipeline_.steps[-1][1]
    values = last.columns_.transform(table).values
    fits = list(last.fits_.values())

    def by_boosters(k: int) -> None:
        for fit in fits:
            fit.booster.predict(values[k : k + 1], num_iteration=fit.n_rounds, num_threads=1)

    records = rows.to_dict("records")
    expected = model.predict_scores(rows)
    own = pd.DataFrame([compiled.predict_scores(row) for row in records], index=rows.index)
    if not (own == expected).all(axis=None):
        raise AssertionError("A compiled row has other scores than the table.")
    ours = [
        min(timeit.repeat(lambda k=k: compiled.predict_scores(records[k]), number=5, repeat=3)) for k in range(n_rows)
    ]
    theirs = [min(timeit.repeat(lambda k=k: by_boosters(k), number=5, repeat=3)) for k in range(n_rows)]
    return float(np.median(ours) / np.median(theirs)), _observed_compiled(model, shop)


def request_of(seed: int, n_rows: int = 6000, **options: Any) -> float:
    """Time of one row of another model ÷ that of the predictions of all its boosters; the rest of it costs too."""
    shop = make_funnel(n_rows, n_users=2000, n_items=300, random_state=seed)
    tasks = [*shop.tasks, Task("large", "binary", given="buy")]
    Y = shop.Y.assign(large=(shop.Y["spend"] > 10).astype(float))
    model = MultiTaskModel(tasks, **shop.roles, latent=None, random_state=seed, n_jobs=1, **options)
    model.fit(shop.X, Y, events=shop.events)
    compiled, rows = model.compile_for_serving(), shop.X.iloc[-25:]
    table = rows
    for _, step in model.pipeline_.steps[:-1]:
        table = step.transform(table)
    fits = [
        (fit.booster, fit.n_rounds, part.columns_.transform(table).values)
        for part in _structures(model.pipeline_.steps[-1][1])
        for fit in part.fits_.values()
        if hasattr(fit, "booster")
    ]

    def by_boosters(k: int) -> None:
        for booster, n_rounds, values in fits:
            if hasattr(booster, "inplace_predict"):
                booster.inplace_predict(values[k : k + 1], iteration_range=(0, n_rounds or 0))
            else:
                booster.predict(values[k : k + 1], num_iteration=n_rounds, num_threads=1)

    records, ours, theirs = rows.to_dict("records"), [], []
    for k, record in enumerate(records):
        own, other = [], []
        for _ in range(7):  # in turn, so that a busy moment falls on both
            own.append(cpu_seconds(lambda r=record: compiled.predict_scores(r))[0])
            other.append(cpu_seconds(lambda k=k: by_boosters(k))[0])
        ours.append(min(own))
        theirs.append(min(other))
    return float(np.median(ours) / np.median(theirs))


def _structures(model: Any) -> Iterator[Any]:
    """The structures in averages and calibrations that have a fit per task."""
    if hasattr(model, "fits_"):
        yield model
    inner = [model.estimator_] if hasattr(model, "estimator_") else getattr(model, "named_estimators_", {}).values()
    for part in inner:
        yield from _structures(part)


def _observed_compiled(model: MultiTaskModel, shop: Any) -> float:
    day = shop.events.to_frame().tail(shop.events.n_events // 100)
    day["time"] += day["time"].max() - day["time"].min()
    compiling, observing = [], []
    for _ in range(7):
        seconds, compiled = cpu_seconds(model.compile_for_serving)
        compiling.append(seconds)
        observing.append(cpu_seconds(lambda c=compiled: c.observe(day))[0])
    return min(observing) / min(compiling)


def observe(seed: int, n_events: int) -> tuple[float, float]:
    """Time of `observe` of the last 1 % of a log ÷ time to build log and history anew, alone and with the features.

    The second ratio is that of both with the history of a thousand rows, so that nothing is put off; the features must
    be the same.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items = n_events // 50, n_events // 500
    seconds = np.sort(rng.integers(0, 100 * 86_400, n_events))
    events = pd.DataFrame({
        "user": (n_users * rng.random(n_events) ** 2).astype(np.int64),
        "item": (n_items * rng.random(n_events) ** 3).astype(np.int64),
        "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s"),
        "event": rng.choice(["view", "cart", "buy"], n_events, p=[0.7, 0.2, 0.1]),
    })  # fmt: skip
    roles = {"user": "user", "item": "item", "time": "time"}
    cut = n_events - n_events // 100
    rows = events[["user", "item"]].iloc[-1000:].assign(time=events["time"].iloc[-1] + pd.Timedelta("1h"))
    spent: dict[str, list[float]] = {"rebuilt": [], "observed": [], "rebuilt features": [], "observed features": []}

    def build(table: pd.DataFrame) -> HistoryFeatures:
        return HistoryFeatures(**roles).fit(rows, events=EventLog(table, **roles, event="event"))

    build(events).transform(rows)  # compile
    for _ in range(5):
        history = build(events.iloc[:cut])
        history.transform(rows)
        spent["observed"].append(cpu_seconds(lambda h=history: h.observe(events.iloc[cut:]))[0])
        seconds_observed, own = cpu_seconds(lambda h=history: h.transform(rows))
        spent["observed features"].append(spent["observed"][-1] + seconds_observed)
        seconds_rebuilt, whole = cpu_seconds(lambda: build(events))
        spent["rebuilt"].append(seconds_rebuilt)
        spent["rebuilt features"].append(seconds_rebuilt + cpu_seconds(lambda h=whole: h.transform(rows))[0])
        same = HistoryFeatures(whole.aggregates_, **roles).fit(rows, events=history.log_).transform(rows)
        if not same.equals(whole.transform(rows)) or (
            whole.aggregates_ == history.aggregates_ and not own.equals(same)
        ):
            raise AssertionError("The history of an observed log is not that of a rebuilt one.")
    taken = {name: float(np.median(values)) for name, values in spent.items()}
    return taken["observed"] / taken["rebuilt"], taken["observed features"] / taken["rebuilt features"]


def files(seed: int) -> dict[str, float]:
    """Load time against joblib's, and file size against the boosters' text and arrays, compressed."""
    model, _ = make_model(seed, 20_000)
    encoder = Encoder(keep_events=True, narrows=False)
    encoder.value(model, "model")
    needed = sum(len(zlib.compress(data, 6)) for data in encoder.finish().values())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own, plain, packed, raw = (
            Path(folder) / name for name in ("model.zip", "plain.zip", "model.z", "model.joblib")
        )
        save_model(model, own, include_events=True)
        save_model(model, plain, include_events=True, compress=False)
        joblib.dump(model, packed, compress=3)
        joblib.dump(model, raw)
        loads = {own: load_model, plain: load_model, packed: joblib.load, raw: joblib.load}
        spent: dict[Path, list[float]] = {path: [] for path in loads}
        for _ in range(25):  # in turn, so that a busy moment falls on all
            for path, load in loads.items():
                spent[path].append(cpu_seconds(lambda p=path, f=load: f(p))[0])
        seconds = {path: min(values) for path, values in spent.items()}
        return {
            "load time ÷ joblib's, both compressed": seconds[own] / seconds[packed],
            "load time ÷ joblib's, neither compressed": seconds[plain] / seconds[raw],
            "load time, compressed ÷ joblib's that is not": seconds[own] / seconds[raw],
            "size ÷ boosters' text and arrays compressed": os.path.getsize(own) / needed,
            "size ÷ joblib's (compress=3)": os.path.getsize(own) / os.path.getsize(packed),
        }


def spreads(measured: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, low and high of each figure over seeds."""
    return {name: spread(result[name] for result in measured) for name in measured[0]}
