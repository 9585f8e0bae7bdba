"""MultiTaskModel: where its history comes from, what it chooses, and that nothing leaks through time."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from mtl_classic import (
    Aggregate,
    AveragingEnsemble,
    EventLog,
    FactorizationMachineClassifier,
    FoldError,
    FunnelModel,
    HistoryFeatures,
    LabelError,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    RoleError,
    Segments,
    TargetStatistics,
    Task,
    TaskError,
    UnusedColumnsWarning,
    label_from_events,
    make_folds,
    make_funnel,
)

SHOP = make_funnel(1_500, n_users=100, n_items=40, n_days=30, random_state=0)
X, Y, LOG = SHOP.X, SHOP.Y, SHOP.events
SMALL = LightGBMLearner(max_iter=15)


def model(tasks: Any = SHOP.tasks, **options: Any) -> MultiTaskModel:
    return MultiTaskModel(tasks, **({"learner": SMALL, "random_state": 0} | SHOP.roles | options))


def first_step(fitted: MultiTaskModel) -> Any:
    return fitted.pipeline_.steps[0][1]


# -- what "auto" puts together ------------------------------------------------------------------------------------


def test_history_comes_from_the_log() -> None:
    fitted = model().fit(X, Y, events=LOG)
    assert isinstance(fitted.pipeline_, Pipeline)
    assert isinstance(first_step(fitted), HistoryFeatures)
    assert isinstance(fitted.pipeline_[-1], FunnelModel)
    assert first_step(fitted).log_ is LOG
    inside = fitted.pipeline_[-1].predict_scores(fitted.pipeline_[:-1].transform(X))
    pd.testing.assert_frame_equal(inside, fitted.predict_scores(X))


def test_roles_may_be_those_of_the_log() -> None:
    named = model().fit(X, Y, events=LOG)
    unnamed = model(user=None, item=None, time=None).fit(X, Y, events=LOG)
    assert unnamed.roles_ == {"user": "user", "item": "item", "time": "time", "query": None}
    pd.testing.assert_frame_equal(unnamed.predict_scores(X), named.predict_scores(X))


def test_without_a_log_the_rows_are_the_log() -> None:
    fitted = model().fit(X, Y)
    assert isinstance(first_step(fitted), HistoryFeatures)
    assert any("view" in name for name in fitted.pipeline_[-1].columns_.names_)


def test_without_a_time_target_statistics_take_its_place() -> None:
    fitted = model(time=None, cv=3).fit(X, Y)
    assert isinstance(first_step(fitted), TargetStatistics)
    assert "user__buy__mean" in fitted.pipeline_[-1].columns_.names_


def test_without_ids_or_aggregates_there_is_no_history() -> None:
    for options in ({"aggregates": None}, {"user": None, "item": None, "time": None}, {"user": None, "item": None}):
        assert len(model(**options).fit(X, Y).pipeline_) == 1


def shop_with_brands(n: int = 4_000, n_brands: int = 400) -> tuple[pd.DataFrame, pd.Series]:
    """Rows in the order of time, whose label is a matter of the brand, and a text of its own in each."""
    rng = np.random.default_rng(0)
    brand = rng.integers(0, n_brands, n)
    X = pd.DataFrame({"brand": [f"b{k}" for k in brand], "price": rng.random(n), "day": np.arange(n) // 50})
    buy = rng.random(n) < rng.choice([0.1, 0.9], n_brands)[brand]
    return X.assign(text=[f"about {k}" for k in range(n)]), buy.astype(int)


@pytest.mark.parametrize("time", [None, "day"])
def test_columns_of_too_many_categories_become_statistics(time: str | None) -> None:
    X, buy = shop_with_brands()
    X = X.drop(columns="text")
    roles = {"time": time, "random_state": 0}
    fitted = MultiTaskModel({"buy": "binary"}, **roles).fit(X[:3000], buy[:3000])
    assert [name for name, _ in fitted.pipeline_.steps] == ["statistics", "model"]
    scores = fitted.predict_scores(X[3000:])
    assert roc_auc_score(buy[3000:], scores["buy"]) > 0.8
    serving = fitted.compile_for_serving()
    alone = [serving.predict_scores(row)["buy"] for row in X[3000:3020].to_dict("records")]
    assert alone == pytest.approx(scores["buy"][:20].tolist())


def test_columns_that_the_structure_takes_have_no_statistics_but_where_they_are_all_that_a_history_can_be_of() -> None:
    X, buy = shop_with_brands()
    X = X.assign(kind=X["brand"].str[-2:]).drop(columns="text")  # a hundred and ten of them

    def columns(**options: Any) -> set[str]:
        fitted = MultiTaskModel({"buy": "binary"}, latent=None, learner=SMALL, random_state=0, **options).fit(X, buy)
        return set(fitted.pipeline_[-1].columns_.names_)

    own = PerTaskModel(max_categories=400)
    of_brand, of_kind = "brand__buy__mean", "kind__buy__mean"
    assert {name for name in columns() if name.endswith("mean")} == {of_brand}
    assert {"brand", "kind"} < columns(structure=own) - {of_brand, of_kind}
    assert {"kind", of_brand, of_kind} < columns(time="day")
    assert {name for name in columns(time="day", user="price") if name.endswith("mean")} == {of_brand}


def test_statistics_of_many_categories_stand_beside_the_history() -> None:
    X, buy = shop_with_brands()
    X = X.drop(columns="text").assign(user=np.arange(len(X)) % 90)
    fitted = MultiTaskModel({"buy": "binary"}, user="user", time="day", latent=None, random_state=0).fit(X, buy)
    assert [name for name, _ in fitted.pipeline_.steps] == ["history", "statistics", "model"]
    names = fitted.pipeline_[-1].columns_.names_
    assert {"user__rate__buy", "brand__buy__mean"} <= set(names)

    made = []
    for labels in (buy, np.where(X["day"] < 60, buy, 1 - buy)):  # what comes later tells earlier rows nothing
        statistics = clone(fitted.pipeline_["statistics"])
        made.append(statistics.fit_transform(X, labels).loc[X["day"] < 60, "brand__buy__mean"])
    assert made[0].nunique() > 100
    pd.testing.assert_series_equal(*made)


def test_no_statistics_of_columns_that_have_them_or_are_left_out_by_name() -> None:
    X, buy = shop_with_brands(1_000)
    X = X.drop(columns="text")
    options = {"learner": SMALL, "random_state": 0}
    told = TargetStatistics(["brand"], tasks={"buy": "binary"}, random_state=0).fit_transform(X, buy)
    fitted = MultiTaskModel({"buy": "binary"}, **options).fit(told, buy)  # the columns of its own would be the same
    assert fitted.pipeline_[-1].columns_.names_ == ("price", "day", "brand__buy__mean")

    for name in ("brand", "about__brand"):
        own = PerTaskModel({"buy": "binary"}, exclude=["brand"], learner=SMALL)
        fitted = MultiTaskModel({"buy": "binary"}, structure=own).fit(X.rename(columns={"brand": name}), buy)
        assert fitted.pipeline_[-1].columns_.names_ == ("price", "day")

    for option in ("max_categories", "exclude"):
        wrong = PerTaskModel({"buy": "binary"}).set_params(**{option: None})
        with pytest.raises(TypeError, match=f"{option} must be"):
            MultiTaskModel({"buy": "binary"}, structure=wrong).fit(X, buy)


def test_columns_whose_names_are_numbers_become_statistics() -> None:
    X, buy = shop_with_brands(1_000)
    numbered = X[["brand", "price"]].set_axis([0, 1], axis=1)
    fitted = MultiTaskModel({"buy": "binary"}, learner=SMALL, random_state=0).fit(numbered, buy)
    named = MultiTaskModel({"buy": "binary"}, learner=SMALL, random_state=0).fit(X[["brand", "price"]], buy)
    pd.testing.assert_frame_equal(fitted.predict_scores(numbered), named.predict_scores(X[["brand", "price"]]))


def test_texts_are_no_features_and_that_is_said() -> None:
    X, buy = shop_with_brands(1_000)
    told = r"max_categories=255 values: 'text' \(1000 values\)\. Put TargetStatistics before the model"
    with pytest.warns(UnusedColumnsWarning, match=told):
        fitted = MultiTaskModel({"buy": "binary"}, learner=SMALL, random_state=0).fit(X, buy)
    assert fitted.pipeline_["statistics"].keys_ == [("brand",)]


def test_aggregates_of_the_user() -> None:
    own = [Aggregate("user", "count", where="view", window="7D")]
    fitted = model(aggregates=own).fit(X, Y, events=LOG)
    assert [aggregate.keys for aggregate in first_step(fitted).aggregates_] == [("user",)]
    same = model(aggregates=HistoryFeatures(own, **SHOP.roles)).fit(X, Y, events=LOG)
    pd.testing.assert_frame_equal(fitted.predict_scores(X), same.predict_scores(X))
    with pytest.raises(RoleError, match="aggregates were given, but no time column of the rows; name it with time="):
        model(aggregates=own, time=None).fit(X, Y)


class Doubled(TransformerMixin, BaseEstimator):
    """Takes neither events nor a plan."""

    def fit(self, X: Any, y: Any = None) -> "Doubled":
        self.labels_ = list(y)
        return self

    def transform(self, X: Any) -> Any:
        return X.assign(double=2 * X["price"])


def test_transformers_of_the_user() -> None:
    fitted = model(aggregates=Doubled(), latent=Doubled()).fit(X, Y, events=LOG)
    assert [name for name, _ in fitted.pipeline_.steps] == ["history", "latent", "model"]
    assert first_step(fitted).labels_ == ["view", "cart", "buy", "spend"]
    assert "double" in fitted.pipeline_[-1].columns_.names_


def test_transformers_of_the_user_learn_the_tasks_of_the_model() -> None:
    kinds = {"view": "binary", "pieces": "count"}  # whole numbers, whose kind nobody can tell from the labels
    labels = Y[["view"]].assign(pieces=np.arange(len(Y)) % 3)
    factors = MultiTaskFactorizationMachine(n_factors=2, max_iter=1, fallback=False, random_state=0)
    statistics = TargetStatistics(["device"], cv=2)
    latent = LatentFeatures([("fm", factors)], cv=2)
    rows = X.drop(columns=["time", "day"])
    fitted = MultiTaskModel(kinds, aggregates=statistics, latent=latent, learner="linear").fit(rows, labels)
    assert "device__pieces__mean" in fitted.pipeline_[0].get_feature_names_out()
    assert latent.tasks is None
    kept = fitted.pipeline_[1].models_["fm"]
    assert [task.kind for task in kept.tasks_] == ["count", "binary"]


def test_the_order_of_tasks_changes_no_latent_feature() -> None:
    shop = make_funnel(3_000, n_users=150, n_items=60, random_state=0)
    flat = [Task(name, "binary") for name in ("view", "cart", "buy")]
    flat.append(Task("extra", "binary"))
    labels = shop.Y[["view", "cart", "buy"]].assign(extra=shop.X["user"] % 2 == shop.X["item"] % 2)
    one, two = (model(tasks, time=None).fit(shop.X, labels) for tasks in (flat, flat[::-1]))
    assert one.latent_choice_ == two.latent_choice_
    assert one.latent_choice_ != "no user and item with enough rows to learn latent features for"
    pd.testing.assert_frame_equal(one.predict_scores(shop.X), two.predict_scores(shop.X)[[t.name for t in flat]])


# -- structures, presets ------------------------------------------------------------------------------------------


def test_the_structure_follows_the_tasks() -> None:
    flat = [Task("view", "binary"), Task("cart", "binary")]
    assert isinstance(model(flat).fit(X, Y).pipeline_[-1], PerTaskModel)
    assert isinstance(model(structure="parallel").fit(X, Y).pipeline_[-1], PerTaskModel)
    assert isinstance(model(flat, structure="hierarchical").fit(X, Y).pipeline_[-1], FunnelModel)


def test_a_structure_takes_over_what_it_leaves_open() -> None:
    structure = FunnelModel(mode="direct", learner=SMALL)
    fitted = model(structure=structure, aggregates=None).fit(X, Y)
    inside = fitted.pipeline_[-1]
    assert inside.tasks_ == SHOP.tasks
    assert inside.roles_["time"] == "time"
    again = model(structure=structure, aggregates=None).fit(X, Y)
    pd.testing.assert_frame_equal(fitted.predict_scores(X), again.predict_scores(X), check_exact=True)
    assert structure.tasks is None
    wrong = PerTaskModel([Task("view", "binary")])
    with pytest.raises(TaskError, match=r"structure has the tasks \['view'\].*leave tasks= of the structure None"):
        model(structure=wrong).fit(X, Y)


def test_the_seed_of_the_model_is_that_of_all_parts() -> None:
    trees = LightGBMLearner(max_iter=2, params={"bagging_fraction": 0.5, "bagging_freq": 1})
    factors = FactorizationMachineClassifier(n_factors=2, max_iter=1)
    parts = {
        "structure": AveragingEnsemble([("a", PerTaskModel(learner=trees)), ("b", PerTaskModel(learner=trees))]),
        "latent": LatentFeatures([("fm", factors)], task="view", cv=2),
    }
    fitted = [model(**parts, aggregates=None).fit(X, Y) for _ in range(2)]
    scores = [one.predict_scores(X) for one in fitted]
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    a, b = (member.random_state for member in fitted[0].pipeline_[-1].estimators_)
    assert a != b
    assert parts["structure"].get_params()["a__random_state"] is None
    assert factors.random_state is None


def test_the_fast_preset_reports_what_the_structure_fell_back_to() -> None:
    fitted = model(structure=FunnelModel(mode="auto"), aggregates=None).fit(X, Y)
    assert fitted.fallbacks_ == fitted.pipeline_[-1].fallbacks_


def test_the_best_preset_averages_seeds() -> None:
    best = model(preset="best", cv=2).fit(X, Y, events=LOG)
    ensemble = best.pipeline_[-1]
    assert isinstance(ensemble, AveragingEnsemble)
    assert len(ensemble.estimators) == 3
    hurried = model(preset="best", cv=2, time_budget=0).fit(X, Y, events=LOG)
    assert len(hurried.pipeline_[-1].estimators) == 1
    alone = model(preset="best", cv=2, ensemble=None).fit(X, Y, events=LOG)
    assert isinstance(alone.pipeline_[-1], FunnelModel)
    assert (best.predict_scores(X)["buy"] <= best.predict_scores(X)["cart"]).all()


def test_the_best_preset_averages_seeds_of_any_structure() -> None:
    pair = AveragingEnsemble([("a", PerTaskModel(SHOP.tasks, learner=SMALL)), ("b", FunnelModel(SHOP.tasks))])
    fitted = model(preset="best", structure=pair, aggregates=None, cv=2).fit(X, Y)
    assert len(fitted.pipeline_[-1].estimators) == 3


def test_a_plan_is_shared_by_all_levels() -> None:
    plan = make_folds(3, Y, random_state=5)
    one, two = (model(time=None).fit(X, Y, plan=p).predict_scores(X) for p in (plan, make_folds(3, Y, random_state=6)))
    assert not one.equals(two)
    pd.testing.assert_frame_equal(model(time=None).fit(X, Y, plan=plan).predict_scores(X), one, check_exact=True)


def test_task_weights_enter_the_score() -> None:
    fitted = model(aggregates=None, task_weights={"view": 3.0}).fit(X, Y)
    plain = clone(fitted).set_params(task_weights=None).fit(X, Y)
    alone = clone(fitted).set_params(task_weights={"view": 1, "cart": 0, "buy": 0, "spend": 0}).fit(X, Y)
    assert fitted.score(X, Y) == pytest.approx((4 * plain.score(X, Y) + 2 * alone.score(X, Y)) / 6)


def test_conflicts_are_settled_for_history_and_structure_alike() -> None:
    odd = Y.copy()
    odd.loc[(odd["view"] == 0) & (odd.index % 5 == 0), "cart"] = 1.0
    for options in ({"time": None, "cv": 3}, {}):
        with pytest.raises(LabelError, match="'cart' non-zero although 'view'"):
            model(**options).fit(X, odd)
        for way in ("lift", "drop"):
            fitted = model(on_conflict=way, **options).fit(X, odd)
            assert np.isfinite(fitted.score(X, odd))
            if not options:
                log = first_step(fitted.observe(X.assign(time=X["time"] + pd.Timedelta("90D")), odd)).log_
                dropped = (way == "drop") * ((odd["view"] == 0) & (odd["cart"] == 1)).sum()
                assert (~np.isnan(log.column("__label__cart"))).sum() == 2 * (len(X) - dropped)


@pytest.mark.parametrize(
    ("options", "given", "error", "says"),
    [
        ({"preset": "slow"}, {}, ValueError, "preset must be one of fast, best, got 'slow'"),
        ({"structure": "chain"}, {}, ValueError, "structure must be auto, parallel, serial, hierarchical.*got 'chain'"),
        ({"structure": PerTaskModel}, {}, TypeError, "structure must be a name or an unfitted estimator"),
        ({"structure": LogisticRegression()}, {}, TypeError, "structure must be a multi-task estimator.*learner="),
        ({"time_budget": -1.0}, {}, ValueError, "time_budget must be a number of seconds.*got -1.0"),
        ({"time_budget": "10s"}, {}, TypeError, "time_budget must be a number of seconds.*got '10s'"),
        ({"ensemble": "stacking"}, {}, ValueError, 'ensemble must be "auto" or None'),
        ({"latent": "fm"}, {}, ValueError, 'latent must be "auto", None or a transformer'),
        ({"latent": PerTaskModel()}, {}, TypeError, "latent must be a transformer, got PerTaskModel.*LatentFeatures"),
        ({"latent": False}, {}, TypeError, 'latent must be "auto", None or a transformer, got False'),
        ({"aggregates": 5}, {}, TypeError, "aggregates must be .*None, a list of Aggregate objects .*, got 5"),
        ({"aggregates": PerTaskModel()}, {}, TypeError, "aggregates must be a transformer, got PerTaskModel"),
        ({"aggregates": "none"}, {}, ValueError, 'aggregates must be "auto", None, a list of Aggregate'),
        ({"task_weights": {"x": 1}}, {}, TaskError, "unknown tasks: x; the tasks are view, cart"),
        ({"user": "client"}, {}, RoleError, "user column 'client' is needed, .* the columns are user, item"),
        (
            {"time": None},
            {"events": X},
            TypeError,
            r"events must be an EventLog, got DataFrame; wrap the frame",
        ),
        ({"learner": "catboost"}, {}, ValueError, "learner='catboost' is unknown"),
    ],
)
def test_choices_that_are_refused(options: dict, given: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        model(**options).fit(X, Y, **given)


def test_a_log_needs_the_time_of_the_rows() -> None:
    with pytest.raises(RoleError, match="no time column of the rows; name it with time="):
        model(time=None).fit(X.rename(columns={"time": "shown"}), Y, events=LOG)


# -- time ---------------------------------------------------------------------------------------------------------


def test_rows_need_no_order_but_a_time() -> None:
    order = np.random.default_rng(0).permutation(len(X))
    wanted = model().fit(X, Y, events=LOG).predict_scores(X)
    pd.testing.assert_frame_equal(model().fit(X, Y, events=LOG).predict_scores(X.iloc[order]), wanted.iloc[order])
    shuffled = model().fit(X.iloc[order], Y.iloc[order], events=LOG).predict_scores(X)
    assert np.corrcoef(shuffled["buy"], wanted["buy"])[0, 1] > 0.8  # bins see the rows in another order, not other rows
    gaps = X.assign(time=X["time"].mask(X.index < 3))
    for given in ({}, {"events": LOG}):
        with pytest.raises(ValueError, match="3 of 1500 values of 'time' are missing"):
            model().fit(gaps, Y, **given)


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_events_after_a_row_say_nothing_about_it(preset: str) -> None:
    """The log may go on after the last row, or lie about the future: no score of the earlier rows changes."""
    early = X["time"] < X["time"].quantile(0.6)
    known = LOG.before(X["time"][early].max())
    fabricated = LOG.to_frame()
    future = fabricated["time"] > X["time"][early].max()
    fabricated.loc[future, "user"] = fabricated.loc[future, "user"].to_numpy()[::-1]
    lying = EventLog(fabricated, user="user", item="item", time="time", event="event", value="value")
    fits = [model(preset=preset, cv=2).fit(X[early], Y[early], events=log) for log in (known, LOG, lying)]
    scores = [fitted.predict_scores(X[early]) for fitted in fits]
    pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    pd.testing.assert_frame_equal(scores[0], scores[2], check_exact=True)


def test_labels_of_later_rows_say_nothing_about_earlier_ones() -> None:
    late = X["time"] > X["time"].quantile(0.7)
    changed = Y.copy()
    changed.loc[late] = Y[late].to_numpy()[::-1]
    features = [model().fit(X, labels).pipeline_[:-1].transform(X) for labels in (Y, changed)]
    pd.testing.assert_frame_equal(features[0][~late], features[1][~late], check_exact=True)


def test_observing_moves_history_on_and_refits_nothing() -> None:
    cut = X["time"].quantile(0.6)
    early, late = X["time"] < cut, X["time"] >= cut
    fitted = model().fit(X[early], Y[early], events=LOG.before(cut))
    trees = fitted.pipeline_[-1].fits_["view", "conditional"].booster.model_to_string()
    stale = fitted.predict_scores(X[late])
    today = LOG.to_frame()[LOG.to_frame()["time"] >= cut]
    assert fitted.observe(today) is fitted
    assert fitted.pipeline_[-1].fits_["view", "conditional"].booster.model_to_string() == trees
    assert not fitted.predict_scores(X[late]).equals(stale)
    whole = model().fit(X[early], Y[early], events=LOG)
    pd.testing.assert_frame_equal(fitted.predict_scores(X[late]), whole.predict_scores(X[late]))


@pytest.mark.parametrize("latent", [
    MatrixFactorization(n_factors=4, random_state=0), Segments(n_segments=3, random_state=0),
    LatentFeatures([("als", MatrixFactorization(n_factors=4, random_state=0))], output="both", cv=2),
])  # fmt: skip
def test_factors_know_the_whole_log_as_their_history_does(latent: Any) -> None:
    early = X["time"] < X["time"].quantile(0.6)
    last = X.loc[early, "time"].max()
    fits = [model(latent=latent).fit(X[early], Y[early], events=log) for log in (LOG.before(last), LOG)]
    told = LOG.to_frame()[LOG.to_frame()["time"] >= last]
    scores = [fit.predict_scores(X) for fit in (fits[0].observe(told), fits[1])]
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    assert [fit.pipeline_["latent"].as_of_ for fit in fits] == [LOG.last_time] * 2


def test_factors_that_have_no_past_do_not_tell_fitted_rows_of_later_events() -> None:
    early = X["time"] < X["time"].quantile(0.6)
    latent = MatrixFactorization("bpr", n_factors=4, random_state=0)
    fitted = model(latent=latent).fit(X[early], Y[early], events=LOG)
    assert fitted.pipeline_["latent"].as_of_ < X.loc[early, "time"].max()


def test_where_the_rows_are_the_log_labels_move_history_on() -> None:
    cut = X["time"].quantile(0.6)
    early, late = X["time"] < cut, X["time"] >= cut
    fitted = model().fit(X[early], Y[early])
    serving, stale = fitted.compile_for_serving(), fitted.predict_scores(X[late])
    with pytest.raises(ValueError, match=r"made of the rows that it was fitted on.*observe\(X, y\)"):
        fitted.observe(X[late])
    moved = fitted.observe(X[late], Y[late]).predict_scores(X[late])
    assert not moved.equals(stale)
    last = X[late].iloc[-1]
    assert serving.observe(X[late], Y[late]).predict_scores(last) == pytest.approx(moved.iloc[-1].to_dict(), rel=1e-12)
    with pytest.raises(ValueError, match="told of events alone"):
        model().fit(X[early], Y[early], events=LOG.before(cut)).observe(LOG.to_frame()[-5:], Y[-5:])


# -- delayed labels -----------------------------------------------------------------------------------------------

LATE = make_funnel(1_500, n_users=100, n_items=40, n_days=40, delay="7D", random_state=0)
END = LATE.X["time"].max()


def test_immature_labels_are_masked() -> None:
    known = LATE.events.before(END)
    fitted = model(LATE.tasks).fit(LATE.X, LATE.Y, events=known)
    immature = LATE.X["time"] + pd.Timedelta("7D") > known.last_time
    assert fitted.n_immature_ == {"buy": immature.sum(), "spend": immature.sum()}
    by_hand = LATE.Y.copy()
    by_hand.loc[immature, ["buy", "spend"]] = np.nan
    other = model(LATE.tasks).fit(LATE.X, by_hand, events=known)
    assert other.n_immature_ == {"buy": 0, "spend": 0}
    pd.testing.assert_frame_equal(fitted.predict_scores(LATE.X), other.predict_scores(LATE.X), check_exact=True)
    later = model(LATE.tasks).fit(LATE.X, LATE.Y, events=LATE.events)
    assert later.n_immature_["buy"] == (LATE.X["time"] + pd.Timedelta("7D") > LATE.events.last_time).sum()


def test_without_a_log_labels_mature_until_the_last_row() -> None:
    fitted = model(LATE.tasks).fit(LATE.X, LATE.Y)
    assert fitted.n_immature_["buy"] == (LATE.X["time"] + pd.Timedelta("7D") > END).sum()


def test_labels_known_on_a_day_are_the_mature_ones() -> None:
    """What a nightly job would label from its log is what masking leaves of the labels that are known today."""
    cut = LATE.X["time"].quantile(0.8)
    rows = LATE.X["time"] < cut
    known = LATE.events.before(cut)
    nightly = label_from_events(LATE.X[rows], known, LATE.tasks, LATE.horizon)
    mature = LATE.X["time"][rows] + pd.Timedelta("7D") <= known.last_time
    pd.testing.assert_series_equal(
        nightly["buy"][nightly["buy"].notna()], LATE.Y["buy"][rows][nightly["buy"].notna()], check_dtype=False
    )
    assert not nightly["buy"][~mature].notna().any()


def test_a_class_seen_only_in_immature_labels_is_no_class() -> None:
    tasks = [Task("kind", "multiclass", delay="7D"), Task("view", "binary")]
    late = LATE.X["time"] + pd.Timedelta("7D") > END
    kind = np.where(late, "new", np.where(LATE.Y["view"] == 1, "a", "b"))
    fitted = model(tasks).fit(LATE.X, LATE.Y[["view"]].assign(kind=kind))
    assert fitted.classes_map_["kind"].tolist() == ["a", "b"]
    assert list(fitted.predict_scores(LATE.X)) == ["kind=a", "kind=b", "view"]


def test_nothing_mature_is_refused() -> None:
    first_week = LATE.X["time"] < LATE.X["time"].min() + pd.Timedelta("3D")
    with pytest.raises(LabelError, match="No label of 'buy' is mature.*give a log that reaches further"):
        model(LATE.tasks).fit(LATE.X[first_week], LATE.Y[first_week])


def test_folds_keep_the_delay_as_a_gap() -> None:
    fitted = model(LATE.tasks, preset="best", cv=4).fit(LATE.X, LATE.Y, events=LATE.events)
    assert np.isfinite(fitted.predict_scores(LATE.X).to_numpy()).all()
    far = [Task("view", "binary", delay="39D")]
    with pytest.raises(FoldError, match="The gap .* leaves no training rows"):
        model(far, preset="best").fit(LATE.X, LATE.Y, events=LATE.events)


@pytest.mark.parametrize("latent", [None, LatentFeatures([("mf", MatrixFactorization(random_state=0))])])
def test_offline_evaluation_agrees_with_a_replay_day_by_day(latent: LatentFeatures | None) -> None:
    """AUC of rows scored at once, with a log that is complete, and of rows scored daily with the log of the day."""
    shop = make_funnel(10_000, n_users=400, n_items=100, n_days=60, delay="7D", random_state=1)
    cut = (shop.X["time"].min() + pd.Timedelta("45D")).normalize()
    rows = shop.X["time"] < cut
    fitted = model(shop.tasks, learner="lightgbm", latent=latent)
    fitted.fit(shop.X[rows], shop.Y[rows], events=shop.events.before(cut))
    log, test = shop.events.to_frame(), shop.X[~rows]
    replay = pickle.loads(pickle.dumps(fitted))
    daily = []
    for day, today in test.groupby(test["time"].dt.normalize()):
        daily.append(replay.predict_scores(today))
        replay.observe(log[(log["time"] >= day) & (log["time"] < day + pd.Timedelta("1D"))])
    scores = pd.concat(daily).loc[test.index]
    offline = fitted.observe(log[log["time"] >= cut]).predict_scores(test)
    for task in ("view", "cart", "buy"):
        label = shop.Y.loc[test.index, task]
        aucs = [roc_auc_score(label, s[task]) for s in (offline, scores)]
        assert aucs[0] > 0.6
        assert aucs[0] == pytest.approx(aucs[1], abs=0.01)


def test_rows_of_no_weight_teach_the_statistics_of_labels_nothing() -> None:
    rng = np.random.default_rng(0)
    trusted = np.arange(1000) < 500
    X = pd.DataFrame({"user": rng.integers(0, 50, 1000), "item": rng.integers(0, 10, 1000)})
    buy = X["item"] % 2
    Y = pd.DataFrame({"spend": 3.0 * buy, "buy": buy})
    tasks = {"spend": "regression", "buy": "binary"}
    model = MultiTaskModel(tasks, user="user", item="item", random_state=0)
    wrong = pd.DataFrame({name: np.where(trusted, y, y.max() - y) for name, y in Y.items()})
    weight = pd.DataFrame({"buy": trusted.astype(float), "spend": 1.0 + 0 * buy})
    fitted = clone(model).fit(X, wrong, sample_weight=weight)
    columns = fitted.pipeline_["statistics"].transform(X)
    assert (columns["item__buy__mean"] > 0.5).tolist() == (buy == 1).tolist()
    assert columns["item__spend__mean"].between(1, 2).all()  # all its rows count, right and wrong
