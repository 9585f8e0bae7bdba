"""An honest table: every task, its metrics with intervals, and the verdict against a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import MAPPING, METRIC, check_option, list_of
from mtl_classic._core.random import root_seed
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import as_table, check_order
from mtl_classic.metrics._arrays import Codes, Floats, factorize
from mtl_classic.metrics._fitted import (
    clusters_of_rows,
    column_values,
    conflict_rule,
    end_of,
    groups_of,
    last_step,
    scores_of,
)
from mtl_classic.metrics._known import Known
from mtl_classic.metrics._registry import DEFAULT_METRICS, get_metric, report_order
from mtl_classic.metrics._scores import as_pandas, find_classes, task_scores
from mtl_classic.metrics._significance import Comparison, check_bootstrap, compare_statistics

METRICS = list_of("names of metrics")


def evaluate(
    model: Any,
    X: Any,
    Y: Any,
    *,
    baseline: Any = None,
    by: Any = None,
    space: str = "entire",
    metrics: Any = None,
    clusters: Any = None,
    sample_weight: Any = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Judge a fitted model on every task, with intervals, and against a baseline.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one.
    X : table of shape (n, n_features)
    Y : frame or array of shape (n, n_tasks)
        NaN is unlabelled.
    baseline : fitted multi-task estimator, or frame of scores, default=None
        What to compare with, on the same rows.
    by : str, list of str, or array of shape (n,), default=None
        A column of X (ad type, shop) whose every value is judged on its own, or several: every combination is.
    space : {"entire", "conditional"}, default="entire"
        Whether funnel children are judged on all rows, or on those whose parent is positive. In the entire space, where
        a child is labelled in a share of its parent's positive rows (of the same value of ``by``), zeros that the
        parent tells weigh that share, so that the labelled rows stand for all.
    metrics : list of str, or dict task -> list of str, default=None
        Names that `get_metric` knows; None takes those of the kind (``DEFAULT_METRICS``), and the task's own.
    clusters : str or array of shape (n,), default=None
        A column of X (or keys) whose values are drawn as a whole. None: the model's user, else the query, else rows. A
        ranking whose queries span several users draws queries.
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
        Non-negative weights.
    n_replicates : int, default=1000
        Bootstrap replicates, at least 100; 0 leaves intervals and verdicts out, which is what a search wants.
    level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        As from `evaluate_scores`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from types import SimpleNamespace
    >>> from mtl_classic import Task
    >>> from mtl_classic.metrics import evaluate
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 50, 500), "x": rng.random(500)})
    >>> Y = pd.DataFrame({"buy": (rng.random(500) < X["x"]).astype(int)})
    >>> model = SimpleNamespace(  # stands for a fitted model
    ...     tasks_=(Task("buy", "binary"),), classes_map_={"buy": np.array([0, 1])}, roles_={"user": "user"},
    ...     predict_scores=lambda X, space: pd.DataFrame({"buy": X["x"]}),
    ... )
    >>> table = evaluate(model, X, Y, baseline=pd.DataFrame({"buy": np.full(500, 0.5)}))
    >>> table.loc[("buy", "roc_auc"), "verdict"]
    'better'
    """
    final, _ = last_step(model)
    check_bootstrap(n_replicates, level)
    scores = scores_of(model, X, space)
    baseline = as_pandas(baseline, Y)
    if baseline is not None and not isinstance(baseline, pd.DataFrame | Mapping | np.ndarray):
        if not hasattr(end_of(baseline)[0], "predict_scores"):
            raise TypeError(f"baseline must be a fitted multi-task estimator or a frame of scores, got {baseline!r}.")
        baseline = scores_of(baseline, X, space)
    table = as_table(X)
    check_order(table, sample_weight=sample_weight)
    return evaluate_scores(
        Y,
        scores,
        tasks=final.tasks_,
        classes=final.classes_map_,
        baseline=baseline,
        by=column_values(table, by, "by"),
        groups=groups_of(final, table) or None,
        clusters=clusters_of_rows(final, table, clusters),
        sample_weight=sample_weight,
        space=space,
        metrics=metrics,
        on_conflict=conflict_rule(final),
        n_replicates=n_replicates,
        level=level,
        random_state=random_state,
    )


def evaluate_scores(
    Y: Any,
    scores: Any,
    *,
    tasks: Any,
    classes: Classes | None = None,
    baseline: Any = None,
    by: Any = None,
    groups: Any = None,
    clusters: Any = None,
    sample_weight: Any = None,
    space: str = "entire",
    metrics: Any = None,
    on_conflict: Any = "raise",
    n_replicates: int = 1000,
    level: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Judge scores, wherever they come from, on every task.

    Parameters
    ----------
    Y : frame or array of shape (n, n_tasks)
        NaN is unlabelled.
    scores : frame, dict task -> array, or array of shape (n,) or (n, n_tasks)
        As from ``predict_scores`` in the same space: a column per task, ``task=class`` columns for multiclass tasks (in
        a dict: an array of shape (n, n_classes) in the order of ``classes``). Rows are matched by position.
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from Y.
    classes : dict task -> array, default=None
        Labels of the classes: [negative, positive], and those of multiclass tasks. None reads them off Y and the
        columns of ``scores``.
    baseline : like ``scores``, default=None
        Scores to compare with, on the same rows; tasks that it lacks are not compared.
    by : array or Series of shape (n,), or frame, default=None
        Every value (of a frame: every combination) is judged on its own, and corrected for as another task.
    groups : array of shape (n,), frame, or dict task -> array, default=None
        Query of each row; ranking tasks need it.
    clusters : array of shape (n,), default=None
        The user of each row, drawn as a whole by the bootstrap. None: the query, else rows. A ranking whose queries
        span several users draws queries.
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
        Non-negative weights.
    space : {"entire", "conditional"}, default="entire"
        Which view of the funnel children the scores speak of; the entire one is weighted as `evaluate` says.
    metrics : list of str, or dict task -> list of str, default=None
        Names that `get_metric` knows; None takes those of the kind (``DEFAULT_METRICS``), and the task's own.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with a non-zero child of a negative parent.
    n_replicates : int, default=1000
        Bootstrap replicates, at least 100; 0 leaves intervals and verdicts out, which is what a search wants.
    level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        Index (task, metric), with ``by`` (by, task, metric), a level for each of its columns; columns ``value``,
        ``low``, ``high``. ``loss`` is the kind's proper loss. With a baseline also ``baseline``, ``difference`` (value
        − baseline), ``difference_low``, ``difference_high``, ``p_value`` (of the paired bootstrap, after Holm over
        tasks and slices) and ``verdict``: "better", "worse" or "same". NaN where a metric is undefined, as AUC is where
        there is one class.

    Raises
    ------
    ValueError
        On scores that are missing, NaN on labelled rows, or no probabilities; on rows in another order.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic.metrics import evaluate_scores
    >>> y = np.tile([0.0, 1.0, np.nan], 100)
    >>> good, poor = np.tile([0.2, 0.9, 0.5], 100), np.full(300, 0.5)
    >>> table = evaluate_scores(y, good, tasks={"buy": "binary"}, baseline=poor)
    >>> table.loc["buy", ["value", "baseline", "verdict"]].round(3)
                       value  baseline verdict
    metric
    loss               0.164     0.693  better
    roc_auc            1.000     0.500  better
    average_precision  1.000     0.500  better
    """
    tasks = resolve_tasks(tasks, Y)
    check_bootstrap(n_replicates, level)
    check_option("classes", classes, (MAPPING, None))
    _check_metrics(metrics, tasks)
    scores, baseline = as_pandas(scores, Y), as_pandas(baseline, Y)
    if classes is None:
        classes = find_classes(Y, scores, tasks)
    seed = root_seed(random_state)
    check_order(Y, "Y", by=by, clusters=clusters, sample_weight=sample_weight)
    for values in groups.values() if isinstance(groups, Mapping) else [groups]:
        check_order(Y, "Y", groups=values)
    by = pd.DataFrame(by) if isinstance(by, np.ndarray) and by.ndim == 2 else as_pandas(by, Y)
    slices = _slices(by, len(Y))
    known = Known.of(
        Y,
        tasks,
        classes,
        space=space,
        on_conflict=on_conflict,
        groups=groups,
        clusters=clusters,
        sample_weight=sample_weight,
        seed=seed,
        parts=None if by is None else [rows for _, rows in slices],
    )
    own, other = (
        {task.name: task_scores(values, task, tasks, classes, Y, what) for task in tasks}
        for values, what in ((scores, "scores"), (baseline, "baseline"))
    )
    asked = {task.name: _metric_names(task, metrics, tasks) for task in tasks}
    for task in tasks:  # what cannot be judged is told before any work
        _check_judged(known, task, asked[task.name], own[task.name], other[task.name])
    comparisons = (
        comparison
        for _, rows in slices
        for task in tasks
        for comparison in _comparisons(known, task, asked[task.name], rows, own[task.name], other[task.name])
    )
    table = compare_statistics(comparisons, n_replicates=n_replicates, level=level, seed=seed)
    names = [(*value, task.name, name) for value, _ in slices for task in tasks for name in asked[task.name]]
    table.index = _index(names, [*_by_names(by), "task", "metric"])
    return table


def _check_judged(
    known: Known, task: Task, metrics: Sequence[str], scores: Floats | None, baseline: Floats | None
) -> None:
    """Refuse scores that are missing or no scores, and metrics of other kinds."""
    if scores is None:
        raise ValueError(f"There are no scores for the task {task.name!r}.")
    for name in metrics:
        kinds = get_metric(name).kinds
        if task.kind not in kinds:
            raise ValueError(f"The metric {name!r} judges {', '.join(kinds)} tasks; {task.name!r} is {task.kind}.")
    for values, what in ((scores, "scores"), (baseline, "baseline")):
        if values is not None:
            try:
                known.judged(task, values, np.arange(len(values)))
            except ValueError as error:
                raise ValueError(f"The {what} of task {task.name!r}: {error}") from None


def _comparisons(
    known: Known, task: Task, metrics: Sequence[str], rows: Codes, scores: Any, baseline: Any
) -> Iterator[Comparison]:
    """The metrics of one task on some rows; metrics that need the same sorting share it."""
    model = known.judged(task, scores, rows)
    other = None if baseline is None else known.judged(task, baseline, rows)
    for name in metrics:
        metric = get_metric(name)
        against = None if other is None else metric.bind(other)
        yield Comparison(metric.bind(model), against, known.clusters[task.name], metric.direction, name)


def _slices(by: Any, n: int) -> list[tuple[tuple[Any, ...], Codes]]:
    """Every value of ``by`` (of a frame: every combination that occurs), sorted, and its rows."""
    if by is None:
        return [((), np.arange(n))]
    columns = [by[name] for name in by.columns] if isinstance(by, pd.DataFrame) else [by]
    ranks, values = zip(*(_ranked(column, n) for column in columns), strict=True)
    codes = ranks[0]
    for rank, known in zip(ranks[1:], values[1:], strict=True):
        codes, _ = pd.factorize(codes * len(known) + rank, sort=True)
    counts = np.bincount(codes)
    parts = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    slices = (part for part in parts if len(part))
    return [(tuple(v[rank[part[0]]] for v, rank in zip(values, ranks, strict=True)), part) for part in slices]


def _ranked(values: Any, n: int) -> tuple[Codes, list[Any]]:
    """Codes of values in their order (that of appearance where they have none), missing ones last; and the values."""
    codes, keys = factorize(values, n, "by values")
    try:
        order = np.argsort(keys.to_numpy())
    except TypeError:
        order = np.arange(len(keys))
    place = np.append(np.argsort(order), len(keys))  # the code -1, missing, takes the last
    return place[codes], [*keys[order], np.nan]


def _by_names(by: Any) -> list[str]:
    if isinstance(by, pd.DataFrame):
        return [str(name) for name in by.columns]
    return [] if by is None else [getattr(by, "name", None) or "by"]


def _index(names: list[tuple[Any, ...]], levels: list[str]) -> pd.MultiIndex:
    """An index whose own order is that of the report, so that looking up a part of it is fast and silent."""
    columns: list[Any] = [pd.Series([name[i] for name in names], dtype=object) for i in range(len(levels))]
    metrics: Any = pd.Index(report_order(columns.pop()), dtype=object)
    factors = [pd.factorize(column) for column in columns]
    values: list[Any] = [*(pd.Index(list(found), tupleize_cols=False) for _, found in factors), metrics]
    codes: list[Any] = [*(found for found, _ in factors), metrics.get_indexer([name[-1] for name in names])]
    return pd.MultiIndex(levels=values, codes=codes, names=levels)


def _check_metrics(metrics: Any, tasks: Sequence[Task]) -> None:
    check_option("metrics", metrics, (METRIC, METRICS, MAPPING, None))
    if not isinstance(metrics, Mapping):
        return
    for name, names in metrics.items():
        check_option(f"metrics[{name!r}]", names, (METRIC, METRICS))
    unknown = [name for name in metrics if name not in {task.name for task in tasks}]
    if unknown:
        names = ", ".join(task.name for task in tasks)
        raise ValueError(f"metrics= names tasks that there are not: {', '.join(map(str, unknown))}; there are {names}.")


def _metric_names(task: Task, metrics: Any, tasks: Sequence[Task]) -> list[str]:
    if isinstance(metrics, Mapping) and task.name in metrics:
        return report_order(_listed(metrics[task.name]))
    if metrics is None or isinstance(metrics, Mapping):
        own = [task.metric] if task.metric is not None else []
        return report_order([*DEFAULT_METRICS[task.kind], *own])
    names = _listed(metrics)
    for name in names:
        kinds = get_metric(name).kinds
        if not any(other.kind in kinds for other in tasks):
            raise ValueError(f"The metric {name!r} judges {', '.join(kinds)} tasks; there is none.")
    return report_order(name for name in names if task.kind in get_metric(name).kinds)


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
