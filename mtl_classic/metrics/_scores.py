"""Scores in any form that a user has, matched with the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.targets import Classes, encode_targets
from mtl_classic._core.tasks import Task, label_frame
from mtl_classic.metrics._arrays import Floats, as_floats


def task_scores(scores: Any, task: Task, tasks: Sequence[Task], classes: Classes, Y: Any, what: str) -> Floats | None:
    """Scores of one task, (n,) or (n, n_classes); None where a dict or a baseline has none.

    Parameters
    ----------
    scores : frame with columns like those of ``predict_scores``, dict task -> array, array, or None
    task : Task
    tasks : sequence of Task
        All of them, in the order of an array's columns.
    classes : dict task -> array
    Y : frame or array
        For the number of rows, and the index that a frame of scores should have.
    what : {"scores", "baseline"}
        For the errors; a baseline may lack tasks.
    """
    if scores is None:
        return None
    if isinstance(scores, pd.DataFrame):
        _check_index(scores, Y, what)
        values = _from_frame(scores, task, classes, what)
    elif isinstance(scores, Mapping):
        values = as_floats(scores[task.name], what) if task.name in scores else None
    else:
        values = as_floats(scores, what)
        if task.kind != "multiclass" or len(tasks) > 1:
            values = _by_position(values, task, tasks, what)
    if values is not None and len(values) != len(Y):
        raise ValueError(f"The {what} of task {task.name!r} have {len(values)} rows, but Y has {len(Y)}.")
    return values


def find_classes(Y: Any, scores: Any, tasks: Sequence[Task]) -> Classes:
    """Classes from Y, and, for multiclass tasks, from the ``task=class`` columns of a frame of scores."""
    labels = label_frame(Y.to_pandas() if hasattr(Y, "to_pandas") else Y)
    classes: Classes = {}
    for position, task in enumerate(tasks):
        by_name = isinstance(Y, pd.DataFrame) and task.name in labels
        column = labels[task.name] if by_name else labels.iloc[:, min(position, labels.shape[1] - 1)]
        if column.notna().any():
            alone = replace(task, given=None)
            classes[task.name] = encode_targets(column.to_frame(name=task.name), [alone]).classes[task.name]
        elif task.is_classification and not task.is_soft:
            classes[task.name] = np.array([0, 1] if task.kind == "binary" else [])
        else:
            classes[task.name] = None
        columns = _class_columns(scores, task) if isinstance(scores, pd.DataFrame) else {}
        if task.kind == "multiclass" and columns:
            seen = {_class_name(label): label for label in column.dropna().unique()}
            classes[task.name] = np.array([seen.get(name, name) for name in columns], dtype=object)
    return classes


def _from_frame(scores: pd.DataFrame, task: Task, classes: Classes, what: str) -> Floats | None:
    names = [task.name]
    if task.kind == "multiclass":
        known, columns = classes[task.name], _class_columns(scores, task)
        labels = [_class_name(label) for label in (known if known is not None else [])]
        names = [columns.get(label, f"{task.name}={label}") for label in labels]
    missing = [name for name in names if name not in scores.columns]
    if what == "baseline" and len(missing) == len(names):
        return None
    if missing:
        have = ", ".join(map(str, scores.columns))
        raise ValueError(f"The {what} lack the columns {', '.join(missing)}; they have {have}.")
    return as_floats(scores[names] if task.kind == "multiclass" else scores[task.name], what)


def _class_columns(scores: pd.DataFrame, task: Task) -> dict[str, str]:
    """The ``task=class`` columns by the name of the class."""
    start = f"{task.name}="
    return {_class_name(c[len(start) :]): c for c in scores.columns if isinstance(c, str) and c.startswith(start)}


def _class_name(label: Any) -> str:
    """A class as text; 2 and 2.0, to which a missing label turns it, are the same."""
    return str(label).removesuffix(".0")


def _by_position(values: Floats, task: Task, tasks: Sequence[Task], what: str) -> Floats:
    if any(other.kind == "multiclass" for other in tasks):
        raise ValueError(
            f"With multiclass tasks the {what} must be a frame with task=class columns, or a dict task -> array."
        )
    values = values[:, None] if values.ndim == 1 else values
    if values.shape[1] != len(tasks):
        raise ValueError(f"The {what} have {values.shape[1]} columns, but there are {len(tasks)} tasks.")
    return values[:, [other.name for other in tasks].index(task.name)]


def _check_index(scores: pd.DataFrame, Y: Any, what: str) -> None:
    """Rows are matched by position; the same labels in another order are surely a mistake."""
    if not isinstance(Y, pd.DataFrame | pd.Series) or len(Y) != len(scores) or scores.index.equals(Y.index):
        return
    if scores.index.is_unique and Y.index.is_unique and scores.index.isin(Y.index).all():
        raise ValueError(
            f"The rows of the {what} are those of Y in another order; sort them alike: {what} = {what}.loc[Y.index]."
        )
