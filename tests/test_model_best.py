"""The preset "best", and structures by name: what they are made of, and that they keep what every model promises."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.naive_bayes import GaussianNB

from mtl_classic import (
    AveragingEnsemble,
    FallbackWarning,
    FoldError,
    FunnelModel,
    LightGBMLearner,
    MultiTaskModel,
    PerTaskModel,
    SharedTreesModel,
    SklearnLearner,
    Task,
    TaskGraphModel,
    make_folds,
    make_funnel,
)
from mtl_classic.ensemble import CalibratedModel
from mtl_classic.model._architectures import Member
from mtl_classic.multitask._stages import stage
from tests.model_selection.test_progress import Recorder, check_pairs

pytestmark = pytest.mark.usefixtures("few_trees")
SHOP = make_funnel(800, n_users=60, n_items=30, n_days=20, random_state=0)
X, Y, LOG = SHOP.X, SHOP.Y, SHOP.events
SMALL = LightGBMLearner(max_iter=15)
FAMILIES = {"lightgbm", "xgboost", "linear", "extra_trees", "factors"}


def fit_best(**settings: Any) -> MultiTaskModel:
    settings = {"preset": "best", "latent": None, "cv": 2, "n_jobs": 1, "random_state": 0} | settings
    return MultiTaskModel(SHOP.tasks, **SHOP.roles, **settings).fit(X, Y, events=LOG)


@pytest.fixture(scope="module")
def best() -> MultiTaskModel:
    return fit_best()


def ensemble_of(fitted: MultiTaskModel) -> AveragingEnsemble:
    last = fitted.pipeline_[-1]
    return last.estimator if isinstance(last, CalibratedModel) else last


def test_best_weighs_families_per_task(best: MultiTaskModel) -> None:
    weights = best.member_weights_
    assert set(weights.index) <= FAMILIES
    assert list(weights.columns) == [task.name for task in SHOP.tasks]
    np.testing.assert_allclose(weights.sum(), 1.0)
    assert (weights.max(axis=1) >= 0.05).all()  # a member that hardly counts is not carried along
    inside = ensemble_of(best).weights_
    boosters = [name for name in inside.index if name.split("_seed")[0] == "lightgbm"]
    assert len(boosters) in (0, 2)
    by_family = inside.groupby([name.split("_seed")[0] for name in inside.index]).sum()
    pd.testing.assert_frame_equal(
        by_family.sort_index(), weights.sort_index(), check_names=False, check_column_type=False
    )


def test_best_keeps_the_funnel(best: MultiTaskModel) -> None:
    scores = best.predict_scores(X)
    assert np.isfinite(scores.to_numpy()).all()
    for parent, child in (("view", "cart"), ("cart", "buy")):
        assert (scores[child] <= scores[parent]).all()
    conditional = best.predict_scores(X, space="conditional")
    assert (conditional[["cart", "buy"]] >= scores[["cart", "buy"]]).all(axis=None)


def test_best_is_the_same_every_time(best: MultiTaskModel) -> None:
    pd.testing.assert_frame_equal(best.predict_scores(X), fit_best().predict_scores(X), check_exact=True)


def test_no_time_leaves_one_member_and_its_first_stage() -> None:
    hurried = fit_best(time_budget=0)
    assert list(hurried.member_weights_.index) == ["lightgbm"]
    assert list(ensemble_of(hurried).weights_.index) == ["lightgbm"]


def test_a_later_fast_fit_forgets_the_weights_of_members() -> None:
    fitted = fit_best(time_budget=0).set_params(preset="fast", learner=SMALL).fit(X, Y, events=LOG)
    assert not hasattr(fitted, "member_weights_")


def test_a_plan_without_folds_is_refused() -> None:
    few = MultiTaskModel({"y": "binary"}, preset="best", cv=np.zeros(8, dtype=int) - 1, learner=SMALL, random_state=0)
    with pytest.raises(ValueError, match="fold"):
        few.fit(np.arange(8.0)[:, None], np.arange(8) % 2)


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_a_plan_of_other_rows_is_refused(preset: str) -> None:
    model = MultiTaskModel(SHOP.tasks, preset=preset, latent=None, learner=SMALL, time_budget=0, random_state=0)
    with pytest.raises(FoldError, match="for 500 rows, but X has 800"):
        model.fit(X, Y, plan=make_folds(3, Y[:500], random_state=0))
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int"):
        model.fit(X, Y, plan=3)


def test_a_class_of_the_validation_rows_alone_leaves_out_who_cannot_know_it() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"user": rng.integers(0, 30, 400), "a": rng.normal(size=400)})
    labels = pd.DataFrame({"kind": rng.choice(list("xy"), 400)})
    fold = np.arange(400) % 2
    labels.loc[np.flatnonzero(fold == 1)[:20], "kind"] = "z"
    fitted = MultiTaskModel({"kind": "multiclass"}, user="user", preset="best", cv=fold, random_state=0)
    scores = fitted.fit(table, labels).predict_scores(table)
    assert list(scores.columns) == ["kind=x", "kind=y", "kind=z"]
    assert "factors" not in fitted.member_weights_.index


@pytest.mark.parametrize(
    ("name", "kind"), [("serial", TaskGraphModel), ("dynamic", TaskGraphModel), ("fusion", SharedTreesModel)]
)
def test_structures_by_name(name: str, kind: type) -> None:
    fitted = MultiTaskModel(
        SHOP.tasks, **SHOP.roles, structure=name, learner=SMALL, latent=None, cv=2, n_jobs=1, random_state=0
    ).fit(X, Y, events=LOG)
    structure = fitted.pipeline_[-1]
    assert type(structure) is kind
    assert fitted.fallbacks_ == structure.fallbacks_
    scores = fitted.predict_scores(X)
    assert np.isfinite(scores.to_numpy()).all()
    assert (scores["cart"] <= scores["view"]).all()
    if kind is TaskGraphModel:
        assert structure.get_params()["edges"] == name


def test_task_weights_by_name_reach_the_joint_loss() -> None:
    table = np.random.default_rng(0).normal(size=(60, 2))  # too few labels to stop by: a handful of rounds
    fitted = MultiTaskModel(structure="fusion", task_weights="uncertainty", n_jobs=1, random_state=0)
    assert fitted.fit(table, (table > 0) * 1.0).pipeline_[-1].task_weights == "uncertainty"


@pytest.mark.parametrize("structure", ["auto", "serial", "dynamic", "fusion"])
def test_kinds_of_all_sorts_under_every_structure(structure: str) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(size=600), "b": rng.choice(list("xyz"), 600), "q": np.arange(600) // 10})
    labels: Any = pd.DataFrame({"click": (table["a"] > 0) * 1.0, "visits": rng.poisson(np.exp(table["a"]))})
    labels["why"] = np.where(table["a"] > 1, "gift", np.where(table["b"] == "x", "need", "whim"))
    labels["spend"] = table["a"] + rng.normal(size=600)
    labels["rank"] = rng.integers(0, 3, 600)
    labels = labels.mask(rng.random(labels.shape) < 0.3)
    tasks = [
        Task("click", "binary"),
        Task("visits", "count"),
        Task("why", "multiclass"),
        Task("spend", "regression"),
        Task("rank", "ranking", query="q"),
    ]
    fitted = MultiTaskModel(tasks, structure=structure, learner=SMALL, cv=2, n_jobs=1, random_state=0).fit(
        table, labels
    )
    scores = fitted.predict_scores(table)
    assert scores.shape == (600, 7)
    assert np.isfinite(scores.to_numpy()).all()


def test_members_of_an_own_ensemble_learn_of_the_tasks() -> None:
    pair = AveragingEnsemble([("funnel", FunnelModel(learner=SMALL)), ("alone", PerTaskModel(learner=SMALL))])
    fitted = MultiTaskModel(SHOP.tasks, **SHOP.roles, structure=pair, latent=None, n_jobs=1, random_state=0)
    inside = fitted.fit(X, Y).pipeline_[-1]
    assert [task.given for task in inside.estimators_[0].tasks_] == [task.given for task in SHOP.tasks]
    assert inside.estimators_[1].roles_["user"] == SHOP.roles["user"]
    assert pair.estimators[0][1].tasks is None


def test_settings_of_a_named_learner_can_be_set_and_searched() -> None:
    named = MultiTaskModel(SHOP.tasks).set_params(learner__num_leaves=5)
    assert named.learner.num_leaves == 5
    assert "learner__num_leaves" in MultiTaskModel(SHOP.tasks).search_space()


def test_a_task_without_validation_labels_keeps_the_first_member() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400)})
    labels = pd.DataFrame({"seen": table["a"] + 0.1 * rng.normal(size=400), "unseen": table["b"]})
    fold = (np.arange(400) % 4 == 3).astype(int)
    labels.loc[fold == 1, "unseen"] = np.nan
    fitted = MultiTaskModel(preset="best", cv=fold, n_jobs=1, random_state=0).fit(table, labels)
    assert fitted.member_weights_["unseen"].idxmax() == "lightgbm"
    assert fitted.member_weights_["unseen"].max() == 1.0
    assert fitted.member_weights_.loc["linear", "seen"] > 0


def test_a_task_without_training_labels_is_not_judged_by_what_its_models_have_seen() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400)})
    labels = pd.DataFrame({"early": table["a"] + rng.normal(size=400), "late": rng.random(400) < 0.5}).astype(float)
    fold = (np.arange(400) % 2 == 1).astype(int)
    labels.loc[fold == 0, "late"] = np.nan
    with pytest.warns(FallbackWarning, match="extra_trees is left out"):
        fitted = MultiTaskModel(preset="best", cv=fold, n_jobs=1, random_state=0).fit(table, labels)
    assert fitted.member_weights_["late"].to_dict() == {"lightgbm": 1.0} | dict.fromkeys(
        fitted.member_weights_.index.drop("lightgbm"), 0.0
    )
    last = fitted.pipeline_[-1]
    assert not isinstance(last, CalibratedModel) or "late" not in last.maps_


def test_tasks_with_few_validation_labels_share_their_weights() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    labels = pd.DataFrame({f"rare{k}": table["a"] + rng.normal(size=400) > 2.5 for k in range(6)}).astype(float)
    labels["plenty"] = (table["b"] + rng.normal(size=400) > 0).astype(float)
    fitted = MultiTaskModel(preset="best", cv=np.arange(400) % 5, n_jobs=1, random_state=0).fit(table, labels)
    rare = fitted.member_weights_.filter(like="rare")
    np.testing.assert_allclose(rare.to_numpy(), np.repeat(rare.iloc[:, :1].to_numpy(), 6, axis=1))
    np.testing.assert_allclose(fitted.member_weights_.sum(), 1.0)


def test_a_family_that_fails_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("The fit diverged.")

    monkeypatch.setattr("mtl_classic.factorization.MultiTaskFactorizationMachine.fit", refuse)
    with pytest.warns(FallbackWarning, match="factors is left out of the ensemble: The fit diverged"):
        fitted = fit_best()
    assert "factors" not in fitted.member_weights_.index
    assert np.isfinite(fitted.predict_scores(X).to_numpy()).all()


@pytest.mark.parametrize("checks", range(2, 14))
def test_time_may_run_out_anywhere(checks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock allows, every task has a model."""
    left = iter([True] * checks)
    monkeypatch.setattr("mtl_classic.model._best.Budget.allows", lambda self, further: next(left, False))
    fitted = fit_best(learner="lightgbm", time_budget=1e9)
    assert np.isfinite(fitted.predict_scores(X).to_numpy()).all()
    np.testing.assert_allclose(ensemble_of(fitted).weights_.sum(), 1.0)


class Clock:
    """A clock that stands still but for what fits are said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Timed:
    """A stage that takes as long as it is said to."""

    stage: Any
    clock: Clock
    seconds: float

    @property
    def held_out(self) -> Any:
        return self.stage.held_out

    def final(self, random_state: int | None = None) -> Any:
        self.clock.now += 1.04 * self.seconds  # on all rows, but without an eye on the validation rows
        return self.stage.final(random_state)


PRIORS = {"lightgbm": 1.0, "xgboost": 2.0, "linear": 0.7, "extra_trees": 4.0, "factors": 0.5}
PARTS = pd.DataFrame(np.random.default_rng(0).normal(size=(400, 5)), columns=list(PRIORS))
SUMS = pd.DataFrame({name: PARTS.sum(axis=1) + np.random.default_rng(1).normal(size=400) for name in ("one", "two")})
COSTS = {"lightgbm": 10.0, "xgboost": 13.0, "linear": 2.0, "extra_trees": 45.0, "factors": 6.0}


def fit_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, budget: float | None, costs: dict[str, float]
) -> tuple[MultiTaskModel, float]:
    """The fitted model and the seconds it took, where families cost what is said, and on few rows as much less.

    Each family is blind to a column of its own, so that all are wanted.
    """
    clock = Clock()
    models = {name: PerTaskModel(learner="linear", exclude=[name], random_state=0) for name in PRIORS}
    members = [Member(name, model, PRIORS[name], 2 if "gb" in name else 1) for name, model in models.items()]
    seconds = {id(model): costs[name] for name, model in models.items()}

    def timed_stage(model: Any, table: Any, labels: Any, split: Any, **settings: Any) -> Timed:
        settings.pop("like", None)
        cost = seconds[id(model)] * len(labels) / len(PARTS)
        clock.now += cost
        return Timed(stage(model, table, labels, split, **settings), clock, cost)

    with monkeypatch.context() as patch:
        patch.setattr("mtl_classic.model._best.clock", clock)
        patch.setattr("mtl_classic.model._best.stage", timed_stage)
        patch.setattr("mtl_classic.model._multi_task_model.families", lambda *_: members)
        model = MultiTaskModel(preset="best", time_budget=budget, cv=4, latent=None, n_jobs=1, random_state=0)
        return model.fit(PARTS, SUMS), clock.now


@pytest.mark.parametrize("slow", ["", *sorted(FAMILIES - {"lightgbm"})])
@pytest.mark.parametrize("budget", [12, 22, 30, 50, 70, 90, 120, 160, 300])
def test_a_budget_is_kept_within_a_tenth(budget: float, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a family takes seven times what families of its sort do."""
    costs = COSTS | ({slow: 7 * COSTS[slow]} if slow else {})
    fitted, seconds = fit_by_the_clock(monkeypatch, budget, costs)
    assert seconds <= 1.1 * budget
    assert np.isfinite(fitted.predict_scores(PARTS).to_numpy()).all()


def test_a_budget_that_suffices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (given, used), (none, needed) = (fit_by_the_clock(monkeypatch, budget, COSTS) for budget in (5000, None))
    assert used == needed > sum(COSTS.values())
    assert len(none.member_weights_) > 3
    pd.testing.assert_frame_equal(given.predict_scores(PARTS), none.predict_scores(PARTS), check_exact=True)


def test_time_is_used_where_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = fit_by_the_clock(monkeypatch, None, COSTS)[1]
    for share in (0.3, 0.5, 0.7, 0.9, 1.1):
        used = fit_by_the_clock(monkeypatch, share * needed, COSTS)[1]
        assert used > 0.6 * min(share, 1.0) * needed


def fit_members(monkeypatch: pytest.MonkeyPatch, models: dict[str, PerTaskModel], *rows: Any, **params: Any) -> Any:
    members = [Member(name, model, 1.0, 1) for name, model in models.items()]
    with monkeypatch.context() as patch:
        patch.setattr("mtl_classic.model._multi_task_model.families", lambda *_: members)
        budget = params.pop("time_budget", None)
        model = MultiTaskModel(preset="best", time_budget=budget, cv=4, latent=None, n_jobs=1, random_state=0)
        return model.fit(*rows, **params)


def test_members_are_weighed_by_the_rows_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(800, 2)), columns=["a", "b"])
    heavy = rng.random(800) < 0.3
    y = pd.DataFrame({"y": np.where(heavy, table["a"], table["b"]) + 0.1 * rng.normal(size=800)})
    models = {name: PerTaskModel(learner="linear", exclude=[name], random_state=0) for name in "ab"}
    fitted = fit_members(monkeypatch, models, table, y, sample_weight=np.where(heavy, 50.0, 1.0))
    assert fitted.member_weights_.loc["b", "y"] > 0.9  # it reads a


@pytest.mark.parametrize("time_budget", [None, 0])
def test_what_is_too_sure_is_calibrated(time_budget: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    y = pd.DataFrame({"y": rng.random(2000) < 1 / (1 + np.exp(-x))})
    table = pd.DataFrame({f"x{k}": x for k in range(6)})  # the same six times over
    naive = {"naive": PerTaskModel(learner=SklearnLearner(GaussianNB()), random_state=0)}
    fitted = fit_members(monkeypatch, naive, table, y, time_budget=time_budget)
    assert isinstance(fitted.pipeline_[-1], CalibratedModel)
    apart = np.abs(fitted.predict_scores(table)["y"] - 1 / (1 + np.exp(-x))).mean()
    assert apart < 0.5 * np.abs(ensemble_of(fitted).predict_scores(table)["y"] - 1 / (1 + np.exp(-x))).mean()


def test_progress_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "told.txt")
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, preset="best", latent=None, cv=2, n_jobs=1, random_state=0)
    model.set_callbacks(recorder).fit(X, Y, events=LOG)
    check_pairs(recorder)
    assert recorder.count("end", " < members 0 < ") == len(FAMILIES)
    assert recorder.count("end", " < refit 1 < ") == len(ensemble_of(model).weights_)


def test_the_members_share_one_copy_of_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    benches: list[Any] = []

    def kept(structure: Any, *args: Any, **settings: Any) -> Any:
        staged = stage(structure, *args, **settings)
        benches.extend([staged.bench] if hasattr(staged, "bench") else [])
        return staged

    monkeypatch.setattr("mtl_classic.model._best.stage", kept)
    fit_best()
    whole = [bench for bench in benches if len(bench.targets) == len(X)]
    assert len(whole) > 2
    assert all(bench.targets is whole[0].targets for bench in whole)


def test_labels_of_some_rows_are_read_without_a_copy_of_the_table() -> None:
    """Of rows at random that copy was larger than all that is read of them."""
    noise = np.random.default_rng(0).normal(size=(len(X), 500))
    wide = X.join(pd.DataFrame(noise, index=X.index).add_prefix("x"))
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, random_state=0)
    training = model._training(wide, Y, None, None, make_folds(4, Y, random_state=0))
    rows = training.split()[0]
    tracemalloc.start()
    views = training.counted_views(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 500 * len(rows) / 2
    assert list(views) == [task.name for task in SHOP.tasks]
