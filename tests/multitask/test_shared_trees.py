"""Vector leaves: the built-in objectives' numbers, masks, shared structure, extra trees."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from scipy import sparse
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import roc_auc_score

from mtl_classic import PerTaskModel, SharedTreesModel, Task, Temporal
from mtl_classic._core.targets import encode_targets
from mtl_classic._core.task_weights import gradient_weights
from mtl_classic._core.tasks import Task as CoreTask
from mtl_classic.multitask._dense_features import DenseFeatures
from mtl_classic.multitask._entire_space import EntireSpace, Steps
from mtl_classic.multitask._extra_forest import grow
from mtl_classic.multitask._joint_objective import JointObjective, make_block
from mtl_classic.multitask._vector_trees import Stops, boost
from mtl_classic.multitask._workbench import open_workbench

PARAMS = {"tree_method": "hist", "max_depth": 3, "learning_rate": 0.2, "lambda": 1.0, "seed": 0, "nthread": 1}
VECTOR = {"multi_strategy": "multi_output_tree", "base_score": 0.0, "disable_default_eval_metric": True}


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("binary", "binary:logistic"), ("regression", "reg:squarederror"), ("count", "count:poisson")],
)
def test_one_task_without_a_mask_is_the_built_in_objective(kind: str, objective: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4)).astype(np.float32)
    y = {
        "binary": X[:, 0] > 0.3 * rng.normal(size=400),
        "regression": X[:, 0] * 3 + 7,
        "count": rng.poisson(np.exp(X[:, 0])),
    }
    label = y[kind].astype(np.float64)
    block = make_block(CoreTask("y", kind), 0, label, None)
    ours = JointObjective([block], gradient_weights(None, [block.task]))
    params = PARAMS | ({"max_delta_step": 0.7} if kind == "count" else {})
    booster = boost(xgb.QuantileDMatrix(X, np.zeros((400, 1))), ours, params | VECTOR, 15)
    scores = ours.blocks[0].scores(booster.inplace_predict(X, predict_type="margin").reshape(-1, 1).astype(np.float64))
    peer = xgb.train(
        params | {"objective": objective, "base_score": float(label.mean())}, xgb.QuantileDMatrix(X, label), 15
    )
    expected = peer.inplace_predict(X)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_one_multiclass_task_without_a_mask_is_the_built_in_softmax() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4)).astype(np.float32)
    y = np.argmax(X[:, :3] + 0.5 * rng.normal(size=(400, 3)), axis=1).astype(np.float64)
    block = replace(make_block(CoreTask("y", "multiclass"), 0, y, None, 3), base=np.zeros(3))  # XGBoost starts at 0
    ours = JointObjective([block], gradient_weights(None, [block.task]))
    booster = boost(xgb.QuantileDMatrix(X, np.zeros((400, 3))), ours, PARAMS | VECTOR, 15)
    scores = ours.blocks[0].scores(booster.inplace_predict(X, predict_type="margin").astype(np.float64))
    built_in = {"objective": "multi:softprob", "num_class": 3, "base_score": 0.0, "multi_strategy": "multi_output_tree"}
    expected = xgb.train(PARAMS | built_in, xgb.QuantileDMatrix(X, y), 15).inplace_predict(X)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_ranking_is_listwise_cross_entropy_which_xgboost_does_not_have() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 4)
    y = np.array([2, 0, 1, 0, 1, np.nan, 0, 2, 0, 0, 0, 0])  # a row without a label, a query without a relevant one
    block = make_block(CoreTask("y", "ranking", query="q"), 0, y, None, 0, groups)

    def loss(margins: np.ndarray) -> float:
        total = 0.0
        for query in range(3):
            rows = np.flatnonzero((groups == query) & ~np.isnan(y))
            gain = 2.0 ** y[rows] - 1
            if gain.sum():
                z = margins[rows, 0]
                total += -(gain / gain.sum() * (z - np.log(np.exp(z).sum()))).sum()
        return total

    margins = rng.normal(size=(12, 1))
    g, _ = block.derivatives(margins)
    for i in range(12):
        up, down = margins.copy(), margins.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        np.testing.assert_allclose(g[i, 0], (loss(up) - loss(down)) / 2e-6, rtol=1e-5, atol=1e-8)
    assert np.abs(g[:5]).min() > 1e-3
    assert (g[[5, 8, 9, 10, 11]] == 0).all()
    order = np.argsort(groups, kind="stable")[::-1]  # rows of a query need not be adjacent, nor queries in order
    again = make_block(CoreTask("y", "ranking", query="q"), 0, y[order], None, 0, groups[order])
    np.testing.assert_allclose(again.derivatives(margins[order])[0], g[order], rtol=1e-12)


def test_a_ranking_task_needs_its_queries() -> None:
    block = make_block(CoreTask("y", "ranking", query="q"), 0, np.array([0.0, 1.0]), None)
    with pytest.raises(ValueError, match="needs the query of each row"):
        block.derivatives(np.zeros((2, 1)))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "count", "ranking"])
def test_gradients_are_those_of_the_loss(kind: str) -> None:
    rng = np.random.default_rng(0)
    n, width = 12, 3 if kind == "multiclass" else 1
    y = rng.integers(0, 3 if kind in ("multiclass", "ranking", "count") else 2, n).astype(float)
    y[3] = np.nan
    groups = np.repeat(np.arange(3), 4) if kind == "ranking" else None
    task = CoreTask("y", kind, query="q") if kind == "ranking" else CoreTask("y", kind)
    block = make_block(task, 0, y, None, 3 if kind == "multiclass" else 0, groups)
    margins = rng.normal(size=(n, width))
    g, h = block.derivatives(margins)
    assert (g[3] == 0).all()
    assert (h >= 0).all()
    if kind in ("ranking", "regression"):
        return
    scale = {"binary": 1.0, "multiclass": 1.0, "count": 2.0}[kind] * block.dispersion
    for i in (0, 5, 11):
        for k in range(width):
            up, down = margins.copy(), margins.copy()
            up[i, k] += 1e-5
            down[i, k] -= 1e-5
            numeric = (block.loss(up) - block.loss(down)) / 2e-5 * (n - 1) / scale
            np.testing.assert_allclose(g[i, k], numeric, rtol=1e-4, atol=1e-7)


def shared_structure(n: int) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10))
    f = 1.5 * np.sign(X[:, 0]) * np.abs(X[:, 1]) + 1.5 * np.where(X[:, 2] > 0, X[:, 3], -X[:, 3])
    Y = pd.DataFrame(
        {
            "a": (f + rng.logistic(size=n) > 0) * 1.0,
            "c": f + rng.normal(size=n),
            "t": (f + rng.logistic(size=n) > 0) * 1.0,
        }
    )
    return X, Y


def test_few_labels_read_their_values_off_shared_splits() -> None:
    X, Y = shared_structure(6000)
    train, test = Y.iloc[:3000].copy(), Y.iloc[3000:]
    train.loc[np.arange(3000) % 10 > 0, "t"] = np.nan
    aucs = {}
    for name, model in {
        "alone": PerTaskModel(learner="xgboost", random_state=0),
        "shared": SharedTreesModel(learning_rate=0.1, max_leaves=15, random_state=0),
    }.items():
        aucs[name] = roc_auc_score(test["t"], model.fit(X[:3000], train).predict_scores(X[3000:])["t"])
    assert aucs["shared"] > aucs["alone"] + 0.03


@pytest.mark.parametrize("trees", ["boosted", "extra"])
def test_kinds_masks_weights_and_citizenship(trees: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "x": rng.normal(size=300),
            "few": rng.choice(list("abc"), 300),
            "many": rng.choice([f"s{i}" for i in range(20)], 300),
        }
    )
    Y = pd.DataFrame(
        {
            "flag": (X["x"] > 0) * 1.0,
            "amount": X["x"] + 1,
            "visits": rng.poisson(2, 300) * 1.0,
            "shade": rng.choice(["u", "v", "w"], 300),
        }
    )
    Y = Y.mask(rng.random(Y.shape) < 0.3)
    kinds = {"flag": "binary", "amount": "regression", "visits": "count", "shade": "multiclass"}
    weight = rng.uniform(0.5, 2, size=Y.shape)
    model = SharedTreesModel(kinds, trees=trees, max_iter=20, n_trees=20, random_state=0).fit(
        X, Y, sample_weight=weight
    )
    scores = model.predict_scores(X)
    assert np.isfinite(scores).all().all()
    assert roc_auc_score(Y["flag"].dropna(), scores["flag"][Y["flag"].notna()]) > 0.95
    pd.testing.assert_frame_equal(model.predict_scores(X.iloc[:7]), scores.iloc[:7])
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)
    pd.testing.assert_frame_equal(clone(model).fit(X, Y, sample_weight=weight).predict_scores(X), scores)


@pytest.mark.parametrize("funnel", ["direct", "product", "joint"])
def test_funnels_are_monotone(funnel: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    click = (X[:, 0] + rng.normal(size=600) > 0) * 1.0
    buy = click * (X[:, 1] + rng.normal(size=600) > 0)
    Y = pd.DataFrame({"click": click, "buy": buy, "spend": buy * np.exp(X[:, 2])})
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy")]
    scores = SharedTreesModel(tasks, funnel=funnel, max_iter=30, random_state=0).fit(X, Y).predict_scores(X)
    assert (scores["buy"] <= scores["click"] + 1e-12).all()
    assert roc_auc_score(buy, scores["buy"]) > 0.8


def make_steps(n: int) -> Steps:
    rng = np.random.default_rng(0)
    y = np.cumprod(rng.random((n, 3)) < 0.6, axis=1).astype(float)
    names = ("view", "cart", "buy")
    margins = {name: rng.normal(size=n) for name in names}
    paths = {"cart": ("cart", "view"), "buy": ("buy", "cart", "view")}
    return Steps(names, paths, margins, {c: (y[:, names.index(c)], rng.uniform(0.5, 2, n)) for c in paths})


def test_the_gradient_through_the_product_is_that_of_its_loss() -> None:
    steps = make_steps(8)
    moves = np.random.default_rng(1).normal(size=(8, 2))
    g, h = EntireSpace(steps).gradients(moves)
    for j in range(2):
        for i in range(8):
            up, down = moves.copy(), moves.copy()
            up[i, j] += 1e-5
            down[i, j] -= 1e-5
            numeric = (steps.losses(up) - steps.losses(down))[i, j] / 2e-5
            assert abs(numeric) > 1e-4
            np.testing.assert_allclose(g[i, j], numeric, rtol=1e-4)
    assert (h > 0).all()


def test_the_joint_funnel_is_the_product_where_validation_rows_are_not_the_better_for_it() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 4))
    p = 1 / (1 + np.exp(-X[:, :3]))
    Y = pd.DataFrame(np.cumprod(rng.random((1500, 3)) < p, axis=1).astype(float), columns=["view", "cart", "buy"])
    tasks = [Task("view", "binary"), Task("cart", "binary", given="view"), Task("buy", "binary", given="cart")]
    product, joint = (
        SharedTreesModel(tasks, funnel=funnel, max_iter=60, random_state=0).fit(X, Y) for funnel in ("product", "joint")
    )
    assert joint.rounds_ == product.rounds_
    assert joint.trees_ is not None
    np.testing.assert_array_equal(joint.predict_scores(X)["view"], product.predict_scores(X)["view"])
    assert (joint.predict_scores(X)["buy"] <= joint.predict_scores(X)["cart"]).all()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(joint)).predict_scores(X), joint.predict_scores(X))
    blind = [
        SharedTreesModel(tasks, funnel=funnel, max_iter=20, early_stopping=False, random_state=0).fit(X, Y)
        for funnel in ("product", "joint")
    ]
    pd.testing.assert_frame_equal(*(model.predict_scores(X) for model in blind))


class Falling:
    """A block whose loss falls for some rounds, then rises."""

    def __init__(self, until: int) -> None:
        self.y, self.until, self.round = np.zeros(3), until, -1

    def loss(self, margins: np.ndarray) -> float:
        self.round += 1
        return float(abs(self.until - self.round))


@pytest.mark.parametrize("n_tasks", [1, 4])
def test_tasks_are_read_at_their_own_rounds_in_one_pass(n_tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)).astype(np.float32)
    Y = X[:, :1] + rng.normal(size=(400, n_tasks))
    learner = {"max_iter": 12, "early_stopping": False, "random_state": 0}
    trees = SharedTreesModel({f"y{j}": "regression" for j in range(n_tasks)}, **learner).fit(X, Y).trees_
    trees = replace(trees, rounds=dict(zip(("y0", "y1", "y2", "y3")[:n_tasks], (9, 0, 12, 5), strict=False)))
    predict, ranges = xgb.Booster.inplace_predict, []

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        ranges.append(kwargs["iteration_range"])
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(xgb.Booster, "inplace_predict", spy)
    margins = trees.margins(X)
    assert ranges == ([(0, 5), (5, 9), (9, 12)] if n_tasks > 1 else [(0, 9)])
    assert list(margins) == list(trees.rounds)
    for block in trees.blocks:
        count = trees.rounds[block.task.name]
        alone: Any = np.zeros((400, n_tasks))
        if count:
            alone = predict(trees.booster, X, iteration_range=(0, count), predict_type="margin").reshape(400, -1)
        np.testing.assert_array_equal(margins[block.task.name], alone[:, block.columns] + block.base)
    assert trees.margins(X[:0])["y0"].shape == (0, 1)


def test_tasks_with_too_few_labels_do_not_keep_the_others_growing() -> None:
    stops = Stops([Falling(5), Falling(1000)], patience=3, trusted=[True, False])
    for epoch in range(20):
        stops.metric(np.zeros((3, 2)), None)
        if stops.after_iteration(None, epoch, {}):
            break
    assert epoch == 8


@pytest.mark.parametrize("trees", ["boosted", "extra"])
def test_labels_that_begin_among_the_validation_rows(trees: str) -> None:
    X, Y = shared_structure(200)
    late = Y.assign(c=Y["c"].mask(np.arange(200) < 190))
    options = {"max_iter": 5, "n_trees": 5, "time": "t", "fallback": "linear", "random_state": 0}
    table = pd.DataFrame(X).rename(columns=str).assign(t=np.arange(200))
    fitted = SharedTreesModel(trees=trees, **options).fit(table, late)
    assert np.isfinite(fitted.predict_scores(table).to_numpy()).all()


def test_few_rows_have_fewer_bins() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    Y = np.c_[X[:, 0] > 0, X[:, 1] > 0].astype(float)
    Y[400:] = np.nan
    own, eighty, most = (
        SharedTreesModel(max_bin=max_bin, max_iter=5, n_iter_no_change=5, random_state=0).fit(X, Y).predict_scores(X)
        for max_bin in (None, 80, 256)
    )
    np.testing.assert_array_equal(own, eighty)  # a fifth of the labelled rows
    assert not np.array_equal(own, most)


@pytest.mark.parametrize("trees", ["boosted", "extra"])
@pytest.mark.parametrize("refit", [True, False])
def test_a_task_is_given_back_to_a_learner_that_does_not_stop_early(trees: str, refit: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    Y = pd.DataFrame({"line": X[:, 0] + 0.1 * rng.normal(size=400), "step": (X[:, 1] > 0) * 1.0})
    options = {"trees": trees, "max_iter": 3, "n_trees": 5, "refit": refit, "validation_fraction": 0.3}
    fitted = SharedTreesModel(**options, fallback="linear", random_state=0).fit(X, Y)
    assert "alone" in fitted.fallbacks_["line"]
    own = PerTaskModel(learner="linear", random_state=0).fit(X, Y)  # on all rows
    pd.testing.assert_series_equal(fitted.predict_scores(X)["line"], own.predict_scores(X)["line"])


@pytest.mark.parametrize("cv", [3, np.int64(3), Temporal(3)])
def test_means_of_categories_are_those_of_earlier_rows(cv: Any) -> None:
    """Beside later rows of its category, the mean of a row would tell what nobody knew then."""
    rng = np.random.default_rng(0)
    shop = rng.integers(0, 20, 200)
    X = pd.DataFrame({"month": np.repeat(np.arange(4), 50), "shop": shop.astype(str)})
    task = Task("y", "regression")
    y = shop + rng.normal(size=200)
    model = SharedTreesModel([task], time="month")
    given = model._start_fit(X, y)

    def means(labels: Any) -> Any:
        bench = open_workbench(
            model, replace(given, targets=encode_targets(labels, [task])), plan=None, seed=0, learner="linear",
            early_stopping=False,
        )  # fmt: skip
        return DenseFeatures(2, cv, 0).fit_transform(bench.features, bench.targets, None, X["month"])

    known, changed = means(y), means(np.where(X["month"] < 2, y, -y))
    np.testing.assert_array_equal(known[:100], changed[:100])
    assert not np.array_equal(known, changed)


@pytest.mark.parametrize("weights", ["uncertainty", "dynamic", {"a": 2.0}])
def test_task_weights(weights: object) -> None:
    X, Y = shared_structure(400)
    model = SharedTreesModel(task_weights=weights, max_iter=10, random_state=0).fit(X, Y)
    assert np.isfinite(model.score(X, Y))


def test_choices_are_checked() -> None:
    X, Y = shared_structure(60)
    for options in (
        {"trees": "oak"},
        {"funnel": "pipe"},
        {"trees": "extra", "funnel": "joint"},
        {"task_weights": "loud"},
        {"reg_lambda": 0.0},
    ):
        with pytest.raises(ValueError, match="must be|has no gradients"):
            SharedTreesModel(**options).fit(X, Y)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_extra_trees_of_one_task_are_a_forest_of_its_labels(kind: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.float64)
    block = make_block(CoreTask("y", kind), 0, y, None)
    forest = grow(X, [block], n_trees=5, params=None, seed=1, threads=1)
    settings = {"min_samples_leaf": 2, "max_features": "sqrt", "random_state": 1}
    peer = ExtraTreesRegressor(5, **settings).fit(X, (y - y.mean()) / y.std())
    np.testing.assert_allclose(forest.predict(X)["y"], y.mean() + y.std() * peer.predict(X), rtol=1e-9, atol=1e-12)


def test_further_parameters_of_extra_trees_take_precedence() -> None:
    X, Y = shared_structure(60)
    params = {"n_estimators": 4, "random_state": 5, "n_jobs": 1, "min_samples_leaf": 9}
    model = SharedTreesModel(trees="extra", n_trees=9, params=params, random_state=0).fit(X, Y)
    trees = model.trees_.model.estimators_
    assert len(trees) == 4
    assert min(tree.tree_.n_node_samples.min() for tree in trees) == 9


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_nodes_of_extra_trees_hold_the_means_of_the_labelled_rows_that_pass_them(form: Any) -> None:
    rng = np.random.default_rng(0)
    X = form(rng.normal(size=(80, 5)).astype(np.float32))
    labels = np.where(rng.random((80, 2)) < 0.8, np.nan, rng.normal(size=(80, 2)))  # leaves without any label
    weights = np.where(np.isnan(labels), 0.0, rng.random((80, 2)))
    blocks = [make_block(CoreTask(name, "regression"), j, labels[:, j], weights[:, j]) for j, name in enumerate("ab")]
    forest = grow(X, blocks, n_trees=3, params=None, seed=0, threads=1)
    scaled = np.where(weights > 0, (labels - forest.centers) / forest.spreads, 0.0)
    n_empty = 0
    for tree in (model.tree_ for model in forest.model.estimators_):
        passing = tree.decision_path(X).toarray().T
        mass = passing @ weights
        above = {
            int(child): node for side in (tree.children_left, tree.children_right) for node, child in enumerate(side)
        }
        for node in range(tree.node_count):
            for k in range(2):
                told = mass[node, k] > 0
                mean = passing[node] @ (scaled * weights)[:, k] / mass[node, k] if told else None
                np.testing.assert_allclose(
                    tree.value[node, k, 0], mean if told else tree.value[above[node], k, 0], rtol=1e-10, atol=1e-12
                )
                n_empty += not told
    assert n_empty > 10


@pytest.mark.parametrize("fallback", ["boost", 5, {"no": "linear"}])
def test_a_wrong_fallback_is_refused_by_its_name(fallback: Any) -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises((TypeError, ValueError), match=r"^fallback\b"):
        SharedTreesModel({"y": "regression"}, max_iter=2, fallback=fallback).fit(X, X[:, 0])
