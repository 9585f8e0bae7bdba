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
    center = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - center) ** 2, axis=0, weights=weight))
    spread = np.where(spread > 1e-12, spread, 1.0)
    scaled = (columns - center) / spread
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
    design = np.column_stack([np.ones(len(y)), scaled])
    ridge = np.r_[0.0, np.full(scaled.shape[1], penalty)]
    mean = float(np.average(y, weights=weight))
    start = np.log(max(mean, 1e-9)) if kind == "count" else np.log(max(mean, 1e-9) / max(1 - mean, 1e-9))
    beta = np.r_[start, np.zeros(scaled.shape[1])]
    value = _objective(kind, design, y, weight, ridge, beta)
    for _ in range(MAX_STEPS):
        eta = np.clip(design @ beta, -MAX_ETA, MAX_ETA)
        mu = expit(eta) if kind == "binary" else np.exp(eta)
        h = weight * np.maximum(mu * (1 - mu) if kind == "binary" else mu, 1e-9)
        gradient = design.T @ (weight * (mu - y)) + ridge * beta
        step = np.linalg.solve(design.T @ (design * h[:, None]) + np.diag(ridge + 1e-9), gradient)
        scale = 1.0
        while (new := _objective(kind, design, y, weight, ridge, beta - scale * step)) > value and scale > 1e-4:
            scale /= 2
        if not new < value - 1e-10 * (1 + abs(value)):
            break
        beta, value = beta - scale * step, new
    return beta


def _objective(kind: str, design: Floats, y: Floats, weight: Floats, ridge: Floats, beta: Floats) -> float:
    eta = np.clip(design @ beta, -MAX_ETA, MAX_ETA)
    loss = np.logaddexp(0.0, eta) - y * eta if kind == "binary" else np.exp(eta) - y * eta
    return float(weight @ loss + 0.5 * (ridge * beta**2).sum())


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
