"""aggregates="auto": how many columns, which windows, which keys."""

from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from mtl_classic.events import EventLog, HistoryFeatures
from mtl_classic.events._auto import span_windows
from tests.events.shop import ROLES, make_events, make_log, make_rows


def added(model):
    return [aggregate.name for aggregate in model.aggregates_]


@pytest.mark.parametrize("typed", [True, False])
def test_a_typical_log_gives_thirty_to_sixty_columns(typed):
    log = make_log() if typed else EventLog(make_events(), user="user", item="item", time="time", value="price")
    rows = make_rows()
    model = HistoryFeatures().fit(rows, events=log)
    assert 30 <= len(added(model)) <= 60
    out = model.transform(rows)
    assert out.shape == (len(rows), rows.shape[1] + len(added(model)))
    assert (out[added(model)].nunique() > 1).all()


def test_the_rule_by_example():
    names = added(HistoryFeatures().fit(make_rows(), events=make_log()))
    for keys in ("user", "item", "user_item"):
        assert {f"{keys}__count__{w}" for w in (16, 64, 128)} <= set(names)
        assert {f"{keys}__count__{kind}__128" for kind in ("view", "cart", "buy")} <= set(names)
        assert {f"{keys}__recency", f"{keys}__recency__buy", f"{keys}__gap"} <= set(names)
        assert {f"{keys}__rate__cart_per_view", f"{keys}__rate__buy_per_cart"} <= set(names)
        assert {f"{keys}__decayed__buy__half_life_64", f"{keys}__sum__buy__128", f"{keys}__mean__buy__128"} <= set(
            names
        )
        assert f"{keys}__rate__coupon__buy__128" in names
    assert {"user_store__count__buy__64", "item_store__recency__buy"} <= set(names)


def test_an_attribute_of_the_item_goes_with_the_user_and_the_other_way_round():
    events, rows = make_events(), make_rows()
    for frame in (events, rows):
        frame["category"] = frame["item"].str[-1]
        frame["age"] = "a" + (frame["user"] % 7).astype(str)
    without_store = rows.drop(columns="store")
    names = added(HistoryFeatures().fit(without_store, events=EventLog(events, **ROLES)))
    keys = {name.split("__")[0] for name in names}
    assert keys == {"user", "item", "user_item", "user_category", "item_age"}


def test_amounts_of_all_events_are_asked_for_where_others_have_them_and_they_are_no_prices():
    events = make_events()
    events = events[events["type"] != "cart"].drop(columns="coupon")
    views, price, paid = events["type"] == "view", events["item"].str[1:].astype(float), events["price"]

    def of_all(amounts):
        names = added(HistoryFeatures().fit(make_rows(), events=EventLog(events.assign(price=amounts), **ROLES)))
        assert {"user__sum__buy__128", "user__mean__buy__128"} <= set(names)
        return {"user__sum__128", "user__mean__128"} & set(names)

    assert of_all(paid) == {"user__sum__128", "user__mean__128"}
    for none in (np.nan, 0.0, price, price + 0.1 * paid):  # the same numbers, or little beside the item's
        assert not of_all(paid.mask(views, none))


def test_numbers_that_rise_with_time_are_no_amounts():
    events = make_events().sort_values("time").drop(columns=["price", "coupon"])
    roles = {role: column for role, column in ROLES.items() if role != "value"}
    number = np.arange(len(events))

    def asked(column):
        log = EventLog(events.assign(more=column), **roles)
        return any("more" in name for name in added(HistoryFeatures().fit(make_rows(), events=log)))

    assert not asked(number // 3 + 10_000)  # an order of three lines
    assert not asked(np.where(number % 5, number + number % 7, np.nan))
    assert not asked(2020 + events["time"] // 20)
    for amounts in (number % 7, (number % 50 == 0) * 2.0, np.where(number % 2, number % 9, np.nan)):
        assert asked(amounts)


@pytest.mark.parametrize(
    ("labels", "types", "deepest"),
    [
        (None, "view cart remove", "remove"),  # the sale is only the fourth
        (["buy", "spend"], "view cart buy", "buy"),
        (["view"], "view cart remove", "view"),
        (["return", "buy", "cart", "view"], "cart buy return", "return"),
    ],
)
def test_events_called_like_a_label_are_asked_for_first(labels, types, deepest):
    number = np.arange(400)
    kinds = np.select([number % 20 == 0, number % 10 == 1, number % 5 == 2, number % 3 == 0],
                      ["return", "buy", "remove", "cart"], "view")  # fmt: skip
    log = EventLog(make_events(400).assign(type=kinds), **ROLES)
    assert log.event_types == ("view", "cart", "remove", "buy", "return")
    y = None if labels is None else pd.DataFrame(0.0, index=range(800), columns=labels)
    tasks = None if labels is None else dict.fromkeys(labels, "regression")
    for model in (
        HistoryFeatures().fit(make_rows(), y, events=log),
        HistoryFeatures(tasks=tasks).fit(make_rows(), events=log),
    ):
        names = [name for name in added(model) if name.startswith("user__")]
        of_types = [name.split("__")[2] for name in names if name.startswith("user__count__") and name.count("__") == 3]
        assert " ".join(of_types) == types
        assert f"user__recency__{deepest}" in names


def test_windows_follow_the_span():
    def windows(days):
        return span_windows(np.array([0, int(days * 86_400e9)]), True)

    steps = ["1h", "3h", "6h", "12h", "1D", "3D", "1w", "2w", "4w", "8w", "13w", "26w", "52w", "104w"]
    for shorter, step in pairwise(steps):
        days = pd.Timedelta(step.replace("w", "W")) / pd.Timedelta("1D")
        assert (windows(2 * days)[2], windows(2 * days - 1e-6)[2]) == (step, shorter)
    assert windows(365) == ("2w", "8w", "26w")
    assert windows(30) == ("1D", "3D", "2w")
    assert windows(1 / 48) == ("1h", "1h", "1h")
    assert span_windows(np.array([0, 50]), False) == (2, 8, 16)
    assert span_windows(np.array([0.0, 0.5]), False) == (2**-6, 2**-4, 2**-2)
    assert span_windows(np.array([3]), False) == (1, 1, 1)
    assert span_windows(np.array([], dtype=float), False) == (1.0, 1.0, 1.0)


def test_the_choice_does_not_look_beyond_the_last_row():
    events, rows = make_events(), make_rows().query("time < 300")
    last = rows["time"].max()
    future = events["time"] >= last
    changed = events.assign(type=events["type"].mask(future, "return"), time=events["time"].mask(future, 10_000))
    assert added(HistoryFeatures().fit(rows, events=EventLog(events, **ROLES))) == added(
        HistoryFeatures().fit(rows, events=EventLog(changed, **ROLES))
    )


def test_a_role_that_the_rows_do_not_have_is_left_out():
    rows = make_rows()[["user", "time"]]
    names = added(HistoryFeatures().fit(rows, events=make_log()))
    assert {name.split("__")[0] for name in names} == {"user"}
    context = added(HistoryFeatures().fit(make_rows()[["store", "time"]], events=make_log()))
    assert {name.split("__")[0] for name in context} == {"store"}


@pytest.mark.parametrize("dtype", ["float64", "boolean", "Int8", "object"])
def test_flags_with_gaps_are_flags_whatever_holds_them(dtype):
    events = make_events()
    events["coupon"] = events["coupon"].astype("boolean").where(events["price"].notna()).astype(dtype)
    names = added(HistoryFeatures().fit(make_rows(), events=EventLog(events, **ROLES)))
    assert "user__rate__coupon__buy__128" in names


def test_dates_give_windows_of_days():
    events, rows = make_events(), make_rows()
    for frame in (events, rows):
        frame["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["time"], "D")
    names = added(HistoryFeatures().fit(rows, events=EventLog(events, **ROLES)))
    assert {"user__count__2w", "user__count__8w", "user__count__26w"} <= set(names)


@pytest.mark.parametrize(
    ("typed", "own", "shared"),
    [
        (
            True,
            "count__2 count__8 count__32 count__view__32 count__buy__32 recency gap recency__buy "
            "decayed__buy__half_life_8 rate__buy_per_view "
            "sum__buy__32 mean__buy__32 rate__promo__buy__32 rate__promo__32",
            "count__buy__8 decayed__half_life_8 recency__buy",
        ),
        (
            False,
            "count__2 count__8 count__32 recency gap decayed__half_life_8 decayed__half_life_2 "
            "sum__32 mean__32 rate__promo__32 mean__weight__32",
            "count__8 decayed__half_life_8 recency",
        ),
    ],
)
def test_the_whole_rule(typed, own, shared):
    number = np.arange(97)
    events = pd.DataFrame(
        {
            "user": number % 9,
            "item": number % 5,
            "time": number,
            "type": np.where(number % 3, "view", "buy"),
            "price": 1.0,
            "store": np.where(number % 7 < 3, "north", "south"),
            "promo": number % 2,
            "weight": number % 6 / 4,
        }
    )
    if not typed:
        events = events.drop(columns="type")
    log = EventLog(events, **{role: name for role, name in ROLES.items() if name in events})
    expected = [f"{keys}__{name}" for keys in ("user", "item", "user_item") for name in own.split()]
    expected += [f"{keys}__{name}" for keys in ("user_store", "item_store") for name in shared.split()]
    assert added(HistoryFeatures().fit(events[["user", "item", "time", "store"]], events=log)) == expected
    alone = [name for name in expected if name.startswith(("item__", "item_store__"))]
    assert added(HistoryFeatures().fit(events[["item", "time", "store"]], events=log)) == alone


def test_which_shared_columns_are_keys():
    events, rows = make_events(), make_rows().drop(columns="store")
    events = events.drop(columns="store")
    number = events["item"].str[1:].astype(int)

    def keys(*columns, roles=("user", "item")):
        shared = {f"c{k}": column for k, column in enumerate(columns)}
        frame = rows.assign(**dict.fromkeys(shared, columns[0].iloc[0]))
        log = EventLog(events.assign(**shared), **ROLES)
        names = added(HistoryFeatures().fit(frame[[*roles, "time", *shared]], events=log))
        found = dict.fromkeys(name.split("__")[0] for name in names)
        return [key for key in found if key not in ("user", "item", "user_item")]

    at_random = pd.Series(np.random.default_rng(0).integers(0, 8, len(events)))
    assert keys(at_random % 2) == ["user_c0", "item_c0"]
    assert keys(at_random / 4) == keys((at_random / 4).astype(object)) == []
    assert keys(pd.to_datetime(at_random, unit="D").dt.date) == keys(at_random.map(Decimal)) == []
    assert keys(at_random.astype(object).where(at_random > 0, None)) == ["user_c0", "item_c0"]
    others = np.flatnonzero(~number.duplicated())  # 25 items
    for n_others, found in ((2, ["user_c0"]), (3, ["user_c0", "item_c0"])):
        attribute = number % 3
        attribute[others[:n_others]] = 7
        assert keys(attribute) == found
    several = [at_random // 4, at_random, at_random // 2, at_random % 3]
    assert keys(*several) == ["user_c1", "item_c1"]
    assert keys(*several, roles=()) == ["c1", "c2", "c3"]


def test_a_log_of_one_time_has_no_column_twice():
    log = EventLog(make_events().drop(columns="type").assign(time=5), user="user", item="item", time="time")
    names = added(HistoryFeatures().fit(make_rows().assign(time=6), events=log))
    assert {"user__count__1", "user__decayed__half_life_1"} <= set(names)
