"""The listwise loss of rankings: what scores are fitted to that a slope is wanted of, as NDCG has none.

Of each query the cross-entropy of the softmax of its scores against its rows' shares of gain 2^y − 1 (ListNet; Z. Cao
et al., 2007, doi:10.1145/1273496.1273513): convex in the scores, and least where they are the logarithms of the gains.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mtl_classic._core.losses import query_weights

__all__ = ["by_query", "gain_shares", "listwise", "query_softmax"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def gain_shares(y: Floats, groups: Codes) -> Floats:
    """Each row's share of its query's gain; NaN in queries without any. Codes of queries from 0."""
    gain = np.exp2(y) - 1
    total = np.bincount(groups, gain)[groups]
    return np.where(total > 0, gain / np.maximum(total, 1e-300), np.nan)


def query_softmax(score: Floats, groups: Codes) -> Floats:
    """exp(score) as a share of its query's sum; rows of score −inf have none. Codes of queries from 0."""
    top = np.full(groups.max(initial=-1) + 1, -np.inf)
    np.maximum.at(top, groups, score)
    lifted = np.exp(score - np.where(np.isfinite(top), top, 0.0)[groups])
    return np.asarray(lifted / np.maximum(np.bincount(groups, lifted), 1e-300)[groups])


def by_query(y: Floats, queries: Codes, weight: Floats) -> tuple[Codes, Floats, Floats]:
    """What `listwise` wants of labelled rows: codes from 0, shares of gain, and weights.

    A row's weight is the mean of its query's rows, and 0 where the query has no gain to tell rows apart by.
    """
    groups = np.unique(queries, return_inverse=True)[1]
    share = gain_shares(y, groups)
    return groups, np.nan_to_num(share), np.where(np.isnan(share), 0.0, query_weights(y, groups, weight))


def listwise(share: Floats, score: Floats, groups: Codes) -> tuple[Floats, Floats]:
    """The part of each row in its query's loss, and the slope of that loss in the row's score."""
    p = query_softmax(score, groups)
    return -share * np.log(np.maximum(p, 1e-300)), p - share
