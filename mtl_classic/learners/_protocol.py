"""What a learner is: the model of one task, blind to all others, reading a matrix that is binned once for all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from mtl_classic._core.exceptions import ConstantTaskWarning
from mtl_classic._core.tasks import Task
from mtl_classic.learners._columns import Features

__all__ = ["ConstantFit", "FitRequest", "Learner", "TaskFit", "constant_fit", "n_further", "run_lengths"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FitRequest:
    """One task to fit on some rows of a binned matrix.

    Attributes
    ----------
    task : Task
    y : ndarray of shape (n,)
        Encoded labels of all rows; only those in ``rows`` and ``valid_rows`` are read.
    rows : ndarray of int
        Training rows, ascending and labelled.
    valid_rows : ndarray of int or None
        Rows for early stopping; None trains for ``n_rounds``.
    weight : ndarray of shape (n,) or None
    groups : ndarray of shape (n,) or None
        Query codes, contiguous, for ranking.
    n_classes : int
        For multiclass.
    n_rounds : int or None
        Rounds of a fit without early stopping; None is the learner's default.
    seed : int
    n_threads : int
    """

    task: Task
    y: Floats
    rows: Rows
    valid_rows: Rows | None = None
    weight: Floats | None = None
    groups: Rows | None = None
    n_classes: int = 0
    n_rounds: int | None = None
    seed: int = 0
    n_threads: int = 1

    @property
    def mass(self) -> float:
        """Weight of the training rows."""
        return float(len(self.rows) if self.weight is None else self.weight[self.rows].sum())


class TaskFit(Protocol):
    """A fitted task."""

    @property
    def n_rounds(self) -> int | None:
        """Rounds of boosting, None where there are none."""
        ...

    def predict(self, features: Features, n_threads: int = 1) -> Floats:
        """Scores of shape (n,), or (n, n_classes) for multiclass."""
        ...


class Learner(BaseEstimator):
    """Base of the learners: kind-agnostic models of one task.

    A subclass implements ``bin(features, n_threads)``, which does whatever all tasks can share (quantile bins, a
    one-hot matrix), and ``fit_task(binned, request)``, which returns a `TaskFit`.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import Learner, PerTaskModel
    >>> class Mean:
    ...     n_rounds = None
    ...     def __init__(self, value): self.value = value
    ...     def predict(self, features, n_threads=1): return np.full(len(features), self.value)
    >>> class MeanLearner(Learner):
    ...     def bin(self, features, *, n_threads=1): return None
    ...     def fit_task(self, binned, request): return Mean(request.y[request.rows].mean())
    >>> model = PerTaskModel({"spend": "regression"}, learner=MeanLearner()).fit(np.zeros((4, 1)), [1.0, 2, 3, 4])
    >>> model.predict([[0.0]])
    array([2.5])
    """

    early_stops = False

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: parameter -> list or scipy distribution; empty for nothing.

        `MultiTaskSearchCV` searches it as ``learner__parameter`` where it is given no space.
        """
        return {}

    def check_task(self, task: Task) -> None:
        """Refuse a task that this learner can't learn, before any work."""

    def bin(self, features: Features, *, n_threads: int = 1) -> Any:
        """Prepare the matrix once for all tasks."""
        raise TypeError(f"{type(self).__name__} must implement bin.")

    def fit_task(self, binned: Any, request: FitRequest) -> TaskFit:
        """Fit one task on rows of a prepared matrix."""
        raise TypeError(f"{type(self).__name__} must implement fit_task.")


@dataclass(frozen=True)
class ConstantFit:
    """A task whose training labels hold one class or one value only."""

    value: Floats
    n_rounds: int | None = None

    def predict(self, features: Features, n_threads: int = 1) -> Floats:
        """The constant for every row."""
        return np.broadcast_to(self.value, (len(features), *self.value.shape)).copy()


def constant_fit(request: FitRequest) -> ConstantFit | None:
    """The constant of a task that has nothing to learn, with a warning; None where there is something."""
    y = request.y[request.rows]
    kind = request.task.kind
    if len(y) and not (y == y[0]).all():
        return None
    value = float(y[0]) if len(y) else 0.0
    shown = value if kind != "binary" else ("positive" if value == 1 else "negative" if value == 0 else value)
    found = f"has {len(y)} labelled rows, all with the same label ({shown})"
    if not len(y):
        found = "has no row to learn from: none with a label and a weight (and, under a parent, a positive one)"
    warnings.warn(f"Task {request.task.name!r} {found}; a constant is trained.", ConstantTaskWarning, stacklevel=2)
    if kind == "multiclass":
        return ConstantFit(np.eye(max(request.n_classes, 1))[max(int(value), 0)])
    return ConstantFit(np.asarray(value))


def run_lengths(groups: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Sizes of the runs of equal values."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.diff(np.r_[starts, len(groups)])


def n_further(n_rounds: int, n_added: int) -> int:
    """How many rounds a refresh adds: a tenth of those of the fit, which are all but the ``n_added`` of refreshes."""
    return max(1, (n_rounds - n_added) // 10)
