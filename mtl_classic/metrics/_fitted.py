"""What judges need of a fitted model and a table: scores, query groups and clusters, through pipelines and searches."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mtl_classic._core.base import group_codes
from mtl_classic._core.validation import check_order, find_role, n_rows


def end_of(model: Any, X: Any = None) -> tuple[Any, Any]:
    """What is at the end of a search or pipeline, and the table (if any) as it reaches it."""
    model = getattr(model, "best_estimator_", model)
    if hasattr(model, "steps"):
        if X is not None and len(model.steps) > 1:
            X = model[:-1].transform(X)
        model = model.steps[-1][1]
    return model, X


def last_step(model: Any, X: Any = None) -> tuple[Any, Any]:
    """The multi-task estimator at the end of a search or pipeline, and the table (if any) as it reaches it."""
    model, X = end_of(model, X)
    _check_has("tasks_", model)
    return model, X


def scores_of(model: Any, X: Any, space: str) -> pd.DataFrame:
    """``predict_scores`` of what is at the end, on what the steps before it make of X."""
    _check_has("predict_scores", end_of(model)[0])
    final, table = end_of(model, X)
    frame: pd.DataFrame = final.predict_scores(table, space=space)
    return frame


def _check_has(name: str, model: Any) -> None:
    if not hasattr(model, name):
        raise TypeError(
            f"Expected a fitted multi-task estimator, got {type(model).__name__}, which has no {name}; fit it first."
        )


def conflict_rule(final: Any) -> Any:
    """What the model does with a non-zero child of a negative parent."""
    rule = getattr(final, "_conflict_rule", None)
    return "raise" if rule is None else rule()


def groups_of(final: Any, table: Any) -> dict[str, Any]:
    """The query of each row, for every task where there is one."""
    groups: dict[str, Any] = {task.name: group_codes(table, task) for task in final.tasks_ if task.kind == "ranking"}
    query = role_column(final, table, "query")
    if query is not None:
        groups |= {task.name: table[query].to_numpy() for task in final.tasks_ if task.kind != "ranking"}
    return groups


def clusters_of_rows(final: Any, table: Any, clusters: Any) -> Any:
    """The keys that the user gave, or the column that she named, or the model's user; None where there is none."""
    user = clusters if clusters is not None else role_column(final, table, "user")
    return column_values(table, user, "clusters")


def column_values(table: Any, values: Any, what: str) -> Any:
    """The column of that name, or the columns of a list of names; values that are no names, as they are."""
    several = isinstance(values, list | tuple) and len(values) != n_rows(table)
    if not (isinstance(values, str) or (several and values and all(isinstance(name, str) for name in values))):
        check_order(table, **{what: values})
        return values
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{what}={values!r} names a column, but X is no frame; pass the values themselves.")
    if several:
        return table[[find_role(table.columns, name, what) for name in values]]
    return table[find_role(table.columns, values, what)]


def role_column(model: Any, table: Any, role: str) -> str | None:
    """The role's column in X, None where there is none: a pipeline may have renamed or made it on the way."""
    if not isinstance(table, pd.DataFrame):
        return None
    for name in (getattr(model, "roles_", {}).get(role), getattr(model, role, None)):
        if isinstance(name, str) and name in table.columns:
            return name
    return None
