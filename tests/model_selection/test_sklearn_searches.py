"""scikit-learn's own searches and cross-validation over our estimators, with labels missing."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import (
    AveragingEnsemble,
    FunnelModel,
    LightGBMLearner,
    MultiTaskSearchCV,
    PerTaskModel,
    SharedTreesModel,
    Task,
    multitask_scorer,
)

rng = np.random.default_rng(0)
N = 400
X = pd.DataFrame(rng.normal(size=(N, 3)), columns=list("abc"))
SEEN = X["a"] + rng.normal(size=N) > 0
Y = pd.DataFrame({"click": SEEN * 1.0, "buy": (SEEN & (X["b"] + rng.normal(size=N) > 0)) * 1.0})
Y["spend"] = Y["buy"] * np.exp(X["c"])
Y.loc[rng.random(N) < 0.5, ["buy", "spend"]] = np.nan
TASKS = [Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy")]
SMALL = LightGBMLearner(max_iter=15)
MODEL = FunnelModel(TASKS, learner=SMALL, random_state=0)
LINEAR = PerTaskModel(TASKS, learner="linear")
SPACE = {"learner__num_leaves": [3, 7, 15]}


@pytest.mark.parametrize(
    "search",
    [
        HalvingGridSearchCV(MODEL, SPACE, cv=2, random_state=0, min_resources=200, error_score="raise"),
        GridSearchCV(MODEL, SPACE, cv=3, error_score="raise"),
        RandomizedSearchCV(MODEL, SPACE, n_iter=2, cv=TimeSeriesSplit(2), random_state=0, error_score="raise"),
    ],
    ids=lambda search: type(search).__name__,
)
def test_scikit_learns_searches_work(search: Any) -> None:
    search.fit(X, Y)
    assert search.best_params_["learner__num_leaves"] in (3, 7, 15)
    assert search.predict(X).shape == Y.shape
    assert search.decision_function(X).columns.tolist() == ["click", "buy", "spend"]
    assert not np.isnan(search.best_score_)


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        make_pipeline(FunctionTransformer(), MODEL),
        SharedTreesModel(TASKS, max_iter=15, random_state=0),
        AveragingEnsemble([("trees", MODEL), ("linear", LINEAR)]),
        MultiTaskSearchCV(LINEAR, {"learner__classifier__C": [0.1, 1.0]}, strategy="grid", cv=2, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_cross_validate_works(model: Any) -> None:
    scoring = {"auc": multitask_scorer("roc_auc", "buy"), "score": multitask_scorer()}
    found = cross_validate(model, X, Y, cv=3, scoring=scoring, error_score="raise", return_estimator=True)
    assert (found["test_auc"] > 0.5).all()
    assert len(found["estimator"]) == 3
    assert not np.isnan(found["test_score"]).any()


def test_a_grid_gives_the_scores_of_grid_search_cv() -> None:
    """The same folds, the same estimator, the same numbers."""
    space = {"learner__num_leaves": [3, 7], "learner__learning_rate": [0.05, 0.2]}
    own = MultiTaskSearchCV(MODEL, space, strategy="grid", cv=TimeSeriesSplit(3), pruning=False).fit(X, Y)
    peer = GridSearchCV(MODEL, space, cv=TimeSeriesSplit(3), error_score="raise").fit(X, Y)
    assert own.cv_results_["params"] == peer.cv_results_["params"]
    for k in range(3):
        name = f"split{k}_test_score"
        np.testing.assert_allclose(own.cv_results_[name], peer.cv_results_[name], rtol=1e-10)
    assert own.best_params_ == peer.best_params_
    assert set(peer.cv_results_) <= set(own.cv_results_)
