"""Appending is building at once, whatever comes in whatever order; what was there does not move."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic.events import EventLog

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


def test_two_logs_may_grow_from_one() -> None:
    log = EventLog(events(list(range(10)), 0), **ROLES)
    left, right = log.append(events([11, 12], 1)), log.append(events([20], 2))
    assert left.time.tolist() == [*range(10), 11, 12]
    assert right.time.tolist() == [*range(10), 20]
    assert log.before(5).append(events([7], 3)).time.tolist() == [0, 1, 2, 3, 4, 7]
    assert log.time.tolist() == list(range(10))
    assert not left.time.flags.writeable
