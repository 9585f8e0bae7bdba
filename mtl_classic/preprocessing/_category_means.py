"""Smoothed means of all label columns per category: the arithmetic of target statistics, on codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

__all__ = ["CategoryMeans"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class CategoryMeans(BaseEstimator):
    """Means per category and label column, shrunk to the column's mean; an estimator, so that it can be cross-fitted.

    Parameters
    ----------
    sizes : sequence of int
        Number of codes of each key. A code is in 0 … size − 1, or −1 (in `transform` only) for an unseen value.
    smooth : float or "auto"
        Rows of the overall mean that are added to every category; "auto" estimates it per key and label column.
    counts : bool
        Whether `transform` gives the number of labelled rows too.

    Attributes
    ----------
    prior_ : ndarray of shape (n_labels,)
        Mean of each label column, NaN if it has no label.
    smooth_ : ndarray of shape (n_keys, n_labels)
        Rows of the overall mean that were added; inf where categories tell nothing.
    means_, counts_ : list of ndarray of shape (size + 1, n_labels)
        For each key; the last row is that of unseen values.
    """

    def __init__(self, sizes: Sequence[int], smooth: float | str = "auto", counts: bool = False) -> None:
        self.sizes = sizes
        self.smooth = smooth
        self.counts = counts

    def fit(self, codes: Ints, labels: Floats, sample_weight: Floats | None = None) -> Self:
        """Learn from codes of shape (n, n_keys), labels and weights of shape (n, n_labels); a NaN label is none."""
        weights = _as_repetitions(labels, sample_weight) if self.smooth == "auto" else sample_weight
        self.prior_ = _means(labels, weights)
        self.means_, self.counts_ = [], []
        self.smooth_ = np.empty((len(self.sizes), labels.shape[1]))
        for k, (n, total, square) in enumerate(_sums(codes, self.sizes, labels, self.prior_, weights)):
            self.smooth_[k] = _strength(n, total, square) if self.smooth == "auto" else float(self.smooth)
            divisor = n + self.smooth_[k]
            shift = np.divide(total, divisor, out=np.zeros_like(total), where=divisor > 0)
            self.means_.append(np.vstack([self.prior_ + shift, self.prior_]))
            self.counts_.append(np.vstack([n, np.zeros_like(self.prior_)]))
        return self

    def transform(self, codes: Ints) -> Floats:
        """Statistics of shape (n, n_outputs): per key the means of all label columns, then their counts."""
        tables = [t[k] for k in range(len(self.sizes)) for t in (self.means_, self.counts_)[: 1 + self.counts]]
        width, per_key = len(self.prior_), 1 + self.counts
        out = np.empty((len(codes), len(tables) * width), order="F")  # as the columns of a frame
        for j, table in enumerate(tables):
            out[:, j * width : (j + 1) * width] = table[codes[:, j // per_key]]
        return out

    def priors(self) -> Floats:
        """The outputs of a row about which nothing is known, shape (n_outputs,)."""
        return self.transform(np.full((1, len(self.sizes)), -1))[0]


def _as_repetitions(labels: Floats, weights: Floats | None) -> Floats | None:
    """Weights of a mean of at least one over the rows that count, for each label column.

    A weight of 2 is a row seen twice. Weights that are all small (a decay over time) are no reason to see fewer rows
    than there are: the degrees of freedom would vanish, and with them what the categories tell.
    """
    if weights is None:
        return None
    counts = np.where(np.isnan(labels), 0.0, weights)
    rows, total = (counts > 0).sum(axis=0), counts.sum(axis=0)
    return np.asarray(weights * np.maximum(1.0, np.divide(rows, total, out=np.ones(len(rows)), where=total > 0)))


def _means(labels: Floats, weights: Floats | None) -> Floats:
    known = ~np.isnan(labels)
    w = known.astype(np.float64) if weights is None else np.where(known, weights, 0.0)
    n = w.sum(axis=0)
    w *= labels
    w[~known] = 0.0
    return np.divide(w.sum(axis=0), n, out=np.full(labels.shape[1], np.nan), where=n > 0)


def _sums(
    codes: Ints, sizes: Sequence[int], labels: Floats, prior: Floats, weights: Floats | None
) -> list[list[Floats]]:
    """For each key number, sum and sum of squares of the deviations from the prior, each of shape (size, n_labels).

    Sums of squares of deviations lose no digits, however far the mean is from zero.
    """
    sums = [[np.empty((size, labels.shape[1])) for _ in range(3)] for size in sizes]
    for t in range(labels.shape[1]):
        known = np.flatnonzero(~np.isnan(labels[:, t]))
        d = labels[known, t] - prior[t]
        w = np.ones_like(d) if weights is None else weights[known, t]
        parts = (w, w * d, w * d * d)
        for k, size in enumerate(sizes):
            code = codes[known, k]
            for out, part in zip(sums[k], parts, strict=True):
                out[:, t] = np.bincount(code, part, size)
    return sums


def _strength(n: Floats, total: Floats, square: Floats) -> Floats:
    """The m = σ² / τ² of a one-way random-effects model, by the analysis of variance; shape (n_labels,).

    σ² is the variance within categories, τ² that of the categories' means; inf where τ² ≤ 0 or σ² can't be known.
    """
    rows, used = n.sum(axis=0), (n > 0).sum(axis=0)
    between = np.divide(total**2, n, out=np.zeros_like(total), where=n > 0).sum(axis=0)
    within = np.maximum(square.sum(axis=0) - between, 0.0)
    strength = np.full(n.shape[1], np.inf)
    ok = (used > 1) & (rows > used)
    size = (rows[ok] - (n[:, ok] ** 2).sum(axis=0) / rows[ok]) / (used[ok] - 1)
    sigma2 = within[ok] / (rows[ok] - used[ok])
    tau2 = (between[ok] / (used[ok] - 1) - sigma2) / size
    strength[ok] = np.divide(sigma2, tau2, out=np.full(len(tau2), np.inf), where=tau2 > 0)
    return strength
