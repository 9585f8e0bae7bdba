"""Averages of several models: each kind in the space that suits it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from mtl_classic import (
    AveragingEnsemble,
    FunnelModel,
    LightGBMLearner,
    PerTaskModel,
    Task,
    TaskError,
    average_over_seeds,
)

N = 400
rng = np.random.default_rng(0)
X = pd.DataFrame({"x": rng.normal(size=N), "z": rng.normal(size=N), "q": np.arange(N) // 10})
Y = pd.DataFrame(
    {
        "buy": (X["x"] > rng.normal(size=N)).astype(float),
        "way": rng.choice(["app", "shop", "web"], N),
        "spend": X["z"] + rng.normal(size=N),
        "items": rng.poisson(np.exp(0.5 * X["x"])),
        "grade": np.clip((X["x"] + 1).round(), 0, 3),
    }
)
TASKS = [
    Task("buy", "binary"),
    Task("way", "multiclass"),
    Task("spend", "regression"),
    Task("items", "count"),
    Task("grade", "ranking", query="q"),
]
TREES = PerTaskModel(TASKS, learner=LightGBMLearner(max_iter=20), random_state=0)
LINEAR = PerTaskModel(TASKS, learner="linear", random_state=0)


def test_the_mean_of_each_kind() -> None:
    ensemble = AveragingEnsemble([("trees", TREES), ("linear", LINEAR)], weights=[3, 1]).fit(X, Y)
    assert (ensemble.weights_.loc["trees"] == 0.75).all()
    a, b = (clone(member).fit(X, Y).predict_scores(X) for member in (TREES, LINEAR))
    scores = ensemble.predict_scores(X)
    for name in ("buy", "way=app", "way=shop", "way=web", "spend"):
        np.testing.assert_allclose(scores[name], 0.75 * a[name] + 0.25 * b[name], rtol=1e-12)
    np.testing.assert_allclose(scores["items"], a["items"] ** 0.75 * b["items"] ** 0.25, rtol=1e-12)
    z = [(s["grade"] - s["grade"].mean()) / s["grade"].std(ddof=0) for s in (a, b)]
    np.testing.assert_allclose(scores["grade"], 0.75 * z[0] + 0.25 * z[1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ensemble.predict_scores(X.iloc[[5]]), scores.iloc[[5]], rtol=1e-12)


def test_prefit_members_are_taken_as_they_are() -> None:
    fitted = [("trees", clone(TREES).fit(X, Y)), ("linear", clone(LINEAR).fit(X, Y))]
    prefit = AveragingEnsemble(fitted, cv="prefit").fit(X, Y)
    assert prefit.estimators_ == [member for _, member in fitted]
    new = AveragingEnsemble([("trees", TREES), ("linear", LINEAR)]).fit(X, Y)
    pd.testing.assert_frame_equal(prefit.predict_scores(X), new.predict_scores(X))


def test_members_stay_unfitted_and_are_reached_by_name() -> None:
    ensemble = AveragingEnsemble([("trees", clone(TREES)), ("linear", clone(LINEAR))])
    ensemble.set_params(trees__learner__num_leaves=5, linear__refit=False)
    assert ensemble.get_params()["trees"].learner.num_leaves == 5
    ensemble.fit(X, Y)
    assert not hasattr(ensemble.estimators[0][1], "tasks_")


def test_seeds_differ_and_repeat() -> None:
    one, two = (average_over_seeds(TREES, 3, 0).fit(X, Y) for _ in range(2))
    seeds = [member.random_state for _, member in one.estimators]
    assert len(set(seeds)) == 3
    pd.testing.assert_frame_equal(one.predict_scores(X), two.predict_scores(X), check_exact=True)
    nested = average_over_seeds(AveragingEnsemble([("trees", TREES), ("linear", LINEAR)]), 2, 0)
    states = [value for key, value in nested.get_params().items() if key.endswith("__random_state")]
    assert len(set(states)) == 6  # of each member, and of each ensemble
    with pytest.raises(ValueError, match="LinearRegression has no random_state"):
        average_over_seeds(LinearRegression(), 3)


def test_the_score_settles_conflicts_as_the_members_do() -> None:
    tasks = [TASKS[0], Task("fee", "regression", given="buy")]
    odd = Y[["buy"]].assign(fee=1.0)
    members = [("a", FunnelModel(tasks, on_conflict="lift", random_state=0, learner="linear"))]
    with pytest.warns(match="all with the same label"):
        ensemble = AveragingEnsemble(members).fit(X, odd)
    assert np.isfinite(ensemble.score(X, odd))


def test_refitting_with_other_labels() -> None:
    ensemble = AveragingEnsemble([("a", PerTaskModel({"y": "binary"}, random_state=0))]).fit(X, Y["buy"])
    assert ensemble.classes_.tolist() == [0, 1]
    ensemble.set_params(a__tasks={"y": "regression"}).fit(X.to_numpy(), Y["spend"])
    assert not hasattr(ensemble, "classes_")
    assert not hasattr(ensemble, "predict_proba")


@pytest.mark.parametrize(
    ("members", "options", "error", "says"),
    [
        ([], {}, ValueError, "needs at least one"),
        ([("a", TREES), ("a", LINEAR)], {}, ValueError, "unique"),
        ([("a", TREES)], {"weights": [1, 2]}, ValueError, "must be 1 non-negative numbers, one per estimator"),
        ([("a", TREES)], {"weights": [-1]}, ValueError, "non-negative"),
        ([("a", TREES)], {"weights": [0]}, ValueError, "not all zero"),
        ([("a", TREES)], {"cv": "folds"}, ValueError, "got 'folds'"),
        (
            [("a", LinearRegression())],
            {},
            TypeError,
            r"LinearRegression\(\) is no multi-task estimator such as",
        ),
        ([("a", TREES), ("b", PerTaskModel(TASKS[::-1]))], {}, TaskError, "same tasks, in the same order"),
    ],
)
def test_members_that_do_not_go_together(members: Any, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        AveragingEnsemble(members, **options).fit(X, Y)


def test_prefit_members_with_other_classes_are_refused() -> None:
    one = PerTaskModel([TASKS[1]], random_state=0).fit(X, Y)
    two = PerTaskModel([TASKS[1]], random_state=0).fit(X, Y.replace({"way": {"web": "phone"}}))
    with pytest.raises(TaskError, match="same classes of 'way'"):
        AveragingEnsemble([("one", one), ("two", two)], cv="prefit").fit(X, Y)
