"""Labels as numbers, once: masks, classes, and both views of every funnel child.

Conventions: arrays are float64 of shape (n_rows, n_tasks); NaN means "unlabelled", in the conditional view also "left
out". Binary labels are 0 and 1 (soft ones between), multiclass labels are class codes (-1: a class that the fit did not
see), all others are themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import (
    FunnelConflictError,
    TaskError,
    UnlabelledTaskError,
    UnseenClassError,
)
from mtl_classic._core.labels import encode_column, learn_classes
from mtl_classic._core.tasks import Task, fitting_order, label_frame, resolve_tasks
from mtl_classic._core.validation import Table, check_labels_of

__all__ = [
    "Classes",
    "OutputForm",
    "Targets",
    "condition_holds",
    "decode_targets",
    "encode_targets",
    "entire_weight",
    "entire_weights",
    "known_share",
    "match_columns",
    "row_weight",
    "spell_out",
]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Classes = dict[str, npt.NDArray[Any] | None]
OnConflict = Literal["raise", "lift", "drop"]


@dataclass(frozen=True)
class OutputForm:
    """What Y looked like at fit, so that predictions look the same."""

    is_frame: bool
    is_1d: bool


@dataclass(frozen=True)
class Targets:
    """Encoded labels of all tasks.

    Attributes
    ----------
    tasks : tuple of Task
    classes : dict name -> ndarray or None
        Labels of binary ([negative, positive]) and multiclass tasks; None for numbers and soft labels.
    entire : ndarray of shape (n, n_tasks), float64
        Every row counts; a funnel child is 0 where its parent is negative.
    conditional : ndarray of shape (n, n_tasks), float64
        A funnel child counts only where its parent is positive.
    form : OutputForm
    dropped : ndarray of bool, shape (n, n_tasks)
        Children's labels that ``on_conflict="drop"`` took away, under a negative ancestor, and what stays unlabelled
        below them.
    index : Index or None
        Names of the rows: Y's, once checked those of X; None if they have none.
    """

    tasks: tuple[Task, ...]
    classes: Classes
    entire: Floats
    conditional: Floats
    form: OutputForm
    dropped: Flags
    index: pd.Index | None = None

    def __len__(self) -> int:
        return len(self.entire)

    def position(self, name: str) -> int:
        """Column of a task."""
        names = [task.name for task in self.tasks]
        if name not in names:
            raise TaskError(f"There is no task {name!r}; the tasks are {', '.join(names)}.")
        return names.index(name)

    def view(self, name: str, space: str = "entire") -> Floats:
        """Labels of one task in the ``"entire"`` or ``"conditional"`` space."""
        if space not in ("entire", "conditional"):
            raise ValueError(f'space must be "entire" or "conditional", got {space!r}.')
        values: Floats = (self.entire if space == "entire" else self.conditional)[:, self.position(name)]
        return values

    def n_classes(self, task: Task) -> int:
        """How many classes a task has; 0 where the labels are numbers."""
        classes = self.classes[task.name]
        return 0 if classes is None else len(classes)

    def take(self, rows: npt.NDArray[Any]) -> Targets:
        """The same tasks on some rows."""
        index = None if self.index is None else self.index[rows]
        views = {"entire": self.entire[rows], "conditional": self.conditional[rows], "dropped": self.dropped[rows]}
        return replace(self, **views, index=index)

    def shared_with(self, other: Targets) -> Targets:
        """The other if it holds the same labels, so that one copy of them serves both; else itself."""
        same = (self.tasks, self.form) == (other.tasks, other.form) and all(
            np.array_equal(mine, its) if mine is not None and its is not None else mine is its
            for mine, its in ((self.classes[task.name], other.classes[task.name]) for task in self.tasks)
        )
        views = ((self.entire, other.entire), (self.conditional, other.conditional), (self.dropped, other.dropped))
        same = same and all(np.array_equal(mine, its, equal_nan=True) for mine, its in views)
        return other if same and _same_names(self.index, other.index) else self

    def weigh(self, weights: Floats | None) -> Floats | None:
        """Weights that are 0 where a label was dropped: written out again, such a child would be 0, not unlabelled."""
        return np.where(self.dropped, 0.0, 1.0 if weights is None else weights) if self.dropped.any() else weights

    def of_rows(self, X: Table, sample_weight: Any = None) -> Targets:
        """The labels of the rows of X, checked as the weights are, with their names."""
        check_labels_of(X, self, sample_weight)
        return replace(self, index=X.index if isinstance(X, pd.DataFrame) else None)


def encode_targets(
    Y: Any, tasks: Sequence[Task], *, classes: Classes | None = None, on_conflict: OnConflict = "raise"
) -> Targets:
    """Check and encode labels, and make both views of the funnel children.

    Parameters
    ----------
    Y : DataFrame or array of shape (n,) or (n, n_tasks)
        Frames are matched by task name in any order (other columns are ignored), arrays by position.
    tasks : sequence of Task
    classes : dict, default=None
        The classes learnt at fit. Tasks that it does not name (None: all) learn theirs here, and need a label.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do where a child is non-zero under a negative parent: refuse, make the parent positive, or forget the
        child's label.

    Returns
    -------
    Targets

    Raises
    ------
    TaskError
        If columns are missing, or their number differs from the number of tasks.
    LabelError
        If labels are not what the kind allows.
    FunnelConflictError
        If parents and children contradict each other and ``on_conflict="raise"``; with ``"lift"`` if children under two
        classes of one parent happened.
    """
    if on_conflict not in ("raise", "lift", "drop"):
        raise ValueError(f'on_conflict must be "raise", "lift" or "drop", got {on_conflict!r}.')
    frame = match_columns(Y, tasks)
    known_classes: Classes = dict(classes or {})
    raw = np.empty((len(frame), len(tasks)))
    for j, task in enumerate(tasks):
        column = frame.iloc[:, j]
        fitting = task.name not in known_classes
        if fitting:
            known_classes[task.name] = learn_classes(task, column)
        raw[:, j] = encode_column(task, column, known_classes[task.name])
        if fitting and len(frame) and np.isnan(raw[:, j]).all():
            raise UnlabelledTaskError(
                f"Task {task.name!r} has no label in {len(frame)} rows; leave the task out, or check its column."
            )
    dropped = _resolve_conflicts(raw, tasks, known_classes, on_conflict, frame.index)
    if on_conflict == "lift":  # a parent can't be lifted to two classes
        _resolve_conflicts(raw, tasks, known_classes, "raise", frame.index)
    entire, conditional = _views(raw, tasks, known_classes, dropped)
    form = OutputForm(is_frame=_is_frame(Y), is_1d=not _is_frame(Y) and np.asarray(Y).ndim == 1)
    index = frame.index if isinstance(Y, pd.DataFrame | pd.Series) else None
    return Targets(tuple(tasks), known_classes, entire, conditional, form, dropped, index)


def decode_targets(targets: Targets) -> pd.DataFrame:
    """Labels of the entire view as the user writes them: without contradictions between children and parents."""
    columns: dict[str, Any] = {}
    for task in targets.tasks:
        values, classes = targets.view(task.name), targets.classes[task.name]
        columns[task.name] = values
        if classes is not None:
            known = values >= 0
            lone = 2 - len(classes) if task.kind == "binary" else 0  # its only class is the positive one
            labels = np.full(len(values), None, dtype=object)
            labels[known] = classes[values[known].astype(np.intp) - lone]
            columns[task.name] = pd.Series(labels, dtype=object).infer_objects()
    frame = pd.DataFrame(columns)
    return frame if targets.index is None else frame.set_axis(targets.index, axis=0)


def spell_out(tasks: Any, Y: Any) -> tuple[Task, ...]:
    """The tasks of ``Y``, with the positive class of the binary ones made explicit.

    So a part of the rows, where one class may be absent or a kind could not be inferred, speaks of the same tasks.
    """
    resolved = resolve_tasks(tasks, Y)
    frame = match_columns(Y, resolved)
    explicit = []
    for j, task in enumerate(resolved):
        classes = learn_classes(task, frame.iloc[:, j]) if task.kind == "binary" and task.positive is None else None
        both = classes is not None and len(classes) == 2
        explicit.append(replace(task, positive=classes.tolist()[1]) if classes is not None and both else task)
    return tuple(explicit)


def match_columns(Y: Any, tasks: Sequence[Task]) -> pd.DataFrame:
    """Labels with a column per task: of frames those named so, of arrays by position.

    Raises
    ------
    TaskError
        If columns are missing, or their number differs from the number of tasks.
    """
    names = [task.name for task in tasks]
    frame = label_frame(Y)
    if _is_frame(Y):
        missing = [name for name in names if name not in frame.columns]
        if missing:
            raise TaskError(
                f"Y lacks the columns of the tasks {', '.join(missing)}; its columns are {', '.join(frame.columns)}."
            )
        frame = frame if names == list(frame.columns) else frame[names]
    if frame.shape[1] != len(names):
        raise TaskError(
            f"Y has {frame.shape[1]} columns, but there are {len(names)} tasks ({', '.join(names)}); give one per task."
        )
    return frame if names == list(frame.columns) else frame.set_axis(names, axis=1)


def _same_names(one: pd.Index | None, other: pd.Index | None) -> bool:
    return one is other if one is None or other is None else one.equals(other)


def _is_frame(Y: Any) -> bool:
    return isinstance(Y, pd.DataFrame) or (hasattr(Y, "to_pandas") and hasattr(Y, "columns"))


def _resolve_conflicts(
    raw: Floats, tasks: Sequence[Task], classes: Classes, on_conflict: OnConflict, index: pd.Index
) -> Flags:
    """Find non-zero children of negative ancestors, leaves first so that a lifted parent lifts its own parent.

    All ancestors are looked at, because those between may be unlabelled. Returns where labels were dropped.
    """
    position = {task.name: j for j, task in enumerate(tasks)}
    dropped = np.zeros(raw.shape, dtype=bool)
    for task in reversed(fitting_order(tasks)):
        j, below = position[task.name], task
        while below.parent is not None:
            parent = position[below.parent]
            wanted = _parent_code(below, tasks[parent], classes)
            conflict = _happened(task, raw[:, j]) & ~np.isnan(raw[:, parent]) & (raw[:, parent] != wanted)
            if wanted < 0 and conflict.any():
                raise UnseenClassError(
                    f"Task {below.name!r} is given the class {below.parent_class!r} of {below.parent!r}, "
                    f"whose classes are {_known(classes[below.parent])}; name one of them."
                )
            if on_conflict == "lift":
                raw[conflict, parent] = wanted
            elif on_conflict == "drop":
                raw[conflict, j] = np.nan
                dropped[conflict, j] = True
            elif conflict.any():
                rows = ", ".join(repr(label) for label in index[conflict][:5].tolist())
                raise FunnelConflictError(
                    f"{int(conflict.sum())} rows have {task.name!r} non-zero although {below.parent!r}, on which it "
                    f"depends, is negative (first rows: {rows}). Correct the labels, or give the model, whose parts "
                    f'follow it, on_conflict="lift" (the parent becomes positive, where no child needs another of its '
                    f'classes) or "drop" (the child becomes unlabelled).'
                )
            below = tasks[parent]
    return dropped


def _happened(task: Task, labels: Floats) -> Flags:
    """Where a child's label says that its parent is positive: any class, any other label that is not 0."""
    return ~np.isnan(labels) if task.kind == "multiclass" else np.nan_to_num(labels) != 0


def _parent_code(task: Task, parent: Task, classes: Classes) -> float:
    """The encoded parent label under which the task lives, -1 for a class that the fit did not see."""
    if parent.kind == "binary":
        return 1.0
    labels = _known(classes[parent.name])
    return float(labels.index(task.parent_class)) if task.parent_class in labels else -1.0


def _known(classes: npt.NDArray[Any] | None) -> list[Any]:
    return [] if classes is None else classes.tolist()


def _views(raw: Floats, tasks: Sequence[Task], classes: Classes, dropped: Flags) -> tuple[Floats, Floats]:
    entire = raw
    conditional = raw.copy() if any(task.parent is not None for task in tasks) else raw
    position = {task.name: j for j, task in enumerate(tasks)}
    holds: dict[str, Floats] = {}
    for task in fitting_order(tasks):
        if task.parent is None:
            continue
        j, parent = position[task.name], position[task.parent]
        dropped[:, j] |= dropped[:, parent] & np.isnan(raw[:, j])
        code = _parent_code(task, tasks[parent], classes)
        status = _parent_status(tasks[parent], entire[:, parent], code, holds.get(task.parent))
        holds[task.name] = status
        left_out = (status == 0) | (np.isnan(status) & ~_happened(task, entire[:, j]))
        conditional[left_out, j] = np.nan
        if task.kind in ("multiclass", "ranking"):
            entire[left_out, j] = np.nan
        else:
            entire[(status == 0) & ~dropped[:, j], j] = 0.0
    return entire, conditional


def condition_holds(targets: Targets, task: Task) -> Floats:
    """Whether the condition of a funnel child holds in each row: 1, 0, or NaN where nobody knows."""
    parent = targets.tasks[targets.position(str(task.parent))]
    above = None if parent.parent is None else condition_holds(targets, parent)
    code = _parent_code(task, parent, targets.classes)
    return _parent_status(parent, targets.view(parent.name), code, above)


def known_share(targets: Targets, task: Task, weights: Floats | None) -> Floats | None:
    """Weights of a child's entire view: 1, and for zeros that only an ancestor tells the labelled share where it holds.

    From the parent up: of the rows where the condition holds, that part (by the weights of the task that tells it)
    whose label of the child counts. None where all are 1.
    """
    if task.parent is None or task.kind in ("multiclass", "ranking"):
        return None
    counted = ~np.isnan(targets.view(task.name))
    if weights is not None:
        counted &= weights[:, targets.position(task.name)] > 0
    scale, step = np.ones(len(counted)), task
    while step.parent is not None:
        holds, parent = condition_holds(targets, step), targets.position(step.parent)
        weight = (holds == 1) * (1.0 if weights is None else weights[:, parent])
        labelled = (weight * scale * counted).sum()
        if labelled > 0:
            scale[holds == 0] = labelled / weight.sum()
        step = targets.tasks[parent]
    return None if (scale[counted] == 1).all() else scale


def entire_weight(targets: Targets, task: Task, weights: Floats | None) -> Floats | None:
    """Weights of the rows for a task's entire view, the known share included; None where all are 1."""
    share = known_share(targets, task, weights)
    if weights is None:
        return share
    own: Floats = weights[:, targets.position(task.name)]
    return own if share is None else own * share


def row_weight(targets: Targets, task: Task, weights: Floats | None) -> Floats:
    """The same, written out where all are 1."""
    weight = entire_weight(targets, task, weights)
    return np.ones(len(targets)) if weight is None else weight


def entire_weights(targets: Targets, weights: Floats | None) -> Floats | None:
    """Those of all tasks, (n, n_tasks); None where all are 1."""
    own = [entire_weight(targets, task, weights) for task in targets.tasks]
    if all(weight is None for weight in own):
        return None
    return np.column_stack([np.ones(len(targets)) if weight is None else weight for weight in own])


def _parent_status(parent: Task, labels: Floats, code: float, parent_holds: Floats | None) -> Floats:
    """Whether the condition of a child holds: 1, 0 or NaN for unknown.

    Parameters
    ----------
    parent : Task
    labels : ndarray of shape (n,)
        The parent's labels in the entire view.
    code : float
        The encoded parent label under which the child lives.
    parent_holds : ndarray of shape (n,) or None
        The same status for the parent itself, where it is a child: a multiclass parent that cannot happen holds not.
    """
    status = np.where(np.isnan(labels), np.nan, (labels == code).astype(np.float64))
    if parent.kind == "multiclass" and parent_holds is not None:
        status[parent_holds == 0] = 0.0
    return status
