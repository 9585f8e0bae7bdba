"""BoostingEnsemble: what later stages add, where tasks stop, and that noise is left alone."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit

from mtl_classic import AveragingEnsemble, BoostingEnsemble, PerTaskModel, TaskGraphModel
from mtl_classic.ensemble._boosting import _line_rows
from mtl_classic.metrics import roc_auc, task_loss
from mtl_classic.model_selection import FoldPlan
from tests.ensemble.tables import FUNNEL, MIXED, funnel, mixed, trees


def stages(tasks: Any = MIXED) -> list[tuple[str, PerTaskModel]]:
    return [
        ("linear", PerTaskModel(tasks, learner="linear", random_state=0)),
        ("shallow", PerTaskModel(tasks, learner=trees(3), random_state=0)),
        ("deep", PerTaskModel(tasks, learner=trees(6), random_state=0)),
    ]


def test_trees_add_what_a_linear_model_cannot_say() -> None:
    X, Y = mixed(3000)  # |b| matters
    train, test = slice(0, 2000), slice(2000, None)
    model = BoostingEnsemble(stages(), cv=3, random_state=0).fit(X[train], Y[train])
    alone = PerTaskModel(MIXED, learner="linear").fit(X[train], Y[train])
    assert (model.steps_.loc["linear"] == 1).all()
    assert (model.steps_.loc["shallow"] > 0).all()
    for task in MIXED:
        only = Y[test].assign(**{t.name: np.nan for t in MIXED if t.name != task.name})
        assert model.score(X[test], only) > alone.score(X[test], only)


def test_scores_are_sums_of_steps_on_the_links_and_losses_those_of_the_last_fold() -> None:
    X, Y = mixed(900)
    tasks, weight = MIXED[:3], np.random.default_rng(0).uniform(0.2, 3.0, 900)
    Y = Y[[task.name for task in tasks]]
    model = BoostingEnsemble(stages(tasks), cv=3, random_state=0).fit(X, Y, sample_weight=weight)
    there: Any = {"binary": logit, "regression": np.asarray, "count": np.log}
    back: Any = {"binary": expit, "regression": np.asarray, "count": np.exp}
    parts = {name: member.predict_scores(X) for name, member in model.named_estimators_.items()}
    assert len(parts) > 1
    held, scores = model.fold_ == 2, model.predict_scores(X)
    for task in tasks:
        name = task.name
        link = there[task.kind](parts["linear"][name])
        for later, step in model.steps_[name][1:].items():
            link = link + (step * parts[str(later)][name] if step else 0.0)
        np.testing.assert_allclose(scores[name], back[task.kind](link), rtol=1e-6)
        loss = task_loss(task.kind, Y[name][held], model.oof_scores_[name][held], sample_weight=weight[held])
        assert loss == pytest.approx(model.validation_losses_[name].dropna().iloc[-1], rel=1e-6)


def test_a_task_stops_where_a_stage_does_not_help() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    Y = np.c_[2 * X[:, 0] + rng.normal(size=2000), X[:, 0] + np.abs(2 * X[:, 1])]
    model = BoostingEnsemble(stages({"y0": "regression", "y1": "regression"}), cv=4, random_state=0).fit(X, Y)
    assert model.steps_.loc["shallow", "y1"] > 0.5
    losses = model.validation_losses_
    assert (losses.diff().dropna() <= 0).all(axis=None)
    stopped = (model.steps_ == 0).cummax()
    assert (model.steps_[stopped].fillna(0) == 0).all(axis=None)  # who has stopped takes no further step


def test_residuals_of_perfect_members_leave_nothing_to_fit() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 3))
    y = rng.integers(0, 2, 20_000)
    model = BoostingEnsemble(stages({"y0": "binary"}), cv=4, random_state=0).fit(X, y)
    aucs = [roc_auc(y[model.fold_ == k], model.oof_scores_["y0"][model.fold_ == k]) for k in range(4)]
    assert abs(np.mean(aucs) - 0.5) < 0.02


def test_rare_positives_take_larger_steps() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8000, 2))
    y = (rng.random(8000) < 0.02 * np.exp(np.abs(X[:, 0]))).astype(int)
    model = BoostingEnsemble(stages({"y0": "binary"})[:2], cv=4, random_state=0).fit(X, y)
    assert model.steps_.loc["shallow", "y0"] > 2
    assert roc_auc(y, model.predict_scores(X)["y0"]) > 0.6


def test_funnel_threads_copies() -> None:
    X, Y = funnel()
    model = BoostingEnsemble(stages(FUNNEL), cv=3, random_state=0).fit(X, Y)
    scores, conditional = model.predict_scores(X), model.predict_scores(X, "conditional")
    assert (scores["buy"] <= scores["click"]).all()
    assert (conditional["buy"] >= scores["buy"]).all()
    pd.testing.assert_frame_equal(clone(model).set_params(n_jobs=2).fit(X, Y).predict_scores(X), scores)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)


def test_weights_by_task_and_uncovered_rows() -> None:
    X, Y = mixed(600)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=(600, 4))
    model = BoostingEnsemble(stages(), cv=TimeSeriesSplit(3)).fit(X, Y, sample_weight=weight)
    assert model.n_uncovered_ == 150
    assert (model.steps_.loc["shallow"] > 0).any()
    stepped = model.steps_.columns[(model.steps_.loc["shallow"] > 0)][0]
    assert model.oof_scores_.filter(like=stepped).iloc[450:].notna().all(axis=None)
    assert model.oof_scores_.filter(like=stepped).iloc[:300].isna().all(axis=None)  # no residuals before them
    frame = pd.DataFrame(weight, columns=[task.name for task in MIXED])
    same = clone(model).fit(X, Y, sample_weight=frame)
    pd.testing.assert_frame_equal(same.steps_, model.steps_)


def test_steps_are_searched_on_other_rows_than_they_are_judged_on() -> None:
    folds = [np.array(rows) for rows in ([2, 3], [4, 5], [6, 7])]  # rows 0 and 1 are in none
    for tests, line, valid in ((folds, [2, 3, 4, 5], [6, 7]), (folds[1:2], [4], [5])):
        plan = FoldPlan(tuple((np.array([0, 1]), test) for test in tests), 8)
        assert [rows.tolist() for rows in _line_rows(plan)] == [line, valid]


def test_rows_of_weight_0_teach_no_stage() -> None:
    X, Y = mixed(900, missing=0.0)
    weight = np.where(np.arange(900) % 3, 1.0, 0.0)
    scores = []
    for odd in (0, 100):
        model = BoostingEnsemble(stages(MIXED[1:2])[:2], cv=3, random_state=0)
        model.fit(X, Y[["spend"]].add(odd * (weight == 0), axis=0), sample_weight=weight)
        assert model.steps_.loc["shallow", "spend"] > 0
        scores.append(model.predict_scores(X))
    pd.testing.assert_frame_equal(*scores)


def test_stages_that_cross_fit_in_time_are_given_rows_with_residuals() -> None:
    X, Y = mixed(600, missing=0.0)
    X["day"] = np.arange(600)
    settings: Any = {"learner": "linear", "time": "day", "random_state": 0}
    graph = TaskGraphModel(MIXED, edges="serial", cv=2, **settings)
    model = BoostingEnsemble([("lines", PerTaskModel(MIXED, **settings)), ("graph", graph)], cv=3).fit(X, Y)
    assert model.validation_losses_.loc["graph"].notna().all()
    assert model.oof_scores_.iloc[300:].notna().all(axis=None)


def test_bad_rates_are_refused() -> None:
    X, Y = mixed(60)
    with pytest.raises(ValueError, match="learning_rate"):
        BoostingEnsemble(stages(), learning_rate=0.0).fit(X, Y)


def test_what_is_given_per_task_holds_in_later_stages() -> None:
    X, Y = mixed(2000)
    names = [task.name for task in MIXED]
    later = PerTaskModel(MIXED, learner=dict.fromkeys(names, trees(3)), random_state=0)
    model = BoostingEnsemble([stages()[0], ("trees", later)], cv=2, random_state=0).fit(X, Y)
    assert model.steps_.loc["trees", "buy"] > 0
    alike = [("one", stages()[1][1]), ("other", PerTaskModel(MIXED, learner=trees(2), random_state=0))]
    average = AveragingEnsemble(alike, weights={name: [1, 2] for name in names})
    model = BoostingEnsemble([stages()[0], ("average", average)], cv=2, random_state=0).fit(X, Y)
    assert set(model.named_estimators_["average"].weights_.loc["other"]) == {2 / 3}
