"""Latent vectors from ratings: the factorization machine of two fields, by Gibbs sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mtl_classic.factorization._draws import Draws
from mtl_classic.factorization._implicit import with_mean
from mtl_classic.factorization._problem import Interactions, Parameters, Problem
from mtl_classic.factorization._settings import Settings
from mtl_classic.factorization._solvers_fieldwise import Gibbs

__all__ = ["ExplicitFactors", "fit_explicit"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MAX_DRAWS = 100
DRAW_BYTES = 2**27
ROWS_AT_ONCE = 4096


class ExplicitFactors:
    """Draws of rating = b + w_u + w_i + p_u · q_i, on the scale of a deviation of 1.

    The last user and the last item are those that nobody has seen: what the prior says of them.

    Parameters
    ----------
    draws : Draws
        Columns are the users and the unseen one, then the items and the unseen one.
    n_users : int
    vectors : ndarray of float32, shape (n_columns, n_factors)
        Of the last draw, on the scale of the ratings: a mean over draws would cancel what differs by signs and
        rotations.
    pairs : sequence of ndarray
        Codes of users and of items, ratings, weights: what the users' vectors come from.
    """

    def __init__(self, draws: Draws, n_users: int, vectors: Array, pairs: Sequence[Array]) -> None:
        cut = n_users + 1
        self.scale, self.pairs = draws.scale, pairs
        self.users, self.items = vectors[:n_users].copy(), vectors[cut:-1].copy()
        self.unseen = with_mean(self.users)[-1:]
        self.user_factors, self.item_factors = draws.factors[:cut].copy(), draws.factors[cut:].copy()
        self.user_linear, self.item_linear = draws.linear[:cut].copy(), draws.linear[cut:].copy()
        self.bias = draws.bias
        self.user_precision = draws.unseen_precision[np.flatnonzero(draws.unseen == n_users)[0]]
        self.alpha = draws.scale.deviation**2 / draws.noise_variance

    def score(self, user: Ints, item: Ints) -> Floats:
        """Mean ratings of pairs of codes, -1 for the unseen."""
        scores = np.empty(len(user))
        for start in range(0, len(user), ROWS_AT_ONCE):
            u, i = user[start : start + ROWS_AT_ONCE], item[start : start + ROWS_AT_ONCE]
            products = np.einsum("ndf,ndf->n", self.user_factors[u], self.item_factors[i], dtype=np.float64)
            scores[start : start + ROWS_AT_ONCE] = products / len(self.bias)
        scores += self.bias.mean() + self.user_linear.mean(axis=1)[user] + self.item_linear.mean(axis=1)[item]
        return scores * self.scale.deviation + self.scale.mean

    def fold_in(self, n_users: int, user: Ints, item: Ints, value: Floats, weight: Floats) -> None:
        """Add ratings and users, and move the vectors of the users they belong to.

        These go to their posterior mean under each draw of everything else.
        """
        n_new = n_users - len(self.users)
        touched, new = np.unique(user), (user, item, value, weight)
        self.pairs = [np.concatenate(both) for both in zip(self.pairs, new, strict=True)]
        order = np.argsort(self.pairs[0], kind="stable")
        starts = np.searchsorted(self.pairs[0][order], [touched, touched + 1])
        self.user_factors = _before_last(self.user_factors, n_new)
        self.user_linear = _before_last(self.user_linear, n_new)
        self.users = np.vstack([self.users, np.zeros((n_new, self.users.shape[1]), dtype=np.float32)])
        for u, start, stop in zip(touched, *starts, strict=True):
            solved = self._solve_user(*(column[order[start:stop]] for column in self.pairs[1:]))
            self.user_linear[u], self.user_factors[u] = solved[:, 0], solved[:, 1:]
            self.users[u] = solved[-1, 1:] * np.sqrt(self.scale.deviation)

    def _solve_user(self, item: Ints, value: Floats, weight: Floats) -> Floats:
        """Posterior mean of a user's weight and vector, (n_draws, 1 + n_factors)."""
        target = self.scale.apply(value)
        beside = np.concatenate([np.ones((len(item), len(self.bias), 1)), self.item_factors[item]], axis=2)
        error = target[:, None] - self.bias - self.item_linear[item]
        mean = np.concatenate([self.user_linear[-1][:, None], self.user_factors[-1]], axis=1)
        left = np.einsum("ndf,ndg,n,d->dfg", beside, beside, weight, self.alpha, optimize=True)
        left += np.einsum("df,fg->dfg", self.user_precision, np.eye(mean.shape[1]))
        right = np.einsum("ndf,nd,n,d->df", beside, error, weight, self.alpha, optimize=True)
        right += self.user_precision * mean
        return np.asarray(np.linalg.solve(left, right[:, :, None])[:, :, 0])


def fit_explicit(
    users: Ints,
    items: Ints,
    value: Floats,
    weight: Floats,
    shape: tuple[int, int],
    *,
    n_factors: int,
    max_iter: int,
    seed: int,
) -> ExplicitFactors:
    """Fit ratings of pairs of codes."""
    n, n_columns = len(users), shape[0] + shape[1] + 2
    indices = np.column_stack([users, shape[0] + 1 + items]).ravel()
    X = sparse.csr_matrix((np.ones(2 * n, dtype=np.float32), indices, np.arange(0, 2 * n + 1, 2)), shape=(n, n_columns))
    fields = {"user": np.arange(shape[0] + 1), "item": np.arange(shape[0] + 1, n_columns)}
    problem = Problem(X, value, weight, "squared", Interactions(), fields=fields)
    parameters = Parameters(n_columns, n_factors)
    solver = Gibbs(max_draws=MAX_DRAWS, max_bytes=DRAW_BYTES)
    draws = solver.solve(problem, parameters, Settings(max_iter=max_iter, seed=seed, early_stopping=False)).extra
    vectors = np.asarray(parameters.factor_slots[:, 0, :n_factors])
    return ExplicitFactors(draws, shape[0], vectors, (users, items, value, weight))


def _before_last(values: Array, n_new: int) -> Array:
    return np.concatenate([values[:-1], np.repeat(values[-1:], n_new, axis=0), values[-1:]])
