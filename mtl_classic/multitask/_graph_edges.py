"""Edges of a task graph: who helps whom, at which level, and in which order that can be fitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import check_option, list_of
from mtl_classic._core.tasks import Task

__all__ = ["Edge", "final_order", "in_order", "resolve_edges", "to_dot"]

Edge = tuple[str, str, str]
LEVELS = ("base", "final")
ORDERS = ("given", "found")


def resolve_edges(edges: Any, tasks: Sequence[Task]) -> tuple[Edge, ...]:
    """The edges that a name or a list stands for; those of ``"dynamic"`` are candidates.

    ``"serial"``: every task reads the final predictions of all before it, as in a chain. ``"dense"`` and ``"dynamic"``:
    every task reads the first-level predictions of all others.
    """
    check_option("edges", edges, ("serial", "dense", "dynamic", list_of("edges")))
    names = [task.name for task in tasks]
    if isinstance(edges, str):
        if edges == "serial":
            return tuple((a, b, "final") for j, b in enumerate(names) for a in names[:j])
        return tuple((a, b, "base") for b in names for a in names if a != b)
    return tuple(dict.fromkeys(_edge(edge, names) for edge in edges))


def in_order(order: Any, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks in the order of a chain; one that is still to be found leaves them as they are."""
    check_option("order", order, (*ORDERS, list_of("all tasks")))
    if isinstance(order, str):
        return tuple(tasks)
    by_name = {task.name: task for task in tasks}
    names = list(order)
    if sorted(map(str, names)) != sorted(by_name):
        raise TaskError(f"order must name every task once, got {names}; the tasks are {', '.join(by_name)}.")
    return tuple(by_name[name] for name in names)


def _edge(edge: Any, names: Sequence[str]) -> Edge:
    parts = tuple(edge) if isinstance(edge, Iterable) and not isinstance(edge, str) else ()
    if len(parts) == 2:
        parts = (*parts, "base")
    if len(parts) != 3 or parts[2] not in LEVELS:
        raise ValueError(f'An edge is (source, target) or (source, target, "base" or "final"), got {edge!r}.')
    unknown = [name for name in parts[:2] if name not in names]
    if unknown or parts[0] == parts[1]:
        what = f"names {', '.join(map(repr, unknown))}, no task" if unknown else "leads from a task to itself"
        raise TaskError(f"The edge {parts!r} {what}; the tasks are {', '.join(names)}.")
    return parts[0], parts[1], parts[2]


def final_order(edges: Sequence[Edge], tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Tasks in an order in which the sources of final edges come before their targets; a cycle is refused by name."""
    needs = {task.name: {a for a, b, level in edges if b == task.name and level == "final"} for task in tasks}
    order: list[Task] = []
    left = list(tasks)
    while left:
        free = [task for task in left if not needs[task.name] - {done.name for done in order}]
        if not free:
            raise TaskError(
                f"The final edges form a cycle: {' -> '.join(_cycle(needs, left[0].name))}; a final prediction can't "
                f'wait for itself. Make one of these edges "base".'
            )
        order.append(free[0])
        left.remove(free[0])
    return tuple(order)


def _cycle(needs: dict[str, set[str]], start: str) -> list[str]:
    """A closed walk along sources, in the direction of the edges; everything left waits for something left."""
    stuck = dict(needs)
    while free := [name for name, sources in stuck.items() if not sources & stuck.keys()]:
        for name in free:
            del stuck[name]
    walk = [start if start in stuck else next(iter(stuck))]
    while True:
        source = sorted(stuck[walk[-1]] & stuck.keys())[0]
        if source in walk:
            return [source, *reversed(walk[walk.index(source) :])]
        walk.append(source)


def to_dot(edges: Sequence[Edge], tasks: Sequence[Task]) -> str:
    """The graph in the language of Graphviz; base edges are dashed."""
    quoted = {task.name: '"' + task.name.replace("\\", "\\\\").replace('"', '\\"') + '"' for task in tasks}
    lines = [f"  {name};" for name in quoted.values()]
    for a, b, level in edges:
        style = " [style=dashed]" if level == "base" else ""
        lines.append(f"  {quoted[a]} -> {quoted[b]}{style};")
    return "\n".join(["digraph tasks {", *lines, "}"])
