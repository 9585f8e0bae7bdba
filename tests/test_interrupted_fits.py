"""A fit that is interrupted or fails leaves the estimator as it was."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from mtl_classic import (
    AveragingEnsemble,
    EventLog,
    FieldEncoder,
    FunnelModel,
    HistoryFeatures,
    LabelError,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    SharedTreesModel,
    TargetStatistics,
    Task,
    TaskGraphModel,
    make_folds,
)

TASKS = [Task("click", "binary"), Task("buy", "binary", given="click")]


class Interrupted(LogisticRegression):
    """A user who presses Ctrl-C during a later fit."""

    fits_left: ClassVar[int] = 1_000_000

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Interrupted":
        Interrupted.fits_left -= 1
        if Interrupted.fits_left < 0:
            raise KeyboardInterrupt
        return super().fit(X, y, sample_weight)


MODELS: dict[str, Callable[[], Any]] = {
    "per task": lambda: PerTaskModel(TASKS, learner=Interrupted()),
    "funnel": lambda: FunnelModel(TASKS, learner=Interrupted()),
    "graph": lambda: TaskGraphModel(TASKS, learner=Interrupted(), edges="dense", cv=2, random_state=0),
    "average": lambda: AveragingEnsemble([("a", PerTaskModel(TASKS, learner=Interrupted()))]),
    "front door": lambda: MultiTaskModel(TASKS, learner=Interrupted(), random_state=0),
}


def rows(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"x": rng.normal(size=300), "shop": rng.choice(list("abc")[seed:], 300)})
    click = X["x"] + rng.normal(size=300) > 0
    return X, pd.DataFrame({"click": click, "buy": click & (rng.random(300) < 0.5)}).astype(float)


@pytest.fixture(autouse=True)
def _many_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Interrupted, "fits_left", 1_000_000)


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_fit_changes_nothing(name: str) -> None:
    X, Y = rows(0)
    model = MODELS[name]().fit(X, Y)
    before, state = model.predict_scores(X), set(vars(model))
    Interrupted.fits_left = 1
    with pytest.raises(KeyboardInterrupt):
        model.fit(rows(1)[0].assign(new=1.0), rows(1)[1])
    assert set(vars(model)) == state
    pd.testing.assert_frame_equal(model.predict_scores(X), before)
    with pytest.raises(LabelError):
        model.fit(X, Y.assign(buy=np.inf))
    pd.testing.assert_frame_equal(model.predict_scores(X), before)


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_first_fit_is_none(name: str) -> None:
    Interrupted.fits_left = 1
    model = MODELS[name]()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*rows(0))
    with pytest.raises(NotFittedError):
        model.predict_scores(rows(0)[0])


ROWS = pd.DataFrame({"user": [1, 2, 1, 2], "item": list("abab"), "day": [1, 2, 3, 4], "x": [0.5, 1.0, 2.0, 4.0]})
LOG = EventLog(ROWS, user="user", item="item", time="day")
LABELS = pd.DataFrame({"buy": [0.0, 1.0, 0.0, 1.0]})
OTHER = make_folds(2, np.zeros(10), random_state=0)
TRANSFORMERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "history": (
        HistoryFeatures(),
        {"X": ROWS, "events": LOG},
        {"X": ROWS.assign(day=pd.to_datetime(ROWS["day"])), "events": LOG},
    ),
    "statistics": (TargetStatistics(["user"]), {"X": ROWS, "Y": LABELS}, {"X": ROWS, "Y": LABELS, "plan": OTHER}),
    "encoder": (FieldEncoder(), {"X": ROWS}, {"X": ROWS.assign(item=[["a"], ["b"], ["a"], ["b"]])}),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_that_fails_to_fit_is_fitted_as_before_or_not_at_all(name: str) -> None:
    transformer, good, bad = TRANSFORMERS[name]
    bad = bad | {"X": bad["X"].assign(new=1.0)}
    with pytest.raises((TypeError, ValueError)):
        transformer.fit_transform(**bad)
    with pytest.raises(NotFittedError):
        transformer.transform(ROWS)
    before, state = transformer.fit(**good).transform(ROWS), dict(vars(transformer))
    with pytest.raises((TypeError, ValueError)):
        transformer.fit_transform(**bad)
    assert all(state[key] is value for key, value in vars(transformer).items())
    after = transformer.transform(ROWS)
    assert not (after != before).nnz if name == "encoder" else after.equals(before)


def without_weights(model: Any) -> Any:
    return model.fit(*rows(0), plan=make_folds(2, np.zeros(300), random_state=0))


def with_weights(model: Any) -> Any:
    return without_weights(model.set_params(task_weights="cv")).set_params(task_weights=None)


REFITS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "history": (HistoryFeatures(time="day"), lambda m: m.fit(ROWS, LABELS), lambda m: m.fit(ROWS, events=LOG)),
    "trees": (SharedTreesModel(TASKS, max_iter=2, fallback=None, random_state=0), with_weights, without_weights),
    "machine": (MultiTaskFactorizationMachine(TASKS, max_iter=1, random_state=0), with_weights, without_weights),
}


@pytest.mark.parametrize("name", REFITS)
def test_a_refit_leaves_nothing_of_the_fit_before(name: str) -> None:
    estimator, before, after = REFITS[name]
    assert set(vars(after(before(clone(estimator))))) == set(vars(after(clone(estimator))))
