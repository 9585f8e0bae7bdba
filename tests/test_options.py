"""Every estimator refuses a wrong option by the name of the parameter, when it is fitted."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import mtl_classic
from mtl_classic import (
    Aggregate,
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    FieldEncoder,
    FoldError,
    FunnelModel,
    HistoryFeatures,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    MultiTaskSearchCV,
    PerTaskModel,
    Segments,
    SharedTreesModel,
    StackingEnsemble,
    TargetStatistics,
    TaskGraphModel,
    XGBoostLearner,
    make_folds,
    make_funnel,
)

SHOP = make_funnel(200, n_users=20, n_items=10, n_days=10, history_days=5, random_state=0)
NUMBERS = pd.DataFrame({"a": [0.0, 1.0] * 20, "b": np.arange(40) % 3})
TARGETS = pd.DataFrame({"up": [0, 1] * 20, "amount": np.arange(40.0)})
KINDS = {"up": "binary", "amount": "regression"}


class Strange:
    """No value of any option."""


def alone(**options: Any) -> PerTaskModel:
    return PerTaskModel(KINDS, **({"learner": "linear"} | options))


def fit_numbers(model: Any) -> None:
    model.fit(NUMBERS, TARGETS)


def fit_shop(model: Any) -> None:
    model.fit(SHOP.X, SHOP.Y, events=SHOP.events)


MEMBERS = [("one", alone())]
FACTORS = MatrixFactorization(n_factors=2, max_iter=1, user="user", item="item", time="time")
FITS: list[tuple[Any, Callable[[Any], Any]]] = [
    (alone(), fit_numbers),
    (FunnelModel(KINDS, learner="linear"), fit_numbers),
    (SharedTreesModel(KINDS, max_iter=1), fit_numbers),
    (TaskGraphModel(KINDS, learner="linear", cv=2), fit_numbers),
    (MultiTaskModel(SHOP.tasks, **SHOP.roles), fit_shop),
    (AveragingEnsemble(MEMBERS), fit_numbers),
    (StackingEnsemble(MEMBERS, cv=2), fit_numbers),
    (BaggingEnsemble(alone(), 2), fit_numbers),
    (BoostingEnsemble(MEMBERS, cv=2), fit_numbers),
    (CalibratedModel(alone(), cv=2), fit_numbers),
    (ConformalModel(alone(), cv=2), fit_numbers),
    (MultiTaskSearchCV(alone(learner=LightGBMLearner(max_iter=2)), n_trials=1, cv=2), fit_numbers),
    (LightGBMLearner(max_iter=1), lambda learner: fit_numbers(alone(learner=learner))),
    (XGBoostLearner(max_iter=1), lambda learner: fit_numbers(alone(learner=learner))),
    (FactorizationMachineClassifier(max_iter=1), lambda model: model.fit(NUMBERS, TARGETS["up"])),
    (FactorizationMachineRegressor(max_iter=1), lambda model: model.fit(NUMBERS, TARGETS["amount"])),
    (MultiTaskFactorizationMachine(KINDS, max_iter=1), fit_numbers),
    (FACTORS, fit_shop),
    (LatentFeatures([("mf", FACTORS)]), fit_shop),
    (Segments(model=FACTORS), fit_shop),
    (HistoryFeatures([Aggregate("user", "count")], user="user", item="item", time="time"), fit_shop),
    (FieldEncoder(), lambda model: model.fit(NUMBERS)),
    (TargetStatistics(["b"], tasks=KINDS), lambda model: model.fit_transform(NUMBERS, TARGETS)),
]
# Read only together with others, or handed on to what refuses it.
NOT_READ = {
    ("HistoryFeatures", "tasks"), ("LatentFeatures", "tasks"), ("MatrixFactorization", "event"),
    ("MatrixFactorization", "tasks"), ("HistoryFeatures", "lag"), ("Segments", "tasks"),
    ("SharedTreesModel", "fallback"),
}  # fmt: skip


def options() -> Iterator[Any]:
    for model, fit in FITS:
        cls = type(model)
        for name in model.get_params(deep=False):
            if (cls.__name__, name) not in NOT_READ:
                yield pytest.param(cls, model, fit, name, id=f"{cls.__name__}-{name}")


@pytest.mark.parametrize(("cls", "model", "fit", "name"), list(options()))
def test_what_no_option_takes_is_refused_by_name(cls: type, model: Any, fit: Any, name: str) -> None:
    wrong = cls(**(model.get_params(deep=False) | {name: Strange()}))  # not in the constructor
    with pytest.raises((TypeError, ValueError), match=name):
        fit(wrong)


@pytest.mark.parametrize(("model", "fit"), [pytest.param(*one, id=type(one[0]).__name__) for one in FITS])
def test_texts_and_numbers_are_no_truth_values_and_truth_values_no_numbers(model: Any, fit: Any) -> None:
    cls, given = type(model), model.get_params(deep=False)
    written = inspect.signature(cls).parameters
    for name in given:
        value = written[name].default
        if (cls, name) == (MultiTaskSearchCV, "refit"):
            continue
        if isinstance(value, bool):
            wrong: list[Any] = ["no", 1]
        elif isinstance(value, int | float) and name not in ("n_jobs", "random_state", "verbose", "error_score"):
            wrong = ["a", True, float("nan"), *([-1] if name != "cv" else [])]
        else:
            continue
        for one in wrong:
            with pytest.raises((TypeError, ValueError), match=name):
                fit(cls(**(given | {name: one})))


def test_all_estimators_are_tried() -> None:
    public = [getattr(mtl_classic, name) for name in mtl_classic.__all__]
    own = {one.__name__ for one in public if isinstance(one, type) and hasattr(one, "get_params")}
    assert own - {type(model).__name__ for model, _ in FITS} == {"Learner", "MultiTaskEstimator", "SklearnLearner"}


@pytest.mark.parametrize("model", [pytest.param(one, id=type(one).__name__) for one, _ in FITS])
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_a_frame_is_no_log(model: Any, method: str) -> None:
    if hasattr(model, method) and "events" in inspect.signature(getattr(model, method)).parameters:
        with pytest.raises(TypeError, match=r"events must be an EventLog, got DataFrame; wrap the frame: EventLog\("):
            getattr(clone(model), method)(SHOP.X, SHOP.Y, events=SHOP.events.to_frame())


@pytest.mark.parametrize(("model", "fit"), [pytest.param(*one, id=type(one[0]).__name__) for one in FITS])
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (3, TypeError, "plan must be a FoldPlan, got int"),
        (make_folds(2, np.zeros(5)), FoldError, "The fold plan is for 5 rows, but X has"),
    ],
)
def test_what_is_no_plan_of_the_rows_is_refused(
    model: Any, fit: Any, method: str, plan: Any, error: type[Exception], message: str
) -> None:
    if hasattr(model, method) and "plan" in inspect.signature(getattr(model, method)).parameters:
        X, Y = (SHOP.X, SHOP.Y) if fit is fit_shop else (NUMBERS, TARGETS)
        with pytest.raises(error, match=message):
            getattr(clone(model), method)(X, Y, plan=plan)


def test_a_plan_of_other_rows_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_folds(2, np.zeros(5))
    with pytest.raises(FoldError, match="The fold plan is for 5 rows"):
        mtl_classic.TargetStatistics(columns=[]).fit_transform(NUMBERS, TARGETS, plan=plan)
    monkeypatch.setattr("mtl_classic.factorization._members.LatentMember.fit", lambda *_, **__: pytest.fail("a fit"))
    machine = mtl_classic.FactorizationMachineClassifier()
    with pytest.raises(FoldError, match="The fold plan is for 5 rows"):
        mtl_classic.LatentFeatures([("machine", machine)]).fit_transform(SHOP.X, SHOP.Y[["view"]], plan=plan)
