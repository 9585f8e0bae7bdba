"""The state of a field-wise solver: residuals, parameters and their priors, and the steps that move them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import log_ndtr, ndtri_exp

from mtl_classic._kernels.fieldwise import WEIGHT, sweep
from mtl_classic.factorization._draws import Scale, scores_of_draws
from mtl_classic.factorization._patterns import find_patterns, guess_fields
from mtl_classic.factorization._problem import Parameters, Problem

__all__ = ["Chain"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
INIT_SCALE = 0.1  # of the factors, where targets have a standard deviation of 1


class Chain:
    """What sweeps move.

    Columns are in the order of the blocks. `linear` (n_columns,), `factors` (n_factors, n_columns), `prior`
    (2, 1 + n_factors, n_columns): mean and precision, of the weights first. `residual` = `target` − score, always.
    Rows are in the `order` of the patterns of the largest block, so that a pass over them goes through its sums once,
    and does not jump: with 10⁴ users and more that takes a third off.

    Parameters
    ----------
    problem : Problem
        All weights positive.
    n_factors : int
    rng : Generator
        For the first factors and everything drawn later.
    target : ndarray of shape (n,), float64
    """

    def __init__(self, problem: Problem, n_factors: int, rng: np.random.Generator, target: Floats) -> None:
        X = problem.X.sorted_indices()
        field_of, part_of_field = _fields(X, problem)
        blocks = find_patterns(X, field_of, part_of_field)
        self.order = np.argsort(blocks.codes[0], kind="stable")
        self.blocks = replace(blocks, codes=blocks.codes[:, self.order])
        self.rng, self.target = rng, target[self.order]
        weights = np.asarray(problem.weights, dtype=np.float64)[self.order]
        self.weights = None if (weights == 1).all() else weights
        mixing = problem.interactions.mixing
        self.mixing = None if mixing is None else np.asarray(mixing, dtype=np.float64)
        n_columns = X.shape[1]
        self.filled = np.diff(self.blocks.indptr) > 0
        self.fields = _Groups(field_of[self.blocks.columns], self.filled)
        self.bias, self.alpha = 0.0, 1.0
        self.linear = np.zeros(n_columns)
        self.factors = rng.normal(0.0, INIT_SCALE, (n_factors, n_columns)) * self.filled
        self.prior = np.stack([np.zeros((1 + n_factors, n_columns)), np.ones((1 + n_factors, n_columns))])
        self.no_noise = np.zeros((1 + n_factors, n_columns))
        self.q = np.empty((problem.interactions.n_parts, X.shape[0]))
        self.table = np.zeros((self.blocks.n_patterns, 4))
        self.sums = np.empty((self.blocks.n_patterns, 2))
        self.held = np.empty((2, self.blocks.n_patterns, 2))
        for codes in self.blocks.codes:
            self.table[:, WEIGHT] += np.bincount(codes, self.weights, self.blocks.n_patterns)
        self.residual = self.target - self.scores(X, problem)[self.order]

    def scores(self, X: sparse.csr_matrix, problem: Problem) -> Floats:
        """Scores of any rows, (n,)."""
        factors, linear = self.by_column()
        norms = (factors**2).sum(axis=1)
        return np.asarray(
            scores_of_draws(
                X,
                factors[:, None],
                norms[:, None],
                linear[:, None],
                np.array([self.bias]),
                problem.interactions,
                0,
                X.shape[0],
            )[:, 0]
        )

    def by_column(self) -> tuple[Floats, Floats]:
        """Factors (n_columns, n_factors) and weights (n_columns,) in the order of the matrix."""
        factors, linear = np.empty(self.factors.T.shape), np.empty(self.linear.shape)
        factors[self.blocks.columns], linear[self.blocks.columns] = self.factors.T, self.linear
        return factors, linear

    def column_weights(self) -> Floats:
        """Σ of the weights of the rows that contain each column."""
        by_entry = self.table[self.blocks.patterns, WEIGHT]
        column = np.repeat(np.arange(len(self.linear)), np.diff(self.blocks.indptr))
        return np.asarray(np.bincount(column, by_entry, len(self.linear)), dtype=np.float64)

    def run(self, noise: Floats | None = None) -> None:
        """One sweep over bias, weights and factors; without noise each goes to its minimum."""
        total = len(self.residual) if self.weights is None else float(self.weights.sum())
        step = float(np.average(self.residual, weights=self.weights))
        step += 0.0 if noise is None else float(self.rng.standard_normal()) / np.sqrt(self.alpha * total)
        self.bias += step
        self.residual -= step
        b = self.blocks
        sweep(
            b.codes,
            b.starts,
            b.parts,
            b.simple,
            self.mixing,
            b.indptr,
            b.patterns,
            b.values,
            self.weights,
            self.residual,
            self.q,
            self.table,
            self.sums,
            self.held,
            self.linear,
            self.factors,
            self.prior,
            self.no_noise if noise is None else noise,
            self.alpha,
        )

    def draw_noise(self) -> Floats:
        """Standard normal numbers for a sweep."""
        return np.asarray(self.rng.standard_normal(self.no_noise.shape))

    def draw_alpha(self) -> None:
        """Draw the precision of the targets: Γ(½ (1 + n), ½ (1 + Σ s e²))."""
        squares = self.residual @ (self.residual if self.weights is None else self.weights * self.residual)
        self.alpha = float(self.rng.gamma(0.5 * (1 + len(self.residual)))) / (0.5 * (1 + float(squares)))

    def draw_prior(self) -> None:
        """Draw mean and precision of each field, for the weights and for each factor."""
        self.fields.draw(np.vstack([self.linear, self.factors]), self.prior, self.rng)

    def draw_target(self, positive: npt.NDArray[np.bool_]) -> None:
        """Draw the hidden target, N(score, 1 / weight) given that its sign is the label's."""
        score = self.target - self.residual
        root = 1.0 if self.weights is None else np.sqrt(self.weights)
        sign = np.where(positive[self.order], 1.0, -1.0)
        # The noise exceeds −bound, which has probability Φ(bound); by the inverse of Φ, in logarithms for the far tail.
        bound = sign * score * root
        noise = -ndtri_exp(np.log1p(-self.rng.random(len(bound))[self.order]) + log_ndtr(bound))
        self.target = score + sign * noise / root
        self.residual = self.target - score

    def write(self, parameters: Parameters, scale: Scale) -> None:
        """Copy into an estimator's parameters, on the targets' own scale."""
        factors, linear = self.by_column()
        seen = np.zeros(len(linear), dtype=bool)
        seen[self.blocks.columns] = self.filled
        root = np.sqrt(scale.deviation)
        parameters.factor_slots[:, 0, : factors.shape[1]] = np.where(seen[:, None], factors, 0.0) * root
        parameters.linear_slots[:, 0, 0] = np.where(seen, linear, 0.0) * scale.deviation
        parameters.bias[0] = self.bias * scale.deviation + scale.mean
        parameters.seen |= seen


class _Groups:
    """Columns with a common prior, beside each other; those without entries do not count."""

    def __init__(self, group: Ints, filled: npt.NDArray[np.bool_]) -> None:
        self.starts = np.flatnonzero(np.diff(group, prepend=-1))
        self.lengths = np.diff(np.append(self.starts, len(group)))
        self.filled = None if filled.all() else filled.astype(np.float64)
        self.counts = np.add.reduceat(filled.astype(np.float64), self.starts)

    def draw(self, values: Floats, prior: Floats, rng: np.random.Generator) -> None:
        r"""λ ~ Γ(½ (2 + n), ½ (1 + Σ (v − μ)² + μ²)), then μ ~ N(Σ v / (1 + n), 1 / (λ (1 + n)))."""
        mean, precision = prior[0], prior[1]
        shape = (len(values), len(self.starts))
        deviations = (values - mean) ** 2
        squares, total = self._sum(deviations), self._sum(values)
        known = self.counts > 0
        rate = 0.5 * (1.0 + squares + mean[:, self.starts] ** 2)
        drawn = rng.gamma(0.5 * (2.0 + self.counts), size=shape) / rate
        centre = total / (1.0 + self.counts) + rng.standard_normal(shape) / np.sqrt(drawn * (1.0 + self.counts))
        mean[:] = np.repeat(np.where(known, centre, 0.0), self.lengths, axis=1)
        precision[:] = np.repeat(np.where(known, drawn, 1.0), self.lengths, axis=1)

    def _sum(self, values: Floats) -> Floats:
        return np.add.reduceat(values if self.filled is None else values * self.filled, self.starts, axis=1)


def _fields(X: sparse.csr_matrix, problem: Problem) -> tuple[Ints, list[int]]:
    """Field of each column, and part of each field: those given, cut where they cross parts, or guessed ones."""
    if problem.fields is None:
        named = guess_fields(X)
    else:
        named = np.full(X.shape[1], len(problem.fields), dtype=np.int64)
        for k, columns in enumerate(problem.fields.values()):
            named[columns] = k
    parts = problem.interactions.parts
    part_of = np.zeros(X.shape[1], dtype=np.int64) if parts is None else np.asarray(parts, dtype=np.int64)
    pairs, field_of = np.unique(named * problem.interactions.n_parts + part_of, return_inverse=True)
    return field_of.astype(np.int64), [int(p) for p in pairs % problem.interactions.n_parts]
