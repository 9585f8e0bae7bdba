"""ConformalModel: coverage on exchangeable rows, shape of the bounds, a slow twin."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mtl_classic import ConformalModel, FoldError, PerTaskModel, Task, TaskError, make_folds
from mtl_classic.ensemble._intervals import _upper_bound
from tests.ensemble.tables import MIXED, mixed, trees

TASKS = {"spend": "regression", "visits": "count"}


def table(n: int = 4000, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    Y = pd.DataFrame({"spend": np.exp(X["a"] / 2 + rng.normal(size=n)), "visits": rng.poisson(20 * np.exp(X["b"] / 3))})
    return X, Y.mask(rng.random(Y.shape) < 0.2)


@pytest.mark.parametrize("method", ["cv+", "split"])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_cover_as_often_as_they_say(method: str, coverage: float) -> None:
    inside: dict[str, list[float]] = {name: [] for name in TASKS}
    for seed in range(3):
        X, Y = table(seed=seed)
        member = PerTaskModel(TASKS, learner=trees(2), random_state=0)
        model = ConformalModel(member, method=method, random_state=seed).fit(X[:2500], Y[:2500])
        bounds = model.predict_interval(X[2500:], coverage)
        for name in TASKS:
            y = Y[name][2500:]
            hit = (bounds[name, "low"] <= y) & (y <= bounds[name, "high"])
            inside[name].append(hit[y.notna()].mean())
    assert abs(np.mean(inside["spend"]) - coverage) < 0.02
    assert coverage - 0.02 < np.mean(inside["visits"]) < coverage + 0.05  # whole numbers cover a little more


@pytest.mark.parametrize("method", ["cv+", "split"])
def test_children_that_are_labelled_in_a_share_are_covered_as_often(method: str) -> None:
    rng = np.random.default_rng(0)
    tasks = [Task("buy", "binary"), Task("spend", "regression", given="buy")]
    X = pd.DataFrame(rng.normal(size=(8000, 2)), columns=list("ab"))
    buy = rng.random(8000) < 0.5
    truth = np.where(buy, 3 + X["a"] + 2 * rng.normal(size=8000), 0.0)
    told = ~buy | (rng.random(8000) < 0.2)  # zeros are known of all who did not buy
    Y = pd.DataFrame({"buy": buy * 1.0, "spend": np.where(told, truth, np.nan)})
    fit, new = slice(0, 4000), slice(4000, None)
    model = ConformalModel(PerTaskModel(tasks, learner="linear"), method=method, cv=3, random_state=0)
    bounds = model.fit(X[fit], Y[fit]).predict_interval(X[new], 0.9)["spend"]
    inside = (bounds["low"] <= truth[new]) & (truth[new] <= bounds["high"])
    assert 0.87 < inside.mean() < 0.93
    again = clone(model).fit(X[fit], Y[fit])
    np.testing.assert_array_equal(again.residuals_["spend"][0], model.residuals_["spend"][0])


def test_bounds_fit_the_label() -> None:
    X, Y = table(1000)
    model = ConformalModel(PerTaskModel(TASKS, learner=trees(4), random_state=0), cv=3, random_state=0).fit(X, Y)
    bounds = model.predict_interval(X)
    assert (bounds >= 0).all(axis=None)  # neither was ever negative
    assert (bounds["visits"] == bounds["visits"].round()).all(axis=None)
    wide = model.predict_interval(X, 0.99)
    for name in TASKS:
        assert (bounds[name, "low"] <= bounds[name, "high"]).all()
        assert (wide[name, "low"] <= bounds[name, "low"]).all()
        assert (wide[name, "high"] >= bounds[name, "high"]).all()
    middle = model.predict_scores(X)["spend"]
    up, down = bounds["spend", "high"] - middle, middle - bounds["spend", "low"]
    assert up.mean() > 1.5 * down.mean()  # a skewed label has skewed intervals


def test_no_bound_is_minus_zero() -> None:
    X, Y = table(200)
    few = pd.DataFrame({"visits": Y["visits"] > 25, "spend": X["a"] > 1.5}).astype(float)
    model = ConformalModel(PerTaskModel(TASKS, learner=trees(2), random_state=0), cv=2, random_state=0).fit(X, few)
    bounds = model.predict_interval(X)
    assert (bounds == 0).any(axis=0)[:, "low"].all()
    assert not np.signbit(bounds).any(axis=None)


def test_rows_of_a_single_time_are_held_out_at_random() -> None:
    X, Y = table(200)
    member = PerTaskModel(TASKS, learner=trees(2), time="day", random_state=0)
    model = ConformalModel(member, method="split", random_state=0).fit(X.assign(day=0), Y)
    assert model.n_uncovered_ == 150


@pytest.mark.parametrize("time", [None, "day"])
def test_groups_are_held_out_whole(time: str | None) -> None:
    X = pd.DataFrame({"group": np.arange(400) % 8, "x": np.arange(400) % 2, "day": np.arange(400)})
    member = PerTaskModel({"y": "regression"}, learner="linear", exclude=["group", "day"], time=time)
    model = ConformalModel(member, method="split", groups="group", random_state=0).fit(X, 8.0 * X["group"] + X["x"])
    assert np.unique(model.residuals_["y"][0] // 8, return_counts=True)[1].tolist() == [50, 50]


def test_scores_are_those_of_all_rows_and_bounds_may_be_negative_where_labels_are() -> None:
    X, Y = table(400)
    member, odd = PerTaskModel(TASKS, learner=trees(2), random_state=0), Y.assign(spend=Y["spend"] - 1)
    model = ConformalModel(member, cv=3, random_state=0).fit(X, odd)
    pd.testing.assert_frame_equal(model.predict_scores(X), clone(member).fit(X, odd).predict_scores(X))
    assert (model.predict_interval(X)["spend", "low"] < 0).any()
    assert model.lowest_ == {"spend": -np.inf, "visits": 0.0}
    assert ConformalModel(member, cv=3).fit(X, Y.clip(lower=1) - 1).lowest_ == {"spend": 0.0, "visits": 0.0}


def test_bisection_is_the_quantile_of_all_sums() -> None:
    rng = np.random.default_rng(0)
    residuals = [np.sort(rng.normal(size=size)) for size in (30, 0, 45)]
    centers = rng.normal(size=(3, 8))
    for tail in (0.05, 0.2, 0.7):
        sums = np.vstack([centers[k] + residuals[k][:, None] for k in range(3)])
        rank = int(np.ceil((1 - tail) * 76))
        np.testing.assert_allclose(_upper_bound(centers, residuals, tail), np.sort(sums, axis=0)[rank - 1], atol=1e-8)
    assert np.isinf(_upper_bound(centers, residuals, 0.001)).all()


def test_only_numbers_have_intervals() -> None:
    X, Y = mixed()
    model = ConformalModel(PerTaskModel(MIXED, learner=trees(), random_state=0), cv=2, random_state=0).fit(X, Y)
    assert model.predict_interval(X).columns.get_level_values(0).unique().tolist() == ["spend", "visits"]
    assert model.predict_scores(X).shape == (600, 6)
    with pytest.raises(TaskError, match=r"buy \(binary\)"):
        ConformalModel(PerTaskModel({"buy": "binary"}, learner=trees())).fit(X, Y[["buy"]])


def test_the_latest_rows_are_held_out_in_time() -> None:
    X, Y = table(1000)
    X["day"] = np.arange(1000)
    member = PerTaskModel(TASKS, learner=trees(), time="day", random_state=0)
    model = ConformalModel(member, method="split", calibration_fraction=0.2).fit(X, Y)
    held_out = 1000 - model.n_uncovered_
    assert abs(held_out - 200) <= 1
    assert len(model.residuals_["spend"][0]) == Y["spend"][-held_out:].notna().sum()
    first = int(np.flatnonzero(Y.notna().any(axis=1).cumsum() >= Y.notna().any(axis=1).sum() / 4)[0])
    assert abs(ConformalModel(member, cv=3).fit(X, Y).n_uncovered_ - first) <= 1  # a quarter of the labelled rows


def test_threads_and_pickles_and_bad_settings() -> None:
    X, Y = table(300)
    model = ConformalModel(PerTaskModel(TASKS, learner=trees(), random_state=0), cv=2, random_state=0).fit(X, Y)
    bounds = model.predict_interval(X)
    pd.testing.assert_frame_equal(clone(model).set_params(n_jobs=2).fit(X, Y).predict_interval(X), bounds)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_interval(X), bounds)
    pd.testing.assert_frame_equal(model.predict_interval(X[5:6]), bounds[5:6])
    with pytest.raises(ValueError, match="coverage"):
        model.predict_interval(X, 90)
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"method": "jackknife"}, ValueError, "method must be"),
        ({"method": "split", "calibration_fraction": 0.001}, FoldError, "too few"),
    ]
    for change, error, message in bad:
        with pytest.raises(error, match=message):
            clone(model).set_params(**change).fit(X, Y)


@pytest.mark.parametrize("method", ["cv+", "split"])
def test_a_plan_of_other_rows_is_refused(method):
    X, Y = table(60)
    model = ConformalModel(PerTaskModel(TASKS, learner="linear"), method=method, random_state=0)
    with pytest.raises(FoldError, match="for 50 rows, but X has 60"):
        model.fit(X, Y, plan=make_folds(3, Y[:50], random_state=0))
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int"):
        model.fit(X, Y, plan=3)


@pytest.mark.filterwarnings("ignore::mtl_classic.ConstantTaskWarning")
@pytest.mark.parametrize("method", ["cv+", "split"])
def test_folds_may_lack_a_class_of_another_task(method: str) -> None:
    X, Y = mixed(200, missing=0.0)
    fold = np.arange(200) * 2 // 200
    Y.loc[fold == 1, "buy"] = 1.0
    Y.loc[199, "reason"] = "dare"
    member = PerTaskModel(MIXED, learner=trees(2), random_state=0)
    model = ConformalModel(member, method=method, random_state=0).fit(X, Y, plan=make_folds(fold, Y))
    assert np.isfinite(model.predict_interval(X)).all(axis=None)
    shares = model.predict_scores(X).filter(like="reason=")
    assert shares.columns.tolist() == ["reason=dare", "reason=gift", "reason=need", "reason=whim"]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


@pytest.mark.parametrize("method", ["cv+", "split"])
def test_rows_of_weight_0_leave_no_residuals(method: str) -> None:
    rng = np.random.default_rng(0)
    X, odd = rng.normal(size=(2000, 1)), np.arange(2000) % 2 == 1
    y = X[:, 0] + rng.normal(size=2000) * np.where(odd, 3.0, 0.1)
    model = ConformalModel(PerTaskModel(learner="linear"), method=method, random_state=0)
    bounds = model.fit(X, y, sample_weight=np.where(odd, 0.0, 1.0)).predict_interval(X, coverage=0.9)["y0"]
    assert (bounds["high"] - bounds["low"]).mean() < 0.5


@pytest.mark.filterwarnings("ignore::mtl_classic.ConstantTaskWarning")
def test_a_task_without_any_weight_has_no_bounds() -> None:
    X, Y = mixed(100)
    weight = pd.DataFrame(1.0, index=Y.index, columns=Y.columns).assign(visits=0.0)
    model = ConformalModel(PerTaskModel(MIXED, learner=trees(2), random_state=0), cv=2, random_state=0)
    bounds = model.fit(X, Y, sample_weight=weight).predict_interval(X, coverage=0.5)
    assert np.isinf(bounds["visits", "high"]).all()
    assert np.isfinite(bounds["spend"]).all(axis=None)
