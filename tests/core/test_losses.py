"""The proper losses against scikit-learn, whatever the order of the rows."""

import numpy as np
import pytest
from sklearn import metrics

from mtl_classic._core.losses import losses, ndcg_losses, prior_scores, task_loss

rng = np.random.default_rng(0)
Y, P = rng.integers(0, 2, 200).astype(float), rng.uniform(0.05, 0.95, 200)


def test_pointwise_losses_are_those_of_scikit_learn() -> None:
    counts, means = rng.poisson(2.0, 200).astype(float), rng.uniform(0.5, 4, 200)
    assert losses("binary", Y, P).mean() == pytest.approx(metrics.log_loss(Y, P))
    assert losses("regression", Y, P).mean() == pytest.approx(metrics.mean_squared_error(Y, P))
    assert losses("count", counts, means).mean() == pytest.approx(metrics.mean_poisson_deviance(counts, means))
    codes, chances = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), 200)
    assert losses("multiclass", codes.astype(float), chances).mean() == pytest.approx(metrics.log_loss(codes, chances))


def test_unlabelled_rows_and_classes_unseen_at_fit() -> None:
    assert np.isnan(losses("multiclass", np.array([np.nan]), np.array([[0.5, 0.5]]))[0])
    assert losses("multiclass", np.array([-1.0]), np.array([[0.5, 0.5]]))[0] > 10
    assert np.isnan(task_loss("binary", np.array([np.nan]), np.array([0.5])))
    with pytest.raises(ValueError, match="No pointwise loss for the kind 'ranking'"):
        losses("ranking", Y, P)


def test_ndcg_is_that_of_scikit_learn_in_any_order_of_the_rows() -> None:
    n_queries, size = 30, 8
    groups = rng.permutation(np.repeat(np.arange(n_queries), size))
    y = rng.integers(0, 4, len(groups)).astype(float)
    score = rng.integers(0, 5, len(groups)).astype(float)  # with ties
    loss, query = ndcg_losses(y, score, groups)
    for value, q in zip(loss, query, strict=True):
        own = groups == q
        assert 1 - value == pytest.approx(metrics.ndcg_score([np.exp2(y[own]) - 1], [score[own]]))
    assert len(loss) == n_queries
    assert task_loss("ranking", y, score, groups=groups) == pytest.approx(loss.mean())
    with pytest.raises(ValueError, match="needs groups"):
        task_loss("ranking", y, score)


def test_queries_without_anything_relevant_do_not_count() -> None:
    loss, query = ndcg_losses(np.array([0.0, 0, 1, 0, np.nan]), -np.arange(5.0), np.array([0, 0, 1, 1, 2]))
    assert query.tolist() == [1]
    assert len(ndcg_losses(np.array([]), np.array([]), np.array([], dtype=np.intp))[0]) == 0
    assert loss[0] == 0


def test_weights_are_averaged_in() -> None:
    weight = rng.uniform(0, 2, 200)
    assert task_loss("binary", Y, P, weight) == pytest.approx(metrics.log_loss(Y, P, sample_weight=weight))


def test_priors() -> None:
    assert prior_scores("binary", np.array([0, 1, np.nan, 1])) == pytest.approx(2 / 3)
    assert prior_scores("multiclass", np.array([0.0, 2, 2, -1]), 3).tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert prior_scores("ranking", np.array([3.0])) == 0
    weight = np.array([1.0, 3.0, 5.0, 0.0])
    assert prior_scores("regression", np.array([2.0, 6.0, np.nan, 9.0]), weight=weight) == pytest.approx(5.0)
    assert prior_scores("multiclass", np.array([0.0, 1, -1, 1]), 2, weight).tolist() == pytest.approx([0.25, 0.75])
    assert prior_scores("regression", np.array([2.0, 6.0]), weight=np.zeros(2)) == pytest.approx(4.0)
