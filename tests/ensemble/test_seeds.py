"""Seeds of members: from the ensemble's where they have none, their own where they have one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.tree import DecisionTreeRegressor

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    PerTaskModel,
    SklearnLearner,
    StackingEnsemble,
)

pytestmark = pytest.mark.filterwarnings("ignore::mtl_classic.FallbackWarning")
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5))
Y = X[:, :2] + rng.normal(size=(200, 2))


def member(**settings: Any) -> PerTaskModel:
    """Trees that look at one column, drawn at random, for each split."""
    tree = SklearnLearner(regressor=DecisionTreeRegressor(max_features=1, min_samples_leaf=5))
    return PerTaskModel({"y0": "regression", "y1": "regression"}, learner=tree, **settings)


def pair() -> list[tuple[str, PerTaskModel]]:
    return [("a", member()), ("b", member())]


ENSEMBLES = {
    "uniform": AveragingEnsemble(pair()),
    "greedy": AveragingEnsemble(pair(), weights="greedy", cv=2),
    "stacking": StackingEnsemble(pair(), cv=2),
    "boosting": BoostingEnsemble(pair(), cv=2),
    "bagging": BaggingEnsemble(member(), 2),
    "calibrated": CalibratedModel(member(), cv=2),
    "calibrated ensemble": CalibratedModel(StackingEnsemble(pair(), cv=2)),
    "conformal": ConformalModel(member(), cv=2),
    "split": ConformalModel(member(), method="split"),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_one_seed_fixes_all_that_is_drawn(name: str, tmp_path: Any) -> None:
    model = clone(ENSEMBLES[name]).set_params(random_state=0)
    scores = model.fit(X, Y).predict_scores(X)
    kept = clone(model).set_params(memory=str(tmp_path)).fit(X, Y)
    pd.testing.assert_frame_equal(kept.predict_scores(X), scores, check_exact=True)
    with parallel_config("threading"):
        parallel = clone(model).set_params(n_jobs=2).fit(X, Y)
    pd.testing.assert_frame_equal(parallel.predict_scores(X), scores, check_exact=True)
    other = clone(model).set_params(random_state=1).fit(X, Y)
    assert not other.predict_scores(X).equals(scores)


def test_members_draw_apart_and_the_same_in_all_their_fits() -> None:
    model = AveragingEnsemble(pair(), random_state=0).fit(X, Y)
    one, two = (fitted.random_state for fitted in model.estimators_)
    assert one != two
    conformal = ConformalModel(member(), cv=3, random_state=0).fit(X, Y)
    seeds = {fitted.random_state for fitted in [conformal.estimator_, *conformal.fold_estimators_]}
    assert len(seeds) == 1
    assert seeds != {None}
    assert conformal.estimator.random_state is None


def test_what_has_a_seed_keeps_it_and_seeds_its_own_parts() -> None:
    inner = StackingEnsemble(pair(), cv=2, random_state=3)
    members = [("own", member(random_state=5)), ("inner", inner)]
    model = AveragingEnsemble(members, random_state=0).fit(X, Y)
    for name, alone in members:
        fitted = model.named_estimators_[name]
        pd.testing.assert_frame_equal(fitted.predict_scores(X), clone(alone).fit(X, Y).predict_scores(X))


@pytest.mark.parametrize("name", ["uniform", "greedy", "stacking", "boosting"])
def test_without_a_seed_members_are_left_alone(name: str) -> None:
    model = clone(ENSEMBLES[name]).fit(X, Y)
    assert {fitted.random_state for fitted in model.estimators_} == {None}


def test_final_estimators_are_seeded_where_they_have_no_seed() -> None:
    def stacked(seed: int | None, own: int | None = None) -> StackingEnsemble:
        final = DecisionTreeRegressor(max_features=1, random_state=own)
        members = [(name, model.set_params(random_state=0)) for name, model in pair()]
        return StackingEnsemble(members, final_estimator=final, cv=2, random_state=seed).fit(X, Y)

    one, other = stacked(0), stacked(0)
    pd.testing.assert_frame_equal(one.oof_scores_, other.oof_scores_)
    assert one.final_estimator.random_state is None
    assert {meta.model.random_state for meta in stacked(0, own=7).final_estimators_.values()} == {7}
    assert {meta.model.random_state for meta in stacked(None).final_estimators_.values()} == {None}
