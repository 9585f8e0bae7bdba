"""BaggingEnsemble: what is drawn, out-of-bag scores, spreads."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.tree import DecisionTreeClassifier

from mtl_classic import (
    Aggregate,
    AveragingEnsemble,
    BaggingEnsemble,
    MultiTaskModel,
    PerTaskModel,
    RoleError,
    SklearnLearner,
    Task,
)
from mtl_classic.metrics import log_loss, roc_auc
from tests.ensemble.tables import FUNNEL, MIXED, funnel, members, mixed, trees


def bag(**settings: Any) -> BaggingEnsemble:
    member = PerTaskModel(MIXED, learner=trees(6), random_state=0)
    return BaggingEnsemble(member, n_estimators=8, random_state=0).set_params(**settings)


def test_out_of_bag_accuracy_agrees_with_scikit_learn() -> None:
    X, Y = mixed(1500, missing=0.0)
    numbers, y = X[list("abcd")].to_numpy(dtype=np.float32), Y["buy"].to_numpy().astype(int)
    tree = DecisionTreeClassifier(max_depth=6)
    member = PerTaskModel(learner=SklearnLearner(tree))
    ours = BaggingEnsemble(member, 40, max_samples=1.0, random_state=0).fit(numbers, y)
    peer = BaggingClassifier(tree, 40, oob_score=True, random_state=0).fit(numbers, y)
    seen = ours.oob_scores_["y0"].notna()
    accuracy = ((ours.oob_scores_["y0"] > 0.5) == y)[seen].mean()
    assert accuracy == pytest.approx(peer.oob_score_, abs=0.015)
    difference = ours.predict_proba(numbers)[:, 1] - peer.predict_proba(numbers)[:, 1]
    assert np.abs(difference).mean() < 0.05


def test_bags_lose_less_than_their_member_and_know_it() -> None:
    X, Y = mixed(3000, missing=0.0)
    train, test = slice(0, 2000), slice(2000, None)
    model = bag(n_estimators=12).fit(X[train], Y[train])
    single = PerTaskModel(MIXED, learner=trees(6), random_state=0).fit(X[train], Y[train])
    assert model.score(X[test], Y[test]) > single.score(X[test], Y[test])
    assert model.oob_score_ == pytest.approx(model.score(X[test], Y[test]), abs=0.05)
    assert model.oob_task_scores_.index.tolist() == [task.name for task in MIXED]


def test_means_and_spreads() -> None:
    X, Y = mixed()
    model = bag().fit(X, Y)
    mean, spread = model.predict_scores(X, return_std=True)
    pd.testing.assert_frame_equal(mean, model.predict_scores(X))
    each = [m.predict_scores(X) for m in model.estimators_]
    np.testing.assert_allclose(mean["spend"], np.mean([e["spend"] for e in each], axis=0))
    np.testing.assert_allclose(spread["spend"], np.std([e["spend"] for e in each], axis=0))
    labels, again = model.predict(X, return_std=True)
    pd.testing.assert_frame_equal(labels, model.predict(X))
    pd.testing.assert_frame_equal(again, spread)


def test_out_of_bag_scores_come_from_bags_that_did_not_draw_the_row() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 3)), rng.integers(0, 2, 20_000)
    model = BaggingEnsemble(PerTaskModel(learner=trees(5)), 4, random_state=0).fit(X, y)
    seen = model.oob_scores_["y0"].notna()
    assert 0.7 < seen.mean() < 0.95  # 1 − (1 − 1/e)^4 = .84
    assert abs(roc_auc(y[seen], model.oob_scores_["y0"][seen]) - 0.5) < 0.02
    assert roc_auc(y, model.predict_scores(X)["y0"]) > 0.53  # in the bag it is learnt by heart


def test_without_replacement_a_row_counts_once() -> None:
    X, Y = mixed(1000, missing=0.0)
    model = bag(n_estimators=4, bootstrap=False, max_samples=0.9).fit(X, Y)
    left_out = model.oob_scores_["spend"].notna()
    assert left_out.mean() == pytest.approx(1 - 0.9**4, abs=0.05)
    one = bag(n_estimators=1, bootstrap=False, max_samples=0.9).fit(X, Y)
    inside = one.oob_scores_["spend"].isna().to_numpy()
    assert inside.sum() == 900
    alone = clone(one.estimator).set_params(random_state=one.estimators_[0].random_state).fit(X[inside], Y[inside])
    pd.testing.assert_frame_equal(alone.predict_scores(X), one.predict_scores(X), check_exact=False, rtol=1e-12)


@pytest.mark.parametrize("resample", ["users", "time"])
def test_users_and_blocks_of_time_are_drawn_whole(resample: str) -> None:
    X, Y = mixed(1000, missing=0.0)
    X["who"], X["day"] = np.arange(1000) % 40, np.arange(1000) // 10
    member = PerTaskModel(MIXED, learner=trees(), user="who", time="day", random_state=0)
    model = BaggingEnsemble(member, 3, resample=resample, n_blocks=20, random_state=0).fit(X, Y)
    unit = X["who"] if resample == "users" else X["day"] // 5
    drawn_by_all = model.oob_scores_["spend"].isna()
    assert drawn_by_all.any()
    assert (drawn_by_all.groupby(unit).nunique() == 1).all()


def test_blocks_of_time_do_not_depend_on_the_order_of_the_rows() -> None:
    X, Y = mixed(400, missing=0.0)
    X["day"] = np.arange(400) // 10
    member = PerTaskModel(MIXED, learner=trees(), time="day", random_state=0)
    model = BaggingEnsemble(member, 2, resample="time", random_state=0)
    left_out = model.fit(X, Y).oob_scores_["spend"].notna()
    turned = clone(model).fit(X[::-1], Y[::-1]).oob_scores_["spend"].notna()
    pd.testing.assert_series_equal(turned[::-1], left_out)


def test_users_may_be_named_by_groups() -> None:
    X, Y = mixed(400, missing=0.0)
    X["who"] = np.arange(400) % 40
    model = bag(resample="users", groups="who", n_estimators=2).fit(X, Y)
    assert (model.oob_scores_["spend"].isna().groupby(X["who"]).nunique() == 1).all()


def test_rows_without_user_are_drawn_one_by_one() -> None:
    X, Y = mixed(400, missing=0.0)
    X["who"] = np.where(np.arange(400) < 200, np.nan, np.arange(400) % 20)
    model = bag(resample="users", groups="who", n_estimators=1).fit(X, Y)
    left_out = model.oob_scores_["spend"].notna()
    assert (left_out[200:].groupby(X["who"][200:]).nunique() == 1).all()
    assert 0.2 < left_out[:200].mean() < 0.6  # 1/e


def test_features_are_subsampled_but_roles_stay() -> None:
    X, Y = mixed(300)
    X.insert(2, "day", np.arange(300))
    member = PerTaskModel(MIXED, learner=trees(), time="day", random_state=0)
    model = BaggingEnsemble(member, 4, max_features=0.4, random_state=0).fit(X, Y)
    assert all(2 in columns and len(columns) == 3 for columns in model.features_)
    assert len({tuple(columns) for columns in model.features_}) > 1
    assert np.isfinite(model.predict_scores(X)).all(axis=None)
    flat = BaggingEnsemble(PerTaskModel(learner=trees()), 3, max_features=0.5, random_state=0)
    assert flat.fit(X[list("abcd")].to_numpy(), Y["spend"].to_numpy()).estimators_[0].n_features_in_ == 2


def test_zero_weight_rows_are_left_out_and_weights_count() -> None:
    X, Y = mixed(400, missing=0.0)
    weight = np.r_[np.ones(300), np.zeros(100)]
    spoilt = Y.assign(spend=np.r_[Y["spend"][:300], np.full(100, 1e6)])
    model = bag(n_estimators=3).fit(X, spoilt, sample_weight=weight)
    assert model.predict_scores(X)["spend"].max() < 100


def test_the_funnel_and_seeds_and_threads() -> None:
    X, Y = funnel()
    member = PerTaskModel(FUNNEL, learner=trees(), random_state=0)
    model = BaggingEnsemble(member, 4, random_state=3).fit(X, Y)
    scores = model.predict_scores(X)
    assert (scores["buy"] <= scores["click"]).all()
    pd.testing.assert_frame_equal(clone(model).set_params(n_jobs=2).fit(X, Y).predict_scores(X), scores)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)
    assert not clone(model).set_params(random_state=4).fit(X, Y).predict_scores(X).equals(scores)


def test_a_ranking_draws_whole_queries() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc"))
    X["query"] = np.arange(600) // 10
    Y = pd.DataFrame({"grade": (X["a"] + rng.normal(size=600) > 1).astype(int)})
    task = Task("grade", "ranking", query="query")
    model = BaggingEnsemble(PerTaskModel([task], random_state=0), 3, random_state=0).fit(X, Y)
    assert (model.oob_scores_["grade"].isna().groupby(X["query"]).nunique() == 1).all()
    mean, spread = model.predict_scores(X, return_std=True)
    assert roc_auc(Y["grade"], mean["grade"]) > 0.7
    each = [member.predict_scores(X)["grade"] for member in model.estimators_]
    alike = [(scores - scores.mean()) / scores.std(ddof=0) for scores in each]  # each has a scale of its own
    np.testing.assert_allclose(mean["grade"], np.mean(alike, axis=0), atol=1e-12)
    np.testing.assert_allclose(spread["grade"], np.std(alike, axis=0), atol=1e-12)


def test_finished_bags_are_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = mixed(300)
    first = bag(n_estimators=3, memory=str(tmp_path)).fit(X, Y)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("output.pkl")}
    assert len(files) == 3
    again = bag(n_estimators=3, memory=str(tmp_path)).fit(X, Y)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("output.pkl")} == files
    pd.testing.assert_frame_equal(again.predict_scores(X), first.predict_scores(X))
    bag(n_estimators=3, memory=str(tmp_path), estimator__n_jobs=1).fit(X, Y)  # threads change no result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("output.pkl")} == files
    monkeypatch.setattr("mtl_classic._core.versions.version", lambda _: "99.0")
    bag(n_estimators=3, memory=str(tmp_path)).fit(X, Y)  # another version of a library may
    assert len(list(tmp_path.rglob("output.pkl"))) == 6


def test_rare_labels_are_in_every_bag_or_refused() -> None:
    X, Y = mixed(200, missing=0.0)
    Y["buy"] = 0.0
    Y.loc[:2, "buy"] = 1.0
    model = bag(n_estimators=6).fit(X, Y)
    assert log_loss(Y["buy"], model.predict_scores(X)["buy"]) < 0.2
    Y.loc[1:, "buy"] = 0.0
    with pytest.raises(ValueError, match="too few to resample"):
        bag(max_samples=0.01).fit(X, Y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"resample": "columns"}, ValueError, "resample must be"),
        ({"n_estimators": 0}, ValueError, "n_estimators"),
        ({"max_features": 1.5}, ValueError, "max_features"),
        ({"max_samples": 0.0}, ValueError, "max_samples"),
        ({"max_samples": 100}, ValueError, "max_samples is a share"),
        ({"n_estimators": 3.0}, TypeError, "n_estimators must be an integer"),
        ({"bootstrap": False}, ValueError, "max_samples must be below 1.*bootstrap=False"),
        ({"resample": "users"}, RoleError, "groups"),
        ({"resample": "time"}, RoleError, "time column"),
        ({"estimator": DecisionTreeClassifier()}, TypeError, "multi-task estimator"),
    ],
)
def test_what_cannot_work_is_refused_first(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, Y = mixed(60)
    with pytest.raises(error, match=message):
        bag().set_params(**change).fit(X, Y)


def test_a_class_that_a_bag_has_not_drawn_has_no_probability_there() -> None:
    X, Y = mixed(200, missing=0.0)
    Y.loc[5, "reason"] = "dare"
    model = bag(n_estimators=3).fit(X, Y)
    seen = ["dare" in member.classes_map_["reason"] for member in model.estimators_]
    assert not all(seen)
    mean, spread = model.predict_scores(X, return_std=True)
    shares = mean.filter(like="reason=")
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    drawn = [m.predict_scores(X)["reason=dare"] for m, known in zip(model.estimators_, seen, strict=True) if known]
    np.testing.assert_allclose(shares["reason=dare"], sum(drawn) / 3 if drawn else 0.0)
    assert np.isfinite(spread).all(axis=None)


@pytest.mark.parametrize("kind", [list, np.array, pd.Index])
def test_columns_that_the_member_names_stay(kind: Any) -> None:
    X, Y = mixed(300)
    member = PerTaskModel(MIXED, learner=trees(), exclude=kind(["a"]), random_state=0)
    model = BaggingEnsemble(member, 3, max_features=0.2, random_state=0).fit(X, Y)
    assert all(0 in columns for columns in model.features_)


def test_columns_of_aggregates_stay() -> None:
    X, Y = mixed(200, missing=0.0)
    X["day"] = np.arange(200)
    member = MultiTaskModel({"spend": "regression"}, time="day", learner="linear", latent=None, random_state=0)
    member.set_params(aggregates=[Aggregate("shop", "mean", value="c", window=9)])
    model = BaggingEnsemble(member, 2, max_features=0.3, random_state=0).fit(X, Y[["spend"]])
    assert all({2, 4, 5} <= set(columns) and len(columns) == 4 for columns in model.features_)


@pytest.mark.parametrize("ensemble", [BaggingEnsemble(PerTaskModel(FUNNEL), 3), AveragingEnsemble(members(FUNNEL))])
def test_a_child_given_its_parent_is_their_ratio(ensemble: Any) -> None:
    X, Y = funnel(400)
    model = ensemble.fit(X, Y)
    entire, given = model.predict_scores(X), model.predict_scores(X, space="conditional")
    np.testing.assert_allclose(entire["click"] * given["buy"], entire["buy"], atol=1e-9)
    np.testing.assert_allclose(entire["buy"] * given["spend"], entire["spend"], atol=1e-9)
