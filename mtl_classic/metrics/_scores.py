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


def as_pandas(values: Any, Y: Any) -> Any:
    """A frame of another library as one of pandas, with the index of ``Y``; all else as it is."""
    if not (hasattr(values, "to_pandas") and hasattr(values, "columns")):
        return values
    frame = values.to_pandas()
    alike = isinstance(Y, pd.DataFrame | pd.Series) and len(Y) == len(frame)
    return frame.set_axis(Y.index, axis=0) if alike else frame


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
    own = scores.get(task.name) if isinstance(scores, Mapping) else scores
    if own is None:
        return None
    _check_index(own, Y, what)
    values: Floats | None
    if isinstance(scores, Mapping):
        values = _rows(own, what)
    elif isinstance(scores, pd.DataFrame):
        values = _from_frame(scores, task, classes, what)
    else:
        values = _rows(scores, what)
        if task.kind != "multiclass" or len(tasks) > 1:
            values = _by_position(values, task, tasks, what)
    if values is not None and len(values) != len(Y):
        raise ValueError(f"The {what} of task {task.name!r}: {len(values)} rows, but Y has {len(Y)}.")
    infinite = 0 if values is None or task.kind == "ranking" else int(np.isinf(values).sum())
    if infinite:
        raise ValueError(f"{infinite} {what} of task {task.name!r} are infinite; expected finite numbers, or NaN.")
    return values


def _rows(values: Any, what: str) -> Floats:
    if np.ndim(values) == 0:
        raise TypeError(f"{what} must be a frame, a dict task -> array or an array of scores, got {values!r}.")
    return as_floats(values, what)


def find_classes(Y: Any, scores: Any, tasks: Sequence[Task]) -> Classes:
    """Classes from Y, and, for multiclass tasks, from the ``task=class`` columns of a frame of scores."""
    labels = label_frame(Y)
    classes: Classes = {}
    for position, task in enumerate(tasks):
        by_name = hasattr(Y, "columns") and task.name in labels
        column = labels[task.name] if by_name else labels.iloc[:, min(position, labels.shape[1] - 1)]
        if column.notna().any():
            alone = replace(task, given=None)
            classes[task.name] = encode_targets(column.to_frame(name=task.name), [alone]).classes[task.name]
        elif task.is_classification and not task.is_soft:
            classes[task.name] = np.array([0, 1] if task.kind == "binary" else [])
        else:
            classes[task.name] = None
        texts = _classes_of_columns(scores, task) if isinstance(scores, pd.DataFrame) else []
        if task.kind == "multiclass" and texts:
            labels_of = _labels_by_text(column.dropna().unique())
            classes[task.name] = np.array([labels_of.get(text, text) for text in texts], dtype=object)
    return classes


def _from_frame(scores: pd.DataFrame, task: Task, classes: Classes, what: str) -> Floats | None:
    names = [task.name]
    if task.kind == "multiclass":
        known = classes[task.name]
        names = [_class_column(scores, task, label) for label in (known if known is not None else [])]
    missing = [name for name in names if name not in scores.columns]
    if what == "baseline" and len(missing) == len(names):
        return None
    if missing:
        have = ", ".join(map(str, scores.columns))
        raise ValueError(f"The {what} lack the columns {', '.join(missing)}; they have {have}.")
    return as_floats(scores[names] if task.kind == "multiclass" else scores[task.name], what)


def _classes_of_columns(scores: pd.DataFrame, task: Task) -> list[str]:
    """The classes of the ``task=class`` columns, as text."""
    start = f"{task.name}="
    return [name[len(start) :] for name in scores.columns if isinstance(name, str) and name.startswith(start)]


def _class_column(scores: pd.DataFrame, task: Task, label: Any) -> str:
    names = [f"{task.name}={text}" for text in _texts(label)]
    return next((name for name in names if name in scores.columns), names[0])


def _labels_by_text(labels: Any) -> dict[str, Any]:
    found = {str(label): label for label in labels}
    for label in labels:
        for text in _texts(label):
            found.setdefault(text, label)
    return found


def _texts(label: Any) -> list[str]:
    """A class as text, the exact one first; the numbers 2 and 2.0, to which a missing label turns it, are the same."""
    text = str(label)
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | float | np.number):
        return [text]
    short = text.removesuffix(".0")
    return [text, short, f"{short}.0"]


def _by_position(values: Floats, task: Task, tasks: Sequence[Task], what: str) -> Floats:
    if any(other.kind == "multiclass" for other in tasks):
        raise ValueError(
            f"With multiclass tasks the {what} must be a frame with task=class columns, or a dict task -> array."
        )
    values = values[:, None] if values.ndim == 1 else values
    if values.shape[1] != len(tasks):
        raise ValueError(f"The {what} have {values.shape[1]} columns, but there are {len(tasks)} tasks.")
    return values[:, [other.name for other in tasks].index(task.name)]


def _check_index(scores: Any, Y: Any, what: str) -> None:
    """Rows are matched by position; the same labels in another order are surely a mistake."""
    named = isinstance(scores, pd.DataFrame | pd.Series) and isinstance(Y, pd.DataFrame | pd.Series)
    if not named or len(Y) != len(scores) or scores.index.equals(Y.index):
        return
    if scores.index.is_unique and Y.index.is_unique and scores.index.isin(Y.index).all():
        raise ValueError(
            f"The rows of the {what} are those of Y in another order; sort them alike: {what} = {what}.loc[Y.index]."
        )
