"""Planted changes are told within a day; quiet days are left alone as often as promised."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import (
    HistoryFeatures,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskModel,
    PerTaskModel,
    Task,
    load_model,
    make_funnel,
    monitor,
    monitor_reference,
    save_model,
)
from mtl_classic.inspection._drift import calibration_ratio, effective_rows, population_stability, share
from mtl_classic.inspection._monitor import _Days
from mtl_classic.inspection._reference import hashes
from tests.inspection.stream import day, make_model
from tests.persistence.models import KINDS, make_rows


@pytest.fixture(scope="module")
def model() -> Any:
    model = make_model()
    held_out = pd.concat([day(number)[0] for number in (-3, -2, -1)])
    model.reference_ = monitor_reference(model, held_out)
    return model


def alarms(report: pd.DataFrame) -> list[tuple[str, str]]:
    told = report[(report["verdict"] != "ok") & (report.index.get_level_values("check") != "overall")]
    return [(check, name) for check, name, _ in told.index]


def test_thirty_quiet_days_raise_no_more_alarms_than_stated(model: Any) -> None:
    """With alpha = .01 three alarms in 30 days would come once in 300 such months."""
    n_alarms = 0
    for number in range(1, 31):
        X, Y = day(number)
        report = monitor(model, X, X, Y)
        n_alarms += bool(alarms(report))
        assert (report.loc[("overall", "", ""), "verdict"] == "ok") == (not alarms(report))
    assert n_alarms <= 2


def test_a_shifted_column_is_told(model: Any) -> None:
    X, Y = day(1)
    report = monitor(model, X.assign(price=X["price"] * 1.5), X, Y)
    told = alarms(report)
    assert ("stability", "price") in told
    assert all(name == "price" or name.startswith("score of") for _, name in told)  # scores follow the price
    assert report.loc[("stability", "price", ""), "low"] > 0.1
    assert "has shifted" in report.loc[("stability", "price", ""), "reason"]
    far = monitor(model, X.assign(price=X["price"] * 3))
    assert far.loc[("stability", "price", ""), "verdict"] == "retrain"
    assert far.loc[("overall", "", ""), "verdict"] == "retrain"
    assert "price" in far.loc[("overall", "", ""), "reason"]
    other = X["device"].where(np.random.default_rng(0).random(len(X)) < 0.7, "watch")
    assert ("stability", "device") in alarms(monitor(model, X.assign(device=other)))


def test_values_below_those_that_many_rows_had_are_told() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"one": 1.0, "mostly": np.where(rng.random(1000) < 0.3, rng.random(1000), 0.0)})
    model = PerTaskModel(random_state=0, learner="linear").fit(X, rng.random(1000) < 0.5)
    model.reference_ = monitor_reference(model, X)
    assert alarms(monitor(model, X[:500])) == []
    for name, value in (("one", 0.5), ("one", 2.0), ("mostly", -1.0)):
        assert ("stability", name) in alarms(monitor(model, X[:500].replace({name: {X[name].min(): value}})))


def test_a_surge_of_unseen_ids_is_told(model: Any) -> None:
    X, _ = day(1)
    rng = np.random.default_rng(0)
    for name, new in (("user", X["user"] + 10**6), ("item", X["item"] + "new"), ("campaign", "new")):
        column = X[name].astype(object).where(rng.random(len(X)) < 0.85, new)
        report = monitor(model, X.assign(**{name: column}))
        assert alarms(report) == [("unseen", name)]
        assert 0.12 < report.loc[("unseen", name, ""), "value"] < 0.18
        assert "new ids" in report.loc[("unseen", name, ""), "reason"]


def test_missing_values_are_told_more_and_fewer(model: Any) -> None:
    X, _ = day(1)
    rows = np.random.default_rng(0).random(len(X))
    assert ("missing", "price") in alarms(monitor(model, X.assign(price=X["price"].where(rows < 0.9))))
    assert ("missing", "age") in alarms(monitor(model, X.assign(age=X["age"].fillna(40.0))))
    lost = monitor(model, X.assign(price=np.nan))
    assert lost.loc[("missing", "price", ""), "verdict"] == "retrain"


@pytest.mark.parametrize("drift", [1.12, 1 / 1.12])
def test_a_calibration_drift_is_told_within_a_day(model: Any, drift: float) -> None:
    X, Y = day(1, drift=drift)
    report = monitor(model, X, X, Y)
    assert set(alarms(report)) >= {("calibration", "click")}
    row = report.loc[("calibration", "click", "2024-01-02")]
    assert abs(row["value"] / drift - 1) < 0.04
    assert "predicted ÷ observed" in row["reason"]


def test_a_drift_of_ten_percent_is_told_within_a_day_nearly_always() -> None:
    """A calibrated model whose rate goes down by a tenth; 30 days."""
    told = 0
    for number in range(30):
        rng = np.random.default_rng(number)
        p = rng.beta(2, 3, 25_000)
        _, low, _ = calibration_ratio(p, (rng.random(len(p)) < p / 1.1).astype(float), None)(3.5)
        told += low > 1.05
    assert told >= 27


def test_children_labelled_in_a_share_have_the_rates_of_all(model: Any) -> None:
    X, Y = (pd.concat(parts, ignore_index=True) for parts in zip(day(1), day(2), strict=True))
    share = np.where(X["time"] < "2024-01-03", 0.6, 0.2)  # of the clicks it is known whether they bought
    unknown = (Y["click"] == 1) & (np.random.default_rng(0).random(len(X)) > share)
    rates = {}
    for told, labels in (("all", Y), ("share", Y.mask(unknown.to_numpy()[:, None] & np.array([False, True, True])))):
        rates[told] = monitor(model, X, X, labels).loc["calibration"]["value"]
    assert (rates["all"] - 1).abs().max() < 0.05
    assert (rates["share"].drop("all", level="day") - 1).abs().max() < 0.1


def test_days_are_told_apart(model: Any) -> None:
    parts = [day(number, 8000, drift=2.0 if number == 3 else 1.0) for number in (1, 2, 3)]
    X, Y = (pd.concat(part, ignore_index=True) for part in zip(*parts, strict=True))
    Y.loc[::7, "buy"] = np.nan
    report = monitor(model, X, X, Y)
    clicks = report.loc["calibration"].loc["click"]
    assert list(clicks.index) == ["2024-01-02", "2024-01-03", "2024-01-04", "all"]
    assert clicks["verdict"].tolist()[:3] == ["ok", "ok", "retrain"]
    shuffled = np.random.default_rng(0).permutation(len(X))
    mixed = monitor(model, X, X.iloc[shuffled], Y.iloc[shuffled]).loc["calibration"].loc["click"]
    assert list(mixed.index) == list(clicks.index)
    assert (clicks["low"] <= clicks["value"]).all()
    assert (clicks["value"] <= clicks["high"]).all()


def test_a_day_is_one_by_the_clock_of_its_zone(model: Any) -> None:
    X, Y = day(1, 500)
    zoned = X.assign(time=X["time"].dt.tz_localize("America/New_York"))
    written = X.assign(time=[f"{time.isoformat()}+05:30" for time in X["time"]])
    expected = monitor(model, X, X, Y)
    for rows in (zoned, written):
        pd.testing.assert_frame_equal(monitor(model, rows, rows, Y), expected)


def test_many_days_take_the_memory_of_their_rows() -> None:
    """Where time is a number every unit of it is a day: a mask of all rows for each would fill the memory."""
    numbers, known = np.random.default_rng(0).permutation(40_000) // 2, np.arange(40_000) % 5 > 0
    parts = _Days(numbers, dated=False).parts(known)
    assert sum(rows.nbytes for _, rows in parts) == 8 * np.isin(numbers, numbers[known]).sum()
    assert [name for name, _ in parts[:2]] == ["0", "1"]
    for name, rows in parts[::4000]:
        np.testing.assert_array_equal(rows, np.flatnonzero(numbers == int(name)))
    ((name, rows),) = _Days(np.array([-1, 3, -1]), dated=True).parts(np.array([True, False, True]))
    assert (name, rows.tolist()) == ("1969-12-31", [0, 2])


def test_many_tasks_are_not_kept_once_more_for_each_day() -> None:
    rng, n = np.random.default_rng(0), 20_000
    tasks = tuple(Task(f"t{k}", "binary") for k in range(20))
    X = pd.DataFrame({"day": np.arange(n) * 4 // n, "x": rng.random(n)})
    scores = pd.DataFrame({task.name: rng.random(n) for task in tasks})
    judged = SimpleNamespace(
        tasks_=tasks,
        classes_map_={task.name: np.array([0, 1]) for task in tasks},
        roles_={"user": None, "time": "day"},
        predict_scores=lambda X, space: scores,
        _conflict_rule=lambda: "raise",
    )
    reference, Y = monitor_reference(judged, X), (scores > 0.5).astype(int)
    tracemalloc.start()
    monitor(judged, X, X, Y, reference=reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 8 * n * len(tasks)  # the encoded labels, and what one task needs


def test_the_reference_travels_with_the_model(model: Any, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.zip")
    X, Y = day(1)
    pd.testing.assert_frame_equal(monitor(load_model(tmp_path / "model.zip"), X, X, Y), monitor(model, X, X, Y))


def test_the_age_of_the_log() -> None:
    shop = make_funnel(1200, n_users=100, n_items=40, random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y, events=shop.events)
    model.reference_ = monitor_reference(model, shop.X)
    fresh = monitor(model, shop.X)
    assert fresh.loc[("age", "log", ""), "verdict"] == "ok"
    later = shop.X.assign(time=shop.X["time"] + pd.Timedelta("5D"))
    old = monitor(model, later).loc[("age", "log", "")]
    assert old["verdict"] == "watch"
    assert "observe newer events" in old["reason"]
    assert 5 < old["value"] < 6
    assert monitor(model, later, max_age="8D").loc[("age", "log", ""), "verdict"] == "ok"
    texts = [rows.assign(time=rows["time"].astype(str)) for rows in (shop.X, later)]
    report = monitor(model, texts[1], texts[0], shop.Y)
    assert report.loc[("age", "log", ""), "value"] == pytest.approx(old["value"])
    days = report.loc["calibration"].loc["view"].index
    assert list(days) == [*pd.unique(shop.X["time"].dt.date.astype(str)), "all"]
    history = next(step for _, step in model.pipeline_.steps if isinstance(step, HistoryFeatures))
    history.log_ = history.log_.before("2000-01-01")
    assert "empty" in monitor(model, later).loc[("age", "log", ""), "reason"]


def test_factors_have_an_age_and_a_model_without_a_log_has_none() -> None:
    shop = make_funnel(1200, n_users=100, n_items=40, random_state=0)
    factors = MatrixFactorization(n_factors=4, user="user", item="item", max_iter=2, random_state=0)
    latent = LatentFeatures([("als", factors)], cv=2, random_state=0)
    for chosen, events, has_age in ((latent, shop.events, True), (latent, None, False), (None, shop.events, False)):
        model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=None, latent=chosen, random_state=0)
        model.fit(shop.X, shop.Y, events=events)
        model.reference_ = monitor_reference(model, shop.X)
        report = monitor(model, shop.X)
        assert ("age" in report.index.get_level_values("check")) is has_age
        if has_age:
            assert abs(report.loc[("age", "log", ""), "value"]) < 1
            later = shop.X.assign(time=shop.X["time"] + pd.Timedelta("5D"))
            assert monitor(model, later).loc[("age", "log", ""), "verdict"] == "watch"


def test_all_kinds_and_arrays() -> None:
    X, Y = make_rows()
    model = PerTaskModel(KINDS, learner="linear", random_state=0).fit(X, Y)
    model.reference_ = monitor_reference(model, X)
    report = monitor(model, X, X, Y)
    assert set(report.loc["calibration"].index.get_level_values("name")) == {
        "up", "soft", "visits", "color=red", "color=green", "color=blue",
    }  # fmt: skip
    numbers = np.random.default_rng(0).normal(size=(300, 3))
    model = PerTaskModel(random_state=0).fit(numbers, numbers[:, 0] > 0)
    model.reference_ = monitor_reference(model, numbers)
    assert ("stability", "x1") in alarms(monitor(model, numbers + np.array([0, 3, 0])))


def test_numbers_as_names_of_columns() -> None:
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)))
    model = PerTaskModel(random_state=0).fit(numbers, numbers[0] > 0)
    model.reference_ = monitor_reference(model, numbers)
    assert ("stability", "1") in alarms(monitor(model, numbers + np.array([0, 3])))


def test_intervals_are_wide_enough_for_all_checks_together() -> None:
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)))
    model = PerTaskModel(learner="linear", random_state=0).fit(numbers, numbers[0] > 0)
    model.reference_ = monitor_reference(model, numbers)
    report = monitor(model, numbers, numbers, numbers[0] > 0, alpha=0.02, tolerance=0.0)
    z = NormalDist().inv_cdf(1 - 0.02 / 2 / (len(report) - 1))
    assert report.loc[("missing", "0", ""), "high"] == pytest.approx(share(0, 300, 300, z)[2])


def test_a_day_without_known_labels_tells_of_no_rates(model: Any) -> None:
    X, Y = day(1, 200)
    pd.testing.assert_frame_equal(monitor(model, X, X[:0], Y[:0]), monitor(model, X))


def test_a_pipeline_is_watched_by_the_columns_that_go_into_it(model: Any) -> None:
    X, Y = day(1, 200)
    renamed = FunctionTransformer(lambda table: table.rename(columns={"price": "cost"}))
    back = FunctionTransformer(lambda table: table.rename(columns={"cost": "price"}))
    pipe = Pipeline([("there", renamed), ("back", back), ("model", model)])
    pd.testing.assert_frame_equal(monitor(pipe, X, X, Y), monitor(model, X, X, Y))
    assert monitor_reference(pipe, X).columns.keys() == monitor_reference(model, X).columns.keys()


def test_what_is_refused(model: Any) -> None:
    X, Y = day(1, 200)
    for wrong in ({"alpha": 0.0}, {"alpha": 1.0}, {"tolerance": -0.1}, {"tolerance": np.nan}):
        with pytest.raises(ValueError, match="must be"):
            monitor(model, X, **wrong)
    with pytest.raises(ValueError, match="0 rows, but Y has 200"):
        monitor(model, X, X[:0], Y)
    with pytest.raises(ValueError, match="monitor_reference"):
        monitor(make_model(), X)
    with pytest.raises(ValueError, match="come together"):
        monitor(model, X, X)
    with pytest.raises(ValueError, match="lacks columns"):
        monitor(model, X.drop(columns="campaign"))
    told = model.reference_.scores | {"kind=gone": next(iter(model.reference_.scores.values()))}
    with pytest.raises(ValueError, match="model predicts lacks columns of the reference: kind=gone"):
        monitor(model, X, reference=replace(model.reference_, scores=told))
    with pytest.raises(ValueError, match="200 rows, but Y has 100"):
        monitor(model, X, X, Y[:100])
    named = X.set_axis([f"r{k}" for k in range(len(X))])
    with pytest.raises(ValueError, match="in another order"):
        monitor(model, X, named, Y.set_axis(named.index)[::-1])
    with pytest.raises(ValueError, match="no new rows"):
        monitor(model, X[:0])
    with pytest.raises(ValueError, match="no rows"):
        monitor_reference(model, X[:0])


def test_the_stability_index_by_hand() -> None:
    value, low, high = population_stability(np.array([50.0, 50.0]), np.array([80.0, 20.0]), 1e9, 1e9, 3.0)
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert np.allclose([value, low, high], expected, atol=1e-3)
    assert population_stability(np.array([5.0, 5.0]), np.zeros(2), 10, 10, 3.0)[1] == 0.0


def test_the_interval_of_the_stability_index_by_hand() -> None:
    same = np.full(3, 30.0)
    assert population_stability(same, same, 100, 200, 3.0) == pytest.approx(
        (0.0, 0.0, (3 * 2 - 2) * (1 / 100 + 1 / 200))
    )
    before, now = np.array([50.0, 30.0, 20.0]), np.array([10.0, 30.0, 60.0])
    q, p = (before + 0.5) / 101.5, (2 * now + 0.5) / 201.5

    def index(p: Any, q: Any) -> float:
        return float(((p - q) * np.log(p / q)).sum())

    step, variance = 1e-6, 2 * 2 * (1 / 100 + 1 / 200) ** 2
    for shares, n, of in ((p, 200, lambda x: index(x, q)), (q, 100, lambda x: index(p, x))):  # the delta method
        slopes = np.array([(of(shares + e) - of(shares - e)) / (2 * step) for e in step * np.eye(3)])
        variance += (shares * (slopes - (shares * slopes).sum()) ** 2).sum() / n
    centre, spread = index(p, q) - 2 * (1 / 100 + 1 / 200), 1.5 * np.sqrt(variance)
    expected = index(p, q), centre - spread, centre + spread
    assert population_stability(before, now, 100, 200, 1.5) == pytest.approx(expected, rel=1e-6)
    with_void = population_stability(np.append(before, 0.0), np.append(now, 0.0), 100, 200, 1.5)
    assert with_void == pytest.approx(expected, rel=1e-6)
    assert population_stability(np.array([9.0]), np.array([4.0]), 9, 4, 3.0) == (0.0, 0.0, 0.0)
    assert population_stability(same, np.zeros(3), 9, 9, 3.0) == (0.0, 0.0, np.inf)


def test_intervals_of_shares_and_ratios_by_hand() -> None:
    assert share(20, 100, 100, 1.96) == pytest.approx((0.2, 0.13337, 0.28883), abs=1e-5)  # Wilson's
    assert share(40, 200, 100, 1.96) == pytest.approx((0.2, 0.13337, 0.28883), abs=1e-5)
    assert share(5, 5, 5, 3.0)[2] == 1.0
    assert share(0, 5, 5, 3.0)[1] == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(share(0, 0, 0, 3.0)[0])
    observed = np.tile([1.0, 3.0], 15)
    assert calibration_ratio(np.full(30, 2.0), observed, None)(2.0) == pytest.approx((1.0, 60 / 72, 60 / 50))
    assert calibration_ratio(np.full(30, 2.0), observed, np.arange(30) // 2)(2.0) == pytest.approx((1.0, 1.0, 1.0))
    few = calibration_ratio(np.full(19, 3.0), np.full(19, 3.0), None)(2.0)  # whose scatter is that of single events
    assert few == pytest.approx((1.0, 57 / (57 + 6 + 720**0.5), 57 / (57 + 6 - 720**0.5)))
    assert calibration_ratio(np.full(20, 3.0), np.full(20, 3.0), None)(2.0) == pytest.approx((1.0, 1.0, 1.0))
    assert calibration_ratio(np.zeros(3), np.ones(3), None)(3.0) == (0.0, 0.0, np.inf)
    assert calibration_ratio(np.full(9, 0.5), np.zeros(9), None)(3.0) == (np.inf, 0.5, np.inf)


def test_the_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    outside = {"stability": 0, "share": 0, "ratio": 0, "clustered": 0}
    z, n_runs = 2.0, 400
    for _ in range(n_runs):
        counts = [rng.multinomial(500, np.full(10, 0.1)).astype(float) for _ in range(2)]
        outside["stability"] += population_stability(counts[0], counts[1], 500, 500, z)[1] > 0
        _, low, high = share(rng.binomial(300, 0.07), 300, 300, z)
        outside["share"] += not low <= 0.07 <= high
        p = rng.beta(1, 9, 2000)
        _, low, high = calibration_ratio(p, (rng.random(2000) < p).astype(float), None)(z)
        outside["ratio"] += not low <= 1 <= high
        users = np.repeat(np.arange(200), 10)
        p = np.full(2000, 0.2)
        own = rng.beta(0.5, 2.0, 200)[users]  # of mean 0.2, the same in all rows of a user
        _, low, high = calibration_ratio(p, (rng.random(2000) < own).astype(float), users)(z)
        outside["clustered"] += not low <= 1 <= high
    assert all(count <= 0.075 * n_runs for count in outside.values()), outside


def test_ratios_of_few_events() -> None:
    assert calibration_ratio(np.zeros(3), np.zeros(3), None)(3.0)[1:] == (0.0, np.inf)
    value, low, high = calibration_ratio(np.full(100, 0.02), np.zeros(100), None)(3.0)
    assert (value, high) == (np.inf, np.inf)
    assert low < 1
    assert calibration_ratio(np.full(1000, 0.1), np.zeros(1000), None)(3.0)[1] > 5


def test_hashes_do_not_depend_on_the_dtype() -> None:
    one = hashes(pd.Series([3, 4]))
    for other in (pd.Series([3.0, 4.0]), pd.Series(["3", "4"]), pd.Series([3, 4], dtype="Int32")):
        assert (hashes(other) == one).all()
    assert hashes(pd.Series([None, "a"], dtype=object))[0] == 0
    assert effective_rows(np.array([0, 0, 1, 1]), 4) == 2.0
