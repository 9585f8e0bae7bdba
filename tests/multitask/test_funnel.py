"""FunnelModel: the product holds exactly, in chains and trees, for every kind and mode."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from mtl_classic import (
    BoostingEnsemble,
    CalibratedModel,
    ConstantTaskWarning,
    FunnelConflictError,
    FunnelModel,
    LightGBMLearner,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    SharedTreesModel,
    SklearnLearner,
    StackingEnsemble,
    Task,
    TaskError,
    TaskGraphModel,
    make_folds,
)
from mtl_classic.multitask import _funnel
from mtl_classic.multitask._funnel import MODES

N = 1500
rng = np.random.default_rng(0)
X = pd.DataFrame(
    {"x": rng.normal(size=N), "z": rng.normal(size=N), "user": rng.integers(0, 200, N), "q": np.arange(N) % 75}
)
VIEW = (X["x"] + rng.normal(size=N) > 0).astype(float)
BUY = VIEW * (X["z"] + rng.normal(size=N) > 0.3)
Y = pd.DataFrame(
    {
        "view": VIEW,
        "buy": BUY,
        "items": BUY * rng.poisson(np.exp(0.4 * X["x"])),
        "spend": BUY * np.exp(0.5 * X["z"] + 0.3 * rng.normal(size=N)),
    }
)
TASKS = [
    Task("view", "binary"),
    Task("buy", "binary", given="view"),
    Task("items", "count", given="buy"),
    Task("spend", "regression", given="buy"),
]
SMALL = LightGBMLearner(max_iter=30)


def model(tasks: Any = TASKS, **options: Any) -> FunnelModel:
    return FunnelModel(tasks, **({"learner": SMALL, "random_state": 0, "exclude": ["user", "q"]} | options))


def test_the_product_holds_exactly() -> None:
    fitted = model().fit(X, Y)
    entire, given = fitted.predict_scores(X), fitted.predict_scores(X, space="conditional")
    assert fitted.routes_ == {"view": "root", "buy": "product", "items": "product", "spend": "product"}
    pd.testing.assert_series_equal(entire["view"], given["view"])
    for child, parent in {"buy": "view", "items": "buy", "spend": "buy"}.items():
        np.testing.assert_allclose(entire[child], entire[parent] * given[child], rtol=1e-12)
    assert given["spend"].min() > 0.2  # of buyers
    np.testing.assert_allclose(entire.mean(), Y.mean(), rtol=0.15)


def test_the_direct_mode_is_a_model_per_task() -> None:
    direct = model(mode="direct").fit(X, Y)
    per_task = PerTaskModel(TASKS, learner=SMALL, random_state=0, exclude=["user", "q"]).fit(X, Y)
    for space in ("entire", "conditional"):
        pd.testing.assert_frame_equal(
            direct.predict_scores(X, space=space), per_task.predict_scores(X, space=space), check_exact=True
        )
    assert direct.score(X, Y) == per_task.score(X, Y)


def test_the_average_mode_is_the_mean_of_both() -> None:
    fitted = model(mode="average").fit(X, Y)
    routes = fitted.route_scores(X)
    assert set(routes) == {
        f"{child}@{way}" for child in ("buy", "items", "spend") for way in ("product", "direct", "average")
    }
    scores = fitted.predict_scores(X)
    for child in ("buy", "items", "spend"):
        np.testing.assert_allclose(scores[child], routes[f"{child}@average"], rtol=1e-12)
    mean = (routes["items@product"] + routes["items@direct"]) / 2
    np.testing.assert_allclose(routes["items@average"], mean, rtol=1e-12)


def test_a_mode_for_each_child() -> None:
    fitted = model(mode={"items": "direct", "spend": "average"}).fit(X, Y)
    assert fitted.routes_ == {"view": "root", "buy": "product", "items": "direct", "spend": "average"}
    assert ("items", "conditional") not in fitted.fits_
    with pytest.raises(TaskError, match="mode names bye; only children .* have a route to choose: buy, items, spend"):
        model(mode={"bye": "direct"}).fit(X, Y)
    with pytest.raises(ValueError, match='mode must be "product", "direct", "average", "auto" or a dict'):
        model(mode="best").fit(X, Y)
    with pytest.raises(ValueError, match='mode.* must be "product", "direct" or "average", got'):
        model(mode={"buy": "auto"}).fit(X, Y)


def test_auto_takes_a_child_off_a_product_that_is_worse_beyond_the_noise() -> None:
    """Views that did not happen are mostly not told, so that P(view), and with it the product, is too high."""
    hidden = Y.assign(view=Y["view"].where((VIEW == 1) | (rng.random(N) < 0.15)))
    harmed = model(TASKS[:2], mode="auto", user="user", validation_fraction=0.3).fit(X, hidden)
    assert harmed.routes_["buy"] in ("direct", "average")
    assert "of the product (95 % interval" in harmed.fallbacks_["buy"]
    assert harmed.score(X, Y) > model(TASKS[:2], mode="product").fit(X, hidden).score(X, Y)
    options = {"mode": "auto", "user": "user", "validation_fraction": 0.3, "learner": "linear"}  # never stops early
    assert model(TASKS[:2], **options).fit(X, hidden).routes_["buy"] in ("direct", "average")
    rare = Y.assign(items=Y["items"] * (np.arange(N) < 40), spend=Y["spend"].where(np.arange(N) < 40))
    assert model(mode="auto", user="user").fit(X, rare).fallbacks_.keys() <= {"buy"}  # too few to judge the others
    also_rare = hidden.assign(items=rare["items"])  # and one that cannot be judged does not keep others from it
    tried = model(TASKS[:3], mode="auto", user="user", validation_fraction=0.3, on_conflict="drop").fit(X, also_rare)
    assert "buy" in tried.fallbacks_
    fine = model(mode="auto", user="user").fit(X, Y)
    assert fine.fallbacks_ == {}
    assert set(fine.routes_.values()) == {"root", "product"}


def test_routes_are_judged_by_weights_and_users_of_the_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(_funnel, "better_routes", lambda *judged: asked.append(judged) or {})
    plan, weight = make_folds(4, Y, random_state=0), np.random.default_rng(1).uniform(0.5, 2.0, (N, len(TASKS)))
    model(mode="auto", user="user").fit(X, Y, sample_weight=weight, plan=plan)
    rows = plan.last[1]
    ((scores, labels, weights, clusters),) = asked
    assert {len(score) for score in scores.values()} == {len(rows)}
    np.testing.assert_array_equal(labels.entire, Y.to_numpy()[rows])
    np.testing.assert_array_equal(weights, weight[rows])
    np.testing.assert_array_equal(clusters, X["user"].to_numpy()[rows])


@pytest.mark.parametrize("mode", MODES)
def test_children_of_a_class_and_multiclass_children(mode: str) -> None:
    reason = np.where(VIEW == 0, None, np.where(X["z"] > 0, "size", "colour"))
    labels = pd.DataFrame(
        {
            "view": VIEW,
            "reason": reason,
            "fee": np.where(reason == "size", np.exp(X["x"]), 0.0),
            "again": (reason == "size") * (rng.random(N) < 0.5) * 1.0,
        }
    )
    tasks = [
        Task("view", "binary"),
        Task("reason", "multiclass", given="view"),
        Task("fee", "regression", given=("reason", "size")),
        Task("again", "binary", given=("reason", "size")),
    ]
    fitted = model(tasks, mode=mode).fit(X, labels)
    scores, given = fitted.predict_scores(X), fitted.predict_scores(X, space="conditional")
    np.testing.assert_allclose(scores[["reason=colour", "reason=size"]].sum(axis=1), 1)  # conditional everywhere
    assert fitted.routes_["reason"] == "root"
    chance = scores["view"] * scores["reason=size"]
    assert (scores["again"] <= chance + 1e-12).all()
    if mode == "product":
        np.testing.assert_allclose(scores["fee"], chance * given["fee"], rtol=1e-12)
    assert fitted.score(X, labels) > 0.2


def test_a_ranking_child_is_conditional_everywhere() -> None:
    tasks = [Task("view", "binary"), Task("grade", "ranking", given="view", query="q")]
    labels = pd.DataFrame({"view": VIEW, "grade": VIEW * rng.integers(0, 3, N)})
    fitted = model(tasks).fit(X, labels)
    pd.testing.assert_frame_equal(fitted.predict_scores(X), fitted.predict_scores(X, space="conditional"))


def test_a_hurdle() -> None:
    labels = Y[["items", "spend"]]
    tasks = {"items": "count", "spend": "regression"}
    plain = model(tasks).fit(X, labels)
    hurdle = model(tasks, hurdle="auto").fit(X, labels)
    assert plain.routes_ == {"items": "root", "spend": "root"}
    assert hurdle.routes_ == {"items": "hurdle", "spend": "hurdle"}
    assert set(hurdle.fits_) == {(task, part) for task in tasks for part in ("happens", "amount")}
    np.testing.assert_allclose(hurdle.predict_scores(X).mean(), labels.mean(), rtol=0.15)
    assert model(tasks, hurdle=["spend"]).fit(X, labels).routes_ == {"items": "root", "spend": "hurdle"}
    assert model({"spend": "regression"}, hurdle="auto").fit(X, labels + 1).routes_ == {"spend": "root"}
    even = np.arange(N) % 2 == 0
    zeros = (labels[["spend"]] + 1).mul(even, axis=0)  # half of them: without weight they do not count
    weighted = model({"spend": "regression"}, hurdle="auto").fit(X, zeros, sample_weight=even * 1.0)
    assert weighted.routes_ == {"spend": "root"}
    with pytest.raises(ValueError, match="hurdle names buy; only count and regression tasks without parent"):
        model(hurdle=["buy"]).fit(X, Y)
    with pytest.raises(TypeError, match="'items' needs probabilities, and LinearSVC has no predict_proba"):
        model(tasks, hurdle="auto", learner=SklearnLearner(LinearSVC(), Ridge())).fit(X, labels)
    with pytest.raises(ValueError, match='hurdle must be "auto", a list of tasks or None, got'):
        model(hurdle="all").fit(X, Y)


def test_hurdles_know_labelled_rows_only() -> None:
    labels = Y[["items", "spend"]].assign(items=(Y["items"] + 1) * (np.arange(N) % 2), spend=Y["spend"] + 1)
    known = np.random.default_rng(0).random(N) < 0.5
    options = {"tasks": {"items": "count", "spend": "regression"}, "learner": "linear", "hurdle": "auto"}
    plain = model(**options).fit(X, labels)
    assert plain.routes_ == {"items": "hurdle", "spend": "root"}  # half of the items are 0
    zeros = labels.assign(spend=labels["spend"] * (np.arange(N) % 2 == 0))
    weight = np.column_stack([np.ones(N), np.arange(N) % 2 == 0]).astype(float)
    assert model(**options).fit(X, zeros, sample_weight=weight).routes_ == plain.routes_
    hidden = model(**options | {"hurdle": ["items"]}).fit(X, labels.mask(np.tile(~known, (2, 1)).T))
    alone = model(**options | {"hurdle": ["items"]}).fit(X[known], labels[known])
    pd.testing.assert_frame_equal(hidden.predict_scores(X), alone.predict_scores(X), rtol=0.02)


def test_conditional_learners_see_only_rows_whose_parent_is_positive() -> None:
    """Labels that a negative parent implies may be anything from 0 to unknown: the fit is the same to the bit."""
    unknown = Y.copy()
    unknown.loc[VIEW == 0, "buy"] = np.nan
    unknown.loc[BUY == 0, ["items", "spend"]] = np.nan
    one, two = model().fit(X, Y), model().fit(X, unknown)
    pd.testing.assert_frame_equal(one.predict_scores(X), two.predict_scores(X), check_exact=True)


@pytest.mark.parametrize("where", ["anywhere", "on one device"])
@pytest.mark.parametrize("children_known", [1.0, 0.5])
@pytest.mark.parametrize("funnel", [FunnelModel, PerTaskModel, SharedTreesModel])
def test_unknown_parents_make_children_no_likelier(funnel: Any, children_known: float, where: str) -> None:
    random, n = np.random.default_rng(3), 8000
    table = pd.DataFrame({"a": random.normal(size=n), "b": random.normal(size=n), "device": random.random(n) < 0.5})
    click = (random.random(n) < expit(table["a"])) * 1.0
    buy = click * (random.random(n) < expit(table["b"] - 1))
    hidden = random.random(n) < 0.5 if where == "anywhere" else table["device"].to_numpy()
    labels = pd.DataFrame({"click": click.mask(hidden), "buy": buy.where(random.random(n) < children_known)})
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    fitted = funnel(tasks, random_state=0).fit(table, labels)
    assert fitted.predict_scores(table)["buy"].mean() == pytest.approx(buy.mean(), rel=0.12)


STEPS = [Task("click", "binary"), Task("cart", "binary", given="click"), Task("buy", "binary", given="cart")]
WAYS = [STEPS[0], Task("cart", "multiclass", given="click"), Task("buy", "binary", given=("cart", 1))]
DIRECT: dict[str, Any] = {
    "per task": PerTaskModel(learner="linear"),
    "direct": FunnelModel(mode="direct", learner="linear"),
    "line": TaskGraphModel(edges=[("click", "buy")], learner="linear", cv=2, fallback=False, random_state=0),
    "shared": SharedTreesModel(funnel="direct", max_iter=8, learning_rate=0.5, random_state=0),
    "machine": MultiTaskFactorizationMachine(max_iter=10, random_state=0),
}


@pytest.mark.filterwarnings("ignore:Tasks with a machine of their own:UserWarning")
@pytest.mark.parametrize("name", list(DIRECT))
@pytest.mark.parametrize("tasks", [STEPS, WAYS], ids=["steps", "ways"])
def test_zeros_told_by_any_ancestor_make_partly_labelled_children_no_rarer(tasks: list[Task], name: str) -> None:
    random, n = np.random.default_rng(5), 6000
    table, happens = pd.DataFrame({"x": random.normal(size=n)}), random.random((n, 3)) < 0.5
    click, cart, buy = np.cumprod(happens, axis=1).T.astype(float)
    known = random.random(n) < 0.3
    labels = pd.DataFrame({"click": click, "cart": cart, "buy": buy})
    labels.loc[~known | (click == 0), "cart"] = labels.loc[~known | (cart == 0), "buy"] = np.nan
    scores = clone(DIRECT[name]).set_params(tasks=tasks).fit(table, labels).predict_scores(table)
    assert scores["buy"].mean() == pytest.approx(buy.mean(), rel=0.25)


@pytest.mark.parametrize("name", list(DIRECT))
def test_labelled_shares_are_those_of_the_weights(name: str) -> None:
    """Old rows, all labelled, weigh nothing beside recent ones, of which one in five is."""
    random, n = np.random.default_rng(6), 6000
    table, happens = pd.DataFrame({"x": random.normal(size=n)}), random.random((n, 2)) < 0.5
    click, buy = np.cumprod(happens, axis=1).T.astype(float)
    old = np.arange(n) < n / 2
    labels = pd.DataFrame({"click": click, "buy": np.where(old | (random.random(n) < 0.2), buy, np.nan)})
    labels.loc[click == 0, "buy"] = np.nan
    shop = clone(DIRECT[name]).set_params(tasks=[STEPS[0], Task("buy", "binary", given="click")])
    for weight in (np.where(old, 0.0, 1.0), np.where(old, 1e-4, 1.0)):
        scores = shop.fit(table, labels, sample_weight=weight).predict_scores(table)
        assert scores["buy"].mean() == pytest.approx(buy.mean(), rel=0.25)


@pytest.mark.parametrize("ensemble", ["calibrated", "stacked", "boosted"])
def test_ensembles_learn_from_partly_labelled_children_as_their_members_do(ensemble: str) -> None:
    random, n = np.random.default_rng(7), 3000
    table, happens = pd.DataFrame({"x": random.normal(size=n)}), random.random((n, 2)) < 0.5
    click, buy = np.cumprod(happens, axis=1).T.astype(float)
    labels = pd.DataFrame({"click": click, "buy": np.where(random.random(n) < 0.3, buy, np.nan)})
    labels.loc[click == 0, "buy"] = np.nan
    tasks = [STEPS[0], Task("buy", "binary", given="click")]
    members = [("steps", FunnelModel(tasks, learner="linear")), ("alone", PerTaskModel(tasks, learner="linear"))]
    made = {
        "calibrated": lambda: CalibratedModel(members[0][1], cv=2, random_state=0),
        "stacked": lambda: StackingEnsemble(members, cv=2, fallback=False, random_state=0),
        "boosted": lambda: BoostingEnsemble(members, cv=2, random_state=0),
    }
    scores = made[ensemble]().fit(table, labels).predict_scores(table)
    assert scores["buy"].mean() == pytest.approx(buy.mean(), rel=0.25)


def test_amounts_of_unknown_parents_are_learnt_from() -> None:
    """Where known parents have no zeros, there is none to miss."""
    amounts = Y[["view"]].assign(size=np.where(VIEW == 1, 2.0 + X["x"], 0.0))
    tasks = [Task("view", "binary"), Task("size", "regression", given="view")]
    hidden = amounts.assign(view=amounts["view"].where(rng.random(N) < 0.02))
    fitted = model(tasks).fit(X, hidden)
    truth = (2.0 + X["x"])[VIEW == 1]
    told = fitted.predict_scores(X, space="conditional")["size"][VIEW == 1]
    assert np.square(told - truth).mean() < 0.4 * truth.var()


def test_conflicts() -> None:
    odd = Y.copy()
    odd.loc[odd.index[VIEW == 0][:3], "buy"] = 1
    with pytest.raises(FunnelConflictError, match="3 rows have 'buy' non-zero although 'view'"):
        model().fit(X, odd)
    lifted = model(on_conflict="lift").fit(X, odd)
    dropped = model(on_conflict="drop").fit(X, odd)
    assert not lifted.predict_scores(X).equals(dropped.predict_scores(X))
    assert np.isfinite(lifted.score(X, odd))


def test_dropped_labels_are_unlabelled_in_every_structure() -> None:
    odd = Y[["view", "buy"]].copy()
    odd.loc[(VIEW == 0) & (np.arange(N) % 3 == 0), "buy"] = 1
    tasks, shared = TASKS[:2], {"learner": "linear", "on_conflict": "drop", "random_state": 0}
    kept = odd["buy"].where((VIEW == 1) | (odd["buy"] == 0))
    alone = PerTaskModel({"buy": "binary"}, learner="linear", random_state=0).fit(X, kept.to_frame())
    told = [
        PerTaskModel(tasks, **shared).fit(X, odd),
        TaskGraphModel(tasks, edges=[], **shared).fit(X, odd).base_,
        MultiTaskModel(tasks, structure="parallel", **shared).fit(X, odd).pipeline_[-1],
    ]
    truth = alone.predict_scores(X)["buy"]
    for model_ in told:
        own = model_.fits_["buy"].predict(model_.columns_.transform(X))
        np.testing.assert_allclose(own, truth, rtol=1e-6)


def test_a_child_that_never_happens() -> None:
    with pytest.warns(ConstantTaskWarning, match=r"'buy' has \d+ labelled rows, all with the same label \(negative\)"):
        fitted = model(TASKS[:2]).fit(X, Y.assign(buy=0.0))
    assert (fitted.predict_scores(X)["buy"] == 0).all()
    with pytest.warns(ConstantTaskWarning):
        rare = model(TASKS).fit(X, Y.assign(items=0.0, spend=0.0))
    assert (rare.predict_scores(X)[["items", "spend"]] == 0).all(axis=None)
