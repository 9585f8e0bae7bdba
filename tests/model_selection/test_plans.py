"""One plan for all levels: labels of rows without weight make no folds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from mtl_classic import (
    ConformalModel,
    MultiTaskSearchCV,
    PerTaskModel,
    SharedTreesModel,
    StackingEnsemble,
    TargetStatistics,
    Task,
)
from mtl_classic.model_selection._plans import plan_for

rng = np.random.default_rng(0)
N = 240
X = pd.DataFrame(rng.normal(size=(N, 2)), columns=list("ab")).assign(day=np.arange(N) // 4)
Y = pd.DataFrame({"up": (X["a"] + rng.normal(size=N) > 0) * 1.0, "size": X["b"] + rng.normal(size=N)})
TASKS = (Task("up", "binary"), Task("size", "regression"))
LATE = (np.arange(N) >= 120) * 1.0
LINEAR = PerTaskModel(learner="linear", time="day")


def plan(labels: Any, cv: Any = 3, time: str | None = "day", weight: Any = None) -> list[list[int]]:
    found = plan_for(X, labels, TASKS, cv, None, time=time, groups=None, seed=0, sample_weight=weight)
    return [rows.tolist() for split in found.splits for rows in split]


@pytest.mark.parametrize("time", ["day", None])
def test_labels_without_weight_count_as_missing(time: str | None) -> None:
    one = np.column_stack([LATE, np.ones(N)])
    for weight, known in (
        (LATE, np.column_stack([LATE, LATE]) > 0),
        (one, one > 0),
        (pd.DataFrame(one, columns=list(Y)), one > 0),
    ):
        for labels in (Y, Y.to_numpy()):
            assert plan(labels, time=time, weight=weight) == plan(Y.where(known), time=time)
    assert plan(Y, time=time, weight=LATE) != plan(Y, time=time, weight=LATE + 1) == plan(Y, time=time)


@pytest.mark.parametrize("extra", [rng.integers(0, 50, N), rng.choice(["yes", "no"], N), [["text"]] * N])
def test_columns_that_are_no_task_change_no_folds(extra: Any) -> None:
    few = Y.assign(up=Y["up"].where(X["day"] > 20), size=Y["size"].where(X["day"] > 20))
    more = few.assign(comment=extra)
    for time in ("day", None):
        assert plan(more, time=time) == plan(few, time=time) == plan(more[["comment", "size", "up"]], time=time)
        statistics = TargetStatistics(["day"], tasks=TASKS, time=time, cv=3, random_state=0)
        np.testing.assert_array_equal(*(statistics.fit_transform(X.round(), labels) for labels in (few, more)))
    one = PerTaskModel(TASKS[1:], learner="linear")
    intervals = (ConformalModel(one, random_state=0).fit(X, labels) for labels in (few, more))
    np.testing.assert_array_equal(*(model.predict_interval(X) for model in intervals))
    stratified = plan_for(
        X, Y.assign(comment=extra), TASKS[:1], StratifiedKFold(3), None, time=None, groups=None, seed=0
    )
    assert len(stratified) == 3


def test_a_splitter_stratifies_by_labels_without_weight_too() -> None:
    found = plan_for(
        X, Y["up"], TASKS[:1], StratifiedKFold(3), None, time=None, groups=None, seed=0, sample_weight=LATE
    )
    assert len(found) == 3


@pytest.mark.filterwarnings("ignore::mtl_classic.FallbackWarning")
@pytest.mark.parametrize(
    "model",
    [
        StackingEnsemble([("linear", LINEAR)], cv=3, random_state=0),
        MultiTaskSearchCV(LINEAR, {"max_categories": [3, 4]}, strategy="grid", cv=3, random_state=0),
        SharedTreesModel(time="day", task_weights="cv", max_iter=5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_early_rows_without_weight_are_no_folds(model: Any) -> None:
    scores = model.fit(X, Y, sample_weight=LATE).decision_function(X)
    assert np.isfinite(scores.to_numpy()).all()


def test_other_columns_and_the_order_of_tasks_have_no_say() -> None:
    other = pd.DataFrame({"a": rng.choice(list("abcd"), N), "late": np.where(LATE, 1.0, np.nan)})
    unlabelled = Y.mask(np.column_stack([LATE, LATE]) == 0)
    for time in ("day", None):
        expected = plan(unlabelled, time=time)
        for labels in (unlabelled.assign(**other), unlabelled.assign(early=1.0)[["early", "size", "up"]]):
            assert plan(labels, time=time) == expected
        found = plan_for(X, unlabelled[["size", "up"]].to_numpy(), TASKS[::-1], 3, None, time=time, groups=None, seed=0)
        assert [rows.tolist() for split in found.splits for rows in split] == expected


@pytest.mark.filterwarnings("ignore::mtl_classic.FallbackWarning")
@pytest.mark.parametrize(
    "model",
    [
        ConformalModel(PerTaskModel(TASKS, learner="linear"), random_state=0),
        TargetStatistics(["shop"], tasks=TASKS, cv=3, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_columns_of_y_that_are_no_tasks_change_nothing(model: Any) -> None:
    shops = X[["a", "b"]].assign(shop=np.arange(N) * 7 % 11)
    results = []
    for labels in (Y, Y.assign(other=rng.choice(list("abcd"), N))):
        if isinstance(model, TargetStatistics):
            results.append(model.fit_transform(shops, labels))
        else:
            fitted = clone(model).fit(shops, labels)
            ask = fitted.predict_interval if isinstance(model, ConformalModel) else fitted.predict_scores
            results.append(ask(shops))
    pd.testing.assert_frame_equal(*results)


def test_a_splitter_stratifies_one_task_beside_other_columns() -> None:
    found = plan_for(X, Y, TASKS[:1], StratifiedKFold(3), None, time=None, groups=None, seed=0)
    assert len(found) == 3
