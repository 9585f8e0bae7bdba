"""The labels of one task as numbers: which classes there are, what codes they have, and what its kind refuses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import LabelError, LeakedLabelWarning
from mtl_classic._core.keys import key_kind
from mtl_classic._core.tasks import Task, label_frame

__all__ = ["MAX_RELEVANCE", "encode_column", "learn_classes", "sorted_classes", "warn_of_leaked_labels"]

Floats = npt.NDArray[np.float64]

MAX_RELEVANCE = 60


def learn_classes(task: Task, column: pd.Series) -> npt.NDArray[Any] | None:
    """The labels of a binary ([negative, positive]) or multiclass task; None for numbers and soft labels."""
    if not task.is_classification or task.is_soft:
        return None
    classes = sorted_classes(pd.unique(column.dropna()))
    if any(isinstance(label, float) and np.isinf(label) for label in classes.tolist()):
        raise LabelError(
            f"Task {task.name!r} has infinite labels; expected finite numbers or texts, or NaN for unlabelled."
        )
    if task.kind == "multiclass":
        return classes
    if len(classes) > 2:
        shown = ", ".join(map(repr, classes[:5].tolist()))
        raise LabelError(
            f"The binary task {task.name!r} has {len(classes)} different labels ({shown} …); expected two. "
            f"Is it multiclass, count or soft (loss='kl')?"
        )
    if len(classes) == 1 and task.positive is None and classes[0] in (0, 1):
        both = [False, True] if isinstance(classes.tolist()[0], bool) else [0, 1]
        return np.array(both, dtype=classes.dtype)
    if task.positive is not None and len(classes):
        if task.positive not in classes.tolist():
            if len(classes) == 2:
                raise LabelError(
                    f"positive={task.positive!r} of task {task.name!r} is none of its labels {classes.tolist()}."
                )
            return _two_classes(classes[0], task.positive)
        return classes if classes.tolist()[-1] == task.positive else classes[::-1]
    return classes


def sorted_classes(values: Any) -> npt.NDArray[Any]:
    """Distinct labels in their order, that of their texts where they cannot be compared."""
    try:
        return np.sort(np.asarray(values))
    except TypeError:
        return _objects(sorted(values, key=str))


def _two_classes(negative: Any, positive: Any) -> npt.NDArray[Any]:
    kinds = {np.asarray(label).dtype.kind for label in (negative, positive)}
    plain = kinds <= set("iuf") or kinds == {"b"}
    return np.array([negative, positive]) if plain else _objects([negative, positive])


def _objects(labels: list[Any]) -> npt.NDArray[Any]:
    """One label an entry, tuples too."""
    return pd.Series(labels, dtype=object).to_numpy()


def encode_column(task: Task, column: pd.Series, classes: npt.NDArray[Any] | None) -> Floats:
    """The labels of a task as numbers, NaN where unlabelled, -1 for a class that the fit did not see."""
    if classes is not None:
        if task.kind == "multiclass":
            codes = pd.Index(classes).get_indexer(column).astype(np.float64)
            codes[column.isna().to_numpy()] = np.nan
            if (codes < 0).any() and not (codes >= 0).any():
                _refuse_other_kind(task, column, classes)
            return codes
        return _encode_binary(task, column, classes)
    values = _numbers(task, column)
    _check_range(task, values, column)
    return values


def _refuse_other_kind(task: Task, column: pd.Series, classes: npt.NDArray[Any]) -> None:
    """A class that is unseen counts as missed; numbers in place of texts are a mistake."""
    kinds = key_kind(pd.Index(classes)), key_kind(pd.Index(column.dropna().unique()))
    if set(kinds) == {"text", "numbers"}:
        raise LabelError(
            f"The labels of task {task.name!r} were {kinds[0]} at fit ({classes[0]!r} …); these are {kinds[1]}."
        )


def _encode_binary(task: Task, column: pd.Series, classes: npt.NDArray[Any]) -> Floats:
    missing = column.isna().to_numpy()
    if not len(classes):
        return np.full(len(column), np.nan)
    positive = (column == classes[-1]).to_numpy(dtype=bool, na_value=False)
    strange = ~missing & ~positive
    if len(classes) == 2:
        strange &= ~(column == classes[0]).to_numpy(dtype=bool, na_value=False)
    if strange.any():
        raise LabelError(
            f"Task {task.name!r} has the label {column[strange].tolist()[0]!r} ({int(strange.sum())} rows); "
            f"at fit its labels were {classes.tolist()}."
        )
    values = positive.astype(np.float64)
    values[missing] = np.nan
    return values


def _numbers(task: Task, column: pd.Series) -> Floats:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if column.dtype.kind in "mM":
        raise LabelError(
            f"The {task.kind} task {task.name!r} needs numbers, got {column.dtype}; say in which unit, as days."
        )
    numbers = pd.to_numeric(column, errors="coerce")
    bad = (numbers.isna() & column.notna()).to_numpy(dtype=bool)
    if bad.any():
        raise LabelError(
            f"The {task.kind} task {task.name!r} needs numbers; {int(bad.sum())} labels are not, "
            f"the first is {column[bad].iloc[0]!r}. Encode them, or choose another kind."
        )
    values: Floats = numbers.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise LabelError(
            f"Task {task.name!r} has {infinite} infinite labels; expected finite numbers, or NaN for unlabelled."
        )
    return values


def _check_range(task: Task, values: Floats, column: pd.Series) -> None:
    if task.is_soft:
        bad, expected = (values < 0) | (values > 1), "probabilities in [0, 1]"
    elif task.kind in ("count", "ranking"):
        bad, expected = (values < 0) | (values != np.floor(values)) & ~np.isnan(values), "non-negative integers"
        if task.kind == "ranking" and not bad.any():
            bad, expected = values > MAX_RELEVANCE, f"grades up to {MAX_RELEVANCE}, because a gain is 2 ** relevance"
    else:
        return
    if bad.any():
        raise LabelError(
            f"The {task.kind} task {task.name!r} needs {expected}; {int(bad.sum())} labels are not, "
            f"the first is {values[bad][0]:g} (row {column.index[bad].tolist()[0]!r})."
        )


def warn_of_leaked_labels(X: Any, Y: Any, tasks: Sequence[Task]) -> None:
    """Warn where a column of X has the name of a task and, in all labelled rows, its labels."""
    columns = set(X.columns) if isinstance(X, pd.DataFrame) else set()
    if not any(task.name in columns for task in tasks):
        return
    labels = label_frame(Y)
    for name in [task.name for task in tasks if task.name in columns and task.name in labels.columns]:
        known = labels[name].notna().to_numpy()
        if known.any() and pd.Index(X[name][known]).equals(pd.Index(labels[name][known])):
            warnings.warn(
                f"The column {name!r} of X is the label of the task: it will be a feature, which nobody knows in new "
                f"rows. Leave it out: X.drop(columns=[{name!r}]).",
                LeakedLabelWarning,
                stacklevel=4,
            )
