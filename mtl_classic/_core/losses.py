"""The proper loss of each kind, row by row: what early stopping, fallbacks, scores and reports all mean by "loss"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "EPSILON",
    "is_learnable",
    "least_loss",
    "losses",
    "ndcg_losses",
    "prior_scores",
    "query_weights",
    "task_loss",
]

EPSILON = 1e-7  # probabilities and means are clipped to this before a logarithm

Floats = npt.NDArray[np.float64]


def is_learnable(kind: str, y: Floats) -> npt.NDArray[np.bool_]:
    """Whether each encoded label tells anything: it is there, and of a class that the fit saw."""
    return ~np.isnan(y) & (y >= 0 if kind == "multiclass" else True)


def losses(kind: str, y: Floats, score: Floats) -> Floats:
    """Pointwise loss; NaN where the label is.

    ``binary``: −y log p − (1 − y) log(1 − p) (soft labels: minus their entropy is left out); ``multiclass``: −log p_y;
    ``regression``: (y − f)²; ``count``: Poisson deviance 2 (y log(y / f) − y + f).

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count"}
    y : ndarray of shape (n,)
        Encoded labels (multiclass: codes, -1 for a class unseen at fit).
    score : ndarray of shape (n,), or (n, n_classes) for multiclass
    """
    if kind == "binary":
        p = np.clip(score, EPSILON, 1 - EPSILON)
        return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))
    if kind == "multiclass":
        known = ~np.isnan(y)
        code = np.where(known, y, 0).astype(np.intp)
        p = np.where(code >= 0, np.take_along_axis(score, np.maximum(code, 0)[:, None], axis=1)[:, 0], 0.0)
        return np.where(known, -np.log(np.clip(p, EPSILON, 1.0)), np.nan)
    if kind == "regression":
        return np.asarray((y - score) ** 2)
    if kind == "count":
        mean = np.maximum(score, EPSILON)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(y > 0, y * np.log(y / mean), 0.0)
        return np.asarray(2 * (ratio - y + mean))
    raise ValueError(f"No pointwise loss for the kind {kind!r}.")


def ndcg_losses(y: Floats, score: Floats, groups: npt.NDArray[np.intp]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """1 − NDCG of each query, with gains 2^y − 1 and tied scores sharing their discounts.

    Returns
    -------
    loss : ndarray of shape (n_queries,)
        Queries without any relevant row are left out.
    query : ndarray of shape (n_queries,)
        The group code of each.
    """
    known = ~np.isnan(y)
    y, score, groups = y[known], score[known], groups[known]
    codes, group = np.unique(groups, return_inverse=True)
    gain = np.exp2(y) - 1
    best = gain[np.lexsort((-y, group))] * _discounts(np.sort(group))
    ideal = np.bincount(np.sort(group), best, len(codes)).astype(np.float64)
    order = np.lexsort((-score, group))
    sorted_group, sorted_score = group[order], score[order]
    new_tie = np.r_[True, (sorted_group[1:] != sorted_group[:-1]) | (sorted_score[1:] != sorted_score[:-1])][
        : len(order)
    ]
    tie = np.cumsum(new_tie) - 1
    discount = _discounts(sorted_group)
    shared = (np.bincount(tie, discount) / np.bincount(tie))[tie] if len(order) else discount
    dcg = np.bincount(sorted_group, gain[order] * shared, len(codes))
    relevant = ideal > 0
    return 1 - dcg[relevant] / ideal[relevant], codes[relevant]


def _discounts(sorted_group: npt.NDArray[np.intp]) -> Floats:
    """1 / log2(1 + rank) within each run of equal groups."""
    n = len(sorted_group)
    start = np.r_[True, sorted_group[1:] != sorted_group[:-1]][:n]
    rank = np.arange(n) - np.maximum.accumulate(np.where(start, np.arange(n), 0))
    return np.asarray(1 / np.log2(rank + 2.0))


def task_loss(
    kind: str, y: Floats, score: Floats, weight: Floats | None = None, groups: npt.NDArray[np.intp] | None = None
) -> float:
    """Weighted mean loss over the labelled rows; NaN where there is none.

    Ranking: over the queries that have a relevant row, each with the mean weight of its rows.
    """
    if kind == "ranking":
        if groups is None:
            raise ValueError("The loss of a ranking task needs groups, the code of each row's query.")
        if weight is not None:
            y = np.where(weight > 0, y, np.nan)
        per_query, query = ndcg_losses(y, score, groups)
        shares = None
        if weight is not None:
            codes, first = np.unique(groups, return_index=True)
            shares = query_weights(y, groups, weight)[first[np.searchsorted(codes, query)]]
        return float(np.average(per_query, weights=shares)) if len(per_query) else float("nan")
    known = ~np.isnan(y)
    if weight is not None:
        known &= weight > 0
    if not known.any():
        return float("nan")
    values = losses(kind, y[known], score[known])
    return float(np.average(values, weights=None if weight is None else weight[known]))


def query_weights(y: Floats, groups: npt.NDArray[np.intp], weight: Floats) -> Floats:
    """What the loss of each row's query weighs: the mean weight of the query's labelled rows of some weight."""
    known = ~np.isnan(y) & (weight > 0)
    codes, group = np.unique(groups, return_inverse=True)
    total, rows = (np.bincount(group[known], of, len(codes)) for of in (weight[known], None))
    return np.asarray((total / np.maximum(rows, 1))[group])


def least_loss(kind: str) -> float:
    """What a perfect prediction of hard labels may cost, because probabilities and means are clipped."""
    return 0.0 if kind in ("regression", "ranking") else 2.001 * EPSILON


def prior_scores(kind: str, y: Floats, n_classes: int = 0, weight: Floats | None = None) -> Floats:
    """What a model that knows only the labels would predict: the weighted mean, or the class frequencies.

    Returns
    -------
    ndarray of shape () or (n_classes,)
    """
    known = is_learnable(kind, y)
    share = np.ones(len(y)) if weight is None or not weight[known].sum() > 0 else weight
    if kind == "multiclass":
        codes = y[known].astype(np.intp)
        counts = np.bincount(codes, share[known], minlength=n_classes)
        return np.asarray(counts / max(float(counts.sum()), EPSILON))
    if kind == "ranking" or not known.any():
        return np.asarray(0.0)
    return np.asarray(np.average(y[known], weights=share[known]))
