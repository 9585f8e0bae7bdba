"""What the pointwise metrics do where scikit-learn has no answer: soft labels, one class, nothing, wrong input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import metrics as mc

NAN = float("nan")
NUMBERS = [mc.mse, mc.rmse, mc.mae, mc.r2, mc.poisson_deviance]
BINARY = [mc.log_loss, mc.brier, mc.roc_auc, mc.average_precision, mc.precision, mc.recall, mc.f1]


@pytest.mark.parametrize("metric", [*NUMBERS, *BINARY, mc.expected_calibration_error])
def test_nothing_is_nan(metric):
    assert np.isnan(metric([], []))
    assert np.isnan(metric([NAN, None], [0.2, 0.3]))
    assert np.isnan(metric([1.0], [0.2], sample_weight=[0.0]))
    assert metric([1, 0, 1, 0, NAN], [0.9, 0.2, 0.7, 0.8, NAN]) == metric([1, 0, 1, 0], [0.9, 0.2, 0.7, 0.8])


def test_labels_without_any_are_nan():
    assert np.isnan(mc.accuracy([None], ["a"]))
    assert np.isnan(mc.macro_f1([None], ["a"]))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class(value):
    y, p = np.full(4, value), np.array([0.2, 0.4, 0.6, 0.8])
    assert np.isnan(mc.roc_auc(y, p))
    assert mc.log_loss(y, p) > 0
    precision, recall, thresholds = mc.precision_recall_curve(y, p)
    assert len(precision) == len(recall) == len(thresholds) + 1
    if value == 0:
        assert np.isnan(mc.average_precision(y, p))
        assert np.isnan(mc.recall(y, p))
        assert np.isnan(recall[:-1]).all()
    else:
        assert mc.average_precision(y, p) == 1
        assert mc.precision(y, p) == 1


def test_constant_labels_have_no_r2():
    assert np.isnan(mc.r2([2.0, 2.0], [1.0, 3.0]))


@pytest.mark.parametrize("metric", BINARY)
@given(seed=st.integers(0, 10**6))
def test_a_soft_label_counts_as_its_parts(metric, seed):
    random = np.random.default_rng(seed)
    soft, p = random.integers(1, 4, 12) / 4, (random.integers(0, 6, 12) + 0.5) / 6
    doubled = metric(np.r_[np.ones(12), np.zeros(12)], np.r_[p, p], sample_weight=np.r_[soft, 1 - soft])
    extra = np.average(soft * (1 - soft)) if metric is mc.brier else 0.0  # the square is not linear in the label
    assert metric(soft, p) == pytest.approx(doubled - extra, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", [*BINARY, *NUMBERS])
@given(seed=st.integers(0, 10**6))
def test_an_integer_weight_repeats_the_row(metric, seed):
    random = np.random.default_rng(seed)
    y, p, weight = random.integers(0, 2, 15) * 1.0, random.integers(1, 6, 15) / 7, random.integers(0, 4, 15)
    rows = np.repeat(np.arange(15), weight)
    assert metric(y, p, sample_weight=weight) == pytest.approx(metric(y[rows], p[rows]), rel=1e-12, nan_ok=True)


def test_certain_mistakes_are_finite():
    assert mc.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-np.log(mc.EPSILON))
    assert np.isfinite(mc.poisson_deviance([3], [0.0]))
    assert mc.log_loss([1], [np.float32(1.0000001)]) < 1e-6


def test_a_class_without_a_column_counts_as_impossible():
    assert mc.log_loss(["x"], [[0.5, 0.5]], classes=["a", "b"]) == pytest.approx(-np.log(mc.EPSILON))
    assert mc.brier([-1.0], [[0.5, 0.5]]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    "y",
    [
        [1, 0, None],
        np.array([1, 0, None], dtype=object),
        pd.Series([1, 0, pd.NA], dtype="Int8"),
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series([1.0, 0.0, NAN]),
    ],
)
def test_forms_of_missing_labels(y):
    assert mc.log_loss(y, pd.Series([0.9, 0.2, 0.4], index=[5, 6, 7])) == pytest.approx(0.164252, abs=1e-6)
    assert mc.accuracy(y, [1, 0, 0]) == 1


@pytest.mark.parametrize("metric", BINARY)
def test_one_weight_is_that_of_all_rows(metric):
    y, p = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])
    assert metric(y, p, sample_weight=2.0) == metric(y, p, sample_weight=[2.0] * 3)


def test_inputs_are_not_changed():
    y, p, w = np.array([1.0, 0.0, NAN]), np.array([0.0, 1.0, 0.5]), np.array([1.0, 2.0, 0.0])
    copies = [a.copy() for a in (y, p, w)]
    for metric in BINARY:
        metric(y, p, sample_weight=w)
    for array, copy in zip((y, p, w), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mc.log_loss([1, 0], [0.5, NAN]), "NaN in 1 of 2 labelled rows"),
        (lambda: mc.log_loss([1, 0], [2.0, -3.0]), "probabilities in .0, 1., got -3 to 2"),
        (lambda: mc.log_loss([1, 2], [0.5, 0.5]), "Binary labels must be 0 and 1"),
        (lambda: mc.log_loss([1, 0], [0.5]), "expected .n,. and .n,., n alike"),
        (lambda: mc.log_loss([0, 5], [[0.5, 0.5], [0.5, 0.5]]), "Class codes must be integers from 0 to 1"),
        (lambda: mc.mse([1, 0], [0.5, 1], sample_weight=[1, -1]), "1 of 2 weights are not"),
        (lambda: mc.mse([1, 0], [0.5, 1], sample_weight=[1]), "expected .2,., one weight a row"),
        (lambda: mc.poisson_deviance([-1], [0.5]), "1 are negative"),
        (lambda: mc.accuracy([1, 0], [1]), "2 labels and 1 predictions"),
        (lambda: mc.accuracy([1, 0], [1, None]), "have no prediction"),
        (lambda: mc.calibration_table([1], [0.5], strategy="x"), 'strategy must be "quantile" or "uniform"'),
        (lambda: mc.calibration_table([1], [0.5], n_bins=0), "n_bins must be an integer of at least 1"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_words_are_no_scores():
    with pytest.raises(TypeError, match="scores must be numbers"):
        mc.mse([1, 0], ["a", "b"])
