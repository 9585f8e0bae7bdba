"""What scikit-learn's stackers and chains fail on: pandas output, 2-D y, missing labels, multiclass members, time."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    LightGBMLearner,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    StackingEnsemble,
    Task,
    Temporal,
    make_funnel,
)
from mtl_classic.ensemble import _members
from mtl_classic.ensemble._store import meta_splits
from tests.ensemble.tables import MIXED, members, mixed, trees

pytestmark = pytest.mark.filterwarnings("ignore::mtl_classic.FallbackWarning")
X, Y = mixed(500)


def ensembles(tasks: Any = MIXED, cv: Any = 3) -> list[Any]:
    two = members(tasks)[:2]
    kept = tuple(task for task in tasks if task.kind in ("regression", "count"))
    numbers = PerTaskModel(kept, learner=trees(2), random_state=0)
    found = [
        AveragingEnsemble(two, cv=cv, random_state=0),
        AveragingEnsemble(two, weights="greedy", cv=cv, random_state=0),
        AveragingEnsemble(two, weights="optimize", cv=cv, random_state=0),
        StackingEnsemble(two, cv=cv, random_state=0),
        StackingEnsemble(two, cv=cv, passthrough=True, random_state=0),
        BaggingEnsemble(two[1][1], 4, random_state=0),
        BoostingEnsemble(two, cv=cv, random_state=0),
        CalibratedModel(two[0][1], cv=cv, random_state=0),
    ]
    return [*found, ConformalModel(numbers, cv=cv, random_state=0)] if kept else found


def name(model: Any) -> str:
    return f"{type(model).__name__}-{getattr(model, 'weights', None) or getattr(model, 'passthrough', '')}"


def labels_of(model: Any) -> pd.DataFrame:
    return Y[[task.name for task in model._known_tasks()]]


def is_complete(scores: pd.DataFrame) -> bool:
    return bool(np.isfinite(scores.to_numpy()).all())


@cache
def fitted(k: int) -> Any:
    """The k-th of the ensembles, for tests that do not change it."""
    model = ensembles()[k]
    return model.fit(X, labels_of(model))


ALL = [pytest.param(k, id=name(model)) for k, model in enumerate(ensembles())]


@pytest.mark.parametrize("k", ALL)
def test_every_kind_with_missing_labels(k: int) -> None:
    model = fitted(k)
    labels, scores = labels_of(model), model.predict_scores(X)
    assert is_complete(scores)
    predicted = model.predict(X)
    assert predicted.columns.tolist() == labels.columns.tolist()
    if "reason" in labels:
        shares = scores[["reason=gift", "reason=need", "reason=whim"]]
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        assert set(predicted["reason"]) <= {"gift", "need", "whim"}
        assert [p.shape[1] for p in model.predict_proba(X)] == [2, 3]
    assert model.score(X, labels) > 0


@pytest.mark.parametrize("model", ensembles(cv=TimeSeriesSplit(3)), ids=name)
def test_folds_that_leave_the_first_rows_out(model: Any) -> None:
    labels = labels_of(model)
    assert is_complete(model.fit(X, labels).predict_scores(X))
    if getattr(model, "n_uncovered_", None) is not None:
        assert model.n_uncovered_ == 125
    assert model.score(X, labels) > 0


PAIR = (Task("y0", "binary"), Task("y1", "binary"))


@pytest.mark.parametrize("model", ensembles(PAIR), ids=name)
def test_two_columns_of_labels_as_an_array(model: Any) -> None:
    labels = Y[["buy", "visits"]].to_numpy(dtype=float).copy()
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, labels[:, 1] > 1)
    model.fit(X, labels)
    assert model.predict(X).shape == (500, 2)
    assert [p.shape for p in model.predict_proba(X)] == [(500, 2), (500, 2)]
    assert is_complete(model.predict_scores(X))
    assert model.score(X, labels) > 0


@pytest.mark.parametrize("k", ALL)
def test_pandas_output_changes_nothing(k: int) -> None:
    model, plain = ensembles()[k], fitted(k).predict_scores(X)
    labels = labels_of(model)
    pipe = make_pipeline(FunctionTransformer(feature_names_out="one-to-one"), model).set_output(transform="pandas")
    pd.testing.assert_frame_equal(pipe.fit(X, labels).decision_function(X), plain)
    with sklearn.config_context(transform_output="pandas"):
        pd.testing.assert_frame_equal(model.fit(X, labels).predict_scores(X), plain)


def test_machines_and_linear_learners_read_arrays_whatever_is_configured() -> None:
    """FieldEncoder and OneHotEncoder make sparse matrices, which pandas output refuses."""
    frame = X.assign(user=np.arange(500) % 30)
    for model in (
        MultiTaskFactorizationMachine(MIXED, categorical=["shop", "user"], max_iter=3, fallback=False, random_state=0),
        PerTaskModel(MIXED, learner="linear"),
        PerTaskModel(MIXED, learner="svm", random_state=0),
    ):
        plain = model.fit(frame, Y).predict_scores(frame)
        with sklearn.config_context(transform_output="pandas"):
            pd.testing.assert_frame_equal(model.fit(frame, Y).predict_scores(frame), plain)


@pytest.mark.parametrize("calibrated", [False, True])
def test_held_out_rows_may_lack_classes_and_labels(calibrated: bool) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(600, 2))
    labels: Any = pd.DataFrame({"why": np.where(table[:, 0] > 0.5, "c", np.where(table[:, 1] > 0, "b", "a"))})
    labels["liked"] = np.where(table[:, 0] > 0, "yes", "no")
    labels["spend"] = table[:, 0]
    fitted = [
        (f"m{k}", PerTaskModel(learner=learner, random_state=0).fit(table, labels))
        for k, learner in enumerate(("linear", trees(2)))
    ]
    few = (labels["why"] != "a") & (labels["liked"] == "yes")
    held = labels[few].copy()
    held["spend"] = np.nan
    model: Any = AveragingEnsemble(fitted, weights="greedy", cv="prefit").fit(table[few], held)
    if calibrated:
        model = CalibratedModel(model, cv="prefit").fit(table[few], held)
    assert list(model.classes_map_["why"]) == ["a", "b", "c"]
    scores = model.predict_scores(table)
    assert np.isfinite(scores.to_numpy()).all()
    assert (
        scores[["why=a", "why=b", "why=c"]].to_numpy().argmax(axis=1) == pd.factorize(labels["why"], sort=True)[0]
    ).mean() > 0.9
    assert ((scores["liked"] > 0.5) == (labels["liked"] == "yes")).mean() > 0.9


@pytest.mark.parametrize("wrap", ["calibrated", "conformal", "averaging"])
def test_members_are_told_of_new_events(wrap: str) -> None:
    shop = make_funnel(1500, n_users=60, n_items=20, random_state=0)
    cut = shop.X["time"].quantile(0.7)
    early, late = shop.X["time"] < cut, shop.X["time"] >= cut
    member = MultiTaskModel(shop.tasks, **shop.roles, latent=None, random_state=0)
    ensemble: Any = {
        "calibrated": CalibratedModel(member, cv=2),
        "conformal": ConformalModel(member, cv=2),
        "averaging": AveragingEnsemble([("one", member)]),
    }[wrap]
    model = ensemble.fit(shop.X[early], shop.Y[early], events=shop.events.before(cut))
    stale, log = model.predict_scores(shop.X[late]), shop.events.to_frame()
    moved = model.observe(log[log["time"] >= cut]).predict_scores(shop.X[late])
    assert not moved.equals(stale)
    within = [*getattr(model, "fold_estimators_", []), *getattr(model, "estimators_", [])] or [model.estimator_]
    assert {part.as_of_ for part in within} == {log["time"].max()}
    assert not hasattr(CalibratedModel(PerTaskModel()), "observe")


@pytest.mark.parametrize("wrap", ["averaging", "stacking", "boosting", "calibrated", "cv+", "split"])
def test_folds_are_in_time_where_the_log_names_it(wrap: str) -> None:
    """A member of a log takes its roles from there, and factors of users know all that was before its last row."""
    shop = make_funnel(300, n_users=40, n_items=20, random_state=0)
    latest: list[Any] = []

    class Spy(PerTaskModel):
        def fit(self, X: Any, Y: Any, **given: Any) -> "Spy":
            latest.append(X["time"].max())
            return super().fit(X, Y, **given)

    member = Spy(shop.tasks, learner="linear", exclude=["time"])
    ensemble: Any = {
        "averaging": AveragingEnsemble([("a", member), ("b", member)], weights="greedy", cv=2),
        "stacking": StackingEnsemble([("a", member)], cv=2),
        "boosting": BoostingEnsemble([("a", member)], cv=2),
        "calibrated": CalibratedModel(member, cv=2),
        "cv+": ConformalModel(member, cv=2),
        "split": ConformalModel(member, method="split"),
    }[wrap]
    ensemble.fit(shop.X, shop.Y, events=shop.events)
    assert min(latest) < shop.X["time"].quantile(0.8)


@pytest.mark.parametrize("wrap", ["calibrated", "prefit", "stacking"])
def test_what_is_learnt_from_one_fold_in_time_is_judged_in_time(wrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_funnel(300, n_users=40, n_items=20, random_state=0)
    member = PerTaskModel(shop.tasks, learner="linear", exclude=["time"], random_state=0)
    found: list[Any] = []

    def split(*args: Any) -> Any:
        found.extend(meta_splits(*args))
        return found

    monkeypatch.setattr(_members, "meta_splits", split)
    ensemble: Any = {
        "calibrated": CalibratedModel(member, cv=Temporal(1)),
        "prefit": CalibratedModel(clone(member).fit(shop.X, shop.Y), cv="prefit"),
        "stacking": StackingEnsemble([("a", member)], cv=Temporal(1)),
    }[wrap]
    ensemble.fit(shop.X, shop.Y, events=shop.events)
    time = shop.X["time"].to_numpy()
    assert found
    assert all(time[train].max() < time[test].min() for train, test in found)


def test_stacked_members_that_tell_nothing_leave_the_intercept() -> None:
    rng = np.random.default_rng(4)
    rows, labels = rng.normal(size=(400, 2)), pd.DataFrame({"x": rng.poisson(1.0, 400)})
    models = [(name, PerTaskModel({"x": "count"}, learner=name, random_state=0)) for name in ("linear", "hist")]
    model = StackingEnsemble(models, cv=2, random_state=0).fit(rows, labels)
    assert not model.weights_.to_numpy().any()
    np.testing.assert_allclose(model.predict(rows)["x"], labels["x"].mean(), rtol=0.01)


TASKS_OF_SESSIONS = [Task("buy", "binary", query="session"), Task("r", "ranking", query="session")]


@pytest.mark.parametrize(
    ("tasks", "make"),
    [
        (TASKS_OF_SESSIONS[:1], lambda members: BoostingEnsemble(members, cv=3, random_state=0)),
        (TASKS_OF_SESSIONS, lambda members: StackingEnsemble(members, passthrough=True, cv=3, random_state=0)),
        (TASKS_OF_SESSIONS[:1], lambda _: MultiTaskFactorizationMachine(TASKS_OF_SESSIONS[:1], random_state=0)),
    ],
    ids=["boosting", "stacking", "machine"],
)
@pytest.mark.parametrize("of", [int, str])
def test_the_query_of_a_task_is_no_feature(tasks: list[Task], make: Any, of: type) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"session": np.arange(900) % 30, "x": rng.normal(size=900)})
    Y = pd.DataFrame({"buy": (rng.normal(size=30)[X["session"]] + X["x"] > 0).astype(int), "r": X["x"] > 0.5}) * 1
    X["session"] = X["session"].map(of)
    trees = LightGBMLearner(num_leaves=7, max_iter=20)
    members = [("linear", PerTaskModel(tasks, learner="linear")), ("trees", PerTaskModel(tasks, learner=trees))]
    model = make(members).fit(X, Y[[task.name for task in tasks]])
    other = X.assign(session=X["session"].to_numpy()[::-1])
    pd.testing.assert_frame_equal(model.predict_scores(other), model.predict_scores(X))
