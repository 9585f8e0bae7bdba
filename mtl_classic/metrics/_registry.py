"""Metrics by name: what each judges, in which direction, and how a bootstrap recomputes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mtl_classic._core.losses import losses
from mtl_classic._core.options import METRIC, check_option
from mtl_classic.metrics import _statistics as st
from mtl_classic.metrics._arrays import (
    Codes,
    Floats,
    as_floats,
    check_binary,
    check_codes,
    check_probabilities,
    check_scores,
    check_weight,
    scaled,
)
from mtl_classic.metrics._calibration import N_BINS, bins
from mtl_classic.metrics._classification import THRESHOLD
from mtl_classic.metrics._pointwise import multiclass_brier
from mtl_classic.metrics._ranking import per_query

DEFAULT_METRICS = {
    "binary": ("loss", "roc_auc", "average_precision"),
    "multiclass": ("loss", "accuracy", "macro_f1"),
    "regression": ("loss", "rmse", "mae", "r2"),
    "count": ("loss", "mae"),
    "ranking": ("loss", "ndcg@10", "map@10", "grouped_auc"),
}


@dataclass(frozen=True)
class Judged:
    """The labelled rows of one task: encoded labels and scores, and where in the table the rows are."""

    kind: str
    y: Floats
    scores: Floats  # (n,), or (n, n_classes) for multiclass
    weight: Floats
    groups: Codes | None
    rows: Codes

    @cached_property
    def curve(self) -> st.Curve:
        """What ROC AUC and average precision share."""
        return st.Curve(self.rows, self.y, self.scores, self.weight)

    @property
    def called(self) -> Codes:
        """The class with the largest score."""
        return self.scores.argmax(axis=1) if self.scores.size else np.zeros(len(self.scores), np.intp)


@dataclass(frozen=True)
class Metric:
    """A metric that can be asked for by name.

    Parameters
    ----------
    name : str
        Its name in reports, with ``@k`` where it has one.
    kinds : tuple of str
        The kinds of task that it judges.
    direction : {1, -1, 0}
        1 where more is better, -1 where less is, 0 where neither (a rate).
    bind : callable
        From judged rows to the statistic that a bootstrap recomputes.

    Examples
    --------
    >>> from mtl_classic.metrics import get_metric
    >>> metric = get_metric("roc_auc")
    >>> metric.greater_is_better, metric("binary", [0, 1, float("nan")], [0.2, 0.7, 0.5])
    (True, 1.0)
    """

    name: str
    kinds: tuple[str, ...]
    direction: int
    bind: Callable[[Judged], st.Statistic]

    @property
    def greater_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return self.direction > 0

    @property
    def needs_queries(self) -> bool:
        """Whether it judges the order within queries, so that a task without any does not have it."""
        return self.name.partition("@")[0] in ("ndcg", "map", "grouped_auc")

    def __call__(self, kind: str, y: Any, scores: Any, *, sample_weight: Any = None, groups: Any = None) -> float:
        """The value for encoded labels and scores of a task of this kind; ranking kinds need ``groups``."""
        return self.bind(judge(kind, y, scores, sample_weight, groups, self)).value()


def get_metric(name: str) -> Metric:
    """Look up a metric by its name in reports.

    Parameters
    ----------
    name : str
        ``loss`` (the kind's proper loss: log-loss, squared error, Poisson deviance, 1 − NDCG), ``log_loss``, ``brier``,
        ``accuracy``, ``precision``, ``recall``, ``f1``, ``macro_f1``, ``roc_auc``, ``average_precision``, ``mse``,
        ``rmse``, ``mae``, ``r2``, ``poisson_deviance``, ``ndcg``, ``map`` (both also with ``@k``), ``grouped_auc``,
        ``calibration_error``, ``observed``, ``predicted``, ``ratio`` (predicted over observed).

    Returns
    -------
    Metric
        Call it as ``metric(kind, y, scores, sample_weight=None, groups=None)``.

    Raises
    ------
    ValueError
        On an unknown name; the known ones are listed.

    Examples
    --------
    >>> from mtl_classic.metrics import get_metric
    >>> get_metric("ndcg@5")("ranking", [2, 0, 1], [0.3, 0.2, 0.1], groups=["q", "q", "q"]) > 0.9
    True
    """
    check_option("metric", name, METRIC)
    base, at, place = name.partition("@")
    known = _METRICS.get(base)
    if known is None or (at and base not in ("ndcg", "map")) or (at and not (place.isdigit() and int(place) > 0)):
        names = ", ".join(f"{n}[@k]" if n in ("ndcg", "map") else n for n in _METRICS)
        raise ValueError(f"Unknown metric {name!r}; expected one of {names}.")
    kinds, direction, bind = known
    k = int(place) if at else None
    return Metric(name, kinds, direction, lambda judged: bind(judged, k))


def report_order(names: Iterable[str]) -> list[str]:
    """Metrics in the order of reports, each once: that of the list in `get_metric`, then by k."""
    known = list(_METRICS)

    def place(name: str) -> tuple[int, int]:
        base, _, k = name.partition("@")
        return (known.index(base) if base in known else len(known), int(k or 0))

    return sorted(dict.fromkeys(names), key=place)


def judge(kind: str, y: Any, scores: Any, weight: Any, groups: Any, metric: Metric) -> Judged:
    """Check arrays of one task, and keep the rows that count."""
    if kind not in metric.kinds:
        raise ValueError(f"The metric {metric.name!r} judges {', '.join(metric.kinds)} tasks, not {kind}.")
    labels, values = as_floats(y, "labels"), as_floats(scores, "scores")
    if labels.ndim != 1 or len(labels) != len(values) or values.ndim != (2 if kind == "multiclass" else 1):
        raise ValueError(
            f"Labels of shape {labels.shape} and scores of shape {values.shape} for a {kind} task; expected (n,) and "
            f"{'(n, n_classes)' if kind == 'multiclass' else '(n,)'}."
        )
    if kind == "ranking" and groups is None:
        raise ValueError("The metrics of a ranking task need groups=, the query of each row.")
    weights = check_weight(weight, len(labels))
    return select(kind, labels, values, weights, groups, np.arange(len(labels)))


def select(kind: str, y: Floats, scores: Floats, weight: Floats, groups: Any, rows: Codes) -> Judged:
    """Those of ``rows`` that are labelled and have a weight, with their labels and scores checked."""
    rows = rows[~np.isnan(y[rows]) & (weight[rows] > 0)]
    of_groups = None if groups is None else np.asarray(groups)[rows]
    judged = Judged(kind, y[rows], scores[rows], scaled(weight[rows]), of_groups, rows)
    check_scores(judged.scores)
    if kind == "binary":
        check_binary(judged.y)
    if kind == "multiclass":
        check_codes(judged.y, judged.scores)
    if kind in ("binary", "multiclass"):
        check_probabilities(judged.scores)
    return judged


def _loss(j: Judged, k: int | None) -> st.Statistic:
    if j.kind == "ranking":
        return _query("ndcg", lambda v: 1 - v)(j, None)
    return st.mean_statistic(j.rows, losses(j.kind, j.y, j.scores), j.weight)


def _pointwise(function: Callable[[Judged], Floats]) -> Callable[[Judged, int | None], st.Statistic]:
    return lambda j, k: st.mean_statistic(j.rows, function(j), j.weight)


def _query(
    name: str, transform: Callable[[Floats], Floats] = lambda v: v
) -> Callable[[Judged, int | None], st.Statistic]:
    def bind(j: Judged, k: int | None) -> st.Statistic:
        if j.groups is None:
            raise ValueError(f"The metric {name!r} needs groups=, the query or user of each row.")
        result = per_query(name, j.y, j.scores, j.groups, k=k, sample_weight=j.weight)
        defined = np.flatnonzero(~np.isnan(result.values))
        rows = j.rows[result.first[defined]]
        return st.mean_statistic(rows, transform(result.values[defined]), result.weight[defined])

    return bind


def _curve(name: str) -> Callable[[Judged, int | None], st.Statistic]:
    return lambda j, k: st.CurveStatistic(j.curve, name)


def _confusion(name: str) -> Callable[[Judged, int | None], st.Statistic]:
    return lambda j, k: st.confusion_statistic(j.rows, j.y, j.scores > THRESHOLD, j.weight, name)


def _correct(j: Judged) -> Floats:
    if j.kind == "multiclass":
        return np.asarray(j.called == j.y, dtype=np.float64)
    return np.asarray(np.where(j.scores > THRESHOLD, j.y, 1 - j.y))


def _brier(j: Judged) -> Floats:
    return multiclass_brier(j.y, j.scores) if j.kind == "multiclass" else np.square(j.y - j.scores)


def _calibration(j: Judged, k: int | None) -> st.Statistic:
    return st.calibration_statistic(j.rows, bins(j.scores, N_BINS, "quantile"), j.y, j.scores, j.weight)


_CLASSES, _MEANS = ("binary", "multiclass"), ("binary", "regression", "count")
_NUMBERS, _RANKING = ("regression", "count"), ("ranking",)
_Entry = tuple[tuple[str, ...], int, Callable[[Judged, int | None], st.Statistic]]
_METRICS: dict[str, _Entry] = {
    "loss": (tuple(DEFAULT_METRICS), -1, _loss),
    "log_loss": (_CLASSES, -1, _loss),
    "brier": (_CLASSES, -1, _pointwise(_brier)),
    "accuracy": (_CLASSES, 1, _pointwise(_correct)),
    "precision": (("binary",), 1, _confusion("precision")),
    "recall": (("binary",), 1, _confusion("recall")),
    "f1": (("binary",), 1, _confusion("f1")),
    "macro_f1": (
        ("multiclass",),
        1,
        lambda j, k: st.macro_f1_statistic(j.rows, j.y, j.called, j.weight),
    ),
    "roc_auc": (("binary",), 1, _curve("roc_auc")),
    "average_precision": (("binary",), 1, _curve("average_precision")),
    "mse": (_NUMBERS, -1, _pointwise(lambda j: (j.y - j.scores) ** 2)),
    "rmse": (_NUMBERS, -1, lambda j, k: st.root_statistic(j.rows, (j.y - j.scores) ** 2, j.weight)),
    "mae": (_NUMBERS, -1, _pointwise(lambda j: np.abs(j.y - j.scores))),
    "r2": (_NUMBERS, 1, lambda j, k: st.r2_statistic(j.rows, j.y, j.scores, j.weight)),
    "poisson_deviance": (("count",), -1, _loss),
    "ndcg": (_RANKING, 1, _query("ndcg")),
    "map": (_RANKING, 1, _query("map")),
    "grouped_auc": (("binary", "ranking"), 1, _query("grouped_auc")),
    "calibration_error": (_MEANS, -1, _calibration),
    "observed": (_MEANS, 0, _pointwise(lambda j: j.y)),
    "predicted": (_MEANS, 0, _pointwise(lambda j: j.scores)),
    "ratio": (_MEANS, 0, lambda j, k: st.ratio_statistic(j.rows, j.weight * j.scores, j.weight * j.y)),
}
