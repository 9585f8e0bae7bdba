"""Masked scorers, so that scikit-learn's own searches work on labels that are partly missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metadata_routing import UNUSED, _MetadataRequester

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import TASK, check_option
from mtl_classic._core.validation import as_table
from mtl_classic.metrics import get_metric
from mtl_classic.metrics._fitted import groups_of, last_step

__all__ = ["TaskScores", "multitask_scorer"]


def multitask_scorer(metric: str | None = None, task: str | None = None) -> Callable[[Any, Any, Any], float]:
    """A scorer ``(estimator, X, Y, sample_weight=None) -> float`` over the labelled rows.

    Parameters
    ----------
    metric : str, default=None
        A metric that `get_metric` knows ("roc_auc", "log_loss", …). None: 1 − loss / loss of the training prior. Losses
        and errors are negated, so that higher is better.
    task : str, default=None
        One task; None averages over the tasks that have the metric: within queries, those for which the model names a
        query.

    Returns
    -------
    callable
        Usable as ``scoring=`` in ``GridSearchCV``, ``cross_validate``, ``HalvingGridSearchCV``, which hand it the
        weights that they hand their own scorers: with metadata routing those that ``set_score_request`` asks for.

    Raises
    ------
    ValueError
        On an unknown metric, or one that judges none of the tasks, for want of a query perhaps.
    TaskError
        When called, if the model has no such task.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import PerTaskModel, multitask_scorer
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> Y = np.c_[X[:, 0] > 0, X[:, 1] > 0]
    >>> model = PerTaskModel(random_state=0).fit(X, Y)
    >>> multitask_scorer("roc_auc", task="y1")(model, X, Y) > 0.9
    True
    """
    return _Scorer(metric, task)


class _Scorer(_MetadataRequester):
    """A named class rather than a closure, so that it travels to workers."""

    __metadata_request__score: ClassVar[dict[str, str]] = {"estimator": UNUSED}

    def __init__(self, metric: str | None, task: str | None) -> None:
        self.metric, self.task = metric, task
        check_option("task", task, (TASK, None))
        if metric is not None and get_metric(metric).direction == 0:
            raise ValueError(f"The metric {metric!r} is neither a gain nor a loss; a scorer needs one of them.")

    def __call__(self, estimator: Any, X: Any, Y: Any, sample_weight: Any = None) -> float:
        return self.score(estimator, X, Y, sample_weight)

    def score(self, estimator: Any, X: Any, Y: Any, sample_weight: Any = None) -> float:
        """The same under the name that metadata routing knows."""
        model, X = last_step(estimator, X)
        if self.metric is None and self.task is None:
            return float(model.score(X, Y, sample_weight))
        asked = [task.name for task in model.tasks_ if self._judges(task)]
        if self.task is not None and self.task not in [task.name for task in model.tasks_]:
            names = ", ".join(task.name for task in model.tasks_)
            raise TaskError(f"The scorer is for the task {self.task!r}, which is none of the model's: {names}.")
        if not asked:
            raise ValueError(f"The metric {self.metric!r} judges none of the tasks asked for; choose another.")
        if self.metric is not None and get_metric(self.metric).needs_queries:
            queries, without = groups_of(model, as_table(X)), ", ".join(asked)
            asked = [name for name in asked if name in queries]
            if not asked:
                raise ValueError(
                    f"The metric {self.metric!r} needs the query of each row, and the model names none for {without}; "
                    f"give it query=, the name of a column, or choose another metric."
                )
        values = _values(model, X, Y, asked, self.metric, sample_weight)
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def _accept_sample_weight(self) -> bool:
        """Scikit-learn asks before it hands weights on."""
        return True

    def _judges(self, task: Any) -> bool:
        fits = self.metric is None or task.kind in get_metric(self.metric).kinds
        return fits and self.task in (None, task.name)

    def __repr__(self) -> str:
        return f"multitask_scorer(metric={self.metric!r}, task={self.task!r})"


class TaskScores:
    """A scorer ``(estimator, X, Y) -> array``: 1 − loss / loss of the prior of every task, then further metrics."""

    def __init__(self, metrics: Mapping[str, Callable[[Any, Any, Any], float]] | None = None) -> None:
        self.metrics = dict(metrics or {})

    def __call__(self, estimator: Any, X: Any, Y: Any) -> np.ndarray:
        model, table = last_step(estimator, X)
        own = _values(model, table, Y, [task.name for task in model.tasks_], None)
        return np.r_[own, [float(metric(estimator, X, Y)) for metric in self.metrics.values()]]


def _values(model: Any, X: Any, Y: Any, asked: list[str], metric: str | None, sample_weight: Any = None) -> np.ndarray:
    given = model._with_labels(model._start_predict(X), Y, sample_weight)
    scores = model._scores(given.X, "entire")
    groups = groups_of(model, given.X)
    values = []
    for task in model.tasks_:
        if task.name not in asked:
            continue
        y, score, weight = given.targets.view(task.name), scores[task.name], given.entire_weight(task)
        if metric is None:
            values.append(model._task_score(task, given.X, y, score, weight))
            continue
        found = get_metric(metric)
        value = found(task.kind, y, score, sample_weight=weight, groups=groups.get(task.name))
        values.append(value if found.greater_is_better else -value)
    return np.asarray(values)
