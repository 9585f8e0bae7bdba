"""The search: its strategies and objectives, its report, what it hands on, what it refuses."""

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit, TimeSeriesSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mtl_classic import (
    EventLog,
    LightGBMLearner,
    MultiTaskSearchCV,
    PerTaskModel,
    Task,
    Temporal,
    make_folds,
    multitask_scorer,
)
from mtl_classic.model_selection import FoldPlan, _search_study
from mtl_classic.model_selection._search_run import Limits
from mtl_classic.model_selection._search_space import grid_points
from mtl_classic.model_selection._search_trial import COMPLETE, Deadline, Outcome
from tests.model_selection.planted import TASKS, Planted, X, Y, score_of

SPACE = {"a": stats.uniform(-2, 4), "b": stats.uniform(-2, 4)}
GRID = {"a": [-0.4, 0.0, 0.4], "b": [0.4, 0.0]}
LOG = EventLog(pd.DataFrame({"user": [0], "item": [0], "time": [0]}), user="user", item="item", time="time")
EXACT = {"cv": 2, "random_state": 0, "pruning": False}


def search(space: Any = None, **settings: Any) -> MultiTaskSearchCV:
    settings = {"n_trials": 12} | EXACT | settings
    return MultiTaskSearchCV(Planted(TASKS), SPACE if space is None else space, **settings).fit(X, Y)


def test_a_grid_finds_the_best_of_all_combinations() -> None:
    found = search(GRID, strategy="grid", n_trials=None)
    assert len(found.cv_results_["params"]) == 6
    assert found.best_params_ == {"a": 0.0, "b": 0.0}
    assert found.best_score_ == pytest.approx(score_of(np.exp(-0.32)), abs=0.05)
    assert found.best_estimator_.a == 0.0
    assert found.score(X, Y) == pytest.approx(found.best_score_, abs=0.05)


@pytest.mark.parametrize(
    "settings",
    [{"strategy": "random"}, {"surrogate": "tpe"}, {"surrogate": "gp"}, {"strategy": "genetic"}],
    ids=lambda s: "-".join(s.values()),
)
@pytest.mark.parametrize("objective", ["mean", "worst", "pareto"])
def test_every_strategy_searches_every_objective(settings: dict[str, Any], objective: str) -> None:
    found, again = (search(objective=objective, **settings, n_jobs=jobs) for jobs in (None, 1))
    assert len(found.cv_results_["params"]) == 12
    assert found.cv_results_["params"] == again.cv_results_["params"]  # seeded
    pd.testing.assert_frame_equal(found.pareto_front_, again.pareto_front_)
    assert found.best_score_ > 0.1
    assert (found.cv_results_["state"] == "complete").all()


def test_workers_change_no_result() -> None:
    space = SPACE | {"kind": ["x", "y"]}
    alone, shared = (search(space, pruning=True, n_jobs=jobs) for jobs in (None, 2))
    assert alone.cv_results_["params"] == shared.cv_results_["params"]
    np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], shared.cv_results_["mean_test_score"])


def test_objectives_differ_in_what_they_want() -> None:
    space = {"a": np.linspace(-0.4, 0.4, 9), "b": [0.0]}
    mean, worst, first = (
        search(space, strategy="grid", n_trials=None, objective=o) for o in ("mean", "worst", {"y0": 1, "y1": 0})
    )
    assert abs(worst.best_params_["a"]) <= 0.1
    assert first.best_params_["a"] == -0.4
    assert mean.best_score_ >= worst.best_score_
    assert search(space, strategy="grid", n_trials=None, objective={"y0": 1}).best_params_ == first.best_params_
    scores = [worst.cv_results_[f"mean_test_score_{task}"][worst.best_index_] for task in TASKS]
    assert worst.best_score_ == pytest.approx(min(scores))


def test_results_have_scikit_learns_form() -> None:
    found = search(GRID, strategy="grid", n_trials=None, metrics={"r2": multitask_scorer("r2", "y1")})
    results = found.cv_results_
    frame = pd.DataFrame(results)
    assert len(frame) == 6
    for name in ("score", "score_y0", "score_y1", "score_r2"):
        folds = frame[[f"split0_test_{name}", f"split1_test_{name}"]]
        np.testing.assert_allclose(folds.mean(axis=1), frame[f"mean_test_{name}"])
        np.testing.assert_allclose(folds.std(axis=1, ddof=0), frame[f"std_test_{name}"])
        assert frame[f"rank_test_{name}"].min() == 1
    assert found.best_index_ == frame["rank_test_score"].argmin()
    assert found.n_splits_ == 2
    assert {"mean_fit_time", "std_fit_time", "mean_score_time", "params", "param_a", "param_b"} <= set(results)
    assert isinstance(results["param_a"], np.ma.MaskedArray)
    assert [params["a"] for params in results["params"]] == results["param_a"].tolist()
    assert found.refit_time_ > 0


def test_the_front_holds_what_nothing_beats() -> None:
    found = search(objective="pareto", n_trials=30, strategy="random")
    front, tasks = found.pareto_front_, list(TASKS)
    everything = np.stack([found.cv_results_[f"mean_test_score_{task}"] for task in tasks], axis=1)
    for point in front[tasks].to_numpy():
        assert not ((everything >= point).all(axis=1) & (everything > point).any(axis=1)).any()
    rest = np.delete(everything, front.index, axis=0)
    for point in rest:
        assert ((everything >= point).all(axis=1) & (everything > point).any(axis=1)).any()
    assert list(front.columns) == ["y0", "y1", "a", "b"]


def test_a_point_is_picked_by_weights_or_by_a_constraint() -> None:
    found = search(objective="pareto", n_trials=30, metrics={"r2": multitask_scorer("r2", "y1")})
    front = found.pareto_front_
    assert found.pick({"y0": 1, "y1": 0})["a"] == front.loc[front["y0"].idxmax(), "a"]
    least = float(front["y1"].quantile(0.8))
    chosen = front[front["y1"] >= least]
    assert found.pick({"y0": 1, "y1": 0}, at_least={"y1": least})["a"] == chosen.loc[chosen["y0"].idxmax(), "a"]
    assert found.pick() == found.best_params_
    assert found.pick({"y0": 1}) == found.pick({"y0": 1, "y1": 0})
    best = found.pick(at_least={"r2": front["r2"].max()})
    assert best["a"] == front.loc[front["r2"].idxmax(), "a"]
    model = clone(found.estimator).set_params(**best).fit(X, Y)
    assert multitask_scorer("r2", "y1")(model, X, Y) > front["r2"].max() - 0.1
    with pytest.raises(ValueError, match="No candidate has at least .*greatest found, each on its own: r2 0"):
        found.pick(at_least={"r2": 2})
    with pytest.raises(ValueError, match="at_least names 'auc', which was not judged"):
        found.pick(at_least={"auc": 0.5})
    with pytest.raises(ValueError, match="at_least names 'a', which was not judged; there are y0, y1, r2\\.$"):
        found.pick(at_least={"a": 0.5})
    for wrong in ("r2", 0.5, [("r2", 0.5)], {"r2": "high"}, {"r2": None}, {"r2": float("nan")}):
        with pytest.raises((TypeError, ValueError), match=r"^at_least(\['r2'\])? must be"):
            found.pick(at_least=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown tasks"):
        found.pick({"y7": 1})


def test_bad_candidates_are_given_up_and_the_best_is_complete() -> None:
    pruned, whole = (search(n_trials=24, pruning=p, cv=4, surrogate="tpe") for p in (True, False))
    states = pruned.cv_results_["state"]
    assert (states == "pruned").sum() >= 3
    assert states[pruned.best_index_] == "complete"
    gone = states == "pruned"
    assert np.isnan(pruned.cv_results_["split3_test_score"][gone]).all()
    assert np.isnan(pruned.cv_results_["mean_test_score"][gone]).all()
    assert not np.isnan(pruned.cv_results_["split0_test_score"][gone]).any()
    assert pruned.best_score_ > whole.best_score_ - 0.1


def test_a_candidate_that_fails_is_noted(tmp_path: Any) -> None:
    space = {"a": [0.0, "broken"]}
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        found = search(space, strategy="grid", n_trials=None)
    assert found.cv_results_["state"].tolist() == ["complete", "failed"]
    assert found.best_params_ == {"a": 0.0}
    with pytest.raises(RuntimeError, match="it broke"):
        search(space, strategy="grid", error_score="raise")
    with pytest.raises(ValueError, match="All 1 candidates failed. The first:\n(.|\n)*it broke"):
        search({"a": ["broken"]}, strategy="grid")


def test_time_ends_a_search() -> None:
    found = MultiTaskSearchCV(Planted(TASKS, wait=0.05), SPACE, time_budget=1.0, n_trials=1000, **EXACT).fit(X, Y)
    assert 1 <= len(found.cv_results_["params"]) < 12  # how many depends on how busy the machine is
    seconds = found.cv_results_["mean_fit_time"].sum() * 2 + found.refit_time_
    assert seconds < 1.5
    least = MultiTaskSearchCV(Planted(TASKS, wait=0.05), SPACE, time_budget=1e-9, **EXACT).fit(X, Y)
    assert len(least.cv_results_["params"]) == 1


def test_time_is_left_for_the_fold_and_the_refit() -> None:
    limits = Limits(None, 100.0, 1000.0, reserve_refit=True)
    assert limits.deadline([]) is None  # the first candidate tells how long they take
    seconds = [np.array([[2.0, 0.5], [1.0, 0.5]]), np.array([[7.0, 1.0], [np.nan, np.nan]]), np.full((2, 2), np.nan)]
    deadline = limits.deadline([Outcome({}, COMPLETE, one, one) for one in seconds])
    assert deadline is not None
    assert deadline.end == 1100 - 8 * 2  # the slowest may be the best; a refit has the rows of both folds
    assert deadline.fold == (2 + 8) / 2
    now = time.time()
    assert not Deadline(now + 60, 10.0).passed()
    assert Deadline(now + 60, 90.0).passed()
    assert Deadline(now + 60, 10.0).passed(np.array([5.0, 90.0]))  # its own folds are slow


def test_a_grid_that_is_cut_short_is_drawn_at_random() -> None:
    found = search({"a": list(np.linspace(-1, 1, 9)), "b": [0.0, 1.0]}, strategy="grid", n_trials=6)
    points = [tuple(params.values()) for params in found.cv_results_["params"]]
    assert len(set(points)) == 6
    assert len({b for _, b in points}) == 2


@pytest.mark.parametrize("strategy", ["random", "bayesian", "genetic"])
def test_lists_end_a_search_when_all_has_been_tried(strategy: str) -> None:
    found = search(GRID | {"kind": ["x", "y"]}, strategy=strategy, n_trials=100)
    points = {tuple(params.values()) for params in found.cv_results_["params"]}
    assert len(found.cv_results_["params"]) == 12
    assert len(points) == 12


@pytest.mark.parametrize("storage", ["no/such/folder/search.db", "junk.db", "nothing://here"])
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, storage: str) -> None:
    (tmp_path / "junk.db").write_text("no database " * 99)
    where = storage if "://" in storage else str(tmp_path / storage)
    with pytest.raises(ValueError, match=f"storage='{where}' cannot be opened as a database"):
        MultiTaskSearchCV(Planted(TASKS), {"a": [0, 1]}, cv=2, storage=where, random_state=0).fit(X, Y)


def test_a_missing_optuna_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtl_classic.model_selection._search_study", None)
    with pytest.raises(ImportError, match=r"A search needs .*: pip install 'mtl-classic\[search\]'"):
        search()


def test_predictions_are_those_of_the_refitted_best() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 3)), columns=list("abc"))
    Y = pd.DataFrame({"up": X["a"] > 0, "size": X["b"] + rng.normal(size=200)})
    Y = Y.astype({"up": float}).mask(rng.random(Y.shape) < 0.3)
    kinds = {"up": "binary", "size": "regression"}
    model = PerTaskModel(kinds, learner=LightGBMLearner(max_iter=10), random_state=0)
    found = MultiTaskSearchCV(model, {"learner__num_leaves": [3, 7]}, strategy="grid", **EXACT).fit(X, Y)
    own = clone(model).set_params(**found.best_params_).fit(X, Y)
    pd.testing.assert_frame_equal(found.predict(X), own.predict(X))
    pd.testing.assert_frame_equal(found.predict_scores(X), own.predict_scores(X))
    pd.testing.assert_frame_equal(found.decision_function(X), own.decision_function(X))
    np.testing.assert_array_equal(found.predict_proba(X)[0], own.predict_proba(X)[0])
    assert found.score(X, Y) == own.score(X, Y)
    assert found.n_features_in_ == 3
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    copy = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(copy.predict_scores(X), own.predict_scores(X))
    assert not hasattr(MultiTaskSearchCV(PerTaskModel({"y": "regression"})), "predict_proba")


def test_pipelines_are_searched_to_their_end() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 2)), rng.random(120) < 0.5
    y = np.where(rng.random(120) < 0.8, X[:, 0] > 0, y)
    pipe = make_pipeline(FunctionTransformer(), PerTaskModel({"up": "binary"}, learner="linear"))
    space = {"pertaskmodel__learner__classifier__C": stats.loguniform(1e-4, 10)}
    found = MultiTaskSearchCV(pipe, space, n_trials=5, **EXACT).fit(X, y)
    assert found.predict(X).shape == (120,)
    assert found.predict_proba(X).shape == (120, 2)
    assert found.classes_.tolist() == [False, True]
    assert found.decision_function(X).shape == (120,)
    assert not hasattr(found, "predict_scores")
    assert multitask_scorer("roc_auc")(found, X, y) > 0.8


def test_weights_and_events_reach_the_fits() -> None:
    found = MultiTaskSearchCV(Planted(TASKS), GRID, strategy="grid", **EXACT)
    found.fit(X, Y, sample_weight=np.ones(len(X)), events=LOG)
    assert found.best_estimator_.weighted_
    assert found.best_estimator_.events_ is LOG
    pipe = make_pipeline(FunctionTransformer(), Planted(TASKS))
    space = {"planted__a": [0.0, 1.0]}
    found = MultiTaskSearchCV(pipe, space, strategy="grid", **EXACT)
    found.fit(X, Y, sample_weight=np.ones(len(X)), events=LOG)
    assert (found.cv_results_["state"] == "complete").all()
    assert found.best_estimator_[-1].events_ is LOG
    assert found.best_estimator_[-1].weighted_
    found = MultiTaskSearchCV(Planted(TASKS), GRID, strategy="grid", error_score="raise", **EXACT)
    assert found.fit(X, Y, sample_weight=2.0).best_estimator_.weighted_


def test_folds_are_in_time_where_the_log_names_it() -> None:
    table = pd.DataFrame(X, columns=["x0", "x1"]).assign(day=np.arange(len(X)))
    spread = {"days": lambda model, X, Y: float(X["day"].max() - X["day"].min())}
    found = MultiTaskSearchCV(Planted(TASKS), {"a": [0.0]}, strategy="grid", metrics=spread, **EXACT)
    log = EventLog(table.assign(user=0), user="user", item="user", time="day")
    days = [found.fit(table, Y, events=told).cv_results_["mean_test_score_days"][0] for told in (None, log)]
    assert days[0] > 50
    assert days[1] < 20


class Told(TransformerMixin, BaseEstimator):
    """Changes nothing, and remembers the events that it was told of."""

    def fit(self, X: Any, y: Any = None, *, events: Any = None) -> "Told":
        self.events_ = events
        return self

    def transform(self, X: Any) -> Any:
        return X


def test_all_steps_of_a_pipeline_that_read_events_are_told_of_them() -> None:
    steps = [("told", Told()), ("rest", "passthrough"), ("scaler", StandardScaler()), ("planted", Planted(TASKS))]
    found = MultiTaskSearchCV(Pipeline(steps), {"planted__a": [0.0, 1.0]}, strategy="grid", **EXACT)
    found.fit(X, Y, events=LOG)
    assert all(found.best_estimator_[name].events_ is LOG for name in ("told", "planted"))


def test_metadata_routing_leads_weights_and_events_to_the_steps_that_ask() -> None:
    with config_context(enable_metadata_routing=True):
        model = Planted(TASKS).set_fit_request(sample_weight=True, events=False, plan=False)
        pipe = make_pipeline(Told().set_fit_request(events=True), model)
        found = MultiTaskSearchCV(pipe, {"planted__a": [0.0, 1.0]}, strategy="grid", error_score="raise", **EXACT)
        found.fit(X, Y, sample_weight=np.ones(len(X)), events=LOG)
    assert found.best_estimator_["told"].events_ is LOG
    assert found.best_estimator_["planted"].weighted_
    assert found.best_estimator_["planted"].events_ is None


def test_rows_without_a_label_do_not_count() -> None:
    holes = Y.copy()
    holes[::2, 0] = np.nan
    found = MultiTaskSearchCV(Planted(TASKS), GRID, strategy="grid", cv=3, random_state=0).fit(X, holes)
    assert not np.isnan(found.best_score_)
    assert found.best_score_ != search(GRID, strategy="grid", cv=3).best_score_
    assert found.best_estimator_.tasks_[0].name == "y0"


def test_folds_in_time_by_group_and_given() -> None:
    frame = pd.DataFrame(X, columns=["x", "z"]).assign(day=np.repeat(np.arange(20), 3), who=np.tile(np.arange(20), 3))
    model = PerTaskModel(TASKS, learner="linear", time="day")
    space = {"learner__regressor__alpha": [0.1, 10.0]}

    def n_splits(**settings: Any) -> int:
        return MultiTaskSearchCV(model, space, strategy="grid", random_state=0, **settings).fit(frame, Y).n_splits_

    assert n_splits(cv=3) == 3
    assert n_splits(cv=Temporal(2)) == 2
    assert n_splits(cv=TimeSeriesSplit(4)) == 4
    assert n_splits(cv=4, groups="who") == 4
    assert n_splits(cv=ShuffleSplit(1, random_state=0)) == 1
    given = make_folds(6, Y, random_state=0)
    found = MultiTaskSearchCV(model, space, strategy="grid").fit(frame, Y, plan=given)
    assert found.n_splits_ == 6


def test_queries_stay_whole() -> None:
    frame = pd.DataFrame(X, columns=["x", "z"]).assign(q=np.repeat(np.arange(12), 5))
    labels = pd.DataFrame({"rank": (frame["x"] > 0) * 1 + (frame["x"] > 1) * 1})
    model = PerTaskModel([Task("rank", "ranking", query="q")], learner=LightGBMLearner(max_iter=10), random_state=0)
    found = MultiTaskSearchCV(model, {"learner__num_leaves": [2, 5]}, strategy="grid", cv=2, random_state=0)
    assert found.fit(frame, labels).best_score_ > 0


def test_a_search_without_refit_only_reports() -> None:
    found = search(GRID, strategy="grid", refit=False)
    assert not hasattr(found, "best_estimator_")
    with pytest.raises(AttributeError, match="refit=False"):
        found.predict(X)
    chosen = search(GRID, strategy="grid", n_trials=None, refit=lambda results: results["rank_test_score_y0"].argmin())
    assert chosen.best_params_ == chosen.cv_results_["params"][chosen.best_index_]
    assert chosen.cv_results_["rank_test_score_y0"][chosen.best_index_] == 1
    with pytest.raises(NotFittedError):
        MultiTaskSearchCV(Planted(TASKS), GRID).predict(X)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"strategy": "hill"}, ValueError, "strategy must be one of grid, random, bayesian, genetic, got 'hill'"),
        ({"surrogate": "forest"}, ValueError, "surrogate must be one of tpe, gp"),
        ({"objective": "median"}, ValueError, "objective must be one of mean, worst, pareto"),
        ({"objective": {"y9": 1}}, ValueError, "unknown tasks: y9"),
        ({"n_trials": 0}, ValueError, "n_trials must be positive or None, got 0"),
        ({"time_budget": -1}, ValueError, "time_budget must be positive"),
        ({"error_score": "ignore"}, ValueError, 'error_score must be "raise" or NaN'),
        ({"error_score": 0}, ValueError, 'error_score must be "raise" or NaN, got 0'),
        ({"error_score": None}, ValueError, 'error_score must be "raise" or NaN, got None'),
        ({"pruning": "no"}, TypeError, "pruning must be True or False, got 'no'"),
        ({"pruning": None}, TypeError, "pruning must be True or False, got None"),
        ({"objective": {"y0": -1}}, ValueError, "objective must be finite, non-negative and not all zero"),
        ({"objective": {"y0": "much"}}, TypeError, "objective must be numbers, got {'y0': 'much'}"),
        ({"space": SPACE, "strategy": "grid"}, ValueError, "grid.*needs lists"),
        ({"cv": None}, TypeError, "cv must be an int"),
        ({"n_trials": "5"}, TypeError, "n_trials must be an integer or None, got '5'"),
        ({"time_budget": "10s"}, TypeError, "time_budget must be a number of seconds or None, got '10s'"),
        ({"storage": 3}, TypeError, "storage must be a file, a URL or None, got 3"),
        ({"refit": None}, ValueError, "refit must be True, False, a metric's or a task's name, or callable; got None"),
        ({"refit": "ap"}, ValueError, "refit names 'ap', which is neither a task nor a metric; there are y0, y1"),
        ({"metrics": ["r2"]}, TypeError, "metrics must be a dict name -> scorer"),
        ({"metrics": {"r2": 2}}, TypeError, r"metrics\['r2'\] must be a scorer .* got 2"),
        ({"metrics": {"auc": "area"}}, ValueError, "area"),
        ({"metrics": {"y0": "r2"}}, ValueError, "must differ in their names.*rename y0"),
        ({"metrics": {"a": "r2"}}, ValueError, "must differ in their names.*rename a"),
        ({"objective": {"y0": 0}}, ValueError, "not all zero"),
    ],
)
def test_bad_settings_are_refused_before_any_fit(settings: Any, error: Any, message: str, tmp_path: Any) -> None:
    log = tmp_path / "log"
    settings = {"space": GRID} | EXACT | settings
    with pytest.raises(error, match=message):
        MultiTaskSearchCV(Planted(TASKS, log=str(log)), **settings).fit(X, Y)
    assert not log.exists()


def test_what_is_no_multi_task_estimator_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a multi-task estimator such as PerTaskModel.*LogisticRegression"):
        MultiTaskSearchCV(LogisticRegression(), {"C": [1]}).fit(X, Y)


def test_the_declared_space_is_the_default() -> None:
    found = MultiTaskSearchCV(Planted(TASKS), strategy="grid", **EXACT).fit(X, Y)
    assert sorted(found.cv_results_["param_a"]) == [-1.0, 0.0, 1.0]


def test_a_task_that_no_fold_judges_does_not_choose() -> None:
    holes, fold = Y.copy(), np.arange(len(Y)) % 3 - 1
    holes[fold >= 0, 1] = np.nan
    found = MultiTaskSearchCV(Planted(TASKS), GRID, strategy="grid", cv=fold, random_state=0).fit(X, holes)
    assert found.pareto_front_["y1"].isna().all()
    assert len(found.pareto_front_) < len(found.cv_results_["params"])
    assert found.pick() == found.best_params_
    for settings in ({"strategy": "grid"}, {"strategy": "genetic"}, {"surrogate": "tpe"}, {"surrogate": "gp"}):
        space = GRID if "grid" in settings.values() else SPACE
        front = MultiTaskSearchCV(
            Planted(TASKS), space, objective="pareto", n_trials=12, cv=fold, random_state=0, **settings
        ).fit(X, holes)
        assert (front.cv_results_["state"] == "complete").all()
        assert front.best_params_["a"] == front.pareto_front_.loc[front.pareto_front_["y0"].idxmax(), "a"]


def test_folds_before_any_label_give_nobody_up() -> None:
    late = np.where(np.arange(60)[:, None] < 20, np.nan, Y)
    plan = FoldPlan(tuple((np.setdiff1d(np.arange(60), k), k) for k in np.split(np.arange(60), 3)), 60)
    settings = {"strategy": "grid", "n_trials": None, "random_state": 0}
    model = MultiTaskSearchCV(Planted(TASKS), {"a": np.linspace(-1, 1, 9)}, **settings).fit(X, late, plan=plan)
    assert not np.isnan(model.cv_results_["split1_test_score"]).any()
    assert "pruned" in model.cv_results_["state"]


def test_a_large_grid_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(_search_study, "grid_points", lambda d: made.append(1) or grid_points(d))
    found = search(GRID, strategy="grid", n_trials=None)
    assert len(made) == 1
    assert len({str(params) for params in found.cv_results_["params"]}) == 6


def test_the_best_may_be_that_of_a_metric_or_a_task() -> None:
    space = {"a": np.linspace(-0.4, 0.4, 9), "b": [0.0]}
    metrics = {"r2": multitask_scorer("r2", "y1"), "all": "r2"}
    for name in ("y1", "r2"):
        found = search(space, strategy="grid", n_trials=None, metrics=metrics, refit=name)
        assert found.best_params_["a"] == found.best_estimator_.a == 0.4
        assert found.best_score_ == found.cv_results_[f"mean_test_score_{name}"].max()
    assert found.cv_results_["mean_test_score_all"][found.best_index_] < found.best_score_


def test_a_fit_that_fails_leaves_the_search_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(GRID, strategy="grid")
    before, fit = dict(vars(found)), Planted.fit

    def fit_folds_only(self: Planted, X: Any, Y: Any, **settings: Any) -> Planted:
        if len(X) == 50:
            raise KeyboardInterrupt
        return fit(self, X, Y, **settings)

    monkeypatch.setattr(Planted, "fit", fit_folds_only)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X[:50], Y[:50])
    assert vars(found) == before
    found.set_params(refit=False).fit(X, Y)
    assert not hasattr(found, "best_estimator_")
    assert not hasattr(found, "refit_time_")


def test_what_cannot_be_pickled_needs_no_storage() -> None:
    pipe = make_pipeline(FunctionTransformer(lambda x: 2 * x), Planted(TASKS))
    space = {"functiontransformer__func": [lambda x: x, lambda x: x + 1], "planted__a": [0.0, 1.0]}
    found = MultiTaskSearchCV(pipe, space, strategy="grid", cv=2, random_state=0).fit(X, Y)
    assert found.best_params_["functiontransformer__func"](1) == 1
