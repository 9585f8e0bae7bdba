"""A model moved by new rows: like the old where nothing is new, nearer to the new where something is."""

import warnings
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier

from mtl_classic import (
    Aggregate,
    AveragingEnsemble,
    CalibratedModel,
    EventLog,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    FunnelModel,
    HistoryFeatures,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    Segments,
    SharedTreesModel,
    SklearnLearner,
    StackingEnsemble,
    Task,
    TaskGraphModel,
    average_over_seeds,
    evaluate,
    load_model,
    make_funnel,
    save_model,
)
from mtl_classic._core.exceptions import FallbackWarning, TaskError

SHOP = make_funnel(4000, n_users=150, n_items=60, n_days=30, random_state=0)
CUT = SHOP.X["day"] < 20
AGGREGATES = [Aggregate("user", "count"), Aggregate("item", "rate", where="buy", per="view")]
STRUCTURES: dict[str, Any] = {
    "funnel": FunnelModel(),
    "routes": FunnelModel(mode={"cart": "average", "buy": "direct"}),
    "per task": PerTaskModel(),
    "xgboost": FunnelModel(learner="xgboost"),
    "families": AveragingEnsemble([("a", FunnelModel(SHOP.tasks)), ("b", FunnelModel(SHOP.tasks, learner="xgboost"))]),
    "stacked": StackingEnsemble([("a", FunnelModel(SHOP.tasks)), ("b", PerTaskModel(SHOP.tasks))], cv=2),
    "seeds": average_over_seeds(FunnelModel(SHOP.tasks), 2, 0),
    "calibrated": CalibratedModel(FunnelModel(SHOP.tasks), cv=2),
    "graph": TaskGraphModel(edges="serial", cv=2),
    "graph of learners": TaskGraphModel(edges="serial", combiner="learner", cv=2, fallback=False),
}


@cache
def model_of(name: str) -> MultiTaskModel:
    model = MultiTaskModel(
        SHOP.tasks, **SHOP.roles, structure=STRUCTURES[name], aggregates=AGGREGATES, latent=None, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(SHOP.X[CUT], SHOP.Y[CUT], events=SHOP.events)


@pytest.mark.parametrize("how", ["leaves", "rounds"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_new_scores_and_the_old_model_stays(name: str, how: str) -> None:
    model = model_of(name)
    before = model.predict_scores(SHOP.X[~CUT])
    new = model.refresh(SHOP.X[~CUT], SHOP.Y[~CUT], how=how)
    pd.testing.assert_frame_equal(model.predict_scores(SHOP.X[~CUT]), before)
    scores = new.predict_scores(SHOP.X[~CUT])
    assert ((scores - before).abs().mean() > 0).all()
    assert (scores["buy"] <= scores["cart"]).all()
    assert new.refresh(SHOP.X[~CUT], SHOP.Y[~CUT]).pipeline_ is not new.pipeline_


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost", "forest", "linear", "passes"])
@pytest.mark.parametrize("how", ["leaves", "rounds"])
def test_a_world_that_turned(how: str, learner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(6000, 3)), columns=list("abc"))
    up = X["a"].to_numpy() > 0
    old, new = ((rng.random(6000) < p).astype(float) for p in (0.2 + 0.2 * up, 0.6 - 0.2 * up))
    learners: dict[str, Any] = {
        "forest": SklearnLearner(RandomForestClassifier(30, min_samples_leaf=20)),
        "passes": SklearnLearner(SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.002)),
    }
    given = learners.get(learner, learner)
    model = MultiTaskModel({"buy": "binary"}, latent=None, learner=given, random_state=0).fit(X, old)
    moved = model.refresh(X[:3000], new[:3000], how=how, decay=0.5)
    table = evaluate(moved, X[3000:], pd.DataFrame({"buy": new[3000:]}), baseline=model)
    assert (table.loc[("buy", "loss"), "verdict"]) == "better"


@pytest.mark.parametrize("combiner", ["linear", "learner"])
def test_graphs_move_with_their_learners(combiner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(6000, 3)), columns=list("abc"))
    up = X["a"].to_numpy() > 0
    chance = pd.DataFrame({"click": 0.3 + 0.3 * up, "buy": 0.1 + 0.2 * up})
    old, new = ((rng.random((6000, 2)) < p).astype(float) for p in (chance, 0.9 - chance))
    old["buy"], new["buy"] = old["buy"].where(np.arange(6000) < 400), new["buy"].where(np.arange(6000) < 4000)
    graph = TaskGraphModel(edges=[("click", "buy")], combiner=combiner, fallback=False, cv=3)
    model = MultiTaskModel(dict.fromkeys(chance, "binary"), latent=None, structure=graph, random_state=0).fit(X, old)
    moved = model.refresh(X[:4000], new[:4000], decay=0.5)
    told = moved.refreshed_.set_index(["task", "part"])["outcome"]
    assert told["buy", "combination"] == ("kept" if combiner == "linear" else "leaves")
    truth = pd.DataFrame((rng.random((2000, 2)) < 0.9 - chance[4000:]).astype(float), X.index[4000:], chance.columns)
    table = evaluate(moved, X[4000:], truth, baseline=model)
    assert (table["verdict"].xs("loss", level="metric") == "better").all()


@pytest.mark.parametrize("learner", ["forest", "linear", "extra_trees"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "count"])
def test_kinds_of_scikit_learns_estimators(kind: str, learner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc"))
    y = {"binary": 2, "multiclass": 3, "regression": 7, "count": 4}[kind]
    Y = np.clip(np.round(X["a"] + rng.normal(size=600) + y / 2), 0, y - 1) + (0.5 if kind == "regression" else 0.0)
    model = PerTaskModel({"y": kind}, learner=learner, random_state=0).fit(X, Y)
    model = MultiTaskModel({"y": kind}, latent=None, structure=model, learner=learner, random_state=0).fit(X, Y)
    before = model.predict_scores(X)
    moved = model.refresh(X[:200], Y[:200], decay=0.5)
    assert set(moved.refreshed_["outcome"]) == {"coefficients" if learner == "linear" else "leaves"}
    after = moved.predict_scores(X)
    assert (after - before).abs().to_numpy().mean() > 0
    if kind == "multiclass":
        np.testing.assert_allclose(after.sum(axis=1), 1)
    few = moved.refresh(X[:50], Y[:50].where(Y[:50] == Y[0]), how="rounds")
    expected = "kept" if kind in ("binary", "multiclass") else "coefficients" if learner == "linear" else "rounds"
    assert set(few.refreshed_["outcome"]) == {expected}


def test_machines_make_a_pass_and_learn_new_users() -> None:
    machine = FactorizationMachineClassifier(categorical=["user", "item"], exclude=["time", "day"], random_state=0)
    latent = LatentFeatures([("fm", machine)], cv=2, random_state=0)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=latent, random_state=0)
    model.fit(SHOP.X[CUT], SHOP.Y[CUT], events=SHOP.events)
    old = model.pipeline_.named_steps["latent"].models_["fm"]
    width = len(old.factors_)
    X = SHOP.X[~CUT].assign(user=lambda rows: rows["user"].where(rows.index % 2 == 0, 10_000))
    moved = model.refresh(X, SHOP.Y[~CUT])
    assert len(moved.pipeline_.named_steps["latent"].models_["fm"].factors_) > width == len(old.factors_)


@pytest.mark.parametrize(
    "latent",
    [
        LatentFeatures([("als", MatrixFactorization(n_factors=4, random_state=0))], cv=2, random_state=0),
        MatrixFactorization(n_factors=4, random_state=0),
    ],
)
def test_events_of_the_new_model_do_not_move_the_old(latent: Any) -> None:
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=latent, random_state=0)
    model.fit(SHOP.X[CUT], SHOP.Y[CUT], events=SHOP.events)
    before = model.predict_scores(SHOP.X[~CUT])
    new = SHOP.events.to_frame().tail(300)
    model.refresh(SHOP.X[~CUT], SHOP.Y[~CUT]).observe(new.assign(time=new["time"] + pd.Timedelta("30D")))
    pd.testing.assert_frame_equal(model.predict_scores(SHOP.X[~CUT]), before)


def test_labels_that_are_not_mature_do_not_count() -> None:
    shop = make_funnel(3000, n_users=100, n_items=50, n_days=20, delay="7D", random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    model.fit(shop.X, shop.Y, events=shop.events)
    young = shop.X["time"] > shop.events.last_time - pd.Timedelta("7D")
    other = shop.Y.copy()
    other.loc[young, ["buy", "spend"]] = np.nan
    one, two = (model.refresh(shop.X, Y).predict_scores(shop.X) for Y in (shop.Y, other))
    pd.testing.assert_frame_equal(one, two)


def test_tasks_without_a_mature_label_keep_what_they_have() -> None:
    shop = make_funnel(3000, n_users=100, n_items=50, n_days=20, delay="7D", random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    model.fit(shop.X, shop.Y, events=shop.events)
    young = shop.X["time"] > shop.events.last_time - pd.Timedelta("7D")
    told = model.refresh(shop.X[young], shop.Y[young]).refreshed_.groupby("task")["outcome"].unique()
    assert told.map(list).to_dict() == {"view": ["leaves"], "cart": ["leaves"], "buy": ["kept"], "spend": ["kept"]}


@pytest.mark.usefixtures("few_trees")
def test_best_is_moved_where_it_can_be_and_says_where_not(tmp_path: Path) -> None:
    tasks = [task for task in SHOP.tasks if task.name != "spend"]
    labels = SHOP.Y.drop(columns="spend")
    model = MultiTaskModel(tasks, **SHOP.roles, aggregates=AGGREGATES, latent=None, preset="best", random_state=0)
    model.fit(SHOP.X[CUT], labels[CUT], events=SHOP.events)
    before = model.predict_scores(SHOP.X[~CUT])
    with pytest.warns(FallbackWarning, match="parts stay as they were: .* See refreshed_"):
        moved = model.refresh(SHOP.X[~CUT], labels[~CUT])
    told = moved.refreshed_
    families = told["member"].str.split("_seed").str[0]
    assert set(families[told["outcome"] == "leaves"]) <= {"lightgbm", "xgboost"}
    assert set(families[told["outcome"] == "coefficients"]) <= {"linear"}
    assert set(families[told["outcome"] == "pass"]) <= {"factors"}
    assert set(families[told["outcome"] == "cannot"]) <= {"extra_trees"}
    assert (told["outcome"].isin(["cannot", "coefficients", "leaves", "pass", "kept"])).all()
    assert (told["outcome"].isin(["cannot", "kept"]) == (told["why"] != "")).all()
    assert {"leaves", "cannot"} <= set(told["outcome"])
    after = moved.predict_scores(SHOP.X[~CUT])
    assert ((after - before).abs().mean() > 0).all()
    assert (after["buy"] <= after["cart"]).all()
    pd.testing.assert_frame_equal(model.predict_scores(SHOP.X[~CUT]), before)
    save_model(moved, tmp_path / "moved.zip", include_events=True)
    loaded = load_model(tmp_path / "moved.zip")
    pd.testing.assert_frame_equal(loaded.predict_scores(SHOP.X[~CUT]), after, check_exact=True)
    pd.testing.assert_frame_equal(loaded.refreshed_, told)


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost"])
def test_leaves_that_no_new_row_reaches_stay(learner: str) -> None:
    X = pd.DataFrame({"a": np.arange(4000.0) % 40})
    y = (X["a"] // 4 % 2).to_numpy() + np.random.default_rng(0).normal(0, 0.1, 4000)
    model = MultiTaskModel({"y": "regression"}, latent=None, learner=learner, random_state=0).fit(X, y)
    low = X["a"] < 8
    before, after = model.predict(X), model.refresh(X[low], y[low] + 3, decay=0.0).predict(X)
    assert after[low].mean() - before[low].mean() > 2
    far = X["a"] > 12
    assert abs(after[far] - before[far]).mean() < 0.2


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost"])
def test_nights_of_few_rows_like_those_of_the_fit_move_no_mean(learner: str) -> None:
    """The constant that boosting began with is no part of what is forgotten: a mean far from 0, a rare class."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(6000, 2)), columns=list("ab"))
    Y = pd.DataFrame({"spend": 50 + 5 * X["a"] + rng.normal(0, 5, 6000), "n": rng.poisson(np.exp(2 + 0.3 * X["a"]))})
    Y["kind"] = rng.choice(["p", "q", "r"], 6000, p=[0.9, 0.07, 0.03])
    kinds = {"spend": "regression", "n": "count", "kind": "multiclass"}
    model = MultiTaskModel(kinds, latent=None, learner=learner, random_state=0).fit(X[:4000], Y[:4000])
    before = model.predict_scores(X[5000:])
    for night in range(10):
        rows = slice(4000 + 100 * night, 4100 + 100 * night)
        model = model.refresh(X[rows], Y[rows], decay=0.7)
    after = model.predict_scores(X[5000:])
    assert after.mean()[["spend", "n"]].to_numpy() == pytest.approx(before.mean()[["spend", "n"]].to_numpy(), rel=0.05)
    assert after["kind=r"].mean() < 2 * before["kind=r"].mean()
    errors = [((scores["spend"] - Y["spend"][5000:]) ** 2).mean() for scores in (before, after)]
    assert errors[1] < 1.2 * errors[0]


def test_further_rounds_are_quiet_and_the_same_each_time(capfd: pytest.CaptureFixture[str]) -> None:
    model = model_of("funnel").refresh(SHOP.X[~CUT], SHOP.Y[~CUT], how="rounds")
    capfd.readouterr()
    first, second = (model.refresh(SHOP.X[~CUT], SHOP.Y[~CUT], how="rounds") for _ in range(2))
    assert capfd.readouterr() == ("", "")
    scores = first.predict_scores(SHOP.X[~CUT])
    pd.testing.assert_frame_equal(scores, second.predict_scores(SHOP.X[~CUT]), check_exact=True)


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost", "forest"])
def test_each_refresh_adds_as_many_rounds(learner: str, tmp_path: Path) -> None:
    given: Any = SklearnLearner(RandomForestClassifier(30)) if learner == "forest" else learner
    X, y = SHOP.X[["price"]], SHOP.Y["view"]
    model = MultiTaskModel({"view": "binary"}, latent=None, learner=given, random_state=0).fit(X, y)
    sizes = []
    for how in ("rounds", "leaves", "rounds", "rounds"):
        model = model.refresh(X, y, how=how)
        save_model(model, tmp_path / "night.mtl")
        model = load_model(tmp_path / "night.mtl")
        fit = model.pipeline_.steps[-1][1].fits_["view"]
        sizes.append(len(fit.model.estimators_) if learner == "forest" else fit.n_rounds)
    first = sizes[0] - fit.n_added // 3
    assert np.diff([first, *sizes]).tolist() == [max(1, first // 10), 0, max(1, first // 10), max(1, first // 10)]


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost"])
def test_masks_weights_kinds_and_constants(learner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"query": rng.integers(0, 60, 1500), "a": rng.normal(size=1500)})
    Y = pd.DataFrame({"n": rng.poisson(2, 1500), "rank": rng.integers(0, 3, 1500)}).astype(float)
    Y["kind"] = np.resize(["p", "q", "r"], 1500)
    Y["rare"] = np.where(np.arange(1500) < 200, 0.0, np.nan)
    tasks = [
        Task("kind", "multiclass"),
        Task("n", "count"),
        Task("rank", "ranking", query="query"),
        Task("rare", "binary"),
    ]
    model = MultiTaskModel(tasks, query="query", latent=None, learner=learner, random_state=0)
    with pytest.warns(UserWarning, match="rare"):
        model.fit(X, Y)
    weight = np.where(np.arange(1500) % 2, 1.0, 0.0)
    some = Y.mask(pd.Series(weight == 0))
    masked, weighted = model.refresh(X, some), model.refresh(X, Y, sample_weight=weight)
    pd.testing.assert_frame_equal(masked.predict_scores(X), weighted.predict_scores(X))
    assert (masked.predict_scores(X)["rare"] == 0).all()
    assert dict(zip(masked.refreshed_["task"], masked.refreshed_["outcome"], strict=True)) == {
        "kind": "leaves", "n": "leaves", "rank": "leaves", "rare": "kept",
    }  # fmt: skip


def test_what_is_wrong_is_told() -> None:
    model = model_of("funnel")
    with pytest.raises(ValueError, match="how must be"):
        model.refresh(SHOP.X, SHOP.Y, how="all")
    with pytest.raises(ValueError, match="decay"):
        model.refresh(SHOP.X, SHOP.Y, decay=2)
    with pytest.raises(ValueError, match="same number"):
        model.refresh(SHOP.X, SHOP.Y[:10])
    with pytest.raises(TaskError, match="lacks the columns of the tasks view;"):  # a frame is never read by position
        model.refresh(SHOP.X, SHOP.Y.rename(columns={"view": "views"}))
    hist = MultiTaskModel(SHOP.tasks, aggregates=None, latent=None, learner="hist").fit(SHOP.X[["price"]], SHOP.Y)
    with pytest.raises(TypeError, match=r"SklearnLearner \(HistGradientBoostingClassifier\) cannot be refreshed"):
        hist.refresh(SHOP.X[["price"]], SHOP.Y)
    trees = MultiTaskModel(SHOP.tasks, aggregates=None, latent=None, structure=SharedTreesModel(max_iter=5))
    with pytest.raises(TypeError, match="SharedTreesModel cannot be refreshed"):
        trees.fit(SHOP.X[["price"]], SHOP.Y).refresh(SHOP.X[["price"]], SHOP.Y)


def test_parameters_of_the_learner_hold() -> None:
    model = MultiTaskModel({"buy": "binary"}, latent=None, learner=LightGBMLearner(num_leaves=4), random_state=0)
    model.fit(SHOP.X[["price"]], SHOP.Y["buy"])
    fit = model.refresh(SHOP.X[["price"]], SHOP.Y["buy"], how="rounds").pipeline_.steps[-1][1].fits_["buy"]
    old = model.pipeline_.steps[-1][1].fits_["buy"]
    assert fit.n_rounds == old.n_rounds + max(1, old.n_rounds // 10)
    assert max(tree["num_leaves"] for tree in fit.booster.dump_model()["tree_info"]) <= 4


@pytest.mark.parametrize("latent", [
    LatentFeatures([("als", MatrixFactorization(n_factors=4, random_state=0))], random_state=0),
    MatrixFactorization(n_factors=4, random_state=0), Segments(n_segments=3, random_state=0),
    MatrixFactorization("bpr", n_factors=4, random_state=0),
])  # fmt: skip
@pytest.mark.parametrize("aggregates", [HistoryFeatures([Aggregate("user", "count")], lag="5D"), None])
def test_events_of_the_new_rows_may_be_told_before_or_after(aggregates: Any, latent: Any) -> None:
    past = SHOP.X["time"] < SHOP.X["time"].max() - pd.Timedelta("4D")
    new, end, first = ~past, SHOP.X.loc[past, "time"].max(), SHOP.X.loc[~past, "time"].min()
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=aggregates, latent=latent, random_state=0)
    model.fit(SHOP.X[past], SHOP.Y[past], events=SHOP.events.before(end))
    events = SHOP.events.to_frame()
    events = events[events["time"] >= end]
    late = events["time"] >= (end if aggregates is None else first)  # without a log: as of the fit
    after = deepcopy(model).observe(events[~late]).refresh(SHOP.X[new], SHOP.Y[new]).observe(events[late])
    told = model.observe(events)
    scores = told.predict_scores(SHOP.X[new])
    before = told.refresh(SHOP.X[new], SHOP.Y[new])
    pd.testing.assert_frame_equal(told.predict_scores(SHOP.X[new]), scores)
    pd.testing.assert_frame_equal(
        before.predict_scores(SHOP.X[new]), after.predict_scores(SHOP.X[new]), rtol=1e-4, atol=1e-6
    )


def test_a_machine_of_several_tasks_makes_a_pass() -> None:
    machine = MultiTaskFactorizationMachine(
        categorical=["user", "item"], exclude=["time", "day"], n_factors=4, max_iter=4, random_state=0
    )
    latent = LatentFeatures([("fm", machine)], cv=2, random_state=0)
    model = MultiTaskModel(
        SHOP.tasks[:3], **SHOP.roles, structure=machine, aggregates=None, latent=latent, random_state=0
    )
    model.fit(SHOP.X[CUT], SHOP.Y.loc[CUT, ["view", "cart", "buy"]])
    X, Y = SHOP.X[~CUT], SHOP.Y.loc[~CUT, ["view", "cart", "buy"]].assign(view=np.nan)
    before = model.predict_scores(X)
    moved = model.refresh(X, Y, sample_weight=np.linspace(0.5, 1.5, len(X)))
    pd.testing.assert_frame_equal(model.predict_scores(X), before)
    outcomes = moved.refreshed_.groupby("member")[["task", "outcome"]].apply(lambda part: dict(part.to_numpy()))
    expected = {"view": "kept", "cart": "pass", "buy": "pass"}
    assert outcomes.to_dict() == {"latent/fm": expected, "": expected}
    assert ((moved.predict_scores(X) - before).abs().mean() > 0).all()
    assert set(model.refresh(X, Y * np.nan).refreshed_["outcome"]) == {"kept"}


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_of_new_rows_may_lack_the_zone_of_the_log(zone: str | None) -> None:
    events, old = SHOP.events.to_frame(), SHOP.X.assign(time=SHOP.X["time"].dt.tz_localize(zone))
    events["time"] = events["time"].dt.tz_localize(zone)
    past, start = SHOP.X["day"] < 20, SHOP.X.loc[SHOP.X["day"] == 20, "time"].min().tz_localize(zone)
    latent = MatrixFactorization(n_factors=4, random_state=0)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=None, latent=latent, random_state=0)
    log = EventLog(events[events["time"] < start], event="event", value="value", user="user", item="item", time="time")
    model.fit(old[past], SHOP.Y[past], events=log)
    new = model.observe(events[events["time"] >= start]).refresh(SHOP.X[~past], SHOP.Y[~past])
    assert set(new.refreshed_["outcome"]) == {"leaves"}


def test_machines_learn_from_amounts_of_minus_one() -> None:
    random = np.random.default_rng(0)
    X = pd.DataFrame({name: random.choice(list("abcdefgh"), 200) for name in ("user", "item")})
    machine = FactorizationMachineRegressor(n_factors=2, max_iter=3, random_state=0)
    options: dict[str, Any] = {"aggregates": None, "latent": LatentFeatures([("m", machine)], cv=2, random_state=0)}
    model = MultiTaskModel({"y": "regression"}, user="user", item="item", random_state=0, **options)
    told = model.fit(X, random.choice([-1.0, 1.0], 200)).refresh(X[:20], np.full(20, -1.0)).refreshed_
    assert told.loc[told["part"] == "factors", "outcome"].tolist() == ["pass"]


def test_an_ensemble_with_folds_in_an_array_is_refreshed() -> None:
    tasks, (X, Y) = {"view": "binary"}, (SHOP.X[["price"]], SHOP.Y[["view"]])
    members = [("trees", PerTaskModel(tasks)), ("more", PerTaskModel(tasks))]
    ensemble = AveragingEnsemble(members, weights="greedy", cv=np.arange(len(X)) % 2)
    model = MultiTaskModel(tasks, structure=ensemble, random_state=0).fit(X, Y)
    assert set(model.refresh(X, Y).refreshed_["outcome"]) == {"leaves"}
