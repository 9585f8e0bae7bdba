"""HistoryFeatures without a log: the fitted rows are the log, and a label enters once it is known."""

import datetime as dt
import tracemalloc
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mtl_classic import Task
from mtl_classic._core.exceptions import FunnelConflictError, RoleError, TaskError
from mtl_classic.events import Aggregate, HistoryFeatures
from mtl_classic.events._row_index import HistoryIndex


def bookings(n=600, seed=0):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "agent": [f"a{k}" for k in rng.integers(0, 20, n)],
            "country": [f"c{k}" for k in rng.integers(0, 8, n)],
            "price": rng.gamma(2.0, 10.0, n),
            "day": rng.integers(0, 300, n),
        }
    )
    labels = pd.DataFrame({"cancel": rng.integers(0, 2, n).astype(float), "spend": rng.normal(5.0, 2.0, n)})
    labels.loc[rng.random(n) < 0.3, "cancel"] = np.nan
    return rows, labels


TASKS = [Task("cancel", "binary", delay=20), Task("spend", "regression")]


def test_smoothed_means_of_labels_equal_a_loop():
    rows, labels = bookings()
    chosen = [
        Aggregate("agent", "rate", where="cancel"),
        Aggregate("agent", "rate", where="spend", smoothing=0, window=50),
    ]
    out = HistoryFeatures(chosen, time="day", tasks=TASKS, lag=1).fit_transform(rows, labels)
    for k in range(0, 600, 7):
        day, agent = rows["day"][k], rows["agent"][k]
        known = labels["cancel"].notna() & (rows["day"] + 20 < day - 1)
        mine = labels["cancel"][known & (rows["agent"] == agent)]
        prior = labels["cancel"][known].mean() if known.any() else np.nan
        np.testing.assert_allclose(
            out["agent__rate__cancel"][k], (mine.sum() + 10 * prior) / (len(mine) + 10), rtol=1e-6
        )
        recent = (rows["day"] < day - 1) & (rows["day"] >= day - 51) & (rows["agent"] == agent)
        np.testing.assert_allclose(out["agent__rate__spend__50"][k], labels["spend"][recent].mean(), rtol=1e-5)


def test_counts_are_of_rows_and_never_of_the_row_itself():
    rows, labels = bookings()
    chosen = [
        Aggregate("agent", "count"),
        Aggregate("agent", "mean", value="price"),
        Aggregate("agent", "count", where="cancel"),
    ]
    model = HistoryFeatures(chosen, time="day", tasks=TASKS).fit(rows, labels)
    out = model.transform(rows)
    earlier = [
        ((rows["day"] < d) & (rows["agent"] == a)).sum() for d, a in zip(rows["day"], rows["agent"], strict=True)
    ]
    np.testing.assert_array_equal(out["agent__count"], earlier)
    some = rows[(rows["agent"] == "a3") & (rows["day"] < 200)]
    asked = pd.DataFrame({"agent": ["a3"], "country": ["c1"], "price": [0.0], "day": [200]})
    np.testing.assert_allclose(model.transform(asked)["agent__mean__price"], some["price"].mean(), rtol=1e-6)
    known = labels["cancel"].notna() & (rows["agent"] == "a3") & (rows["day"] + 20 < 200)
    assert model.transform(asked)["agent__count__cancel"].item() == known.sum()


def test_auto_takes_roles_or_the_finest_categories():
    rows, labels = bookings()
    model = HistoryFeatures(time="day", tasks=TASKS).fit(rows, labels)
    names = [aggregate.name for aggregate in model.aggregates_]
    assert {name.split("__")[0] for name in names} == {"agent", "country"}
    assert {"agent__rate__cancel", "country__rate__spend"} <= set(names)
    with_roles = HistoryFeatures(user="agent", item="country", time="day", tasks=TASKS).fit(rows, labels)
    keys = {aggregate.name.split("__")[0] for aggregate in with_roles.aggregates_}
    assert keys == {"agent", "country", "agent_country"}
    without_labels = HistoryFeatures(time="day").fit(rows)
    assert {"agent__count__128", "country__recency"} <= {aggregate.name for aggregate in without_labels.aggregates_}


def test_auto_history_does_not_drift_as_the_log_gets_old():
    rows, labels = bookings()
    model = HistoryFeatures(user="agent", item="country", time="day", tasks=TASKS).fit(rows, labels)
    asked = rows.tail(20).assign(day=rows["day"].max() + 100)
    soon, late = (model.transform(asked.assign(day=asked["day"] + days)).drop(columns="day") for days in (0, 1000))
    pd.testing.assert_frame_equal(soon, late)


def test_dates_zones_and_multiclass_labels():
    rows, _ = bookings()
    kinds = pd.DataFrame(
        {"reason": np.where(rows["day"] % 3 == 0, "size", np.where(rows["day"] % 3 == 1, "taste", None))}
    )
    start = pd.Timestamp("2024-01-01")
    chosen = [Aggregate("agent", "rate", where="reason=size"), Aggregate("agent", "recency")]
    tasks = [Task("reason", "multiclass", delay="7D")]
    out = []
    for zone in (None, "Asia/Tokyo"):
        dated = rows.assign(day=(start + pd.to_timedelta(rows["day"], "D")).dt.tz_localize(zone))
        out.append(HistoryFeatures(chosen, time="day", tasks=tasks).fit_transform(dated, kinds))
    pd.testing.assert_frame_equal(out[0].drop(columns="day"), out[1].drop(columns="day"))
    late = rows["day"] > 200
    assert out[0]["agent__rate__reason=size"][late].between(0.3, 0.7).all()
    assert (out[0]["agent__recency"].dropna() >= 1).all()


def test_of_many_classes_the_commonest_are_told_and_those_asked_for():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"user": rng.integers(0, 9, 600), "day": np.arange(600)})
    kind = np.minimum(rng.geometric(0.15, 600), 20)  # 1 is the commonest, 20 a rare one
    y = pd.DataFrame({"kind": [f"k{k:02}" for k in kind]})
    tasks = [Task("kind", "multiclass", delay=3)]
    common = {f"kind={name}" for name in y["kind"].value_counts().index[:8]}
    history = HistoryFeatures(user="user", time="day", tasks=tasks).fit(rows, y)
    assert {aggregate.where for aggregate in history.aggregates_} == set(history.labels_) == common

    rare = [Aggregate("user", "sum", where="kind=k20"), Aggregate("user", "sum", where="kind=k01")]
    made = HistoryFeatures(rare, user="user", time="day", tasks=tasks).fit(rows, y)
    made.observe(rows.assign(day=600 + rows["day"]), y.assign(kind="k20"))  # other classes are common in what follows
    later = made.transform(rows.assign(day=10_000))
    for name, extra in (("k20", 1), ("k01", 0)):
        expected = rows["user"].map((y["kind"].eq(name) + extra).groupby(rows["user"]).sum())
        assert later[f"user__sum__kind={name}"].tolist() == expected.tolist()


def test_a_child_is_not_known_before_its_parent():
    rows = pd.DataFrame({"user": 1, "t": [0, 6, 11]})
    labels = pd.DataFrame({"click": [0.0, 1.0, 1.0], "buy": [0.0, 1.0, 1.0]})
    tasks = [Task("click", "binary", delay=10), Task("buy", "binary", given="click", delay=5)]
    out = HistoryFeatures([Aggregate("user", "count", where="buy")], time="t", tasks=tasks).fit_transform(rows, labels)
    assert out["user__count__buy"].tolist() == [0, 0, 1]


@pytest.mark.parametrize(("way", "told"), [("drop", [1.0, 0.0]), ("lift", [1.0, 0.0, 1.0])])
def test_contradictions_are_settled_at_fit_and_when_observed(way, told):
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    rows = pd.DataFrame({"agent": "a", "day": [1, 2, 3]})
    labels = pd.DataFrame({"click": [1.0, 0.0, 0.0], "buy": [1.0, np.nan, 1.0]})
    model = HistoryFeatures(time="day", item="agent", tasks=tasks, on_conflict=way).fit(rows, labels)

    def known():
        column = model.log_.column("__label__buy")
        return column[~np.isnan(column)].tolist()

    assert known() == told
    assert model.observe(rows.assign(day=[4, 5, 6]), labels) is model
    assert known() == [*told, *told]
    with pytest.raises(FunnelConflictError, match="'buy' non-zero although 'click'"):
        model.set_params(on_conflict="raise").observe(rows.assign(day=[7, 8, 9]), labels)


def test_observe_adds_rows_and_their_labels():
    rows, labels = bookings()
    first = (rows["day"] < 150).to_numpy()
    model = HistoryFeatures(
        [Aggregate("agent", "count"), Aggregate("agent", "rate", where="cancel")], time="day", tasks=TASKS
    )
    whole = model.fit(rows, labels).transform(rows)
    model.fit(rows[first], labels[first]).observe(rows[~first], labels[~first])
    pd.testing.assert_frame_equal(model.transform(rows), whole)
    assert model.as_of_ == rows["day"][labels["cancel"].notna()].max() + 20


def test_a_label_that_is_known_later_is_told_with_its_row_again():
    """As if all had been known from the first: children of a negative parent were, and are not told twice."""
    rows, labels = bookings()
    rows, labels = rows.sort_values("day", ignore_index=True), labels.fillna(0.0)
    labels["spend"] *= labels["cancel"]
    tasks = [Task("cancel", "binary"), Task("spend", "regression", given="cancel", delay=20)]
    chosen = [Aggregate("agent", "rate", where="cancel"), Aggregate("agent", "rate", where="spend")]
    at_once = HistoryFeatures(chosen, time="day", tasks=tasks).fit(rows, labels)
    model = HistoryFeatures(chosen, time="day", tasks=tasks).fit(rows[:300], labels[:300])
    model.observe(rows[300:], labels[300:].assign(spend=np.nan))
    late = (labels["cancel"] == 1) & (rows.index >= 300)
    model.observe(rows[late], labels[late].assign(cancel=np.nan))
    new = rows[:20].assign(day=400)
    pd.testing.assert_frame_equal(model.transform(new), at_once.transform(new))


def test_without_labels_the_rows_still_have_a_history():
    rows, _ = bookings()
    out = HistoryFeatures(time="day").fit_transform(rows)
    assert out["agent__count__128"].max() > 3
    assert not any("rate" in name for name in out.columns)


def test_a_history_may_be_of_all_rows_together() -> None:
    rows = pd.DataFrame({"day": [3, 1, 2, 2], "price": [1.0, 2.0, 3.0, 4.0]})
    labels = pd.DataFrame({"buy": [0, 1, 0, 1]})
    everything = [Aggregate((), "count"), Aggregate((), "mean", value="buy")]
    history = HistoryFeatures(everything, time="day").fit(rows, labels)
    out = history.transform(rows)
    assert out["all__count"].tolist() == [3, 0, 1, 1]
    np.testing.assert_allclose(out["all__mean__buy"], [2 / 3, np.nan, 1, 1], rtol=1e-6)
    later = rows.assign(day=9)
    assert history.observe(rows.assign(day=8), labels).transform(later)["all__count"].tolist() == [8] * 4


def test_what_cannot_be_is_refused():
    rows, labels = bookings()
    with pytest.raises(ValueError, match="which label"):
        HistoryFeatures([Aggregate("agent", "mean")], time="day", tasks=TASKS).fit(rows, labels)
    with pytest.raises(ValueError, match="'cart'"):
        HistoryFeatures([Aggregate("agent", "count", where="cart")], time="day", tasks=TASKS).fit(rows, labels)
    with pytest.raises(RoleError, match="TargetStatistics"):
        HistoryFeatures().fit(rows, labels)
    with pytest.raises(RoleError, match="nothing to key"):
        HistoryFeatures(time="day", tasks=TASKS).fit(rows[["price", "day"]], labels)
    with pytest.raises(ValueError, match="600 rows, but Y has 5"):
        HistoryFeatures(time="day", tasks=TASKS).fit(rows, labels.head(5))
    with pytest.raises(TaskError, match="lacks"):
        HistoryFeatures(time="day", tasks={"buy": "binary"}).fit(rows, labels)
    with pytest.raises(ValueError, match="'row'"):
        HistoryFeatures(time="day").fit(rows, labels[["spend"]].rename(columns={"spend": "row"}))


def test_observed_labels_must_be_of_the_observed_rows():
    rows, labels = bookings(50)
    history = HistoryFeatures([Aggregate("agent", "count")], time="day", tasks=TASKS).fit(rows, labels)
    with pytest.raises(ValueError, match="X has 50 rows, but Y has 5; expected the same number"):
        history.observe(rows, labels[:5])


def test_keys_beside_a_user_are_the_columns_of_texts_with_most_values_up_to_a_thousand():
    number = np.arange(1001)
    rows = pd.DataFrame({"day": number, "none": "x", **{f"of_{n}": [f"v{k}" for k in number % n] for n in (2, 3, 7)}})
    rows = rows.assign(of_1000=(number % 1000).astype(str), of_1001=number.astype(str), user=number % 50)
    labels = pd.Series(number % 2, name="cancel")
    for roles, keys in (({"user": "user"}, ["user", "of_1000", "of_7"]), ({}, ["of_1000", "of_7", "of_3"])):
        model = HistoryFeatures(time="day", **roles).fit(rows, labels)
        assert [aggregate.keys for aggregate in model.aggregates_] == [(key,) for key in keys]
    few = HistoryFeatures(time="day").fit(rows[["day", "none", "of_2"]], labels)
    assert [aggregate.keys for aggregate in few.aggregates_] == [("of_2",)]


@pytest.mark.parametrize(
    "held",
    [
        [dt.date(2024, 1, 1) + dt.timedelta(k) for k in range(100)],
        [Decimal(k) / 4 for k in range(100)],
        [k / 4 for k in range(100)],
        list(range(100)),
        [[k] for k in range(100)],
    ],
    ids=["dates", "decimals", "floats", "integers", "lists"],
)
def test_objects_that_are_no_texts_are_no_keys(held):
    rows, labels = bookings()
    rows["held"] = pd.Series([held[k % 100] for k in range(len(rows))], dtype=object).where(rows.index > 3, None)
    model = HistoryFeatures(time="day", tasks=TASKS).fit(rows, labels)
    assert {aggregate.keys for aggregate in model.aggregates_} == {("agent",), ("country",)}


def test_texts_and_numbers_in_one_column_are_categories():
    rows, labels = bookings()
    rows["code"] = pd.Series(rows["day"] % 9, dtype=object).where(rows["day"] % 9 > 0, "85123A")
    model = HistoryFeatures(time="day", tasks=TASKS).fit(rows, labels)
    assert {aggregate.keys for aggregate in model.aggregates_} == {("agent",), ("code",), ("country",)}


def test_many_labels_take_no_more_working_memory_than_a_few() -> None:
    rng, n, n_tasks = np.random.default_rng(0), 20_000, 20
    X = pd.DataFrame({"user": rng.integers(0, 500, n), "time": rng.permutation(n)})
    Y = pd.DataFrame({f"y{k}": (rng.random(n) < 0.1).astype(float) for k in range(n_tasks)})
    history = HistoryFeatures(user="user", time="time", tasks=dict.fromkeys(Y, "binary")).fit(X, Y)
    few, many = history._asked[:2], history._asked
    assert len(many) == n_tasks
    history.transform(X)  # whatever the log keeps of its codes
    peaks = []
    for asked in (few, many):
        history._asked = asked
        tracemalloc.start()
        made = history._compute(X)
        peaks.append(tracemalloc.get_traced_memory()[1] - made.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0] + (n_tasks - len(few)) * n / 8  # a bit for each row


def test_a_label_takes_four_bytes_a_row() -> None:
    rng, n = np.random.default_rng(0), 500
    X = pd.DataFrame({"user": rng.integers(0, 50, n), "day": np.arange(n)})
    Y = pd.DataFrame({"buy": rng.integers(0, 2, n), "spend": rng.random(n)})
    log = HistoryFeatures(user="user", time="day").fit(X, Y.assign(rare=np.where(X["day"] % 7, np.nan, 1))).log_
    assert log.n_events == n
    types = {name: log.column(name).dtype for name in log.columns if "label" in name}
    assert types == {"__label__buy": np.float32, "__label__rare": np.float32, "__label__spend": np.float64}


def test_filters_on_columns_mean_the_rows_and_value_may_name_a_label():
    rows, labels = bookings()
    where = {"country": ["c1", "c2"]}
    chosen = [
        Aggregate("agent", "count", where=where),
        Aggregate("agent", "rate", where=where),
        Aggregate("agent", "mean", value="spend", where=where),
        Aggregate("agent", "rate", where="cancel", per="row", smoothing=0),
        Aggregate("agent", "count", where="row"),
    ]
    out = HistoryFeatures(chosen, time="day", tasks=TASKS).fit_transform(rows, labels)
    for k in range(0, 600, 7):
        earlier = (rows["day"] < rows["day"][k]) & (rows["agent"] == rows["agent"][k])
        matching = earlier & rows["country"].isin(where["country"])
        assert out["agent__count__country=c1_or_c2"][k] == matching.sum()
        np.testing.assert_allclose(
            out["agent__mean__spend__country=c1_or_c2"][k], labels["spend"][matching].mean(), rtol=1e-5
        )
        assert out["agent__count__row"][k] == earlier.sum()
        known = (rows["day"] + 20 < rows["day"][k]) & (rows["agent"] == rows["agent"][k]) & labels["cancel"].notna()
        share = known.sum() / earlier.sum() if earlier.any() else np.nan
        np.testing.assert_allclose(out["agent__rate__cancel_per_row"][k], share, rtol=1e-5)
    everywhere = (rows["country"].isin(where["country"])).mean()
    assert out["agent__rate__country=c1_or_c2"].iloc[rows["day"].argmax()] == pytest.approx(everywhere, abs=0.1)
    by_value, by_where = (
        HistoryFeatures([Aggregate("agent", "mean", **{option: "cancel"})], time="day", tasks=TASKS)
        for option in ("value", "where")
    )
    pd.testing.assert_frame_equal(by_value.fit_transform(rows, labels), by_where.fit_transform(rows, labels))


def test_a_delay_may_be_a_fraction_on_whole_days():
    rows, labels = bookings(80)
    history, coarse = (
        HistoryFeatures(
            [Aggregate("agent", "mean", where="cancel")], time="day", tasks=[Task("cancel", "binary", delay=delay)]
        ).fit(rows, labels)
        for delay in (2.5, 2)
    )
    out = history.transform(rows)
    pd.testing.assert_frame_equal(out, coarse.transform(rows))  # known before the third day: both
    assert history.as_of_ == rows["day"][labels["cancel"].notna()].max() + 2.5
    assert HistoryIndex(history).columns(rows.iloc[3].to_dict()).tolist() == pytest.approx(
        [out["agent__mean__cancel"][3]], nan_ok=True
    )


def test_a_fraction_of_a_delay_is_waited_for():
    rows, labels = pd.DataFrame({"user": 1, "t": [0, 8]}), pd.DataFrame({"cancel": [0.0, 1.0]})
    chosen = [Aggregate("user", stat, where="cancel") for stat in ("count", "recency")]
    model = HistoryFeatures(chosen, time="t", tasks=[Task("cancel", "binary", delay=2.5)]).fit(rows, labels)
    out = model.transform(pd.DataFrame({"user": 1, "t": [2.4, 2.5, 2.6, 10.4, 10.6]}))
    assert out["user__count__cancel"].tolist() == [0, 0, 1, 1, 2]
    np.testing.assert_allclose(out["user__recency__cancel"], [np.nan, np.nan, 0.1, 7.9, 0.1], rtol=1e-5)
    later = model.set_params(lag=0.5).fit(rows, labels).transform(pd.DataFrame({"user": 1, "t": [3, 4, 11, 12]}))
    assert later["user__count__cancel"].tolist() == [0, 1, 1, 2]


def test_two_labels_are_known_when_the_later_one_is():
    rows = pd.DataFrame({"user": 1, "t": [0, 5, 6, 11]})
    labels = pd.DataFrame({"kept": [1.0, 1.0, np.nan, 1.0], "paid": [1.0, 1.0, 1.0, 1.0]})
    tasks = [Task("kept", "binary", delay=5), Task("paid", "binary", delay=3)]
    both = Aggregate("user", "mean", value="paid", where="kept")
    out = HistoryFeatures([both], time="t", tasks=tasks).fit_transform(rows, labels)
    np.testing.assert_array_equal(out[both.name], [np.nan, np.nan, 1.0, 1.0])
