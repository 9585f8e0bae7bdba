from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mtl_classic import Task
from mtl_classic._core.exceptions import FunnelConflictWarning, RoleError, TaskError
from mtl_classic.events import EventLog, label_from_events
from tests._reference.history import labels as twin
from tests.events.shop import ROLES, make_events, make_log, make_rows

WEEKLY = {"user": "user", "item": "item", "time": "week", "event": "type"}
FUNNEL = [
    Task("view", "binary"),
    Task("buy", "binary", given="view"),
    Task("price", "regression", given="buy"),
    Task("coupon", "binary", given="buy"),
    Task("pieces", "count", given="buy"),
]


def busy_events():
    return make_events(40_000, seed=3)


def rows_with_hits():
    some = make_events(400)[["user", "item", "time"]]
    return pd.concat([make_rows(100)[["user", "item", "time"]], some], ignore_index=True).query("time < 400")


def test_events_of_a_type_equal_a_look_at_every_pair():
    rows, events = rows_with_hits(), busy_events()
    expected = twin(events, rows, event="type", value="price", horizon=30)
    tasks = [Task("view", "count"), Task("cart", "binary"), Task("buy", "regression")]
    got = label_from_events(rows, EventLog(busy_events(), **ROLES), tasks, 30)
    assert got.columns.tolist() == ["view", "cart", "buy"]
    np.testing.assert_array_equal(got["view"], expected["n_view"])
    np.testing.assert_array_equal(got["cart"], expected["n_cart"] > 0)
    np.testing.assert_allclose(got["buy"], expected["sum_buy"], rtol=1e-12)
    assert got.mean().min() > 0.05


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize(("horizon", "views"), [(1, 0), (1.5, 1), (2, 1), (2.5, 2), (3, 2), (3.5, 3)])
def test_the_end_of_a_horizon_may_lie_between_integers(dtype, horizon, views):
    events = pd.DataFrame({"user": 1, "item": 1, "type": "view", "time": np.array([2, 3, 4, 99], dtype=dtype)})
    log = EventLog(events, user="user", item="item", time="time", event="type")
    rows = pd.DataFrame({"user": [1], "item": [1], "time": np.array([1], dtype=dtype)})
    assert label_from_events(rows, log, {"view": "count"}, horizon)["view"].tolist() == [views]


def test_a_funnel_of_columns_below_an_event_type():
    rows, events = rows_with_hits(), busy_events()
    with pytest.warns(FunnelConflictWarning, match="'buy' in .* rows where 'view' is 0"):
        got = label_from_events(rows, EventLog(busy_events(), **ROLES), FUNNEL, 30)
    viewed = twin(events, rows, event="type", value="price", horizon=30)["n_view"] > 0
    buys = events[events["type"] == "buy"].assign(
        price=lambda f: f["price"].fillna(0), coupon=lambda f: f["coupon"] * 1.0
    )
    for name, amount in (("price", "price"), ("pieces", None), ("coupon", "coupon")):
        values = twin(buys, rows, event="type", value=amount or "coupon", horizon=30)
        truth = values["n_buy"] if amount is None else values["sum_buy"]
        truth = (truth > 0) * 1.0 if name == "coupon" else truth
        np.testing.assert_allclose(got[name], truth.where(viewed, 0.0), rtol=1e-12)
        assert (got[name] > 0).sum() > 5
    assert ((got["buy"] == 1) <= (got["view"] == 1)).all()
    assert (got.loc[got["buy"] == 0, ["price", "coupon", "pieces"]] == 0).all(axis=None)


def test_a_column_as_a_parent_filters_the_events_of_its_children():
    events = busy_events().assign(discount=lambda f: f["coupon"])
    log = EventLog(events, **ROLES)
    tasks = [
        Task("coupon", "binary"),
        Task("saved", "regression", given="coupon"),
        Task("discount", "count", given="coupon"),
    ]
    rows = rows_with_hits()
    got = label_from_events(rows, log, tasks, 30)
    with_coupon = events[events["coupon"]].assign(type="buy", price=lambda f: f["price"].fillna(0))
    truth = twin(with_coupon, rows, event="type", value="price", horizon=30)
    np.testing.assert_array_equal(got["coupon"], truth["n_buy"] > 0)
    np.testing.assert_allclose(got["saved"], truth["sum_buy"], rtol=1e-12)
    np.testing.assert_array_equal(got["discount"], truth["n_buy"])


@pytest.mark.parametrize("n_orphans", [1, 2])
def test_children_that_often_happen_without_their_parent_are_told(n_orphans):
    users = np.arange(30)
    cart, buy = (pd.DataFrame({"user": users, "item": 1, "week": 1, "type": kind}) for kind in ("cart", "buy"))
    late = pd.DataFrame({"user": [0], "item": 1, "week": [9], "type": "cart"})
    log = EventLog(pd.concat([cart[n_orphans:], buy, late]), **WEEKLY)
    rows = pd.DataFrame({"user": users, "item": 1, "week": 1})
    tasks = [Task("cart", "binary"), Task("buy", "binary", given="cart"), Task("n", "count", given="buy")]
    said = "'buy' in 2 of 30 rows where 'cart' is 0, 'n' in 2 of 30 rows where 'buy' is 0. These labels are 0"
    with pytest.warns(FunnelConflictWarning, match=said) if n_orphans == 2 else nullcontext():
        labels = label_from_events(rows, log, tasks, 2)
    assert labels.sum().tolist() == [30 - n_orphans] * 3
    alone = label_from_events(rows, log, {"cart": "binary", "buy": "binary"}, 2)
    assert alone.sum().tolist() == [30 - n_orphans, 30]


def test_the_start_counts_and_the_end_does_not():
    events = pd.DataFrame({"user": 1, "item": 1, "time": [5, 8, 20], "type": "buy"})
    log = EventLog(events, user="user", item="item", time="time", event="type")
    rows = pd.DataFrame({"user": 1, "item": 1, "time": [2, 5, 6, 8, 9]})
    assert label_from_events(rows, log, {"buy": "count"}, 3)["buy"].tolist() == [0, 1, 1, 1, 0]
    assert label_from_events(rows, log, {"buy": "count"}, 3.5)["buy"].tolist() == [1, 2, 1, 1, 0]


def test_rows_that_have_not_matured_are_unlabelled():
    log = EventLog(
        pd.DataFrame({"user": 1, "item": 1, "time": range(11), "type": "buy"}),
        user="user",
        item="item",
        time="time",
        event="type",
    )
    rows = pd.DataFrame({"user": 1, "item": [1, 2] * 6, "time": range(12)})
    plain = label_from_events(rows, log, {"buy": "binary"}, 3)["buy"]
    assert plain.isna().tolist() == [False] * 9 + [True] * 3  # the last day known is 10, so [8, 11) is over
    assert plain[:9].tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    for delay, n_open in ((2, 3), (3, 3), (5, 5)):  # what is known by then is no longer waited for
        tasks = [Task("buy", "binary", delay=delay), Task("n", "count", given="buy")]
        late = label_from_events(rows, log, tasks, 3)
        assert late["buy"].isna().sum() == late["n"].isna().sum() == n_open
    assert label_from_events(rows, log, {"buy": "binary"}, 3, as_of=20)["buy"].notna().all()
    assert label_from_events(rows, log.before(-1).append(log), {"buy": "binary"}, 100)["buy"].isna().all()


def test_weeks_mature_alike_whether_they_come_as_integers_or_not():
    log = EventLog(pd.DataFrame({"user": 1, "item": 7, "week": [1, 10], "type": "buy"}), **WEEKLY)
    rows = pd.DataFrame({"user": 1, "item": 7, "week": [8, 9, 10]})
    for given in (rows, rows.astype({"week": float})):
        for options in ({}, {"as_of": 10}, {"as_of": 10.7}):
            buy = label_from_events(given, log, {"buy": "binary"}, 2, **options)["buy"]
            np.testing.assert_array_equal(buy, [0.0, 1.0, np.nan])
    between = rows.assign(week=[9.5, 9.6, 9.75])  # 9.5 and a week and a half end with the tenth
    buy = label_from_events(between, log, {"buy": "binary"}, 1.5)["buy"]
    np.testing.assert_array_equal(buy, [1.0, np.nan, np.nan])


def test_what_a_log_of_parts_of_weeks_knows_is_the_same_for_10_and_10_0():
    log = EventLog(pd.DataFrame({"user": 1, "item": 7, "week": [1.5, 10.0], "type": "buy"}), **WEEKLY)
    rows = pd.DataFrame({"user": 1, "item": 7, "week": [8.0, 9.5, 10.0]})
    for options in ({}, {"as_of": 10}, {"as_of": 10.0}, {"as_of": np.int64(10)}):
        buy = label_from_events(rows, log, {"buy": "binary"}, 1, **options)["buy"]
        np.testing.assert_array_equal(buy, [0.0, np.nan, np.nan])


def test_dates_indices_and_polars():
    events, rows = make_events(), rows_with_hits().sample(frac=1, random_state=0)
    dated = [f.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(f["time"], "D")) for f in (events, rows)]
    tasks = {"view": "count", "buy": "regression"}
    expected = label_from_events(rows, make_log(), tasks, 7)
    got = label_from_events(dated[1], EventLog(dated[0], **ROLES), tasks, "1w")
    pd.testing.assert_frame_equal(got, expected)
    from_polars = label_from_events(pl.from_pandas(rows), make_log(), tasks, 7)
    pd.testing.assert_frame_equal(from_polars, expected.reset_index(drop=True))
    renamed = rows.rename(columns={"user": "u", "item": "i", "time": "t"})
    again = label_from_events(renamed, make_log(), tasks, 7, user="u", item="i", time="t")
    pd.testing.assert_frame_equal(again, expected)
    midnight = EventLog(dated[0], **ROLES)
    end = midnight.last_time
    row = dated[1].head(1).assign(time=end)
    assert label_from_events(row, midnight, tasks, "1D").isna().all(axis=None)
    assert (
        label_from_events(row, midnight, tasks, "1D", as_of=end + pd.Timedelta("23:59:59.999999999"))
        .notna()
        .all(axis=None)
    )


def test_zero_rows_and_unseen_ids():
    rows = rows_with_hits()
    assert label_from_events(rows.head(0), make_log(), FUNNEL, 7).shape == (0, 5)
    unseen = label_from_events(rows.assign(user=-5), make_log(), FUNNEL, 7)
    assert (unseen == 0).all(axis=None)


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        ({"retrun": "binary"}, TaskError, "neither an event type"),
        ({"buy": "multiclass"}, TaskError, "cannot be made"),
        ([Task("r", "ranking", query="user")], TaskError, "cannot be made"),
        ([Task("buy", "binary"), Task("x", "binary", given="buy")], TaskError, "'x'"),
        ([Task("view", "binary"), Task("item", "count", given="view")], TaskError, "texts"),
    ],
)
def test_tasks_that_events_cannot_make_are_refused(tasks, error, message):
    with pytest.raises(error, match=message):
        label_from_events(rows_with_hits(), make_log(), tasks, 7)


def test_other_bad_input_is_refused():
    rows, log = rows_with_hits(), make_log()
    with pytest.raises(RoleError, match=r"item.*Name the one of the rows by item=\."):
        label_from_events(rows.drop(columns="item"), log, {"buy": "binary"}, 7)
    with pytest.raises(ValueError, match="longer than zero"):
        label_from_events(rows, log, {"buy": "binary"}, 0)
    with pytest.raises(TypeError, match="number"):
        label_from_events(rows, log, {"buy": "binary"}, "7D")
    with pytest.raises(TypeError, match="EventLog"):
        label_from_events(rows, make_events(), {"buy": "binary"}, 7)
    with pytest.raises(TypeError, match="frame"):
        label_from_events(rows.to_numpy(), log, {"buy": "binary"}, 7)
    without = EventLog(make_events(), user="user", item="item", time="time", event="type")
    with pytest.raises(TaskError, match="value"):
        label_from_events(rows, without, {"buy": "regression"}, 7)
    missing = rows.astype({"time": float})
    missing.iloc[:3, 2] = np.nan
    with pytest.raises(ValueError, match=f"3 of {len(rows)}"):
        label_from_events(missing, log, {"buy": "binary"}, 7)
