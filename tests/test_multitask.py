"""What every multi-task estimator promises, whatever is inside it."""

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    ConstantTaskWarning,
    FunnelModel,
    LightGBMLearner,
    MultiTaskModel,
    PerTaskModel,
    SklearnLearner,
    StackingEnsemble,
    Task,
    XGBoostLearner,
    cross_fit,
    make_folds,
    make_funnel,
    multitask_scorer,
)
from mtl_classic.multitask import SharedTreesModel

N = 360
rng = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "x": rng.normal(size=N),
        "z": rng.normal(size=N),
        "shop": rng.choice(["a", "b", "c"], N),
        "user": rng.integers(0, 40, N),
        "item": rng.integers(0, 15, N).astype(str),
        "day": np.sort(rng.integers(0, 60, N)),
    }
)
X["list"] = X["day"]
X.loc[::11, "z"] = np.nan
BUY = (X["x"] + (X["shop"] == "a") + rng.normal(size=N) > 0.4).astype(float)
Y = pd.DataFrame(
    {
        "buy": BUY,
        "spend": BUY * np.exp(0.3 * X["x"] + 0.2 * rng.normal(size=N)),
        "items": rng.poisson(np.exp(0.4 * X["x"])).astype(float),
        "way": rng.choice(["app", "shop", "web"], N),
        "grade": rng.integers(0, 3, N).astype(float),
    }
)
Y = Y.mask(rng.random(Y.shape) < 0.1)
Y.loc[Y["buy"] != 1, "spend"] = np.nan
TASKS = [
    Task("buy", "binary"),
    Task("spend", "regression", given="buy"),
    Task("items", "count"),
    Task("way", "multiclass"),
    Task("grade", "ranking", query="list"),
]
SMALL = LightGBMLearner(max_iter=12)
FOREST = SklearnLearner(ExtraTreesClassifier(9), ExtraTreesRegressor(9))
ROLES = {"user": "user", "item": "item"}


def trees(model: type, **options: Any) -> Any:
    return model(TASKS, **({"learner": SMALL, "query": "list", "random_state": 0} | options))


STRUCTURES = {
    "per task": trees(PerTaskModel),
    "per task, xgboost": trees(PerTaskModel, learner=XGBoostLearner(max_iter=12)),
    "per task, linear": trees(PerTaskModel, learner="linear"),
    "per task, extra trees": trees(PerTaskModel, learner=FOREST),
    "product": trees(FunnelModel, **ROLES),
    "direct": trees(FunnelModel, mode="direct"),
    "average": trees(FunnelModel, mode="average"),
    "auto": trees(FunnelModel, mode="auto"),
    "averaging": AveragingEnsemble(
        [("trees", trees(FunnelModel)), ("linear", trees(PerTaskModel, learner="linear"))], weights=[2, 1]
    ),
    "without history": trees(MultiTaskModel, aggregates=None, **ROLES),
}
MODELS = {
    "history": trees(MultiTaskModel, time="day", **ROLES),
    "target statistics": trees(MultiTaskModel, cv=3, **ROLES),
    "best": trees(MultiTaskModel, preset="best", time="day", cv=2, **ROLES),
    "best, target statistics": trees(MultiTaskModel, preset="best", cv=2, **ROLES),
}
LINES, STEPS = trees(PerTaskModel, learner="linear"), trees(FunnelModel)
SHARING = {
    "shared trees": SharedTreesModel(TASKS, max_iter=12, query="list", random_state=0),
    "greedy": AveragingEnsemble([("lines", LINES), ("steps", STEPS)], weights="greedy", cv=2, random_state=0),
    "stacking": StackingEnsemble([("lines", LINES), ("steps", STEPS)], cv=2, fallback=False, random_state=0),
    "bagging": BaggingEnsemble(STEPS, 2, random_state=0),
    "boosting": BoostingEnsemble([("lines", LINES), ("steps", STEPS)], cv=2, random_state=0),
    "calibrated": CalibratedModel(STEPS, cv=2, random_state=0),
    "intervals": ConformalModel(STEPS, cv=2, random_state=0),
}
ALL = STRUCTURES | MODELS | SHARING
LINEAR = ("per task, linear", "averaging", "greedy", "stacking", "boosting")
PLAN = make_folds(3, Y, groups=X["list"], random_state=0)
every = pytest.mark.parametrize("name", list(ALL))
every_structure = pytest.mark.parametrize("name", list(STRUCTURES))
_FITTED: dict[str, Any] = {}


def fit(name: str) -> Any:
    """Fitted once for all tests, none of which changes it."""
    if name not in _FITTED:
        _FITTED[name] = clone(ALL[name]).fit(X, Y)
    return _FITTED[name]


def assert_equal(left: pd.DataFrame, right: pd.DataFrame, name: str = "") -> None:
    exact = name not in LINEAR
    pd.testing.assert_frame_equal(left, right, check_exact=exact, **({} if exact else {"rtol": 1e-9, "atol": 1e-12}))


@every
def test_scores_are_finite_and_better_than_the_prior_where_there_is_a_signal(name: str) -> None:
    scores = fit(name).predict_scores(X)
    assert list(scores) == ["buy", "spend", "items", "way=app", "way=shop", "way=web", "grade"]
    assert np.isfinite(scores.to_numpy()).all()
    for task in ("buy", "items"):
        assert multitask_scorer(task=task)(fit(name), X, Y) > 0.01


@every_structure
def test_unlabelled_rows_are_ignored_task_by_task(name: str) -> None:
    """Hiding labels of one task changes no other; the hidden ones do not count as zeros."""
    hidden = Y.copy()
    hidden.loc[rng.random(N) < 0.6, "items"] = np.nan
    scores = clone(ALL[name]).fit(X, hidden, plan=PLAN).predict_scores(X)
    others = [column for column in scores if column != "items"]
    wanted = clone(ALL[name]).fit(X, Y, plan=PLAN).predict_scores(X)
    assert_equal(scores[others], wanted[others])
    assert scores["items"].mean() == pytest.approx(hidden["items"].mean(), rel=0.15)


@every
def test_neither_the_order_of_tasks_nor_that_of_label_columns_changes_anything(name: str) -> None:
    model = clone(ALL[name])
    tasks = {key: TASKS[::-1] for key, value in model.get_params().items() if key.split("__")[-1] == "tasks" and value}
    scores = model.set_params(**tasks).fit(X, Y[["way", "grade", "buy", "items", "spend"]]).predict_scores(X)
    wanted = fit(name).predict_scores(X)
    assert scores.columns[0] == "grade"
    assert_equal(scores[wanted.columns], wanted, name)


@every_structure
def test_a_task_alone_is_the_same_as_in_company(name: str) -> None:
    alone = clone(ALL[name])
    tasks = {key: [TASKS[2]] for key, value in alone.get_params().items() if key.split("__")[-1] == "tasks" and value}
    scores = alone.set_params(**tasks).fit(X, Y[["items"]], plan=PLAN).predict_scores(X)
    assert_equal(scores, clone(ALL[name]).fit(X, Y, plan=PLAN).predict_scores(X)[["items"]])


@every_structure
def test_a_row_of_weight_zero_is_a_row_without_label(name: str) -> None:
    weight = pd.DataFrame(1.0, index=X.index, columns=list(Y))
    weight.loc[::3, "items"] = 0
    weighted = clone(ALL[name]).fit(X, Y, sample_weight=weight, plan=PLAN).predict_scores(X)
    hidden = clone(ALL[name]).fit(X, Y.assign(items=Y["items"].where(weight["items"] > 0)), plan=PLAN)
    assert_equal(weighted, hidden.predict_scores(X))


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("history", "best")])
def test_labels_of_rows_without_weight_have_no_say_not_even_in_which_rows_are_held_out(name: str) -> None:
    """But for those of a history made of the rows, which are events like all others."""
    off = np.arange(N) % 4 == 0
    other = Y.copy()
    other.loc[off] = Y.loc[off].sample(frac=1.0, random_state=0).to_numpy()
    other["items"] = other["items"].astype(float) + 5 * off
    other = other.astype({"buy": float, "spend": float, "grade": float})
    models = [clone(ALL[name]).fit(X, labels, sample_weight=np.where(off, 0.0, 1.0)) for labels in (Y, other)]
    assert_equal(*(model.predict_scores(X) for model in models))


@every
def test_the_same_row_gets_the_same_answer_in_any_company(name: str) -> None:
    model = fit(name)
    scores = model.predict_scores(X)
    order = rng.permutation(N)
    assert_equal(model.predict_scores(X.iloc[order]), scores.iloc[order], name)
    halves = pd.concat([model.predict_scores(X.iloc[:7]), model.predict_scores(X.iloc[7:])])
    assert_equal(halves, scores, name)
    for row in (0, 123, N - 1):
        assert_equal(model.predict_scores(X.iloc[[row]]), scores.iloc[[row]], name)
    assert_equal(model.predict_scores(X[X.columns[::-1]].assign(more=1)), scores, name)


@every
def test_nothing_given_is_modified(name: str) -> None:
    weight = pd.DataFrame(rng.uniform(0.5, 2, Y.shape), columns=list(Y))
    before = [frame.copy(deep=True) for frame in (X, Y, weight)]
    params = repr(ALL[name])
    model = clone(ALL[name]).fit(X, Y, sample_weight=weight)
    model.predict(X)
    model.score(X, Y)
    for now, then in zip((X, Y, weight), before, strict=True):
        pd.testing.assert_frame_equal(now, then)
    assert repr(clone(model)) == params


@every
def test_the_same_seed_gives_the_same_bits_also_after_pickling(name: str) -> None:
    wanted = fit(name).predict_scores(X)
    assert_equal(clone(fit(name)).fit(X, Y).predict_scores(X), wanted)
    copy = pickle.loads(pickle.dumps(fit(name)))
    assert_equal(copy.predict_scores(X), wanted)


@pytest.mark.parametrize("name", ["product", "per task, xgboost", "per task, extra trees"])
def test_threads_change_nothing(name: str) -> None:
    params = ALL[name].get_params()
    short = clone(ALL[name]).set_params(**{key: 3 for key in params if key.split("__")[-1] == "max_iter"})
    threads = {key: 2 for key in params if key.split("__")[-1] == "n_jobs"}
    wanted = clone(short).fit(X, Y).predict_scores(X)
    assert_equal(clone(short).set_params(**threads).fit(X, Y).predict_scores(X), wanted, name)


@every
def test_unseen_users_items_and_categories_are_normal(name: str) -> None:
    new = X.head(20).assign(user=999, item="new", shop="new", z=np.nan, day=90)
    scores = fit(name).predict_scores(new)
    assert np.isfinite(scores.to_numpy()).all()
    assert scores["buy"].between(0, 1).all()


@every
def test_nothing_in_nothing_out(name: str) -> None:
    assert fit(name).predict_scores(X.iloc[:0]).shape == (0, 7)
    assert fit(name).predict(X.iloc[:0]).shape == (0, 5)


@every
def test_a_column_that_is_absent_at_prediction_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"lacks columns that .* was fitted with: day; it has x, z"):
        fit(name).predict(X.drop(columns="day"))


@every
def test_weights_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="finite and not negative; 1 weights are not"):
        clone(ALL[name]).fit(X, Y, sample_weight=np.r_[-1.0, np.ones(N - 1)])
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(360,\) or \(360, 5\)"):
        clone(ALL[name]).fit(X, Y, sample_weight=[1, 1, 1])


@every
def test_zero_rows_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        clone(ALL[name]).fit(X.iloc[:0], Y.iloc[:0])


def test_weights_are_repetitions_for_linear_learners() -> None:
    """What scikit-learn's check asks, which calls fit with y=."""
    counts = rng.integers(0, 3, N)
    numbers, labels = X[["x"]].to_numpy(), (X["x"] + rng.normal(size=N)).to_numpy()
    linear = PerTaskModel({"y": "regression"}, learner="linear")
    weighted = linear.fit(numbers, labels, sample_weight=counts).predict(numbers)
    repeated = clone(linear).fit(np.repeat(numbers, counts, axis=0), np.repeat(labels, counts)).predict(numbers)
    np.testing.assert_allclose(weighted, repeated, atol=5e-3)  # ridge: the scale of the column enters the penalty


# -- scikit-learn around us ---------------------------------------------------------------------------------------

MIXED = {"a": "binary", "b": "binary", "c": "count", "d": "multiclass", "e": "regression"}
Y_MIXED = pd.DataFrame(
    {"a": BUY, "b": (X["x"] > 0) * 1.0, "c": rng.poisson(1.0, N), "d": rng.choice(list("uvw"), N), "e": X["x"] * 2}
)
Y_MIXED = Y_MIXED.mask(rng.random(Y_MIXED.shape) < 0.5)
PREP = ColumnTransformer([("num", StandardScaler(), ["x", "z"]), ("ids", "passthrough", ["user", "item", "shop"])])


def test_a_grid_search_over_a_pipeline_with_half_of_the_labels_missing() -> None:
    prep = clone(PREP).set_output(transform="pandas")
    pipe = make_pipeline(prep, MultiTaskModel(MIXED, learner=LightGBMLearner(max_iter=10), random_state=0))
    search = GridSearchCV(pipe, {"multitaskmodel__learner__num_leaves": [15, 63]}, cv=3, error_score="raise")
    search.fit(X, Y_MIXED)
    assert search.best_score_ > 0
    assert search.decision_function(X).shape == (N, 7)
    assert search.predict(X).columns.tolist() == list(MIXED)
    assert len(search.predict_proba(X)) == 3
    assert search.score(X, Y_MIXED) > search.best_score_ / 2


def test_roles_survive_the_prefixes_of_a_column_transformer() -> None:
    prep = clone(PREP).set_output(transform="pandas")
    model = MultiTaskModel(MIXED, user="user", item="item", learner=SMALL, cv=3, random_state=0)
    pipe = make_pipeline(prep, model).fit(X, Y_MIXED)
    assert pipe[-1].roles_ == {"user": "ids__user", "item": "ids__item", "time": None, "query": None}
    assert "ids__user__a__mean" in pipe[-1].pipeline_[-1].columns_.names_


@pytest.mark.parametrize("labels", [Y_MIXED, Y_MIXED.to_numpy(dtype=object)], ids=["frame", "array"])
def test_cross_validation_of_mixed_kinds(labels: Any) -> None:
    model = PerTaskModel([Task(name, kind) for name, kind in MIXED.items()], learner=SMALL, random_state=0)
    scores = cross_validate(model, X, labels, cv=3, scoring=multitask_scorer("log_loss"), error_score="raise")
    assert (scores["test_score"] < 0).all()
    plain = cross_validate(model, X, labels, cv=3, error_score="raise", return_train_score=True)
    assert (plain["train_score"] > plain["test_score"]).all()


# -- noise --------------------------------------------------------------------------------------------------------

NOISE_ROWS, NOISE_USERS = 24_000, 8_000  # so many users that chance moves the AUC of a label of theirs by .007
NOISY: dict[str, Any] = {
    "per task": PerTaskModel(random_state=0),
    "per task, xgboost": PerTaskModel(learner="xgboost", random_state=0),
    "per task, linear": PerTaskModel(learner="linear", random_state=0),
    "product": FunnelModel(random_state=0),
    "auto": FunnelModel(mode="auto", random_state=0),
    "averaging": AveragingEnsemble([("a", FunnelModel(random_state=0)), ("b", PerTaskModel(learner="linear"))]),
    "fast, history": MultiTaskModel(time="time", user="user", item="item", random_state=0),
    "fast, target statistics": MultiTaskModel(user="user", item="item", random_state=0),
    "fast, no latent features": MultiTaskModel(user="user", item="item", latent=None, random_state=0),
    "best, history": MultiTaskModel(preset="best", time="time", user="user", item="item", cv=3, random_state=0),
    "best, target statistics": MultiTaskModel(preset="best", user="user", item="item", cv=3, random_state=0),
}


NOISY_MEMBERS = [("trees", NOISY["product"]), ("lines", NOISY["per task, linear"])]
NOISY |= {
    "shared trees": SharedTreesModel(random_state=0),
    "greedy": AveragingEnsemble(NOISY_MEMBERS, weights="greedy", cv=3, random_state=0),
    "stacking": StackingEnsemble(NOISY_MEMBERS, cv=3, fallback=False, random_state=0),
    "boosting": BoostingEnsemble(NOISY_MEMBERS, cv=3, random_state=0),
    "calibrated": CalibratedModel(NOISY["product"], cv=3, random_state=0),
}


def noise_table(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, list[Task]]:
    """Real tasks beside two that mean nothing: one drawn anew for each row, one that repeats within the user."""
    shop = make_funnel(NOISE_ROWS, n_users=NOISE_USERS, n_items=200, random_state=seed)
    own = np.random.default_rng(seed + 1)
    labels = shop.Y[["view", "cart"]].copy()
    labels["noise"] = own.permutation(np.arange(NOISE_ROWS) % 2).astype(float)
    labels["noise_of_user"] = own.permutation(np.arange(NOISE_USERS) % 2)[shop.X["user"]].astype(float)
    tasks = [
        Task("view", "binary"),
        Task("cart", "binary", given="view"),
        Task("noise", "binary"),
        Task("noise_of_user", "binary"),
    ]
    return shop.X, labels, tasks


def noise_aucs(name: str) -> dict[str, float]:
    """Means of the folds' AUCs: new users in each fold for the label that repeats within the user."""
    table, labels, tasks = noise_table()
    plan = make_folds(3, labels, groups=table["user"], random_state=0)
    model = clone(NOISY[name])
    model.set_params(**{key: tasks for key in model.get_params() if key.split("__")[-1] == "tasks"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantTaskWarning)
        scores = cross_fit(model, table, labels, plan, score=False).predictions
    return {
        task: float(
            np.mean([roc_auc_score(labels[task].iloc[test], scores[task].iloc[test]) for _, test in plan.splits])
        )
        for task in ("noise", "noise_of_user", "view")
    }


def check_noise(name: str) -> None:
    aucs = noise_aucs(name)
    assert aucs["noise"] == pytest.approx(0.5, abs=0.02)
    assert aucs["noise_of_user"] == pytest.approx(0.5, abs=0.02)
    assert aucs["view"] > 0.53  # the same table holds something to learn


def test_noise_stays_at_chance() -> None:
    check_noise("fast, no latent features")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NOISY))
def test_noise_stays_at_chance_in_every_structure_and_preset(name: str) -> None:
    check_noise(name)
