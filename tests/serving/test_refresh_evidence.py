"""How far new rows move a model: as far as they weigh beside the rows that it rests on."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LinearRegression

from mtl_classic import LightGBMLearner, MultiTaskModel, PerTaskModel, SklearnLearner, Task, XGBoostLearner, evaluate

TASKS = (
    Task("rare", "binary"),
    Task("n", "count"),
    Task("spend", "regression"),
    Task("kind", "multiclass"),
    Task("share", "binary", loss="kl"),
)
UNHELD: dict[str, Any] = {
    "lightgbm": LightGBMLearner(lambda_l2=0, params={"cat_l2": 0}),
    "xgboost": XGBoostLearner(reg_lambda=0),
}


def world(n: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers, a category and gaps; a label of each kind."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    X["shop"] = pd.Categorical(rng.choice(list("pqrs"), n))
    X.loc[rng.random(n) < 0.1, "d"] = np.nan
    score = X["a"] * X["b"] + np.sin(2 * X["c"])
    Y = pd.DataFrame({"rare": rng.random(n) < 1 / (1 + np.exp(2.5 - score)), "n": rng.poisson(np.exp(score / 2 - 0.5))})
    Y["spend"] = 50 + 10 * score + rng.normal(scale=15, size=n)
    Y["kind"] = np.array(["p", "q", "r"])[np.clip((score + rng.normal(size=n) + 1.5).astype(int), 0, 2)]
    Y["share"] = 1 / (1 + np.exp(-score))
    return X, Y.astype({"rare": float, "n": float})


def fitted(X: Any, Y: Any, learner: Any, tasks: Any = TASKS) -> MultiTaskModel:
    model = PerTaskModel(tasks, learner=learner, random_state=0)
    return MultiTaskModel(tasks, structure=model, learner=learner, latent=None, random_state=0).fit(X, Y)


@pytest.mark.parametrize("decay", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("learner", UNHELD)
def test_the_rows_of_the_fit_once_more_move_nothing(learner: str, decay: float) -> None:
    X, Y = world(1000)
    model = fitted(X, Y, UNHELD[learner])
    before, after = model.predict_scores(X), model.refresh(X, Y, decay=decay).predict_scores(X)
    assert ((after - before).abs().max() < 1e-4 * before.std()).all()


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost"])
def test_a_weight_of_two_is_two_rows(learner: str) -> None:
    X, Y = world(1500)
    new, twice = slice(1000, 1500), np.r_[1000:1500, 1000:1500]
    model = fitted(X[:1000], Y[:1000], learner)
    weighted = model.refresh(X[new], Y[new], sample_weight=np.full(500, 2.0)).predict_scores(X)
    repeated = model.refresh(X.iloc[twice], Y.iloc[twice]).predict_scores(X)
    pd.testing.assert_frame_equal(weighted, repeated, rtol=1e-4)


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost", "extra_trees", "linear"])
def test_a_world_that_stays_is_not_forgotten(learner: str) -> None:
    X, Y = world(6000)
    tasks = TASKS[:3]
    first = model = fitted(X[:3000], Y[:3000], learner, tasks)
    for night in range(20):
        rows = slice(3000 + 50 * night, 3050 + 50 * night)
        model = model.refresh(X[rows], Y[rows])
    table = evaluate(model, X[4000:], Y[4000:], baseline=first, metrics=["loss"])
    assert (table["value"] < 1.02 * table["baseline"]).all()


def test_leaves_of_a_forest_are_means_of_old_and_new() -> None:
    X, Y = world(900)
    trees = SklearnLearner(regressor=ExtraTreesRegressor(2, max_leaf_nodes=6))
    columns, tasks = X[["a", "b", "c"]], (TASKS[2],)
    model = fitted(columns[:600], Y["spend"][:600], trees, tasks)
    moved = model.refresh(columns[600:], Y["spend"][600:], decay=0.5).refresh(columns[:90], Y["spend"][:90], decay=0.5)
    weight = np.r_[np.full(600, 0.25), np.full(300, 0.5), np.ones(90)]
    rows, forest = np.r_[0:900, 0:90], moved.pipeline_.steps[-1][1].fits_["spend"].model
    means = []
    for tree in (member.tree_ for member in forest.estimators_):
        leaf = tree.apply(columns.to_numpy(np.float32))
        y, of = Y["spend"].to_numpy()[rows], leaf[rows]
        means.append((np.bincount(of, weight * y) / np.maximum(np.bincount(of, weight), 1e-9))[leaf])
        assert tree.weighted_n_node_samples[0] == pytest.approx(weight.sum())
    np.testing.assert_allclose(moved.predict(columns).ravel(), np.mean(means, axis=0))


def test_coefficients_weigh_the_rows() -> None:
    X, Y = world(1000)
    learner = SklearnLearner(regressor=LinearRegression())
    columns, tasks = X[["a", "b", "c"]], (TASKS[2],)
    old = fitted(columns[:700], Y["spend"][:700], learner, tasks)
    fit = old.pipeline_.steps[-1][1].fits_["spend"]
    new = old.refresh(columns[700:], Y["spend"][700:], decay=0.5).pipeline_.steps[-1][1].fits_["spend"]
    alone = LinearRegression().fit(fit.transformer.transform(columns[700:].to_numpy()), Y["spend"][700:])
    np.testing.assert_allclose(new.model.coef_, (350 * fit.model.coef_ + 300 * alone.coef_) / 650)
    assert new.evidence == 650


@pytest.mark.parametrize(
    "learner",
    [
        LightGBMLearner(params={"objective": "huber"}),
        LightGBMLearner(params={"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
        LightGBMLearner(params={"reg_sqrt": True}),
        XGBoostLearner(params={"objective": "reg:tweedie"}),
        XGBoostLearner(params={"booster": "dart"}),
        XGBoostLearner(params={"num_parallel_tree": 2}),
    ],
    ids=["huber", "forest", "roots", "tweedie", "dart", "parallel"],
)
def test_what_the_library_has_to_refit_weighs_the_rows_too(learner: Any) -> None:
    X, Y = world(1500)
    columns, tasks, y = X[["a", "b", "c"]], (TASKS[2],), Y["spend"].clip(lower=0.0)
    model = fitted(columns[:1000], y[:1000], learner, tasks)
    before = model.predict_scores(columns)
    few, many = (model.refresh(columns[1000:n], y[1000:n] + 20) for n in (1010, 1500))
    shifts = [(scores.predict_scores(columns) - before).abs().mean().item() for scores in (few, many)]
    assert 0 < shifts[0] < 0.2 * shifts[1]
    if isinstance(learner, LightGBMLearner):
        assert many.pipeline_.steps[-1][1].fits_["spend"].evidence == pytest.approx(0.95 * 1000 + 500)


def test_leaves_that_hold_lines_are_not_moved() -> None:
    X, Y = world(600)
    model = fitted(X[["a", "b"]], Y["spend"], LightGBMLearner(params={"linear_tree": True}), (TASKS[2],))
    with pytest.raises(TypeError, match='but lines; how="rounds" can'):
        model.refresh(X[["a", "b"]], Y["spend"])
    assert model.refresh(X[["a", "b"]], Y["spend"], how="rounds").refreshed_["outcome"].tolist() == ["rounds"]


def test_a_model_that_does_not_know_what_it_rests_on() -> None:
    X, Y = world(1000)
    columns, tasks = X[["a", "b", "c"]], (TASKS[2],)
    model = fitted(columns[:700], Y["spend"][:700], "linear", tasks)
    fit = model.pipeline_.steps[-1][1].fits_["spend"]
    del fit.__dict__["evidence"]  # as in a pickle of before it was counted
    new = model.refresh(columns[700:], Y["spend"][700:], decay=1.0).pipeline_.steps[-1][1].fits_["spend"]
    np.testing.assert_allclose(new.model.coef_, fit.model.coef_)
    assert new.evidence is None


def test_inner_nodes_rest_on_what_their_leaves_do() -> None:
    X, Y = world(1200)
    model = fitted(X[:1000], Y["rare"][:1000], "xgboost", TASKS[:1]).refresh(X[1000:], Y["rare"][1000:])
    booster = model.pipeline_.steps[-1][1].fits_["rare"].booster
    tree = booster.trees_to_dataframe().query("Tree == 0")
    leaves, root = tree[tree["Feature"] == "Leaf"], tree[tree["Node"] == 0]
    assert leaves["Cover"].sum() == pytest.approx(root["Cover"].item(), rel=1e-4)
