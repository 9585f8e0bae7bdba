"""LatentFeatures: columns of latent models for the learners that follow, out-of-fold where they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import TransformerMixin, clone
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.delays import longest_delay
from mtl_classic._core.exceptions import FoldError, RoleError
from mtl_classic._core.options import COLUMN, FOLDS, INTEGER, MAPPING, TASK, Option, list_of
from mtl_classic._core.random import root_seed, seeded, spawn_seed
from mtl_classic._core.targets import Classes, encode_targets
from mtl_classic._core.tasks import Task, label_frame, resolve_tasks
from mtl_classic._core.time import is_datetime
from mtl_classic._core.validation import align_columns, as_table, check_labels_of, find_role, n_rows, register_columns
from mtl_classic.events import EventLog
from mtl_classic.factorization._appended import append_to_table
from mtl_classic.factorization._feedback import check_log
from mtl_classic.factorization._members import LatentMember, choose_task, reads_events
from mtl_classic.factorization._out_of_fold import columns_before_blocks, columns_by_folds, log_for_full_fit
from mtl_classic.model_selection import FoldPlan, Temporal, make_folds
from mtl_classic.model_selection._plans import check_plan, labels_for_folds

__all__ = ["LatentFeatures"]

Array = npt.NDArray[Any]
DEFAULT_BLOCKS = 5


class LatentFeatures(TransformerMixin, _BaseComposition):
    """Append the scores, or vectors, of latent models to a frame.

    `fit_transform` gives every row columns of a model that was not fitted on it. A model of labels is fitted once per
    fold on the other folds' rows. A model of an event log is fitted once per block of time on the events before the
    block's first row, whatever `cv` says, because the log holds the rows' own labels. `transform` uses the full fit:
    all rows, or the events before the last fitted row, and those that `observe` has told of. So ``fit(X, Y)
    .transform(X)`` is not ``fit_transform(X, Y)``, and leaks; so do rows that are older than the events observed.

    A vector means something in the basis of its own fit only: those of each fold are rotated onto the basis of the full
    fit, by the orthogonal matrix that brings the vectors of the ids they share closest together (Procrustes [1]_).

    Parameters
    ----------
    models : list of (name, unfitted model)
        `MatrixFactorization`, factorization machines, any classifier or regressor that reads X, multi-task estimators.
    output : {"scores", "vectors", "both"}, default="scores"
        Scores are a `MatrixFactorization`'s score and lengths of vectors, the log-odds of classifiers, the predictions
        of regressors, all scores of multi-task estimators. Vectors have those models that have factors.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        Folds; for models of the log the number of blocks of time after the first.
    tasks : list of Task, dict of name to kind, or None, default=None
        None infers them from Y.
    task : str, dict of model name to task, or None, default=None
        What each model learns. None: classifiers and matrix factorization the most frequent binary task, regressors
        (and explicit matrix factorization) the first regression task.
    time : str, default=None
        Time column of X; None is that of the log. Without a log it makes the folds of an integer ``cv`` temporal.
    n_jobs : int, default=None
        Folds in parallel; changes time, not results.
    random_state : int, RandomState or None, default=None
        Deals the folds, and seeds models that have no seed of their own.

    Attributes
    ----------
    models_ : dict of name to fitted model
        The full fits.
    latent_features_ : list of str
        Names of the appended columns.
    tasks_ : tuple of Task
    feature_names_in_, n_features_in_
    as_of_ : time of the last event that the models know of; None if none of them reads a log

    Raises
    ------
    ValueError
        Without labels for models that need them, for vectors of models without any, for names used twice.
    RoleError
        With a log but without a time column.

    Notes
    -----
    Rows that no fold covers, and blocks before the log's first event that counts, have NaN. The cost is one fit per
    model and fold, and the full fit.

    References
    ----------
    .. [1] P. Schönemann (1966). A generalized solution of the orthogonal Procrustes problem. Psychometrika 31.
       https://doi.org/10.1007/BF02289451

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic.factorization import FactorizationMachineClassifier, LatentFeatures, MatrixFactorization
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 30, 3000), "item": rng.integers(0, 20, 3000)})
    >>> Y = pd.DataFrame({"buy": ((X["user"] + X["item"]) % 2 == 0) & (rng.random(3000) < 0.8)})
    >>> features = LatentFeatures([
    ...     ("fm", FactorizationMachineClassifier(categorical=["user", "item"], init_scale=0.1, random_state=0)),
    ...     ("als", MatrixFactorization(user="user", item="item", n_factors=4, random_state=0))], random_state=0)
    >>> columns = features.fit_transform(X, Y)
    >>> list(columns.columns[2:])
    ['fm__score', 'als__score', 'als__user_norm', 'als__item_norm']
    >>> bool(columns.loc[Y["buy"], "fm__score"].mean() > columns.loc[~Y["buy"], "fm__score"].mean() + 1)
    True
    """

    _members: dict[str, LatentMember]
    _options: ClassVar[dict[str, Option]] = {
        "models": list_of("(name, model)"), "output": ("scores", "vectors", "both"), "cv": FOLDS,
        "task": (TASK, MAPPING, None), "time": (COLUMN, None), "n_jobs": (INTEGER, None),
    }  # fmt: skip

    def __init__(
        self,
        models: Sequence[tuple[str, Any]],
        *,
        output: str = "scores",
        cv: Any = 5,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        task: str | Mapping[str, str] | None = None,
        time: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.models = models
        self.output = output
        self.cv = cv
        self.tasks = tasks
        self.task = task
        self.time = time
        self.n_jobs = n_jobs
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, those of the models as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
        """
        return self._get_params("models", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of the models as ``name__parameter``.

        Parameters
        ----------
        **params : parameters

        Returns
        -------
        self
        """
        self._set_params("models", **params)
        return self

    @all_or_nothing
    def fit(
        self,
        X: Any,
        Y: Any = None,
        *,
        sample_weight: Any = None,
        events: EventLog | None = None,
        plan: FoldPlan | None = None,
    ) -> Self:
        """Fit the models on all rows, or on the events before the last of them.

        Parameters
        ----------
        X : frame (array or CSR for models that read them) of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
            NaN means unlabelled; models leave those rows out.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            For `MatrixFactorization`; the others learn from Y.
        plan : FoldPlan, default=None
            Matters in `fit_transform` only.

        Returns
        -------
        self
        """
        self._fit(X, Y, sample_weight, events, plan)
        return self

    @all_or_nothing
    def fit_transform(
        self,
        X: Any,
        Y: Any = None,
        *,
        sample_weight: Any = None,
        events: EventLog | None = None,
        plan: FoldPlan | None = None,
    ) -> Any:
        """Fit the models, and append columns from models that did not see the row.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
        plan : FoldPlan, default=None
            The folds, in place of those of ``cv``.

        Returns
        -------
        DataFrame of shape (n, n_features + n_columns)
            An array for an array, CSR for CSR.
        """
        self._fit(X, Y, sample_weight, events, plan)
        return self._transform_fitted(X, Y, sample_weight, events, plan)

    def _transform_fitted(
        self, X: Any, Y: Any, sample_weight: Any, events: EventLog | None, plan: FoldPlan | None
    ) -> Any:
        """Append columns to the rows of the fit, from models that did not see the row."""
        table, labels = as_table(X), self._labels(Y)
        time, folds = self._time(table, events), plan
        columns = []
        for name, full in self._members.items():
            member = clone(full)
            if self._read_log[name] and events is not None and time is not None:
                whole = isinstance(self.cv, int | np.integer)
                blocks = self.cv if whole else getattr(self.cv, "n_splits", DEFAULT_BLOCKS)
                columns.append(columns_before_blocks(member, full, table, time, events, plan, blocks))
            else:
                if folds is None:
                    folds = self._plan(labels_for_folds(labels, self.tasks_, sample_weight, self.cv), time)
                columns.append(columns_by_folds(member, full, table, labels, folds, sample_weight, self.n_jobs))
        return append_to_table(table, columns)

    def transform(self, X: Any) -> Any:
        """Append the columns of the full fits.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)

        Returns
        -------
        DataFrame of shape (n, n_features + n_columns)
        """
        check_is_fitted(self)
        table = align_columns(self, as_table(X))
        return append_to_table(table, [member.columns(table) for member in self._members.values()])

    def observe(self, events: Any) -> Self:
        """Hand new events to the models that fold them in.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log

        Returns
        -------
        self
        """
        check_is_fitted(self)
        return self._with_readers(lambda member: member.observed(events))

    def _before(self, time: Any, log: EventLog | None) -> Self:
        """The models as of a time: those of the log without what they were told of later."""
        return copy(self)._with_readers(lambda member: member.before(time, log))

    def _catch_up(self, log: EventLog) -> Self:
        """Told of the events that the fits left out, where rows before them know what was known by then alone."""
        return self._with_readers(lambda member: member.caught_up(log))

    def _with_readers(self, change: Callable[[LatentMember], LatentMember]) -> Self:
        """Itself, its models of the log changed."""
        reads = self._read_log
        members = {name: change(member) if reads[name] else member for name, member in self._members.items()}
        models = {name: member.model_ for name, member in members.items()}
        self._members, self.models_ = members, models  # all or nothing
        return self

    @property
    def as_of_(self) -> Any:
        """Time of the last event that the models know of; None if none of them reads a log."""
        check_is_fitted(self)
        return next((self.models_[name].as_of_ for name, reads_log in self._read_log.items() if reads_log), None)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of X and of those appended.

        Parameters
        ----------
        input_features : array of str, default=None
            Names for the columns of an X without names.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.asarray([*_check_feature_names_in(self, input_features), *self.latent_features_], dtype=object)

    def _fit(self, X: Any, Y: Any, sample_weight: Any, events: EventLog | None, plan: FoldPlan | None) -> None:
        """Fit all models in full."""
        self._check_parameters()
        table = as_table(X)
        if n_rows(table) == 0:
            raise ValueError("Found array with 0 sample(s): LatentFeatures needs at least one row to fit.")
        check_plan(plan, n_rows(table))
        register_columns(self, table)
        self._read_log = {name: events is not None and reads_events(model) for name, model in self.models}
        if Y is None and not all(self._read_log.values()):
            needy = [name for name, reads in self._read_log.items() if not reads]
            raise ValueError(f"The models {needy} learn from labels (or from events=), but Y is None.")
        self.tasks_ = () if Y is None else resolve_tasks(self.tasks, Y)
        learns, classes = ({}, None) if Y is None else self._learnt_tasks(table, Y, sample_weight)
        self._members, self._seed = {}, root_seed(self.random_state)
        for name, model in self.models:
            reads = self._read_log[name]
            if reads and events is not None:
                check_log(events, model.event)
                model = clone(model).set_params(time=model.time or self.time)
            if self.random_state is not None:
                model = seeded(model, self._seed, "model", name)
            member = LatentMember(name, model, learns.get(name), self.tasks_, classes, self.output)
            if self.output != "scores" and not member.has_vectors():
                raise ValueError(f'The model {name!r}, {type(model).__name__}, has no vectors: give output="scores".')
            time = self._time(table, events)
            if reads and events is not None and time is not None:
                self._members[name] = member.fit(table, events=log_for_full_fit(events, time))
            else:
                self._members[name] = member.fit(table, self._labels(Y), sample_weight=sample_weight)
        self.models_ = {name: member.model_ for name, member in self._members.items()}
        first = table.iloc[:1] if isinstance(table, pd.DataFrame) else table[:1]
        self.latent_features_ = [str(c) for member in self._members.values() for c in member.columns(first).columns]

    def _check_parameters(self) -> None:
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in self.models):
            raise TypeError(f"models must be a list of (name, model), got {self.models!r}.")
        names = [name for name, _ in self.models]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"models must be a list of (name, model) with distinct names, got the names {names}.")
        if taken := sorted(str(n) for n in names if "__" in str(n) or n in self.get_params(deep=False)):
            raise ValueError(f"Names of models must not hold __, nor be those of parameters: {', '.join(taken)}.")
        if isinstance(self.task, Mapping) and not set(self.task) <= set(names):
            raise ValueError(f"task= names models that there are not: {sorted(set(self.task) - set(names))}.")

    def _learnt_tasks(self, table: Any, Y: Any, sample_weight: Any) -> tuple[dict[str, str | None], Classes]:
        """What each model learns, and the classes: each encodes its own labels, so all are held for no longer."""
        targets = encode_targets(Y, self.tasks_)
        check_labels_of(table, targets, sample_weight)
        asked = self.task if isinstance(self.task, Mapping) else dict.fromkeys(dict(self.models), self.task)
        known = [(n, m, asked.get(n) or getattr(m, "task", None)) for n, m in self.models if not self._read_log[n]]
        return {name: choose_task(model, targets, task) for name, model, task in known}, targets.classes

    def _labels(self, Y: Any) -> Any:
        """Labels by task name, so that folds can be matched."""
        if Y is None:
            return None
        frame = label_frame(Y.to_pandas() if hasattr(Y, "to_pandas") else Y)
        names = [task.name for task in self.tasks_]
        return frame[names] if set(names) <= set(frame.columns) else frame.set_axis(names, axis=1)

    def _time(self, table: Any, events: EventLog | None) -> pd.Series | None:
        name = self.time
        if name is None and events is not None and any(self._read_log.values()):
            name = events.roles["time"]
        if name is None:
            return None
        if not isinstance(table, pd.DataFrame):
            raise RoleError(f"The time {name!r} is a column name, so X must be a frame, got {type(table).__name__}.")
        time = table[find_role(table.columns, name, "time")]
        is_text = time.dtype == object or pd.api.types.is_string_dtype(time.dtype)
        return pd.to_datetime(time) if is_text else time

    def _plan(self, labels: Any, time: pd.Series | None) -> FoldPlan:
        cv = self.cv
        if time is not None and isinstance(cv, int | np.integer):
            gap = longest_delay(self.tasks_, time)
            if time.nunique() < 2:
                why = f"rows of different times, but {time.name!r} is the same in all"
                raise FoldError(f"Folds in time need {why}; without time= the folds are random.")
            duration = np.timedelta64(int(gap), "ns") if is_datetime(time.dtype) else gap
            cv = Temporal(min(int(cv), int(time.nunique()) - 1), duration if gap else None)
        return make_folds(cv, labels, time=time, random_state=spawn_seed(self._seed, "folds"))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "models_")
