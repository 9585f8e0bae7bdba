"""Smoothed target means per category, for all tasks at once, cross-fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.delays import check_delays
from mtl_classic._core.options import COLUMN, FOLDS, NOT_NEGATIVE, TRUTH, Option
from mtl_classic._core.targets import Targets, encode_targets
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import (
    align_columns,
    as_table,
    check_labels_of,
    check_sample_weight,
    register_columns,
    resolve_roles,
    role_values,
)
from mtl_classic.model_selection import FoldPlan, Temporal, cross_fit, make_folds
from mtl_classic.model_selection._maturity import temporal_folds
from mtl_classic.model_selection._plans import check_plan, labels_for_folds
from mtl_classic.preprocessing._category_means import CategoryMeans, Floats, Ints
from mtl_classic.preprocessing._keys import Key, KeyCoder, as_frame, find_keys, with_columns

__all__ = ["TargetStatistics"]


class TargetStatistics(TransformerMixin, BaseEstimator):
    r"""Append the smoothed mean of every task's label for the categories of a row.

    For a category with :math:`n` labelled rows of mean :math:`\bar y_c`, in a table of mean :math:`\bar y`, it is

    .. math:: \frac{n \bar y_c + m \bar y}{n + m}

    with ``smooth`` = :math:`m` rows of the overall mean. ``"auto"`` takes :math:`m = \sigma^2 / \tau^2`, the variance
    within categories over that between their true means, by the analysis of variance of a random-effects model [1]_,
    for each key and task: rare categories are drawn to the mean by as much as the frequent ones say. (scikit-learn's
    ``TargetEncoder(smooth="auto")`` estimates the variance within each category alone, and so leaves a category of a
    single row at that row's label. With a number for ``smooth`` both are equal.)

    `fit_transform` gives the training rows statistics that did not see their own labels: those of the fold's training
    rows. Rows that no fold predicts, or whose fold has no label to learn from, get the overall mean of the training
    rows of the first fold that has one. `transform` uses the statistics of all rows. So
    ``fit(X, Y).transform(X)`` is not ``fit_transform(X, Y)``, and leaks.

    Parameters
    ----------
    columns : sequence of str or tuple of str, default=None
        The keys: a column, or a tuple of columns whose combinations are the categories. None takes every column that
        holds neither numbers nor dates. Names that are no columns match the only column that ends in ``__name``.
    tasks : list of Task, dict of name to kind, or None, default=None
        None infers them from ``Y``.
    smooth : float or "auto", default="auto"
        Rows of the overall mean added to each category.
    counts : bool, default=False
        Whether to append the number of labelled rows per key and task too; with weights it is their sum, for
        ``smooth="auto"`` after they were scaled to a mean of at least one.
    time : str, default=None
        Time column: makes the folds of an integer ``cv`` temporal, so that a row's statistics come from earlier rows,
        by at least the longest delay of a task (tasks with a delay need it).
    cv : int, splitter, Temporal or array of fold numbers, default=5
        Folds of `fit_transform`, unless it is given a plan.
    random_state : int, RandomState or None, default=None
        For shuffled folds.

    Attributes
    ----------
    keys_ : list of tuple of str
        The columns of each key.
    tasks_ : tuple of Task
    statistics_ : list of str
        Names of the appended columns: ``column__task__mean`` (``a_b__task__mean`` for combinations,
        ``column__task=class__mean`` for each class of a multiclass task), then with ``counts`` the same with ``count``
        (equal for all classes).
    priors_ : ndarray of shape (n_labels,)
        Overall means, one per task or class.
    smooth_ : ndarray of shape (n_keys, n_labels)
        The m used by `transform`; inf where a key tells nothing about a label.
    n_features_in_ : int
    feature_names_in_ : ndarray of str

    Notes
    -----
    NaN labels are left out, task by task. A funnel child counts in the entire view: 0 under a negative parent. A
    missing category is a category; an unseen one gets the overall mean. The cost is a hash look-up per row and key,
    and for every fold one pass over rows × keys × labels.

    References
    ----------
    .. [1] D. Micci-Barreca (2001). A preprocessing scheme for high-cardinality categorical attributes in classification
       and prediction problems. SIGKDD Explorations 3(1). https://doi.org/10.1145/507533.507538

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic import TargetStatistics
    >>> X = pd.DataFrame({"shop": ["a", "a", "a", "b", "b", "b"], "price": [1, 2, 3, 4, 5, 6]})
    >>> Y = pd.DataFrame({"buy": [1, 1, None, 0, 0, 1], "spend": [3.0, 5.5, None, 0.0, 0.0, 1.5]})
    >>> statistics = TargetStatistics(["shop"], smooth=1.0, cv=3, random_state=0).fit(X, Y)
    >>> statistics.transform(X.iloc[[0, 3]]).round(2)
      shop  price  shop__buy__mean  shop__spend__mean
    0    a      1             0.87               3.50
    3    b      4             0.40               0.88
    """

    _options: ClassVar[dict[str, Option]] = {
        "smooth": (NOT_NEGATIVE, "auto"), "counts": TRUTH, "time": (COLUMN, None), "cv": FOLDS,
    }  # fmt: skip

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        *,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        smooth: float | str = "auto",
        counts: bool = False,
        time: str | None = None,
        cv: Any = 5,
        random_state: Any = None,
    ) -> None:
        self.columns = columns
        self.tasks = tasks
        self.smooth = smooth
        self.counts = counts
        self.time = time
        self.cv = cv
        self.random_state = random_state

    @all_or_nothing
    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, plan: FoldPlan | None = None) -> Self:
        """Learn the statistics of all rows.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks)
            NaN means unlabelled.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        plan : FoldPlan, default=None
            Folds matter in `fit_transform` only.

        Returns
        -------
        self
        """
        self._learn(X, Y, sample_weight, plan)
        return self

    @all_or_nothing
    def fit_transform(self, X: Any, Y: Any, *, sample_weight: Any = None, plan: FoldPlan | None = None) -> Any:
        """Learn the statistics of all rows, and append those that did not see a row's own labels.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks)
            NaN means unlabelled.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        plan : FoldPlan, default=None
            The folds, in place of those of ``cv``.

        Returns
        -------
        DataFrame or ndarray of shape (n, n_features + n_statistics)
            X with columns appended; a frame if X is one.
        """
        table, codes, labels, weights = self._learn(X, Y, sample_weight, plan)
        if plan is None:
            plan = self._plan(table, labels_for_folds(Y, self.tasks_, sample_weight, self.cv))
        if not self.keys_:
            return table
        model = CategoryMeans(self._means.sizes, self.smooth, self.counts)
        crossed = cross_fit(model, codes, labels, plan, method=None, sample_weight=weights, score=False)
        values: Floats = np.full((len(codes), len(self.statistics_)), np.nan, order="F")
        for (_, test), fold in zip(plan.splits, crossed.models, strict=True):
            values[test] = fold.transform(codes[test])
        # The first mean that there is, because that of all rows would tell the earliest rows about the future.
        means = pd.DataFrame([model.priors() for model in (*crossed.models, self._means)])
        first = means.bfill().iloc[0].to_numpy()
        for column, prior in zip(values.T, first, strict=True):  # no fold, or none whose training rows have a label
            column[np.isnan(column)] = prior
        return self._append(table, values)

    def transform(self, X: Any) -> Any:
        """Append the statistics of all fitted rows.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)

        Returns
        -------
        DataFrame or ndarray of shape (n, n_features + n_statistics)
            X with columns appended; a frame if X is one.
        """
        check_is_fitted(self)
        table = align_columns(self, _dense(as_table(X)))
        if not self.keys_:
            return table
        frame = with_columns(as_frame(table), [name for key in self.keys_ for name in key])
        codes = np.column_stack([coder.codes(frame) for coder in self._coders])
        return self._append(table, self._means.transform(codes))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Names of all columns: those of X, then the statistics.

        Parameters
        ----------
        input_features : array of str, default=None
            Names for the columns of an X without names.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", input_features)
        if names is None:
            names = [f"x{j}" for j in range(self.n_features_in_)]
        return np.asarray([*names, *self.statistics_], dtype=object)

    def _learn(
        self, X: Any, Y: Any, sample_weight: Any, plan: FoldPlan | None
    ) -> tuple[Any, Ints, Floats, Floats | None]:
        if Y is None:
            raise ValueError("TargetStatistics requires y to be passed, but the target y is None.")
        table = _dense(as_table(X))
        if table.shape[0] == 0:
            raise ValueError("Found array with 0 sample(s): TargetStatistics needs at least one row to learn from.")
        check_plan(plan, table.shape[0])
        self.tasks_ = resolve_tasks(self.tasks, Y)
        targets = encode_targets(Y, self.tasks_)
        check_labels_of(table, targets, sample_weight)
        weights = check_sample_weight(sample_weight, self.tasks_, len(targets))
        register_columns(self, table)
        frame = as_frame(table)
        self.keys_ = find_keys(self.columns, frame)
        names, labels, owner = _label_columns(targets)
        self.statistics_ = _statistic_names(self.keys_, names, self.counts)
        _refuse_repeated(self.statistics_, frame.columns)
        self._coders = [KeyCoder(key) for key in self.keys_]
        codes = np.empty((len(frame), len(self.keys_)), dtype=np.int64)
        for k, coder in enumerate(self._coders):
            codes[:, k] = coder.learn(frame)
        weights = None if weights is None else weights[:, owner]
        self._means = CategoryMeans([c.size for c in self._coders], self.smooth, self.counts).fit(
            codes, labels, weights
        )
        self.priors_, self.smooth_ = self._means.prior_, self._means.smooth_
        return table, codes, labels, weights

    def _plan(self, table: Any, Y: Any) -> FoldPlan:
        """Folds that train on nothing that was not known when their block began."""
        check_delays(self.tasks_, self.time)
        if self.time is None:
            return make_folds(self.cv, Y, random_state=self.random_state)
        time = role_values(table, resolve_roles(table, time=self.time)["time"])
        if isinstance(self.cv, Temporal) or (isinstance(self.cv, int | np.integer) and self.cv >= 2):
            return temporal_folds(self.cv, Y, self.tasks_, time)
        return make_folds(self.cv, Y, time=time, random_state=self.random_state)

    def _append(self, table: Any, values: Floats) -> Any:
        if isinstance(table, pd.DataFrame):
            appended = pd.DataFrame(values, columns=self.statistics_, index=table.index, copy=False)
            return pd.concat([table, appended], axis=1)
        values = np.ascontiguousarray(values)
        return np.hstack([table, values.astype(object) if table.dtype == object else values])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _label_columns(targets: Targets) -> tuple[list[str], Floats, list[int]]:
    """A column per task, per class for multiclass tasks: their names, labels of shape (n, n_labels), and tasks."""
    names: list[str] = []
    columns: list[Floats] = []
    owner: list[int] = []
    for j, task in enumerate(targets.tasks):
        y = targets.view(task.name)
        classes = targets.classes[task.name] if task.kind == "multiclass" else None
        if classes is None:
            names.append(task.name)
            columns.append(y)
            owner.append(j)
            continue
        for code, label in enumerate(classes):
            names.append(f"{task.name}={label}")
            columns.append(np.where(np.isnan(y), np.nan, y == code))
            owner.append(j)
    return names, np.column_stack(columns), owner


def _statistic_names(keys: list[Key], labels: list[str], counts: bool) -> list[str]:
    kinds = ("mean", "count") if counts else ("mean",)
    joined = ["_".join(map(str, key)) for key in keys]
    return [f"{key}__{label}__{kind}" for key in joined for kind in kinds for label in labels]


def _refuse_repeated(names: list[str], columns: pd.Index) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1 or name in columns})
    if repeated:
        raise ValueError(f"X has columns of the names that would be appended: {', '.join(repeated)}; rename them.")


def _dense(table: Any) -> Any:
    if sparse.issparse(table):
        raise TypeError("X is sparse; TargetStatistics expects a frame or an array with one column per category field.")
    return table
