"""A model without its log is fed it again; a log fed day by day is the log built at once."""

import copy
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import (
    Aggregate,
    EmptyLogWarning,
    EventLog,
    HistoryFeatures,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskModel,
    Segments,
    load_model,
    make_funnel,
    save_model,
)
from tests.persistence.models import outputs, same


@pytest.fixture(scope="module")
def shop() -> Any:
    return make_funnel(1500, n_users=120, n_items=40, random_state=0)


@pytest.fixture(scope="module")
def model(shop: Any) -> Any:
    return MultiTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y, events=shop.events)


def load_silently(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(path)


def test_without_the_log_a_warning_says_what_to_do(shop: Any, model: Any, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.zip")
    with pytest.warns(EmptyLogWarning, match=f"not hold the events up to {shop.events.last_time}"):
        loaded = load_model(tmp_path / "model.zip")
    history = loaded.pipeline_.steps[0][1]
    assert history.log_.n_events == 0
    assert history.as_of_ is None
    assert history.log_.columns == shop.events.columns
    assert dict(history.log_.roles) == dict(shop.events.roles)


def test_a_log_that_was_not_told_again_is_lacking_in_the_next_file_too(shop: Any, tmp_path: Path) -> None:
    path, frame = tmp_path / "history.zip", shop.events.to_frame()
    save_model(HistoryFeatures().fit(shop.X, events=shop.events), path)
    for events, included in ((None, False), (None, True), (frame[:100], True), (frame[100:200], False)):
        history = load_silently(path)
        save_model(history if events is None else history.observe(events), path, include_events=included)
        with pytest.warns(EmptyLogWarning, match=f"events up to {shop.events.last_time}"):
            load_model(path)
    save_model(load_silently(path).observe(shop.events), path, include_events=True)
    assert load_model(path).log_.hash == shop.events.hash


def test_observing_the_whole_log_brings_the_predictions_back(shop: Any, model: Any, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.zip")
    loaded = load_silently(tmp_path / "model.zip").observe(shop.events)
    assert loaded.pipeline_.steps[0][1].log_.hash == shop.events.hash
    assert same(outputs(loaded, shop.X), outputs(model, shop.X))


@pytest.mark.parametrize("latent", ["factors", "segments"])
def test_factors_in_a_file_are_not_told_twice_of_the_log(latent: str, shop: Any, tmp_path: Path) -> None:
    factors = MatrixFactorization(n_factors=4, max_iter=2, random_state=0)
    step = LatentFeatures([("mf", factors)], cv=2) if latent == "factors" else Segments(n_segments=3, model=factors)
    rows = shop.X["day"] < 20
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=[Aggregate("user", "count")], latent=step)
    model.fit(shop.X[rows], shop.Y[rows], events=shop.events)  # factors know what was before the last row
    save_model(model, tmp_path / "model.zip")
    save_model(load_silently(tmp_path / "model.zip"), tmp_path / "again.zip")
    with pytest.raises(ValueError, match=r"needs observe\(log\) first"):
        load_silently(tmp_path / "model.zip").recommend([1])
    frame = shop.events.to_frame()
    later = frame.iloc[-50:].assign(time=frame["time"].iloc[-50:] + pd.Timedelta("30D"))
    half = len(frame) // 2
    for name, parts in (("model.zip", [frame[:half], frame[half:-9], frame[-9:]]), ("again.zip", [shop.events])):
        loaded = load_silently(tmp_path / name)
        for events in parts:
            loaded.observe(events)
        assert same(outputs(loaded, shop.X), outputs(model, shop.X))
    assert same(outputs(loaded.observe(later), shop.X), outputs(model.observe(later), shop.X))


def test_a_model_that_was_told_of_the_whole_log_again_recommends(shop: Any, tmp_path: Path) -> None:
    counts = [Aggregate("user", "count")]
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=counts, latent=None, learner="linear", random_state=0)
    model.fit(shop.X[["user", "item", "time"]], shop.Y, events=shop.events)
    save_model(model, tmp_path / "model.zip")
    frame = shop.events.to_frame()
    loaded = load_silently(tmp_path / "model.zip").observe(frame[:100])
    with pytest.raises(ValueError, match=r"needs observe\(log\) first"):
        loaded.recommend([1])
    again = loaded.observe(frame[100:]).recommend([1, 2], k=3)
    pd.testing.assert_frame_equal(again, model.recommend([1, 2], k=3))


def test_the_events_do_not_travel_unasked(shop: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"secret{k}" for k in rng.integers(0, 40, 300)]
    frame = pd.DataFrame({"who": names, "what": rng.integers(0, 9, 300), "week": rng.integers(0, 50, 300)})
    log = EventLog(frame, user="who", item="what", time="week")
    history = HistoryFeatures().fit(frame.iloc[:50], events=log)
    for kept in (False, True):
        save_model(history, tmp_path / "history.zip", include_events=kept)
        with zipfile.ZipFile(tmp_path / "history.zip") as archive:
            assert any(b"secret" in archive.read(name) for name in archive.namelist()) is kept


def test_with_the_log_nothing_is_to_be_done(shop: Any, model: Any, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.zip", include_events=True)
    loaded = load_model(tmp_path / "model.zip")
    assert loaded.pipeline_.steps[0][1].log_.hash == shop.events.hash
    assert same(outputs(loaded, shop.X), outputs(model, shop.X))


@pytest.mark.parametrize("own", [False, True])
def test_observing_day_by_day_is_building_at_once(own: bool, shop: Any) -> None:
    frame = shop.events.to_frame()
    roles = dict(shop.events.roles)
    days = np.array_split(np.arange(len(frame)), 6)
    if own:
        X, Y = shop.X[["user", "item", "time"]], shop.Y[["view"]]
        history = HistoryFeatures(**shop.roles).fit(X.iloc[:800], Y.iloc[:800])
        for part in np.array_split(np.arange(800, len(X)), 4):
            history.observe(X.iloc[part], Y.iloc[part])
        whole = HistoryFeatures(history.aggregates_, **shop.roles).fit(X, Y)
    else:
        X = shop.X
        history = HistoryFeatures().fit(X, events=EventLog(frame.iloc[days[0]], **roles))
        for part in days[1:]:
            history.observe(frame.iloc[part])
        whole = HistoryFeatures(history.aggregates_).fit(X, events=EventLog(frame, **roles))
    assert history.as_of_ == whole.as_of_
    assert same(outputs(history, X), outputs(whole, X))


def test_a_loaded_model_observes_like_the_saved_one(shop: Any, model: Any, tmp_path: Path) -> None:
    frame = shop.events.to_frame()
    save_model(model, tmp_path / "model.zip", include_events=True)
    loaded = load_model(tmp_path / "model.zip")
    later = frame.iloc[-200:].assign(time=frame["time"].iloc[-200:] + pd.Timedelta("30D"))
    rows = shop.X.assign(time=shop.X["time"] + pd.Timedelta("31D"))
    fed = copy.deepcopy(model).observe(later)
    assert same(outputs(loaded.observe(later), rows), outputs(fed, rows))
    assert not same(outputs(fed, rows), outputs(model, rows))
