"""History of single rows from a grouped log: that of the table, to the bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import Aggregate, EventLog, HistoryFeatures
from mtl_classic.events._row_index import HistoryIndex

SPECS = [
    Aggregate("user", "count"), Aggregate("user", "count", window=2.5), Aggregate(("user", "item"), "recency"),
    Aggregate(("user", "item", "shop"), "count", where="buy"), Aggregate("item", "sum", window=3), Aggregate((), "gap"),
    Aggregate("item", "mean", where={"shop": ["a", "b"]}), Aggregate("user", "decayed", half_life=2.0),
    Aggregate("user", "decayed", half_life=2.0, value="price", window=5), Aggregate("user", "gap", where="view"),
    Aggregate("item", "rate", where="buy", per="view"), Aggregate("item", "rate", value="price", smoothing=0),
    Aggregate("item", "rate", value="price", window=4),
    Aggregate("user", "rate", value="price", where="buy", per="view"),
]  # fmt: skip


def make(seed: int, n: int, axis: str) -> tuple[pd.DataFrame, EventLog]:
    rng = np.random.default_rng(seed)

    def table(size: int) -> pd.DataFrame:
        time = rng.integers(0, 12, size)
        frame = pd.DataFrame({"user": rng.integers(0, 5, size), "item": rng.choice(list("xyz"), size), "time": time})
        frame["shop"] = pd.Series(rng.choice(np.array(["a", "b", None], dtype=object), size), dtype=object)
        if axis == "float":
            frame["time"] = time + rng.integers(0, 4, size) / 4
        if axis == "date":
            frame["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(time, unit="D")
        return frame

    events = table(n).assign(type=np.resize(["view", "buy"], n), price=rng.normal(size=n))
    events.loc[rng.random(n) < 0.1, "price"] = np.nan
    log = EventLog(events, user="user", item="item", time="time", event="type", value="price")
    rows = table(12)
    rows.loc[0, "user"], rows.loc[1, "item"] = 77, "new"
    return rows, log


def check(history: HistoryFeatures, rows: pd.DataFrame) -> None:
    index = HistoryIndex(history)
    expected = history.transform(rows)[list(index.names)].to_numpy()
    own = np.array([index.columns(row) for row in rows.to_dict("records")])
    np.testing.assert_array_equal(own, expected)


@given(seed=st.integers(0, 10_000), n=st.integers(4, 60), axis=st.sampled_from(["int", "float"]))
def test_any_log(seed: int, n: int, axis: str) -> None:
    rows, log = make(seed, n, axis)
    check(HistoryFeatures(SPECS).fit(rows, events=log), rows)


@pytest.mark.parametrize("lag", [None, 1, 1.5])
def test_lag_and_later_events(lag: float | None) -> None:
    rows, log = make(0, 200, "int")
    history = HistoryFeatures(SPECS, lag=lag).fit(rows, events=log)
    check(history, rows)
    check(history.observe(make(1, 50, "int")[1].to_frame().assign(time=12)), rows.assign(time=14))


def test_dates_and_auto() -> None:
    rows, log = make(0, 300, "date")
    check(HistoryFeatures().fit(rows, events=log), rows)


def test_the_log_of_the_rows() -> None:
    rows, _ = make(0, 10, "date")
    check(HistoryFeatures(user="user", item="item", time="time").fit(rows, np.arange(12) % 2), rows)


def test_an_empty_log() -> None:
    rows, log = make(0, 50, "int")
    history = HistoryFeatures(SPECS).fit(rows, events=log)
    history.log_ = log.before(-1)
    check(history, rows)


@pytest.mark.parametrize("axis", ["int", "float", "date"])
def test_a_log_that_never_had_an_event_has_no_kind_of_times(axis: str) -> None:
    rows, _ = make(0, 0, axis)
    log = EventLog(pd.DataFrame(columns=["user", "item", "time"]), user="user", item="item", time="time")
    history = HistoryFeatures([Aggregate("user", "count"), Aggregate("item", "recency")]).fit(rows, events=log)
    check(history, rows)
    check(history.observe(rows), rows)


def test_a_time_between_the_integers_is_left_to_the_table() -> None:
    rows, log = make(0, 50, "int")
    index = HistoryIndex(HistoryFeatures(SPECS).fit(rows, events=log))
    row = rows.iloc[3].to_dict()
    assert index.columns(row | {"time": 5.5}) is None
    np.testing.assert_array_equal(index.columns(row | {"time": 5.0}), index.columns(row | {"time": 5}))
