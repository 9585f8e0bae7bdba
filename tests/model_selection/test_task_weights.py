"""``task_weights="cv"``: kept where it helps beyond the noise and harms nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import MultiTaskFactorizationMachine, SharedTreesModel, load_model, make_folds, save_model
from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.validation import Table
from mtl_classic.model_selection._task_weights import choose_task_weights

rng = np.random.default_rng(0)
N = 300
ROWS = rng.normal(size=(N, 2))
LABELS = pd.DataFrame({"a": ROWS[:, 0] + rng.normal(size=N), "b": ROWS[:, 1] + rng.normal(size=N)})
LABELS.loc[::3, "a"] = np.nan
KINDS = {"a": "regression", "b": "regression"}


class Weighed(MultiTaskEstimator):
    """What it predicts of each task depends on the weights as the test says: a task's share of its best predictor."""

    def __init__(
        self, tasks: Any = None, *, share: Any = None, task_weights: Any = None, fallback: Any = True,
        random_state: Any = None, time: Any = None,
    ) -> None:  # fmt: skip
        self.tasks = tasks
        self.share = share
        self.task_weights = task_weights
        self.fallback = fallback
        self.random_state = random_state
        self.time = time

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> Weighed:
        if self.fallback is not None:
            raise AssertionError("a candidate is judged without its fallback")
        self._start_fit(X, Y, sample_weight)
        return self

    def _scores(self, X: Table, space: str) -> Scores:
        values = np.asarray(X, dtype=np.float64)
        return {name: self.share(name, self.task_weights) * values[:, j] for j, name in enumerate(KINDS)}


def chosen(share: Any, **settings: Any) -> dict[str, float]:
    model = Weighed(KINDS, share=share, task_weights="cv", random_state=0)
    model._start_fit(ROWS, LABELS)
    return choose_task_weights(model, ROWS, LABELS, **settings)


def test_a_task_is_given_more_where_that_helps_and_harms_none() -> None:
    assert chosen(lambda name, w: min(w["b"] / 2, 1.0) if name == "b" else 1.0) == {"a": 1.0, "b": 3.0}
    plan = make_folds(2, LABELS, random_state=1)
    assert chosen(lambda name, w: min(w["a"] / 2, 1.0), plan=plan) == {"a": 3.0, "b": 1.0}


def test_equal_weights_stay_where_another_task_would_be_harmed_or_nothing_is_gained() -> None:
    assert chosen(lambda name, w: w[name] / sum(w.values())) == {"a": 1.0, "b": 1.0}
    assert chosen(lambda name, w: 1.0) == {"a": 1.0, "b": 1.0}
    assert chosen(lambda name, w: 1.0 - 0.001 * (w["a"] < 2)) == {"a": 1.0, "b": 1.0}  # better, but within the noise


def test_rows_without_weight_judge_nothing() -> None:
    """More weight helps the rows of positive labels, and harms the others more."""

    class ByRow(Weighed):
        def _scores(self, X: Table, space: str) -> Scores:
            values = np.asarray(X, dtype=np.float64)
            gain = 0.4 * (self.task_weights["b"] > 1)
            return {"a": values[:, 0], "b": values[:, 1] * (0.5 + np.where(values[:, 1] > 0, gain, -3 * gain))}

    def chosen_by(weight: Any) -> dict[str, float]:
        model = ByRow(KINDS, task_weights="cv", random_state=0)
        model._start_fit(ROWS, LABELS)
        return choose_task_weights(model, ROWS, LABELS, sample_weight=weight)

    assert chosen_by(None) == {"a": 1.0, "b": 1.0}
    assert chosen_by((ROWS[:, 1] > 0) * 1.0) == {"a": 1.0, "b": 3.0}


def test_shared_trees_use_the_weights_that_they_found(tmp_path: Any) -> None:
    model = SharedTreesModel(task_weights="cv", max_iter=15, random_state=0).fit(ROWS, LABELS)
    given = SharedTreesModel(task_weights=model.task_weights_, max_iter=15, random_state=0).fit(ROWS, LABELS)
    pd.testing.assert_frame_equal(model.predict_scores(ROWS), given.predict_scores(ROWS))
    assert not np.isnan(model.score(ROWS, LABELS))
    save_model(model, tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert loaded.task_weights_ == model.task_weights_
    pd.testing.assert_frame_equal(loaded.predict_scores(ROWS), given.predict_scores(ROWS))


def test_machines_use_the_weights_that_they_found() -> None:
    X = pd.DataFrame({"user": rng.integers(0, 30, 2000), "item": rng.integers(0, 20, 2000)})
    taste = np.where((X["user"] % 2) == (X["item"] % 2), 1.0, -1.0)
    Y = pd.DataFrame({"like": (taste + rng.normal(size=2000) > 0) * 1.0, "stars": taste + rng.normal(size=2000)})
    settings = {
        "categorical": ["user", "item"],
        "n_factors": 8,
        "init_scale": 0.1,
        "fallback": False,
        "random_state": 0,
    }
    kinds = {"like": "binary", "stars": "regression"}
    model = MultiTaskFactorizationMachine(kinds, task_weights="cv", **settings).fit(X, Y)
    given = MultiTaskFactorizationMachine(kinds, task_weights=model.task_weights_, **settings).fit(X, Y)
    pd.testing.assert_frame_equal(model.predict_scores(X), given.predict_scores(X))


def test_folds_are_in_time_where_there_is_a_time() -> None:
    frame = pd.DataFrame(ROWS, columns=["x", "z"]).assign(day=np.arange(N) // 15)
    model = SharedTreesModel(KINDS, task_weights="cv", time="day", max_iter=5, random_state=0).fit(frame, LABELS)
    assert set(model.task_weights_) == set(KINDS)


def test_one_task_has_nothing_to_weigh() -> None:
    model = SharedTreesModel({"b": "regression"}, task_weights="cv", max_iter=5, random_state=0)
    assert model.fit(ROWS, LABELS[["b"]]).task_weights_ == {"b": 1.0}


@pytest.mark.parametrize("weights", ["equal", "CV"])
def test_other_names_are_refused(weights: str) -> None:
    for model in (
        MultiTaskFactorizationMachine(KINDS, task_weights=weights),
        SharedTreesModel(KINDS, task_weights=weights),
    ):
        with pytest.raises(ValueError, match="'uncertainty', 'dynamic'(,| or) 'cv'; got"):
            model.fit(ROWS, LABELS)
    with pytest.raises(ValueError, match="has no gradients"):
        SharedTreesModel(KINDS, trees="extra", task_weights="cv").fit(ROWS, LABELS)
