"""CalibratedModel: corrects what is wrong, leaves alone what is right, keeps funnels consistent."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    CalibratedModel,
    EventLog,
    MultiTaskEstimator,
    PerTaskModel,
    SklearnLearner,
    Task,
    TaskError,
)
from mtl_classic.ensemble._calibration import _fit_map
from mtl_classic.ensemble._store import meta_splits, time_blocks
from mtl_classic.metrics import compare, expected_calibration_error, log_loss
from mtl_classic.model_selection import Temporal, make_folds
from tests.ensemble.tables import FUNNEL, funnel


class Overconfident(ClassifierMixin, BaseEstimator):
    """A logistic regression whose logits are multiplied."""

    def __init__(self, factor: float = 4.0) -> None:
        self.factor = factor

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Overconfident":
        self.model_ = LogisticRegression().fit(X, y, sample_weight)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: Any) -> Any:
        p = self.model_.predict_proba(X) ** self.factor
        return p / p.sum(axis=1, keepdims=True)


def table(n: int = 3000, seed: int = 0) -> tuple[Any, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    score = 1.5 * X[:, 0]
    Y = pd.DataFrame(
        {
            "buy": (score + rng.logistic(size=n) > 0).astype(int),
            "kind": np.where(score + rng.logistic(size=n) > 1, "a", np.where(X[:, 1] > 0, "b", "c")),
        }
    )
    return X, Y


@pytest.mark.parametrize("method", ["sigmoid", "beta", "temperature"])
def test_maps_have_the_least_loss_and_are_held_to_no_change(method: str) -> None:
    rng = np.random.default_rng(0)
    if method == "temperature":
        score = rng.dirichlet([1, 1, 1], 300)
        y = (np.log(score) * 0.4 + rng.gumbel(size=score.shape)).argmax(axis=1).astype(float)
        y[:20] = -1  # a class that the fit did not see
    else:
        score = rng.beta(1, 2, 300)
        y = (rng.random(300) < score**1.5 / 2).astype(float)
    weight = rng.uniform(0.1, 3, 300)
    seen = np.arange(300) >= 30
    weight[30:40] = 0
    y[40:50] = np.nan
    score[50:60] = np.nan

    def mapped(c: Any) -> Any:
        if method == "temperature":
            return softmax(c[0] * np.log(score), axis=1)
        up, down = np.log(score), np.log1p(-score)
        return expit(c[0] * (up - down) + c[1] if method == "sigmoid" else c[0] * up - c[1] * down + c[2])

    told = np.flatnonzero(seen & (weight > 0) & ~np.isnan(y) & ~np.isnan(score.reshape(300, -1)).any(axis=1))
    start = np.array({"sigmoid": [1.0, 0.0], "beta": [1.0, 1.0, 0.0], "temperature": [1.0]}[method])

    def objective(c: Any) -> float:
        q, label = mapped(c)[told], y[told]
        loss = -np.log(q[np.arange(len(told)), label.astype(int)] if q.ndim == 2 else np.where(label == 1, q, 1 - q))
        loss = np.where(label < 0, 0, loss)
        return float(np.sum(weight[told] / weight[told].mean() * loss) + np.sum((c - start) ** 2) / 2)

    best = minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}).x
    assert (best[: 1 if method != "beta" else 2] > 0).all()  # so that the bounds do not bite
    found = _fit_map(method, y[seen], score[seen], weight[seen])
    np.testing.assert_allclose(found(score[told]), mapped(best)[told], rtol=2e-3)


def test_isotonic_steps_by_hand() -> None:
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.15, 0.25, np.nan])
    y, weight = np.array([0.0, 1.0, 0.0, 1.0, np.nan, 1.0, 1.0]), np.array([1.0, 3.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    found = _fit_map("isotonic", y, score, weight)
    np.testing.assert_allclose(found(np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.0])), [0.1, 0.1, 0.75, 0.75, 0.9, 0.9])


def test_maps_never_turn_the_order_of_scores() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.05, 0.95, 500)
    y = (rng.random(500) > score).astype(float)
    grid = np.linspace(0.01, 0.99, 99)
    for method in ("sigmoid", "beta", "isotonic"):
        assert (np.diff(_fit_map(method, y, score, np.ones(500))(grid)) >= -1e-9).all()


def test_scores_that_are_too_timid_are_sharpened() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    y = (2 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1).astype(float)
    found = _fit_map("temperature", y, softmax(logits, axis=1), np.ones(4000))
    np.testing.assert_allclose(found(softmax(logits, axis=1)), softmax(2 * logits, axis=1), atol=0.03)


@pytest.mark.parametrize(
    ("method", "of_two", "of_three"),
    [
        ("temperature", ["sigmoid"], ["temperature"]),
        ("beta", ["beta"], ["temperature"]),
        ("auto", ["sigmoid", "beta", "isotonic"], ["temperature"]),
        ({"buy": "temperature"}, ["sigmoid"], []),
        ({"kind": "isotonic", "buy": None}, [], ["temperature"]),
    ],
)
def test_each_kind_has_its_methods(method: Any, of_two: list[str], of_three: list[str]) -> None:
    X, Y = table(300)
    tried = CalibratedModel(PerTaskModel(learner="linear").fit(X, Y), method=method, cv="prefit").fit(X, Y).report_
    assert tried.index.tolist() == [*(("buy", one) for one in of_two), *(("kind", one) for one in of_three)]


def wrong(**settings: Any) -> PerTaskModel:
    return PerTaskModel(learner=SklearnLearner(Overconfident(), LogisticRegression()), **settings)


@pytest.mark.parametrize("time", [None, "day"])
def test_a_map_must_outlast_the_window_it_was_fitted_on(time: str | None) -> None:
    """A base rate that was higher for a while: within the window a map helps, after it none does."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=9000), "day": np.arange(9000) // 30})
    raised = (X["day"] >= 100) & (X["day"] < 233)
    y = (X["x"] + 2.0 * raised + rng.logistic(size=9000) > 0).astype(int)
    fitted = PerTaskModel({"buy": "binary"}, learner="linear", exclude=["day"], time=time).fit(X[:3000], y[:3000])
    model = CalibratedModel(fitted, cv="prefit").fit(X[3000:], y[3000:])
    assert (model.methods_["buy"] is None) == (time is not None)


@pytest.mark.parametrize("way", ["plan", "kept", "prefit"])
def test_maps_are_judged_by_later_rows_and_the_best_is_fitted_on_all(way: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=3000), "day": np.arange(3000) // 4, "user": rng.integers(0, 300, 3000)})
    y = (X["x"] + rng.normal(size=300)[X["user"]] + rng.logistic(size=3000) > X["day"] / 1000).astype(float)
    y, weight = y.mask(rng.random(3000) < 0.1), np.where(rng.random(3000) < 0.1, 0.0, rng.uniform(0.2, 2, 3000))
    member = PerTaskModel(
        {"buy": "binary"}, learner=SklearnLearner(Overconfident(2.0)), user="user", time="day", exclude=["user"]
    )
    plan = make_folds(Temporal(4), y, time=X["day"])
    if way == "prefit":
        fold, early = np.zeros(3000, dtype=np.intp), member.fit(X[:1000], y[:1000])
        model = CalibratedModel(early, cv="prefit").fit(X, y, sample_weight=weight)
    else:
        kept, fold = AveragingEnsemble([("one", member)], weights="greedy"), plan.fold
        model = CalibratedModel(kept if way == "kept" else member).fit(X, y, sample_weight=weight, plan=plan)
        alone = clone(member).fit(X, y, sample_weight=weight).predict_scores(X)
        pd.testing.assert_frame_equal(model.estimator_.predict_scores(X), alone)
    y, score = y.to_numpy(), model.oof_scores_["buy"].to_numpy()
    held_out = {}
    for method in ("sigmoid", "beta", "isotonic"):
        held_out[method] = np.full(3000, np.nan)
        for train, test in meta_splits(fold, True, X["day"].to_numpy()):
            if len(train):
                held_out[method][test] = _fit_map(method, y[train], score[train], weight[train])(score[test])
    loss, before = (
        {name: -np.log(np.where(y == 1, p, np.where(y == 0, 1 - p, np.nan))) for name, p in scores.items()}
        for scores in (held_out, dict.fromkeys(held_out, score))
    )
    told = compare(loss, before, clusters=X["user"], sample_weight=weight)
    pd.testing.assert_frame_equal(model.report_.reset_index(drop=True), told.reset_index(drop=True))
    assert (told["verdict"] == "better").sum() > 1
    assert model.methods_["buy"] == told["difference"].idxmin()
    best = _fit_map(model.methods_["buy"], y, score, weight)
    np.testing.assert_allclose(model.maps_["buy"](np.linspace(0, 1, 50)), best(np.linspace(0, 1, 50)))


class Noted(MultiTaskEstimator):
    """Notes what it is given besides rows and labels."""

    def __init__(self, tasks: Any = None) -> None:
        self.tasks = tasks

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> "Noted":
        self._start_fit(X, Y, sample_weight)
        self.events_, self.plan_ = events, plan
        return self

    def _scores(self, X: Any, space: str) -> Any:
        return {"buy": np.full(len(X), 0.5)}


def test_the_log_and_the_plan_are_handed_to_the_estimator() -> None:
    X, Y = table(100)
    log = EventLog(pd.DataFrame({"user": [1], "item": [1], "time": [1]}), user="user", item="item", time="time")
    plan = make_folds(2, Y["buy"], random_state=1)
    model = CalibratedModel(Noted({"buy": "binary"})).fit(X, Y[["buy"]], events=log, plan=plan)
    assert model.estimator_.events_ is log
    assert model.estimator_.plan_ is plan


def test_blocks_of_time_keep_rows_of_one_time_together() -> None:
    np.testing.assert_array_equal(time_blocks(np.array([4, 1, 1, 2, 9, 9]), 3), [1, 0, 0, 1, 2, 2])
    assert not time_blocks(np.full(5, 7), 3).any()  # one time alone cannot be cut: the rows are dealt out
    together = meta_splits(np.zeros(5, dtype=np.intp), True, np.full(5, 7))
    assert sorted(np.concatenate([test for _, test in together])) == list(range(5))


def test_what_is_learnt_from_scores_is_judged_on_other_rows() -> None:
    fold, covered = np.repeat([-1, 0, 1, 2], 10), np.arange(10, 40)
    for k, (train, test) in enumerate(meta_splits(fold, False)):
        np.testing.assert_array_equal(test, np.flatnonzero(fold == k))
        np.testing.assert_array_equal(train, np.setdiff1d(covered, test))
    for k, (train, test) in enumerate(meta_splits(fold, True, np.arange(40))):
        np.testing.assert_array_equal(test, np.flatnonzero(fold == k + 1))
        np.testing.assert_array_equal(train, np.arange(10, test[0]))
    assert len(meta_splits(np.minimum(fold, 1), True)) == 1
    for temporal, time in ((False, None), (False, np.arange(40)), (True, None)):  # of one fold: dealt out
        dealt = meta_splits(np.minimum(fold, 0), temporal, time)
        assert [len(test) for _, test in dealt] == [6] * 5
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in dealt])), covered)
        assert all(np.ptp(test) > 6 for _, test in dealt)
        for train, test in dealt:
            np.testing.assert_array_equal(train, np.setdiff1d(covered, test))


def test_maps_wait_for_labels() -> None:
    fold, time = np.repeat([-1, 0, 1, 2], 10), np.arange(40)
    (first, _), (second, held) = meta_splits(fold, True, time, gap=12)
    assert not len(first)  # of the first fold no label was known when the second began
    np.testing.assert_array_equal(second, np.arange(10, 18))
    np.testing.assert_array_equal(held, np.arange(30, 40))
    (_, _), (within, _) = meta_splits(np.zeros(30, dtype=np.intp), True, np.arange(30), gap=5)
    np.testing.assert_array_equal(within, np.arange(15))


@pytest.mark.parametrize("method", ["auto", "sigmoid", "beta", "isotonic"])
def test_overconfidence_is_corrected(method: str) -> None:
    X, Y = table(6000)
    model = CalibratedModel(wrong(), method=method, cv=3, random_state=0).fit(X[:3000], Y[:3000])
    assert model.methods_["buy"] in (("sigmoid", "beta", "isotonic") if method == "auto" else (method,))
    assert model.methods_["kind"] == "temperature"
    assert (model.report_["verdict"] == "better").all()
    before, after = model.estimator_.predict_scores(X[3000:])["buy"], model.predict_scores(X[3000:])["buy"]
    y = Y["buy"][3000:]
    assert log_loss(y, after) < log_loss(y, before) - 0.1
    assert expected_calibration_error(y, before) > 0.1
    assert expected_calibration_error(y, after) < 0.04
    kinds = model.predict_scores(X[3000:]).filter(like="kind")
    np.testing.assert_allclose(kinds.sum(axis=1), 1.0)


def test_what_is_calibrated_is_left_alone() -> None:
    X, Y = table()
    model = CalibratedModel(PerTaskModel(learner="linear"), cv=3, random_state=0).fit(X, Y)
    assert model.methods_ == {"buy": None, "kind": None}
    plain = PerTaskModel(learner="linear").fit(X, Y).predict_scores(X)
    pd.testing.assert_frame_equal(model.predict_scores(X), plain)


def test_tasks_may_be_left_out_and_other_kinds_pass_through() -> None:
    X, Y = table()
    Y["spend"] = X[:, 0]
    learner = SklearnLearner(Overconfident(), Ridge())
    model = CalibratedModel(PerTaskModel(learner=learner), method={"buy": "beta"}, cv=3, random_state=0).fit(X, Y)
    assert model.methods_ == {"buy": "beta", "kind": None}
    assert model.report_.index.tolist() == [("buy", "beta")]


def test_numbers_alone_are_left_as_they_are() -> None:
    X, _ = table(400)
    model = CalibratedModel(PerTaskModel(learner="linear"), cv=2, random_state=0)
    model.fit(X, pd.DataFrame({"a": X[:, 0], "b": X.sum(axis=1)}))
    assert model.methods_ == {}
    assert model.report_.empty
    pd.testing.assert_frame_equal(model.predict_scores(X), model.estimator_.predict_scores(X))


def test_the_funnel_stays_consistent() -> None:
    X, Y = funnel(3000)
    model = CalibratedModel(PerTaskModel(FUNNEL[:2], learner=GaussianNB()), cv=3, random_state=0)
    model.fit(np.hstack([X, X, X]), Y[["click", "buy"]])
    assert model.methods_["click"] is not None
    scores = model.predict_scores(np.hstack([X, X, X]))
    assert (scores["buy"] <= scores["click"]).all()
    given = model.predict_scores(np.hstack([X, X, X]), "conditional")
    np.testing.assert_allclose(given["buy"] * scores["click"], scores["buy"])
    np.testing.assert_array_equal(given["click"], scores["click"])


def test_a_fitted_model_is_calibrated_on_rows_it_has_not_seen() -> None:
    X, Y = table(6000)
    fitted = wrong().fit(X[:3000], Y[:3000])
    model = CalibratedModel(fitted, cv="prefit").fit(X[3000:], Y[3000:])
    assert model.estimator_ is fitted
    assert model.methods_["buy"] is not None


def test_scores_of_an_ensemble_are_read_rather_than_made_again() -> None:
    X, Y = table()
    pair = [("wrong", wrong()), ("linear", PerTaskModel(learner="linear"))]
    ensemble = AveragingEnsemble(pair, weights="greedy", cv=3, random_state=0)
    model = CalibratedModel(ensemble).fit(X, Y)
    pd.testing.assert_frame_equal(model.oof_scores_, model.estimator_.oof_scores_)
    pd.testing.assert_frame_equal(model.oof_scores_, clone(ensemble).fit(X, Y).oof_scores_)


def test_an_average_of_fitted_members_is_cross_fitted_by_its_weights() -> None:
    X, Y = table()
    frozen = [(name, FrozenEstimator(m.fit(X[:1500], Y[:1500]))) for name, m in (("a", wrong()), ("b", wrong()))]
    ensemble = AveragingEnsemble(frozen, weights="greedy", cv="prefit")
    model = CalibratedModel(ensemble, cv=3, random_state=0).fit(X[1500:], Y[1500:])
    np.testing.assert_allclose(model.oof_scores_["buy"], frozen[0][1].estimator.predict_scores(X[1500:])["buy"])


def test_rows_that_every_bag_drew_teach_no_map() -> None:
    X, Y = table(1000)
    bags = BaggingEnsemble(wrong(), 3, random_state=0)
    model = CalibratedModel(bags, method="isotonic").fit(X, Y[["buy"]])
    assert model.oof_scores_["buy"].isna().any()
    assert model.methods_ == {"buy": "isotonic"}
    assert model.predict_scores(X[:0]).shape == (0, 1)


def test_one_class_but_for_rows_of_weight_0_teaches_no_map() -> None:
    X, Y = table(600)
    model = CalibratedModel(wrong().fit(X, Y), method="isotonic", cv="prefit")
    assert model.fit(X, Y, sample_weight=1.0 - Y["buy"]).methods_["buy"] is None


def test_noise_is_left_at_chance_and_missing_labels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 2)), rng.integers(0, 2, 20_000).astype(float)
    y[::2] = np.nan
    model = CalibratedModel(PerTaskModel(learner="linear"), cv=3, random_state=0).fit(X, y)
    assert model.methods_ == {"y0": None}
    assert model.predict_scores(X)["y0"].between(0.45, 0.55).all()


def test_copies_and_pickles() -> None:
    X, Y = table(1000)
    model = CalibratedModel(wrong(), cv=3, random_state=0).fit(X, Y)
    scores = model.predict_scores(X)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)
    pd.testing.assert_frame_equal(clone(model).fit(X, Y).predict_scores(X), scores)
    np.testing.assert_allclose(model.predict_scores(X[:1]), scores[:1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "platt"}, ValueError, "method must be"),
        ({"method": {"clicks": "beta"}}, TaskError, "clicks"),
        ({"cv": "fitted"}, ValueError, "prefit"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, Y = table(60)
    with pytest.raises(error, match=message):
        CalibratedModel(PerTaskModel([Task("buy", "binary")], learner="linear"), **change).fit(X, Y[["buy"]])


def test_the_maps_may_be_put_over_another_model() -> None:
    X, Y = table(6000)
    early, later = wrong().fit(X[:3000], Y[:3000]), wrong().fit(X, Y)
    calibrated = CalibratedModel(early, cv="prefit").fit(X[3000:], Y[3000:])
    moved = calibrated.over(later)
    assert moved.estimator_ is later
    assert calibrated.estimator_ is early
    raw, scores = later.predict_scores(X)["buy"].to_numpy(), moved.predict_scores(X)["buy"].to_numpy()
    np.testing.assert_allclose(scores, calibrated.maps_["buy"](raw))
    assert not np.allclose(scores, raw)
