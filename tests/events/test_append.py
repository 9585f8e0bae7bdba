"""Appending is building at once, whatever comes in whatever order; what was there does not move."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import RepeatedEventsWarning
from mtl_classic._core.keys import key_kind
from mtl_classic.events import EventLog

# Which dtype empty parts bring in differs between releases of pandas; the values do not.
pytestmark = pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation with empty:FutureWarning")

ROLES = {"user": "user", "item": "item", "time": "time", "event": "type", "value": "price"}


def events(times: list[int], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = len(times)
    return pd.DataFrame(
        {
            "user": rng.integers(0, 9, n),
            "item": pd.Series([f"i{k}" for k in rng.integers(0, 5 + seed, n)], dtype="str"),
            "time": np.asarray(times, dtype=np.int64),
            "type": pd.Categorical(rng.choice(["view", "buy"], n)),
            "price": rng.choice([0.5, 1.5, 2.5, np.nan], n),
            "gap": pd.Series(rng.choice([1, 2, None] if seed % 2 else [1, 2, 3], n), dtype="Int64"),
        }
    )


@given(st.lists(st.lists(st.integers(0, 20), max_size=8), min_size=1, max_size=5))
def test_appending_is_building_at_once(parts: list[list[int]]) -> None:
    frames = [events(times, seed) for seed, times in enumerate(parts)]
    log = EventLog(frames[0], **ROLES)
    logs, frozen = [log], [log.to_frame()]
    for frame in frames[1:]:
        log = log.append(frame)
        logs.append(log)
        frozen.append(log.to_frame())
    whole = EventLog(pd.concat(frames, ignore_index=True), **ROLES)
    for name in whole.columns:
        assert repr(log.column(name).tolist()) == repr(whole.column(name).tolist())
    for one, before in zip(logs, frozen, strict=True):  # logs that were there first did not change
        pd.testing.assert_frame_equal(one.to_frame(), before)


@given(st.lists(st.lists(st.integers(0, 20), max_size=8), min_size=2, max_size=5), st.integers(0, 31))
def test_codes_that_grew_number_the_same_values(parts: list[list[int]], asked: int) -> None:
    log, frames, end = EventLog(events([1], 0), **ROLES), [events([1], 0)], 0
    for seed, times in enumerate(parts, start=1):
        if asked >> seed & 1:  # some logs are coded before they grow
            for name in log.columns:
                log.encode(name)
        end += 25 * (seed % 3 > 0)  # most parts come after all that was
        frame = events([end + time for time in times], seed)
        frames.append(frame)
        log = log.append(frame)
    whole = EventLog(pd.concat(frames, ignore_index=True)[list(log.columns)], **ROLES)
    for name in log.columns:
        (codes, values), (expected, distinct) = log.encode(name), whole.encode(name)
        assert values.is_unique
        assert set(values) == set(distinct)
        assert ((codes < 0) == (expected < 0)).all()
        assert (values[codes] == distinct[expected])[codes >= 0].all()
        assert codes.flags.writeable  # as compiled kernels know them


@pytest.mark.parametrize(
    ("days", "first"),
    [
        ([[7, 5, None], [9, 7], [5, None]], "Int64"),
        ([[7, 5], [5, None, 9], [9, 7], [7]], "Int64"),
        ([[7, 5], [5, None, 9], [9, 7], [7]], "int32"),
        ([[7, 5], [5, None, 9], [9, 7], [7]], "float64"),
    ],
)
@pytest.mark.parametrize("asked", [False, True])
def test_ids_are_the_same_whether_a_day_has_gaps_or_not(days: list[list[int]], first: str, asked: bool) -> None:
    frames = [
        pd.DataFrame({"user": 1, "item": pd.array(ids, dtype="Int64"), "time": np.arange(len(ids))[::-1] + 10 * day})
        for day, ids in enumerate(days)
    ]
    frames[0]["item"] = frames[0]["item"].astype(first)
    log = EventLog(frames[0], user="user", item="item", time="time")
    for frame in frames[1:]:
        if asked:
            log.encode("item")
        log = log.append(frame)
    expected = [item for ids in days for item in reversed(ids)]
    codes, values = log.encode("item")
    assert [None if pd.isna(item) else item for item in log.column("item")] == expected
    assert [values[code] if code >= 0 else None for code in codes] == expected


def test_two_logs_may_grow_from_one() -> None:
    log = EventLog(events(list(range(10)), 0), **ROLES)
    left, right = log.append(events([11, 12], 1)), log.append(events([20], 2))
    assert left.time.tolist() == [*range(10), 11, 12]
    assert right.time.tolist() == [*range(10), 20]
    assert log.before(5).append(events([7], 3)).time.tolist() == [0, 1, 2, 3, 4, 7]
    assert log.time.tolist() == list(range(10))
    assert not left.time.flags.writeable


@pytest.mark.parametrize("day", [[np.nan, 5.0], np.array([7, 8], dtype=np.uint64)])
def test_ids_that_a_float_does_not_tell_apart_stay_apart(day: object) -> None:
    known = np.array([2**60 + 1, 2**60 + 2, 5], dtype=np.int64)
    log = EventLog(pd.DataFrame({"user": known, "item": 1, "time": [1, 2, 3]}), user="user", item="item", time="time")
    longer = log.append(pd.DataFrame({"user": day, "item": 1, "time": [4, 5]}))
    assert longer.column("user").tolist()[:3] == known.tolist()
    codes, values = longer.encode("user")
    assert len(set(codes[:3])) == 3
    assert (codes[4] == codes[2]) == (day[1] == 5)  # 5 and 5.0 are one id
    assert key_kind(values) == "numbers"


def test_text_in_place_of_numbers_is_refused() -> None:
    frame = events([1, 2, 3], 0)
    log = EventLog(frame, **ROLES)
    with pytest.raises(
        TypeError, match="'user' of the log holds numbers, that of the events appended text; convert one"
    ):
        log.append(frame.assign(user=frame["user"].astype(str)))
    with pytest.raises(TypeError, match="'item' of the log holds text, that of the events appended numbers"):
        log.append(frame.assign(item=[1, 2, 3]))
    more = frame.assign(store=["a", "b", "c"], pieces=[1.0, 2.0, 3.0], flag=[True, False, True])
    wide = EventLog(more, **ROLES)
    for name, other in (("store", [1, 2, 3]), ("pieces", ["1", "2", None]), ("flag", ["yes", "no", "yes"])):
        with pytest.raises(TypeError, match=f"the column '{name}' of the log holds"):  # keys and values of aggregates
            wide.append(more.assign(**{name: other}))
    assert wide.append(more.assign(flag=[1, 0, np.nan], pieces=[1, 2, 3])).n_events == 6
    for nobody in (np.nan, None):  # a day of anonymous events has no type
        assert log.append(frame.assign(item=nobody)).n_events == 6
        assert EventLog(frame.assign(item=nobody), **ROLES).append(frame).n_events == 6


@pytest.mark.parametrize("nothing", [np.nan, None])
def test_dates_that_are_all_missing_on_one_side(nothing: object) -> None:
    dated = events([1, 2], 0).assign(day=pd.to_datetime(["2024-01-01", None]))
    empty = events([3, 4], 1).assign(day=nothing)
    for first, second in ((dated, empty), (empty, dated)):
        frame = EventLog(first, **ROLES).append(second).to_frame()
        assert frame["day"].tolist() == [pd.Timestamp("2024-01-01"), *[pd.NaT] * 3]


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_day_without_any_amount_leaves_numbers_what_they_are(kind: type) -> None:
    """A day that has None everywhere, as rows of a database may come, is one of missing values."""
    paid = events([1, 2], 0).assign(price=kind(2.5), discount=kind(0.5))
    nothing = events([3, 4], 1).assign(price=None, discount=None)
    assert nothing["price"].dtype == object
    for first, second in ((paid, nothing), (nothing, paid)):
        frame = EventLog(first, **ROLES).append(second.assign(time=[5, 6])).to_frame()
        for name in ("price", "discount"):
            assert frame[name].dtype.kind == "f"
            assert frame[name].isna().tolist() == [*first[name].isna(), *second[name].isna()]
            assert set(frame[name].dropna()) == set(paid[name])


def test_events_told_twice_are_told_so() -> None:
    first, second = events(list(range(200)), 0), events(list(range(190, 300)), 1)
    log = EventLog(first, **ROLES).append(second)  # late ones, unlike those that were there
    with pytest.warns(RepeatedEventsWarning, match="120 of 120 events are equal to events that the log holds already"):
        assert log.append(first[60:180]).n_events == 430
    with pytest.warns(RepeatedEventsWarning, match="310 of 400 events"):
        log.append(pd.concat([first, second, events(list(range(300, 390)), 2)]))
    log.append(pd.concat([first[:40], events(list(range(300, 390)), 2)]))  # a few, and fewer than a hundred
    log.append(first[:99])


def test_a_day_of_a_single_time_told_twice_is_told_so() -> None:
    """Where times are days, those told again are not earlier than the last of the log."""
    day = events([5] * 200, 0).assign(user=range(200))
    log = EventLog(events(list(range(5)), 1), **ROLES).append(day[:150])
    log.append(day[150:])
    with pytest.warns(RepeatedEventsWarning, match="150 of 200 events are equal"):
        log.append(day)
    parts = np.random.default_rng(0).integers(0, 50, (8, 200))  # of what was seen that day, whoever it was
    log = EventLog(pd.DataFrame({"user": 0, "item": parts[0], "time": 5}), user="user", item="item", time="time")
    for part in parts[1:]:
        log = log.append(pd.DataFrame({"user": 0, "item": part, "time": 5}))


def test_an_event_of_many_equal_ones_may_come_late() -> None:
    frame = events([5] * 300, 0)
    log = EventLog(frame.assign(time=[*[5] * 299, 9]), **ROLES)
    log.append(frame.assign(user=77))


def test_a_later_day_copies_no_column_of_the_log() -> None:
    n = 300_000
    ids = {"user": np.arange(n) % 5000, "item": np.arange(n) % 300}
    log = EventLog(pd.DataFrame({**ids, "time": np.arange(n)}), user="user", item="item", time="time")
    day = pd.DataFrame({"user": [1, 2], "item": [3, 4], "time": [n, n]})
    log = log.append(day)  # whatever is made once
    tracemalloc.start()
    log.append(day)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n  # bytes; a column has eight times as many
