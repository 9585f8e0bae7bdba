"""A structure in two stages is its fit, to the bit; and no part of the first has seen the validation rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mtl_classic import AveragingEnsemble, FunnelModel, LightGBMLearner, PerTaskModel, SharedTreesModel, Task
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._stages import stage

RNG = np.random.default_rng(0)
X = pd.DataFrame({"a": RNG.normal(size=1200), "b": RNG.choice(list("xyz"), 1200), "c": RNG.normal(size=1200)})
CLICK = (X["a"] + RNG.normal(size=1200) > 0).astype(float)
Y = pd.DataFrame({"click": CLICK, "buy": CLICK * (X["c"] + RNG.normal(size=1200) > 0)})
Y["spend"] = Y["buy"] * np.exp(X["a"])
TASKS = [Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy")]
SPLIT = np.arange(900), np.arange(900, 1200)
PLAN = FoldPlan((SPLIT,), len(X))
SMALL = LightGBMLearner(max_iter=20)
STRUCTURES = {
    "parallel": PerTaskModel(TASKS, learner=SMALL, random_state=3),
    "funnel": FunnelModel(TASKS, learner=SMALL, mode="average", random_state=3),
    "own routes": FunnelModel(TASKS, learner=SMALL, mode="auto", random_state=3),
    "linear": PerTaskModel(TASKS, learner="linear", random_state=3),
    "trees": SharedTreesModel(TASKS, max_iter=5, random_state=3),
}


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("name", STRUCTURES)
def test_both_stages_together_are_a_fit(name: str, refit: bool) -> None:
    structure = clone(STRUCTURES[name]).set_params(refit=refit)
    whole = clone(structure).fit(X, Y, plan=PLAN)
    final = stage(structure, X, Y, SPLIT).final()
    pd.testing.assert_frame_equal(final.predict_scores(X), whole.predict_scores(X), check_exact=True)
    pd.testing.assert_frame_equal(
        final.predict_scores(X, space="conditional"), whole.predict_scores(X, space="conditional"), check_exact=True
    )


@pytest.mark.parametrize("name", ["parallel", "funnel", "linear"])
def test_the_first_stage_sees_validation_labels_to_stop_by_only(name: str) -> None:
    model: Any = clone(STRUCTURES[name])
    other = Y.copy()
    other.iloc[900:] = Y.iloc[900:].to_numpy()[::-1]
    one, two = (stage(model, X, labels, SPLIT).held_out for labels in (Y, other))
    values = one.columns_.transform(X).values
    for key, fit in one.fits_.items():
        if name == "linear":
            np.testing.assert_array_equal(fit.model.coef_, two.fits_[key].model.coef_)
            continue
        common = min(fit.n_rounds, two.fits_[key].n_rounds)
        trees = [held.fits_[key].booster.predict(values, num_iteration=common, num_threads=1) for held in (one, two)]
        np.testing.assert_array_equal(*trees)


@pytest.mark.parametrize("name", ["parallel", "funnel"])
def test_a_sibling_differs_in_its_seed_alone(name: str) -> None:
    staged = stage(STRUCTURES[name], X, Y, SPLIT)
    first, sibling = staged.final(), staged.final(random_state=7)
    assert (first.random_state, sibling.random_state) == (3, 7)
    assert not first.predict_scores(X).equals(sibling.predict_scores(X))
    assert {k: fit.n_rounds for k, fit in sibling.fits_.items()} == {k: fit.n_rounds for k, fit in first.fits_.items()}


def test_any_other_estimator_is_fitted_on_the_training_rows_and_then_on_all() -> None:
    structure, weight = AveragingEnsemble([("a", STRUCTURES["linear"])]), np.where(X["a"] > 0, 1.0, 3.0)
    staged = stage(structure, X, Y.to_numpy(), (SPLIT[0][::-1], SPLIT[1]), sample_weight=weight)
    first = clone(structure).fit(X[:900], Y[:900], sample_weight=weight[:900])
    whole = clone(structure).fit(X, Y, sample_weight=weight)
    for own, expected in ((staged.held_out, first), (staged.final(), whole)):
        pd.testing.assert_frame_equal(own.predict_scores(X), expected.predict_scores(X), check_exact=True)
    assert 0 < staged.seconds < 60
    assert 0 < stage(STRUCTURES["linear"], X, Y, SPLIT).seconds < 60


def test_members_of_a_sibling_have_other_seeds_too() -> None:
    trees = LightGBMLearner(max_iter=2)
    structure = AveragingEnsemble([("a", PerTaskModel(TASKS, learner=trees, random_state=0))])
    staged = stage(structure, X, Y, SPLIT)
    finals = [staged.final(k) for k in (None, 7, 8)]
    assert [final.random_state for final in finals] == [None, 7, 8]
    assert len({final.get_params()["a__random_state"] for final in finals}) == 3


def test_structures_share_encoded_features() -> None:
    first = stage(STRUCTURES["parallel"], X, Y, SPLIT)
    second = stage(STRUCTURES["linear"], X, Y, SPLIT, like=first)
    assert second.held_out.columns_ is first.held_out.columns_
    apart = stage(STRUCTURES["linear"], X, Y, SPLIT)
    pd.testing.assert_frame_equal(second.final().predict_scores(X), apart.final().predict_scores(X), check_exact=True)


def test_weights_reach_both_stages() -> None:
    weight = np.where(X["a"] > 0, 1.0, 3.0)
    for name in ("parallel", "trees"):
        whole = clone(STRUCTURES[name]).fit(X, Y, sample_weight=weight, plan=PLAN)
        staged = stage(STRUCTURES[name], X, Y, SPLIT, sample_weight=weight)
        pd.testing.assert_frame_equal(staged.final().predict_scores(X), whole.predict_scores(X), check_exact=True)
