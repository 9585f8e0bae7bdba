"""Slow twins of the ranking metrics: one query at a time, ties by going through all their orders."""

from itertools import permutations, product

import numpy as np


def orders_of_ties(scores):
    """All orders from the highest score down that differ only among tied rows."""
    runs = [np.flatnonzero(scores == s) for s in sorted(set(scores), reverse=True)]
    for parts in product(*(permutations(run) for run in runs)):
        yield np.array([i for part in parts for i in part], dtype=int)


def dcg(gains, k):
    return sum(g / np.log2(2 + i) for i, g in enumerate(gains[:k]))


def ndcg_of_query(y, scores, k=None, gain="exponential"):
    gains = 2.0**y - 1 if gain == "exponential" else y
    k = len(y) if k is None else k
    best = dcg(sorted(gains, reverse=True), k)
    return np.mean([dcg(gains[order], k) for order in orders_of_ties(scores)]) / best if best > 0 else np.nan


def average_precision_of_order(relevant, k):
    seen = total = 0
    for i, r in enumerate(relevant[:k]):
        seen += r
        total += r * seen / (i + 1)
    return total / min(k, relevant.sum())


def average_precision_of_query(y, scores, k=None):
    relevant = (y > 0).astype(int)
    k = len(y) if k is None else k
    if not relevant.any():
        return np.nan
    return np.mean([average_precision_of_order(relevant[order], k) for order in orders_of_ties(scores)])


def auc_of_query(y, scores):
    pairs = [(s > t) + 0.5 * (s == t) for s in scores[y > 0] for t in scores[y == 0]]
    return np.mean(pairs) if pairs else np.nan


def over_queries(function, y, scores, groups, weight=None, **options):
    """Weighted mean over queries of a function of one query; unlabelled and weightless rows leave first."""
    weight = np.ones(len(y)) if weight is None else weight
    known = ~np.isnan(y) & (weight > 0)
    y, scores, groups, weight = y[known], scores[known], groups[known], weight[known]
    values, weights = [], []
    for group in dict.fromkeys(groups.tolist()):
        mine = groups == group
        value = function(y[mine], scores[mine], **options)
        if not np.isnan(value):
            values.append(value)
            weights.append(weight[mine].mean())
    return np.average(values, weights=weights) if values else np.nan
