"""Metrics of rankings within groups (queries, users, sessions), vectorized over groups.

Rows are sorted once by group and score; sums over groups and over tied scores are `bincount`. Tied scores count as what
a random order of them would give on average, so a constant score is worth what chance is.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mtl_classic._core.options import COUNT, check_option
from mtl_classic.metrics._arrays import Codes, Floats, as_floats, check_scores, check_weight, divide, factorize

Average = Literal["query", "row"] | None


class PerQuery(NamedTuple):
    """A metric of each group that has labelled rows; groups where it is undefined are NaN."""

    values: Floats
    weight: Floats  # mean weight of the group's rows
    rows: Floats  # number of labelled rows
    first: Codes  # position of the group's first labelled row
    keys: pd.Index


def ndcg(
    y: Any,
    scores: Any,
    groups: Any,
    *,
    k: int | None = None,
    gain: Literal["exponential", "linear"] = "exponential",
    sample_weight: Any = None,
    average: Average = "query",
) -> float | pd.Series:
    """Normalized discounted cumulative gain: Σ_{i ≤ k} g(y_i) / log2(1 + i), over the same for the best order.

    Cost O(n log n) for n rows, whatever the number of groups.

    Parameters
    ----------
    y : array of shape (n,)
        Relevance, ≥ 0; NaN is unlabelled: the row is not in the list.
    scores : array of shape (n,)
        The larger, the further up.
    groups : array of shape (n,) or frame
        The query of each row: any hashables, or columns that together name it.
    k : int, default=None
        Only the first k places count; None counts all.
    gain : {"exponential", "linear"}, default="exponential"
        g(y) = 2^y − 1, as in LightGBM and XGBoost, or y, as in scikit-learn.
    sample_weight : array of shape (n,), default=None
        A query's weight is the mean of its rows' weights; rows of weight zero are not in the list.
    average : {"query", "row"} or None, default="query"
        Mean over queries, each the same or by its number of rows; None returns the values of the queries.

    Returns
    -------
    float or Series
        In [0, 1]. Queries without a relevant row are undefined: NaN in the Series, left out of the mean.

    References
    ----------
    K. Järvelin, J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002, doi:10.1145/582415.582418;
    ties: F. McSherry, M. Najork, 2008, doi:10.1007/978-3-540-78646-7_38.

    Examples
    --------
    >>> from mtl_classic.metrics import ndcg
    >>> round(ndcg([1, 0, 0, 1], [0.9, 0.1, 0.8, 0.3], ["a", "a", "b", "b"]), 4)
    0.8155
    """
    return _average(per_query("ndcg", y, scores, groups, k=k, gain=gain, sample_weight=sample_weight), average)


def mean_average_precision(
    y: Any,
    scores: Any,
    groups: Any,
    *,
    k: int | None = None,
    sample_weight: Any = None,
    average: Average = "query",
) -> float | pd.Series:
    """Mean over queries of AP@k = Σ_{i ≤ k} [y_i > 0] precision_i / min(k, number of relevant rows).

    Parameters
    ----------
    y : array of shape (n,)
        Relevance; a row is relevant where it is larger than 0; NaN is unlabelled: the row is not in the list.
    scores : array of shape (n,)
        The larger, the further up. Unlike `average_precision`, where tied rows enter together, tied rows count as in a
        random order.
    groups : array of shape (n,) or frame
        The query of each row: any hashables, or columns that together name it.
    k : int, default=None
        Only the first k places count; None counts all.
    sample_weight : array of shape (n,), default=None
        A query's weight is the mean of its rows' weights; rows of weight zero are not in the list.
    average : {"query", "row"} or None, default="query"
        Mean over queries, each the same or by its number of rows; None returns the values of the queries.

    Returns
    -------
    float or Series
        In [0, 1]. Queries without a relevant row are undefined: NaN in the Series, left out of the mean.

    References
    ----------
    Ties: F. McSherry, M. Najork, Computing information retrieval performance measures efficiently in the presence of
    tied scores, 2008, doi:10.1007/978-3-540-78646-7_38.

    Examples
    --------
    >>> from mtl_classic.metrics import mean_average_precision
    >>> mean_average_precision([1, 0, 0, 1], [0.9, 0.1, 0.8, 0.3], ["a", "a", "b", "b"])
    0.75
    """
    return _average(per_query("map", y, scores, groups, k=k, sample_weight=sample_weight), average)


def grouped_auc(
    y: Any,
    scores: Any,
    groups: Any,
    *,
    sample_weight: Any = None,
    average: Average = "query",
) -> float | pd.Series:
    """ROC AUC within each group (user, query): whether the order helps the one who sees it.

    Parameters
    ----------
    y : array of shape (n,)
        A row is positive where it is larger than 0; NaN is unlabelled.
    scores : array of shape (n,)
        The larger, the further up; ties count one half.
    groups : array of shape (n,) or frame
        The group of each row: any hashables, or columns that together name it.
    sample_weight : array of shape (n,), default=None
        A group's weight is the mean of its rows' weights; rows of weight zero are not in the list.
    average : {"query", "row"} or None, default="query"
        Mean over groups, each the same or by its number of rows ("GAUC" by impressions); None returns the values.

    Returns
    -------
    float or Series
        In [0, 1]. Groups with only positives or only negatives are undefined: NaN in the Series, left out of the mean.

    References
    ----------
    G. Zhou et al., Deep interest network for click-through rate prediction, 2018, doi:10.1145/3219819.3219823.

    Examples
    --------
    >>> from mtl_classic.metrics import grouped_auc
    >>> grouped_auc([1, 0, 0, 1], [0.9, 0.1, 0.8, 0.3], ["a", "a", "b", "b"])
    0.5
    """
    return _average(per_query("grouped_auc", y, scores, groups, sample_weight=sample_weight), average)


def per_query(
    metric: str,
    y: Any,
    scores: Any,
    groups: Any,
    *,
    k: int | None = None,
    gain: str = "exponential",
    sample_weight: Any = None,
) -> PerQuery:
    """The value of ``"ndcg"``, ``"map"`` or ``"grouped_auc"`` for each query."""
    check_option("k", k, (COUNT, None))
    if gain not in ("exponential", "linear"):
        raise ValueError(f'gain must be "exponential" or "linear", got {gain!r}.')
    labels, values = as_floats(y, "labels"), as_floats(scores, "scores")
    if labels.ndim != 1 or labels.shape != values.shape:
        raise ValueError(f"Labels of shape {labels.shape} and scores of shape {values.shape}; expected (n,) for both.")
    weight = check_weight(sample_weight, len(labels))
    codes, keys = factorize(groups, len(labels), "groups")
    known = np.flatnonzero(~np.isnan(labels) & (weight > 0))
    labels, values, weight, codes = labels[known], values[known], weight[known], codes[known]
    check_scores(values)
    if len(codes) and codes.min() < 0:
        raise ValueError(f"The group is missing in {int((codes < 0).sum())} labelled rows; every row needs its query.")
    if len(labels) and labels.min() < 0:
        raise ValueError(f"Relevance must not be negative; {int((labels < 0).sum())} labels are.")
    present, first, codes = _compact(codes, len(keys))
    lists = _sort(codes, values, len(present))
    if metric == "ndcg":
        result = _ndcg(lists, labels, np.exp2(labels) - 1 if gain == "exponential" else labels, codes, k)
    elif metric == "map":
        result = _average_precision(lists, (labels > 0).astype(np.float64), k)
    else:
        result = _auc(lists, (labels > 0).astype(np.float64))
    weights = np.bincount(codes, weight, len(present)) / np.maximum(lists.size, 1)
    return PerQuery(result, weights, lists.size, known[first], keys[present])


class _Lists(NamedTuple):
    """Rows sorted by group, then from the highest score down."""

    order: Codes
    group: Codes  # of each sorted row
    position: Codes  # within the group, from 0
    tie: Codes  # number of the run of equal scores
    size: Floats  # rows of each group


def _compact(codes: Codes, n_groups: int) -> tuple[Codes, Codes, Codes]:
    """The groups that occur, the first row of each, and codes that count only them."""
    first = np.full(n_groups, -1, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    present = np.flatnonzero(first >= 0)
    renumbered = np.cumsum(first >= 0) - 1
    return present, first[present], renumbered[codes]


def _sort(codes: Codes, scores: Floats, n_groups: int) -> _Lists:
    order = np.lexsort((-scores, codes))
    group, score = codes[order], scores[order]
    size = np.bincount(codes, minlength=n_groups)
    position = np.arange(len(codes)) - (np.cumsum(size) - size)[group]
    new = np.ones(len(codes), dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
    return _Lists(order, group, position, np.cumsum(new) - 1, size.astype(np.float64))


def _ndcg(lists: _Lists, y: Floats, gain: Floats, codes: Codes, k: int | None) -> Floats:
    discount = 1 / np.log2(lists.position + 2.0)
    if k is not None:
        discount[lists.position >= k] = 0.0
    n_groups = len(lists.size)
    # The best order has the same groups in the same places, so the discounts are the same.
    best = np.bincount(lists.group, gain[np.lexsort((-y, codes))] * discount, n_groups)
    got = np.bincount(lists.group, _tie_means(lists, gain[lists.order]) * discount, n_groups)
    return divide(got, best)


def _average_precision(lists: _Lists, relevant: Floats, k: int | None) -> Floats:
    """Expected AP over random orders of ties.

    In a run of n tied rows, r of them relevant, after s rows with r0 relevant ones, the row at place s + j is relevant
    with probability r/n, and then has r0 + 1 + (j − 1)(r − 1)/(n − 1) relevant rows up to itself.
    """
    relevant = relevant[lists.order]
    n = np.bincount(lists.tie)
    r = np.bincount(lists.tie, relevant)
    start = np.cumsum(n) - n
    seen = np.cumsum(r) - r  # over all groups, so the group's own start is taken off
    n_relevant = np.bincount(lists.group, relevant, len(lists.size))
    before = seen[lists.tie] - (np.cumsum(n_relevant) - n_relevant)[lists.group]
    j = np.arange(len(relevant)) - start[lists.tie]
    run, hits = n[lists.tie], r[lists.tie]
    up_to = before + 1 + j * (hits - 1) / np.maximum(run - 1, 1)
    expected = hits / run * up_to / (lists.position + 1)
    if k is not None:
        expected[lists.position >= k] = 0.0
    total = np.bincount(lists.group, expected, len(lists.size))
    possible = n_relevant if k is None else np.minimum(n_relevant, k)
    return divide(total, possible)


def _auc(lists: _Lists, positive: Floats) -> Floats:
    """Mann–Whitney: the rank sum of the positives within each group, tied rows sharing their mean rank."""
    n_groups = len(lists.size)
    # Ranks from the top, so a small sum is good.
    ranks = _tie_means(lists, (lists.position + 1).astype(np.float64))
    positive = positive[lists.order]
    p = np.bincount(lists.group, positive, n_groups)
    n = lists.size - p
    above = np.bincount(lists.group, ranks * positive, n_groups) - p * (p + 1) / 2
    return divide(p * n - above, p * n)


def _tie_means(lists: _Lists, values: Floats) -> Floats:
    """Every value replaced by the mean over its run of tied scores."""
    if not len(values) or lists.tie[-1] == len(values) - 1:
        return values
    means = np.bincount(lists.tie, values) / np.bincount(lists.tie)
    return np.asarray(means[lists.tie])


def _average(result: PerQuery, average: Average) -> float | pd.Series:
    if average is None:
        return pd.Series(result.values, index=result.keys)
    if average not in ("query", "row"):
        raise ValueError(f'average must be "query", "row" or None, got {average!r}.')
    defined = ~np.isnan(result.values)
    if not defined.any():
        return float("nan")
    weight = result.weight * result.rows if average == "row" else result.weight
    return float(np.average(result.values[defined], weights=weight[defined]))
