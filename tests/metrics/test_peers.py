"""The same number as scikit-learn, with ties, weights and unlabelled rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mtl_classic import metrics as mc

EXACT = {"rel": 1e-12, "abs": 1e-12}


@st.composite
def rows(draw, kind="binary"):
    """Labels with NaN, coarse scores (hence ties) and weights with zeros; and what is left when NaN and zeros leave."""
    n = draw(st.integers(4, 40))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    steps = draw(st.sampled_from([2, 5, 1000]))
    scores = (random.integers(0, steps, n) + 0.5) / steps
    y = {"binary": random.integers(0, 2, n), "count": random.poisson(1.0, n), "regression": random.normal(size=n)}[kind]
    y = np.where(random.random(n) < 0.2, np.nan, y.astype(float))
    weight = np.where(random.random(n) < 0.2, 0.0, random.integers(1, 4, n) * random.choice([1.0, 0.37], n))
    known = ~np.isnan(y) & (weight > 0)
    assume(known.sum() >= 2)
    return (y, scores, weight), (y[known], scores[known], weight[known])


def agree(ours, theirs, given_rows):
    (y, s, w), (ky, ks, kw) = given_rows
    assert ours(y, s, sample_weight=w) == pytest.approx(theirs(ky, ks, sample_weight=kw), **EXACT)
    all_known = ~np.isnan(y)
    assert ours(y, s) == pytest.approx(theirs(y[all_known], s[all_known]), **EXACT)


def two_classes(given_rows):
    return len(set(given_rows[1][0])) == 2


@given(rows())
def test_roc_auc(r):
    assume(two_classes(r))
    agree(mc.roc_auc, sk.roc_auc_score, r)


@given(rows())
def test_average_precision(r):
    assume(two_classes(r))
    agree(mc.average_precision, sk.average_precision_score, r)


@given(rows())
def test_precision_recall_curve(r):
    assume(two_classes(r))
    (y, s, w), (ky, ks, kw) = r
    for ours, theirs in zip(
        mc.precision_recall_curve(y, s, sample_weight=w),
        sk.precision_recall_curve(ky, ks, sample_weight=kw),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@given(rows())
def test_probabilities(r):
    agree(
        mc.log_loss, lambda y, p, sample_weight=None: sk.log_loss(y, p, labels=[0, 1], sample_weight=sample_weight), r
    )
    agree(mc.brier, lambda y, p, sample_weight=None: np.average((y - p) ** 2, weights=sample_weight), r)
    if two_classes(r):
        agree(mc.brier, sk.brier_score_loss, r)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(mc.precision, sk.precision_score), (mc.recall, sk.recall_score), (mc.f1, sk.f1_score)],
)
@given(r=rows())
def test_decisions(ours, theirs, r):
    assume(two_classes(r))

    def decided(y, s, sample_weight=None):
        return theirs(y, s > 0.5, sample_weight=sample_weight, zero_division=np.nan)

    (y, s, w), (ky, ks, kw) = r
    assert ours(y, s, sample_weight=w) == pytest.approx(decided(ky, ks, kw), nan_ok=True, **EXACT)
    assert ours(y, s > 0.5, sample_weight=w) == pytest.approx(ours(y, s, sample_weight=w), nan_ok=True, **EXACT)


@given(rows("regression"))
def test_numbers(r):
    agree(mc.mse, sk.mean_squared_error, r)
    agree(mc.rmse, sk.root_mean_squared_error, r)
    agree(mc.mae, sk.mean_absolute_error, r)
    agree(mc.r2, sk.r2_score, r)


@given(rows("count"))
def test_poisson_deviance(r):
    agree(mc.poisson_deviance, sk.mean_poisson_deviance, r)


@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans())
def test_multiclass(seed, n_classes, strings):
    random = np.random.default_rng(seed)
    n = 30
    codes = random.integers(0, n_classes, n)
    p = random.dirichlet(np.ones(n_classes), n)
    weight = random.integers(0, 3, n).astype(float)
    weight[:2] = 1
    names = np.array(list("abcde")[:n_classes], dtype=object)
    y = (names[codes] if strings else codes.astype(float)).astype(object)
    y[5:9] = None if strings else np.nan
    known = ~pd.isna(y) & (weight > 0)
    predicted = names[p.argmax(1)] if strings else p.argmax(1)
    truth, called, w = codes[known], p.argmax(1)[known], weight[known]
    all_codes = np.arange(n_classes)
    classes = names if strings else None
    assert mc.log_loss(y, p, classes=classes, sample_weight=weight) == pytest.approx(
        sk.log_loss(truth, p[known], labels=all_codes, sample_weight=w), **EXACT
    )
    assert mc.brier(y, p, classes=classes, sample_weight=weight) == pytest.approx(
        np.average(((p[known] - np.eye(n_classes)[truth]) ** 2).sum(1), weights=w), **EXACT
    )
    assert mc.accuracy(y, predicted, sample_weight=weight) == pytest.approx(
        sk.accuracy_score(truth, called, sample_weight=w), **EXACT
    )
    assert mc.macro_f1(y, predicted, sample_weight=weight) == pytest.approx(
        sk.f1_score(truth, called, sample_weight=w, average="macro"), **EXACT
    )


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@given(r=rows())
def test_calibration_table(strategy, r):
    (y, s, _), _ = r
    known = ~np.isnan(y)
    observed, predicted = calibration_curve(y[known].astype(int), s[known], n_bins=5, strategy=strategy)
    assume(len(set(y[known])) == 2)
    table = mc.calibration_table(y, s, n_bins=5, strategy=strategy)
    np.testing.assert_allclose(table["observed"], observed, rtol=1e-12)
    np.testing.assert_allclose(table["predicted"], predicted, rtol=1e-12)
    error = np.average(np.abs(observed - predicted), weights=table["n"])
    assert mc.expected_calibration_error(y, s, n_bins=5, strategy=strategy) == pytest.approx(error, **EXACT)


@given(st.integers(0, 10**6), st.sampled_from([None, 1, 3, 10]), st.sampled_from([2, 1000]))
def test_ndcg_with_linear_gains(seed, k, steps):
    random = np.random.default_rng(seed)
    y = random.integers(0, 4, (6, 8))
    y[:, 0] = 1  # scikit-learn counts a query without relevant rows as 0, ours is left out
    scores = random.integers(0, steps, (6, 8)).astype(float)
    weight = random.integers(1, 4, 6).astype(float)
    shuffle = random.permutation(48)
    ours = mc.ndcg(
        y.ravel()[shuffle],
        scores.ravel()[shuffle],
        np.repeat(list("abcdef"), 8)[shuffle],
        k=k,
        gain="linear",
        sample_weight=np.repeat(weight, 8)[shuffle],
    )
    assert ours == pytest.approx(sk.ndcg_score(y, scores, k=k, sample_weight=weight), **EXACT)


@given(st.integers(0, 10**6))
def test_map_and_grouped_auc_without_ties(seed):
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, (5, 9))
    y[:, :2] = [0, 1]
    scores = random.permutation(45).reshape(5, 9).astype(float)
    groups = np.repeat(np.arange(5), 9)
    expected = [(sk.average_precision_score(a, b), sk.roc_auc_score(a, b)) for a, b in zip(y, scores, strict=True)]
    values = mc.mean_average_precision(y.ravel(), scores.ravel(), groups, average=None)
    np.testing.assert_allclose(values, [e[0] for e in expected], rtol=1e-12)
    assert mc.grouped_auc(y.ravel(), scores.ravel(), groups) == pytest.approx(
        np.mean([e[1] for e in expected]), **EXACT
    )
