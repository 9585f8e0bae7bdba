"""Importance finds the planted columns, per task, whatever the table."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import (
    AveragingEnsemble,
    FunnelModel,
    MultiTaskModel,
    PerTaskModel,
    Task,
    TaskGraphModel,
    make_funnel,
    permutation_importance,
)
from mtl_classic._core.exceptions import FunnelConflictError
from mtl_classic.metrics import losses

N = 1200
FIT, NEW = slice(0, 700), slice(700, N)


@pytest.fixture(name="X", scope="module")
def columns() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(N, 4)), columns=["price", "stars", "twin", "noise"])


@pytest.fixture(name="Y", scope="module")
def labels(X: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    buy = (X["price"] < rng.logistic(size=N) / 2).astype(float)
    Y = pd.DataFrame({"buy": buy, "rating": X["stars"] + rng.normal(size=N)})
    return Y.mask(rng.random(Y.shape) < 0.2)


@pytest.fixture(scope="module")
def model(X: pd.DataFrame, Y: pd.DataFrame) -> Any:
    return PerTaskModel({"buy": "binary", "rating": "regression"}, random_state=0).fit(X[FIT], Y[FIT])


def test_each_task_lives_on_its_own_columns(model: Any, X: pd.DataFrame, Y: pd.DataFrame) -> None:
    before = X.copy(), Y.copy()
    table = permutation_importance(model, X[NEW], Y[NEW])
    assert table.loc["buy"].index[0] == "price"
    assert table.loc["rating"].index[0] == "stars"
    verdicts = table["verdict"].unstack()
    assert verdicts.loc["buy", "price"] == verdicts.loc["rating", "stars"] == "helps"
    assert "helps" not in [verdicts.loc["buy", "stars"], verdicts.loc["rating", "price"], *verdicts["noise"]]
    assert ((table["low"] <= table["importance"]) & (table["importance"] <= table["high"])).all()
    pd.testing.assert_frame_equal(X, before[0])
    pd.testing.assert_frame_equal(Y, before[1])


def test_the_number_is_the_rise_of_the_loss(model: Any, X: pd.DataFrame, Y: pd.DataFrame) -> None:
    new, y = X[NEW], Y["rating"][NEW].to_numpy()
    table = permutation_importance(model, new, Y[NEW], columns=["stars"], n_repeats=40, random_state=3)
    rng = np.random.default_rng(0)
    own = np.nanmean(losses("regression", y, model.predict_scores(new)["rating"]))
    assert own > 0.5
    rises = [
        np.nanmean(
            losses("regression", y, model.predict_scores(new.assign(stars=rng.permutation(new["stars"])))["rating"])
        )
        / own
        - 1
        for _ in range(40)
    ]
    assert table.loc[("rating", "stars"), "importance"] == pytest.approx(np.mean(rises), rel=0.05)


def test_a_column_more_changes_no_other(model: Any, X: pd.DataFrame, Y: pd.DataFrame) -> None:
    alone = permutation_importance(model, X[NEW], Y[NEW], columns=["stars"])
    beside = permutation_importance(model, X[NEW], Y[NEW], columns=["noise", "stars"])
    same = ["importance", "low", "high"]
    pd.testing.assert_series_equal(alone.loc[("rating", "stars"), same], beside.loc[("rating", "stars"), same])


def test_columns_that_tell_the_same_are_shuffled_together(X: pd.DataFrame, Y: pd.DataFrame) -> None:
    X = X.assign(twin=X["stars"])
    model = PerTaskModel({"rating": "regression"}, learner="extra_trees", random_state=0)
    model.fit(X[FIT], Y[["rating"]][FIT])
    asked = {"stars": ["stars"], "both": ["stars", "twin"]}
    table = permutation_importance(model, X[NEW], Y[["rating"]][NEW], columns=asked)["importance"]
    assert table["rating", "both"] > 1.5 * table["rating", "stars"] > 0


def test_arrays_and_sparse_matrices_by_position(X: pd.DataFrame, Y: pd.DataFrame) -> None:
    dense = X.to_numpy() * (X.to_numpy() > -0.5)
    model = PerTaskModel({"buy": "binary", "rating": "regression"}, random_state=0).fit(dense[FIT], Y[FIT])
    array = permutation_importance(model, dense[NEW], Y[NEW])
    pd.testing.assert_frame_equal(array, permutation_importance(model, sparse.csr_matrix(dense[NEW]), Y[NEW]))
    assert array.loc["rating"].index[0] == 1


def test_pipelines_are_asked_for_the_columns_that_go_in(X: pd.DataFrame, Y: pd.DataFrame) -> None:
    tasks = {"buy": "binary", "rating": "regression"}
    pipe = make_pipeline(StandardScaler(), PerTaskModel(tasks, learner="linear", random_state=0)).fit(X[FIT], Y[FIT])
    table = permutation_importance(pipe, X[NEW], Y[NEW], columns=["price", "stars"])
    assert [table.loc[task].index[0] for task in tasks] == ["price", "stars"]


def test_the_time_that_a_pipeline_renames_is_not_shuffled(X: pd.DataFrame, Y: pd.DataFrame) -> None:
    X = X.assign(day=np.arange(len(X)))
    scaled = make_column_transformer((StandardScaler(), ["price", "stars"]), remainder="passthrough")
    last = PerTaskModel({"buy": "binary", "rating": "regression"}, learner="linear", time="day", random_state=0)
    pipe = make_pipeline(scaled.set_output(transform="pandas"), last).fit(X[FIT], Y[FIT])
    assert last.roles_["time"] == "remainder__day"
    table = permutation_importance(pipe, X[NEW], Y[NEW], n_repeats=1, n_replicates=0)
    assert set(table.index.get_level_values("column")) == set(X.columns) - {"day"}


def test_a_shuffled_user_loses_her_history() -> None:
    shop = make_funnel(3000, n_users=100, n_items=30, random_state=0)
    tasks = [task for task in shop.tasks if task.name in ("view", "cart")]
    Y = shop.Y[["view", "cart"]]
    model = MultiTaskModel(tasks, **shop.roles, random_state=0, latent=None).fit(
        shop.X[:2000], Y[:2000], events=shop.events
    )
    table = permutation_importance(model, shop.X[2000:], Y[2000:], n_repeats=1)
    asked = set(table.index.get_level_values("column"))
    assert asked == set(shop.X.columns) - {"time"}  # at another time a row would know its own label
    assert set(table["verdict"]) <= {"helps", "same"}
    made, last = model.pipeline_[:-1].transform(shop.X[2000:]), model.pipeline_[-1]
    history = [name for name in made.columns if name.startswith("user__")]
    of_history = permutation_importance(last, made, Y[2000:], columns={"history of the user": history})
    assert np.isfinite(of_history["importance"]).all()


def test_rankings_are_judged_by_query() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"q": np.repeat(np.arange(150), 8), "x": rng.normal(size=N), "noise": rng.normal(size=N)})
    Y = pd.DataFrame({"r": np.digitize(X["x"] + rng.normal(size=N), [-1, 0.5, 1.5]).astype(float)})
    model = PerTaskModel([Task("r", "ranking", query="q")], random_state=0).fit(X[:800], Y[:800])
    table = permutation_importance(model, X[800:], Y[800:])
    assert table.index.tolist() == [("r", "x"), ("r", "noise")]  # the query is no feature
    assert table["verdict"].tolist()[0] == "helps"


def test_funnel_children_in_either_space_and_multiclass(X: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    buy = X["price"] < rng.normal(size=N)
    Y = pd.DataFrame({"buy": buy * 1.0, "size": np.where(X["stars"] > rng.normal(size=N), "L", "S")})
    Y["size"] = Y["size"].where(buy)
    tasks = [Task("buy", "binary"), Task("size", "multiclass", given="buy")]
    model = FunnelModel(tasks, random_state=0).fit(X[FIT], Y[FIT])
    for space in ("entire", "conditional"):
        table = permutation_importance(model, X[NEW], Y[NEW], space=space, columns=["price", "stars"])
        assert table.loc["size"].index[0] == "stars"


def test_ensembles_keep_their_members_rule_for_conflicts(X: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    buy = (X["price"] < rng.normal(size=N)) * 1.0
    Y = pd.DataFrame({"buy": buy, "coupon": (rng.random(N) < 0.2) * 1.0})
    tasks = [Task("buy", "binary"), Task("coupon", "binary", given="buy")]
    member = FunnelModel(tasks, on_conflict="lift", random_state=0)
    model = AveragingEnsemble([("a", member)]).fit(X[FIT], Y[FIT])
    assert len(permutation_importance(model, X[NEW], Y[NEW], columns=["price"])) == 2
    strict = FunnelModel(tasks, random_state=0).fit(X[FIT], Y.assign(coupon=Y["coupon"] * buy)[FIT])
    with pytest.raises(FunnelConflictError):
        permutation_importance(strict, X[NEW], Y[NEW], columns=["price"])


def test_without_labels_and_without_intervals(model: Any, X: pd.DataFrame, Y: pd.DataFrame) -> None:
    table = permutation_importance(model, X[NEW], Y[NEW].assign(buy=np.nan), columns=["price"], n_replicates=0)
    assert table.loc[("buy", "price")].isna().all()
    assert table.loc["rating"]["importance"].notna().all()
    assert table["low"].isna().all()


def test_bad_input_is_told(model: Any, X: pd.DataFrame, Y: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="columns has 'prize', which X lacks; its columns are price, stars"):
        permutation_importance(model, X[NEW], Y[NEW], columns=["prize"])
    with pytest.raises(ValueError, match="no column to shuffle"):
        permutation_importance(model, X, Y, columns=[])
    with pytest.raises(TypeError, match="list of columns"):
        permutation_importance(model, X[NEW], Y[NEW], columns="price")
    with pytest.raises(ValueError, match="n_repeats must be an integer of at least 1, got 0"):
        permutation_importance(model, X[NEW], Y[NEW], n_repeats=0)
    with pytest.raises(ValueError, match="X has 500 rows, but Y has 700"):
        permutation_importance(model, X[NEW], Y[FIT])
    with pytest.raises(TypeError, match="has no tasks_"):
        permutation_importance(TaskGraphModel(), X[NEW], Y[NEW])
