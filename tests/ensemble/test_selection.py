"""Weights of members: the least of the stated objective, whole budgets, nothing to choose by."""

from typing import Any

import numpy as np
import pytest

from mtl_classic import Task
from mtl_classic._core.losses import task_loss
from mtl_classic.ensemble._selection import (
    choose_weights,
    greedy_weights,
    make_problem,
    optimal_weights,
    pull_of,
    thinned,
)

SOLVERS = [greedy_weights, optimal_weights]


def two_members(kind: str, n: int = 300) -> tuple[Any, list[Any], Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2 if kind == "binary" else 4, n).astype(float)
    scores = [np.abs(y + s * rng.normal(size=n)) + 0.05 for s in (0.9, 1.2)]
    if kind == "binary":
        scores = [1 / (1 + np.exp(-2 * (y - 0.5) - s * rng.normal(size=n))) for s in (0.6, 1.2)]
    return y, scores, rng.uniform(0.2, 3, n)


@pytest.mark.parametrize("pull", [0.0, 30.0, 300.0])
@pytest.mark.parametrize("kind", ["binary", "regression", "count"])
@pytest.mark.parametrize("solve", SOLVERS)
def test_weights_have_the_least_objective(solve: Any, kind: str, pull: float) -> None:
    """Of all shares of two members: the loss in units of the smaller of the average's and the prior's, and the pull."""
    y, scores, weight = two_members(kind)

    def loss(share: float) -> float:
        parts = np.log(scores) if kind == "count" else np.asarray(scores)
        mean = share * parts[0] + (1 - share) * parts[1]
        return task_loss(kind, y, np.exp(mean) if kind == "count" else mean, weight)

    unit = min(loss(0.5), task_loss(kind, y, np.full(len(y), np.average(y, weights=weight)), weight))
    shares = np.linspace(0, 1, 1001)
    best = shares[np.argmin([loss(w) / unit + pull / len(y) * 2 * (w - 0.5) ** 2 for w in shares])]
    found = solve(make_problem(Task("y", kind), y, scores, weight, None, pull), range(2))
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(best, abs=0.005 if solve is optimal_weights else 0.02)


@pytest.mark.parametrize("kind", ["binary", "ranking"])
@pytest.mark.parametrize("solve", SOLVERS)
def test_without_labels_all_that_may_count_count_alike(solve: Any, kind: str) -> None:
    task = Task("y", kind, query="q" if kind == "ranking" else None)
    problem = make_problem(task, np.full(4, np.nan), [np.full(4, 0.5)] * 3, None, np.zeros(4, dtype=np.intp), 10.0)
    np.testing.assert_allclose(solve(problem, range(3)), 1 / 3)
    np.testing.assert_allclose(solve(problem, [0, 2]), [0.5, 0, 0.5])


def test_a_ranking_without_relevant_rows_or_differences_has_no_loss() -> None:
    task = Task("y", "ranking", query="q")
    problem = make_problem(task, np.zeros(4), [np.arange(4.0), np.ones(4)], None, np.array([0, 0, 1, 1]), 10.0)
    assert np.isfinite(problem.parts).all()
    assert [problem.loss(part) for part in problem.parts] == [0, 0]
    np.testing.assert_allclose(greedy_weights(problem), 0.5)


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_members_that_fill_the_budget_stay(method: str) -> None:
    y, scores, weight = two_members("regression")
    problem = make_problem(Task("y", "regression"), y, scores, weight, None, 10.0)
    empty = make_problem(Task("z", "regression"), y * np.nan, scores, weight, None, 10.0)
    free = choose_weights([problem, empty], method, max_members=None, costs=[1.0, 2.0])
    full = choose_weights([problem, empty], method, max_members=3, costs=[1.0, 2.0])
    np.testing.assert_array_equal(full, free)
    np.testing.assert_array_equal(free[:, 0], SOLVERS[method == "optimize"](problem, range(2)))
    less = choose_weights([problem, empty], method, max_members=2, costs=[1.0, 2.0])
    assert less.tolist() == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_a_member_dearer_than_the_budget_has_no_weight_where_another_fits(method: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    scores = [y + s * rng.normal(size=300) for s in (0.1, 1.0, 1.2)]  # the first is by far the best
    problem = make_problem(Task("y", "regression"), y, scores, None, None, 10.0)
    weights = choose_weights([problem], method, max_members=2, costs=[3.0, 1.0, 1.0])[:, 0]
    assert weights[0] == 0
    assert (weights[1:] > 0.2).all()
    none_fits = choose_weights([problem], method, max_members=0.5, costs=[3.0, 2.0, 1.0])
    assert none_fits.tolist() == [[0.0], [0.0], [1.0]]  # the cheapest


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_of_members_that_each_fit_the_budget_the_dearest_for_what_it_brings_leaves(method: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    scores = [y + s * rng.normal(size=400) for s in (0.5, 0.55, 0.6)]
    problem = make_problem(Task("y", "regression"), y, scores, None, None, 10.0)
    weights = choose_weights([problem], method, max_members=3, costs=[3.0, 1.0, 1.0])[:, 0]
    assert weights[0] == 0
    assert (weights[1:] > 0.3).all()


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_a_dear_member_that_is_worth_it_stays_and_one_that_costs_nothing_always(method: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    scores = [y + s * rng.normal(size=400) for s in (0.5, 1.0, 1.05)]
    problem = make_problem(Task("y", "regression"), y, scores, None, None, 10.0)
    assert choose_weights([problem], method, max_members=None, costs=[3, 1, 1]).all()
    assert choose_weights([problem], method, max_members=4, costs=[3, 1, 1])[0] > 0.7
    assert choose_weights([problem], method, max_members=1, costs=[1, 1, 0])[:, 0].astype(bool).tolist() == [1, 0, 1]


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_the_units_of_a_task_do_not_choose_the_members(method: str) -> None:
    """Without the first member the first task loses half, without the second the second task, in cents, a little."""
    rng = np.random.default_rng(0)
    problems = []
    for j, (size, spread) in enumerate([(1.0, (0.9, 9.0, 0.9)), (100.0, (9.0, 0.9, 0.5))]):
        y = size * rng.normal(size=400)
        scores = [y + size * s * rng.normal(size=400) for s in spread]
        problems.append(make_problem(Task(f"y{j}", "regression"), y, scores, None, None, 10.0))
    weights = choose_weights(problems, method, max_members=2, costs=[1, 1, 1])
    assert weights.any(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("solve", SOLVERS)
def test_the_unit_of_the_labels_does_not_weigh_the_members(solve: Any) -> None:
    y, scores, weight = two_members("regression")
    expected = solve(make_problem(Task("y", "regression"), y, scores, weight, None, 10.0), allowed=[0, 1])
    assert expected[0] > 0.6
    for unit in (2.0**-30, 2.0**30):
        problem = make_problem(Task("y", "regression"), unit * y, [unit * f for f in scores], weight, None, 10.0)
        np.testing.assert_allclose(solve(problem, allowed=[0, 1]), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["greedy", "optimize"])
def test_members_of_single_tasks_count_against_the_budget(method: str) -> None:
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(2, 300))
    near, far = 0.01 * rng.normal(size=300), 5 * rng.normal(size=300)
    problems = [
        make_problem(Task(f"y{j}", "regression"), y, [y + (near, far)[j], y + (far, near)[j]], None, None, 0.0)
        for j, y in enumerate(Y)
    ]
    free = choose_weights(problems, method, max_members=None, costs=[1, 1])
    assert (free.argmax(axis=0) == [0, 1]).all()
    weights = choose_weights(problems, method, max_members=1, costs=[1, 1])
    assert sorted(weights.tolist()) == [[0, 0], [1, 1]]


def test_the_unit_of_the_objective_is_the_loss_of_the_average_or_of_a_constant_if_that_is_less() -> None:
    y, weight = np.array([0.0, 0, 4, 4]), np.array([3.0, 3, 1, 1])
    task = Task("y", "regression")
    for far, unit in ((1.0, 0.25), (100.0, 3.0)):  # the labels' weighted variance is 3
        problem = make_problem(task, y, [y, y + far], weight, None, 10.0)
        assert problem.scale(problem.parts) == pytest.approx(unit)
    alike = make_problem(task, np.ones(4), [np.ones(4), np.full(4, 100.0)], None, None, 10.0)
    assert alike.scale(alike.parts) == pytest.approx(49.5**2)  # no constant has a loss


def test_a_ranking_has_no_slope_and_sure_probabilities_have_one() -> None:
    rng = np.random.default_rng(0)
    y, queries = rng.integers(0, 3, 200).astype(float), np.arange(200) // 5
    task = Task("grade", "ranking", query="q")
    problem = make_problem(task, y, [y + s * rng.normal(size=200) for s in (1.0, 1.3)], None, queries, 10.0)
    np.testing.assert_array_equal(optimal_weights(problem, [0, 1]), greedy_weights(problem))
    y = (y > 0) * 1.0
    sure = np.where(rng.random(200) < 0.8, y, 1 - y)
    problem = make_problem(Task("buy", "binary"), y, [sure, np.full(200, 0.5)], None, None, 0.0)
    right = np.mean(sure == y)
    assert optimal_weights(problem, [0, 1])[0] == pytest.approx(2 * right - 1, abs=1e-3)  # says how often it is right


def test_thinned_rows_are_every_so_many_rows_or_whole_queries() -> None:
    rows, queries = np.arange(7), np.array([5, 5, 7, 9, 7, 9, 9])
    assert thinned(rows, 3, None).tolist() == [0, 3, 6]
    assert thinned(rows, 2, queries).tolist() == [0, 1, 3, 5, 6]
    assert thinned(rows[2:], 2, queries).tolist() == [2, 4]


def test_the_pull_is_stronger_in_time_and_may_be_none() -> None:
    assert (pull_of(None, False), pull_of(None, True), pull_of(0.0, True), pull_of(5.0, False)) == (10, 100, 0, 5)
