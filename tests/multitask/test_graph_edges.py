"""Edges as users write them, the order that they ask for, and how they are drawn."""

from typing import Any

import pytest

from mtl_classic import Task, TaskError
from mtl_classic.multitask._graph_edges import final_order, in_order, resolve_edges, to_dot

TASKS = tuple(Task(name, "binary") for name in "abcd")


def names(tasks: Any) -> str:
    return "".join(task.name for task in tasks)


def test_names_stand_for_edges() -> None:
    assert resolve_edges("serial", TASKS[:3]) == (("a", "b", "final"), ("a", "c", "final"), ("b", "c", "final"))
    assert resolve_edges("dense", TASKS[:2]) == (("b", "a", "base"), ("a", "b", "base"))
    assert resolve_edges("dynamic", TASKS) == resolve_edges("dense", TASKS)
    with pytest.raises(ValueError, match='edges must be "serial", "dense", "dynamic" or a list'):
        resolve_edges("chain", TASKS)


def test_a_list_keeps_its_order_and_names_each_edge_once() -> None:
    given = [("b", "a"), ["a", "b", "final"], ("b", "a", "base"), ("b", "a", "final")]
    assert resolve_edges(given, TASKS) == (("b", "a", "base"), ("a", "b", "final"), ("b", "a", "final"))


def test_the_order_of_a_chain() -> None:
    assert names(in_order(["c", "a", "d", "b"], TASKS)) == "cadb"
    assert in_order("found", TASKS) == in_order("given", TASKS) == TASKS
    with pytest.raises(ValueError, match='"given", "found" or a list of all tasks'):
        in_order("abcd", TASKS)
    for order in (["a", "b", "c"], ["a", "b", "c", "c"], ["a", "b", "c", "d", "d"]):
        with pytest.raises(TaskError, match="order must name every task once"):
            in_order(order, TASKS)


def test_sources_of_final_edges_come_first_and_others_stay_where_they_are() -> None:
    assert names(final_order([("d", "a", "final"), ("c", "b", "base"), ("b", "c", "base")], TASKS)) == "bcda"
    assert final_order([("d", "a", "base")], TASKS) == TASKS


def test_a_cycle_is_told_without_what_leads_to_it_or_from_it() -> None:
    edges = [("a", "b", "final"), ("b", "c", "final"), ("c", "b", "final"), ("c", "d", "final")]
    with pytest.raises(TaskError, match=r"form a cycle: (b -> c -> b|c -> b -> c);"):
        final_order(edges, TASKS)
    back = [("b", "a", "final"), ("d", "b", "final"), ("c", "d", "final"), ("b", "c", "final")]
    with pytest.raises(TaskError, match="form a cycle: b -> c -> d -> b;"):
        final_order(back, TASKS)


def test_names_are_quoted_in_a_drawing() -> None:
    tasks = (Task('say "yes"', "binary"), Task("back\\slash", "binary"))
    drawn = to_dot([(tasks[0].name, tasks[1].name, "base"), (tasks[1].name, tasks[0].name, "final")], tasks)
    assert drawn.split("\n") == [
        "digraph tasks {",
        r'  "say \"yes\"";',
        r'  "back\\slash";',
        r'  "say \"yes\"" -> "back\\slash" [style=dashed];',
        r'  "back\\slash" -> "say \"yes\"";',
        "}",
    ]
