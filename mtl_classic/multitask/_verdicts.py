"""No harm: which tasks the others make worse beyond the noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.losses import losses, ndcg_losses, query_weights
from mtl_classic._core.targets import Targets, row_weight
from mtl_classic._core.tasks import Task
from mtl_classic.learners._protocol import Floats, Rows
from mtl_classic.metrics import compare
from mtl_classic.multitask._workbench import Workbench

__all__ = ["counted", "row_losses", "words", "worse_than_alone"]


def row_losses(task: Task, y: Floats, score: Floats, groups: Rows | None) -> Floats:
    """The loss of each row; that of a query stands at its first row. NaN where there is no label or no score."""
    if task.kind != "ranking":
        values = losses(task.kind, y, score)
        return np.where(np.isnan(score.reshape(len(y), -1)).any(axis=1), np.nan, values)
    out = np.full(len(y), np.nan)
    usable = np.flatnonzero(~np.isnan(y) & ~np.isnan(score))
    if groups is None or not len(usable):
        return out
    values, query = ndcg_losses(y[usable], score[usable], groups[usable])
    codes, first = np.unique(groups[usable], return_index=True)
    out[usable[first[np.searchsorted(codes, query)]]] = values
    return out


def counted(task: Task, y: Floats, weight: Floats, groups: Rows | None) -> tuple[Floats, Floats]:
    """Labels of rows of some weight, and the weights of their `row_losses`: a query weighs the mean of its rows."""
    y = np.where(weight > 0, y, np.nan)
    return y, weight if task.kind != "ranking" or groups is None else query_weights(y, groups, weight)


def worse_than_alone(
    bench: Workbench, rows: Rows, shared: Mapping[str, Floats], alone: Mapping[str, Floats]
) -> dict[str, str]:
    """Task -> why, for the tasks whose shared scores have more loss on the rows than those of their own learner."""
    targets = bench.targets.take(rows)
    groups = None if bench.groups is None else bench.groups[rows]
    weights = None if bench.weights is None else bench.weights[rows]
    clusters = None if bench.clusters is None else bench.clusters[rows]
    table = compare_scores(targets, shared, alone, groups=groups, weights=weights, clusters=clusters)
    return {str(name): words(row) for name, row in table.iterrows() if row["verdict"] == "worse"}


def compare_scores(
    targets: Targets,
    shared: Mapping[str, Floats],
    alone: Mapping[str, Floats],
    *,
    groups: Rows | None = None,
    weights: Floats | None = None,
    clusters: Any = None,
) -> pd.DataFrame:
    """The paired bootstrap of shared against own scores, in the entire space, over the tasks that have both."""
    mine, own, weight = {}, {}, {}
    for task in targets.tasks:
        if task.name not in alone or task.name not in shared:
            continue
        y = targets.view(task.name)
        y, weight[task.name] = counted(task, y, row_weight(targets, task, weights), groups)
        mine[task.name], own[task.name] = (row_losses(task, y, scores[task.name], groups) for scores in (shared, alone))
    if not mine:
        return pd.DataFrame()
    return compare(mine, own, clusters=clusters, sample_weight=weight)


def words(row: Any) -> str:
    """A line of the comparison as a sentence."""
    return (
        f"loss {row['value']:.5g} with the others against {row['baseline']:.5g} alone (95 % interval of the difference "
        f"{row['difference_low']:.2g} to {row['difference_high']:.2g})"
    )
