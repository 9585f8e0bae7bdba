"""Scores of tasks as the columns of a frame: one per task, ``task=class`` for each class of a multiclass one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.spaces import Floats, Scores
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task

__all__ = ["check_score_names", "score_columns", "score_names", "scores_frame"]


def scores_frame(scores: Scores, tasks: Sequence[Task], classes: Classes, index: pd.Index) -> pd.DataFrame:
    """Scores of all tasks as one frame, a column per task and ``task=class`` columns for multiclass."""
    return pd.DataFrame(score_columns(scores, tasks, classes), index=index)


def score_columns(scores: Scores, tasks: Sequence[Task], classes: Classes) -> dict[str, Floats]:
    """The columns of `scores_frame`."""
    columns: dict[str, Floats] = {}
    for task in tasks:
        values = scores[task.name]
        for k, name in enumerate(score_names(task, classes)):
            columns[name] = values[:, k] if task.kind == "multiclass" else values
    return columns


def score_names(task: Task, classes: Classes) -> list[str]:
    """The columns that a task's scores have in a frame."""
    if task.kind != "multiclass":
        return [task.name]
    labels = classes[task.name]
    return [f"{task.name}={label}" for label in (labels if labels is not None else [])]


def check_score_names(tasks: Sequence[Task], classes: Classes) -> None:
    """Refuse tasks and classes of which two scores would have one name."""
    counts = Counter(name for task in tasks for name in score_names(task, classes))
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise TaskError(
            f"Several scores would have the name {', '.join(map(repr, repeated))}; rename a task, or give classes "
            f"different texts (1 and '1' are two classes)."
        )
