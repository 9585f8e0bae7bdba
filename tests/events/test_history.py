"""HistoryFeatures with a log: the numbers, against the readable twin, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from mtl_classic._core.exceptions import RoleError
from mtl_classic.events import Aggregate, EventLog, HistoryFeatures, label_from_events
from mtl_classic.events._row_index import HistoryIndex
from tests._reference.history import DAY, history
from tests.events.shop import ROLES, make_events, make_log, make_rows

KEYS = ["user", ("user", "item"), ("store",), ("user", "store", "item"), ()]
WEEKS = {"1w": 7 * DAY, "2w": 14 * DAY, "3D": 3 * DAY}


def aggregates(short=5, long=120, half_life=30):
    some = {"coupon": True, "type": ["cart", "view"]}
    chosen = []
    for keys in KEYS:
        for where, window in ((None, None), (None, short), ("buy", long), (some, long)):
            options = {"where": where, "window": window}
            chosen += [Aggregate(keys, stat, **options) for stat in ("count", "sum", "mean", "recency", "gap")]
            chosen += [Aggregate(keys, "decayed", half_life=half_life, **options)]
        chosen += [
            Aggregate(keys, "decayed", value="price", half_life=short, window=long),
            Aggregate(keys, "rate", where="buy"),
            Aggregate(keys, "rate", where="buy", per="view", window=long),
            Aggregate(keys, "rate", where="cart", per="view", smoothing=0.0),
            Aggregate(keys, "rate", value="price", where="buy", per={"type": ["view", "cart"]}, smoothing=3.0),
            Aggregate(keys, "rate", value="coupon", window=short, smoothing=0),
            Aggregate(keys, "rate", value="price", window=long),
        ]
    return chosen


def features(rows, log, chosen, dtype=np.float64, **options):
    model = HistoryFeatures(chosen, **options).fit(rows, events=log)
    names = [aggregate.name for aggregate in chosen]
    return pd.DataFrame(model._compute(rows, dtype), columns=names, index=rows.index)


@pytest.mark.parametrize("lag", [None, 3])
def test_equal_to_pandas_on_a_numeric_axis(lag):
    rows, events, chosen = make_rows(), make_events(), aggregates()
    expected = history(events, rows, chosen, time="time", event="type", value="price", lag=lag or 0)
    assert (expected.abs().max() > 0.3).mean() > 0.9  # four keys in a short window may be alone
    got = features(rows, make_log(), chosen, lag=lag)
    pd.testing.assert_frame_equal(got, expected, rtol=1e-10, atol=1e-10)


def test_equal_to_pandas_on_dates_in_days():
    rows, events, chosen = make_rows(), make_events(), aggregates("3D", "2w", "1w")
    step = 3_600_000_000_000
    start = pd.Timestamp("2024-01-01")
    dated = [frame.assign(time=start + pd.to_timedelta(frame["time"], "h")) for frame in (rows, events)]
    in_ns = [frame.assign(time=start.as_unit("ns").value + frame["time"] * step) for frame in (rows, events)]
    expected = history(
        in_ns[1], in_ns[0], chosen, time="time", event="type", value="price", lag=DAY, durations=WEEKS, unit=DAY
    )
    got = features(dated[0], EventLog(dated[1], **ROLES), chosen, lag="1D")
    pd.testing.assert_frame_equal(got, expected, rtol=1e-9, atol=1e-9)


def test_float_times_and_fractions_on_an_integer_axis_cut_alike():
    rows, events = make_rows(), make_events()
    chosen = [
        Aggregate(keys, stat, window=w) for keys in KEYS for stat in ("count", "recency") for w in (None, 5.5, 20)
    ]
    whole = features(rows, make_log(), chosen, lag=0.5)
    as_floats = [frame.astype({"time": float}) for frame in (rows, events)]
    floats = features(as_floats[0], EventLog(as_floats[1], **ROLES), chosen, lag=0.5)
    mixed = features(rows, EventLog(as_floats[1], **ROLES), chosen, lag=0.5)
    pd.testing.assert_frame_equal(whole, floats)
    pd.testing.assert_frame_equal(whole, mixed)
    expected = history(*as_floats[::-1], chosen, time="time", event="type", value="price", lag=0.5)
    pd.testing.assert_frame_equal(whole, expected)


@pytest.mark.parametrize("between", ["rows", "events"])
def test_times_between_those_of_a_whole_axis_are_not_rounded(between):
    frames = {"rows": make_rows(), "events": make_events()}
    frames[between] = frames[between].assign(time=lambda frame: frame["time"] + 0.5)
    chosen = [Aggregate("user", "count"), Aggregate("item", "count", window=20), Aggregate("user", "recency")]
    got = features(frames["rows"], EventLog(frames["events"], **ROLES), chosen)
    floats = [frames[name].astype({"time": float}) for name in ("events", "rows")]
    expected = history(*floats, chosen, time="time", event="type", value="price")
    pd.testing.assert_frame_equal(got, expected)


def test_columns_do_not_depend_on_those_beside_them():
    """Near twins share what they can: filters, ends of windows, sums, priors; nothing else."""
    log = EventLog(make_events().fillna({"price": 7.0}).assign(weight=lambda f: f["price"] ** 2), **ROLES)
    kinds = [
        [
            Aggregate("user", stat, where=where, value=value, window=window)
            for stat in ("sum", "mean", "rate")
            for where in (None, "buy")
            for value in ("price", "weight")
            for window in (None, 50)
        ],
        [
            Aggregate("user", "rate", where=where, per=per, window=window)
            for where, per in (("buy", None), ("buy", "view"), ("cart", "view"), ("buy", {"type": ["view", "cart"]}))
            for window in (None, 50)
        ],
        [
            Aggregate("user", "decayed", value=value, where=where, window=window, half_life=half_life)
            for value in (None, "price", "weight")
            for where in (None, "buy")
            for window in (None, 50)
            for half_life in (5, 30)
        ],
    ]
    rows = make_rows()
    for chosen in kinds:
        together = features(rows, log, chosen)
        alone = [features(rows, log, [aggregate]) for aggregate in chosen]
        pd.testing.assert_frame_equal(together, pd.concat(alone, axis=1), check_exact=True)


def test_zones_must_agree_and_then_only_the_instant_counts():
    rows, events = make_rows(), make_events()
    for frame in (rows, events):
        frame["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["time"], "h")
    chosen = [Aggregate("user", "count"), Aggregate("item", "recency", window="3D")]
    plain = features(rows, EventLog(events, **ROLES), chosen)
    zoned = EventLog(events.assign(time=events["time"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")), **ROLES)
    elsewhere = rows.assign(time=rows["time"].dt.tz_localize("UTC").dt.tz_convert("America/Lima"))
    pd.testing.assert_frame_equal(features(elsewhere, zoned, chosen), plain)
    with pytest.raises(TypeError, match="zone"):
        features(rows, zoned, chosen)
    written = EventLog(events.assign(time=[f"{time.isoformat()}Z" for time in events["time"]]), **ROLES)
    pd.testing.assert_frame_equal(features(elsewhere, written, chosen), plain)
    assert written.append(zoned.to_frame()[:9]).n_events == len(events) + 9
    with pytest.raises(TypeError, match="zone"):  # by the clock of some place, they might see the hours after them
        features(rows, written, chosen)


def test_the_answer_does_not_depend_on_batch_order_or_threads():
    rows, log, chosen = make_rows(), make_log(), aggregates()
    model = HistoryFeatures(chosen, lag=2).fit(rows, events=log)
    whole = model.transform(rows)
    assert (whole.dtypes.iloc[rows.shape[1] :] == np.float32).all()
    pd.testing.assert_frame_equal(model.transform(rows.iloc[::-1]), whole.iloc[::-1])
    pd.testing.assert_frame_equal(model.transform(rows.iloc[[17]]), whole.iloc[[17]])
    pd.testing.assert_frame_equal(clone(model).set_params(n_jobs=3).fit_transform(rows, events=log), whole)
    shuffled = EventLog(make_events().sample(frac=1, random_state=0).sort_values("time"), **ROLES)
    ties_may_swap = HistoryFeatures(chosen, lag=2).fit_transform(rows, events=shuffled)
    pd.testing.assert_frame_equal(ties_may_swap, whole, rtol=1e-5, atol=1e-5)


def test_an_event_at_the_time_of_the_row_or_later_is_never_seen():
    log = EventLog(
        pd.DataFrame({"user": [1, 1, 1], "item": [1, 1, 1], "time": [4, 5, 6]}), user="user", item="item", time="time"
    )
    rows = pd.DataFrame({"user": 1, "item": 1, "time": [4, 5, 6, 7]})
    count = [Aggregate("user", "count"), Aggregate("user", "count", window=1)]
    assert HistoryFeatures(count).fit_transform(rows, events=log)["user__count"].tolist() == [0, 1, 2, 3]
    assert HistoryFeatures(count).fit_transform(rows, events=log)["user__count__1"].tolist() == [0, 1, 1, 1]
    assert HistoryFeatures(count, lag=1).fit_transform(rows, events=log)["user__count"].tolist() == [0, 0, 1, 2]
    assert HistoryFeatures(count, lag=1).fit_transform(rows, events=log)["user__count__1"].tolist() == [0, 0, 1, 1]


def test_unseen_users_and_missing_ids_have_the_documented_values():
    rows = pd.DataFrame({"user": [999.0, np.nan], "item": ["new", None], "time": [600, 600], "store": [0, 0]})
    chosen = [Aggregate(("user", "item"), s) for s in ("count", "sum", "mean", "recency", "gap")]
    chosen += [Aggregate("user", "decayed", half_life=3), Aggregate("user", "rate", where="buy")]
    got = features(rows, make_log(), chosen).to_numpy()
    np.testing.assert_array_equal(got[:, :6], [[0, 0, np.nan, np.nan, np.nan, 0]] * 2)
    np.testing.assert_allclose(got[:, 6], (make_events()["type"] == "buy").mean())


def test_long_ids_beside_missing_ones_are_not_those_of_others():
    users = [2**60, 2**60, 2**60 + 1]
    log = EventLog(pd.DataFrame({"user": users, "item": "tea", "week": 1}), user="user", item="item", time="week")
    rows = pd.DataFrame({"user": [2**60, None], "week": 2})  # floats
    counts = HistoryFeatures([Aggregate("user", "count")]).fit_transform(rows, events=log)
    assert counts["user__count"].tolist() == [2, 0]


@pytest.mark.parametrize("nobody", [np.nan, None, pd.NA])
def test_an_anonymous_request_where_ids_are_texts(nobody):
    log = EventLog(make_events().assign(user=lambda events: events["user"].astype(str)), **ROLES)
    history = HistoryFeatures([Aggregate("user", "count")], user="user", time="time")
    rows = make_rows().assign(user=lambda rows: rows["user"].astype(str)).head(1)
    anonymous = rows.assign(user=nobody)
    assert history.fit(rows, events=log).transform(anonymous)["user__count"].tolist() == [0]
    assert HistoryIndex(history).columns(anonymous.iloc[0].to_dict()).tolist() == [0]


def test_a_window_longer_than_time_itself():
    events = make_events().assign(time=lambda events: pd.Timestamp("2024-01-01") + pd.to_timedelta(events["time"], "D"))
    rows = events.assign(time=pd.Timestamp("2030-01-01"))
    chosen = [Aggregate("user", "count"), Aggregate("user", "count", window="100000w")]
    got = features(rows, EventLog(events, **ROLES), chosen)
    assert got["user__count"].tolist() == got["user__count__100000w"].tolist()
    log = EventLog(events, **ROLES)
    assert label_from_events(rows, log, {"buy": "binary"}, "100000w")["buy"].isna().all()  # nor is it over


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_without_end(dtype):
    log, rows = EventLog(make_events().astype({"time": dtype}), **ROLES), make_events().assign(time=dtype(10_000))
    got = features(rows, log, [Aggregate("user", "count"), Aggregate("user", "count", window=np.inf)])
    assert got["user__count"].tolist() == got["user__count__inf"].tolist()
    assert (features(rows, log, [Aggregate("user", "count")], lag=np.inf)["user__count"] == 0).all()
    assert label_from_events(rows, log, {"buy": "binary"}, np.inf)["buy"].isna().all()


def test_an_empty_log_gives_the_values_of_nothing_seen():
    chosen = [Aggregate("user", "count"), Aggregate("user", "recency"), Aggregate("user", "rate", value="price")]
    got = features(make_rows(), make_log().before(-1), chosen)
    assert (got["user__count"] == 0).all()
    assert got.drop(columns="user__count").isna().all(axis=None)


def test_the_log_is_shared_and_observe_appends_without_refitting():
    log, rows = make_log(), make_rows()
    early = log.before(250)
    later = log.to_frame().query("time >= 250")
    model = HistoryFeatures([Aggregate("user", "count"), Aggregate("item", "recency")]).fit(rows, events=early)
    assert model.log_ is early
    assert model.as_of_ == early.last_time
    assert model.observe(later) is model
    assert model.as_of_ == log.last_time == model.log_.last_time
    assert early.n_events < model.log_.n_events
    everything = clone(model).fit_transform(rows, events=log)
    pd.testing.assert_frame_equal(model.transform(rows), everything)


def test_columns_are_appended_and_named():
    rows = make_rows()
    model = HistoryFeatures([Aggregate("user", "count", window=8)]).fit(rows, events=make_log())
    out = model.transform(rows)
    assert out.columns.tolist() == [*rows.columns, "user__count__8"] == model.get_feature_names_out().tolist()
    pd.testing.assert_frame_equal(out[rows.columns], rows)
    reordered = model.transform(rows[["time", "store", "item", "user"]].assign(further=1))
    pd.testing.assert_frame_equal(reordered, out)


def test_set_output_and_pipeline():
    rows = make_rows()
    model = HistoryFeatures([Aggregate("user", "count")]).set_output(transform="pandas")
    assert isinstance(model.fit_transform(rows, events=make_log()), pd.DataFrame)
    polars = HistoryFeatures([Aggregate("user", "count")]).set_output(transform="polars")
    assert isinstance(polars.fit_transform(rows, events=make_log()), pl.DataFrame)
    pipe = make_pipeline(HistoryFeatures([Aggregate("user", "count")]), _numbers_only(), LinearRegression())
    pipe.fit(rows, rows["time"], historyfeatures__events=make_log())
    assert pipe.predict(rows).shape == (len(rows),)


def _numbers_only():
    from sklearn.compose import make_column_selector, make_column_transformer

    return make_column_transformer(("passthrough", make_column_selector(dtype_include=np.number)))


def test_polars_rows_and_prefixed_columns():
    rows, chosen = (
        make_rows().reset_index(drop=True),
        [Aggregate(("user", "item"), "count"), Aggregate("store", "count")],
    )
    expected = HistoryFeatures(chosen).fit_transform(rows, events=make_log())
    got = HistoryFeatures(chosen).fit_transform(pl.from_pandas(rows), events=make_log())
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    prefixed = HistoryFeatures(chosen).fit_transform(rows.add_prefix("ids__"), events=make_log())
    np.testing.assert_array_equal(prefixed["user_item__count"], expected["user_item__count"])
    np.testing.assert_array_equal(prefixed["store__count"], expected["store__count"])


def test_roles_may_have_other_names_in_the_rows():
    rows, log = make_rows(), make_log()
    renamed = rows.rename(columns={"user": "household", "item": "product", "time": "week"})
    roles = {"user": "household", "item": "product", "time": "week"}
    chosen = [Aggregate(("household", "product"), "count"), Aggregate(("user", "item"), "recency")]
    got = HistoryFeatures(chosen, **roles).fit_transform(renamed, events=log)
    expected = features(rows, log, [Aggregate(("user", "item"), "count"), Aggregate(("user", "item"), "recency")])
    np.testing.assert_allclose(got.iloc[:, -2:].to_numpy(), expected.to_numpy(), rtol=1e-6)


def test_zero_rows_and_one_row():
    rows, log = make_rows(), make_log()
    model = HistoryFeatures([Aggregate(("user", "item"), "count"), Aggregate((), "rate", where="buy")])
    with pytest.raises(ValueError, match="0 rows"):
        model.fit(rows.head(0), events=log)
    empty = model.fit(rows, events=log).transform(rows.head(0))
    assert empty.shape == (0, 6)
    assert empty.columns.tolist() == model.get_feature_names_out().tolist()
    assert clone(model).fit_transform(rows.head(1), events=log).shape == (1, 6)


def test_inputs_are_not_modified():
    rows, log = make_rows(), make_log()
    before, digest = rows.copy(), log.hash
    HistoryFeatures("auto").fit_transform(rows, events=log)
    pd.testing.assert_frame_equal(rows, before)
    assert EventLog(log.to_frame(), **ROLES).hash == digest


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda r: r.drop(columns="time"), {}, RoleError, "TargetStatistics"),
        (lambda r: r.drop(columns="user"), {"user": "user"}, RoleError, "user"),
        (lambda r: r.drop(columns="user"), {}, RoleError, "user"),
        (lambda r: r.assign(time=pd.NaT), {}, ValueError, "800 of 800"),
        (lambda r: r.assign(time=pd.Timestamp("2024-01-01")), {}, TypeError, "dates"),
        (lambda r: pd.concat([r, r[["item"]]], axis=1), {}, ValueError, "item"),
        (lambda r: r.assign(user="ann"), {}, TypeError, "numbers.*; convert one"),
        (lambda r: r.assign(user__count=1), {}, ValueError, "already has"),
        (lambda r: r.to_numpy(), {}, TypeError, "frame"),
        (lambda r: r.rename(columns={"store": 5}), {}, TypeError, "texts as names"),
        (lambda r: r, {"lag": "1D"}, TypeError, "number"),
        (lambda r: r, {"lag": -1}, ValueError, "negative"),
        (lambda r: r, {"aggregates": "all"}, ValueError, "auto"),
        (lambda r: r, {"aggregates": []}, TypeError, "empty"),
        (lambda r: r, {"aggregates": ["count"]}, TypeError, "str"),
        (lambda r: r, {"aggregates": Aggregate("user", "count")}, TypeError, "list"),
        (lambda r: r, {"aggregates": [Aggregate("user", "count")] * 2}, ValueError, "same column"),
        (lambda r: r, {"aggregates": [Aggregate("shop", "count")]}, RoleError, "shop"),
        (lambda r: r, {"aggregates": [Aggregate("user", "count", where="byu")]}, ValueError, "byu"),
        (lambda r: r, {"aggregates": [Aggregate("user", "count", where={"x": 1})]}, ValueError, "no column"),
        (lambda r: r, {"aggregates": [Aggregate("user", "count", where={"type": [1, None]})]}, TypeError, "filter"),
        (lambda r: r, {"aggregates": [Aggregate("user", "rate", where="buy", per={"type": 1})]}, TypeError, "filter"),
        (lambda r: r, {"aggregates": [Aggregate("user", "sum", value="x")]}, ValueError, "no column"),
        (lambda r: r, {"aggregates": [Aggregate("user", "sum", value="type")]}, TypeError, "numbers"),
        (lambda r: r, {"aggregates": [Aggregate("user", "count", window=0)]}, ValueError, "longer than zero"),
    ],
)
def test_bad_input_is_refused(change, options, error, message):
    options = {"aggregates": [Aggregate("user", "count")], **options}
    with pytest.raises(error, match=message):
        HistoryFeatures(**options).fit(change(make_rows()), events=make_log())


def test_a_frame_is_no_log_and_a_column_that_is_missing_later_is_named():
    with pytest.raises(TypeError, match="EventLog"):
        HistoryFeatures().fit(make_rows(), events=make_events())
    model = HistoryFeatures([Aggregate("user", "count")]).fit(make_rows(), events=make_log())
    with pytest.raises(ValueError, match="store"):
        model.transform(make_rows().drop(columns="store"))


def test_rows_read_one_log_whatever_is_observed_meanwhile(monkeypatch):
    events = pd.DataFrame({"user": ["a", "b"], "item": ["x", "x"], "time": [1, 1]})
    log = EventLog(events, user="user", item="item", time="time")
    rows = pd.DataFrame({"user": ["a", "b", "b"], "item": ["y", "x", "y"], "time": 5})
    model = HistoryFeatures([Aggregate(("user", "item"), "count")]).fit(rows, events=log)
    before = model.transform(rows)
    new = events.assign(item="y", time=2)

    find = model._columns_of

    def observe_first(*args):
        model.observe(new)
        return find(*args)

    monkeypatch.setattr(model, "_columns_of", observe_first)
    pd.testing.assert_frame_equal(model.transform(rows), before)
    monkeypatch.undo()
    assert model.transform(rows)["user_item__count"].tolist() == [2.0, 1.0, 2.0]


def test_more_key_combinations_than_an_integer_holds():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame({f"k{j}": rng.permutation(70_000) for j in range(4)}).assign(time=1)
    log = EventLog(wide, user="k0", item="k1", time="time")
    rows = pd.concat([wide.head(50), wide.head(50).assign(k3=-1)], ignore_index=True).assign(time=2)
    got = HistoryFeatures([Aggregate(("k0", "k1", "k2", "k3"), "count")]).fit_transform(rows, events=log)
    assert got.iloc[:, -1].tolist() == [1.0] * 50 + [0.0] * 50


@pytest.mark.parametrize("coupon", [["x", None, "y", np.nan], [1.0, np.nan, 2.0, np.nan]])
def test_filters_take_missing_values_and_arrays(coupon):
    events = pd.DataFrame({"user": 1, "item": 1, "time": range(4), "coupon": coupon})
    log = EventLog(events, user="user", item="item", time="time")
    chosen = [
        Aggregate("user", "count", where={"coupon": None}),
        Aggregate("user", "count", where={"coupon": [coupon[0], np.nan]}),
        Aggregate("user", "count", where={"coupon": np.array([coupon[0], coupon[2]])}),
    ]
    model = HistoryFeatures(chosen, user="user", time="time").fit(events, events=log)
    row = events.iloc[[0]].assign(time=9)
    assert model.transform(row)[list(model.get_feature_names_out()[4:])].to_numpy().tolist() == [[2.0, 3.0, 2.0]]
    assert HistoryIndex(model).columns({"user": 1, "time": 9}).tolist() == [2.0, 3.0, 2.0]
