"""The low-variance combiner of stacking: a linear model on the link's scale, pulled to an average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn import config_context

from mtl_classic._core.base import Floats
from mtl_classic._core.listwise import by_query, listwise
from mtl_classic._core.losses import losses, task_loss
from mtl_classic._core.tasks import Task
from mtl_classic.ensemble._links import from_link
from mtl_classic.ensemble._selection import thinned
from mtl_classic.model_selection._folds import Rows

__all__ = [
    "PENALTIES",
    "LinearMeta",
    "MetaData",
    "SklearnMeta",
    "best_penalty",
    "fit_linear_meta",
    "fit_sklearn",
    "trainable",
]

# In rows of evidence: a coefficient of a column with unit variance is held as by that many rows.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0)
LEAST_VARIANCE = 1e-3
SELECTION_ROWS = 50_000  # rows enough to choose a penalty by


@dataclass(frozen=True)
class MetaData:
    """Columns of one task's combiner, on the link's scale.

    Attributes
    ----------
    own : ndarray of shape (n_members, n) or (n_members, n, n_classes)
    side : ndarray of shape (n, n_columns)
        Scores of the neighbours, and features.
    groups : ndarray of shape (n,), or None
        Query of each row, for a ranking.
    """

    own: Floats
    side: Floats
    groups: Rows | None = None

    def take(self, rows: Any) -> MetaData:
        """Some rows."""
        return MetaData(self.own[:, rows], self.side[rows], None if self.groups is None else self.groups[rows])

    def __len__(self) -> int:
        return len(self.side)


@dataclass(frozen=True)
class LinearMeta:
    r"""A fitted combiner :math:`\eta = b + \sum_m w_m \eta_m + \sum_j v_j z_j`, w ≥ 0, with standardized z.

    Attributes
    ----------
    kind : str
    intercept : ndarray of shape (1,) or (n_classes,)
    weights : ndarray of shape (n_members,)
    side_weights : ndarray of shape (n_columns, 1) or (n_columns, n_classes)
    center, scale : ndarray of shape (n_columns,)
    penalty : float
    """

    kind: str
    intercept: Floats
    weights: Floats
    side_weights: Floats
    center: Floats
    scale: Floats
    penalty: float

    def predict(self, data: MetaData) -> Floats:
        """Scores of the task."""
        side = _standardized(data.side, self.center, self.scale)
        eta = np.tensordot(self.weights, data.own, axes=1)
        shift = self.intercept + side @ self.side_weights
        return from_link(self.kind, eta + (shift if self.kind == "multiclass" else shift[:, 0]))


@dataclass(frozen=True)
class SklearnMeta:
    """A fitted scikit-learn estimator on the columns as they are."""

    kind: str
    model: Any
    n_classes: int

    def predict(self, columns: Floats) -> Floats:
        """Scores of the task."""
        if self.kind not in ("binary", "multiclass"):
            mean = np.asarray(self.model.predict(columns), dtype=np.float64)
            return np.maximum(mean, 0.0) if self.kind == "count" else mean
        probability = np.asarray(self.model.predict_proba(columns), dtype=np.float64)
        full = np.zeros((len(columns), max(self.n_classes, 2)))
        full[:, self.model.classes_.astype(np.intp)] = probability
        return full if self.kind == "multiclass" else full[:, 1]


def fit_linear_meta(
    kind: str,
    data: MetaData,
    y: Floats,
    weight: Floats,
    penalty: float,
    center_weights: Floats,
    start: LinearMeta | None = None,
    *,
    reads_side: bool = True,
) -> LinearMeta:
    r"""Minimize the task's loss plus an L2 pull to an average of the members.

    .. math:: \sum_i \ell(y_i, \eta_i)
              + \tfrac{\lambda}{2} \big( s \lVert w - w_0 \rVert^2 + \lVert v \rVert^2 + b^2 \big)

    with s the mean variance of the members' columns. Of a regression all but w is in units of the root of the average's
    squared error. The intercept is held too, because a fold's mean and that of the others differ in opposite
    directions. The loss of a ranking is listwise: by query the cross-entropy of the softmax of η against the shares of
    gain, which stays 0 in b.

    Parameters
    ----------
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
    data : MetaData of n rows
    y, weight : ndarray of shape (n,)
    penalty : float
        λ, in rows.
    center_weights : ndarray of shape (n_members,)
        The average w₀.
    start : LinearMeta, default=None
        Where to begin.
    reads_side : bool, default=True
        Without, v is 0.
    """
    n_members, n_columns = len(data.own), data.side.shape[1] if reads_side else 0
    n_outputs = data.own.shape[2] if kind == "multiclass" else 1
    center, scale = data.side.mean(axis=0), data.side.std(axis=0)
    size = np.abs(data.side).max(axis=0, initial=0.0)
    scale = np.where(scale > LEAST_VARIANCE * np.minimum(size, 1.0), scale, 1.0)  # amounts may have a small unit
    side = _standardized(data.side[:, :n_columns], center[:n_columns], scale[:n_columns])
    groups = None
    if data.groups is not None:
        groups, y, weight = by_query(y, data.groups, weight)
    share, own, unit = weight / weight.mean(), data.own, 1.0
    if kind == "regression":
        error = (y - np.tensordot(center_weights, own, axes=1)) ** 2
        unit = float(np.sqrt(max(np.average(error, weights=weight), 1e-12 * (1 + y.var()))))
        y, own = y / unit, own / unit
    spread = max(float(own.var(axis=1).mean()), LEAST_VARIANCE)
    hits = (y[:, None] == np.arange(n_outputs)).astype(np.float64) if kind == "multiclass" else y
    shape = (n_columns, n_outputs)

    def unpack(x: Floats) -> tuple[Floats, Floats, Floats]:
        cut = n_outputs + n_members
        return x[:n_outputs], x[n_outputs:cut], x[cut:].reshape(shape)

    def objective(x: Floats) -> tuple[float, Floats]:
        b, w, v = unpack(x)
        shift = b + side @ v
        eta = np.tensordot(w, own, axes=1) + (shift if kind == "multiclass" else shift[:, 0])
        value, slope = _loss(kind, hits, eta, groups)
        slope = slope * (share[:, None] if kind == "multiclass" else share)
        pull = w - center_weights
        total = float(share @ value) + penalty / 2 * float(spread * pull @ pull + (v * v).sum() + b @ b)
        wide = slope if kind == "multiclass" else slope[:, None]
        of_w = np.tensordot(own, slope, axes=slope.ndim) + penalty * spread * pull
        of_b, of_v = wide.sum(axis=0) + penalty * b, side.T @ wide + penalty * v
        return total / len(y), np.r_[of_b, of_w, of_v.ravel()] / len(y)

    free, positive = (None, None), (0.0, None)
    bounds = [free] * n_outputs + [positive] * n_members + [free] * (n_columns * n_outputs)
    x0 = np.r_[np.zeros(n_outputs), center_weights, np.zeros(n_columns * n_outputs)]
    if start is not None:
        x0 = np.r_[start.intercept / unit, start.weights, start.side_weights[:n_columns].ravel() / unit]
    found = minimize(objective, x0, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    b, w, v = unpack(found.x)
    side_weights = np.zeros((len(center), n_outputs))
    side_weights[:n_columns] = v * unit
    return LinearMeta(kind, b * unit, w, side_weights, center, scale, penalty)


def best_penalty(
    kind: str,
    data: MetaData,
    rows: Rows,
    y: Floats,
    weight: Floats,
    splits: Sequence[tuple[Rows, Rows, Sequence[Floats]]],
) -> tuple[float, int, bool]:
    """The penalty, the average pulled to, and side columns or none, with the least loss on rows not seen.

    Without side columns, because one penalty holds all: what holds these as they should be, where they tell nothing or
    drift, may be too strong for the weights. Large tables choose by a part of their rows.

    Parameters
    ----------
    kind : str
    data : MetaData of all rows
    rows : ndarray of shape (n,)
        Those with a label.
    y, weight : ndarray of shape (n,)
    splits : list of (train, test, averages)
        Positions among the n; the averages w₀ to choose among, from the training rows.

    Returns
    -------
    penalty : float
    average : int
        Position of the average.
    reads_side : bool
    """
    usable = [split for split in splits if trainable(y[split[0]]) and len(split[1])]
    queries = None if data.groups is None else data.groups[rows]
    step = max(1, len(y) // SELECTION_ROWS)
    n_averages = len(splits[0][2])
    reads = (True, False) if data.side.shape[1] else (True,)
    ways = list(product(range(n_averages), reads))
    total = np.zeros((len(PENALTIES), len(ways)))
    for train, test, averages in usable:
        train, test = thinned(train, step, queries), thinned(test, step, queries)
        part, rest = data.take(rows[train]), data.take(rows[test])
        labels, own = y[train], weight[train]
        for k, (j, side) in enumerate(ways):
            start = None
            for i in range(len(PENALTIES))[::-1]:
                start = fit_linear_meta(kind, part, labels, own, PENALTIES[i], averages[j], start, reads_side=side)
                total[i, k] += _total_loss(kind, y[test], start.predict(rest), weight[test], rest.groups)
    from_strongest, k = divmod(int(np.argmin(total[::-1])), len(ways))  # equal losses: the strongest penalty
    return PENALTIES[len(PENALTIES) - 1 - from_strongest], *ways[k]


def fit_sklearn(
    estimator: Any, task: Task, columns: Floats, y: Floats, weight: Floats | None, n_classes: int
) -> SklearnMeta:
    """Fit a given estimator on the columns as they are; class codes are its labels."""
    labels = y.astype(np.intp) if task.is_classification else y
    weights = {} if weight is None else {"sample_weight": weight}
    with config_context(enable_metadata_routing=False):  # weights are for what is inside it too, asked for or not
        fitted = estimator.fit(columns, labels, **weights)
    return SklearnMeta(task.kind, fitted, n_classes)


def trainable(y: Floats) -> bool:
    """Whether there is anything to tell apart."""
    return len(y) >= 2 and len(np.unique(y)) >= 2


def _standardized(columns: Floats, center: Floats, scale: Floats) -> Floats:
    moved = columns - center
    moved /= scale  # in place: columns of all tasks are many
    return moved


def _total_loss(kind: str, y: Floats, score: Floats, weight: Floats, groups: Rows | None) -> float:
    if kind != "ranking":
        return float(weight @ losses(kind, y, score))
    return float(np.nan_to_num(task_loss(kind, y, score, weight, groups)) * weight.sum())  # NaN: nothing is relevant


def _loss(kind: str, y: Floats, eta: Floats, groups: Rows | None) -> tuple[Floats, Floats]:
    """Loss of each row and its slope in eta."""
    if groups is not None:
        return listwise(y, eta, groups)
    if kind == "binary":
        return np.logaddexp(0, eta) - y * eta, from_link("binary", eta) - y
    if kind == "multiclass":
        p = from_link("multiclass", eta)
        return -(y * np.log(np.maximum(p, 1e-300))).sum(axis=1), p * y.sum(axis=1, keepdims=True) - y
    if kind == "count":
        mean = np.exp(np.minimum(eta, 50))
        return mean - y * eta, mean - y
    return (y - eta) ** 2 / 2, eta - y
