"""An honest table: every task, its metrics with intervals, and the verdict against a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import group_codes
from mtl_classic._core.random import root_seed
from mtl_classic._core.targets import Classes, Targets, encode_targets
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import as_table, check_sample_weight, find_role
from mtl_classic.metrics._arrays import Codes, Floats, factorize
from mtl_classic.metrics._registry import DEFAULT_METRICS, get_metric, report_order, select
from mtl_classic.metrics._scores import find_classes, task_scores
from mtl_classic.metrics._significance import Comparison, clusters_of, compare_statistics
from mtl_classic.metrics._statistics import Clusters


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
    by : str or array of shape (n,), default=None
        A column of X (ad type, shop) whose every value is judged on its own.
    space : {"entire", "conditional"}, default="entire"
        Whether funnel children are judged on all rows, or on those whose parent is positive.
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
    final = _final(model)
    tasks = final.tasks_
    scores = _predict(model, X, space)
    if baseline is not None and not isinstance(baseline, pd.DataFrame | Mapping | np.ndarray):
        baseline = _predict(baseline, X, space)
    table = as_table(X)
    groups: dict[str, Any] = {task.name: group_codes(table, task) for task in tasks if task.kind == "ranking"}
    query = _role(final, table, "query")
    if query is not None:
        groups |= {task.name: table[query].to_numpy() for task in tasks if task.kind != "ranking"}
    user = clusters if clusters is not None else _role(final, table, "user")
    return evaluate_scores(
        Y,
        scores,
        tasks=tasks,
        classes=final.classes_map_,
        baseline=baseline,
        by=_column(table, by, "by"),
        groups=groups or None,
        clusters=_column(table, user, "clusters"),
        sample_weight=sample_weight,
        space=space,
        metrics=metrics,
        on_conflict=getattr(final, "on_conflict", "raise"),
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
    by : array or Series of shape (n,), default=None
        Every value is judged on its own, and corrected for as another task.
    groups : array of shape (n,), frame, or dict task -> array, default=None
        Query of each row; ranking tasks need it.
    clusters : array of shape (n,), default=None
        The user of each row, drawn as a whole by the bootstrap. None: the query, else rows. A ranking whose queries
        span several users draws queries.
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
        Non-negative weights.
    space : {"entire", "conditional"}, default="entire"
        Which view of the funnel children the scores speak of.
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
        Index (task, metric), with ``by`` (by, task, metric); columns ``value``, ``low``, ``high``. ``loss`` is the
        kind's proper loss. With a baseline also ``baseline``, ``difference`` (value − baseline), ``difference_low``,
        ``difference_high``, ``p_value`` (of the paired bootstrap, after Holm over tasks and slices) and ``verdict``:
        "better", "worse" or "same". NaN where a metric is undefined, as AUC is where there is one class.

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
    if classes is None:
        classes = find_classes(Y, scores, tasks)
    targets = encode_targets(Y, tasks, classes=classes, on_conflict=on_conflict)
    n = len(targets)
    seed = root_seed(random_state)
    frame = _Frame(
        targets=targets,
        space=space,
        scores={task.name: task_scores(scores, task, tasks, classes, Y, "scores") for task in tasks},
        baseline={task.name: task_scores(baseline, task, tasks, classes, Y, "baseline") for task in tasks},
        weights=check_sample_weight(sample_weight, tasks, n),
        groups=_group_codes(groups, tasks, n),
        clusters={},
    )
    frame.clusters.update(_clusters(frame, clusters, seed))
    names: list[tuple[Any, ...]] = []
    comparisons: list[Comparison] = []
    for value, rows in _slices(by, n):
        for task in tasks:
            asked = _metric_names(task, metrics, tasks)
            names += [(task.name, name) if by is None else (value, task.name, name) for name in asked]
            comparisons += _comparisons(frame, task, asked, rows)
    table = compare_statistics(comparisons, n_replicates=n_replicates, level=level, seed=seed)
    levels = ["task", "metric"] if by is None else [getattr(by, "name", None) or "by", "task", "metric"]
    table.index = _index(names, levels)
    return table


@dataclass(frozen=True, eq=False)
class _Frame:
    """Everything about the rows that are judged, checked."""

    targets: Targets
    space: str
    scores: dict[str, Floats | None]
    baseline: dict[str, Floats | None]
    weights: Floats | None
    groups: dict[str, Codes]
    clusters: dict[str, Clusters]


def _comparisons(frame: _Frame, task: Task, metrics: Sequence[str], rows: Codes) -> list[Comparison]:
    """The metrics of one task on some rows; metrics that need the same sorting share it."""
    y = frame.targets.view(task.name, frame.space)
    weight = np.ones(len(y)) if frame.weights is None else frame.weights[:, frame.targets.position(task.name)]
    groups, scores, baseline = frame.groups.get(task.name), frame.scores[task.name], frame.baseline[task.name]
    if scores is None:
        raise ValueError(f"There are no scores for the task {task.name!r}.")
    model = select(task.kind, y, scores, weight, groups, rows)
    other = None if baseline is None else select(task.kind, y, baseline, weight, groups, rows)
    comparisons = []
    for name in metrics:
        metric = get_metric(name)
        if task.kind not in metric.kinds:
            kinds = ", ".join(metric.kinds)
            raise ValueError(f"The metric {name!r} judges {kinds} tasks; {task.name!r} is {task.kind}.")
        against = None if other is None else metric.bind(other)
        comparisons.append(Comparison(metric.bind(model), against, frame.clusters[task.name], metric.direction, name))
    return comparisons


def _slices(by: Any, n: int) -> Iterator[tuple[Any, Codes]]:
    """Every value of ``by``, sorted where it can be, missing ones last, with its rows."""
    if by is None:
        yield None, np.arange(n)
        return
    codes, keys = factorize(by, n, "by values")
    try:
        order = np.argsort(keys.to_numpy())
    except TypeError:
        order = np.arange(len(keys))
    for k in order:
        yield keys[k], np.flatnonzero(codes == k)
    if (codes < 0).any():
        yield np.nan, np.flatnonzero(codes < 0)


def _index(names: list[tuple[Any, ...]], levels: list[str]) -> pd.MultiIndex:
    """An index whose own order is that of the report, so that looking up a part of it is fast and silent."""
    columns: list[Any] = [pd.Series([name[i] for name in names], dtype=object) for i in range(len(levels))]
    metrics: Any = pd.Index(report_order(columns.pop()), dtype=object)
    factors = [pd.factorize(column) for column in columns]
    values: list[Any] = [*(pd.Index(list(found)) for _, found in factors), metrics]
    codes: list[Any] = [*(found for found, _ in factors), metrics.get_indexer([name[-1] for name in names])]
    return pd.MultiIndex(levels=values, codes=codes, names=levels)


def _metric_names(task: Task, metrics: Any, tasks: Sequence[Task]) -> list[str]:
    if isinstance(metrics, Mapping) and task.name in metrics:
        return report_order(metrics[task.name])
    if metrics is None or isinstance(metrics, Mapping):
        own = [task.metric] if task.metric is not None else []
        return report_order([*DEFAULT_METRICS[task.kind], *own])
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        kinds = get_metric(name).kinds
        if not any(other.kind in kinds for other in tasks):
            raise ValueError(f"The metric {name!r} judges {', '.join(kinds)} tasks; there is none.")
    return report_order(name for name in names if task.kind in get_metric(name).kinds)


def _group_codes(groups: Any, tasks: Sequence[Task], n: int) -> dict[str, Codes]:
    given = groups if isinstance(groups, Mapping) else {task.name: groups for task in tasks if groups is not None}
    lacking = [task.name for task in tasks if task.kind == "ranking" and task.name not in given]
    if lacking:
        raise ValueError(f"The ranking tasks {', '.join(lacking)} need groups=, the query of each row.")
    made: dict[int, Codes] = {}
    for name, values in given.items():
        if id(values) not in made:
            made[id(values)] = factorize(values, n, "groups")[0]
        missing = int((made[id(values)] < 0).sum())
        if missing and any(task.name == name and task.kind == "ranking" for task in tasks):
            raise ValueError(f"The query of the ranking task {name!r} is missing in {missing} rows; fill it in.")
    return {name: made[id(values)] for name, values in given.items()}


def _clusters(frame: _Frame, users: Any, seed: int) -> dict[str, Clusters]:
    """Users, else queries, else rows; queries too where a ranking's query spans several users."""
    n = len(frame.targets)
    query = next(iter(frame.groups.values()), np.arange(n))
    user = None if users is None else factorize(users, n, "clusters")[0]
    chosen = {}
    for task in frame.targets.tasks:
        own = frame.groups.get(task.name, query)
        nested = user is not None and (task.kind != "ranking" or _nested(own, user))
        chosen[task.name] = user if user is not None and nested else own
    made = {id(codes): clusters_of(codes, seed) for codes in chosen.values()}
    return {name: made[id(codes)] for name, codes in chosen.items()}


def _nested(inner: Codes, outer: Codes) -> bool:
    """Whether every group of ``inner`` lies within one group of ``outer``."""
    first = np.zeros(int(inner.max(initial=-1)) + 1, dtype=np.intp)
    first[inner] = outer
    return bool((first[inner] == outer).all())


def _final(model: Any) -> Any:
    """The multi-task estimator at the end of a search or pipeline."""
    model = getattr(model, "best_estimator_", model)
    model = model.steps[-1][1] if hasattr(model, "steps") else model
    if not hasattr(model, "tasks_"):
        raise TypeError(
            f"Expected a fitted multi-task estimator, got {type(model).__name__}, which has no tasks_; fit it first."
        )
    return model


def _predict(model: Any, X: Any, space: str) -> pd.DataFrame:
    model = getattr(model, "best_estimator_", model)
    if hasattr(model, "steps"):
        X = model[:-1].transform(X) if len(model.steps) > 1 else X
    frame: pd.DataFrame = _final(model).predict_scores(X, space=space)
    return frame


def _role(model: Any, X: Any, role: str) -> str | None:
    """The role's column in X, None where there is none: a pipeline may have renamed or made it on the way."""
    if not isinstance(X, pd.DataFrame):
        return None
    for name in (model.roles_.get(role), getattr(model, role, None)):
        if isinstance(name, str) and name in X.columns:
            return name
    return None


def _column(X: Any, values: Any, what: str) -> Any:
    if not isinstance(values, str):
        return values
    if not isinstance(X, pd.DataFrame):
        raise ValueError(f"{what}={values!r} names a column, but X is no frame; pass the values themselves.")
    return X[find_role(X.columns, values, what)]
