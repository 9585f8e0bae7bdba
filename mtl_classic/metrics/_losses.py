"""The proper loss of each kind, for users: checked arrays in front of the losses that learners and fallbacks use."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtl_classic._core import losses as core
from mtl_classic._core.options import COUNT_OR_0, check_option
from mtl_classic._core.tasks import KINDS
from mtl_classic.metrics._arrays import Floats, as_floats, check_binary, check_means, check_probabilities
from mtl_classic.metrics._registry import get_metric


def losses(kind: str, y: Any, scores: Any) -> Floats:
    """Proper loss of each row.

    ``binary``: −y log p − (1 − y) log(1 − p); ``multiclass``: −log p_y; ``regression``: (y − f)²; ``count``: Poisson
    deviance 2 (y log(y / f) − y + f). Probabilities and means are clipped to ``EPSILON`` = 1e-7 before a logarithm.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count"}
        The kind of the task. A ranking has a loss per query, not per row: see `task_loss` and `ndcg`.
    y : array of shape (n,)
        Encoded labels: 0 and 1 (or soft), class codes (-1 for a class without a column), numbers; NaN is unlabelled.
    scores : array of shape (n,), or (n, n_classes) for multiclass
        Scores as from ``predict_scores``.

    Returns
    -------
    ndarray of shape (n,), float64
        NaN where the label is.

    Examples
    --------
    >>> from mtl_classic.metrics import losses
    >>> losses("binary", [1, 0, None], [0.9, 0.2, 0.5]).round(3).tolist()
    [0.105, 0.223, nan]
    """
    labels, values = as_floats(y, "labels"), as_floats(scores, "scores")
    if labels.ndim != 1 or len(labels) != len(values) or values.ndim != (2 if kind == "multiclass" else 1):
        raise ValueError(f"Labels of shape {labels.shape} and scores of shape {values.shape} for a {kind} task.")
    known = ~np.isnan(labels)
    if kind == "binary":
        check_binary(labels[known])
    if kind in ("binary", "multiclass"):
        check_probabilities(values[known])
    if kind == "count":
        check_means(values[known])
    return core.losses(kind, labels, values)


def task_loss(kind: str, y: Any, scores: Any, *, sample_weight: Any = None, groups: Any = None) -> float:
    """Mean proper loss of a task: over its labelled rows, or, for a ranking, 1 − NDCG over its queries.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
        The kind of the task.
    y : array of shape (n,)
        Encoded labels; NaN is unlabelled.
    scores : array of shape (n,), or (n, n_classes) for multiclass
        Scores as from ``predict_scores``.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.
    groups : array of shape (n,), default=None
        Query of each row; a ranking needs it.

    Returns
    -------
    float
        At least 0; NaN without labels.

    Examples
    --------
    >>> from mtl_classic.metrics import task_loss
    >>> task_loss("regression", [1.0, 3.0, float("nan")], [1.0, 2.0, 9.0])
    0.5
    """
    check_option("kind", kind, KINDS)
    return get_metric("loss")(kind, y, scores, sample_weight=sample_weight, groups=groups)


def prior_scores(kind: str, y: Any, *, n_classes: int = 0) -> Floats:
    """What a model predicts that knows only the labels: their mean, or the class frequencies.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
        The kind of the task; a ranking's prior is a constant.
    y : array of shape (n,)
        Encoded training labels; NaN is unlabelled.
    n_classes : int, default=0
        Number of classes of a multiclass task.

    Returns
    -------
    ndarray of shape () or (n_classes,), float64

    Examples
    --------
    >>> from mtl_classic.metrics import prior_scores
    >>> prior_scores("binary", [0, 1, 1, 0, None])
    array(0.5)
    """
    check_option("kind", kind, KINDS)
    check_option("n_classes", n_classes, COUNT_OR_0)
    return core.prior_scores(kind, as_floats(y, "labels"), n_classes)


def normalized_score(
    kind: str, y: Any, scores: Any, prior: Any, *, sample_weight: Any = None, groups: Any = None
) -> float:
    """1 − loss / loss of the training prior: 0 is the prior, 1 is perfect, negative is worse than knowing nothing.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
        The kind of the task, which has its proper loss.
    y : array of shape (n,)
        Encoded labels; NaN is unlabelled.
    scores : array of shape (n,), or (n, n_classes) for multiclass
        Scores as from ``predict_scores``.
    prior : float, or array of shape (n_classes,) for multiclass
        What a model that saw only the training labels predicts, as from `prior_scores`.
    sample_weight : array of shape (n,), default=None
        Non-negative weights.
    groups : array of shape (n,), default=None
        Query of each row; a ranking needs it.

    Returns
    -------
    float
        At most 1; NaN without labels. Where the prior is perfect: 1 if the scores are too, else −inf.

    Examples
    --------
    >>> from mtl_classic.metrics import normalized_score
    >>> normalized_score("regression", [1.0, 3.0], [1.0, 2.0], prior=2.0)
    0.5
    """
    values = as_floats(scores, "scores")
    constant = np.broadcast_to(as_floats(prior, "prior"), values.shape)
    own = task_loss(kind, y, values, sample_weight=sample_weight, groups=groups)
    reference = task_loss(kind, y, constant, sample_weight=sample_weight, groups=groups)
    if np.isnan(own):
        return own
    if reference > core.least_loss(kind):
        return 1.0 - own / reference
    return 1.0 if own <= core.least_loss(kind) else float("-inf")
