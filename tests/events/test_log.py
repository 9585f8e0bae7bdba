import pickle
import re
from decimal import Decimal

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

from mtl_classic import Task
from mtl_classic._core.exceptions import RoleError
from mtl_classic.events import EventLog, HistoryFeatures, label_from_events
from tests.events.shop import ROLES, make_events, make_log, make_rows


def test_events_are_sorted_by_time_and_ties_keep_their_order():
    events = make_events()
    log = EventLog(events, **ROLES)
    expected = events.sort_values("time", kind="stable", ignore_index=True)
    assert log.n_events == len(events)
    for name in events.columns:
        np.testing.assert_array_equal(log.column(name), expected[name].to_numpy())
    pd.testing.assert_frame_equal(log.to_frame(), expected, check_dtype=False)


def test_the_frame_is_copied_and_never_changed():
    events = make_events()
    before = events.copy()
    log = EventLog(events, **ROLES)
    events["price"] = -1.0
    events.loc[:, "user"] = 0
    assert np.nanmin(log.column("price")) > 0
    pd.testing.assert_frame_equal(before[["time", "item"]], events[["time", "item"]])
    with pytest.raises(ValueError, match="read-only"):
        log.time[0] = 5


def test_types_come_by_frequency_and_roles_by_name():
    log = make_log()
    assert log.event_types == ("view", "cart", "buy")
    assert dict(log.roles) == ROLES
    assert EventLog(make_events(), user="user", item="item", time="time").event_types == ()


def test_before_is_strict():
    log = make_log()
    assert (log.before(250).time < 250).all()
    assert log.before(250).n_events == int((log.time < 250).sum())
    assert log.before(log.last_time).n_events < log.n_events
    assert log.before(-1).n_events == 0
    assert log.before(-1).last_time is None
    assert log.before(-1).event_types == ()


def test_appending_day_by_day_equals_building_at_once():
    events = make_events()
    parts = [part for _, part in events.groupby(events["time"] // 100)]
    log = EventLog(parts[0], **ROLES)
    for part in parts[1:]:
        log = log.append(part)
    assert log.hash == EventLog(events, **ROLES).hash
    assert log.append(events.head(0)) is log
    assert log.before(-1).append(events).hash == log.hash


def test_append_takes_logs_ignores_further_columns_and_refuses_missing_ones():
    log = make_log()
    assert log.append(make_log(seed=2)).n_events == 2 * log.n_events
    assert "new" not in log.append(make_events(5).assign(new=1)).columns
    with pytest.raises(ValueError, match=r"missing are \['price'\]"):
        log.append(make_events(5).drop(columns="price"))
    with pytest.raises(TypeError, match="convert them to one"):
        log.append(make_events(5).assign(time=pd.Timestamp("2024-01-01")))


def test_the_hash_is_one_of_the_content():
    events = make_events()
    log = EventLog(events, **ROLES)
    assert log.hash == EventLog(events.astype({"item": "category"}), **ROLES).hash
    assert log.hash == EventLog(pl.from_pandas(events), **ROLES).hash
    assert log.hash == pickle.loads(pickle.dumps(log)).hash
    assert log.hash != EventLog(events.assign(coupon=True), **ROLES).hash
    assert log.hash != EventLog(events, user="user", item="item", time="time").hash
    dates = events["time"].astype("datetime64[ns]")
    alike = [events, events.assign(time=dates), events.assign(price=events["price"].to_numpy().view(np.int64))]
    assert len({EventLog(frame, **ROLES).hash for frame in alike}) == 3  # of equal bytes


def test_datetimes_with_and_without_zone_and_as_texts():
    events = make_events(50)
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(events["time"], "h")
    plain = EventLog(events.assign(time=stamps), **ROLES)
    zoned = EventLog(events.assign(time=stamps.dt.tz_localize("Europe/Berlin")), **ROLES)
    texts = EventLog(events.assign(time=stamps.astype(str)), **ROLES)
    assert plain.last_time == stamps.max()
    assert plain.before(plain.last_time).n_events == int((stamps < stamps.max()).sum())
    assert plain.before(str(plain.last_time)).n_events == int((stamps < stamps.max()).sum())
    assert zoned.last_time == stamps.max().tz_localize("Europe/Berlin")
    assert zoned.append(zoned).time[-1] == zoned.time[-1] == plain.time[-1] - 3_600_000_000_000
    np.testing.assert_array_equal(texts.time, plain.time)
    noon = "2024-01-02 12:00"
    assert zoned.before(noon).n_events == zoned.before(pd.Timestamp(noon, tz="Europe/Berlin")).n_events
    assert zoned.before(noon).n_events == plain.before(noon).n_events  # meant in the zone of the log
    with pytest.raises(TypeError, match="zone"):
        plain.append(zoned)


@pytest.mark.parametrize("time", [5, 5.0, np.int64(5), True])
def test_a_number_is_no_time_of_a_log_of_dates(time):
    events = make_events(50)
    log = EventLog(events.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(events["time"], "h")), **ROLES)
    with pytest.raises(
        TypeError, match=f"time must be a date, as the times of the log are; got {re.escape(repr(time))}"
    ):
        log.before(time)


@pytest.mark.parametrize("time", ["2024-01-03", pd.Timestamp("2024-01-03"), np.datetime64("2024-01-03")])
def test_a_date_is_no_time_of_a_log_of_numbers(time):
    with pytest.raises(
        TypeError, match=f"time must be a number, as the times of the log are; got {re.escape(repr(time))}"
    ):
        EventLog(make_events(50), **ROLES).before(time)


def test_a_frame_without_rows_has_no_types_yet():
    events = make_events(5)
    log = EventLog(pd.DataFrame(columns=events.columns), **ROLES)
    assert log.n_events == 0
    assert log.append(events).hash == EventLog(events, **ROLES).hash


def test_missing_times_are_refused_with_their_number():
    events = make_events(10)
    events["time"] = pd.Timestamp("2024-01-01")
    events.loc[[2, 5, 7], "time"] = pd.NaT
    with pytest.raises(ValueError, match="3 of 10"):
        EventLog(events, **ROLES)


@pytest.mark.parametrize("role", list(ROLES))
def test_a_role_that_is_not_there_is_refused(role):
    with pytest.raises(RoleError, match=role):
        EventLog(make_events(5), **{**ROLES, role: "nowhere"})


@pytest.mark.parametrize("role", ["user", "item", "time"])
def test_a_log_needs_user_item_and_time_and_says_what_takes_their_place(role):
    with pytest.raises(RoleError, match=f"no column for {role}. .* column of one value"):
        EventLog(make_events(5), **{**ROLES, role: None})


def test_duplicated_names_infinite_and_textual_values_are_refused():
    events = make_events(5)
    with pytest.raises(ValueError, match="user"):
        EventLog(pd.concat([events, events[["user"]]], axis=1), **ROLES)
    with pytest.raises(ValueError, match="nfinite"):
        EventLog(events.assign(price=np.inf), **ROLES)
    with pytest.raises(TypeError, match="to_numeric"):
        EventLog(events.assign(price="much"), **ROLES)
    with pytest.raises(TypeError, match="frame"):
        EventLog(np.zeros((3, 3)), **ROLES)
    with pytest.raises(ValueError, match="no column 'x'"):
        EventLog(events, **ROLES).column("x")


def test_missing_ids_nullable_types_and_categories_survive():
    events = pd.DataFrame(
        {
            "user": pd.array([1, None, 3], dtype="Int64"),
            "item": pd.Categorical(["a", None, "b"]),
            "time": [1, 2, 3],
            "price": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    log = EventLog(events, user="user", item="item", time="time", value="price")
    assert log.column("user").tolist() == [1, None, 3]
    assert log.encode("item")[0].tolist() == [0, -1, 1]
    np.testing.assert_array_equal(log.column("price"), [1.0, np.nan, 3.0])


@pytest.mark.parametrize("held", [float, Decimal])
def test_amounts_held_as_objects_are_numbers(held):
    events = make_events().drop(columns="coupon")
    events["margin"] = events["price"] / 2
    objects = events.assign(
        **{c: events[c].map(held, na_action="ignore").astype(object).where(events[c].notna(), None)
           for c in ("price", "margin")}
    )  # fmt: skip
    tasks = [Task("buy", "binary"), Task("spend", "regression", given="buy"), Task("margin", "regression")]
    found = []
    half = len(events) // 2
    for first, then in ((events, events), (objects, objects), (events, objects)):
        log = EventLog(first[:half], **ROLES).append(then[half:])
        history = HistoryFeatures().fit(make_rows(), events=log)
        found.append((history.transform(make_rows()), label_from_events(make_rows(), log, tasks, horizon=20)))
    assert "user__mean__margin__buy__128" in found[0][0]
    for others in found[1:]:
        for plain, other in zip(found[0], others, strict=True):
            pd.testing.assert_frame_equal(plain, other)


def test_clone_and_workers_share_it(tmp_path):
    log = make_log()
    assert clone([log], safe=False)[0] is log
    joblib.dump(log, tmp_path / "log")
    mapped = joblib.load(tmp_path / "log", mmap_mode="r")
    assert isinstance(mapped.time, np.memmap)
    assert mapped.hash == log.hash
