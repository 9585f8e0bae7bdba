"""How each task of a stacking ensemble is combined: linearly, by a given estimator, or by a greedy average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from mtl_classic._core.base import Floats
from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import MAPPING, check_option, list_of
from mtl_classic._core.tasks import Task
from mtl_classic.ensemble._averaging import average_task, latest
from mtl_classic.ensemble._meta import (
    LinearMeta,
    MetaData,
    SklearnMeta,
    best_penalty,
    fit_linear_meta,
    fit_sklearn,
    trainable,
)
from mtl_classic.ensemble._selection import Problem, greedy_weights
from mtl_classic.ensemble._store import OutOfFold
from mtl_classic.model_selection._folds import Rows

__all__ = ["Choice", "check_finals", "check_neighbours", "given_choice", "greedy_held_out", "linear_choice"]

LEAST_LABELS = 20  # fewer labels than this choose nothing: the greedy average stands


@dataclass
class Choice:
    """How one task is combined: by a model, or by the greedy weights."""

    weights: Floats
    meta: LinearMeta | SklearnMeta | None
    held_out: Floats  # scores of rows that the combiner was not fitted on; NaN elsewhere
    reason: str | None = None


def linear_choice(problem: Problem, data: MetaData, splits: list[tuple[Rows, Rows]], greedy: Floats) -> Choice:
    """The linear combiner, its penalty chosen on rows that it has not seen."""
    kind, y, weight = problem.task.kind, problem.y, problem.weight
    inner = [(train, test, _averages(problem.take(train))) for train, test in _within(splits, problem.rows)]
    n_labels = len(y) if data.groups is None else len(np.unique(data.groups[problem.rows]))
    if n_labels < LEAST_LABELS or not any(trainable(y[train]) and len(test) for train, test, _ in inner):
        unit = "labelled rows" if data.groups is None else "queries"
        reason = f"{n_labels} {unit} with out-of-fold scores are too few to fit a combiner and to judge it"
        return Choice(greedy_weights(problem), None, greedy, reason)
    penalty, k, reads_side = best_penalty(kind, data, problem.rows, y, weight, inner)

    def fit(rows: Rows, averages: list[Floats]) -> LinearMeta:
        part = data.take(problem.rows[rows])
        return fit_linear_meta(kind, part, y[rows], weight[rows], penalty, averages[k], reads_side=reads_side)

    held_out = np.full(greedy.shape, np.nan)
    for (_, test), (train, _, averages) in zip(splits, inner, strict=True):
        if trainable(y[train]):
            held_out[test] = fit(train, averages).predict(data.take(test))
    meta = fit(np.arange(len(y)), _averages(problem))
    return Choice(meta.weights, meta, held_out)


def given_choice(
    final: Any,
    problem: Problem,
    columns: Floats,
    splits: list[tuple[Rows, Rows]],
    greedy: Floats,
    *,
    weighted: bool,
    n_classes: int,
    n_members: int,
) -> Choice:
    """The user's combiner, on scores as they are."""
    task, rows = problem.task, problem.rows
    if not trainable(problem.y):
        reason = f"the {len(rows)} labelled rows with out-of-fold scores have nothing to tell apart"
        return Choice(greedy_weights(problem), None, greedy, reason)

    def fit(part: Rows) -> SklearnMeta:
        weight = problem.weight[part] if weighted else None
        return fit_sklearn(clone(final), task, columns[rows[part]], problem.y[part], weight, n_classes)

    held_out = np.full((len(columns), *problem.parts.shape[2:]), np.nan)
    for (_, test), (train, _) in zip(splits, _within(splits, rows), strict=True):
        if trainable(problem.y[train]):
            held_out[test] = fit(train).predict(columns[test])
    return Choice(np.full(n_members, np.nan), fit(np.arange(len(rows))), held_out)


def greedy_held_out(problem: Problem, store: OutOfFold, splits: list[tuple[Rows, Rows]]) -> Floats:
    """Scores of greedy averages whose weights were chosen on other rows; NaN elsewhere."""
    held_out = np.full(store.of_task(problem.task.name)[0].shape, np.nan)
    for train, test in splits:
        held_out[test] = average_task(store, problem.task, greedy_weights(latest(problem.within(train), store)))[test]
    return held_out


def _averages(problem: Problem) -> list[Floats]:
    """What a combiner may be pulled to: the uniform average, and the greedy one."""
    n_members = len(problem.parts)
    uniform = np.full(n_members, 1 / n_members)
    greedy = greedy_weights(problem)
    return [uniform] if n_members == 1 else [uniform, greedy]


def _within(splits: list[tuple[Rows, Rows]], rows: Rows) -> list[tuple[Rows, Rows]]:
    """Splits of all rows as positions among the given ones."""
    return [tuple(np.flatnonzero(np.isin(rows, part)) for part in split) for split in splits]  # type: ignore[misc]


def check_neighbours(neighbours: Any, tasks: Sequence[Task]) -> dict[str, set[str]]:
    """For each task the others that its combiner reads."""
    check_option("neighbours", neighbours, ("all", MAPPING, None))
    names = [task.name for task in tasks]
    if neighbours is None:
        return {name: set() for name in names}
    if isinstance(neighbours, str):
        return {name: set(names) - {name} for name in names}
    for name, others in neighbours.items():
        check_option(f"neighbours[{name!r}]", others, list_of("tasks"))
    found = {name: set(neighbours.get(name, ())) - {name} for name in names}
    unknown = sorted((set(neighbours) | set().union(*found.values())) - set(names))
    if unknown:
        raise TaskError(f"neighbours names unknown tasks: {', '.join(unknown)}; the tasks are {', '.join(names)}.")
    return found


def check_finals(final: Any, tasks: Sequence[Task]) -> dict[str, Any]:
    """The given combiner of each task that has one."""
    by_name = {task.name: task for task in tasks}
    if isinstance(final, Mapping):
        unknown = sorted(set(final) - set(by_name))
        if unknown:
            raise TaskError(
                f"final_estimator names unknown tasks: {', '.join(unknown)}; the tasks are {', '.join(by_name)}."
            )
        chosen = {name: estimator for name, estimator in final.items() if estimator is not None}
    elif final is None:
        return {}
    elif not hasattr(final, "fit") or isinstance(final, type):
        raise TypeError(
            f"final_estimator must be a scikit-learn estimator, a dict task -> estimator or None, got {final!r}."
        )
    else:
        chosen = {
            task.name: final
            for task in tasks
            if task.kind != "ranking" and not task.is_soft and task.is_classification == is_classifier(final)
        }
    for name, estimator in chosen.items():
        task = by_name[name]
        if not hasattr(estimator, "fit") or isinstance(estimator, type):
            raise TypeError(f"final_estimator of {name!r} must be a scikit-learn estimator, got {estimator!r}.")
        if task.kind == "ranking" or task.is_soft:
            raise TaskError(f"Task {name!r} cannot have a final_estimator: its labels are no classes or numbers.")
        if task.is_classification and not hasattr(estimator, "predict_proba"):
            raise TypeError(f"Task {name!r} needs probabilities, and {type(estimator).__name__} has no predict_proba.")
        if not task.is_classification and is_classifier(estimator):
            raise TypeError(f"Task {name!r} needs a regressor, and {type(estimator).__name__} is a classifier.")
    return chosen
