"""Tasks: what is predicted, and how the tasks hang together in a funnel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.arrow import as_known_type, frame_from_arrow, from_arrow
from mtl_classic._core.exceptions import LabelError, TaskError
from mtl_classic._core.options import COLUMN, COLUMNS, METRIC, Kind, check_option
from mtl_classic._core.time import check_duration

__all__ = [
    "KINDS", "Task", "fitting_order", "infer_tasks", "label_array", "label_frame", "line_of", "resolve_tasks",
]  # fmt: skip

KINDS = ("binary", "multiclass", "regression", "count", "ranking")

_LOSSES: dict[str, tuple[str, ...]] = {
    "binary": ("log_loss", "kl"),
    "multiclass": ("log_loss",),
    "regression": ("squared_error",),
    "count": ("poisson",),
    "ranking": ("lambdarank",),
}


GIVEN = Kind(
    "the name of a task or a pair (task, class)",
    lambda given: isinstance(given, str | tuple),
    lambda given: isinstance(given, str) or (len(given) == 2 and isinstance(given[0], str)),
)


@dataclass(frozen=True)
class Task:
    """One thing to predict.

    Parameters
    ----------
    name : str
        Name of the task: its column in ``Y``.
    kind : {"binary", "multiclass", "regression", "count", "ranking"}
        What the label is: two values; any hashable; a real number; a non-negative integer; a relevance
        0, 1, 2 … within a query.
    given : str or (str, class), default=None
        The parent in a funnel: this task can only happen where the binary task ``given`` is positive, or where the
        multiclass task ``given[0]`` has the class ``given[1]``.
    positive : hashable, default=None
        Which label is the positive class of a binary task. ``None``: the larger in sorted order, or the later one of
        ordered categories.
    query : str or tuple of str, default=None
        Column or columns that hold the group within which a ranking task ranks. They are no features, of whichever task
        they are the query.
    delay : str, timedelta or number, default=None
        How long after the row's time the label is known (``"7D"``); a number where time is a number.
    loss : str, default=None
        ``None`` is the kind's own: log-loss, squared error, Poisson deviance, lambdarank. ``"kl"`` makes a binary task
        accept soft labels in [0, 1].
    metric : str, default=None
        A further metric in the reports of `evaluate`, besides those of the kind; a name that `get_metric` knows.

    Raises
    ------
    TaskError
        If a kind or loss is unknown, or options contradict the kind.

    Examples
    --------
    >>> from mtl_classic import Task
    >>> Task("buy", "binary", given="click").parent
    'click'
    """

    name: str
    kind: str
    given: str | tuple[str, Any] | None = field(default=None, kw_only=True)
    positive: Any = field(default=None, kw_only=True)
    query: str | tuple[str, ...] | None = field(default=None, kw_only=True)
    delay: Any = field(default=None, kw_only=True)
    loss: str | None = field(default=None, kw_only=True)
    metric: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TaskError(f"A task needs a non-empty string as name, got {self.name!r}.")
        if self.kind not in KINDS:
            raise TaskError(
                f"Task {self.name!r} has the unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}."
            )
        if self.loss is not None and self.loss not in _LOSSES[self.kind]:
            raise TaskError(
                f"Task {self.name!r} has loss={self.loss!r}; the kind {self.kind!r} allows "
                f"{', '.join(_LOSSES[self.kind])}."
            )
        if self.positive is not None and self.kind != "binary":
            raise TaskError(f"Task {self.name!r} is {self.kind}; positive= is for binary tasks only.")
        check_option("given", self.given, (GIVEN, None))
        check_option("query", self.query, (COLUMN, COLUMNS, None))
        check_option("metric", self.metric, (METRIC, None))
        check_duration("delay", self.delay)
        if self.kind == "ranking" and not self.query_columns:
            raise TaskError(
                f"The ranking task {self.name!r} needs query=, the column (or columns) that hold its groups: "
                f"Task({self.name!r}, 'ranking', query=...) in a list of tasks."
            )
        if self.parent == self.name:
            raise TaskError(f"Task {self.name!r} names itself as its parent.")

    @property
    def parent(self) -> str | None:
        """Name of the parent task, or None."""
        return self.given[0] if isinstance(self.given, tuple) else self.given

    @property
    def parent_class(self) -> Any:
        """The parent's class under which this task lives, or None for a binary parent."""
        return self.given[1] if isinstance(self.given, tuple) else None

    @property
    def is_classification(self) -> bool:
        """Whether the label is a class."""
        return self.kind in ("binary", "multiclass")

    @property
    def is_soft(self) -> bool:
        """Whether the labels of a binary task are probabilities."""
        return self.kind == "binary" and self.loss == "kl"

    @property
    def query_columns(self) -> tuple[str, ...]:
        """The query as a tuple of columns, empty where there is none."""
        if self.query is None:
            return ()
        return (self.query,) if isinstance(self.query, str) else tuple(self.query)


def resolve_tasks(tasks: Iterable[Task] | Mapping[str, str] | None, Y: Any) -> tuple[Task, ...]:
    """Turn what a user gives as ``tasks=`` into a checked tuple.

    Parameters
    ----------
    tasks : iterable of Task, dict name -> kind, or None
        ``None`` infers the tasks from ``Y``.
    Y : DataFrame or array of shape (n,) or (n, n_tasks)
        The labels; used for inference, and for the order of categories.

    Returns
    -------
    tuple of Task

    Raises
    ------
    TaskError
        On duplicates, unknown parents, cycles, or parents of a kind that has no positive class.
    """
    if tasks is None:
        return _with_later_positive(infer_tasks(Y), Y)
    if isinstance(tasks, Mapping):
        if given := [name for name, kind in tasks.items() if isinstance(kind, Task)]:
            raise TypeError(
                f"tasks as a dict gives names their kinds, got a Task for {given[0]!r}; put Tasks into a list."
            )
        resolved = tuple(Task(name, kind) for name, kind in tasks.items())
    elif isinstance(tasks, Task):
        raise TypeError(f"tasks must be a list of Task objects, got the single one {tasks.name!r}; put it into a list.")
    elif isinstance(tasks, Iterable):
        resolved = tuple(tasks)
    else:
        raise TypeError(f"tasks must be a list of Task objects or a dict name -> kind, got {tasks!r}.")
    for task in resolved:
        if not isinstance(task, Task):
            raise TypeError(f"tasks must hold Task objects or be a dict name -> kind, got {type(task).__name__}.")
    if not resolved:
        raise TaskError("tasks is empty; give at least one Task, or None to infer them from Y.")
    names = [task.name for task in resolved]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TaskError(f"Task names must be unique; repeated: {', '.join(repeated)}.")
    fitting_order(resolved)
    return _with_later_positive(resolved, Y)


def _with_later_positive(tasks: tuple[Task, ...], Y: Any) -> tuple[Task, ...]:
    """Binary tasks whose labels are two ordered categories name the later one as positive."""
    if not (isinstance(Y, pd.DataFrame | pd.Series) or hasattr(Y, "to_pandas")):
        return tasks
    frame = label_frame(Y)
    names = list(frame.columns) if hasattr(Y, "columns") else [task.name for task in tasks]
    columns = {name: frame.iloc[:, j] for j, name in enumerate(names[: frame.shape[1]])}
    return tuple(
        replace(task, positive=_later_of_two(columns[task.name]))
        if task.kind == "binary" and not task.is_soft and task.positive is None and task.name in columns
        else task
        for task in tasks
    )


def _later_of_two(column: pd.Series) -> Any:
    if not isinstance(column.dtype, pd.CategoricalDtype) or not column.dtype.ordered:
        return None
    categories = column.dtype.categories
    if len(categories) != 2:
        categories = column.cat.remove_unused_categories().cat.categories
    return categories.tolist()[-1] if len(categories) == 2 else None


def fitting_order(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Tasks with every parent before its children, else in the given order.

    Raises
    ------
    TaskError
        If a parent is unknown, is not binary or multiclass, lacks the class, or parents form a cycle.
    """
    by_name = {task.name: task for task in tasks}
    for task in by_name.values():
        if task.parent is not None:
            _check_parent(task, by_name)
    ordered: dict[str, Task] = {}
    waiting = list(by_name.values())
    while waiting:
        ready = [task for task in waiting if task.parent is None or task.parent in ordered]
        if not ready:
            raise TaskError(f"The parents (given=) form a cycle among: {', '.join(task.name for task in waiting)}.")
        ordered.update((task.name, task) for task in ready)
        waiting = [task for task in waiting if task.name not in ordered]
    return tuple(ordered.values())


def line_of(task: Task, tasks: Iterable[Task]) -> tuple[Task, ...]:
    """A task, and those above it in the funnel up to the root."""
    by_name, line = {other.name: other for other in tasks}, [task]
    while (parent := line[-1].parent) is not None:
        line.append(by_name[parent])
    return tuple(line)


def _check_parent(task: Task, by_name: Mapping[str, Task]) -> None:
    parent = by_name.get(str(task.parent))
    if parent is None:
        raise TaskError(
            f"Task {task.name!r} is given {task.parent!r}, which is none of the tasks: {', '.join(by_name)}."
        )
    if parent.kind == "multiclass" and not isinstance(task.given, tuple):
        raise TaskError(
            f"Task {task.name!r} is given the multiclass task {parent.name!r}; say under which class: "
            f"given=({parent.name!r}, class)."
        )
    if parent.kind not in ("binary", "multiclass"):
        raise TaskError(
            f"Task {task.name!r} is given {parent.name!r}, a {parent.kind} task; a parent is binary or multiclass."
        )
    if parent.kind == "binary" and isinstance(task.given, tuple):
        raise TaskError(
            f"Task {task.name!r} names a class of {parent.name!r}, which is binary; write given={parent.name!r}."
        )
    if parent.is_soft:
        raise TaskError(
            f"Task {task.name!r} is given {parent.name!r}, whose labels are soft; a parent needs hard labels."
        )


def infer_tasks(Y: Any) -> tuple[Task, ...]:
    """Guess the kind of each label column, refusing to guess where it could be wrong.

    Booleans and two-valued columns are binary, strings and categories multiclass, fractional numbers regression.
    Other integers could be counts, classes, grades or amounts: they are refused.

    Parameters
    ----------
    Y : DataFrame or array of shape (n,) or (n, n_tasks)
        Labels; NaN, None and NA are unlabelled and do not count as a value.

    Returns
    -------
    tuple of Task

    Raises
    ------
    TaskError
        Naming the columns that need ``tasks=`` and the choices.

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic import infer_tasks
    >>> [t.kind for t in infer_tasks(pd.DataFrame({"buy": [0, 1, None], "spend": [0.0, 9.5, 1.25]}))]
    ['binary', 'regression']
    """
    frame = label_frame(Y)
    if not frame.shape[1]:
        raise TaskError("Y has no columns, so there is nothing to predict; expected a column per task.")
    kinds = {str(name): _infer_kind(frame[name]) for name in frame.columns}
    unclear = [name for name, kind in kinds.items() if kind is None]
    if unclear:
        raise TaskError(
            f"Cannot tell the kind of the integer labels {', '.join(unclear)}: they could be counts, classes, grades "
            f'or amounts. Say it: tasks={{"{unclear[0]}": "count"}} (or "multiclass", "regression"; '
            f'"ranking" needs a Task with query=).'
        )
    return tuple(Task(name, str(kind)) for name, kind in kinds.items())


def label_frame(Y: Any) -> pd.DataFrame:
    """``Y`` as a DataFrame whose columns are named like the tasks; unnamed columns become ``y0, y1 …``."""
    if hasattr(Y, "to_pandas"):
        Y = Y.to_pandas()
    if isinstance(Y, pd.DataFrame):
        return _named_by_text(frame_from_arrow(Y))
    if isinstance(Y, pd.Series):
        return from_arrow(Y).to_frame(name=Y.name if isinstance(Y.name, str) and Y.name else "y0")
    values = label_array(Y)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        what = f"{values.ndim} dimensions" if isinstance(Y, np.ndarray | list | tuple) else f"a {type(Y).__name__}"
        raise ValueError(f"Y must be a frame, or a 1-D or 2-D array (rows, tasks), got {what}.")
    return pd.DataFrame(values, columns=[f"y{j}" for j in range(values.shape[1])])


def label_array(Y: Any) -> npt.NDArray[Any]:
    """Labels as an array; beside text the numbers of a list stay numbers, and NaN stays missing."""
    values = np.asarray(Y)
    if values.dtype.kind not in "US":
        return as_known_type(values)
    if not isinstance(Y, np.ndarray):
        return np.array(Y, dtype=object)
    if missing := int((values == ("nan" if values.dtype.kind == "U" else b"nan")).sum()):
        raise LabelError(
            f"Y is an array of text with {missing} labels 'nan', which is what NumPy makes of missing ones; "
            f"give a frame, a list, or an array with dtype=object."
        )
    return values


def _named_by_text(frame: pd.DataFrame) -> pd.DataFrame:
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TaskError(f"The columns of Y must have unique names; repeated: {', '.join(repeated)}.")
    return frame if names == list(frame.columns) else frame.set_axis(names, axis=1)


def _infer_kind(column: pd.Series) -> str | None:
    try:
        known = pd.Series(column.dropna().unique())
    except TypeError:
        raise LabelError(f"Task {column.name!r} holds lists or the like; a label is a number or a text.") from None
    if isinstance(column.dtype, pd.CategoricalDtype) or (
        not pd.api.types.is_numeric_dtype(known.dtype) and any(isinstance(value, str) for value in known)
    ):
        return "binary" if len(known) == 2 else "multiclass"
    if known.empty:
        raise TaskError(f"Task {column.name!r} has no label at all; leave it out, or give its kind in tasks=.")
    if len(known) == 2 or set(known) <= {0, 1}:
        return "binary"
    if known.dtype.kind in "mMc" or isinstance(known.dtype, pd.PeriodDtype):
        raise TaskError(f"Task {column.name!r} holds {known.dtype}, which is no label; make it a number, as of days.")
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.isna().any():
        return "multiclass"
    return None if bool((numbers == np.floor(numbers)).all()) else "regression"
