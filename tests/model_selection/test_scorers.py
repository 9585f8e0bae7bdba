"""Masked scorers."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import make_scorer, mean_absolute_error, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import LightGBMLearner, PerTaskModel, Task, TaskError, multitask_scorer
from mtl_classic.metrics import grouped_auc

rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
Y = pd.DataFrame({"up": (X["a"] + rng.normal(size=300) > 0).astype(float), "size": X["b"] + rng.normal(size=300)})
Y.iloc[::2, 0] = np.nan
MODEL = PerTaskModel(learner=LightGBMLearner(max_iter=20), random_state=0).fit(X, Y)
SCORES = MODEL.predict_scores(X)
KNOWN = Y["up"].notna()
AUC = roc_auc_score(Y["up"][KNOWN], SCORES["up"][KNOWN])
MAE = mean_absolute_error(Y["size"], SCORES["size"])


def test_scorers_are_metrics_over_the_labelled_rows() -> None:
    assert multitask_scorer("roc_auc")(MODEL, X, Y) == pytest.approx(AUC)
    assert multitask_scorer("mae")(MODEL, X, Y) == pytest.approx(-MAE)
    assert multitask_scorer("mae", task="size")(MODEL, X, Y) == pytest.approx(-MAE)
    assert multitask_scorer()(MODEL, X, Y) == MODEL.score(X, Y)
    parts = [multitask_scorer(task=task)(MODEL, X, Y) for task in Y]
    assert np.mean(parts) == pytest.approx(MODEL.score(X, Y))
    losses = [multitask_scorer("loss", task=task)(MODEL, X, Y) for task in Y]
    assert multitask_scorer("loss")(MODEL, X, Y) == pytest.approx(np.mean(losses))


def test_weights_count_wherever_scikit_learn_hands_them_on() -> None:
    weight = rng.integers(1, 4, len(X))
    auc = roc_auc_score(Y["up"][KNOWN], SCORES["up"][KNOWN], sample_weight=weight[KNOWN])
    assert multitask_scorer("roc_auc")(MODEL, X, Y, weight) == pytest.approx(auc)
    assert multitask_scorer()(MODEL, X, Y, sample_weight=weight) == MODEL.score(X, Y, weight)
    scoring = {"auc": multitask_scorer("roc_auc"), "score": multitask_scorer(), "own": make_scorer(lambda y, _: 1.0)}
    model = PerTaskModel(learner="linear", random_state=0)
    options = {"param_grid": {"learner": ["linear"]}, "cv": KFold(2), "refit": False, "error_score": "raise"}
    with pytest.warns(UserWarning, match="scoring own.* does not support sample_weight"):
        search = GridSearchCV(model, scoring=scoring, **options).fit(X, Y, sample_weight=weight)
    train, test = next(KFold(2).split(X))
    fitted = clone(model).fit(X.iloc[train], Y.iloc[train], sample_weight=weight[train])
    expected = {name: scoring[name](fitted, X.iloc[test], Y.iloc[test], weight[test]) for name in ("auc", "score")}
    assert {name: search.cv_results_[f"split0_test_{name}"][0] for name in expected} == expected
    with config_context(enable_metadata_routing=True):
        asking = {name: multitask_scorer(metric).set_score_request(sample_weight=True) for name, metric in
                  (("auc", "roc_auc"), ("score", None))}  # fmt: skip
        asking["without"] = multitask_scorer("roc_auc").set_score_request(sample_weight=False)
        model = clone(model).set_fit_request(sample_weight=True)
        search = GridSearchCV(model, scoring=asking, **options).fit(X, Y, sample_weight=weight)
        assert {name: search.cv_results_[f"split0_test_{name}"][0] for name in expected} == expected
        assert search.cv_results_["split0_test_without"] == scoring["auc"](fitted, X.iloc[test], Y.iloc[test])
        with pytest.raises(UnsetMetadataPassedError, match="not explicitly set as requested"):
            GridSearchCV(model, scoring=multitask_scorer(), **options).fit(X, Y, sample_weight=weight)


def test_scorers_travel_and_reach_the_end_of_a_pipeline() -> None:
    scorer = pickle.loads(pickle.dumps(multitask_scorer("roc_auc", "up")))
    pipe = make_pipeline(FunctionTransformer(), MODEL)
    assert scorer(pipe, X, Y) == pytest.approx(AUC)
    assert repr(scorer) == "multitask_scorer(metric='roc_auc', task='up')"
    scores = cross_validate(
        PerTaskModel(learner=LightGBMLearner(max_iter=20), random_state=0),
        X,
        Y,
        cv=2,
        scoring={"auc": scorer, "mae": multitask_scorer("mae")},
        error_score="raise",
    )
    assert (scores["test_auc"] > 0.5).all()
    assert (scores["test_mae"] < 0).all()


def test_rankings_are_judged_within_their_query() -> None:
    frame = X.assign(q=np.repeat(np.arange(30), 10))
    labels = pd.DataFrame({"rank": rng.integers(0, 3, 300)})
    model = PerTaskModel([Task("rank", "ranking", query="q")], random_state=0).fit(frame, labels)
    assert 0.5 < multitask_scorer("ndcg@10")(model, frame, labels) <= 1


def test_binary_tasks_are_judged_within_the_query_of_the_model() -> None:
    frame = X.assign(q=np.repeat(np.arange(30), 10))
    model = PerTaskModel({"up": "binary"}, learner="linear", query="q").fit(frame, Y[["up"]])
    expected = grouped_auc(Y["up"], model.predict_scores(frame)["up"], frame["q"])
    assert multitask_scorer("grouped_auc")(model, frame, Y[["up"]]) == pytest.approx(expected)


def test_tasks_without_a_query_have_no_metric_within_queries() -> None:
    frame = X.assign(q=np.repeat(np.arange(30), 10))
    labels = pd.DataFrame({"rank": rng.integers(0, 3, 300), "up": (X["a"] > 0) * 1.0})
    tasks = [Task("rank", "ranking", query="q"), Task("up", "binary")]
    model = PerTaskModel(tasks, learner="linear").fit(frame, labels)
    expected = multitask_scorer("grouped_auc", "rank")(model, frame, labels)
    assert multitask_scorer("grouped_auc")(model, frame, labels) == expected
    with pytest.raises(ValueError, match="'grouped_auc' needs the query of each row, and the model names none for up"):
        multitask_scorer("grouped_auc", "up")(model, frame, labels)


def test_scorers_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="Unknown metric 'auc'; expected one of"):
        multitask_scorer("auc")
    with pytest.raises(ValueError, match="neither a gain nor a loss"):
        multitask_scorer("observed")
    with pytest.raises(ValueError, match="'ndcg' judges none of the tasks"):
        multitask_scorer("ndcg")(MODEL, X, Y)
    with pytest.raises(TaskError, match="the task 'buy', which is none of the model's: up, size"):
        multitask_scorer("roc_auc", "buy")(MODEL, X, Y)
    assert np.isnan(multitask_scorer("roc_auc")(MODEL, X, Y.assign(up=np.nan)))
