"""How StackingEnsemble combines members whose scores are known: what is learnt from which rows, and judged by which."""

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.utils.validation import check_is_fitted

from mtl_classic import EventLog, FallbackWarning, MultiTaskEstimator, StackingEnsemble, Task
from mtl_classic.ensemble._links import from_link
from mtl_classic.ensemble._meta import LinearMeta, MetaData, best_penalty, fit_linear_meta
from mtl_classic.ensemble._store import meta_splits
from mtl_classic.metrics import compare
from mtl_classic.model_selection import FoldPlan, Temporal, make_folds

TASKS = {"y": "regression", "z": "regression"}


class Told(MultiTaskEstimator):
    """Scores that the rows bring along, whatever it was fitted on; it notes what it is given besides."""

    def __init__(self, tasks: Any = None, columns: Any = None, *, user: Any = None, time: Any = None) -> None:
        self.tasks, self.columns, self.user, self.time = tasks, columns, user, time

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> "Told":
        self._start_fit(X, Y, sample_weight)
        self.given_ = sample_weight, events, plan
        return self

    def _scores(self, X: Any, space: str) -> Any:
        return {name: X[column].to_numpy(dtype=float) for name, column in self.columns.items()}


def one() -> list[tuple[str, Told]]:
    return [("one", Told(TASKS, {"y": "a", "z": "b"}, user="user", time="day"))]


def rows(helps: float) -> tuple[pd.DataFrame, pd.DataFrame, Any, FoldPlan]:
    """Rows, labels with gaps, weights with zeros and folds in time; the score of z helps that of y so much."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=600), "b": rng.normal(size=600), "user": rng.integers(0, 80, 600)})
    X["day"] = rng.permutation(600) // 4
    noise = rng.normal(size=80)[X["user"]] / 2 + rng.normal(size=600)
    Y = pd.DataFrame({"y": X["a"] + helps * X["b"] + noise, "z": X["b"] + noise})
    weight = np.where(rng.random(600) < 0.1, 0.0, rng.uniform(0.2, 3, 600))
    return X, Y.mask(rng.random(Y.shape) < 0.1), weight, make_folds(Temporal(4), Y, time=X["day"])


def labelled(X: pd.DataFrame, y: Any, weight: Any, plan: FoldPlan) -> tuple[Any, list[tuple[Any, Any]]]:
    """Rows that can teach, and which of them teach what predicts which rows."""
    able = np.flatnonzero((plan.fold >= 0) & y.notna() & (weight > 0))
    return able, [(np.intersect1d(able, train), test) for train, test in meta_splits(plan.fold, True, X["day"])]


def test_the_linear_combiner_is_judged_by_later_rows() -> None:
    X, Y, weight, plan = rows(0.5)
    log = EventLog(pd.DataFrame({"user": [1], "item": [1], "time": [1]}), user="user", item="item", time="time")
    model = StackingEnsemble(one(), fallback=False).fit(X, Y, sample_weight=weight, events=log, plan=plan)
    np.testing.assert_array_equal(model.fold_, plan.fold)
    told, events, given_plan = model.estimators_[0].given_
    np.testing.assert_array_equal(np.asarray(told).reshape(600, -1)[:, 0], weight)
    assert events is log
    assert given_plan is plan
    y, data = Y["y"].to_numpy(), MetaData(X[["a"]].to_numpy().T, X[["b"]].to_numpy())
    able, splits = labelled(X, Y["y"], weight, plan)
    inner = [
        (np.searchsorted(able, train), np.flatnonzero(np.isin(able, test)), [np.ones(1)]) for train, test in splits
    ]
    penalty, *_ = best_penalty("regression", data, able, y[able], weight[able], inner)

    def fit(some: Any) -> LinearMeta:
        return fit_linear_meta("regression", data.take(some), y[some], weight[some], penalty, np.ones(1))

    expected = np.full(600, np.nan)
    for train, test in splits:
        if len(train):
            expected[test] = fit(train).predict(data.take(test))
    assert np.isfinite(expected).sum() > 200
    np.testing.assert_allclose(model.oof_scores_["y"], expected, rtol=1e-6)
    np.testing.assert_allclose(model.predict_scores(X)["y"], fit(able).predict(data), rtol=1e-6)
    assert fit(able).side_weights[0] > 0.2


def test_a_neighbour_is_read_whatever_the_unit_of_its_labels() -> None:
    rng = np.random.default_rng(0)
    own, side = rng.normal(size=(1, 400)), rng.normal(size=(400, 2))
    side[:, 1] = 3 + 1e-6 * side[:, 1]  # a constant, but for rounding
    y = (side[:, 0] + rng.logistic(size=400) > 0).astype(float)
    found = [fit_linear_meta("binary", MetaData(own, u * side), y, np.ones(400), 3.0, np.ones(1)) for u in (1, 2**-20)]
    assert found[0].side_weights[0] > 0.7
    np.testing.assert_allclose(found[1].side_weights, found[0].side_weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-6, 100.0, 1e6])
def test_the_unit_of_amounts_does_not_matter(unit: float) -> None:
    rng = np.random.default_rng(0)
    own, side, weight = rng.normal(size=(2, 300)), rng.normal(size=(300, 2)), rng.uniform(0.5, 2, 300)
    y = 0.6 * own[0] + 0.5 * side[:, 0] + rng.normal(size=300)
    one, other = (
        fit_linear_meta("regression", MetaData(u * own, side), u * y, weight, 10.0, np.array([0.5, 0.5]))
        for u in (1.0, unit)
    )
    assert one.side_weights[0] > 0.3
    np.testing.assert_allclose(other.weights, one.weights, rtol=1e-6)
    np.testing.assert_allclose(other.side_weights, unit * one.side_weights, rtol=1e-6)
    np.testing.assert_allclose(other.intercept, unit * one.intercept, rtol=1e-6)


@pytest.mark.parametrize("kind", ["regression", "binary", "count"])
def test_neighbours_that_tell_only_of_old_rows_are_left(kind: str) -> None:
    rng = np.random.default_rng(1)
    own, side = rng.normal(size=(2, 3000)), rng.normal(size=(3000, 1))
    late = np.arange(3000) >= 2000
    eta = 1.5 * own[0] + np.where(late, -0.5, 0.5) * side[:, 0]
    y = {"regression": eta + rng.normal(size=3000), "binary": 1.0 * (rng.random(3000) < expit(eta))}.get(kind)
    y = rng.poisson(np.exp(eta)).astype(float) if y is None else y
    split = np.flatnonzero(~late), np.flatnonzero(late), [np.array([0.5, 0.5])]
    data, every = MetaData(own, side), np.arange(3000)
    penalty, _, reads_side = best_penalty(kind, data, every, y, np.ones(3000), [split])
    assert penalty < 100  # so that the members' weights are free
    assert not reads_side
    found = fit_linear_meta(kind, data, y, np.ones(3000), penalty, split[2][0], reads_side=reads_side)
    assert found.side_weights.tolist() == [[0.0]]
    assert found.weights[0] > (1.3 if kind == "binary" else 1.4)
    assert found.predict(data) == pytest.approx(from_link(kind, found.intercept + found.weights @ own))


def test_a_given_combiner_is_judged_by_later_rows() -> None:
    X, Y, weight, plan = rows(0.5)
    final = {"y": Ridge(3.0)}
    model = StackingEnsemble(one(), final_estimator=final, fallback=False).fit(X, Y, sample_weight=weight, plan=plan)
    able, splits = labelled(X, Y["y"], weight, plan)

    def fit(some: Any) -> Any:
        return Ridge(3.0).fit(X[["a", "b"]].to_numpy()[some], Y["y"].to_numpy()[some], weight[some])

    expected = np.full(600, np.nan)
    for train, test in splits:
        if len(train):
            expected[test] = fit(train).predict(X[["a", "b"]].to_numpy()[test])
    np.testing.assert_allclose(model.oof_scores_["y"], expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict_scores(X)["y"], fit(able).predict(X[["a", "b"]].to_numpy()), rtol=1e-9)


def test_a_task_falls_back_by_the_loss_of_the_rows_that_count() -> None:
    X, Y, weight, plan = rows(0.0)
    free = StackingEnsemble(one(), fallback=False).fit(X, Y, sample_weight=weight, plan=plan)
    losses = {name: (Y[name] - free.oof_scores_[name]) ** 2 for name in TASKS}
    plain = {name: (Y[name] - X[column]) ** 2 for name, column in (("y", "a"), ("z", "b"))}
    table = compare(losses, plain, clusters=X["user"], sample_weight=weight)
    assert (table["difference"] > 0).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        model = StackingEnsemble(one()).fit(X, Y, sample_weight=weight, plan=plan)
    assert set(model.fallbacks_) == set(table.index[table["difference"] > 0])
    for name, why in model.fallbacks_.items():
        row = table.loc[name]
        assert f"{row['baseline']:.5g} against {row['value']:.5g}" in why
        assert f"{row['difference_low']:.2g} to {row['difference_high']:.2g}" in why
        own = X[one()[0][1].columns[name]]
        np.testing.assert_allclose(model.predict_scores(X)[name], own)
        np.testing.assert_allclose(model.oof_scores_[name][plan.fold > 0], own[plan.fold > 0])


@pytest.mark.parametrize(("n_labels", "change"), [(18, 2.0), (300, 0.5)])
def test_labels_of_a_fold_do_not_change_what_combines_its_scores(n_labels: int, change: float) -> None:
    """Neither greedy weights (of few labels) nor the average that a linear combiner is pulled to."""
    rng = np.random.default_rng(0)
    X, fold = pd.DataFrame(rng.normal(size=(300, 3)) * [5, 1, 1], columns=list("cab")), np.arange(300) % 3
    y = (X["a"] + 0.2 * X["b"] - 0.1 * X["c"] + rng.normal(size=300)).where(np.arange(300) < n_labels)
    members = [(name, Told({"y": "regression"}, {"y": name})) for name in X]
    models = []
    for labels in (y, y.mask(fold == 2, y + change * X["b"])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            models.append(StackingEnsemble(members, cv=fold, fallback=n_labels == 18).fit(X, labels))
    one, other = models
    if n_labels > 18:
        assert one.final_estimators_["y"].penalty == other.final_estimators_["y"].penalty  # that is of all rows
    assert not np.allclose(one.weights_, other.weights_)
    np.testing.assert_array_equal(one.oof_scores_["y"][fold == 2], other.oof_scores_["y"][fold == 2])
    assert not np.allclose(one.oof_scores_["y"][fold == 1], other.oof_scores_["y"][fold == 1])
    for model in models:
        weights, meta = model.weights_["y"], model.final_estimators_["y"]
        assert list(model.named_estimators_) == list(weights.index[weights > 0])
        shift = 0.0 if meta is None else meta.intercept[0]
        np.testing.assert_allclose(model.predict_scores(X)["y"], X @ weights + shift)
    assert list(one.named_estimators_) == ["a", "b"]


@pytest.mark.parametrize(
    ("neighbours", "read"),
    [("all", {"y": "zw", "z": "yw", "w": "yz"}), (None, {"y": "", "z": "", "w": ""}),
     ({"y": ["z", "y"], "w": ["y"]}, {"y": "z", "z": "", "w": "y"})],
)  # fmt: skip
def test_a_combiner_reads_its_neighbours_and_not_its_own_task_twice(neighbours: Any, read: dict[str, str]) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["y", "z", "w"])
    member = Told(dict.fromkeys(X, "regression"), {name: name for name in X})
    linear = StackingEnsemble([("one", member)], neighbours=neighbours, fallback=False, cv=2, random_state=0)
    linear.fit(X, X + np.random.default_rng(1).normal(size=X.shape))
    raw = StackingEnsemble([("one", member)], final_estimator=LinearRegression(), neighbours=neighbours, cv=2)
    raw.set_params(random_state=0).fit(X, X + np.random.default_rng(1).normal(size=X.shape))
    for name, others in read.items():
        center = linear.final_estimators_[name].center
        assert sorted(center) == pytest.approx(sorted(X[list(others)].mean()))
        assert raw.final_estimators_[name].model.n_features_in_ == 1 + len(others)


class Shares(ClassifierMixin, BaseEstimator):
    """The share of each class among the labels that it was fitted on."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Shares":
        self.classes_, count = np.unique(y, return_counts=True)
        self.share_ = count / len(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        check_is_fitted(self)
        return np.tile(self.share_, (len(X), 1))


class SharesOfAll(MultiTaskEstimator):
    """All classes alike."""

    def __init__(self, tasks: Any = None) -> None:
        self.tasks = tasks

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> "SharesOfAll":
        self._start_fit(X, Y, sample_weight)
        return self

    def _scores(self, X: Any, space: str) -> Any:
        return {"kind": np.full((len(X), 3), 1 / 3)}


def test_classes_that_a_fold_lacks_have_no_chance_in_it() -> None:
    kinds = np.array(["a", "b", "c"] * 40)
    fold = np.where(kinds == "b", 0, np.arange(120) % 2)  # what predicts fold 0 has not seen b
    X = pd.DataFrame({"x": np.zeros(120)})
    member = SharesOfAll({"kind": "multiclass"})
    model = StackingEnsemble([("one", member)], final_estimator=Shares(), cv=fold, random_state=0).fit(
        X, pd.DataFrame({"kind": kinds})
    )
    np.testing.assert_allclose(model.oof_scores_[fold == 0], [[0.5, 0.0, 0.5]] * int((fold == 0).sum()))
    np.testing.assert_allclose(model.predict_scores(X), [[1 / 3] * 3] * 120)


def test_given_combiners_of_counts_predict_no_negative_means() -> None:
    X = pd.DataFrame({"n": np.linspace(0, 3, 100)})
    member = Told({"n": "count"}, {"n": "n"})
    y = np.floor(X["n"] ** 3)
    model = StackingEnsemble([("one", member)], final_estimator=LinearRegression(), cv=2, random_state=0).fit(X, y)
    line = LinearRegression().fit(X.to_numpy(), y).predict(X.to_numpy())
    assert line.min() < -1
    np.testing.assert_allclose(model.predict_scores(X)["n"], np.maximum(line, 0))


@pytest.mark.parametrize(("n_labels", "few"), [(19, True), (20, False)])
def test_twenty_labels_are_enough_to_choose_by(n_labels: int, few: bool) -> None:
    X = pd.DataFrame({"y": np.random.default_rng(0).normal(size=60)})
    y = (X["y"] + np.random.default_rng(1).normal(size=60)).where(np.arange(60) < n_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        model = StackingEnsemble([("one", Told({"y": "regression"}, {"y": "y"}))], cv=2, random_state=0).fit(X, y)
    assert bool(re.search("too few", model.fallbacks_.get("y", ""))) == few


@pytest.mark.parametrize(("task", "final"), [
    (Task("r", "ranking", query="q"), Ridge()), (Task("r", "binary", loss="kl"), LogisticRegression())
])  # fmt: skip
def test_tasks_without_classes_or_numbers_take_no_given_combiner(task: Task, final: Any) -> None:
    X = pd.DataFrame({"score": np.random.default_rng(0).random(60), "q": np.arange(60) // 3})
    member = [("one", Told([task], {"r": "score"}))]
    y = pd.Series(np.arange(60) % 3 / (1 if task.kind == "ranking" else 2), name="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        model = StackingEnsemble(member, final_estimator=final, cv=2, random_state=0).fit(X, y.to_frame())
    assert not hasattr(model.final_estimators_["r"], "model")
    with pytest.raises(ValueError, match="'r' cannot have a final_estimator"):
        StackingEnsemble(member, final_estimator={"r": final}, cv=2).fit(X, y.to_frame())
