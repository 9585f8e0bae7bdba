"""What every multi-task estimator shares: the door of fit, and all predictions from one method, the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.delays import check_delays
from mtl_classic._core.keys import warn_of_lost_digits
from mtl_classic._core.labels import warn_of_leaked_labels
from mtl_classic._core.losses import least_loss, prior_scores, task_loss
from mtl_classic._core.options import COLUMN, Option, check_options
from mtl_classic._core.score_frames import check_score_names, scores_frame
from mtl_classic._core.spaces import Scores, hold_monotone, to_conditional
from mtl_classic._core.targets import Classes, Targets, encode_targets, entire_weight, row_weight
from mtl_classic._core.task_weights import check_task_weights, fixed_task_weights
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import (
    Table,
    align_columns,
    as_table,
    check_events,
    check_sample_weight,
    n_rows,
    register_columns,
    resolve_roles,
    row_index,
)

__all__ = [
    "FitInput", "MultiTaskEstimator", "Scores", "all_or_nothing", "group_codes", "query_codes", "query_columns",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Fit = TypeVar("Fit", bound=Callable[..., Any])


@dataclass(frozen=True)
class FitInput:
    """Checked input of a fit."""

    X: Table
    targets: Targets
    weights: Floats | None

    def counted(self, name: str) -> Floats:
        """Labels of the entire view, NaN where the row has no weight: as if it were unlabelled."""
        y = self.targets.view(name)
        return y if self.weights is None else np.where(self.weights[:, self.targets.position(name)] > 0, y, np.nan)

    def entire_weight(self, task: Task) -> Floats | None:
        """Weights of the rows for what is learnt from a task's entire view; None where all are 1."""
        return entire_weight(self.targets, task, self.weights)

    def row_weight(self, task: Task) -> Floats:
        """The same, written out where all are 1."""
        return row_weight(self.targets, task, self.weights)


def _has_classes(model: Any) -> bool:
    """Whether there are probabilities to predict; before the fit, where no tasks are given, there may be."""
    tasks = model._known_tasks()
    if tasks is None or any(task.is_classification for task in tasks):
        return True
    names = ", ".join(task.name for task in tasks)
    raise AttributeError(f"predict_proba needs a classification task; the tasks are {names}.")


def all_or_nothing(fit: Fit) -> Fit:
    """A fit, of checked options and log, that leaves the estimator as it was if it is interrupted or fails."""

    @wraps(fit)
    def fit_or_restore(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_options(self)
        check_events(kwargs.get("events"))
        before = dict(self.__dict__)
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    return cast("Fit", fit_or_restore)


class MultiTaskEstimator(BaseEstimator):
    """Base of all multi-task estimators.

    A subclass implements ``fit``, which starts with `_start_fit`, and ``_scores``, which returns for each task an array
    of shape (n,), or (n, n_classes) for multiclass tasks, as `_in_space` makes them of scores about all rows.
    Everything that a user calls to predict follows from it. A fit that is interrupted or fails changes nothing: what it
    sets are new objects, and the old ones come back.

    Attributes
    ----------
    tasks_ : tuple of Task
    classes_map_ : dict task -> ndarray or None
        [negative, positive] of a binary task, the classes of a multiclass one in the order of its scores; None for
        tasks that have no classes.
    classes_ : list of ndarray, or ndarray of shape (n_classes,) for 1-D labels
        The same in scikit-learn's form; only where all tasks have classes.
    priors_ : dict task -> ndarray of shape () or (n_classes,)
        Weighted means of the training labels (entire view), class frequencies, or 0 for a ranking.
    roles_ : dict role -> str or None
        Column of the user, item, time and query; None where there is none.
    form_ : OutputForm
        Whether the labels were a frame, and 1-D.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X has names.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import MultiTaskEstimator
    >>> class PriorModel(MultiTaskEstimator):
    ...     def __init__(self, tasks=None): self.tasks = tasks
    ...     def fit(self, X, Y, *, sample_weight=None, events=None, plan=None):
    ...         self._start_fit(X, Y, sample_weight)
    ...         return self
    ...     def _scores(self, X, space):
    ...         priors = self.priors_.items()
    ...         return self._in_space({name: np.full((len(X), *p.shape), p) for name, p in priors}, space)
    >>> tasks, Y = {"buy": "binary", "spend": "regression"}, [[0, 2], [1, 4], [0, 3], [0, 3]]
    >>> model = PriorModel(tasks).fit(np.zeros((4, 1)), Y)
    >>> model.predict_scores([[0.0]]).iloc[0].to_dict()
    {'buy': 0.25, 'spend': 3.0}
    """

    tasks_: tuple[Task, ...]
    classes_map_: Classes
    roles_: dict[str, str | None]
    _options: ClassVar[dict[str, Option]] = dict.fromkeys(("user", "item", "time", "query"), (COLUMN, None))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "fit" in cls.__dict__:
            cls.fit = all_or_nothing(cls.__dict__["fit"])
        super().__init_subclass__(**kwargs)

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: parameter -> list or scipy distribution, those of parts as ``part__parameter``.

        `MultiTaskSearchCV` searches it where it is given no space. An estimator says what it knows of its own, and
        passes on what its parts say.
        """
        parts = self.get_params(deep=False)
        return {
            f"{name}__{key}": values
            for name, part in sorted(parts.items())
            if hasattr(part, "search_space")
            for key, values in part.search_space().items()
        }

    def _start_fit(self, X: Any, Y: Any, sample_weight: Any = None, classes: Classes | None = None) -> FitInput:
        """Validate once; learn tasks, classes (those not given), roles, columns and priors."""
        if Y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        given, X = X, as_table(X)
        n = n_rows(X)
        tasks = resolve_tasks(getattr(self, "tasks", None), Y)
        if n == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required: nothing to fit."
            )
        targets = encode_targets(Y, tasks, classes=classes, on_conflict=self._conflict_rule())
        targets = targets.of_rows(X, sample_weight)
        check_score_names(tasks, targets.classes)
        warn_of_leaked_labels(X, Y, tasks)
        weights = targets.weigh(check_sample_weight(sample_weight, tasks, n))
        self.roles_ = resolve_roles(
            X, **{role: getattr(self, role, None) for role in ("user", "item", "time", "query")}
        )
        warn_of_lost_digits(X, (self.roles_[role] for role in ("user", "item", "query")), given)
        if hasattr(self, "time"):  # others do not ask when labels are known
            check_delays(tasks, self.roles_["time"])
        register_columns(self, X)
        self.tasks_, self.classes_map_, self.form_ = targets.tasks, targets.classes, targets.form
        self.priors_ = {
            task.name: prior_scores(
                task.kind, targets.view(task.name), self._n_classes(task), entire_weight(targets, task, weights)
            )
            for task in tasks
        }
        of_tasks = list(self.classes_map_.values())
        if all(known is not None for known in of_tasks):
            self.classes_ = of_tasks[0] if self.form_.is_1d else of_tasks
        elif hasattr(self, "classes_"):
            del self.classes_
        return FitInput(X, targets, weights)

    def _with_labels(self, X: Table, Y: Any, sample_weight: Any = None) -> FitInput:
        """Check the labels of rows that come after the fit: its classes hold, and any label may be missing."""
        targets = encode_targets(Y, self.tasks_, classes=self.classes_map_, on_conflict=self._conflict_rule())
        targets = targets.of_rows(X, sample_weight)
        return FitInput(X, targets, check_sample_weight(sample_weight, self.tasks_, len(targets)))

    def _conflict_rule(self) -> Any:
        """What the labels of `score` do where a child contradicts its parent: as at fit."""
        return getattr(self, "on_conflict", "raise")

    def _known_tasks(self) -> tuple[Task, ...] | None:
        """The tasks of the fit, else those of the parameter, else None."""
        given = getattr(self, "tasks", None)
        fitted: tuple[Task, ...] | None = getattr(self, "tasks_", None)
        return fitted if fitted is not None or given is None else resolve_tasks(given, None)

    def _n_classes(self, task: Task) -> int:
        classes = self.classes_map_[task.name]
        return 0 if classes is None else len(classes)

    def _start_predict(self, X: Any) -> Table:
        check_is_fitted(self)
        return align_columns(self, as_table(X))

    def _scores(self, X: Table, space: str) -> Scores:
        raise TypeError(f"{type(self).__name__} must implement _scores.")

    def _in_space(self, scores: Scores, space: str) -> Scores:
        """Entire-space scores with no child above its parent; or these, given that the condition holds."""
        entire = hold_monotone(self.tasks_, self.classes_map_, scores)
        return entire if space == "entire" else to_conditional(self.tasks_, self.classes_map_, entire)

    def predict_scores(self, X: Any, space: str = "entire") -> pd.DataFrame:
        """Scores of all tasks: what a recommender sorts by.

        Parameters
        ----------
        X : table of shape (n, n_features)
        space : {"entire", "conditional"}, default="entire"
            Whether a funnel child speaks of all rows, or of those whose parent is positive.

        Returns
        -------
        DataFrame of float64 with n rows
            P(positive) of binary tasks, ``task=class`` columns of multiclass tasks, the mean of regression and count
            tasks, the score of ranking tasks. The index is X's.
        """
        if space not in ("entire", "conditional"):
            raise ValueError(f'space must be "entire" or "conditional", got {space!r}.')
        table = self._start_predict(X)
        return scores_frame(self._scores(table, space), self.tasks_, self.classes_map_, row_index(table))

    def decision_function(self, X: Any) -> Any:
        """The scores, under the name that ``Pipeline`` and ``GridSearchCV`` hand through.

        A DataFrame like that of `predict_scores`; scikit-learn's single-output form for a model fitted with 1-D Y.

        Notes
        -----
        With this method scikit-learn's ``cross_val_predict`` makes classes of all labels, so it can be used for one
        classification task with 1-D Y; `cross_fit` takes all tasks, and pipelines too.
        """
        check_is_fitted(self)
        if not self.form_.is_1d:
            return self.predict_scores(X)
        return self._scores(self._start_predict(X), "entire")[self.tasks_[0].name]

    def predict(self, X: Any) -> Any:
        """Labels of all tasks.

        Returns
        -------
        DataFrame, or ndarray of shape (n, n_tasks) or (n,)
            A frame with the tasks as columns and X's index if Y was a frame at fit, 1-D if Y was; an array of dtype
            object where classes and numbers are mixed. Classes for binary and multiclass tasks, means and scores else.
        """
        table = self._start_predict(X)
        scores = self._scores(table, "entire")
        columns = {task.name: self._labels(task, scores[task.name]) for task in self.tasks_}
        if self.form_.is_1d:
            return columns[self.tasks_[0].name]
        if self.form_.is_frame:
            return pd.DataFrame(columns, index=row_index(table))
        if len({task.is_classification for task in self.tasks_}) > 1:
            return np.column_stack([column.astype(object) for column in columns.values()])
        return np.column_stack(list(columns.values()))

    @available_if(_has_classes)
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities, in scikit-learn's multi-output form.

        Returns
        -------
        list of ndarray of shape (n, n_classes)
            One array per classification task, in the order of the tasks; the array itself if Y was 1-D.

        Notes
        -----
        Where all tasks have classes, ``classes_`` holds them in the same form. scikit-learn's ``cross_val_predict``
        makes classes of all labels that it hands on with this method, numbers and missing ones included; `cross_fit`
        leaves them as they are.
        """
        scores = self._scores(self._start_predict(X), "entire")
        classification = [task for task in self.tasks_ if task.is_classification]
        probabilities = [self._probabilities(task, scores[task.name]) for task in classification]
        return probabilities[0] if self.form_.is_1d else probabilities

    def score(self, X: Any, Y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of 1 − loss / loss of the training prior: 0 is the prior, 1 is perfect.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels, NaN where unlabelled
            Tasks without any label (or weight, or query with a relevant row) here do not count. Where a funnel child is
            labelled in a share of its parent's positive rows, zeros that the parent tells weigh that share.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        """
        given = self._with_labels(self._start_predict(X), Y, sample_weight)
        scores = self._scores(given.X, "entire")
        values = [
            self._task_score(task, given.X, given.targets.view(task.name), scores[task.name], given.entire_weight(task))
            for task in self.tasks_
        ]
        importance = check_task_weights(fixed_task_weights(getattr(self, "task_weights", None)), self.tasks_)
        judged = ~np.isnan(values) & (importance > 0)
        return (
            float(np.average(np.asarray(values)[judged], weights=importance[judged])) if judged.any() else float("nan")
        )

    def _task_score(self, task: Task, X: Table, y: Floats, score: Floats, weight: Floats | None) -> float:
        if np.isnan(y).all():
            return float("nan")
        groups = group_codes(X, task)
        prior = np.broadcast_to(self.priors_[task.name], score.shape)
        loss, reference = (task_loss(task.kind, y, values, weight, groups) for values in (score, prior))
        if np.isnan(loss) or reference > least_loss(task.kind):
            return 1.0 - loss / reference  # NaN: no row has a weight, no query a relevant row
        return float(loss <= least_loss(task.kind))  # the prior is perfect: as scikit-learn's R² of a constant, finite

    def _labels(self, task: Task, score: Floats) -> npt.NDArray[Any]:
        classes = self.classes_map_[task.name]
        if classes is None:
            return score
        if task.kind == "multiclass":
            return np.asarray(classes[score.argmax(axis=1)])
        return np.asarray(
            classes[(score > 0.5).astype(np.intp) if len(classes) == 2 else np.zeros(len(score), np.intp)]
        )

    def _probabilities(self, task: Task, score: Floats) -> Floats:
        classes = self.classes_map_[task.name]
        if task.kind == "multiclass":
            return score
        return (
            np.column_stack([1.0 - score, score]) if classes is None or len(classes) == 2 else np.ones((len(score), 1))
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags


def group_codes(X: Table, task: Task) -> npt.NDArray[np.intp] | None:
    """Integer codes of the query groups of a ranking task, or None for other kinds."""
    if task.kind != "ranking":
        return None
    columns = [str(resolve_roles(X, query=name)["query"]) for name in task.query_columns]
    return np.asarray(X.groupby(columns, sort=False, dropna=False, observed=True).ngroup(), dtype=np.intp)


def query_columns(X: Table, tasks: Iterable[Task]) -> list[str]:
    """Columns of a frame that are the query of some task, and so no features; none of an array."""
    names = {name for task in tasks for name in task.query_columns}
    columns = map(str, X.columns) if isinstance(X, pd.DataFrame) else ()
    return [column for column in columns if any(column == name or column.endswith(f"__{name}") for name in names)]


def query_codes(X: Table, tasks: Sequence[Task]) -> npt.NDArray[np.intp] | None:
    """Integer codes of the query that the ranking tasks share, or None where there is no such task."""
    return next((group_codes(X, task) for task in tasks if task.kind == "ranking"), None)
