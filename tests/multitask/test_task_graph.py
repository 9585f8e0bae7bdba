"""Edges that are given, edges that are found, and the peers that a chain must agree with."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, TimeSeriesSplit
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import (
    LightGBMLearner,
    MultiTaskModel,
    PerTaskModel,
    SharedTreesModel,
    Task,
    TaskError,
    TaskGraphModel,
    Temporal,
    UnusedColumnsWarning,
    evaluate,
    multitask_scorer,
    task_affinity,
)
from mtl_classic.metrics import ndcg
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._linear_combiner import fit_linear
from tests.ensemble.tables import ranked


def planted(n: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, pd.DataFrame]:
    """Build two pairs of tasks that depend on the same sum (the second with the opposite sign), and a coin."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 12))
    first, second = X[:, :6].sum(axis=1) / 2, X[:, 6:].sum(axis=1) / 2
    Y = {
        "a": first + noise * rng.logistic(size=n) > 0,
        "anti": -first + noise * rng.logistic(size=n) > 0,
        "b": second + noise * rng.logistic(size=n) > 0,
        "coin": rng.random(n) < 0.5,
    }
    return X, pd.DataFrame(Y).astype(float)


def test_the_unit_of_the_labels_does_not_change_the_order_found() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    noise = rng.normal(size=(300, 2)) * [3.0, 0.5]
    Y = pd.DataFrame({"hard": X[:, 0] + noise[:, 0], "easy": X[:, 1] + noise[:, 1], "up": (X[:, 2] > 0) * 1.0})
    kinds = {"hard": "regression", "easy": "regression", "up": "binary"}
    for unit in (1.0, 2.0**-20):
        model = TaskGraphModel(kinds, learner="linear", edges="serial", order="found", random_state=0)
        model.fit(X, Y.assign(hard=unit * Y["hard"]))
        assert model.order_[-1] == "hard"


def test_early_rows_without_weight_are_no_folds() -> None:
    X, Y = planted(300)
    table = pd.DataFrame(X).rename(columns=str).assign(day=np.arange(300))
    weight = (np.arange(300) >= 150) * 1.0
    options = {"learner": "linear", "time": "day", "cv": 3, "random_state": 0}
    graph = TaskGraphModel(edges=[("a", "b")], fallback=False, **options).fit(table, Y, sample_weight=weight)
    assert graph.edges_ == (("a", "b", "base"),)
    late = Y[weight > 0].reindex(Y.index)  # weight 0 and no label are the same
    expected = TaskGraphModel(edges=[("a", "b")], fallback=False, **options).fit(table, late)
    pd.testing.assert_frame_equal(graph.predict_scores(table), expected.predict_scores(table))


def test_a_chain_of_classifiers_gives_scikit_learns_numbers() -> None:
    X, Y = planted(300)
    X = X.astype(np.float32).astype(np.float64)
    names, folds = ["a", "b", "anti"], KFold(3)
    peer = ClassifierChain(
        make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000)),
        cv=folds,
        chain_method="predict_proba",
    ).fit(X, Y[names].to_numpy())
    ours = TaskGraphModel(
        learner=LogisticRegression(tol=1e-10, max_iter=1000),
        edges="serial",
        combiner="learner",
        scale="probability",
        fallback=False,
        cv=folds,
    ).fit(X, Y[names])
    assert np.ptp(peer.predict_proba(X)) > 0.5
    np.testing.assert_allclose(ours.predict_scores(X), peer.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_a_chain_finds_its_order_from_the_best_predicted_task_on() -> None:
    X, Y = planted(2000, noise=0.3)
    Y["sharp"] = (X[:, 0] > 0) * 1.0
    Y["hours"] = X[:, 1] + 3 * np.random.default_rng(0).normal(size=2000)
    kinds = dict.fromkeys(Y, "binary") | {"hours": "regression"}
    settings = {"edges": "serial", "learner": "linear", "cv": 3, "fallback": False, "random_state": 0}
    names = ["coin", "hours", "b", "sharp"]
    model = TaskGraphModel({name: kinds[name] for name in names}, order="found", **settings).fit(X, Y[names])
    assert model.order_[0] == "sharp"
    assert set(model.order_[2:]) == {"coin", "hours"}
    places = {name: k for k, name in enumerate(model.order_)}
    assert model.edges_
    assert all(places[source] < places[target] and level == "final" for source, target, level in model.edges_)
    shuffled = ["b", "sharp", "coin", "hours"]
    again = TaskGraphModel({name: kinds[name] for name in shuffled}, order="found", **settings).fit(X, Y[shuffled])
    assert again.order_ == model.order_
    own = TaskGraphModel({name: kinds[name] for name in names}, order=shuffled, **settings).fit(X, Y[names])
    assert own.order_ == tuple(shuffled)
    assert TaskGraphModel({n: kinds[n] for n in names}, **settings).fit(X, Y[names]).order_ == tuple(names)
    with pytest.raises(ValueError, match="order must be"):
        TaskGraphModel({n: kinds[n] for n in names}, order="best", **settings).fit(X, Y[names])
    with pytest.raises(TaskError, match="every task once"):
        TaskGraphModel({n: kinds[n] for n in names}, order=["b"], **settings).fit(X, Y[names])


def test_a_chain_of_regressors_gives_scikit_learns_numbers() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32).astype(np.float64)
    Y = np.column_stack([X[:, 0] ** 2, X[:, 0] ** 2 + X[:, 1], X[:, 2] ** 3]) + rng.normal(size=(200, 3))
    peer = RegressorChain(LinearRegression(), cv=KFold(3)).fit(X, Y)
    kinds = {"y0": "regression", "y1": "regression", "y2": "regression"}
    ours = TaskGraphModel(
        kinds,
        learner=LinearRegression(),
        edges="serial",
        combiner="learner",
        scale="probability",
        fallback=False,
        cv=KFold(3),
    ).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-3, atol=1e-4)


def test_final_edges_in_a_cycle_are_refused_by_name() -> None:
    X, Y = planted(60)
    edges = [("a", "b", "final"), ("b", "anti", "final"), ("anti", "a", "final")]
    with pytest.raises(TaskError, match="cycle: .*a.*->"):
        TaskGraphModel(edges=edges).fit(X, Y)


@pytest.mark.parametrize(
    ("edges", "error", "match"),
    [
        ([("a", "nobody")], TaskError, "nobody"),
        ([("a", "a")], TaskError, "to itself"),
        ("round", ValueError, "edges must be"),
        ([("a", "b", "middle")], ValueError, "An edge is"),
    ],
)
def test_edges_that_make_no_sense_are_refused(edges: Any, error: type[Exception], match: str) -> None:
    X, Y = planted(60)
    with pytest.raises(error, match=match):
        TaskGraphModel(edges=edges).fit(X, Y)


@pytest.mark.parametrize(
    "given",
    [{"edges": [["a", "anti"], ["anti", "b"]]}, {"edges": "serial", "order": ["b", "a", "coin", "anti"]}],
    ids=["edges", "order"],
)
def test_lists_may_be_arrays(given: dict[str, Any]) -> None:
    X, Y = planted(200)
    arrays = {name: value if isinstance(value, str) else np.array(value) for name, value in given.items()}
    one, two = (TaskGraphModel(learner="linear", cv=2, random_state=0, **own).fit(X, Y) for own in (given, arrays))
    assert two.edges_ == one.edges_
    pd.testing.assert_frame_equal(two.predict_scores(X), one.predict_scores(X))


def test_base_edges_may_be_mutual() -> None:
    X, Y = planted(300)
    model = TaskGraphModel(edges=[("a", "anti"), ("anti", "a")], learner="linear", fallback=False, cv=3).fit(X, Y)
    assert len(model.edges_) == 2
    assert '"a" -> "anti"' in model.to_dot()


def test_a_learner_reads_both_levels_of_one_source() -> None:
    X, Y = planted(300)
    edges = [("a", "anti", level) for level in ("base", "final")]
    model = TaskGraphModel(edges=edges, learner="linear", combiner="learner", fallback=False, cv=3).fit(X, Y)
    assert model.combiners_["anti"].n_features_in_ == X.shape[1] + 2


def test_few_labels_gain_from_a_labelled_sibling() -> None:
    X, Y = planted(4000, noise=0.5)
    train, test = Y.iloc[:2000].copy(), Y.iloc[2000:]
    train.loc[60:, "anti"] = np.nan
    aucs = []
    for edges in ([], [("a", "anti")]):
        model = TaskGraphModel(edges=edges, learner="linear", cv=5, random_state=0).fit(X[:2000], train)
        aucs.append(roc_auc_score(test["anti"], model.predict_scores(X[2000:])["anti"]))
    assert aucs[1] > aucs[0] + 0.01


def test_dynamic_leaves_strangers_alone() -> None:
    X, Y = planted(1500)
    model = TaskGraphModel(edges="dynamic", learner="linear", cv=3, random_state=0).fit(X, Y)
    assert not [edge for edge in model.edges_ if "coin" in edge]
    assert set(model.sharing_) == set(Y)


def test_no_edges_is_a_learner_per_task() -> None:
    X, Y = planted(200)
    model = TaskGraphModel(edges=[], learner="linear", random_state=0).fit(X, Y)
    pd.testing.assert_frame_equal(model.predict_scores(X), model.base_.predict_scores(X))


@pytest.mark.parametrize("combiner", ["linear", "learner"])
def test_mixed_kinds_with_missing_labels(combiner: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    Y = pd.DataFrame(
        {
            "flag": (X[:, 0] > 0) * 1.0,
            "amount": X[:, 0] + rng.normal(size=400),
            "visits": rng.poisson(np.exp(0.3 * X[:, 0])) * 1.0,
            "shade": rng.choice(["x", "y", "z"], 400),
        }
    )
    Y = Y.mask(rng.random(Y.shape) < 0.3)
    kinds = {"flag": "binary", "amount": "regression", "visits": "count", "shade": "multiclass"}
    before = X.copy(), Y.copy()
    model = TaskGraphModel(kinds, edges="dense", combiner=combiner, learner="linear", cv=3, random_state=0).fit(X, Y)
    scores = model.predict_scores(X)
    assert np.isfinite(scores).all().all()
    np.testing.assert_allclose(scores.filter(like="shade").sum(axis=1), 1.0)
    np.testing.assert_allclose(model.predict_scores(X[:1]), scores.iloc[:1], rtol=1e-6)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)
    pd.testing.assert_frame_equal(clone(model).fit(X, Y).predict_scores(X), scores)
    np.testing.assert_array_equal(X, before[0])
    pd.testing.assert_frame_equal(Y, before[1])


@pytest.mark.parametrize("edges", ["dynamic", [("spend", "grade"), ("buy", "grade")]])
def test_a_ranking_is_helped_by_a_line(edges: Any) -> None:
    X, Y, tasks = ranked(480)
    few = Y.assign(grade=Y["grade"].where(X["query"] % 4 == 0))
    train = X["query"] < 400
    model = TaskGraphModel(tasks, edges=edges, cv=X["query"][train].to_numpy() // 4 % 3, random_state=0)
    model.fit(X[train], few[train])
    assert {target for _, target, _ in model.edges_} >= {"grade"}
    grade, query, rows = Y["grade"][~train], X["query"][~train], X[~train]
    both, alone = model.predict_scores(rows)["grade"], model.base_.predict_scores(rows)["grade"]
    assert ndcg(grade, both, query, k=5) > ndcg(grade, alone, query, k=5) + 0.01


def test_affinity_speaks_of_rankings_too() -> None:
    X, Y, tasks = ranked()
    table = task_affinity(
        X, Y, model=TaskGraphModel(tasks, learner={"grade": "lightgbm", "buy": "linear", "spend": "linear"}, cv=3)
    )
    assert table.xs("grade", level="target").index.tolist() == ["buy", "spend"]
    assert np.isfinite(table["gain"]).all()


def test_the_line_of_a_ranking_minimizes_its_formula() -> None:
    rng = np.random.default_rng(0)
    columns, groups = rng.normal(1, 3, size=(120, 2)), rng.permutation(np.repeat(np.arange(12), 10))
    y = np.clip(np.round(columns[:, 0] / 2 + rng.normal(size=120)), 0, 4)
    weight = rng.uniform(0.2, 3, 12)[groups]
    scaled = (columns - np.average(columns, axis=0, weights=weight)) / np.sqrt(
        np.cov(columns.T, aweights=weight, ddof=0).diagonal()
    )

    def objective(beta: Any) -> float:
        total = 1.5 / 2 * float(np.sum(np.square(beta)))
        for query in range(12):
            rows = groups == query
            gain = 2 ** y[rows] - 1
            score = scaled[rows] @ beta
            total -= weight[rows][0] * float(gain / max(gain.sum(), 1e-9) @ (score - np.log(np.exp(score).sum())))
        return total

    line = fit_linear("ranking", columns, y, weight, penalty=1.5, groups=groups)
    best = minimize(objective, np.zeros(2))
    assert line.coefficients[0] == 0
    np.testing.assert_allclose(line.coefficients[1:], best.x, atol=1e-3)
    order = np.argsort(line.predict(columns)) == np.argsort(scaled @ best.x)
    assert order.mean() > 0.95


def test_a_funnel_stays_monotone() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    click = (X[:, 0] + rng.normal(size=500) > 0) * 1.0
    Y = pd.DataFrame({"click": click, "buy": click * (X[:, 1] > 0)})
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    scores = TaskGraphModel(tasks, edges="dense", learner="linear", cv=3, random_state=0).fit(X, Y).predict_scores(X)
    assert (scores["buy"] <= scores["click"] + 1e-12).all()


def test_sharing_harms_no_task_of_a_conflict() -> None:
    X, Y = planted(3000)
    train, test = np.arange(2000), np.arange(2000, 3000)
    auto = MultiTaskModel(random_state=0).fit(X[train], Y.iloc[train])
    graph = TaskGraphModel(cv=3, random_state=0).fit(X[train], Y.iloc[train])
    shared = SharedTreesModel(fallback="lightgbm", random_state=0).fit(X[train], Y.iloc[train])
    alone = PerTaskModel(random_state=auto.pipeline_[-1].random_state).fit(X[train], Y.iloc[train])
    for model, baseline in ((auto, alone), (graph, graph.base_), (shared, alone)):  # seeds differ more than structures
        found = evaluate(model, X[test], Y.iloc[test], baseline=baseline, metrics=["loss"])
        assert not (found["verdict"] == "worse").any(), model


def test_classes_that_some_folds_never_saw_keep_their_columns() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    fold = np.arange(600) * 3 // 600
    why = np.where((fold == 0) & (X[:, 1] > 0), "a", np.where(X[:, 0] > 0, "b", "c"))
    Y = pd.DataFrame({"why": why, "liked": X[:, 0] > 0, "spend": X[:, 2] + 0.1 * rng.normal(size=600)})
    model = TaskGraphModel(edges="dense", fallback=False, learner="linear", cv=fold, random_state=0).fit(X, Y)
    alone, rows = model.base_, fold > 0
    for task in ("liked", "spend"):
        assert multitask_scorer(task=task)(model, X, Y) > multitask_scorer(task=task)(alone, X, Y) - 0.05
    assert (model.predict(X)["why"] == why)[rows].mean() > (alone.predict(X)["why"] == why)[rows].mean() - 0.05


@pytest.mark.parametrize("combiner", ["linear", "learner"])
@pytest.mark.parametrize("cv", [TimeSeriesSplit(3), Temporal(3)], ids=str)
def test_folds_that_look_forward(combiner: str, cv: Any) -> None:
    """A line for one fold is drawn through earlier ones: later ones have seen its labels."""
    X, Y = planted(400)
    table = pd.DataFrame(X).add_prefix("x").assign(day=np.arange(400))
    Y = Y.assign(kind=np.where(X[:, 0] > 0, "more", "less"))
    model = TaskGraphModel(edges="serial", combiner=combiner, learner="linear", cv=cv, time="day", random_state=0).fit(
        table, Y
    )
    assert np.isfinite(model.predict_scores(table)).all().all()
    assert model.edges_


def test_a_class_that_the_first_fold_in_time_lacks() -> None:
    X, Y = planted(400)
    Y = Y.astype(bool)
    late = (np.arange(400) > 150) & Y["b"]
    labels = pd.DataFrame({"reason": np.where(late, "size", np.where(Y["a"], "fit", "colour")), "back": late & Y["a"]})
    tasks = [Task("reason", "multiclass"), Task("back", "binary", given=("reason", "size"))]
    table = pd.DataFrame(X).add_prefix("x").assign(day=np.arange(400))
    model = TaskGraphModel(tasks, edges="serial", learner="linear", cv=3, time="day", random_state=0)
    scores = model.fit(table, labels).predict_scores(table)
    assert roc_auc_score(labels["back"][151:], scores["back"][151:]) > 0.6
    assert (scores["back"] <= scores["reason=size"]).all()


@pytest.mark.parametrize("combiner", ["linear", "learner"])
def test_combinations_that_no_fold_can_judge_are_not_used(combiner: str) -> None:
    X, Y = planted(300)
    plan = FoldPlan(((np.arange(200), np.arange(200, 300)),), 300)
    model = TaskGraphModel(edges=[("anti", "a")], combiner=combiner, learner="linear", random_state=0)
    assert model.fit(X, Y, plan=plan).edges_ == ()
    assert "no fold has scored rows" in model.sharing_["a"]
    assert model.set_params(fallback=False).fit(X, Y, plan=plan).edges_


def test_lines_wait_for_labels() -> None:
    """A column that a later task reads knows no label that was not yet known at its row's time."""
    X, Y = planted(400)
    table = pd.DataFrame(X).add_prefix("x").assign(day=np.arange(400))
    tasks = [Task(name, "binary", delay=40) for name in Y]
    start = 400 * 3 // 4  # of the last of three folds

    def crossed(labels: pd.DataFrame) -> np.ndarray:
        graph = TaskGraphModel(tasks, learner="linear", cv=3, time="day", random_state=0)
        given = graph._start_fit(table, labels)
        held = graph._out_of_fold(graph._learners(graph.tasks_, "linear", 0), given, labels, graph._plan(given, 0))
        return held.cross(graph.tasks_[1], held.columns(graph.tasks_[1], [("a", "anti", "base")]))

    Y = Y.astype(float)
    other = Y.copy()
    other.iloc[start - 39 :] = 1 - other.iloc[start - 39 :]
    np.testing.assert_array_equal(crossed(other), crossed(Y))


def test_no_rows() -> None:
    X, Y = planted(200)
    Y = Y.assign(kind=np.digitize(X[:, 0], [-0.5, 0.5]))
    kinds = {"a": "binary", "anti": "binary", "kind": "multiclass"}
    model = TaskGraphModel(kinds, learner="linear", edges="serial", cv=2, random_state=0).fit(X, Y)
    assert model.predict_scores(X[:0]).shape == (0, 5)


@pytest.mark.parametrize("scale", [1 / 300, 1e-9])
def test_weights_without_a_scale_of_their_own(scale: float) -> None:
    X, Y = planted(300)
    graph = TaskGraphModel(edges="dense", learner="linear", fallback=False, cv=2, random_state=0)
    plain = graph.fit(X, Y).predict_scores(X)
    light = clone(graph).fit(X, Y, sample_weight=np.full(300, scale)).predict_scores(X)
    np.testing.assert_allclose(light, plain, rtol=1e-4)


@pytest.mark.parametrize("combiner", ["linear", "learner"])
def test_columns_that_are_no_features_are_told_once(combiner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.random(600), "text": [f"about {k}" for k in range(600)]})
    Y = pd.DataFrame({name: rng.random(600) < X["x"] for name in ("a", "b")})
    model = TaskGraphModel(learner=LightGBMLearner(max_iter=3), combiner=combiner, random_state=0)
    with pytest.warns(UnusedColumnsWarning) as told:
        model.fit(X, Y)
    assert ["(600 values)" in str(warning.message) for warning in told] == [True]
