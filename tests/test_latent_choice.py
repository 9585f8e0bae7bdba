"""Folds of the front door's latent features: in time where rows have one."""

import gc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone

from mtl_classic import EventLog, LightGBMLearner, MultiTaskModel, Task, make_folds, make_funnel
from mtl_classic._core.targets import Targets, encode_targets
from mtl_classic.model._latent_choice import (
    LatentChoice,
    LatentTrial,
    _compared,
    _stacked_losses,
    choose_latent,
    compared_losses,
    latent_help,
)
from mtl_classic.model._latent_proposal import latent_folds, propose_latent

TASKS = [Task("buy", "binary")]


def shop(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"user": rng.integers(0, 40, n), "item": rng.integers(0, 30, n), "day": np.repeat(np.arange(n // 100), 100)}
    )
    taste = X["user"] % 2 == 0
    return X, pd.DataFrame({"buy": (rng.random(n) < np.where(taste, 0.8, 0.2)).astype(float)})


def test_folds_follow_time_where_there_is_one() -> None:
    X, Y = shop(4000)
    plan = latent_folds(Y, TASKS, time=X["day"])
    assert plan.temporal
    for train, test in plan.splits:
        assert X["day"].iloc[train].max() < X["day"].iloc[test].min()
    gap = latent_folds(Y, [Task("buy", "binary", delay=3)], time=X["day"])
    for train, test in gap.splits:
        assert X["day"].iloc[train].max() < X["day"].iloc[test].min() - 2
    assert not latent_folds(Y, TASKS, seed=1).temporal
    constant = latent_folds(Y, TASKS, time=pd.Series(np.zeros(len(Y))), seed=1)  # nothing to cut by
    np.testing.assert_array_equal(constant.fold, latent_folds(Y, TASKS, seed=1).fold)
    queries = np.arange(len(Y)) // 10
    fold = latent_folds(Y, TASKS, groups=queries, seed=1).fold
    assert (fold.reshape(-1, 10) == fold[::10, None]).all()


def test_no_later_label_enters_a_column() -> None:
    X, Y = shop(4000)
    latent = propose_latent(X, TASKS, {"user": "user", "item": "item", "time": "day"}, 0)
    assert latent is not None
    plan = latent_folds(Y, TASKS, time=X["day"])
    later = np.flatnonzero(X["day"] >= X["day"].iloc[plan.splits[-1][1]].min())
    changed = Y.copy()
    changed.iloc[later] = 1 - changed.iloc[later]
    columns, others = (clone(latent).fit_transform(X, labels, plan=plan)["fm_buy__score"] for labels in (Y, changed))
    np.testing.assert_array_equal(columns, others)  # NaN in the first block, the same everywhere else
    assert columns[:900].isna().all()
    assert columns[1000:].notna().all()
    assert columns[Y["buy"] == 1].mean() > columns[Y["buy"] == 0].mean() + 0.5


def test_the_first_block_has_no_scores_and_the_model_says_what_it_chose() -> None:
    X, Y = shop(4000)
    model = MultiTaskModel(TASKS, user="user", item="item", time="day", aggregates=None, random_state=0).fit(X, Y)
    assert "latent features" in model.latent_choice_
    assert np.isfinite(model.predict_scores(X)).all(axis=None)


@pytest.mark.parametrize(("weight", "is_of_note"), [(0.08, False), (0.3, True)])
def test_a_gain_that_is_sure_but_tiny_is_not_worth_trees(weight: float, is_of_note: bool) -> None:
    rng = np.random.default_rng(0)
    known, latent = rng.normal(size=(2, 60_000))
    y = (rng.random(60_000) < expit(known + weight * latent)).astype(float)
    fold = np.arange(len(y)) % 2
    base, own = (_stacked_losses("binary", columns, y, fold) for columns in (known[:, None], np.c_[known, latent]))
    assert _compared({"buy": own}, {"buy": base}, None, None).loc["buy", "verdict"] == "better"
    labels = encode_targets(pd.DataFrame({"buy": y}), TASKS)
    assert bool(latent_help({"buy": expit(known)}, pd.DataFrame({"score": latent}), labels, None)) == is_of_note


def test_soft_labels_have_a_say() -> None:
    rng = np.random.default_rng(0)
    known, latent, weight = rng.normal(size=4000), rng.normal(size=4000), rng.random(4000)
    tasks = [Task("share", "binary", loss="kl")]
    labels = encode_targets(pd.DataFrame({"share": expit(known + latent)}), tasks)
    for weights in (None, pd.DataFrame({"share": weight})):
        for told, helps in ((latent, True), (rng.normal(size=4000), False)):
            found = latent_help({"share": expit(known)}, pd.DataFrame({"score": told}), labels, None, weights)
            assert bool(found) == helps
    X, Y = shop(2500)
    model = MultiTaskModel([*TASKS, *tasks], user="user", item="item", learner=LightGBMLearner(max_iter=5))
    model.set_params(aggregates=None, random_state=0).fit(X, Y.assign(share=0.2 + 0.5 * Y["buy"]))
    assert "help" in model.latent_choice_


def test_weights_are_told_with_metadata_routing_too() -> None:
    X, Y = shop(2500)
    model = MultiTaskModel(TASKS, user="user", item="item", learner=LightGBMLearner(max_iter=5), random_state=0)
    chosen = []
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            chosen.append(model.fit(X, Y, sample_weight=1.0 + X["item"] / 30).latent_choice_)
    assert "than its own score" in chosen[0]
    assert chosen[0] == chosen[1]


def test_children_labelled_in_a_share_are_judged_as_they_are_learnt() -> None:
    """What is gained on the zeros that views tell is less, by their weight, than what is lost on labelled rows."""
    rng = np.random.default_rng(0)
    view = (rng.random(4000) < 0.5) * 1.0
    buy = np.where(view == 0, 0.0, np.where(rng.random(4000) < 0.1, rng.random(4000) < 0.5, np.nan))
    funnel = [Task("view", "binary"), Task("buy", "binary", given="view")]
    labels = encode_targets(pd.DataFrame({"view": view, "buy": buy}), funnel)
    plain = {"view": np.full(4000, 0.5), "buy": np.where(view == 0, 0.04, 0.5)}
    other = plain | {"buy": np.where(view == 0, 0.01, 0.3)}
    better, worse = compared_losses(labels, other, plain, None)
    assert (list(better), list(worse)) == ([], ["buy"])
    counted = pd.DataFrame({"view": 1.0, "buy": np.where(view == 0, 1.0, 1e-6)})  # but for the zeros it is better
    better, worse = compared_losses(labels, other, plain, None, counted)
    assert (list(better), list(worse)) == (["buy"], [])


def test_the_pairs_of_a_log_are_factorized_too() -> None:
    shop = make_funnel(4000, random_state=0)
    assert propose_latent(shop.X, shop.tasks, shop.roles | {"time": None}, 0, shop.events).models[-1][0] != "mf"
    late = EventLog(shop.events.to_frame().assign(time=shop.X[shop.roles["time"]].max()), **shop.events.roles)
    assert propose_latent(shop.X, shop.tasks, shop.roles, 0, late).models[-1][0] != "mf"
    latent = propose_latent(shop.X, shop.tasks, shop.roles, 0, shop.events, n_jobs=2)
    assert [name for name, _ in latent.models] == ["fm_view", "mf"]
    assert latent.n_jobs == latent.get_params()["mf__n_jobs"] == 2
    plan = latent_folds(shop.Y, shop.tasks, time=shop.X[shop.roles["time"]])
    frame = shop.events.to_frame()
    half = frame[shop.events.roles["time"]].sort_values().iloc[len(frame) // 2]
    early = shop.X[shop.roles["time"]] < half
    log = shop.events.before(half)
    columns = [clone(latent).fit_transform(shop.X, shop.Y, events=e, plan=plan) for e in (shop.events, log)]
    np.testing.assert_array_equal(*(c.loc[early, "mf__score"] for c in columns))  # later events are not seen
    assert not columns[0]["mf__score"].equals(columns[1]["mf__score"])


@pytest.mark.parametrize("helps", [False, True])
def test_a_model_keeps_factors_of_labels_and_log_if_they_help(helps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl_classic.model._features.choose_latent", lambda *_, **__: LatentChoice(helps, "as told"))
    shop = make_funnel(2500, random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=None, random_state=0)
    model.fit(shop.X, shop.Y, events=shop.events)
    assert model.latent_choice_ == "as told"
    latent = model.pipeline_.named_steps.get("latent")
    assert (latent is not None) == helps
    if latent is not None:
        assert {"fm_view__score", "mf__score"} <= set(latent.latent_features_)
        before = latent.as_of_
        tomorrow = shop.events.to_frame().tail(5).assign(time=shop.events.last_time + pd.Timedelta("1D"))
        assert model.observe(tomorrow).pipeline_["latent"].as_of_ > before
    assert np.isfinite(model.predict_scores(shop.X)).all(axis=None)


@pytest.mark.parametrize(("share", "tried"), [(0.4, True), (0.97, False)])
def test_labels_that_begin_late_and_rows_of_no_weight_teach_latent_features_nothing(share: float, tried: bool) -> None:
    X, Y = shop(4000)
    late = (X["day"] >= X["day"].quantile(share)).to_numpy()
    model = MultiTaskModel(TASKS, user="user", item="item", time="day", aggregates=None, random_state=0)
    models = [clone(model).fit(X, Y.where(late[:, None]))]
    if tried:
        weight = late.astype(float)
        models += [clone(model).fit(X, labels, sample_weight=weight) for labels in (Y, Y.where(late[:, None], 1 - Y))]
    for fitted in models:
        assert ("latent features help" in fitted.latent_choice_) == tried
        assert ("validation rows only" in fitted.latent_choice_) != tried
    scores = [fitted.predict_scores(X) for fitted in models]
    assert np.isfinite(scores[0]).all(axis=None)
    if tried:  # whatever the labels of no weight are
        pd.testing.assert_frame_equal(scores[1], scores[2])


def test_a_task_with_a_handful_of_validation_labels_has_no_say() -> None:
    rng = np.random.default_rng(0)
    known, latent = rng.normal(size=(2, 20_000))
    common = (rng.random(20_000) < expit(known + 0.3 * latent)).astype(float)
    rare = np.zeros(20_000)
    rare[:9] = 1
    tasks = [*TASKS, Task("rare", "binary")]
    labels = encode_targets(pd.DataFrame({"buy": common, "rare": rare}), tasks)
    good = {"buy": expit(known + 0.3 * latent), "rare": np.where(rare, 0.5, 1e-5)}
    poor = {"buy": expit(known), "rare": np.full(20_000, 0.5)}
    assert [list(told) for told in compared_losses(labels, good, poor, None)] == [["buy"], []]
    assert [list(told) for told in compared_losses(labels, good, poor | {"rare": good["rare"]}, None)] == [["buy"], []]
    assert compared_losses(labels, poor, good, None)[1].keys() == {"buy"}
    assert latent_help(poor, pd.DataFrame({"score": latent + 99 * rare}), labels, None).keys() == {"buy"}
    weights = pd.DataFrame({"buy": np.r_[np.ones(12), np.zeros(19_988)], "rare": np.ones(20_000)})
    assert not latent_help(poor, pd.DataFrame({"score": latent}), labels, None, weights)


@pytest.mark.parametrize(("delay", "in_time"), [(None, True), ("5D", True), (None, False)])
def test_columns_and_trees_of_a_trial_on_the_past_are_kept(
    delay: str | None, in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, told = [], []

    def counted(self: LightGBMLearner, binned: Any, request: Any) -> Any:
        fits.append(request.task.name)
        return fit_task(self, binned, request)

    def recorded(*args: Any, **kwargs: Any) -> LatentChoice:
        told.extend([*args, choose_latent(*args, **kwargs)])
        return told[-1]

    fit_task = LightGBMLearner.fit_task
    monkeypatch.setattr(LightGBMLearner, "fit_task", counted)
    monkeypatch.setattr("mtl_classic.model._features.choose_latent", recorded)
    shop = make_funnel(6000, n_users=200, n_items=60, delay=delay, random_state=0)
    plan = None if in_time else make_folds(5, shop.Y, random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=None, random_state=0)
    model.fit(shop.X, shop.Y, events=shop.events, plan=plan)
    assert "latent features help" in model.latent_choice_
    _, _, trial, choice = told
    latent, table, labels, (train, valid) = trial.latent, trial.table, trial.labels, trial.split
    # without the columns, with them, and on all rows; in a random split they know of later rows, and are made anew
    assert fits == ["view", "cart", "buy", "spend"] * 3 if in_time else len(fits) == 16 and choice.table is None
    names = model.pipeline_["latent"].latent_features_
    full = clone(latent).fit(table, labels, events=shop.events).transform(table)[names]
    pd.testing.assert_frame_equal(model.pipeline_["latent"].transform(table)[names], full)
    if in_time:
        later = np.delete(np.arange(len(table)), train)
        assert (len(later) > len(valid)) == (delay is not None)  # rows between have columns, too
        past = clone(latent).fit(table.iloc[train], labels.iloc[train], events=shop.events).transform(table)[names]
        pd.testing.assert_frame_equal(choice.table[names].iloc[later], past.iloc[later])


def test_of_a_split_at_random_the_events_of_its_rows_are_not_asked() -> None:
    shop = make_funnel(6000, n_users=3000, n_items=60, strength=0.0, random_state=0)  # nobody wants one thing more
    plan = make_folds(5, shop.Y, random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=None, random_state=0)
    assert "help" not in model.fit(shop.X, shop.Y, events=shop.events, plan=plan).latent_choice_


def test_while_latent_columns_are_tried_labels_are_held_once_and_encoded_features_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At thirty tasks both were most of the memory of a fit, and nobody read them again."""
    held: list[tuple[int, int]] = []

    def look(trial: LatentTrial, staged: Any) -> bool:
        gc.collect()
        labels = [o for o in gc.get_objects() if isinstance(o, Targets) and len(o) == len(X)]
        held.append((len(labels), len(staged.bench.features)))
        return False

    X, Y = shop(3000)
    monkeypatch.setattr(LatentTrial, "seems_to_help", look)
    model = MultiTaskModel(TASKS, user="user", item="item", time="day", learner=LightGBMLearner(max_iter=3))
    model.fit(X, Y)
    assert held == [(1, 0)]


def test_the_query_of_a_task_is_on_no_side_of_a_machine() -> None:
    X, _ = shop(4000)
    X = X.assign(session=X["day"].map("s{}".format), device="phone")
    latent = propose_latent(X, [Task("buy", "binary", query="session")], {"user": "user", "item": "item"}, 0)
    assert latent is not None
    ((_, machine),) = latent.models
    assert {"session", "device"} & set(machine.exclude) == {"session"}
