"""Do the predicted rates happen? Observed against predicted, over all rows and by decile of the score."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from mtl_classic._core.options import COUNT, check_option
from mtl_classic.metrics._arrays import Codes, Floats, as_floats, check_probabilities, divide, labelled

Strategy = Literal["quantile", "uniform"]
N_BINS = 10


def calibration_table(
    y: Any,
    scores: Any,
    *,
    n_bins: int = N_BINS,
    strategy: Strategy = "quantile",
    sample_weight: Any = None,
) -> pd.DataFrame:
    """Mean label beside mean score, for rows of similar score.

    Parameters
    ----------
    y : array of shape (n,)
        Labels: 0 and 1, soft, counts or amounts; NaN is unlabelled.
    scores : array of shape (n,)
        P(positive), or predicted means.
    n_bins : int, default=10
        Number of bins.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with the same number of rows (equal scores stay together, weights do not move the edges), or bins of the
        same width over [0, 1].
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    DataFrame
        A row per bin that is not empty, numbered from 1; columns ``n`` (rows), ``weight``, ``observed``, ``predicted``
        (weighted means) and ``ratio`` = predicted / observed (NaN where nothing was observed).

    Examples
    --------
    >>> from mtl_classic.metrics import calibration_table
    >>> calibration_table([0, 1, 0, 1], [0.1, 0.3, 0.6, 0.9], n_bins=2)
         n  weight  observed  predicted  ratio
    bin
    1    2     2.0       0.5       0.20    0.4
    2    2     2.0       0.5       0.75    1.5
    """
    labels, p, weight = labelled(y, scores, sample_weight)
    return _rates(bins(p, n_bins, strategy), labels, p, weight)


def expected_calibration_error(
    y: Any,
    scores: Any,
    *,
    n_bins: int = N_BINS,
    strategy: Strategy = "quantile",
    sample_weight: Any = None,
) -> float:
    """Mean distance of observed and predicted rates: Σ_b w_b |observed_b − predicted_b| / Σ_b w_b.

    Parameters
    ----------
    y : array of shape (n,)
        Labels: 0 and 1, soft, counts or amounts; NaN is unlabelled.
    scores : array of shape (n,)
        P(positive), or predicted means.
    n_bins : int, default=10
        Number of bins. Noise alone makes the error positive, the more so the more bins.
    strategy : {"quantile", "uniform"}, default="quantile"
        As in `calibration_table`; rare labels want quantiles, or all their rows are in the first bin.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In the label's unit; NaN without labels.

    References
    ----------
    M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, 2015,
    doi:10.1609/aaai.v29i1.9602.

    Examples
    --------
    >>> from mtl_classic.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 0, 1], [0.1, 0.3, 0.6, 0.9], n_bins=2), 6)
    0.275
    """
    table = calibration_table(y, scores, n_bins=n_bins, strategy=strategy, sample_weight=sample_weight)
    if table.empty:
        return float("nan")
    return float(np.average((table["observed"] - table["predicted"]).abs(), weights=table["weight"]))


def ctr(clicks: Any, scores: Any, *, n_bins: int = N_BINS, sample_weight: Any = None) -> pd.DataFrame:
    """Click-through rate: observed, predicted and their ratio, overall and by decile of the score.

    Parameters
    ----------
    clicks : array of shape (n,)
        0 and 1 for every row shown; NaN is unlabelled.
    scores : array of shape (n,)
        P(click).
    n_bins : int, default=10
        Number of groups of rows by score, from the lowest.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    DataFrame
        Row ``"all"`` (of 0 rows and rates NaN without labels), then the groups that are not empty, from 1; columns as
        in `calibration_table`. A ratio over 1 promises too many clicks.

    References
    ----------
    X. He et al., Practical lessons from predicting clicks on ads at Facebook, 2014, doi:10.1145/2648584.2648589.

    Examples
    --------
    >>> from mtl_classic.metrics import ctr
    >>> ctr([0, 1, 0, 0], [0.1, 0.3, 0.2, 0.4], n_bins=2).loc["all", ["observed", "predicted", "ratio"]].tolist()
    [0.25, 0.25, 1.0]
    """
    labels, p, weight = labelled(clicks, scores, sample_weight)
    check_probabilities(p)
    everything = _rates(np.zeros(len(p), np.intp), labels, p, weight).rename(index={1: "all"})
    if everything.empty:
        everything = everything.reindex(["all"]).fillna({"n": 0, "weight": 0.0}).astype({"n": np.intp})
    return pd.concat([everything, _rates(bins(p, n_bins, "quantile"), labels, p, weight)]).rename_axis("bin")


def cvr(
    conversions: Any,
    scores: Any,
    clicks: Any,
    *,
    click_scores: Any = None,
    n_bins: int = N_BINS,
    sample_weight: Any = None,
) -> pd.DataFrame:
    """Conversion rate among the clicked rows: observed, predicted and their ratio, overall and by decile.

    Parameters
    ----------
    conversions : array of shape (n,)
        0 and 1; NaN is unlabelled.
    scores : array of shape (n,)
        P(conversion given click); or, with ``click_scores``, P(click and conversion).
    clicks : array of shape (n,)
        0 and 1; only rows that were clicked count.
    click_scores : array of shape (n,), default=None
        P(click), by which the scores of the entire space are divided.
    n_bins : int, default=10
        Number of groups of rows by score, from the lowest.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    DataFrame
        Like that of `ctr`.

    Notes
    -----
    The click-and-conversion rate over all rows is ``ctr(conversions, scores)``.

    Examples
    --------
    >>> from mtl_classic.metrics import cvr
    >>> table = cvr([0, 1, 0, 0], [0.1, 0.5, 0.2, 0.3], [0, 1, 0, 1], n_bins=2)
    >>> table.loc["all", ["n", "observed", "predicted"]].tolist()
    [2.0, 0.5, 0.4]
    """
    labels, p, clicked = (
        as_floats(values, what) for values, what in ((conversions, "labels"), (scores, "scores"), (clicks, "clicks"))
    )
    if not len(labels) == len(p) == len(clicked):
        raise ValueError(
            f"{len(labels)} conversions, {len(p)} scores and {len(clicked)} clicks; expected the same number."
        )
    if click_scores is not None:
        parent = as_floats(click_scores, "click scores")
        if parent.shape != p.shape:
            raise ValueError(f"{len(p)} scores and click_scores of shape {parent.shape}; expected one for each.")
        p = np.where(parent == 0, 0.0, p / np.where(parent == 0, 1.0, parent))
    return ctr(np.where(clicked == 1, labels, np.nan), p, n_bins=n_bins, sample_weight=sample_weight)


def bins(scores: Floats, n_bins: int, strategy: str) -> Codes:
    """The bin of each score, from 0."""
    check_option("n_bins", n_bins, COUNT)
    inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    if strategy == "quantile":
        edges = np.quantile(scores, inner) if len(scores) else inner
    elif strategy == "uniform":
        check_probabilities(scores)
        edges = inner
    else:
        raise ValueError(f'strategy must be "quantile" or "uniform", got {strategy!r}.')
    return np.searchsorted(edges, scores).astype(np.intp)


def _rates(codes: Codes, y: Floats, scores: Floats, weight: Floats) -> pd.DataFrame:
    n = np.bincount(codes)
    total, seen, said = (np.bincount(codes, values) for values in (weight, weight * y, weight * scores))
    used = np.flatnonzero(n)
    observed, predicted = seen[used] / total[used], said[used] / total[used]
    ratio = divide(predicted, observed)
    return pd.DataFrame(
        {"n": n[used], "weight": total[used], "observed": observed, "predicted": predicted, "ratio": ratio},
        index=pd.Index(used + 1, name="bin"),
    )
