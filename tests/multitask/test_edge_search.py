"""Which edges are kept, on out-of-fold scores that are made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from mtl_classic import Task, make_folds
from mtl_classic._core.targets import encode_targets
from mtl_classic.multitask._edge_search import easiest_first, find_edges
from mtl_classic.multitask._graph_edges import resolve_edges
from mtl_classic.multitask._out_of_fold import OutOfFold

RNG = np.random.default_rng(0)
N = 1500
U, V, W = RNG.normal(size=(3, N))
# What the labels hang on, and what the task's own learner knows of it: "both" lacks V and W, "pair" lacks W.
TRUTHS = {"both": (U + 2 * V + W, U), "second": (2 * V, 2 * V), "third": (2 * W, 2 * W), "pair": (V + W, V)}
NAMES = tuple(TRUTHS)


def held(weights: Any = None) -> OutOfFold:
    rng = np.random.default_rng(1)
    labels = np.column_stack([truth + rng.logistic(size=N) > 0 for truth, _ in TRUTHS.values()]).astype(float)
    tasks = [Task(name, "binary") for name in NAMES]
    scores = {name: expit(known) for name, (_, known) in TRUTHS.items()}
    plan = make_folds(3, labels, random_state=0)
    return OutOfFold(encode_targets(labels, tasks), weights, scores, plan, plan.fold, None, None, "logit", 1.0)


def found(max_edges: int | None = None, importance: Sequence[float] = (1, 1, 1, 1), weights: Any = None) -> list[Any]:
    own = held(weights)
    candidates = resolve_edges("dynamic", own.targets.tasks)
    edges = find_edges(own, candidates, np.asarray(importance, dtype=float), max_edges)
    assert list(edges) == [edge for edge in candidates if edge in edges]
    return [edge[:2] for edge in edges]


def test_every_source_that_tells_something_new_is_found_and_no_other() -> None:
    assert found() == [("second", "both"), ("third", "both"), ("third", "pair")]


def test_the_edges_of_the_greatest_weighted_gain_are_kept() -> None:
    assert found(0) == []
    assert found(1) == [("second", "both")]
    assert found(2) == [("second", "both"), ("third", "pair")]  # the second source of a task waits for a round
    assert found(1, (0.1, 1, 1, 2.9)) == [("third", "pair")]
    assert found(None, (0, 1, 1, 2)) == [("third", "pair")]


def test_rows_of_no_weight_tell_nothing() -> None:
    weights = np.ones((N, 4))
    weights[20:, 0] = 0
    assert found(weights=weights) == [("third", "pair")]


def test_tasks_are_in_the_order_of_their_loss_relative_to_the_prior() -> None:
    own = held()
    assert [task.name for task in easiest_first(own)][-1] == "both"
    own.scores["both"] = expit(TRUTHS["both"][0])
    assert easiest_first(own)[0].name == "both"


def test_rankings_and_tasks_without_rows_come_last() -> None:
    tasks = [Task("list", "ranking", query="q"), Task("none", "binary"), Task("poor", "binary"), Task("sum", "count")]
    labels = np.column_stack([RNG.integers(0, 2, (N, 3)), RNG.poisson(np.exp(U))]).astype(float)
    labels[5:, 1] = np.nan
    plan = make_folds(3, labels, random_state=0)
    scores = {"list": U, "none": expit(U), "poor": np.full(N, 0.3), "sum": np.exp(U)}
    weights = np.ones((N, 4))
    weights[:, 1] = 0
    weights[6, 1] = 1  # of a row without label
    own = OutOfFold(
        encode_targets(labels, tasks), weights, scores, plan, plan.fold, np.arange(N) // 5, None, "logit", 1
    )
    assert [task.name for task in easiest_first(own)] == ["sum", "poor", "list", "none"]
    assert own.able() == {"list", "poor", "sum"}


@pytest.mark.parametrize(("n_labels", "able"), [(9, False), (10, True)])
def test_a_line_needs_ten_labels_of_two_kinds(n_labels: int, able: bool) -> None:
    weights = np.zeros((N, 4))
    weights[:n_labels, 0] = 1
    own = held(weights)
    assert ("both" in own.able()) == able
    own.targets.view("both")[:n_labels] = 1
    assert "both" not in own.able()
