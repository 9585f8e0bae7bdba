"""Matrix factorization of users × items: latent features from who took what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.exceptions import LabelError, RoleError
from mtl_classic._core.keys import warn_of_lost_digits
from mtl_classic._core.options import COLUMN, COUNT, FINITE, FINITE_POSITIVE, FOLDS, INTEGER, MAPPING, TASK, Option
from mtl_classic._core.parallel import n_threads
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import encode_targets
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import check_labels_of, check_sample_weight, find_role, register_columns
from mtl_classic.events import EventLog
from mtl_classic.factorization._explicit import fit_explicit
from mtl_classic.factorization._feedback import Feedback, Ids, check_log, feedback_from_events, feedback_from_rows
from mtl_classic.factorization._implicit import fit_implicit
from mtl_classic.factorization._latent_features import LatentFeatures
from mtl_classic.factorization._matrix_columns import PairVectors, as_rows
from mtl_classic.factorization._members import choose_task
from mtl_classic.factorization._out_of_fold import log_for_full_fit
from mtl_classic.factorization._told import Told, later_of
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._plans import check_plan

__all__ = ["MatrixFactorization"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
# Sweeps or epochs, learning rate, penalty: where the parameters say None.
DEFAULTS: dict[str, tuple[int, float, float]] = {
    "als": (15, 0.0, 0.01),
    "bpr": (100, 0.05, 0.01),
    "logistic": (30, 1.0, 0.6),
    "explicit": (100, 0.0, 0.0),
}
OUTPUTS = ("scores", "vectors", "both")


class MatrixFactorization(PairVectors, BaseEstimator):
    r"""Append the latent score of each row's user and item, and the lengths of their vectors.

    A user u and an item i have vectors :math:`p_u, q_i \in R^K`, and the score of a pair is

    .. math:: s_{ui} = \langle p_u, q_i \rangle + b_u + c_i

    with biases where the model has them. ``"als"`` [1]_ fits 1 to the pairs that happened, with confidence α · weight,
    and 0 to all others, with confidence 1. ``"bpr"`` [2]_ ranks pairs that happened above others of the same user,
    ``"logistic"`` [3]_ gives log-odds; the package `implicit` does the work. ``"explicit"`` predicts ratings: the
    factorization machine of two fields, by Gibbs sampling [4]_.

    Pairs come from the event log if there is one, else from the rows where a task is positive (for ``"explicit"``: from
    its labels). `fit_transform` never gives a row columns that its own label or a later event went into: with a log
    each block of rows in time has a model of the events before the block, without one each fold a model of the others.

    Parameters
    ----------
    model : {"als", "bpr", "logistic", "explicit"}, default="als"
    n_factors : int, default=32
        Length K of the vectors.
    user, item, time : str, default=None
        Columns of X; None: the names that the log's columns have. Time is needed with a log, and makes folds temporal
        without one.
    task : str, default=None
        The task whose positive rows count; None is the most frequent binary task, for ``"explicit"`` the first
        regression (or count) task. Not read with a log.
    tasks : list of Task, dict of name to kind, or None, default=None
        None infers them from Y.
    event : type or list of types, default=None
        Events of the log that count; None is all. For ``"explicit"`` the rating is the log's value.
    weight : str, dict of event type to weight, or None, default=None
        Column with the weight of a pair, or a weight per type of event; repeated pairs add up. For ``"bpr"`` a pair has
        happened or not, whatever its weight.
    output : {"scores", "vectors", "both"}, default="scores"
        Scores are ``score``, ``user_norm`` and ``item_norm``. Vectors are for linear models; trees do better with
        scores.
    max_iter : int or None, default=None
        None is 15 (ALS), 100 (BPR), 30 (logistic), 100 (sweeps of Gibbs sampling).
    learning_rate : float or None, default=None
        None is 0.05 (BPR), 1 (logistic).
    reg_factors : float or None, default=None
        Penalty; None is 0.01 (ALS, BPR), 0.6 (logistic). Gibbs sampling finds its own.
    alpha : float, default=1.0
        Confidence per weight, ALS only.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        Folds of `fit_transform`; with a log, the number of blocks of time after the first.
    n_jobs : int, default=None
        Threads of ALS. BPR and logistic run on one, for results that can be repeated.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    users_, items_ : Index
        Ids in the order of the vectors.
    user_factors_, item_factors_ : ndarray of float32, shapes (n_users, K) and (n_items, K)
        The p and q. Scores of all models but ``"als"`` have biases besides, which are not among them.
    task_ : str or None
    roles_ : dict of role to column
    feature_names_in_, n_features_in_
    as_of_ : time of the last event that was learnt or folded in; None without events

    Raises
    ------
    RoleError
        Without columns for user and item; with a log, for time.
    LabelError
        If nothing is positive.

    Notes
    -----
    Unseen users and items have the mean vector of those of the fit, and length 0: never NaN. Rows that no fold covers
    (before the first event of the log that counts, in the first block of temporal folds) have NaN in `fit_transform`.
    ALS costs pairs × K + (users + items) × K² per sweep.

    References
    ----------
    .. [1] Y. Hu, Y. Koren, C. Volinsky (2008). Collaborative filtering for implicit feedback datasets. ICDM.
       https://doi.org/10.1109/ICDM.2008.22
    .. [2] S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme (2009). BPR: Bayesian personalized ranking from
       implicit feedback. UAI. https://doi.org/10.48550/arXiv.1205.2618
    .. [3] C. Johnson (2014). Logistic matrix factorization for implicit feedback data. NIPS workshop on distributed
       machine learning and matrix computations.
    .. [4] C. Freudenthaler, L. Schmidt-Thieme, S. Rendle (2011). Bayesian factorization machines. NIPS workshop on
       sparse representation and low-rank approximation.

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic import EventLog
    >>> from mtl_classic.factorization import MatrixFactorization
    >>> events = pd.DataFrame({"user": list("aabbccddd"), "item": list("xyxyzwzwz"), "week": range(9)})
    >>> log = EventLog(events, user="user", item="item", time="week")
    >>> rows = pd.DataFrame({"user": ["a", "a", "d", "new"], "item": ["y", "z", "w", "x"], "week": 9})
    >>> model = MatrixFactorization(n_factors=2, random_state=0).fit(rows, events=log)
    >>> score = model.transform(rows)["als__score"]
    >>> bool(score[0] > score[1]), bool(score[2] > score[1]), bool(score.notna().all())
    (True, True, True)
    """

    as_of_: Any

    _options: ClassVar[dict[str, Option]] = {
        "model": tuple(DEFAULTS), "output": OUTPUTS, "n_factors": COUNT,
        "user": (COLUMN, None), "item": (COLUMN, None), "time": (COLUMN, None),
        "task": (TASK, None), "max_iter": (COUNT, None), "learning_rate": (FINITE_POSITIVE, None),
        "reg_factors": (FINITE, None), "alpha": FINITE_POSITIVE, "cv": FOLDS,
        "weight": (COLUMN, MAPPING, None), "n_jobs": (INTEGER, None),
    }  # fmt: skip

    def __init__(
        self,
        model: str = "als",
        *,
        n_factors: int = 32,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        task: str | None = None,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        event: Any = None,
        weight: str | Mapping[Any, float] | None = None,
        output: str = "scores",
        max_iter: int | None = None,
        learning_rate: float | None = None,
        reg_factors: float | None = None,
        alpha: float = 1.0,
        cv: Any = 5,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.n_factors = n_factors
        self.user = user
        self.item = item
        self.time = time
        self.task = task
        self.tasks = tasks
        self.event = event
        self.weight = weight
        self.output = output
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.reg_factors = reg_factors
        self.alpha = alpha
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: the size of the vectors, and what holds them."""
        return {"n_factors": [8, 16, 32, 64], "reg_factors": loguniform(1e-3, 10)}

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
        """Learn vectors from all events before the last row, or from all positive rows.

        Parameters
        ----------
        X : frame of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
            NaN means unlabelled. Not read with a log.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
        plan : FoldPlan, default=None
            Matters in `fit_transform` only.

        Returns
        -------
        self
        """
        check_plan(plan, len(as_rows(X)))
        if events is not None:
            check_log(events, self.event)
            return self._fit_events(X, events)
        X = self._start(X, None)
        if Y is None:
            raise ValueError("MatrixFactorization learns from events=, or from labels; both are None.")
        tasks = resolve_tasks(self.tasks, Y)
        targets = encode_targets(Y, tasks)
        check_labels_of(X, targets, sample_weight)
        self.task_ = choose_task(self, targets, self.task)
        weights = check_sample_weight(sample_weight, tasks, len(targets))
        weight = None if weights is None else weights[:, targets.position(str(self.task_))]
        return self._fit_labels(X, targets.view(str(self.task_)), weight, self.task_)

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
        """Learn from all, and append columns from models that did not see a row's own label or a later event.

        Parameters
        ----------
        X : frame of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
        plan : FoldPlan, default=None
            The folds, in place of those of ``cv``.

        Returns
        -------
        DataFrame of shape (n, n_features + n_columns)
        """
        features = LatentFeatures(
            [(self.model, self)], output=self.output, cv=self.cv, tasks=self.tasks, time=self.time, n_jobs=self.n_jobs,
            random_state=self.random_state,
        )  # fmt: skip
        table = features.fit_transform(X, Y, sample_weight=sample_weight, events=events, plan=plan)
        fitted, parameters = vars(features.models_[self.model]), self.get_params(deep=False)
        self.__dict__.update({name: value for name, value in fitted.items() if name not in parameters})
        return table

    def observe(self, events: Any) -> Self:
        """Fold in new events: users, known and new, move; items and everything else stay.

        With ``"als"`` a row whose time is among those of the events has its user as of then. With ``"bpr"`` and
        ``"logistic"`` known users stay too, and new ones have what the first events say of them.

        Parameters
        ----------
        events : EventLog, or frame with the columns of the log of the fit
            Only the new ones. Items that the fit did not see are left out, and users of no other items stay unseen.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        if not isinstance(events, EventLog) and not self._event_roles:
            raise TypeError("The fit had no log, so that the roles of a frame are not known; give an EventLog.")
        log = events if isinstance(events, EventLog) else EventLog(events, **self._event_roles)
        pairs, as_of = self._from_events(log), later_of(self.as_of_, log)
        users, factors = self._users.copy(), copy(self._factors)  # all or nothing
        item = self._items.codes(pairs.item)
        known = item >= 0
        user = users.learn(pairs.user[known])
        factors.fold_in(len(users), user, item[known], pairs.value[known], pairs.weight[known])
        told, untold = self._told, self._untold or (self._users, self._factors, self.as_of_)
        if self.model == "als" and pairs.time is not None and known.any():
            told = Told.of(user, item[known], pairs.weight[known], pairs.time[known], log.is_datetime, told)
        self._untold, self._told, self._factors = untold, told, factors
        self._users, self.as_of_ = users, as_of  # after their vectors: another thread may be predicting
        return self

    def _before(self, time: Any, log: EventLog | None) -> Self:
        """The vectors as of a time: those of the fit, moved by the events of the log up to then."""
        if self._untold is None or self.as_of_ is None:
            return self
        if to_time(pd.Series([self.as_of_]))[0] < to_time(pd.Series([time]))[0]:
            return self
        earlier = copy(self)
        earlier._users, earlier._factors, earlier.as_of_ = self._untold
        earlier._untold = earlier._told = None
        events = None if log is None else log.before(time)._after(earlier.as_of_)
        return earlier.observe(events) if events is not None and events.n_events else earlier

    def _catch_up(self, log: EventLog) -> Self:
        """Told of the events that the fit left out, where rows before them have their users as of then."""
        if self.model != "als" or "time" not in self.roles_ or not self._event_roles:
            return self
        later = log._after(self.as_of_)
        return self.observe(later) if later.n_events else self

    def _learns_numbers(self) -> bool:
        return self.model == "explicit"

    def _start(self, X: Any, events: EventLog | None) -> pd.DataFrame:
        given, X = X, as_rows(X)
        if not len(X):
            raise ValueError("Found array with 0 sample(s): MatrixFactorization needs at least one row to fit.")
        register_columns(self, X)
        self._event_roles = {} if events is None else dict(events.roles)
        self.as_of_, self._untold, self._told, self.roles_ = None, None, None, {}
        for role in ("user", "item"):
            name = getattr(self, role) or self._event_roles.get(role)
            if name is None:
                raise RoleError(f"The {role} column is needed: name it with {role}=; there are {list(X.columns)}.")
            self.roles_[role] = str(find_role(X.columns, name, role))
        warn_of_lost_digits(X, self.roles_.values(), given)
        time = self.time or self._event_roles.get("time")
        if self.time is not None or time in X.columns:
            self.roles_["time"] = str(find_role(X.columns, time, "time"))
        return X

    def _fit_events(self, X: Any, events: EventLog) -> Self:
        """Fit to the events before the last row."""
        X = self._start(X, events)
        self.task_ = None
        if "time" in self.roles_:
            events = log_for_full_fit(events, X[self.roles_["time"]])
        self.as_of_ = events.last_time
        return self._fit_pairs(self._from_events(events))

    def _fit_labels(self, X: Any, y: Floats, sample_weight: Floats | None, task: str | None) -> Self:
        """Fit to the labels of one task, as encoded."""
        X = self._start(X, None)
        self.task_ = task
        weight = None
        if self.weight is not None:
            if not isinstance(self.weight, str):
                raise ValueError("Without a log weight= is the name of a column; weights per event type need events=.")
            weight = str(find_role(X.columns, self.weight, "weight"))
        pairs = feedback_from_rows(
            X, self.roles_["user"], self.roles_["item"], y, weight=weight, sample_weight=sample_weight,
            ratings=self._learns_numbers(),
        )  # fmt: skip
        return self._fit_pairs(pairs)

    def _from_events(self, log: EventLog) -> Feedback:
        return feedback_from_events(log, event=self.event, weight=self.weight, ratings=self._learns_numbers())

    def _fit_pairs(self, pairs: Feedback) -> Self:
        if not len(pairs.value):
            what = "labels" if self._learns_numbers() else "positive rows or events"
            raise LabelError(f"There are no {what} of known users and items to factorize.")
        self._users, self._items = Ids(), Ids()
        users, items = self._users.learn(pairs.user), self._items.learn(pairs.item)
        shape = len(self._users), len(self._items)
        max_iter, learning_rate, regularization = DEFAULTS[self.model]
        max_iter = max_iter if self.max_iter is None else self.max_iter
        seed = spawn_seed(root_seed(self.random_state), "matrix", self.model)
        if self.model == "explicit":
            self._factors = fit_explicit(
                users, items, pairs.value, pairs.weight, shape, n_factors=self.n_factors, max_iter=max_iter, seed=seed
            )
            return self
        self._factors = fit_implicit(
            self.model, users, items, pairs.weight, shape, n_factors=self.n_factors, max_iter=max_iter,
            learning_rate=learning_rate if self.learning_rate is None else self.learning_rate,
            regularization=regularization if self.reg_factors is None else self.reg_factors,
            alpha=self.alpha, n_jobs=n_threads(self.n_jobs), seed=seed,
        )  # fmt: skip
        return self
