"""Regularization that follows the label: the rarer its positives, the stronger; and the width of the table.

A leaf of a log-loss tree with hessian sum h holds about h / (1 − p) positives, so where positives are rare a bound on
the hessian is a bound on the positives that a leaf must rest on; libraries' default of 0.001 lets it rest on a single
one. Where they are common the same bound would forbid what is good: pure leaves, whose hessians are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["TreeDefaults", "n_bins", "tree_defaults"]

PLENTY = 20_000  # rows of the rarer class from which on trees gain more from differing than from the best column
RARITY = 0.03  # the share of the rarer class at which a leaf needs a hessian of 1; in inverse proportion elsewhere
BINS = (32, 256)  # of XGBoost, the fewest and the most
COLUMNS_OF_A_TREE = 24  # enough to choose from: of wide tables a tree is shown a smaller share


@dataclass(frozen=True)
class TreeDefaults:
    """Label-dependent settings of boosted trees.

    Attributes
    ----------
    num_leaves : int
    min_hessian : float
        Least sum of hessians in a leaf.
    min_rows : int
        Least number of rows in a leaf.
    l2 : float
    feature_fraction : float
    learning_rate : float
    n_rounds : int
        Rounds where there are too few validation labels to stop by, for the ``learning_rate``.
    """

    num_leaves: int
    min_hessian: float
    min_rows: int
    l2: float
    feature_fraction: float
    learning_rate: float
    n_rounds: int


def n_bins(n_rows: int) -> int:
    """A fifth of the rows: a histogram with as many bins as rows takes more time than the rows, and tells no more."""
    return int(np.clip(n_rows // 5, *BINS))


def tree_defaults(kind: str, y: npt.NDArray[np.float64], n_columns: int = 0) -> TreeDefaults:
    """Settings for labels ``y`` (training rows only) and a table of ``n_columns`` features.

    Parameters
    ----------
    kind : str
    y : ndarray of shape (n,)
        Encoded labels, no NaN.
    n_columns : int, default=0
        0 where it is not known, which counts as few.

    Notes
    -----
    With support s, the rows of the rarer class (of several the median one, but no more than lie outside the commonest;
    the non-zero counts; all rows of a regression), of n:
    for classes ``min_hessian`` is min(s / 20, 50, 0.03 n / s), and ``feature_fraction`` 0.5 where s > 20,000, else 0.7,
    but no more than max(0.35, 24 / ``n_columns``); ``n_rounds`` is 10 √s between 20 and 60, and 2 √s up to 100 above,
    for steps of 0.05. Chosen on validation rows of retail, hotel, income and bird tables (``n_rounds`` on folds of
    small ones), where the loss is flat around them: stronger ``l2``, path smoothing, fewer bins, other rounds at the
    refit, or two bounds raced for 20 rounds move its mean by 0.2 % at most.
    """
    support = _support(kind, y)
    min_hessian = float(np.clip(support / 20, 1e-3, 50.0))
    if kind in ("binary", "multiclass"):
        min_hessian = min(min_hessian, RARITY * len(y) / max(support, 1.0))
    learning_rate = 0.1 if kind == "count" else 0.05  # Poisson steps are held short by LightGBM already
    n_rounds = max(min(10 * np.sqrt(support), 60), min(2 * np.sqrt(support), 100))
    return TreeDefaults(
        num_leaves=int(np.clip(np.sqrt(support), 7, 15 if kind == "count" else 31)),
        min_hessian=min_hessian if kind in ("binary", "multiclass", "count") else 1e-3,
        min_rows=int(np.clip(len(y) / 200, 3, 50 if kind in ("regression", "count") else 20)),
        l2=1.0,
        feature_fraction=min(0.5 if support > PLENTY else 0.7, max(0.35, COLUMNS_OF_A_TREE / max(n_columns, 1))),
        learning_rate=learning_rate,
        n_rounds=int(max(n_rounds, 20) * 0.05 / learning_rate),
    )


def _support(kind: str, y: npt.NDArray[np.float64]) -> float:
    """How many rows carry the information: the rarer class, the non-zero counts, else all rows.

    Of several classes the median one, or all beside the commonest where they are fewer, as of two classes.
    """
    n = len(y)
    if kind == "binary":
        return float(min(y.sum(), n - y.sum()))
    if kind == "multiclass":
        counts = np.bincount(y[y >= 0].astype(np.intp))
        return float(min(np.median(counts[counts > 0]), n - counts.max())) if len(counts) else 0.0
    if kind == "count":
        return float(np.minimum(y, 1).sum())
    if kind == "ranking":
        return float((y > 0).sum())
    return float(n)
