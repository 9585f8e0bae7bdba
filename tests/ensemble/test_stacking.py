"""StackingEnsemble: scikit-learn's numbers with a given combiner, gains with few labels, no harm otherwise."""

import pickle
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, TimeSeriesSplit
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mtl_classic import (
    FallbackWarning,
    FunnelModel,
    MultiTaskEstimator,
    PerTaskModel,
    SklearnLearner,
    StackingEnsemble,
    Task,
    TaskError,
)
from mtl_classic._core.base import FitInput
from mtl_classic._core.targets import encode_targets
from mtl_classic.ensemble._matching import match_members
from mtl_classic.ensemble._meta import PENALTIES, MetaData, best_penalty, fit_linear_meta
from mtl_classic.ensemble._store import OutOfFold
from mtl_classic.metrics import ndcg, roc_auc
from tests.ensemble.tables import FUNNEL, MIXED, funnel, members, mixed, ranked, trees

NUMBERS = list("abcd")


def quietly(model: StackingEnsemble, *args: Any, **params: Any) -> StackingEnsemble:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        return model.fit(*args, **params)


def test_metadata_routing_does_not_keep_weights_from_what_is_inside_a_given_estimator() -> None:
    X, Y = mixed(missing=0.0)
    weight = np.arange(len(X)) % 3 + 1.0
    member = PerTaskModel({"buy": "binary"}, learner="linear", random_state=0)
    given = CalibratedClassifierCV(LogisticRegression(), cv=2)
    model = StackingEnsemble([("one", member)], final_estimator=given, cv=2, fallback=False, random_state=0)
    fits = []
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            fitted = clone(model).fit(X[NUMBERS], Y[["buy"]], sample_weight=weight)
            fits.append(fitted.predict_scores(X[NUMBERS]))
    pd.testing.assert_frame_equal(*fits)


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_given_classifier_gives_the_numbers_of_scikit_learn(passthrough: bool) -> None:
    X, Y = mixed(missing=0.0)
    numbers, y = X[NUMBERS].to_numpy(dtype=np.float32), Y["buy"].to_numpy().astype(int)
    folds = KFold(4, shuffle=True, random_state=0)
    learners = [(f"tree{d}", DecisionTreeClassifier(max_depth=d)) for d in (1, 2)]
    ours = [(name, PerTaskModel(learner=SklearnLearner(tree), random_state=0)) for name, tree in learners]
    settings = {"final_estimator": LogisticRegression(), "cv": folds, "passthrough": passthrough}
    model = StackingEnsemble(ours, **settings).fit(numbers, y)
    peer = StackingClassifier(learners, stack_method="predict_proba", **settings).fit(numbers, y)
    np.testing.assert_allclose(model.predict_proba(numbers), peer.predict_proba(numbers), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(numbers), peer.predict(numbers))


def test_a_given_regressor_gives_the_numbers_of_scikit_learn() -> None:
    X, Y = mixed(missing=0.0)
    numbers, y = X[NUMBERS].to_numpy(dtype=np.float32), Y["spend"].to_numpy()
    folds = KFold(4, shuffle=True, random_state=0)
    learners = [(f"tree{d}", DecisionTreeRegressor(max_depth=d)) for d in (1, 2)]
    ours = [(name, PerTaskModel(learner=SklearnLearner(regressor=tree), random_state=0)) for name, tree in learners]
    model = StackingEnsemble(ours, final_estimator=Ridge(), cv=folds).fit(numbers, y)
    peer = StackingRegressor(learners, Ridge(), cv=folds).fit(numbers, y)
    np.testing.assert_allclose(model.predict(numbers), peer.predict(numbers), rtol=1e-6)


def few_labels(seed: int, n: int = 4000, share: float = 0.02) -> tuple[Any, ...]:
    """A rating that all rows have, and a recommendation that follows it and few rows have."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 20))
    rating = X @ rng.normal(size=20) / 3 + 0.5 * rng.normal(size=n)
    liked = (rating + 0.5 * rng.normal(size=n) > 0.5).astype(float)
    Y = pd.DataFrame({"liked": np.where(rng.random(n) < share, liked, np.nan), "rating": rating})
    return X, Y, liked


def test_few_labels_gain_from_a_neighbour_that_has_many() -> None:
    tasks = [Task("liked", "binary"), Task("rating", "regression")]
    for seed in range(3):
        X, Y, liked = few_labels(seed)
        rest = Y["liked"].isna().to_numpy()
        pair = [("linear", PerTaskModel(tasks, learner="linear")), ("tree", PerTaskModel(tasks, learner=trees(4)))]
        alone = PerTaskModel(tasks, learner="linear").fit(X, Y).predict_scores(X)["liked"]
        own = quietly(StackingEnsemble(pair, random_state=0), X, Y)
        blind = quietly(StackingEnsemble(pair, neighbours=None, random_state=0), X, Y)
        loss = {
            name: -np.mean(np.log(np.where(liked[rest] == 1, p[rest], 1 - p[rest])))
            for name, p in {
                "alone": alone.to_numpy(),
                "own": own.predict_scores(X)["liked"].to_numpy(),
                "blind": blind.predict_scores(X)["liked"].to_numpy(),
            }.items()
        }
        assert loss["own"] < 0.9 * loss["alone"]
        assert loss["own"] < 0.95 * loss["blind"]


def test_a_ranking_is_stacked_on_its_neighbours() -> None:
    X, Y, tasks = ranked()
    few = Y.assign(grade=Y["grade"].where(X["query"] % 8 == 0))
    train = X["query"] < 160
    members = [("funnel", FunnelModel(tasks, random_state=0))]
    model = quietly(StackingEnsemble(members, cv=3, groups="query", random_state=0), X[train], few[train])
    assert "grade" not in model.fallbacks_
    found = model.final_estimators_["grade"]
    assert found.kind == "ranking"
    assert found.side_weights.any()
    alone = model.named_estimators_["funnel"].predict_scores(X[~train])["grade"]
    both = model.predict_scores(X[~train])["grade"]
    grade, query = Y["grade"][~train], X["query"][~train]
    assert ndcg(grade, both, query, k=5) > ndcg(grade, alone, query, k=5) + 0.02
    one_row = model.predict_scores(X[~train].iloc[[7]])["grade"]
    np.testing.assert_allclose(one_row, both.iloc[[7]], rtol=1e-10)


def test_rows_without_weight_choose_neither_combiner_nor_fallback() -> None:
    X, Y, tasks = ranked()
    off = X["query"] >= 200
    weight = np.where(off, 0.0, 1.0)
    flipped = Y.assign(grade=Y["grade"].where(~off, 4 - Y["grade"]), buy=Y["buy"].where(~off, 1.0))
    folds = X["query"].to_numpy() % 3
    learner = {"grade": "lightgbm", "buy": "linear", "spend": "linear"}
    members = [("alone", PerTaskModel(tasks, learner=learner, early_stopping=False, random_state=0))]
    models = [
        quietly(StackingEnsemble(members, cv=folds, random_state=0), X, labels, sample_weight=weight)
        for labels in (Y, flipped)
    ]
    assert models[0].fallbacks_ == models[1].fallbacks_
    one, other = (model.final_estimators_["grade"] for model in models)
    np.testing.assert_allclose(one.side_weights, other.side_weights)


def test_a_task_that_stacking_does_not_help_is_averaged_and_says_so() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(500, 3))
    Y = pd.DataFrame({"y": X[:, 0] + rng.normal(size=500), "noise": rng.normal(size=500)})
    model = StackingEnsemble([("linear", PerTaskModel(learner="linear"))], cv=5, random_state=0)
    with pytest.warns(FallbackWarning, match="averaged, not stacked"):
        model.fit(X, Y)
    task = "y"
    assert "out-of-fold loss" in model.fallbacks_[task]
    assert model.final_estimators_[task] is None
    assert model.weights_.loc["linear", task] == 1.0
    member = model.named_estimators_["linear"].predict_scores(X)[task]
    np.testing.assert_allclose(model.predict_scores(X)[task], member)
    assert clone(model).set_params(fallback=False).fit(X, Y).fallbacks_ == {}


def test_too_few_labels_are_averaged() -> None:
    X, Y = mixed(300, missing=0.0)
    Y.loc[12:, "spend"] = np.nan
    model = quietly(StackingEnsemble(members(), cv=3, random_state=0), X, Y)
    assert "too few" in model.fallbacks_["spend"]


def test_a_combiner_that_no_row_can_judge() -> None:
    X, Y = mixed(240, missing=0.0)
    Y.loc[60:119, "buy"] = 0.0  # of two folds in time the first: nothing to learn to judge the second by
    folds = [(np.arange(60), np.arange(60, 120)), (np.arange(120), np.arange(120, 240))]
    model = quietly(StackingEnsemble(members()[:2], cv=folds), X, Y)
    assert "too few" in model.fallbacks_["buy"]


@pytest.mark.parametrize("passthrough", [False, True])
def test_every_kind_at_once_with_missing_labels(passthrough: bool) -> None:
    X, Y = mixed()
    model = quietly(StackingEnsemble(members(), cv=3, passthrough=passthrough, random_state=0), X, Y)
    scores = model.predict_scores(X)
    assert scores.columns.tolist() == ["buy", "spend", "visits", "reason=gift", "reason=need", "reason=whim"]
    assert np.isfinite(scores).all(axis=None)
    np.testing.assert_allclose(scores.filter(like="reason").sum(axis=1), 1.0)
    assert model.score(X, Y) > 0.2
    assert (model.weights_ >= 0).all(axis=None)
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.predict_scores(X), scores)
    single = model.predict_scores(X.iloc[[7]])
    np.testing.assert_allclose(single, scores.iloc[[7]])


def test_rows_that_no_fold_covers_are_left_out_and_counted() -> None:
    X, Y = mixed()
    model = quietly(StackingEnsemble(members(), cv=TimeSeriesSplit(3)), X, Y)
    assert model.n_uncovered_ == 150
    first = model.fold_ == 0
    assert model.oof_scores_[first].isna().any(axis=1).all()  # later folds learn from earlier ones
    assert model.oof_scores_[model.fold_ > 0].notna().all(axis=None)


def test_the_funnel_stays_consistent() -> None:
    X, Y = funnel()
    Y.loc[::3, "buy"] = np.nan
    model = quietly(StackingEnsemble(members(FUNNEL), cv=3, random_state=0), X, Y)
    entire, conditional = (model.predict_scores(X, space) for space in ("entire", "conditional"))
    assert (entire["buy"] <= entire["click"]).all()
    np.testing.assert_allclose(conditional["buy"] * entire["click"], entire["buy"])


def test_noise_stays_at_chance() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20_000, 3))
    Y = pd.DataFrame({"noise": rng.integers(0, 2, 20_000), "other": X[:, 0] + rng.normal(size=20_000)})
    pair = [("linear", PerTaskModel(learner="linear")), ("tree", PerTaskModel(learner=trees(4), random_state=0))]
    model = quietly(StackingEnsemble(pair, cv=4, fallback=False, random_state=0), X, Y)
    aucs = [roc_auc(Y["noise"][model.fold_ == k], model.oof_scores_["noise"][model.fold_ == k]) for k in range(4)]
    assert abs(np.mean(aucs) - 0.5) < 0.02


def test_the_linear_combiner_has_the_slope_of_its_objective() -> None:
    rng = np.random.default_rng(0)
    data = MetaData(rng.normal(size=(2, 200)), rng.normal(size=(200, 3)))
    y = (data.own.sum(axis=0) + data.side[:, 1] + rng.logistic(size=200) > 0).astype(float)
    found = fit_linear_meta("binary", data, y, np.ones(200), 1e-9, np.array([0.5, 0.5]))
    columns = np.column_stack([*data.own, (data.side - found.center) / found.scale])
    peer = LogisticRegression(C=np.inf, tol=1e-8).fit(columns, y)
    assert (peer.coef_[0, :2] > 0).all()  # so that the bounds do not bite
    np.testing.assert_allclose(np.r_[found.weights, found.side_weights[:, 0]], peer.coef_[0], rtol=1e-3, atol=1e-4)
    held = fit_linear_meta("binary", data, y, np.ones(200), 1e9, np.array([0.5, 0.5]))
    np.testing.assert_allclose(held.predict(data), 1 / (1 + np.exp(-data.own.mean(axis=0))), atol=1e-5)


def slow_objective(kind: str, data: MetaData, y: Any, weight: Any, penalty: float, center: Any) -> Any:
    """Intercepts, weights of members and of columns -> the formula of `fit_linear_meta`, term by term."""
    side = (data.side - data.side.mean(axis=0)) / data.side.std(axis=0)
    n_outputs, n_members = (data.own.shape[2] if kind == "multiclass" else 1), len(data.own)
    error = np.average((y - np.tensordot(center, data.own, axes=1)) ** 2, weights=weight) if kind == "regression" else 1
    spread = np.mean([own.var(axis=0).mean() for own in data.own]) / error

    def objective(x: Any) -> float:
        b, w, v = np.split(x, [n_outputs, n_outputs + n_members])
        eta = np.tensordot(w, data.own, axes=1) + (b + side @ v.reshape(-1, n_outputs)).reshape(data.own.shape[1:])
        loss = {
            "binary": lambda: -np.where(y == 1, log_expit(eta), log_expit(-eta)),
            "multiclass": lambda: -log_softmax(eta, axis=1)[np.arange(len(y)), y.astype(int)],
            "count": lambda: np.exp(eta) - y * eta,
            "regression": lambda: (y - eta) ** 2 / (2 * error),
            "ranking": lambda: listwise(y, eta, data.groups),
        }[kind]()
        held = spread * np.sum((w - center) ** 2) + (np.sum(v**2) + np.sum(b**2)) / error
        return float(np.sum(weight / weight.mean() * loss) + penalty / 2 * held)

    return objective


def listwise(y: Any, eta: Any, groups: Any) -> Any:
    """Query by query the cross-entropy of the softmax of the scores against the shares of gain."""
    loss = np.zeros(len(y))
    for query in np.unique(groups):
        rows = groups == query
        gain = 2 ** y[rows] - 1
        loss[rows] = -gain / gain.sum() * log_softmax(eta[rows])
    return loss


@pytest.mark.parametrize("kind", ["binary", "multiclass", "count", "regression", "ranking"])
def test_the_linear_combiner_minimizes_its_formula(kind: str) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 150, 3) if kind == "multiclass" else (2, 150)
    data, center = MetaData(rng.normal(size=shape), rng.normal(1, 2, size=(150, 2))), np.array([0.7, 0.3])
    weight = rng.uniform(0.2, 3, 150)
    if kind == "ranking":
        data, weight = replace(data, groups=np.repeat(np.arange(15), 10)), np.repeat(weight[:15], 10)
    truth = data.own[0] - data.own[1] + (0.5 if kind == "multiclass" else 0.3 * data.side[:, 0])  # one weight ends at 0
    y = {
        "binary": lambda: (truth > rng.logistic(size=150)).astype(float),
        "multiclass": lambda: (truth + rng.gumbel(size=truth.shape)).argmax(axis=1).astype(float),
        "count": lambda: rng.poisson(np.exp(truth)).astype(float),
        "regression": lambda: truth + rng.normal(size=150),
        "ranking": lambda: np.clip(np.round(truth + rng.normal(size=150)), 0, 4) + (np.arange(150) % 10 == 0),
    }[kind]()
    objective = slow_objective(kind, data, y, weight, 3.0, center)
    found = fit_linear_meta(kind, data, y, weight, 3.0, center)
    x = np.r_[found.intercept, found.weights, found.side_weights.ravel()]
    assert found.weights[1] == 0
    bounds = [
        (0, None) if len(found.intercept) <= j < len(found.intercept) + 2 else (None, None) for j in range(len(x))
    ]
    best = minimize(
        objective, np.r_[0 * x[: len(found.intercept)], center, 0 * found.side_weights.ravel()], bounds=bounds
    )
    assert objective(x) == pytest.approx(best.fun, rel=1e-6)
    np.testing.assert_allclose(x, best.x, atol=2e-3)
    again = fit_linear_meta(kind, data, y, weight, 3.0, center, start=found)
    np.testing.assert_allclose(again.predict(data), found.predict(data), rtol=1e-2)


def test_the_penalty_is_that_of_least_loss_on_rows_not_seen() -> None:
    rng = np.random.default_rng(3)
    data = MetaData(rng.normal(size=(2, 120)), rng.normal(size=(120, 4)))
    weight, noise = rng.uniform(0.2, 3, 120), rng.normal(size=120)
    y = 0.7 * data.own[0] + 0.4 * data.own[1] + 0.3 * data.side[:, 1] + noise
    averages = [np.array([0.0, 1.0]), np.array([0.9, 0.1])]
    blocks = np.array_split(rng.permutation(120), 3)
    splits = [(np.concatenate([b for b in blocks if b is not test]), test, averages) for test in blocks]

    def loss(penalty: float, average: Any, reads: bool) -> float:
        found = [
            fit_linear_meta("regression", data.take(a), y[a], weight[a], penalty, average, reads_side=reads)
            for a, _, _ in splits
        ]
        return sum(
            float(weight[b] @ (y[b] - fit.predict(data.take(b))) ** 2)
            for fit, (_, b, _) in zip(found, splits, strict=True)
        )

    table = {
        (penalty, j, reads): loss(penalty, average, reads)
        for penalty in PENALTIES
        for j, average in enumerate(averages)
        for reads in (True, False)
    }
    best = min(table, key=lambda key: table[key])
    assert PENALTIES[0] < best[0] < PENALTIES[-1]
    assert best_penalty("regression", data, np.arange(120), y, weight, splits) == best
    one_label = [(a[:0], b, averages) for a, b, _ in splits]  # nothing to learn from: held as strongly as can be
    assert best_penalty("regression", data, np.arange(120), y, weight, one_label) == (PENALTIES[-1], 0, True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"neighbours": "some"}, ValueError, "neighbours must be"),
        ({"neighbours": {"buy": ["clicks"]}}, TaskError, "clicks"),
        ({"neighbours": {"buy": "spend"}}, TypeError, r"neighbours\['buy'\] must be a list of tasks, got 'spend'"),
        ({"fallback": "never"}, ValueError, "fallback"),
        ({"final_estimator": {"clicks": Ridge()}}, TaskError, "clicks"),
        ({"final_estimator": {"buy": Ridge()}}, TypeError, "predict_proba"),
        ({"final_estimator": {"spend": "ridge"}}, TypeError, "scikit-learn estimator"),
        ({"final_estimator": {"spend": LogisticRegression()}}, TypeError, "'spend' needs a regressor, .* a classifier"),
    ],
)
def test_what_cannot_work_is_refused_first(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, Y = mixed(60)
    with pytest.raises(error, match=message):
        StackingEnsemble(members(), **change).fit(X, Y)


def test_combiners_may_be_given_for_some_tasks_only() -> None:
    X, Y = mixed()
    model = quietly(
        StackingEnsemble(members(), final_estimator={"buy": LogisticRegression()}, cv=3, random_state=0), X, Y
    )
    assert isinstance(model.final_estimators_["buy"].model, LogisticRegression)
    assert model.weights_["buy"].isna().all()
    assert len(MIXED) == len(model.final_estimators_)


@pytest.mark.filterwarnings("ignore::mtl_classic.ConstantTaskWarning")
def test_a_given_combiner_needs_two_classes() -> None:
    X, Y = mixed(200)
    Y["buy"] = Y["buy"].where(Y["buy"] == 1)
    model = StackingEnsemble(members(), final_estimator=LogisticRegression(), cv=3, random_state=0)
    quietly(model, X, Y)
    assert "nothing to tell apart" in model.fallbacks_["buy"]
    assert (model.predict_scores(X)["buy"] == 1).all()
    assert isinstance(model.final_estimators_["reason"].model, LogisticRegression)


def test_rows_that_several_tasks_lack_are_scored_once() -> None:
    """What it costs to bring refitted members back to the spread of the folds' does not grow with tasks squared."""
    n, rng = 1000, np.random.default_rng(0)
    tasks = (Task("a", "regression"), Task("b", "regression"), Task("c", "regression"))
    Y = rng.normal(size=(n, 3))
    Y[:300, 0], Y[:300, 1], Y[600:, 2] = np.nan, np.nan, np.nan
    folds = {task.name: rng.normal(1.0, 2.0, n) for task in tasks}
    store = OutOfFold(("m",), tasks, dict.fromkeys("abc"), np.arange(n) % 2, False, {"m": folds}, {})
    asked = []

    class Member:
        def _start_predict(self, X: Any) -> Any:
            return X

        def _scores(self, X: Any, space: str) -> dict[str, Any]:
            asked.append(len(X))
            return {task.name: 3 * X[:, j] for j, task in enumerate(tasks)}

    given = FitInput(rng.normal(size=(n, 3)), encode_targets(Y, tasks), None)
    matched = match_members({"m": Member()}, store, given)["m"]
    assert asked == [700]
    for j, name in enumerate("abc"):
        rows = np.flatnonzero(np.isnan(Y[:, j]))
        back = matched[name](3 * given.X[rows, j])
        assert (back.mean(), back.std()) == pytest.approx((folds[name][rows].mean(), folds[name][rows].std()))


class Surer(MultiTaskEstimator):
    """Scores x, but three times x and 1 where it was fitted on all rows."""

    def __init__(self, tasks: Any = None) -> None:
        self.tasks = tasks

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> "Surer":
        given = self._start_fit(X, Y, sample_weight)
        self.all_ = len(given.X) == 600
        return self

    def _scores(self, X: Any, space: str) -> Any:
        return {"y": 3 * X[:, 0] + 1 if self.all_ else X[:, 0]}


@pytest.mark.parametrize(("n_unlabelled", "wide"), [(200, 1.0), (199, 3.0)])
def test_members_that_are_surer_of_themselves_on_all_rows_are_brought_back(n_unlabelled: int, wide: float) -> None:
    X = np.random.default_rng(0).normal(size=(600, 1))
    y = X[:, 0] + 0.01 * np.random.default_rng(1).normal(size=600)
    y[:n_unlabelled] = np.nan  # the rows that neither fit has seen
    model = StackingEnsemble([("one", Surer({"y": "regression"}))], cv=np.arange(600) % 3, fallback=False).fit(X, y)
    scores = model.predict_scores(X)["y"].to_numpy()
    np.testing.assert_allclose(scores, wide * X[:, 0] + (wide > 1), atol=0.03)


def test_members_that_tell_nothing_leave_a_model_that_predicts() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(300, 3)), pd.DataFrame({"noise": rng.integers(0, 2, 300)})
    member = PerTaskModel({"noise": "binary"}, learner="forest", random_state=0)
    model = StackingEnsemble([("forest", member)], cv=3, fallback=False, random_state=0).fit(X, Y)
    assert model.weights_.loc["forest", "noise"] == 0
    np.testing.assert_allclose(model.predict_scores(X)["noise"], Y["noise"].mean(), atol=0.05)
