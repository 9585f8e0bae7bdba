"""Routes through a funnel: how a child's entire-space score is made of fitted parts, and which route is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.base import Scores
from mtl_classic._core.losses import losses
from mtl_classic._core.spaces import condition_probability, hold_monotone, to_conditional
from mtl_classic._core.targets import Classes, Targets, row_weight
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic.learners._protocol import Floats
from mtl_classic.metrics import compare

__all__ = ["Key", "better_routes", "by_route", "combine", "conditional", "has_entire_space", "keys_of"]

Key = tuple[str, str]  # (task, part); parts are "conditional", "entire", "happens" and "amount"


def combine(tasks: Sequence[Task], classes: Classes, routes: Mapping[str, str], parts: Mapping[Key, Floats]) -> Scores:
    """Entire-space scores from the parts, parents first."""
    entire: Scores = {}
    for task in fitting_order(tasks):
        name, route = task.name, routes[task.name]
        if route == "root":
            entire[name] = parts[name, "conditional"]
        elif route == "hurdle":
            entire[name] = parts[name, "happens"] * parts[name, "amount"]
        elif route == "direct":
            entire[name] = parts[name, "entire"]
        else:
            product = condition_probability(task, tasks, classes, entire) * parts[name, "conditional"]
            entire[name] = product if route == "product" else (product + parts[name, "entire"]) / 2
    return hold_monotone(tasks, classes, entire)


def conditional(
    tasks: Sequence[Task], classes: Classes, routes: Mapping[str, str], parts: Mapping[Key, Floats], entire: Scores
) -> Scores:
    """Scores given that the condition holds: those of the models that learnt them so, else ratios."""
    products = [task.name for task in tasks if routes[task.name] == "product"]
    return to_conditional(tasks, classes, entire) | {name: parts[name, "conditional"] for name in products}


def keys_of(task: Task, route: str) -> list[Key]:
    """The fitted parts that a route reads."""
    parts = {
        "root": ("conditional",),
        "hurdle": ("happens", "amount"),
        "product": ("conditional",),
        "direct": ("entire",),
        "average": ("conditional", "entire"),
    }
    return [(task.name, part) for part in parts[route]]


def has_entire_space(task: Task) -> bool:
    """Whether the task has two different views: multiclass and ranking children are conditional everywhere."""
    return task.parent is not None and task.kind not in ("multiclass", "ranking")


def by_route(
    tasks: Sequence[Task], classes: Classes, routes: Mapping[str, str], parts: Mapping[Key, Floats]
) -> dict[str, Floats]:
    """Entire-space scores of each child by every route whose parts there are, under ``task@route``."""
    columns: dict[str, Floats] = {}
    for task in filter(has_entire_space, tasks):
        for route in ("product", "direct", "average"):
            if all(key in parts for key in keys_of(task, route)):
                entire = combine(tasks, classes, {**routes, task.name: route}, parts)
                columns[f"{task.name}@{route}"] = entire[task.name]
    return columns


def better_routes(
    scores: Mapping[str, Any], labels: Targets, weights: Floats | None, clusters: Any
) -> dict[str, tuple[str, str]]:
    """Child -> route and why, where a route of `by_route` has less loss than the product beyond the noise."""
    found: dict[str, tuple[str, str]] = {}
    best: dict[str, float] = {}
    for route in ("direct", "average"):
        own, base, weight = {}, {}, {}
        for task in labels.tasks:
            if f"{task.name}@{route}" not in scores or not has_entire_space(task):
                continue
            y = labels.view(task.name)
            own[task.name] = losses(task.kind, y, np.asarray(scores[f"{task.name}@{route}"]))
            base[task.name] = losses(task.kind, y, np.asarray(scores[f"{task.name}@product"]))
            weight[task.name] = row_weight(labels, task, weights)
        table = compare(own, base, clusters=clusters, sample_weight=weight) if own else pd.DataFrame()
        for name, row in table.iterrows():
            if row["verdict"] == "better" and row["difference"] < best.get(str(name), 0.0):
                best[str(name)] = row["difference"]
                why = (
                    f"{route}: validation loss {row['value']:.5g} against {row['baseline']:.5g} of the product "
                    f"(95 % interval of the difference {row['difference_low']:.2g} to {row['difference_high']:.2g})"
                )
                found[str(name)] = route, why
    return found
