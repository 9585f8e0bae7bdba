"""The proper loss of each kind, the prior, and the score that both make."""

import numpy as np
import pytest

from mtl_classic import metrics as mc
from mtl_classic._core import losses as core

NAN = np.nan
KINDS = {
    "binary": (np.array([1, 0, NAN, 0.0]), np.array([0.8, 0.3, 0.5, 0.1])),
    "multiclass": (
        np.array([0, 2, NAN, 1.0]),
        np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [1, 0, 0], [0.3, 0.4, 0.3]]),
    ),
    "regression": (np.array([1, 5, NAN, 3.0]), np.array([1, 4, 2, 3.5])),
    "count": (np.array([1, 4, NAN, 0.0]), np.array([1, 3, 2, 0.2])),
}
MEANS = {"binary": mc.log_loss, "multiclass": mc.log_loss, "regression": mc.mse, "count": mc.poisson_deviance}


@pytest.mark.parametrize("kind", KINDS)
def test_the_task_loss_is_the_mean_of_the_losses(kind):
    y, scores = KINDS[kind]
    values = mc.losses(kind, y, scores)
    assert np.isnan(values).tolist() == np.isnan(y).tolist()
    weight = np.array([1.0, 2, 3, 4])
    expected = np.average(values[[0, 1, 3]], weights=weight[[0, 1, 3]])
    assert mc.task_loss(kind, y, scores, sample_weight=weight) == pytest.approx(expected, rel=1e-14)
    assert MEANS[kind](y, scores, sample_weight=weight) == pytest.approx(expected, rel=1e-14)
    assert core.task_loss(kind, y, scores, weight) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_normalized_score_is_zero_for_the_prior(kind):
    y, scores = KINDS[kind]
    prior = mc.prior_scores(kind, y, n_classes=3)
    constant = np.broadcast_to(prior, scores.shape)
    assert mc.normalized_score(kind, y, constant, prior) == 0
    assert 0 < mc.normalized_score(kind, y, scores, prior) < 1


def test_the_prior_of_a_ranking_is_chance():
    y, scores, groups = [1, 0, 0, 1], [2.0, 1, 2, 1], [0, 0, 1, 1]
    assert mc.normalized_score("ranking", y, scores, 0.0, groups=groups) == pytest.approx(0, abs=1e-12)
    assert mc.normalized_score("ranking", y, [2.0, 1, 1, 2], 0.0, groups=groups) == 1
    with pytest.raises(ValueError, match="need groups="):
        mc.normalized_score("ranking", y, scores, 0.0)


def test_a_perfect_prior_leaves_nothing_to_explain():
    assert mc.normalized_score("regression", [2.0, 2.0], [2.0, 2.0], 2.0) == 1
    assert mc.normalized_score("regression", [2.0, 2.0], [2.0, 3.0], 2.0) == -np.inf
    assert mc.normalized_score("binary", [1.0, 1.0], [1.0, 1.0], 1.0) == 1
    assert mc.normalized_score("count", [0.0, 0.0], [0.0, 0.0], 0.0) == 1
    assert np.isnan(mc.normalized_score("regression", [NAN], [2.0], 2.0))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="for a multiclass task"):
        mc.losses("multiclass", [0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="No pointwise loss"):
        mc.losses("ranking", [0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="margins"):
        mc.losses("binary", [0, 1], [-0.5, 0.5])
    for loss in (mc.poisson_deviance, lambda y, f: mc.losses("count", y, f)):
        with pytest.raises(ValueError, match=r"at least 0; 1 are negative, the least -2\. Are these logarithms"):
            loss([0, 1], [-2.0, 0.5])
