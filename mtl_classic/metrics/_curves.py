"""Metrics of the order in which rows are put, over all thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtl_classic.metrics._arrays import Codes, Floats, check_binary, labelled, scaled


def roc_auc(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Area under the ROC curve: the chance that a positive is ranked above a negative, ties counting one half.

    Σ_i Σ_j w_i w_j y_i (1 − y_j) ([s_i > s_j] + ½ [s_i = s_j]) / (Σ w y · Σ w (1 − y)), in O(n log n).

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1; a soft label in [0, 1] counts as that part of a positive and the rest of a negative; NaN is unlabelled.
    scores : array of shape (n,)
        Any numbers; only their order counts.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; NaN where there are only positives or only negatives.

    References
    ----------
    T. Fawcett, An introduction to ROC analysis, 2006, doi:10.1016/j.patrec.2005.10.010.

    Examples
    --------
    >>> from mtl_classic.metrics import roc_auc
    >>> roc_auc([0, 0, 1, 1, float("nan")], [0.1, 0.4, 0.35, 0.8, 0.9])
    0.75
    """
    tp, fp, _ = _cumulative(y, scores, sample_weight)
    return area_below_roc(tp, fp)


def average_precision(y: Any, scores: Any, *, sample_weight: Any = None) -> float:
    """Mean precision over the positives: Σ_t (R_t − R_{t−1}) P_t over the distinct scores t, from the highest.

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels in [0, 1]; NaN is unlabelled.
    scores : array of shape (n,)
        Any numbers; only their order counts. Tied rows enter together.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; about the share of positives for a model that knows nothing; NaN without positives.

    Examples
    --------
    >>> from mtl_classic.metrics import average_precision
    >>> average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.833...
    """
    tp, fp, _ = _cumulative(y, scores, sample_weight)
    return mean_of_precision(tp, fp)


def precision_recall_curve(y: Any, scores: Any, *, sample_weight: Any = None) -> tuple[Floats, Floats, Floats]:
    """Precision and recall for every threshold.

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels in [0, 1]; NaN is unlabelled.
    scores : array of shape (n,)
        Any numbers.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    precision, recall : ndarray of shape (n_thresholds + 1,)
        Where rows with a score of at least the threshold are called positive; the last point is (1, 0). Recall is NaN
        without positives, but for that point.
    thresholds : ndarray of shape (n_thresholds,)
        The distinct scores, rising.

    Examples
    --------
    >>> from mtl_classic.metrics import precision_recall_curve
    >>> precision, recall, thresholds = precision_recall_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> recall.tolist()
    [1.0, 1.0, 0.5, 0.5, 0.0]
    """
    tp, fp, thresholds = _cumulative(y, scores, sample_weight)
    recall = tp / tp[-1] if len(tp) and tp[-1] > 0 else np.full(len(tp), np.nan)
    return np.r_[(tp / (tp + fp))[::-1], 1.0], np.r_[recall[::-1], 0.0], thresholds[::-1]


def _cumulative(y: Any, scores: Any, sample_weight: Any) -> tuple[Floats, Floats, Floats]:
    labels, values, weight = labelled(y, scores, sample_weight)
    check_binary(labels)
    return cumulative(labels, values, scaled(weight), np.argsort(-values, kind="stable"))


def cumulative(y: Floats, scores: Floats, weight: Floats, order: Codes) -> tuple[Floats, Floats, Floats]:
    """Weights of the positives and negatives at or above each distinct score, from the highest, and these scores.

    ``order`` puts the rows in that order.
    """
    labels, values, weight = y[order], scores[order], weight[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.empty(0, np.intp)
    return np.cumsum(weight * labels)[last], np.cumsum(weight * (1 - labels))[last], values[last]


def area_below_roc(tp: Floats, fp: Floats) -> float:
    """ROC AUC from cumulative weights of positives and negatives."""
    if not len(tp) or tp[-1] == 0 or fp[-1] == 0:
        return float("nan")
    heights = tp + np.r_[0.0, tp[:-1]]
    return float(np.sum(np.diff(fp, prepend=0.0) * heights) / (2 * tp[-1] * fp[-1]))


def mean_of_precision(tp: Floats, fp: Floats) -> float:
    """Average precision from cumulative weights of positives and negatives."""
    if not len(tp) or tp[-1] == 0:
        return float("nan")
    return float(np.sum(np.diff(tp, prepend=0.0) * (tp / (tp + fp))) / tp[-1])
