"""Rates observed and predicted."""

import numpy as np
import pytest

from mtl_classic import metrics as mc


def shown(n=20_000):
    random = np.random.default_rng(0)
    p_click, p_buy = random.beta(1, 9, n), random.beta(2, 5, n)
    click = (random.random(n) < p_click).astype(float)
    return click, click * (random.random(n) < p_buy), p_click, p_buy


def test_true_probabilities_are_calibrated():
    click, _, p_click, _ = shown()
    table = mc.ctr(click, p_click)
    assert list(table.index) == ["all", *range(1, 11)]
    assert table.loc["all", "ratio"] == pytest.approx(1, abs=0.05)
    assert (table["n"][1:] == 2000).all()
    assert table["predicted"][1:].is_monotonic_increasing
    assert mc.expected_calibration_error(click, p_click) < 0.01
    assert mc.expected_calibration_error(click, np.minimum(2 * p_click, 1)) > 0.05


def test_the_ratio_says_how_much_too_many():
    click, _, p_click, _ = shown()
    assert mc.ctr(click, p_click / 2).loc["all", "ratio"] == pytest.approx(0.5, abs=0.03)


def test_cvr_counts_clicked_rows_only():
    click, buy, p_click, p_buy = shown()
    table = mc.cvr(buy, p_buy, click)
    assert table.loc["all", "n"] == click.sum()
    assert table.loc["all", "observed"] == pytest.approx(buy.sum() / click.sum())
    assert table.loc["all", "ratio"] == pytest.approx(1, abs=0.1)
    entire = mc.cvr(buy, p_click * p_buy, click, click_scores=p_click)
    np.testing.assert_allclose(entire, table, rtol=1e-9)


def test_click_scores_are_needed_where_there_was_a_click():
    scores, clicks = [0.2, 0.1, 0.0], [1, 0, 1]
    table = mc.cvr([1, 0, 0], scores, clicks, click_scores=[0.5, np.nan, 0.0])
    assert table.loc["all", ["n", "predicted"]].tolist() == [2, 0.2]
    with pytest.raises(ValueError, match="NaN in 1 of 2 labelled rows"):
        mc.cvr([1, 0, 0], scores, clicks, click_scores=[np.nan, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"3 scores and click_scores of shape \(1,\)"):
        mc.cvr([1, 0, 0], scores, clicks, click_scores=[0.5])


def test_ties_stay_in_one_bin():
    table = mc.calibration_table([0, 1, 0, 1, 1], [0.5] * 5)
    assert table["n"].tolist() == [5]
    assert table["observed"].item() == pytest.approx(0.6)


def test_weights_and_unlabelled_rows():
    table = mc.calibration_table([0, 1, np.nan, 1], [0.2, 0.2, 0.2, 0.9], sample_weight=[1, 3, 5, 0], n_bins=2)
    assert table["n"].tolist() == [2]
    assert table["weight"].tolist() == [4]
    assert table["observed"].tolist() == [0.75]


@pytest.mark.parametrize(("strategy", "last"), [("uniform", [0, 0, 0, 1]), ("quantile", [0, 0, 1, 1])])
def test_the_error_is_the_weighted_mean_distance_of_the_bins(strategy, last):
    y, p, weight = np.array([0.0, 1, 1, 0]), np.array([0.1, 0.2, 0.5, 0.51]), np.array([1.0, 2, 3, 8])
    last = np.array(last, dtype=bool)  # a score on an edge belongs to the bin below
    off = [abs(np.average(y[rows] - p[rows], weights=weight[rows])) * weight[rows].sum() for rows in (~last, last)]
    found = mc.expected_calibration_error(y, p, n_bins=2, strategy=strategy, sample_weight=weight)
    assert found == pytest.approx(sum(off) / weight.sum())
    assert mc.calibration_table(y, p, n_bins=2, strategy=strategy)["n"].tolist() == [(~last).sum(), last.sum()]


def test_rates_of_clicks_and_conversions_are_weighted_in_as_many_bins_as_asked():
    y, p, weight = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 5]
    clicks = [1, 1, np.nan, 1]  # what nobody knows of is no click
    for table, n in (
        (mc.ctr(y, p, n_bins=2, sample_weight=weight), 4),
        (mc.cvr(y, p, clicks, n_bins=2, sample_weight=weight), 3),
    ):
        assert table.index.tolist() == ["all", 1, 2]
        assert table.loc["all", "n"] == n
        assert table.loc["all", "observed"] == pytest.approx(6 / (n + 4))


def test_bins_that_make_no_sense():
    with pytest.raises(ValueError, match="n_bins must be an integer of at least 1, got 0"):
        mc.calibration_table([0, 1], [0.1, 0.9], n_bins=0)
    with pytest.raises(ValueError, match='strategy must be "quantile" or "uniform"'):
        mc.calibration_table([0, 1], [0.1, 0.9], strategy="width")
    with pytest.raises(ValueError, match="Expected probabilities"):
        mc.calibration_table([10.0, 30.0], [20.0, 20.0], strategy="uniform")


def test_nothing_observed_has_no_ratio():
    assert np.isnan(mc.ctr([0, 0], [0.1, 0.2]).loc["all", "ratio"])


def test_amounts_have_a_calibration_too():
    table = mc.calibration_table([10.0, 30.0], [20.0, 20.0])
    assert table["ratio"].tolist() == [1.0]
    with pytest.raises(ValueError, match="margins"):
        mc.ctr([0, 1], [-2.0, 3.0])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 conversions, 1 scores and 2 clicks"):
        mc.cvr([0, 1], [0.5], [1, 1])
    with pytest.raises(ValueError, match="2 conversions, 2 scores and 1 clicks"):
        mc.cvr([0, 1], [0.5, 0.5], [1])


def test_empty():
    assert mc.calibration_table([], []).empty
    assert np.isnan(mc.expected_calibration_error([], []))


@pytest.mark.parametrize(
    "table",
    [mc.ctr([], []), mc.ctr([np.nan, 1], [0.5, 0.5], sample_weight=[1, 0]), mc.cvr([0, 1], [0.1, 0.2], [0, 0])],
)
def test_the_rate_of_nothing_is_nan(table):
    assert table.index.tolist() == ["all"]
    assert table.loc["all"].isna().to_dict() == {
        "n": False,
        "weight": False,
        "observed": True,
        "predicted": True,
        "ratio": True,
    }
    assert table.loc["all", ["n", "weight"]].tolist() == [0, 0]
    assert table.dtypes.equals(mc.ctr([0, 1], [0.1, 0.2]).dtypes)
