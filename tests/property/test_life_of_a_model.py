"""Whatever happens to a fitted model, and in whatever order: it knows what it was told, and nothing else moves it."""

import pickle
import tempfile
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mtl_classic import (
    Aggregate,
    EventLog,
    FunnelModel,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskModel,
    Segments,
    Task,
    load_model,
    save_model,
)

N_DAYS = 20
ROLES = {"user": "user", "item": "item", "time": "time"}
TASKS = [Task("click", "binary"), Task("spend", "regression", given="click")]
ALS = MatrixFactorization(n_factors=3, max_iter=3, weight={"view": 1.0, "buy": 3.0}, random_state=0, **ROLES)
LATENT: dict[str, Any] = {
    "scores": LatentFeatures([("als", ALS)], cv=2, time="time"),
    "vectors": LatentFeatures([("als", ALS)], cv=2, time="time", output="both"),
    "segments": Segments(n_segments=3, model=ALS, random_state=0, **ROLES),
}
AGGREGATES = [
    Aggregate("user", "count"), Aggregate("item", "recency"), Aggregate("user", "sum", value="price", window="4D"),
    Aggregate("item", "rate", where="buy", per="view"), Aggregate("user", "decayed", half_life="3D"),
]  # fmt: skip
seeds = st.integers(0, 1000)


def table(n: int, first: float, last: float, seed: int, new: int = 5) -> pd.DataFrame:
    """Users and items, some of them new, at times on a grid, so that many are equal."""
    rng = np.random.default_rng(seed)
    hours = np.floor(rng.uniform(24 * first, 24 * last, n))
    time = pd.Timestamp("2024-03-01") + pd.to_timedelta(hours, unit="h").as_unit("ns")
    users, items = rng.integers(0, 25 + new, n), rng.integers(0, 15 + new, n)
    return pd.DataFrame({"user": [f"u{k}" for k in users], "item": items, "time": time, "x": rng.normal(size=n)})


def happened(n: int, first: float, last: float, seed: int, new: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    types, price = rng.choice(["view", "view", "buy"], n), np.round(rng.gamma(2, 5, n), 2)
    return table(n, first, last, seed, new).drop(columns="x").assign(type=types, price=price)


@cache
def fitted(latent: str) -> MultiTaskModel:
    X = table(400, 0, N_DAYS, 1, new=0)
    X.loc[::9, "x"] = np.nan
    click = (np.random.default_rng(2).random(400) < 1 / (1 + np.exp(-X["x"].fillna(0)))).astype(float)
    Y = pd.DataFrame({"click": click, "spend": click * np.round(X["x"].abs(), 1)})
    learner = LightGBMLearner(max_iter=5, num_leaves=7, min_data_in_leaf=5)
    model = MultiTaskModel(
        TASKS, **ROLES, aggregates=AGGREGATES, latent=LATENT[latent], structure=FunnelModel(learner=learner),
        random_state=0,
    )  # fmt: skip
    log = EventLog(happened(500, -5, N_DAYS, 0, new=0), **ROLES, event="type", value="price")
    return model.fit(X, Y, events=log)


def features(model: MultiTaskModel, X: pd.DataFrame) -> pd.DataFrame:
    return model.pipeline_[:-1].transform(X)


class Life(RuleBasedStateMachine):
    """Days are told, or late events of days before; the model goes to files and into memory, and is compiled."""

    @initialize(latent=st.sampled_from(sorted(LATENT)))
    def start(self, latent: str) -> None:
        self.model, self.now = deepcopy(fitted(latent)), float(N_DAYS)
        self.fresh, self.told = deepcopy(fitted(latent)), [happened(0, 0, 1, 0)]

    @rule(seed=seeds, n=st.sampled_from([0, 1, 30]), days=st.sampled_from([0.25, 2.0]))
    def a_day_is_told(self, seed: int, n: int, days: float) -> None:
        earlier = pd.concat([table(15, 15, N_DAYS, seed), table(15, self.now - 0.5, self.now, seed)])
        before = features(self.model, earlier)
        self._tell(happened(n, self.now, self.now + days, seed))
        self.now += days
        pd.testing.assert_frame_equal(features(self.model, earlier), before, rtol=1e-4, atol=1e-5)

    @rule(seed=seeds)
    def late_events_are_told(self, seed: int) -> None:
        self._tell(happened(10, 15, self.now, seed))

    @rule(seed=seeds, mmap=st.booleans())
    def it_goes_to_a_file_and_back(self, seed: int, mmap: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save_model(self.model, f"{folder}/model.zip", include_events=True, compress=not mmap)
            self._has_become(load_model(f"{folder}/model.zip", mmap=mmap), seed)

    @rule(seed=seeds)
    def it_is_pickled(self, seed: int) -> None:
        self._has_become(pickle.loads(pickle.dumps(self.model)), seed)

    @rule(seed=seeds)
    def it_is_compiled(self, seed: int) -> None:
        compiled, observed = self.model.compile_for_serving(), deepcopy(self.model)
        for day in (None, happened(20, self.now, self.now + 1, seed)):
            if day is not None:
                observed.observe(day), compiled.observe(day)
            X = self._rows(seed)
            rows = pd.DataFrame([compiled.predict_scores({**X.iloc[k]}) for k in range(len(X))])
            pd.testing.assert_frame_equal(rows, observed.predict_scores(X), rtol=1e-5, atol=1e-6)
            assert compiled.as_of_ == observed.as_of_

    @rule(seed=seeds, wrong=st.sampled_from([{"time": "some day"}, {"price": np.inf}, {"user": 7}, {"time": None}]))
    def wrong_events_are_refused(self, seed: int, wrong: dict[str, Any]) -> None:
        X = self._rows(seed)
        before = self.model.predict_scores(X)
        with pytest.raises((TypeError, ValueError)):
            self.model.observe(happened(5, self.now, self.now + 1, seed).assign(**wrong))
        pd.testing.assert_frame_equal(self.model.predict_scores(X), before, check_exact=True)

    @invariant()
    def it_is_the_model_that_was_told_all_at_once(self) -> None:
        if not hasattr(self, "model"):
            return
        at_once = deepcopy(self.fresh).observe(pd.concat(self.told, ignore_index=True))
        X = self._rows(len(self.told))
        pd.testing.assert_frame_equal(features(self.model, X), features(at_once, X), rtol=1e-4, atol=1e-5)
        assert self.model.as_of_ == at_once.as_of_

    def _tell(self, events: pd.DataFrame) -> None:
        given = events.copy()
        self.model.observe(events)
        pd.testing.assert_frame_equal(events, given)
        self.told.append(events)

    def _rows(self, seed: int) -> pd.DataFrame:
        return pd.concat([table(8, 5, N_DAYS, seed), table(12, N_DAYS, self.now + 2, seed)], ignore_index=True)

    def _has_become(self, other: MultiTaskModel, seed: int) -> None:
        X = self._rows(seed)
        pd.testing.assert_frame_equal(other.predict_scores(X), self.model.predict_scores(X), check_exact=True)
        self.model = other


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=6, stateful_step_count=7, derandomize=True, deadline=None, phases=[Phase.generate]
)
