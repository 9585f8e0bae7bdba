"""Greedy search for edges: one source at a time, kept only if the out-of-fold loss falls beyond the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mtl_classic._core.losses import EPSILON, prior_scores, task_loss
from mtl_classic._core.tasks import Task
from mtl_classic.learners._protocol import Floats
from mtl_classic.metrics._significance import compare_pairs
from mtl_classic.multitask._graph_edges import Edge
from mtl_classic.multitask._out_of_fold import OutOfFold

__all__ = ["MAX_SOURCES", "easiest_first", "find_edges"]

MAX_SOURCES = 4  # of one task: later ones hardly add to a line, and each costs a pass over all candidates


def find_edges(
    held: OutOfFold, candidates: Sequence[Edge], importance: Floats, max_edges: int | None
) -> tuple[Edge, ...]:
    """Edges that help, in the order of the candidates.

    Each round adds to each task the source that lowers its out-of-fold loss most, if the paired bootstrap says
    "better" after Holm's correction over all edges tried in the round.

    Cost: a line per fold for every edge tried; at most ``MAX_SOURCES`` rounds.
    """
    able = held.able()
    weight = {task.name: float(w) for task, w in zip(held.targets.tasks, importance, strict=True)}
    tasks = {task.name: task for task in held.targets.tasks}
    left = [edge for edge in candidates if edge[1] in able and weight[edge[1]] > 0]
    kept: list[Edge] = []
    open_tasks = {edge[1] for edge in left}
    current = {name: held.cross(tasks[name], held.columns(tasks[name], [])) for name in open_tasks}

    def with_edge(edge: Edge) -> Floats:
        """Out-of-fold scores of its target with this edge beside those kept."""
        chosen = [e for e in kept if e[1] == edge[1]]
        return held.cross(tasks[edge[1]], held.columns(tasks[edge[1]], [*chosen, edge]))

    for _ in range(MAX_SOURCES):
        tried = [edge for edge in left if edge[1] in open_tasks and edge not in kept]
        found = _better(held, tried, with_edge, current, weight)
        room = len(candidates) if max_edges is None else max_edges - len(kept)
        accepted = found[: max(room, 0)]
        current |= {edge[1]: with_edge(edge) for edge in accepted}  # again: all that were tried would fill the memory
        kept += accepted
        open_tasks = {edge[1] for edge in accepted}
        if not open_tasks:
            break
    return tuple(edge for edge in candidates if edge in kept)


def easiest_first(held: OutOfFold) -> tuple[Task, ...]:
    """Tasks by their own learner's out-of-fold loss relative to that of the prior, least first; rankings last."""

    def relative_loss(task: Task) -> float:
        rows = held.usable(task)
        if task.kind == "ranking" or not len(rows):
            return np.inf
        y, weight = held.targets.view(task.name)[rows], held.weight(task)[rows]
        prior = prior_scores(task.kind, y, held.targets.n_classes(task), weight)
        own = held.scores[task.name][rows]
        loss = task_loss(task.kind, y, own, weight)
        return loss / (task_loss(task.kind, y, np.broadcast_to(prior, own.shape), weight) or EPSILON)

    return tuple(sorted(held.targets.tasks, key=relative_loss))


def _better(
    held: OutOfFold,
    tried: Sequence[Edge],
    with_edge: Callable[[Edge], Floats],
    current: dict[str, Floats],
    weight: dict[str, float],
) -> list[Edge]:
    """The best edge of each task among those better beyond the noise, by weighted gain relative to the loss."""
    if not tried:
        return []
    tasks = {task.name: task for task in held.targets.tasks}
    before = {name: held.losses(tasks[name], scores) for name, scores in current.items()}

    def pairs() -> Iterator[tuple[str, Floats, Floats, Floats]]:
        for edge in tried:
            task = tasks[edge[1]]
            yield (
                f"{edge[0]} -> {edge[1]}",
                held.losses(task, with_edge(edge)),
                before[task.name],
                held.loss_weight(task),
            )

    table = compare_pairs(pairs(), clusters=held.clusters)
    best: dict[str, tuple[float, Edge]] = {}
    for edge, (_, row) in zip(tried, table.iterrows(), strict=True):
        gain = -float(row["difference"]) / (float(row["baseline"]) or EPSILON) * weight[edge[1]]
        if row["verdict"] == "better" and gain > best.get(edge[1], (-np.inf, edge))[0]:
            best[edge[1]] = gain, edge
    return [edge for _, edge in sorted(best.values(), key=lambda pair: -pair[0])]
