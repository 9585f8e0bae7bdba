"""Metrics of decided labels: what share is right, for which class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.options import NUMBER, check_option
from mtl_classic.metrics._arrays import Floats, check_binary, check_weight, labelled, mean

THRESHOLD = 0.5


def accuracy(y: Any, prediction: Any, *, sample_weight: Any = None) -> float:
    """Share of rows whose predicted label is the label: Σ w [y = ŷ] / Σ w.

    Parameters
    ----------
    y : array of shape (n,)
        Labels of any type; NaN, None and NA are unlabelled and left out.
    prediction : array of shape (n,)
        Predicted labels.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import accuracy
    >>> accuracy(["red", "blue", None, "blue"], ["red", "blue", "red", "red"])
    0.666...
    """
    labels, predicted, weight = _known(y, prediction, sample_weight)
    return mean(labels == predicted, weight)


def precision(y: Any, scores: Any, *, threshold: float = THRESHOLD, sample_weight: Any = None) -> float:
    """Share of positives among the rows called positive: tp / (tp + fp).

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels in [0, 1] that count as that part of a positive; NaN is unlabelled.
    scores : array of shape (n,)
        P(positive), or decided labels 0 and 1.
    threshold : float, default=0.5
        A row is called positive where its score is larger.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; NaN where no row is called positive.

    Examples
    --------
    >>> from mtl_classic.metrics import precision
    >>> precision([1, 0, 1, float("nan")], [0.9, 0.8, 0.2, 0.7])
    0.5
    """
    tp, fp, _ = _confusion(y, scores, threshold, sample_weight)
    return _ratio(tp, tp + fp)


def recall(y: Any, scores: Any, *, threshold: float = THRESHOLD, sample_weight: Any = None) -> float:
    """Share of the positives that are called positive: tp / (tp + fn).

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels in [0, 1] that count as that part of a positive; NaN is unlabelled.
    scores : array of shape (n,)
        P(positive), or decided labels 0 and 1.
    threshold : float, default=0.5
        A row is called positive where its score is larger.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; NaN where no row is positive.

    Examples
    --------
    >>> from mtl_classic.metrics import recall
    >>> recall([1, 0, 1, float("nan")], [0.9, 0.8, 0.2, 0.7])
    0.5
    """
    tp, _, fn = _confusion(y, scores, threshold, sample_weight)
    return _ratio(tp, tp + fn)


def f1(y: Any, scores: Any, *, threshold: float = THRESHOLD, sample_weight: Any = None) -> float:
    """Harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels in [0, 1] that count as that part of a positive; NaN is unlabelled.
    scores : array of shape (n,)
        P(positive), or decided labels 0 and 1.
    threshold : float, default=0.5
        A row is called positive where its score is larger.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1]; NaN where no row is positive or called so.

    Examples
    --------
    >>> from mtl_classic.metrics import f1
    >>> f1([1, 0, 1, 1], [0.9, 0.8, 0.2, 0.7])
    0.666...
    """
    tp, fp, fn = _confusion(y, scores, threshold, sample_weight)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def macro_f1(y: Any, prediction: Any, *, sample_weight: Any = None) -> float:
    """Mean of the classes' F1, each class counting the same: mean over c of 2 tp_c / (2 tp_c + fp_c + fn_c).

    Parameters
    ----------
    y : array of shape (n,)
        Labels of any type; NaN, None and NA are unlabelled and left out.
    prediction : array of shape (n,)
        Predicted labels.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1], over the classes that occur among labels or predictions; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import macro_f1
    >>> macro_f1(["red", "blue", None, "blue"], ["red", "blue", "red", "red"])
    0.666...
    """
    labels, predicted, weight = _known(y, prediction, sample_weight)
    codes, _ = pd.factorize(pd.concat([pd.Series(labels), pd.Series(predicted)], ignore_index=True))
    true, called = codes[: len(labels)], codes[len(labels) :]
    n_classes = int(codes.max(initial=-1)) + 1
    hit = true == called
    tp = np.bincount(true[hit], weight[hit], n_classes)
    both = np.bincount(true, weight, n_classes) + np.bincount(called, weight, n_classes)
    return float(np.mean(2 * tp / both)) if n_classes else float("nan")


def _known(y: Any, prediction: Any, sample_weight: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Floats]:
    """Labels, predictions and weights of the labelled rows; all of their own type."""
    labels, predicted = pd.Series(y), pd.Series(prediction)
    if len(labels) != len(predicted):
        raise ValueError(
            f"{len(labels)} labels and {len(predicted)} predictions; expected one prediction for each row."
        )
    weight = check_weight(sample_weight, len(labels))
    known = labels.notna().to_numpy() & (weight > 0)
    if predicted.isna().to_numpy()[known].any():
        raise ValueError("Some labelled rows have no prediction; make their labels NaN to leave them out.")
    return labels.to_numpy()[known], predicted.to_numpy()[known], weight[known]


def _confusion(y: Any, scores: Any, threshold: float, sample_weight: Any) -> tuple[float, float, float]:
    """Weights of the true positives, false positives and false negatives."""
    check_option("threshold", threshold, NUMBER)
    labels, values, weight = labelled(y, scores, sample_weight)
    check_binary(labels)
    called = values > threshold
    positive = weight * labels
    tp = float(positive[called].sum())
    return tp, float((weight * (1 - labels))[called].sum()), float(positive[~called].sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
