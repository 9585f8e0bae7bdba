"""What is known of the rows that a model is judged on: labels, weights, queries and clusters, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_classic._core.targets import Classes, Targets, encode_targets, entire_weights
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import check_sample_weight
from mtl_classic.metrics._arrays import Codes, Floats, factorize
from mtl_classic.metrics._registry import Judged, select
from mtl_classic.metrics._significance import clusters_of
from mtl_classic.metrics._statistics import Clusters


@dataclass(frozen=True, eq=False)
class Known:
    """The rows but for their scores.

    Attributes
    ----------
    targets : Targets
    space : {"entire", "conditional"}
    weights : ndarray of shape (n, n_tasks), or None
    groups : dict task -> ndarray of shape (n,)
        Codes of the query of each row, where there is one.
    clusters : dict task -> Clusters
        What a bootstrap draws as a whole.
    """

    targets: Targets
    space: str
    weights: Floats | None
    groups: dict[str, Codes]
    clusters: dict[str, Clusters]

    @classmethod
    def of(
        cls,
        Y: Any,
        tasks: Sequence[Task],
        classes: Classes,
        *,
        space: str,
        on_conflict: Any,
        groups: Any,
        clusters: Any,
        sample_weight: Any,
        seed: int,
        parts: Sequence[Codes] | None = None,
    ) -> Known:
        """Check and encode what the user gave; the seed is that of clusters too many to be drawn one by one.

        ``parts`` are rows, each in one part, that are judged on their own; None: all are judged together.
        """
        targets = encode_targets(Y, tasks, classes=classes, on_conflict=on_conflict)
        n = len(targets)
        codes = _group_codes(groups, tasks, n)
        weights = check_sample_weight(sample_weight, tasks, n)
        weights = _entire_weights(targets, weights, parts) if space == "entire" else weights
        return cls(targets, space, weights, codes, _clusters(targets, codes, clusters, seed))

    def judged(self, task: Task, scores: Floats, rows: Codes) -> Judged:
        """Those of ``rows`` that count for the task, with their scores."""
        y = self.targets.view(task.name, self.space)
        one = np.broadcast_to(1.0, len(y))
        weight = one if self.weights is None else self.weights[:, self.targets.position(task.name)]
        return select(task.kind, y, scores, weight, self.groups.get(task.name), rows)


def _entire_weights(targets: Targets, weights: Floats | None, parts: Sequence[Codes] | None) -> Floats | None:
    """Weights of the entire view, as each part would have them alone: its labelled rows stand for its rows."""
    if parts is None:
        return entire_weights(targets, weights)
    found = [entire_weights(targets.take(rows), None if weights is None else weights[rows]) for rows in parts]
    if all(own is None for own in found):
        return None
    whole = np.ones((len(targets), len(targets.tasks)))
    for rows, own in zip(parts, found, strict=True):
        if own is not None:
            whole[rows] = own
    return whole


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


def _clusters(targets: Targets, groups: dict[str, Codes], users: Any, seed: int) -> dict[str, Clusters]:
    """Users, else queries, else rows; queries too where a ranking's query spans several users."""
    n = len(targets)
    query = next(iter(groups.values()), np.arange(n))
    user = None if users is None else factorize(users, n, "clusters")[0]
    chosen = {}
    for task in targets.tasks:
        own = groups.get(task.name, query)
        nested = user is not None and (task.kind != "ranking" or _nested(own, user))
        chosen[task.name] = user if user is not None and nested else own
    made = {id(codes): clusters_of(codes, seed) for codes in chosen.values()}
    return {name: made[id(codes)] for name, codes in chosen.items()}


def _nested(inner: Codes, outer: Codes) -> bool:
    """Whether every group of ``inner`` lies within one group of ``outer``."""
    first = np.zeros(int(inner.max(initial=-1)) + 1, dtype=np.intp)
    first[inner] = outer
    return bool((first[inner] == outer).all())
