"""Metrics that are means over rows: proper losses of probabilities and errors of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.losses import losses
from mtl_classic._core.options import check_option, list_of
from mtl_classic.metrics._arrays import (
    Floats,
    as_floats,
    check_binary,
    check_codes,
    check_means,
    check_probabilities,
    labelled,
    mean,
)


def log_loss(y: Any, scores: Any, *, classes: Any = None, sample_weight: Any = None) -> float:
    """Log-loss: the mean of −log of the probability given to what happened.

    Binary and soft: −y log p − (1 − y) log(1 − p); multiclass: −log p_y. Probabilities are clipped to [ε, 1 − ε] with
    ε = ``EPSILON`` = 1e-7, so that a certain mistake costs 16.1. The minimum for soft labels is their entropy, not 0.

    Parameters
    ----------
    y : array of shape (n,)
        Binary: 0 and 1, or soft labels in [0, 1]. Multiclass: codes of the columns of ``scores``, or, with ``classes``,
        labels. NaN (None, NA) is unlabelled. A class without a column counts as one that got probability 0.
    scores : array of shape (n,) or (n, n_classes)
        P(positive), or a probability for each class.
    classes : array of shape (n_classes,), default=None
        The label of each column of ``scores``.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        Nats, ≥ 0; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import log_loss
    >>> round(log_loss([1, 0, float("nan")], [0.9, 0.2, 0.5]), 4)
    0.1643
    >>> round(log_loss(["a", "c"], [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], classes=["a", "b", "c"]), 4)
    0.4581
    """
    if np.ndim(scores) == 2:
        codes, p, weight = labelled(_codes(y, classes, np.shape(scores)[1]), scores, sample_weight, ndim=2)
        check_codes(codes, p)
        check_probabilities(p)
        return mean(losses("multiclass", codes, p), weight)
    labels, p, weight = labelled(y, scores, sample_weight)
    check_binary(labels)
    check_probabilities(p)
    return mean(losses("binary", labels, p), weight)


def brier(y: Any, scores: Any, *, classes: Any = None, sample_weight: Any = None) -> float:
    """Brier score: mean of (p − y)², or, over several classes, of Σ_c (p_c − [y = c])².

    Parameters
    ----------
    y : array of shape (n,)
        As in `log_loss`; NaN is unlabelled.
    scores : array of shape (n,) or (n, n_classes)
        P(positive), or a probability for each class.
    classes : array of shape (n_classes,), default=None
        The label of each column of ``scores``.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1] for binary labels, [0, 2] for several classes; NaN without labels.

    References
    ----------
    G. W. Brier, Verification of forecasts expressed in terms of probability, 1950,
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Examples
    --------
    >>> from mtl_classic.metrics import brier
    >>> round(brier([1, 0, float("nan")], [0.9, 0.2, 0.5]), 6)
    0.025
    """
    if np.ndim(scores) == 2:
        codes, p, weight = labelled(_codes(y, classes, np.shape(scores)[1]), scores, sample_weight, ndim=2)
        check_codes(codes, p)
        check_probabilities(p)
        return mean(multiclass_brier(codes, p), weight)
    labels, p, weight = labelled(y, scores, sample_weight)
    check_binary(labels)
    check_probabilities(p)
    return mean((p - labels) ** 2, weight)


def mse(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Mean squared error: mean of (y − f)².

    Parameters
    ----------
    y : array of shape (n,)
        Numbers; NaN is unlabelled.
    scores : array of shape (n,)
        Predicted means f, in the label's unit.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In the square of the label's unit; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import mse
    >>> mse([1.0, 2.0, float("nan")], [1.0, 4.0, 0.0])
    2.0
    """
    labels, values, weight = labelled(y, scores, sample_weight)
    return mean((labels - values) ** 2, weight)


def rmse(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Root of the mean squared error, √ mean (y − f)².

    Parameters
    ----------
    y : array of shape (n,)
        Numbers; NaN is unlabelled.
    scores : array of shape (n,)
        Predicted means f, in the label's unit.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In the label's unit; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import rmse
    >>> rmse([0.0, 0.0], [3.0, 3.0])
    3.0
    """
    return float(np.sqrt(mse(y, scores, sample_weight=sample_weight)))


def mae(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Mean absolute error, mean |y − f|: smallest for the median, not for the mean.

    Parameters
    ----------
    y : array of shape (n,)
        Numbers; NaN is unlabelled.
    scores : array of shape (n,)
        Predictions f, in the label's unit.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In the label's unit; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import mae
    >>> mae([1.0, 2.0, float("nan")], [1.0, 4.0, 0.0])
    1.0
    """
    labels, values, weight = labelled(y, scores, sample_weight)
    return mean(np.abs(labels - values), weight)


def r2(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Coefficient of determination: 1 − Σ w (y − f)² / Σ w (y − ȳ)², with the mean ȳ of the labels judged here.

    Parameters
    ----------
    y : array of shape (n,)
        Numbers; NaN is unlabelled.
    scores : array of shape (n,)
        Predicted means f, in the label's unit.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        At most 1; 0 for the mean itself; NaN where all labels are equal.

    Examples
    --------
    >>> from mtl_classic.metrics import r2
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    labels, values, weight = labelled(y, scores, sample_weight)
    if not len(labels) or labels.min() == labels.max():
        return float("nan")
    spread = (labels - mean(labels, weight)) ** 2
    return float(1 - np.sum(weight * (labels - values) ** 2) / np.sum(weight * spread))


def poisson_deviance(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Mean Poisson deviance: mean of 2 (y log(y / f) − y + f).

    Parameters
    ----------
    y : array of shape (n,)
        Numbers ≥ 0, counts as a rule; NaN is unlabelled.
    scores : array of shape (n,)
        Predicted means f ≥ 0; those below ``EPSILON`` = 1e-7 count as that.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        At least 0; NaN without labels.

    Raises
    ------
    ValueError
        On negative labels, or means below −1e-6, which rounding does not explain.

    Examples
    --------
    >>> from mtl_classic.metrics import poisson_deviance
    >>> round(poisson_deviance([0, 2, float("nan")], [1.0, 2.0, 5.0]), 6)
    1.0
    """
    labels, values, weight = labelled(y, scores, sample_weight)
    if len(labels) and labels.min() < 0:
        raise ValueError(f"Poisson deviance needs labels of at least 0; {int((labels < 0).sum())} are negative.")
    check_means(values)
    return mean(losses("count", labels, values), weight)


def multiclass_brier(codes: Floats, p: Floats) -> Floats:
    """Σ_c (p_c − [y = c])² of each row, for codes without NaN."""
    code = codes.astype(np.intp)
    hit = np.where(code >= 0, np.take_along_axis(p, np.maximum(code, 0)[:, None], axis=1)[:, 0], 0.0)
    return np.asarray(np.sum(p**2, axis=1) - 2 * hit + 1)


def _codes(y: Any, classes: Any, n_columns: int) -> Floats:
    """Labels as positions in ``classes``, -1 for those that are none of them, NaN for unlabelled."""
    if classes is None:
        return as_floats(y, "labels")
    check_option("classes", classes, list_of("labels"))
    if len(classes) != n_columns:
        raise ValueError(
            f"classes has {len(classes)} labels, and the scores have {n_columns} columns; expected as many."
        )
    labels = pd.Series(y)
    codes: Floats = pd.Index(classes).get_indexer(labels).astype(np.float64)
    codes[labels.isna().to_numpy()] = np.nan
    return codes
