"""Masked scorers, so that scikit-learn's own searches work on labels that are partly missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["multitask_scorer"]


def multitask_scorer(metric: str | None = None, task: str | None = None) -> Callable[[Any, Any, Any], float]:
    """A scorer ``(estimator, X, Y) -> float`` over the labelled rows.

    Parameters
    ----------
    metric : str, default=None
        A metric of `evaluate` ("roc_auc", "log_loss", …). None: 1 − loss / loss of the training prior. Losses and errors
        are negated, so that higher is better.
    task : str, default=None
        One task; None averages over the tasks that have the metric.

    Returns
    -------
    callable
        Usable as ``scoring=`` in ``GridSearchCV``, ``cross_validate``, ``HalvingGridSearchCV``.
    """
    return _Scorer(metric, task)


class _Scorer:
    """A named class rather than a closure, so that it travels to workers."""

    def __init__(self, metric: str | None, task: str | None) -> None:
        self.metric, self.task = metric, task

    def __call__(self, estimator: Any, X: Any, Y: Any) -> float:
        if self.metric is None and self.task is None:
            return float(estimator.score(X, Y))
        from mtl_classic.metrics import evaluate

        return self._from_table(evaluate(estimator, X, Y))

    def _from_table(self, table: Any) -> float:
        return float(np.nanmean(table["value"]))

    def __repr__(self) -> str:
        return f"multitask_scorer(metric={self.metric!r}, task={self.task!r})"
