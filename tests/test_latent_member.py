"""A member of ``preset="best"`` that reads latent features beside others that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import (
    CalibratedModel,
    FallbackWarning,
    MultiTaskModel,
    PerTaskModel,
    Task,
    load_model,
    make_folds,
    make_funnel,
    save_model,
)
from mtl_classic.model import _best
from mtl_classic.model._best import Budget
from mtl_classic.model._latent_choice import LatentTrial, _compared, _seem_better

pytestmark = pytest.mark.usefixtures("few_trees")
SHOP = make_funnel(2000, n_users=80, n_items=40, random_state=0)
X, Y, LOG = SHOP.X, SHOP.Y, SHOP.events


@pytest.fixture(autouse=True)
def _in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees with latent features are neither sure to be better nor worse."""
    monkeypatch.setattr("mtl_classic.model._latent_choice.latent_help", lambda *_, **__: {"view": "asked"})
    monkeypatch.setattr(LatentTrial, "compared", lambda *_, **__: ({}, {}))


def fit(**settings: Any) -> MultiTaskModel:
    settings = {"preset": "best", "aggregates": None, "cv": 3, "n_jobs": 1, "random_state": 0} | settings
    return MultiTaskModel(SHOP.tasks, **SHOP.roles, **settings).fit(X, Y, events=LOG)


def ensemble_of(fitted: MultiTaskModel) -> Any:
    last = fitted.pipeline_[-1]
    return last.estimator if isinstance(last, CalibratedModel) else last


def is_consistent(fitted: MultiTaskModel) -> bool:
    """Columns are made where a member reads them, and only there."""
    read = "lightgbm_latent" in ensemble_of(fitted).named_estimators_
    return read == ("latent" in fitted.pipeline_.named_steps) and np.isfinite(fitted.predict_scores(X)).all(axis=None)


def test_one_member_reads_them_and_the_others_do_not(tmp_path: Any) -> None:
    fitted = fit()
    assert "lightgbm_latent" in fitted.member_weights_.index
    assert "a member of the ensemble reads" in fitted.latent_choice_
    wide = fitted.pipeline_[:-1].transform(X)
    names = fitted.pipeline_["latent"].latent_features_
    other = wide.assign(**{name: wide[name].to_numpy()[::-1] for name in names})
    members = ensemble_of(fitted).named_estimators_
    assert len(members) == len(fitted.member_weights_)  # in the place of further seeds
    for name, member in members.items():
        same = member.predict_scores(wide).equals(member.predict_scores(other))
        assert same == (name != "lightgbm_latent")
        assert (set(names) <= set(member.exclude)) == same  # so fits of clones read what these do
    scores = fitted.predict_scores(X)
    pd.testing.assert_frame_equal(fit().predict_scores(X), scores, check_exact=True)
    row = fitted.compile_for_serving().predict_scores({**X.iloc[0]})
    np.testing.assert_allclose([row[name] for name in scores], scores.iloc[0], rtol=1e-9)
    save_model(fitted, tmp_path / "m.mtl", include_events=True)
    pd.testing.assert_frame_equal(load_model(tmp_path / "m.mtl").predict_scores(X), scores, check_exact=True)
    late = X.index[X["time"] >= X["time"].quantile(0.9)]
    with pytest.warns(FallbackWarning, match="SharedTreesModel cannot be refreshed"):
        moved = fitted.refresh(X.loc[late], Y.loc[late])
    assert {"lightgbm_latent", "latent/fm_view"} <= set(moved.refreshed_["member"])
    assert not moved.predict_scores(X).equals(scores)


def test_without_a_weight_nothing_of_them_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    without_small = _best._without_small
    monkeypatch.setattr(
        _best, "_without_small", lambda w: without_small(w.drop(index="lightgbm_latent", errors="ignore"))
    )
    fitted = fit()
    assert "latent" not in fitted.pipeline_.named_steps
    assert "no task better" in fitted.latent_choice_
    assert is_consistent(fitted)
    assert any("_seed1" in name for name in ensemble_of(fitted).named_estimators_)
    with pytest.warns(FallbackWarning, match="SharedTreesModel cannot be refreshed"):
        fitted.refresh(X[-500:], Y[-500:])


def test_no_time_for_a_second_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "allows", lambda *_: False)
    fitted = fit(time_budget=1)
    assert set(fitted.member_weights_.index) == {"lightgbm", "lightgbm_latent"}
    assert is_consistent(fitted)
    names, members = set(fitted.pipeline_["latent"].latent_features_), ensemble_of(fitted).named_estimators_
    assert [names <= set(members[name].exclude) for name in ("lightgbm", "lightgbm_latent")] == [True, False]


def test_no_time_for_latent_features_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(self: LatentTrial, *args: Any, **kwargs: Any) -> bool:
        helps = seems_to_help(self, *args, **kwargs)
        self.seconds = 1e9
        return helps

    seems_to_help = LatentTrial.seems_to_help
    monkeypatch.setattr(LatentTrial, "seems_to_help", asked)
    fitted = fit(time_budget=1e6)
    assert len(fitted.member_weights_) > 1
    assert is_consistent(fitted)


def test_splits_at_random_ask_for_all_members_at_once() -> None:
    plan = make_folds(3, Y, random_state=0)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, preset="best", aggregates=None, random_state=0)
    fitted = model.fit(X, Y, events=LOG, plan=plan)
    assert "lightgbm_latent" not in fitted.member_weights_.index
    assert "latent" not in fitted.pipeline_.named_steps


def test_a_task_may_seem_worse_without_being_so_beyond_the_noise() -> None:
    rng = np.random.default_rng(0)
    base, noise = rng.random(400), rng.normal(size=400)
    own = base + 0.1 * ((noise - noise.mean()) / noise.std() + 1.5 / np.sqrt(400))
    found = _compared({"buy": base}, {"buy": own}, None, None)
    assert found.loc["buy", "verdict"] == "same"
    assert list(_seem_better(found)) == ["buy"]


def test_maps_over_another_model_read_its_columns() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    labels = pd.DataFrame({"buy": (rng.random(400) < 0.5).astype(float)})
    model = PerTaskModel([Task("buy", "binary")], learner="linear", random_state=0)
    maps = CalibratedModel(model.fit(table[["a", "b"]], labels), cv="prefit").fit(table[["a", "b"]], labels)
    wide = maps.over(PerTaskModel([Task("buy", "binary")], learner="linear", random_state=0).fit(table, labels))
    assert list(wide.feature_names_in_) == ["a", "b", "c"]
    assert np.isfinite(wide.predict_scores(table)).all(axis=None)
    assert list(maps.feature_names_in_) == ["a", "b"]


@pytest.mark.parametrize("worse", [{}, {"buy": "seems so"}])
def test_all_members_read_what_seems_to_make_no_task_worse(
    worse: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LatentTrial, "compared", lambda *_, safely: ({"view": "better"}, worse if safely else {}))
    assert ("lightgbm_latent" in fit().member_weights_.index) == bool(worse)
    assert "latent" in fit(preset="fast").pipeline_.named_steps  # of one model: for all tasks or none
