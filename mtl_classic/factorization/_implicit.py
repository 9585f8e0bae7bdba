"""Latent vectors from implicit feedback: the package implicit behind arrays, without its threads and warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mtl_classic._core.parallel import thread_limit

__all__ = ["ImplicitFactors", "fit_implicit"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROWS_AT_ONCE = 2**14


class ImplicitFactors:
    """Vectors of users and items; score = p_u · q_i + b_u + c_i.

    Parameters
    ----------
    model : {"als", "bpr", "logistic"}
    users, items : ndarray of float32, shapes (n_users, n_factors) and (n_items, n_factors)
    user_bias, item_bias : ndarray of float32
    regularization, alpha : float
        What ALS was fitted with, for folding in.
    matrix : csr_matrix of shape (n_users, n_items)
        The weights that the users' vectors come from.

    Attributes
    ----------
    unseen, unseen_bias : ndarray of float32, shapes (1, n_factors) and (1,)
        Of users whom nobody has seen: the mean of those of the fit, whoever is folded in later.
    """

    def __init__(
        self, model: str, users: Array, items: Array, user_bias: Array, item_bias: Array, regularization: float,
        alpha: float, matrix: sparse.csr_matrix,
    ) -> None:  # fmt: skip
        self.model, self.regularization, self.alpha, self.matrix = model, regularization, alpha, matrix
        self.users, self.items, self.user_bias, self.item_bias = users, items, user_bias, item_bias
        if model == "als" and matrix.nnz:  # the last half step moved the items: now users folded in are like these
            self.users = self.solved(matrix)
        self.unseen, self.unseen_bias = with_mean(self.users)[-1:], with_mean(user_bias)[-1:]

    def score(self, user: Ints, item: Ints) -> Floats:
        """Scores of pairs of codes; -1 is the mean of the users of the fit, or of all items."""
        p, q = with_unseen(self), with_mean(self.items)
        scores = np.append(self.user_bias, self.unseen_bias)[user].astype(np.float64) + with_mean(self.item_bias)[item]
        for start in range(0, len(user), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            scores[some] += np.einsum("nf,nf->n", p[user[some]].astype(np.float64), q[item[some]])
        return scores

    def fold_in(self, n_users: int, user: Ints, item: Ints, value: Floats, weight: Floats) -> None:
        """Add pairs and users, and move the vectors of the users that the pairs belong to; `value` is not used.

        ALS solves for the users anew, from all their pairs. The others have no closed form: a new user gets the mean
        of what users of the same items have, and known users stay as they are.
        """
        new = weight_matrix(user, item, weight, (n_users, len(self.items)))
        n_new = n_users - len(self.users)
        old = sparse.csr_matrix(
            (self.matrix.data, self.matrix.indices, np.append(self.matrix.indptr, [self.matrix.indptr[-1]] * n_new)),
            shape=new.shape,
        )
        touched = np.flatnonzero(np.diff(new.indptr))
        known = old.shape[0] - n_new
        self.matrix = (old + new).tocsr()
        means = _neighbours(old[:known], np.column_stack([self.users, self.user_bias])) if self.model != "als" else None
        self.users = np.vstack([self.users, np.repeat(self.unseen, n_new, axis=0)])
        self.user_bias = np.append(self.user_bias, np.repeat(self.unseen_bias, n_new))
        if means is None:
            self.users[touched] = self.solved(self.matrix[touched])
            return
        touched = touched[touched >= known]
        weights = self.matrix[touched]
        total = np.asarray(weights.sum(axis=1))
        vectors = (weights @ means) / np.where(total > 0, total, 1)
        self.users[touched], self.user_bias[touched] = vectors[:, :-1], vectors[:, -1]

    def solved(self, matrix: sparse.csr_matrix) -> Array:
        """Vectors that minimize the ALS objective for each row of a matrix, given the items."""
        solver = _make("als", self.items.shape[1], 1, 0.0, self.regularization, self.alpha, 1, 0)
        solver.item_factors = np.ascontiguousarray(self.items)
        with thread_limit(1):
            return np.asarray(solver.recalculate_user(np.arange(matrix.shape[0]), matrix))


def weight_matrix(user: Ints, item: Ints, weight: Floats, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Σ weight of each pair, float32."""
    return sparse.coo_matrix((weight, (user, item)), shape=shape).tocsr().astype(np.float32)


def with_mean(vectors: Array) -> Array:
    """Vectors with their mean appended, so that the code -1 finds it."""
    mean = vectors.mean(axis=0, keepdims=True) if len(vectors) else np.zeros((1, *vectors.shape[1:]), vectors.dtype)
    return np.concatenate([vectors, mean.astype(vectors.dtype)])


def with_unseen(factors: Any) -> Array:
    """Vectors of the users with that of an unseen one appended, so that the code -1 finds it."""
    return np.concatenate([factors.users, factors.unseen])


def fit_implicit(
    model: str, users: Ints, items: Ints, weight: Floats, shape: tuple[int, int], *, n_factors: int, max_iter: int,
    learning_rate: float, regularization: float, alpha: float, n_jobs: int, seed: int,
) -> ImplicitFactors:  # fmt: skip
    """Fit a model of `implicit` to weighted pairs of codes."""
    matrix = weight_matrix(users, items, weight, shape)
    if matrix.nnz == 0:
        p, q = (np.zeros((n, n_factors), dtype=np.float32) for n in shape)
        return ImplicitFactors(model, p, q, p[:, 0], q[:, 0], regularization, alpha, matrix)
    fitted = _make(model, n_factors, max_iter, learning_rate, regularization, alpha, n_jobs, seed)
    with thread_limit(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted.fit(matrix, show_progress=False)
    p, q = np.asarray(fitted.user_factors), np.asarray(fitted.item_factors)
    user_bias, item_bias = (np.zeros(n, dtype=np.float32) for n in shape)
    if model != "als":  # implicit keeps biases as further factors whose partners are 1
        item_bias = q[:, n_factors].copy()
    if model == "logistic":
        user_bias = p[:, n_factors + 1].copy()
    p, q = p[:, :n_factors].copy(), q[:, :n_factors].copy()
    return ImplicitFactors(model, p, q, user_bias, item_bias, regularization, alpha, matrix)


def _make(
    model: str,
    n_factors: int,
    max_iter: int,
    learning_rate: float,
    regularization: float,
    alpha: float,
    n_jobs: int,
    seed: int,
) -> Any:
    with thread_limit(1), warnings.catch_warnings():
        # implicit warns about the number of BLAS threads when a model is made; here it is set around every call.
        warnings.simplefilter("ignore", RuntimeWarning)
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from implicit.cpu.lmf import LogisticMatrixFactorization

        common = {"factors": n_factors, "regularization": regularization, "iterations": max_iter, "random_state": seed}
        if model == "als":
            return AlternatingLeastSquares(**common, alpha=alpha, num_threads=n_jobs)
        # More threads would write over each other, in another order in each run.
        kind = BayesianPersonalizedRanking if model == "bpr" else LogisticMatrixFactorization
        return kind(**common, learning_rate=learning_rate, num_threads=1)


def _neighbours(matrix: sparse.csr_matrix, vectors: Array) -> Array:
    """Weighted mean vector of the users of each item, (n_items, …); of all users where there are none."""
    total = np.asarray(matrix.sum(axis=0)).ravel()[:, None]
    mean = matrix.T @ vectors / np.where(total > 0, total, 1)
    return np.asarray(np.where(total > 0, mean, vectors.mean(axis=0)), dtype=np.float32)
