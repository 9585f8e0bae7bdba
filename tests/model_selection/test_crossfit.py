"""The out-of-fold engine: what it covers, what its models have seen, what it works with."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mtl_classic import (
    ConstantTaskWarning,
    FoldError,
    LightGBMLearner,
    PerTaskModel,
    StackingEnsemble,
    Task,
    Temporal,
    cross_fit,
    make_folds,
)

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 3))
SMALL = LightGBMLearner(max_iter=10)


class Recorder(BaseEstimator):
    """Predicts how many rows it was fitted on, and remembers which."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, events: Any = None) -> "Recorder":
        self.seen_, self.weight_, self.events_ = set(np.asarray(X)[:, 0].tolist()), sample_weight, events
        return self

    def predict(self, X: Any) -> Any:
        if self.seen_ & set(np.asarray(X)[:, 0].tolist()):
            raise AssertionError("a predicted row was seen")
        return np.full(len(X), float(len(self.seen_)))


def test_models_have_not_seen_what_they_predict() -> None:
    rows = np.arange(20.0)[:, None]
    weight = np.arange(20.0)
    plan = make_folds(4, rows[:, 0], random_state=0)
    given = {"sample_weight": weight, "fit_params": {"events": "log"}}
    fit = cross_fit(Recorder(), rows, rows[:, 0], plan, method="predict", **given)
    assert (fit.predictions == 15).all()
    assert np.isnan(fit.scores).all()
    for model, (train, _) in zip(fit.models, plan.splits, strict=True):
        assert model.seen_ == set(train.tolist())
        assert model.weight_.tolist() == weight[train].tolist()
        assert model.events_ == "log"


@pytest.mark.parametrize("weight", [2.0, np.float64(2), np.array(2.0)])
def test_one_weight_is_that_of_all_rows(weight: Any) -> None:
    rows = np.arange(20.0)[:, None]
    plan = make_folds(4, rows[:, 0], random_state=0)
    fit = cross_fit(Recorder(), rows, rows[:, 0], plan, method="predict", sample_weight=weight)
    assert all(model.weight_.tolist() == [2.0] * 15 for model in fit.models)


def test_rows_that_no_fold_covers_are_nan() -> None:
    time = np.repeat(np.arange(6), 20)
    plan = make_folds(Temporal(2), X[:, 0], time=time)
    fit = cross_fit(LinearRegression(), X, X[:, 0], plan, method="predict")
    assert np.isnan(fit.predictions).tolist() == (plan.fold == -1).tolist()
    assert (fit.fold == plan.fold).all()
    frame = pd.DataFrame(X, index=range(5, 125))
    fit = cross_fit(PerTaskModel({"up": "binary"}, learner=SMALL, random_state=0), frame, X[:, 0] > 0, plan)
    assert fit.predictions["up"].isna().tolist() == (plan.fold == -1).tolist()
    assert fit.predictions.index.equals(frame.index)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_probabilities_of_scikit_learn_estimators(n_jobs: int | None) -> None:
    y = (X[:, 0] > 0).astype(int)
    plan = make_folds(3, y, random_state=0)
    fit = cross_fit(LogisticRegression(), X, y, plan, method="predict_proba", n_jobs=n_jobs)
    for k, (train, test) in enumerate(plan.splits):
        own = LogisticRegression().fit(X[train], y[train])
        np.testing.assert_allclose(fit.predictions[test], own.predict_proba(X[test]))
        assert fit.scores[k] == own.score(X[test], y[test])


def test_lists_become_an_array_per_task() -> None:
    Y = (X[:, :2] > 0).astype(int)
    plan = make_folds(2, Y, random_state=0)
    fit = cross_fit(MultiOutputClassifier(LogisticRegression()), X, Y, plan, method="predict_proba", score=False)
    assert [p.shape for p in fit.predictions] == [(120, 2), (120, 2)]
    assert not np.isnan(fit.predictions[1]).any()


def test_transformers_and_labels_as_texts() -> None:
    plan = make_folds(3, X[:, 0], random_state=0)
    scaled = cross_fit(StandardScaler(), X, X[:, 0], plan, method="transform").predictions
    assert scaled.shape == X.shape
    words = np.where(X[:, 0] > 0, "up", "down")
    predicted = cross_fit(LogisticRegression(), X, words, plan, method="predict").predictions
    assert set(predicted) == {"up", "down"}


def test_a_class_absent_from_a_fold_keeps_its_column() -> None:
    Y = pd.DataFrame({"kind": np.where(np.arange(120) < 10, "rare", np.where(X[:, 0] > 0, "a", "b"))})
    plan = make_folds(np.repeat([0, 1, 2], [10, 60, 50]), Y)  # the first fold's model never sees "rare"
    fit = cross_fit(PerTaskModel({"kind": "multiclass"}, learner=SMALL, random_state=0), X, Y, plan)
    assert set(fit.predictions) == {"kind=a", "kind=b", "kind=rare"}
    assert (fit.predictions["kind=rare"].to_numpy()[:10] == 0).all()
    np.testing.assert_allclose(fit.predictions.sum(axis=1), 1)


def test_labels_of_a_frame_and_probabilities_of_absent_classes() -> None:
    kind = np.where(np.arange(120) < 10, "rare", np.where(X[:, 0] > 0, "a", "z"))
    Y = pd.DataFrame({"kind": kind, "up": X[:, 1] > 0, "much": X[:, 2]})
    plan = make_folds(np.repeat([0, 1, 2], [10, 60, 50]), Y)
    tasks = {"kind": "multiclass", "up": "binary", "much": "regression"}
    model = PerTaskModel(tasks, learner=SMALL, random_state=0)
    labels = cross_fit(model, X, Y, plan, method="predict").predictions
    assert {"a", "z"} <= set(labels["kind"]) <= {"a", "rare", "z"}
    assert labels["much"].dtype == np.float64
    scores = cross_fit(model, X, Y, plan).predictions
    probabilities, up = cross_fit(make_pipeline(model), X, Y, plan, method="predict_proba").predictions
    np.testing.assert_array_equal(probabilities, scores[["kind=a", "kind=rare", "kind=z"]])
    np.testing.assert_array_equal(up[:, 1], scores["up"])
    plain = cross_fit(LogisticRegression(), X, kind, plan, method="predict_proba").predictions
    assert plain.shape == (120, 3)
    assert (plain[:10, 1] == 0).all()


def test_a_fold_with_negatives_only_predicts_the_negative() -> None:
    """The lone class "no" must not be taken for the positive one, as it would be from the fold's labels alone."""
    Y = pd.DataFrame({"buy": np.where((np.arange(120) < 60) & (X[:, 0] > 0), "yes", "no")})
    plan = make_folds(np.repeat([0, 1], 60), Y)
    model = make_pipeline(FunctionTransformer(), PerTaskModel(learner=SMALL, random_state=0))
    for estimator in (PerTaskModel(learner=SMALL, random_state=0), model):
        method = "predict_scores" if isinstance(estimator, PerTaskModel) else "decision_function"
        with pytest.warns(match="all with the same label .negative."):
            fit = cross_fit(estimator, X, Y, plan, method=method)
        assert (fit.predictions["buy"].to_numpy()[:60] == 0).all()
    assert estimator[-1].tasks is None  # the estimator itself is not changed


def test_kinds_are_inferred_from_all_rows() -> None:
    Y = pd.DataFrame({"spend": np.where(np.arange(120) < 60, X[:, 0].round(), X[:, 0])})
    plan = make_folds(np.repeat([0, 1], 60), Y)
    fit = cross_fit(PerTaskModel(learner=SMALL, random_state=0), X, Y, plan)  # integers alone would be refused
    assert [model.tasks_[0].kind for model in fit.models] == ["regression"] * 2


def test_n_jobs_changes_nothing() -> None:
    Y = pd.DataFrame({"up": X[:, 0] > 0, "size": np.abs(X[:, 1])})
    plan = make_folds(3, Y, random_state=0)
    one, two = (cross_fit(PerTaskModel(learner=SMALL, random_state=0), X, Y, plan, n_jobs=n) for n in (None, 2))
    pd.testing.assert_frame_equal(one.predictions, two.predictions, check_exact=True)
    assert one.scores.tolist() == two.scores.tolist()


def test_a_task_whose_labels_begin_after_the_first_fold() -> None:
    Y = pd.DataFrame({"up": X[:, 0] > 0, "late": X[:, 1]})
    Y.loc[:79, "late"] = np.nan
    plan = make_folds(Temporal(2), Y, time=np.arange(120))
    with pytest.raises(FoldError, match="Fold 0 cannot be trained: Task 'late' has no label in 40 rows; .*fewer folds"):
        cross_fit(PerTaskModel(learner=SMALL), X, Y, plan)


def test_a_fold_that_fails_is_named() -> None:
    y = (X[:, 0] > 0) & (np.arange(120) >= 40)
    plan = make_folds(Temporal(2), y, time=np.arange(120))
    with pytest.raises(ValueError, match="only one class") as caught:
        cross_fit(LogisticRegression(), X, y, plan, method="predict")
    assert caught.value.__notes__ == ["Fold 0 cannot be trained: LogisticRegression fails on its 40 training rows."]
    late = pd.DataFrame({"late": np.where(np.arange(120) < 40, np.nan, X[:, 0]), "up": X[:, 1] > 0})
    model = StackingEnsemble([("trees", PerTaskModel(learner=SMALL))], cv=plan.splits[::-1])
    with pytest.raises(FoldError, match="^A fold cannot be trained: Task 'late' has no label in 40 rows"):
        model.fit(X, late)  # it is the second of these folds


def test_a_method_that_there_is_not_is_named() -> None:
    plan = make_folds(2, X[:, 0] > 0, random_state=0)
    with pytest.raises(ValueError, match="PerTaskModel has no method 'predict_probs'"):
        cross_fit(PerTaskModel(learner=SMALL), X, X[:, 0] > 0, plan, method="predict_probs")


def test_scores_of_folds_that_lack_a_class_have_no_columns_in_common() -> None:
    y = np.where(np.arange(120) < 60, X[:, 0] > 0, 2 * (X[:, 0] > 0))
    plan = make_folds(Temporal(2), y, time=np.arange(120))
    with pytest.raises(FoldError, match=r"shapes \(\), \(3,\) by row.*predict_proba"):
        cross_fit(LogisticRegression(), X, y, plan, method="decision_function")
    assert cross_fit(LogisticRegression(), X, y, plan, method="predict_proba").predictions.shape == (120, 3)


def test_a_class_under_which_a_task_lives_that_begins_after_the_first_fold() -> None:
    kind = np.where(np.arange(120) < 80, np.where(X[:, 0] > 0, "a", "b"), "late")
    Y = pd.DataFrame({"kind": kind, "child": 1.0 * ((kind == "late") & (X[:, 1] > 0))})
    tasks = [Task("kind", "multiclass"), Task("child", "binary", given=("kind", "late"))]
    plan = make_folds(Temporal(2), Y, time=np.arange(120))
    with pytest.warns(ConstantTaskWarning, match="'child' has [48]0 labelled rows"):
        crossed = cross_fit(PerTaskModel(tasks, learner=SMALL), X, Y, plan)
    child = crossed.predictions["child"]
    assert (child[crossed.fold == 0] == 0).all()
    assert np.isfinite(crossed.scores).all()
    first = crossed.models[0].predict_scores(X, space="conditional")
    assert list(first) == ["kind=a", "kind=b", "child"]
    assert (first["child"] == 0).all()


def test_a_plan_for_other_rows_is_refused() -> None:
    with pytest.raises(FoldError, match="plan is for 10 rows, but X has 120"):
        cross_fit(LinearRegression(), X, X[:, 0], make_folds(2, np.zeros(10), random_state=0), method="predict")
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int; make one with make_folds"):
        cross_fit(LinearRegression(), X, X[:, 0], 5)  # type: ignore[arg-type]


def test_labels_and_weights_of_other_rows_are_refused() -> None:
    plan = make_folds(2, X[:, 0], random_state=0)
    with pytest.raises(ValueError, match="X has 120 rows, but Y has 5; expected the same number"):
        cross_fit(LinearRegression(), X, X[:5, 0], plan, method="predict")
    with pytest.raises(ValueError, match="X has 120 rows, but sample_weight has 5"):
        cross_fit(LinearRegression(), X, X[:, 0], plan, method="predict", sample_weight=np.ones(5))


def test_rows_in_another_order_are_refused_and_numbered_labels_are_not() -> None:
    frame = pd.DataFrame(X, columns=list("abc"), index=np.arange(120)[::-1])  # a middle fold is the same set of numbers
    Y = pd.DataFrame({"up": X[:, 0] > 0, "size": X[:, 1]})
    plan = make_folds(KFold(3), Y)
    fit = cross_fit(PerTaskModel(learner="linear"), frame, Y, plan)
    assert fit.predictions.index.equals(frame.index)
    model = PerTaskModel(learner="linear").fit(frame, Y)
    other = Y.set_axis(np.random.default_rng(0).permutation(120), axis=0)
    for call in (model.fit, model.score, lambda X, Y: cross_fit(model, X, Y, plan)):
        with pytest.raises(ValueError, match="in another order"):
            call(frame, other)


def test_workers_keep_the_configuration_of_scikit_learn() -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    pipe = make_pipeline(StandardScaler(), PerTaskModel({"up": "binary"}, learner="linear", user="c", random_state=0))
    plan = make_folds(2, X[:, 0] > 0, random_state=0)
    with config_context(transform_output="pandas"):
        alone, shared = (
            cross_fit(pipe, frame, X[:, 0] > 0, plan, method="predict_proba", n_jobs=jobs) for jobs in (None, 2)
        )
    np.testing.assert_array_equal(alone.predictions, shared.predictions)
