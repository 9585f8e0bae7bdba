"""Latent models behind one interface: fitted on rows or events, they give columns, and a basis of their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, clone, is_classifier

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.losses import is_learnable
from mtl_classic._core.targets import Classes, Targets, encode_targets, match_columns
from mtl_classic._core.tasks import Task, line_of
from mtl_classic._core.validation import check_sample_weight, take_rows
from mtl_classic.events import EventLog

__all__ = ["LatentMember", "choose_task", "reads_events"]

Array = npt.NDArray[Any]
# Keys, and vectors of shape (len(keys), n_factors), or (len(keys), n_classes, n_factors).
Basis = tuple[pd.Index, Array]
# What each kind of model learns from if nobody says: kinds of tasks, the best first.
FOR_CLASSES = ("binary", "multiclass")
FOR_NUMBERS = ("regression", "count", "ranking", "binary")


class LatentMember(BaseEstimator):
    """A model, the task that it learns, and the columns that are wanted of it.

    Parameters
    ----------
    name : str
        Columns are called ``name__…``.
    model : estimator
        A `MatrixFactorization`, a factorization machine, any classifier or regressor, or a multi-task estimator.
    task : str or None
        None is all tasks, for multi-task estimators.
    tasks : sequence of Task
    classes : dict of task to ndarray
        The labels of the classes in all rows, whatever those of a fold are.
    output : {"scores", "vectors", "both"}
    """

    def __init__(
        self, name: str, model: Any, task: str | None, tasks: Sequence[Task], classes: Classes | None, output: str
    ) -> None:
        self.name = name
        self.model = model
        self.task = task
        self.tasks = tasks
        self.classes = classes
        self.output = output

    def fit(self, X: Any, Y: Any = None, *, sample_weight: Any = None, events: Any = None) -> Self:
        """Fit on the rows that have a label of the task, or on the events."""
        self.model_ = clone(self.model)
        if events is not None:
            self.model_._fit_events(X, events)
            return self
        if self.task is None:
            self.model_.fit(X, Y, sample_weight=sample_weight)
            return self
        y = self._encoded(Y).view(self.task)
        known = np.flatnonzero(is_learnable(self._task().kind, y))
        if not len(known):
            raise TaskError(
                f"The latent model {self.name!r} has no labelled row of the task {self.task!r} to learn from."
            )
        weights = check_sample_weight(sample_weight, self.tasks, len(y))
        weight = None if weights is None else weights[known, self.tasks.index(self._task())]
        arguments = {} if weight is None else {"sample_weight": weight}
        X, y = take_rows(X, known), y[known]
        if hasattr(self.model_, "_fit_labels"):
            self.model_._fit_labels(X, y, weight, self.task)
        else:
            self.model_.fit(X, self._labels(y), **arguments)
        return self

    def learnable(self, Y: Any, sample_weight: Any) -> npt.NDArray[np.bool_]:
        """Rows that the model could learn from: those with a label and a weight of its task."""
        targets = self._encoded(Y)
        weights = check_sample_weight(sample_weight, self.tasks, len(targets))
        own = [task for task in self.tasks if self.task in (None, task.name)]
        known = np.column_stack([is_learnable(task.kind, targets.view(task.name)) for task in own])
        if weights is not None:
            known &= weights[:, [self.tasks.index(task) for task in own]] > 0
        if _learns_pairs(self.model):
            known &= targets.view(str(self.task))[:, None] > 0
        return np.asarray(known.any(axis=1))

    def before(self, time: Any, log: EventLog | None) -> Self:
        """The same with a model of the log that knows what came before a time alone."""
        earlier = copy(self)
        earlier.model_ = self.model_._before(time, log)
        return earlier

    def caught_up(self, log: EventLog) -> Self:
        """The same with a model of the log that knows of the events that its fit left out, too."""
        later = copy(self)
        later.model_ = copy(self.model_)._catch_up(log)
        return later

    def observed(self, events: Any) -> Self:
        """The same with a model of the log that knows of new events, too."""
        later = copy(self)
        later.model_ = copy(self.model_).observe(events)
        return later

    def columns(self, X: Any) -> pd.DataFrame:
        """The columns for rows, float32; vectors in the model's own basis."""
        parts = []
        if self.output != "vectors":
            parts.append(self._scores(X))
        if self.output != "scores":
            parts += [_frame(values, f"{self.name}__{side}", X) for side, values in self._vectors(X).items()]
        return pd.concat(parts, axis=1)

    def basis(self) -> Basis:
        """Vectors by key, to compare bases of different fits."""
        if hasattr(self.model_, "_basis"):
            return self.model_._basis()
        machine = self.model_
        names = machine._design.encoder
        keys = pd.RangeIndex(len(machine.factors_)) if names is None else pd.Index(names.get_feature_names_out())
        seen = machine._parameters.seen
        return keys[seen], np.asarray(machine.factors_)[seen]

    def vector_columns(self, columns: pd.Index) -> list[list[str]]:
        """Names of the columns that hold one vector each."""
        stems: dict[str, list[str]] = {}
        for column in columns:
            stem, _, number = column.rpartition("_")
            if number.isdigit() and stem in (f"{self.name}__{side}" for side in ("user", "item", "vector")):
                stems.setdefault(stem, []).append(column)
        n_factors = self.basis()[1].shape[-1]
        return [names[k : k + n_factors] for names in stems.values() for k in range(0, len(names), n_factors)]

    def has_vectors(self) -> bool:
        """Whether the model has vectors in one basis."""
        return hasattr(self.model, "_basis") or hasattr(type(self.model), "factors_")

    def _labels(self, y: Array) -> Array:
        """What the model learns from: for a classifier the codes of the classes, whatever the type of the labels."""
        hard = is_classifier(self.model) and not self._task().is_soft
        return y.astype(np.int64) if hard else y

    def _encoded(self, Y: Any) -> Targets:
        """The labels that it learns from, and those above them in the funnel, which tell where they are 0."""
        frame = match_columns(Y, self.tasks)
        tasks = self.tasks if self.task is None else line_of(self._task(), self.tasks)
        return encode_targets(frame[[task.name for task in tasks]], tasks, classes=self.classes)

    def _task(self) -> Task:
        return next(task for task in self.tasks if task.name == self.task)

    def _scores(self, X: Any) -> pd.DataFrame:
        model, index = self.model_, X.index if hasattr(X, "index") else None
        if hasattr(model, "_score_columns"):
            frame = model._score_columns(X)
        elif self.task is None:
            frame = model.predict_scores(X)
        else:
            classes = (self.classes or {}).get(self.task)
            several = self._task().kind == "multiclass" and classes is not None and len(classes) > 2
            frame = _single_scores(model, X, classes if several else None)
        values = frame.to_numpy(dtype=np.float32)
        return pd.DataFrame(values, columns=[f"{self.name}__{c}" for c in frame.columns], index=index)

    def _vectors(self, X: Any) -> Mapping[str, Array]:
        if hasattr(self.model_, "_vectors"):
            return self.model_._vectors(X)
        return {"vector": np.asarray(self.model_.transform(X))}


def choose_task(model: Any, targets: Targets, asked: str | None = None) -> str | None:
    """The task that a model learns; unasked the most frequent binary one for classifiers, a regression for regressors.

    Soft labels are for classifiers of ``loss="kl"``, and for models that take them as numbers or weights.

    Raises
    ------
    TaskError
        If no task, or not that asked for, is of a kind that the model can learn.
    """
    if hasattr(model, "predict_scores"):
        return None
    if asked is not None:
        _refuse_task(model, targets, asked)
        return str(asked)
    for_numbers = model._learns_numbers() if hasattr(model, "_learns_numbers") else not is_classifier(model)
    kinds = FOR_NUMBERS if for_numbers else FOR_CLASSES if is_classifier(model) else ("binary",)
    hard_only = _needs_classes(model)
    for kind in kinds:
        fitting = [task.name for task in targets.tasks if task.kind == kind and not (task.is_soft and hard_only)]
        if kind == "binary" and fitting:
            return max(fitting, key=lambda name: float(np.nansum(targets.view(name))))
        if fitting:
            return fitting[0]
    shown = ", ".join(f"{task.name} ({'soft ' * task.is_soft}{task.kind})" for task in targets.tasks)
    raise TaskError(
        f"{type(model).__name__} learns from {' or '.join(kinds)} tasks; the tasks are {shown}."
        + (' Soft labels need a machine of loss="kl".' if hard_only else "")
    )


def _refuse_task(model: Any, targets: Targets, name: str) -> None:
    """Refuse labels that the model would take for others: numbers for classes, or codes of classes for numbers."""
    task, of_classes = targets.tasks[targets.position(name)], is_classifier(model)
    if task.is_soft and _needs_classes(model):
        raise TaskError(
            f'The labels of the task {name!r} are soft; {type(model).__name__} needs classes. Give it loss="kl" '
            f"(FactorizationMachineClassifier has it), or another task."
        )
    if task.kind in ("regression", "count") if of_classes else targets.n_classes(task) > 2:
        raise TaskError(
            f"{type(model).__name__} learns {'classes' if of_classes else 'numbers'}; the task {name!r} is of the kind "
            f"{task.kind!r}. Give it another task, or another model."
        )


def _needs_classes(model: Any) -> bool:
    """Whether a model takes no probabilities as labels: a classifier, unless it, or a step of it, has loss="kl"."""
    if not is_classifier(model):
        return False
    losses = (value for name, value in model.get_params().items() if name.rpartition("__")[2] == "loss")
    return not any(isinstance(loss, str) and loss == "kl" for loss in losses)


def _learns_pairs(model: Any) -> bool:
    """Whether a model learns from positive rows alone."""
    return hasattr(model, "_learns_numbers") and not model._learns_numbers()


def _single_scores(model: Any, X: Any, classes: Array | None) -> pd.DataFrame:
    """Log-odds or margins of classifiers, a column per class for several; predictions of regressors.

    Classes that the model's own rows lacked have the least of the row's scores, or probability 0.
    """
    if not is_classifier(model):
        return pd.DataFrame({"score": np.asarray(model.predict(X))})
    has_odds, known = hasattr(model, "decision_function"), np.asarray(model.classes_, dtype=np.intp)
    values = np.asarray(model.decision_function(X) if has_odds else model.predict_proba(X))
    if classes is None:
        values = values if values.ndim == 1 else values[:, -1]
        if known[-1] == 0:  # of no row of the second class
            values = -values if has_odds else 1 - values
        return pd.DataFrame({"score": values})
    if values.ndim == 1:
        values = np.column_stack([-values / 2, values / 2])
    scores = np.repeat(values.min(axis=1, keepdims=True) * has_odds, len(classes), axis=1)
    scores[:, known] = values[:, -len(known) :]
    return pd.DataFrame(scores, columns=[f"score={label}" for label in classes])


def _frame(values: Any, stem: str, X: Any) -> pd.DataFrame:
    dense = values.toarray() if sparse.issparse(values) else np.asarray(values)
    names = [f"{stem}_{k}" for k in range(dense.shape[1])]
    return pd.DataFrame(dense.astype(np.float32), columns=names, index=X.index if hasattr(X, "index") else None)


def reads_events(model: BaseEstimator) -> bool:
    """Whether a model learns from a log where there is one."""
    return hasattr(model, "_fit_events")
