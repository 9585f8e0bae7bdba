"""A generalized linear model of few columns: what combines out-of-fold scores where labels are few.

Low variance matters more than a rich shape: intercept free, every other coefficient under an L2 penalty on columns of
unit spread.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from mtl_classic._core.listwise import by_query, listwise
from mtl_classic.learners._protocol import Floats, Rows

__all__ = ["LinearCombiner", "fit_linear"]

MAX_STEPS = 25
MAX_ETA = 30.0
BLOCK = 8192  # rows


@dataclass(frozen=True)
class LinearCombiner:
    """Fitted coefficients.

    Attributes
    ----------
    kind : str
    center, spread : ndarray of shape (p,)
        Of the columns.
    coefficients : ndarray of shape (p + 1,), the intercept first; (p + 1, n_classes) for multiclass
    """

    kind: str
    center: Floats
    spread: Floats
    coefficients: Floats

    def predict(self, columns: Floats) -> Floats:
        """Scores on the scale of the kind."""
        scaled = (columns - self.center) / self.spread
        eta = self.coefficients[0] + scaled @ self.coefficients[1:]
        if self.kind == "binary":
            return np.asarray(expit(eta))
        if self.kind == "count":
            return np.asarray(np.exp(np.clip(eta, -MAX_ETA, MAX_ETA)))
        if self.kind == "multiclass":
            lifted = np.exp(eta - eta.max(axis=1, keepdims=True))
            return np.asarray(lifted / lifted.sum(axis=1, keepdims=True))
        return np.asarray(eta)


def fit_linear(
    kind: str,
    columns: Floats,
    y: Floats,
    weight: Floats,
    *,
    penalty: float = 1.0,
    n_classes: int = 0,
    groups: Rows | None = None,
) -> LinearCombiner:
    r"""Minimize :math:`\sum_i w_i \ell(y_i, \eta_i) + \frac{\alpha}{2} \lVert \beta \rVert^2`.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
        Logistic, softmax, least squares (in units of the label's spread), Poisson, or listwise without an intercept.
    columns : ndarray of shape (n, p)
    y : ndarray of shape (n,)
        Labels without NaN.
    weight : ndarray of shape (n,)
    penalty : float
    n_classes : int
        For multiclass.
    groups : ndarray of shape (n,)
        Queries of a ranking.
    """
    share = weight / weight.sum()
    center = share @ columns
    scaled = columns - center
    spread = np.sqrt(share @ scaled**2)
    spread = np.where(spread > 1e-12, spread, 1.0)
    scaled /= spread
    if kind == "multiclass":
        coefficients = _softmax(scaled, y.astype(np.intp), weight, penalty, n_classes)
    elif groups is not None:
        coefficients = _listwise(scaled, y, weight, penalty, groups)
    elif kind == "regression":
        coefficients = _least_squares(scaled, y, weight, penalty)
    else:
        coefficients = _newton(kind, scaled, y, weight, penalty)
    return LinearCombiner(kind, center, spread, coefficients)


def _least_squares(scaled: Floats, y: Floats, weight: Floats, penalty: float) -> Floats:
    design = np.column_stack([np.ones(len(y)), scaled])
    ridge = np.diag(np.r_[0.0, np.full(scaled.shape[1], penalty)])
    weighted = design * weight[:, None]
    return np.asarray(np.linalg.solve(design.T @ weighted + ridge, weighted.T @ y))


def _newton(kind: str, scaled: Floats, y: Floats, weight: Floats, penalty: float) -> Floats:
    design = np.vstack([np.ones(len(y)), scaled.T])
    ridge = np.r_[0.0, np.full(scaled.shape[1], penalty)]
    mean = float(np.average(y, weights=weight))
    start = np.log(max(mean, 1e-9)) if kind == "count" else np.log(max(mean, 1e-9) / max(1 - mean, 1e-9))
    beta = np.r_[start, np.zeros(scaled.shape[1])]
    value, gradient, hessian = _expansion(kind, design, y, weight, ridge, beta)
    for _ in range(MAX_STEPS):
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(beta)), gradient)
        scale = 1.0
        while (new := _expansion(kind, design, y, weight, ridge, beta - scale * step))[0] > value and scale > 1e-4:
            scale /= 2
        if not new[0] < value - 1e-10 * (1 + abs(value)):
            break
        beta, (value, gradient, hessian) = beta - scale * step, new
    return beta


def _expansion(
    kind: str, design: Floats, y: Floats, weight: Floats, ridge: Floats, beta: Floats
) -> tuple[float, Floats, Floats]:
    """The objective, its gradient and its Hessian at ``beta``, for a ``design`` of shape (p + 1, n).

    In one pass, a block of rows at a time: what a pass makes stays in the cache.
    """
    value, gradient, upper = float(0.5 * ridge @ beta**2), ridge * beta, np.diag(ridge)
    for start in range(0, len(y), BLOCK):
        block = slice(start, start + BLOCK)
        columns, labels, w = design[:, block], y[block], weight[block]
        eta = np.clip(beta @ columns, -MAX_ETA, MAX_ETA)
        if kind == "binary":
            odds = 1 + np.exp(-eta)
            mu, loss = 1 / odds, np.log(odds) + (1 - labels) * eta
            h = mu * (1 - mu)
        else:
            h = mu = np.exp(eta)
            loss = mu - labels * eta
        value += float(w @ loss)
        gradient += columns @ (w * (mu - labels))
        h = w * np.maximum(h, 1e-9)
        for i in range(len(beta)):
            upper[i, i:] += columns[i:] @ (h * columns[i])
    return value, gradient, np.asarray(np.triu(upper) + np.triu(upper, 1).T)


def _listwise(scaled: Floats, y: Floats, weight: Floats, penalty: float, queries: Rows) -> Floats:
    groups, share, weight = by_query(y, queries, weight)

    def objective(beta: Floats) -> tuple[float, Floats]:
        value, slope = listwise(share, scaled @ beta, groups)
        return float(weight @ value + 0.5 * penalty * beta @ beta), scaled.T @ (weight * slope) + penalty * beta

    found = minimize(objective, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B")
    return np.r_[0.0, found.x]


def _softmax(scaled: Floats, y: Any, weight: Floats, penalty: float, n_classes: int) -> Floats:
    """Classes that have no row here keep an intercept that makes them all but impossible."""
    coefficients = np.zeros((scaled.shape[1] + 1, n_classes))
    seen = np.unique(y)
    coefficients[0] = np.where(np.isin(np.arange(n_classes), seen), 0.0, -MAX_ETA)
    if len(seen) == 1:
        return coefficients
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is not quite at its minimum is judged out of fold all the same
        model = LogisticRegression(C=1.0 / penalty, max_iter=500).fit(scaled, y, sample_weight=weight)
    intercept, slope = model.intercept_, model.coef_
    if len(seen) == 2:  # scikit-learn then keeps the second class only
        intercept, slope = np.r_[0.0, intercept], np.vstack([np.zeros_like(slope), slope])
    coefficients[0, seen] = intercept
    coefficients[1:, seen] = slope.T
    return coefficients
