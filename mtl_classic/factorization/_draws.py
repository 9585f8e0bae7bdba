"""Predictions of a Bayesian factorization machine: what its kept draws say on average, and how much they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import ndtr

from mtl_classic._kernels.fieldwise import score_draws
from mtl_classic.factorization._problem import Interactions

__all__ = ["Draws", "Scale", "scores_of_draws"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
SCORE_BYTES = 2**24  # room for the scores of some rows under all draws


@dataclass(frozen=True)
class Scale:
    """Targets as (y − mean) / deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, targets: Array, weights: Array) -> Scale:
        """Mean and standard deviation of the targets; the latter 1 where they are constant."""
        y, w = np.asarray(targets, dtype=np.float64), np.asarray(weights, dtype=np.float64)
        if ((used := y[w > 0]) == used[0]).all():  # their mean may be off by a bit, and that bit is no deviation
            return cls(float(used[0]))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.average(y, weights=w))
            deviation = float(np.sqrt(np.average((y - mean) ** 2, weights=w)))
        if not np.isfinite(deviation):
            raise ValueError(
                f"Labels up to {np.abs(y).max():g} are too large: their variance overflows. Divide them by something."
            )
        return cls(mean, deviation if deviation > 0 else 1.0)

    def apply(self, targets: Array) -> Floats:
        """Scaled targets."""
        return (np.asarray(targets, dtype=np.float64) - self.mean) / self.deviation


class Draws:
    """Kept draws of bias, weights and factors, float32, those of a column beside each other.

    A column that no row of the fit contains has no posterior but its prior. The score is linear in each single
    parameter, so that means over the draws hold the mean of the prior in its place, without its noise; only standard
    deviations need the draws themselves.

    Parameters
    ----------
    n_columns, n_factors, n_draws : int
    interactions : Interactions
    probit : bool
        Whether predictions are Φ(score).
    scale : Scale
        Of the targets; undone in the scores.
    """

    def __init__(
        self, n_columns: int, n_factors: int, n_draws: int, interactions: Interactions, probit: bool, scale: Scale
    ) -> None:
        self.interactions, self.probit, self.scale = interactions, probit, scale
        self.n_draws = 0
        self.factors = np.zeros((n_columns, n_draws, n_factors), dtype=np.float32)
        self.linear = np.zeros((n_columns, n_draws), dtype=np.float32)
        self.bias = np.zeros(n_draws, dtype=np.float32)
        self.noise_variance = np.zeros(n_draws)
        self.unseen = np.zeros(0, dtype=np.int64)
        self.unseen_factors, self.unseen_linear = self.factors[:0].copy(), self.linear[:0].copy()
        self.unseen_precision = np.zeros((0, n_draws, 1 + n_factors), dtype=np.float32)

    def keep(self, chain: Any) -> None:
        """Copy the state of a `Chain`."""
        columns, d = chain.blocks.columns, self.n_draws
        if d == 0:
            self.unseen = columns[~chain.filled]
            self.unseen_factors = np.zeros((len(self.unseen), *self.factors.shape[1:]), dtype=np.float32)
            self.unseen_linear = np.zeros((len(self.unseen), self.linear.shape[1]), dtype=np.float32)
            shape = (len(self.unseen), self.linear.shape[1], 1 + self.factors.shape[2])
            self.unseen_precision = np.zeros(shape, dtype=np.float32)
        self.factors[columns, d], self.linear[columns, d] = chain.factors.T, chain.linear
        self.bias[d], self.noise_variance[d] = chain.bias, self.scale.deviation**2 / chain.alpha
        if len(self.unseen):
            empty = ~chain.filled
            self.unseen_factors[:, d], self.unseen_linear[:, d] = chain.factors[:, empty].T, chain.linear[empty]
            self.factors[self.unseen, d], self.linear[self.unseen, d] = (
                chain.prior[0, 1:, empty],
                chain.prior[0, 0, empty],
            )
            self.unseen_precision[:, d] = chain.prior[1][:, empty].T
        self.n_draws += 1

    def mean(self, X: sparse.csr_matrix) -> Floats:
        """Mean prediction of each row, (n,): a number, or the probability of the positive class."""
        return self._moments(X, self.factors, self.linear)[0]

    def mean_score(self, X: sparse.csr_matrix) -> Floats:
        """Mean score of each row, (n,), before Φ."""
        return self._moments(X, self.factors, self.linear, link=False)[0]

    def row_score(self, columns: Array, values: Array) -> float:
        """`mean_score` of one row, at the cost of its entries: ascending columns, and what is in them."""
        factors, parts = self.factors[columns], self.interactions.parts
        norms = np.einsum("jdf,jdf->jd", factors, factors)
        among = Interactions(None if parts is None else parts[columns], self.interactions.mixing)
        row = _OneRow(values, np.arange(len(columns)), np.array([0, len(columns)]))
        scores = scores_of_draws(row, factors, norms, self.linear[columns], self.bias, among, 0, 1)
        return float((scores.astype(np.float64) * self.scale.deviation + self.scale.mean).mean(axis=1)[0])

    def std(self, X: sparse.csr_matrix) -> Floats:
        """Standard deviation of the prediction between draws, (n,): how well the mean is known; noise is not in it."""
        factors, linear = self.factors, self.linear
        if len(self.unseen):
            factors, linear = factors.copy(), linear.copy()
            factors[self.unseen], linear[self.unseen] = self.unseen_factors, self.unseen_linear
        return self._moments(X, factors, linear)[1]

    def _moments(self, X: sparse.csr_matrix, factors: Array, linear: Array, link: bool = True) -> tuple[Floats, Floats]:
        n = X.shape[0]
        mean, std = np.empty(n), np.empty(n)
        norms = np.einsum("jdf,jdf->jd", factors, factors)
        step = max(1, SCORE_BYTES // (8 * len(self.bias)))
        for first in range(0, n, step):
            stop = min(first + step, n)
            scores = scores_of_draws(X, factors, norms, linear, self.bias, self.interactions, first, stop)
            values = scores.astype(np.float64) * self.scale.deviation + self.scale.mean
            values = ndtr(values) if self.probit and link else values
            mean[first:stop], std[first:stop] = values.mean(axis=1), values.std(axis=1)
        return mean, std


class _OneRow(NamedTuple):
    """What the kernel reads of a matrix, without the checks of one."""

    data: Array
    indices: Array
    indptr: Array


def scores_of_draws(
    X: sparse.csr_matrix | _OneRow,
    factors: Array,
    norms: Array,
    linear: Array,
    bias: Array,
    interactions: Interactions,
    first: int,
    stop: int,
) -> Array:
    """Scores of the rows first … stop under each draw, (rows, n_draws), in the dtype of the parameters."""
    n_columns, n_draws, n_factors = factors.shape
    dtype = factors.dtype
    parts = interactions.parts if interactions.parts is not None else np.zeros(n_columns, dtype=np.int64)
    mixing = interactions.mixing if interactions.mixing is not None else np.ones((1, 1))
    scores = np.empty((stop - first, n_draws), dtype=dtype)
    sums = np.empty((interactions.n_parts, n_draws * n_factors), dtype=dtype)
    score_draws(
        X.indptr.astype(np.int64, copy=False),
        X.indices.astype(np.int64, copy=False),
        X.data,
        np.asarray(parts, dtype=np.int64),
        np.asarray(mixing, dtype=dtype),
        factors.reshape(n_columns, -1),
        norms,
        linear,
        bias,
        first,
        sums,
        scores,
    )
    return scores
