"""Every learner learns every kind: labels missing, weights, one class, mixed columns, nothing to predict."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import LinearSVC

from mtl_classic import (
    ConstantTaskWarning,
    FallbackWarning,
    LightGBMLearner,
    MultiTaskModel,
    PerTaskModel,
    SklearnLearner,
    Task,
    TaskError,
    XGBoostLearner,
)

N = 300
rng = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "x": rng.normal(size=N),
        "z": rng.normal(size=N),
        "shop": pd.Categorical(rng.choice(["a", "b", "c"], N)),
        "flag": rng.random(N) < 0.5,
        "q": np.tile(np.arange(30), 10),  # not contiguous
    }
)
X.loc[::7, "z"] = np.nan
SIGNAL = X["x"] + (X["shop"] == "a") + 0.3 * rng.normal(size=N)
Y = pd.DataFrame(
    {
        "binary": (SIGNAL > 0.5).astype(float),
        "soft": 1 / (1 + np.exp(-2 * SIGNAL)),
        "multiclass": pd.cut(SIGNAL, [-9, 0, 1, 9], labels=["low", "middle", "high"]).astype(object),
        "regression": SIGNAL * 50 + 10,
        "count": rng.poisson(np.exp(0.7 * SIGNAL)).astype(float),
        "ranking": np.clip(SIGNAL.round() + 1, 0, 4),
    }
)
Y.loc[:20, :] = None
TASKS = {
    kind: Task(
        kind,
        "binary" if kind == "soft" else kind,
        loss="kl" if kind == "soft" else None,
        query="q" if kind == "ranking" else None,
    )
    for kind in Y
}
LEARNERS: dict[str, Any] = {
    "lightgbm": LightGBMLearner(max_iter=50),
    "xgboost": XGBoostLearner(max_iter=50),
    "linear": "linear",
    "forest": "forest",
    "extra_trees": "extra_trees",
    "hist": "hist",
    "svm": "svm",
    "wrapped": SklearnLearner(GradientBoostingClassifier(n_estimators=20), LinearRegression()),
}


def fit(kind: str, learner: Any, **weights: Any) -> PerTaskModel:
    return PerTaskModel([TASKS[kind]], learner=learner, query="q", random_state=0).fit(X, Y[[kind]], **weights)


@pytest.mark.parametrize("kind", list(Y))
@pytest.mark.parametrize("name", list(LEARNERS))
def test_every_learner_learns_every_kind(name: str, kind: str) -> None:
    model = fit(kind, LEARNERS[name])
    scores = model.predict_scores(X)
    assert scores.notna().all().all()
    assert np.isfinite(scores.to_numpy()).all()
    if kind in ("binary", "soft", "multiclass"):
        assert scores.to_numpy().min() >= 0
        assert scores.to_numpy().max() <= 1
        np.testing.assert_allclose(np.sum(model.predict_proba(X)[0], axis=1), 1, rtol=1e-12)
    if kind == "count":
        assert scores.to_numpy().min() >= 0
    least = {"soft": 0.1, "count": 0.02}.get(kind, 0.2)
    assert model.score(X, Y[[kind]]) > least
    one = model.predict_scores(X.iloc[[17]])
    np.testing.assert_allclose(one, scores.iloc[[17]], rtol=1e-10, atol=1e-12)
    empty = model.predict_scores(X.iloc[:0])
    assert empty.shape == (0, scores.shape[1])
    assert len(model.predict(X.iloc[:0])) == 0


@pytest.mark.parametrize("kind", ["binary", "soft", "multiclass", "regression", "count", "ranking"])
@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "hist", "svm"])
def test_zero_weight_leaves_a_row_out_and_other_weights_count(name: str, kind: str) -> None:
    weight = np.ones(N)
    weight[100:200] = 0
    fixed: Any = {
        "lightgbm": LightGBMLearner(max_iter=30, params={"bin_construct_sample_cnt": 10}),
        "xgboost": XGBoostLearner(max_iter=30),
    }.get(name, name)
    options = {"query": "q", "random_state": 0, "early_stopping": False}
    task = [TASKS[kind]]
    left_out = PerTaskModel(task, learner=fixed, **options).fit(X, Y[[kind]], sample_weight=weight)
    hidden = PerTaskModel(task, learner=fixed, **options).fit(X, Y[[kind]].where(weight[:, None] > 0))
    pd.testing.assert_frame_equal(left_out.predict_scores(X), hidden.predict_scores(X))
    heavy = PerTaskModel(task, learner=fixed, **options).fit(X, Y[[kind]], sample_weight=1 + 9 * (SIGNAL > 1))
    plain = PerTaskModel(task, learner=fixed, **options).fit(X, Y[[kind]])
    assert not np.allclose(heavy.predict_scores(X), plain.predict_scores(X))


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "forest", "svm", "hist"])
def test_one_class_trains_a_constant(name: str) -> None:
    constant = Y.assign(binary=0.0, multiclass="only", regression=3.5, count=2.0)
    for kind, expected in {"binary": 0, "multiclass": 1, "regression": 3.5, "count": 2}.items():
        with pytest.warns(ConstantTaskWarning, match=f"'{kind}' has {N} labelled rows, all with the same label"):
            model = PerTaskModel([TASKS[kind]], learner=name).fit(X, constant[[kind]])
        assert (model.predict_scores(X) == expected).all(axis=None)
        assert 0 <= model.score(X, constant[[kind]]) <= 1


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "forest", "extra_trees", "hist", "svm"])
def test_sparse_tables(name: str) -> None:
    dense = X[["x", "z"]].fillna(0).to_numpy().round(1)
    kinds = ["binary", "multiclass", "regression", "count"]
    model = PerTaskModel([TASKS[k] for k in kinds], learner=LEARNERS[name], random_state=0)
    scores = model.fit(sparse.csr_array(dense), Y[kinds]).predict_scores(sparse.csc_matrix(dense))
    assert np.isfinite(scores.to_numpy()).all()
    assert model.score(sparse.csr_matrix(dense), Y[kinds]) > 0.1
    assert model.predict_scores(sparse.csr_matrix(dense)[:0]).shape == (0, 6)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "svm"])
def test_a_table_may_be_sparse_at_fit_and_dense_later_and_the_reverse(name: str) -> None:
    dense = X[["x", "z"]].fillna(0).to_numpy().round(0)
    csr = sparse.csr_matrix(dense)
    with_zeros = sparse.csr_matrix((dense.ravel(), np.tile([0, 1], N), np.arange(0, 2 * N + 1, 2)), shape=dense.shape)
    model = PerTaskModel([TASKS["regression"]], learner=LEARNERS[name], random_state=0)
    for table in (dense, csr, with_zeros):
        scores = model.fit(table, Y[["regression"]]).predict_scores(table)
        for other in (dense, csr, with_zeros, with_zeros.astype(np.float32)):
            stored = getattr(other, "nnz", None)
            pd.testing.assert_frame_equal(model.predict_scores(other), scores)
            assert getattr(other, "nnz", None) == stored  # the table is not changed


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "forest", "hist", "svm"])
def test_columns_that_say_nothing(name: str) -> None:
    odd = X[["x"]].assign(nothing=np.nan, same=1.0, huge=1e300 * X["x"], none=pd.Series([None] * N, dtype=object))
    model = PerTaskModel([TASKS["binary"]], learner=LEARNERS[name], random_state=0).fit(odd, Y[["binary"]])
    assert np.isfinite(model.predict_scores(odd.assign(nothing=5.0)).to_numpy()).all()
    only_roles = PerTaskModel([TASKS["binary"]], learner=LEARNERS[name], exclude=["x"]).fit(X[["x"]], Y[["binary"]])
    assert only_roles.predict_scores(X[["x"]])["binary"].nunique() == 1


@pytest.mark.parametrize("bare", [LogisticRegression(), GaussianNB(), CalibratedClassifierCV(LinearSVC(), cv=2)])
def test_a_bare_classifier(bare: Any) -> None:
    model = PerTaskModel([TASKS["binary"]], learner=bare, random_state=0).fit(X, Y[["binary"]])
    assert model.score(X, Y[["binary"]]) > 0.1


def test_bare_estimators_that_do_not_fit_a_task_are_refused_before_any_work() -> None:
    both = [TASKS["binary"], TASKS["regression"]]
    with pytest.raises(ValueError, match=r"'regression' is regression, and the learner has no regressor for it; give"):
        PerTaskModel(both, learner=LogisticRegression()).fit(X, Y)
    with pytest.raises(ValueError, match="'binary' is binary, and the learner has no classifier"):
        PerTaskModel(both, learner=LinearRegression()).fit(X, Y)
    with pytest.raises(TypeError, match=r"LinearSVC has no predict_proba; wrap it: CalibratedClassifierCV"):
        PerTaskModel([TASKS["binary"]], learner=LinearSVC()).fit(X, Y)
    with pytest.raises(ValueError, match="KNeighborsRegressor.fit takes no sample_weight"):
        PerTaskModel([TASKS["regression"]], learner=KNeighborsRegressor()).fit(X, Y, sample_weight=np.arange(N) + 1.0)


def test_a_learner_for_each_task() -> None:
    kinds = ["binary", "count", "regression"]
    trees = LightGBMLearner(max_iter=30)
    learner = {"binary": "linear", "count": trees, "regression": trees}
    mixed = PerTaskModel([TASKS[k] for k in kinds], learner=learner, random_state=0).fit(X, Y[kinds])
    for kind in kinds:
        alone = PerTaskModel([TASKS[kind]], learner=learner[kind], random_state=0).fit(X, Y[[kind]])
        pd.testing.assert_series_equal(mixed.predict_scores(X)[kind], alone.predict_scores(X)[kind])
    with pytest.raises(TaskError, match=r"must name every task: missing \['count'\], unknown \['buy'\]"):
        PerTaskModel([TASKS["count"]], learner={"buy": "linear"}).fit(X, Y)


def test_settings_of_the_learners_of_a_dict() -> None:
    trees = LightGBMLearner(max_iter=30)
    model = PerTaskModel([TASKS["binary"], TASKS["count"]], learner={"binary": trees, "count": "linear"})
    assert model.get_params()["learner__binary__max_iter"] == 30
    assert model.get_params()["learner__count"] == "linear"
    model.set_params(learner__binary__num_leaves=5, learner__count__regressor__alpha=2.0, random_state=0)
    model.set_params(learner__count="xgboost", learner__count__max_leaves=3)
    assert clone(model).get_params()["learner__binary__num_leaves"] == 5
    assert model.learner["count"].max_leaves == 3
    assert trees.num_leaves is None  # learners that were given are not changed
    assert clone(model).fit(X, Y).score(X, Y) > 0.1
    with pytest.raises(ValueError, match="learner__buy__num_leaves sets no learner: learner= is a dict with the tasks"):
        model.set_params(learner__buy__num_leaves=5)


def test_a_query_that_lightgbm_cannot_rank_is_refused() -> None:
    x = pd.DataFrame({"x": np.random.default_rng(0).normal(size=10_101), "q": [0] * 10_001 + [1] * 100})
    for early_stopping in (True, False):
        model = PerTaskModel([Task("y", "ranking", query="q")], early_stopping=early_stopping)
        with pytest.raises(ValueError, match=r"Task 'y' has a query of 10,001 rows, and .*; use learner='xgboost' or"):
            model.fit(x, (x[["x"]] > 0).astype(int).rename(columns={"x": "y"}))


def test_learners_that_are_refused() -> None:
    with pytest.raises(TypeError, match=r"got the class LightGBMLearner; make one: LightGBMLearner\(\)"):
        fit("binary", LightGBMLearner)
    with pytest.raises(ValueError, match="learner='catboost' is unknown; expected one of lightgbm, xgboost"):
        PerTaskModel([TASKS["binary"]], learner="catboost").fit(X, Y)
    with pytest.raises(TypeError, match="got int"):
        PerTaskModel([TASKS["binary"]], learner=3).fit(X, Y)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "linear", "forest", "hist", "svm"])
def test_two_rows(name: str) -> None:
    Y2 = pd.DataFrame({"buy": [0, 1], "spend": [0.5, 2.5]})
    model = PerTaskModel({"buy": "binary", "spend": "regression"}, learner=LEARNERS[name], random_state=0)
    if name == "svm":
        with pytest.warns(FallbackWarning, match="fewer rows than the learner's own folds; its prior is predicted"):
            model.fit(X.iloc[:2], Y2)
        assert model.predict_scores(X)["buy"].unique().tolist() == [0.5]
    else:
        assert np.isfinite(model.fit(X.iloc[:2], Y2).predict_scores(X).to_numpy()).all()


def test_aliases_leave_no_state_between_fits() -> None:
    learner = SklearnLearner(LogisticRegression())
    PerTaskModel([TASKS["binary"]], learner=learner).fit(X, Y)
    assert not hasattr(learner.classifier, "coef_")


def test_means_of_counts_stay_finite_outside_of_what_was_seen() -> None:
    x = pd.DataFrame({"x": np.random.default_rng(0).normal(size=300)})
    y = np.random.default_rng(1).poisson(np.exp(x["x"]))
    model = MultiTaskModel({"items": "count"}, learner="linear", latent=None).fit(x, y)
    far = model.predict_scores(pd.DataFrame({"x": [1e4, -1e4]}))["items"]
    np.testing.assert_allclose(far, [100 * y.max(), 0.01 * y.mean()])
    assert model.compile_for_serving().predict_scores({"x": 1e4}) == {"items": far[0]}


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_a_class_of_one_row_in_a_table_of_which_hist_would_hold_rows_back(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(10_001, 1))
    y = np.where(x[:, 0] > 0, 1, 0) if kind == "multiclass" else np.zeros(len(x), dtype=int)
    y[5] = 1 if kind == "binary" else 2
    model = PerTaskModel({"y": kind}, learner="hist", random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1)


@pytest.mark.parametrize(("unit", "center"), [(1.0, 1e7), (1e-6, 0.0), (1e-6, 10.0)])
def test_labels_of_xgboost_may_be_small_or_far_from_zero(unit: float, center: float) -> None:
    y = unit * (SIGNAL - SIGNAL.mean()) + center
    model = MultiTaskModel({"y": "regression"}, learner="xgboost", latent=None, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8
    expected = model.predict_scores(X.head(20))["y"]
    compiled, x = model.compile_for_serving(), X.head(20).to_dict("records")
    assert [compiled.predict_scores(row)["y"] for row in x] == expected.tolist()
    for how in ("leaves", "rounds"):
        refreshed = model.refresh(X, pd.DataFrame({"y": y}), how=how)
        assert refreshed.score(X, y) > 0.8


@pytest.mark.parametrize("weight", [None, np.r_[np.full(30, 2.0), np.full(30, 1.0)]])
def test_labels_of_the_svm_may_be_far_from_zero(weight: Any) -> None:
    x = np.random.default_rng(0).normal(size=(60, 1))
    near, far = (
        PerTaskModel({"y": "regression"}, learner="svm", random_state=0).fit(x, y, sample_weight=weight)
        for y in (10 * x[:, 0], 2000 + 10 * x[:, 0])
    )
    np.testing.assert_allclose(far.predict(x) - 2000, near.predict(x), atol=0.01)
    assert far.score(x, 2000 + 10 * x[:, 0]) > 0.99


def test_metadata_routing_does_not_keep_weights_from_the_svm() -> None:
    x = np.random.default_rng(0).normal(size=(60, 1))
    y, weight = x[:, 0] > 0.2, np.r_[np.full(30, 2.0), np.full(30, 1.0)]
    model = PerTaskModel({"y": "binary"}, learner="svm", random_state=0)
    expected = clone(model).fit(x, y, sample_weight=weight).predict_proba(x)
    with config_context(enable_metadata_routing=True):
        np.testing.assert_array_equal(model.fit(x, y, sample_weight=weight).predict_proba(x), expected)


def test_hist_stops_early_in_small_tables() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 5)), rng.integers(0, 2, 600)  # nothing to learn
    stopped = PerTaskModel(learner="hist", random_state=0).fit(X, y)
    assert stopped.fits_["y0"].model.n_iter_ < 50
    tiny = PerTaskModel(learner="hist", random_state=0).fit(X[:8], np.arange(8) % 2)  # too few to hold any out
    assert tiny.fits_["y0"].model.n_iter_ == 100
