"""HistoryFeatures: what is known, at the time of a row, about its user, its item, and the two together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.options import COLUMN, INTEGER, Option
from mtl_classic._core.parallel import n_threads
from mtl_classic._core.targets import Classes, Targets, encode_targets
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.time import time_dtype, to_time
from mtl_classic._core.validation import align_columns, check_labels_of, find_role, register_columns
from mtl_classic.events._aggregate import Aggregate
from mtl_classic.events._auto import choose_for_log, choose_for_rows
from mtl_classic.events._checks import as_rows, check_names, check_on_log, is_auto
from mtl_classic.events._keys import Keyed, key_rows
from mtl_classic.events._log import EventLog
from mtl_classic.events._own_log import ROW, delays_of_labels, label_names, last_known, log_of_rows, on_own_log
from mtl_classic.events._windows import compute_aggregates


class HistoryFeatures(TransformerMixin, BaseEstimator):
    """Append columns of history to a frame: counts, sums, rates, recencies of earlier events with the same keys.

    A row at time t sees the events in [t − lag − window, t − lag) and none at t or later: in training, in validation
    and at serving alike, so changing what was not yet known at t changes no feature of the row.

    Parameters
    ----------
    aggregates : "auto" or list of Aggregate, default="auto"
        "auto" makes about 30 to 60 columns by the rule below.
    user, item : str, optional
        Columns of the rows. None: the names that the log's columns have, where the rows have them too.
    time : str, optional
        Column of the rows. None: the name of the log's time column.
    lag : duration, optional
        How stale the log is when a prediction is made, ``"1D"`` if the job runs on yesterday's log. It holds in
        training too.
    tasks : list of Task or dict of name to kind, optional
        Meaning of the labels where the rows are the log; None infers it from y.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do, where the rows are the log, with a funnel child that is non-zero under a negative parent: refuse it,
        make the parent positive, or leave the child out.
    n_jobs : int, optional
        Threads over the key sets; the numbers do not depend on it.

    Attributes
    ----------
    aggregates_ : tuple of Aggregate
    log_ : EventLog, the one given (not copied) or the one made of the fitted rows
    as_of_ : time of its last event, or when the last label of the fitted rows was known
    own_ : bool, whether the log is made of the fitted rows
    tasks_, classes_, labels_ : tuple of Task, dict task -> classes, list of str
        Of a log of the fitted rows: the tasks whose labels it knows, and what filters call these; else empty.
    roles_ : dict role -> column, of those that are named
    feature_names_in_, n_features_in_

    Raises
    ------
    RoleError
        A role or key column that rows or log do not have; no time.
    ValueError, TypeError
        Zero rows at fit, NaT (with their number), duplicated names, dates on one side and numbers on the other.

    Notes
    -----
    *With a log* (``events=``) the rule of "auto" is: windows short, medium, long = the largest of 1h … 1w, 2w, 4w, 8w,
    13w, 26w … (powers of two for numbers) within 1/24, 1/6 and 1/2 of the log's span. For each of user, item and user ×
    item: the count in each window, the counts of three event types (long; first those called like a label, of more than
    three the rarest, then the most frequent), the recency of all and of the *deepest* type (of the three the rarest
    that is called like a label, else the rarest), the mean gap, a decayed count (of the deepest, half-life medium), the
    smoothed rate of each type per the next more frequent, sum and mean of the value (long), and the share of flags or
    the mean of numbers of the log that the rows do not have (but of none that rise with time, as numbers of orders do).
    These amounts are those of the deepest type, and of all events where others have them too and they differ within an
    item (what a sale was worth, beside its return; no price). For at most two of user × context and item × context,
    where the context is a column of texts or integers that rows and log share with at most 1000 values: count and
    recency of the deepest type, decayed count of all events.

    *Without a log* the fitted rows are the log: each is an event at its time, of which a label is known the task's
    `delay` later, or never where it is missing. ``where="row"``, a filter on columns, and None mean the rows;
    ``where="buy"`` those whose label of the task "buy" is known then, and without `value` its sum, mean and smoothed
    mean (`"task=class"` per class of a multiclass task, for "auto" the eight commonest); ``value="buy"`` the label
    beside any filter. "auto" then takes, for user, item and user × item, else for the columns of texts or categories
    with most values up to 1000, the smoothed mean of each label so far. It leaves out counts and recencies: rows
    predicted later find a log that ends with the fitted rows unless more are observed, and what its age alone changes
    would mislead (in one window of hotel bookings it nearly doubled a loss). Without labels it takes just those: counts
    in three windows, recency, gap.

    *Unseen* users and items have count, sum and decayed 0, rate = the rate of all, recency, mean and gap NaN.

    Cost: O(n_events + n_rows) per key set and aggregate, about 40 bytes an event and 60 bytes a row of working memory.

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic.events import Aggregate, EventLog, HistoryFeatures
    >>> log = EventLog(pd.DataFrame({"user": ["ann", "ann", "bob"], "item": ["tea", "jam", "tea"], "week": [1, 2, 3]}),
    ...                user="user", item="item", time="week")
    >>> rows = pd.DataFrame({"user": ["ann", "ann", "cyd"], "item": ["tea", "tea", "tea"], "week": [2, 4, 4]})
    >>> history = HistoryFeatures([Aggregate("user", "count"), Aggregate(("user", "item"), "recency")])
    >>> history.fit_transform(rows, events=log)
      user item  week  user__count  user_item__recency
    0  ann  tea     2          1.0                 1.0
    1  ann  tea     4          2.0                 3.0
    2  cyd  tea     4          0.0                 NaN
    """

    tasks_: tuple[Task, ...]
    classes_: Classes
    labels_: list[str]
    _delays: dict[str, int | float]

    _options: ClassVar[dict[str, Option]] = {
        "user": (COLUMN, None), "item": (COLUMN, None), "time": (COLUMN, None),
        "n_jobs": (INTEGER, None), "on_conflict": ("raise", "lift", "drop"),
    }  # fmt: skip

    def __init__(
        self,
        aggregates: Any = "auto",
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        lag: Any = None,
        tasks: Any = None,
        on_conflict: str = "raise",
        n_jobs: int | None = None,
    ) -> None:
        self.aggregates = aggregates
        self.user = user
        self.item = item
        self.time = time
        self.lag = lag
        self.tasks = tasks
        self.on_conflict = on_conflict
        self.n_jobs = n_jobs

    @all_or_nothing
    def fit(self, X: Any, y: Any = None, *, events: EventLog | None = None) -> Self:
        """Choose the aggregates and keep the log; of the labels y only the names are read with `events`.

        Parameters
        ----------
        X : DataFrame of shape (n, n_columns)
        y : labels of shape (n,) or (n, n_tasks), optional
        events : EventLog, optional
        """
        X = as_rows(X)
        if not len(X):
            raise ValueError("HistoryFeatures was given a frame with 0 rows to fit; at least one is needed.")
        roles = self._find_roles(X, events)
        last = to_time(X[roles["time"]], roles["time"]).max()
        register_columns(self, X)
        self.roles_ = roles
        self.own_ = events is None
        if events is not None:
            self.tasks_, self.classes_, self.labels_, self._delays = (), {}, [], {}
            self.aggregates_ = self._choose(X, y, events, last)
            self.log_ = events
        else:
            self._fit_on_rows(X, y)
        check_names(self.aggregates_, self.feature_names_in_)
        self._asked = self._resolve()
        check_on_log(self._asked, self.log_, self.lag)
        self._keyed(X.iloc[:1], self.log_)  # a missing key column is told now, not at night
        return self

    @all_or_nothing
    def fit_transform(self, X: Any, y: Any = None, *, events: EventLog | None = None) -> Any:
        """Fit, and append the history to the same rows: each sees only what came before it."""
        return self.fit(X, y, events=events).transform(X)

    def transform(self, X: Any) -> Any:
        """The frame with float32 columns of history appended; rows keep their order and index."""
        check_is_fitted(self)
        X = align_columns(self, as_rows(X))
        values = self._compute(X)
        names = [aggregate.name for aggregate in self.aggregates_]
        return pd.concat([X, pd.DataFrame(values, columns=names, index=X.index)], axis=1)

    def observe(self, events: Any, y: Any = None) -> Self:
        """Append to the log what has happened since; nothing is refitted.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log; rows like the fitted ones if there was no log at fit
        y : labels of those rows, only without a log
            A label that is known later is told with its row again, the row's other labels NaN (counts of rows then
            count it twice); but not of a row whose parent is 0, whose child was known to be 0 with it.
        """
        check_is_fitted(self)
        if self.own_:
            X = align_columns(self, as_rows(events))
            targets = None if y is None or not self.tasks_ else self._targets(X, y, self.classes_)
            events = self._log_of(X, targets)
        self.log_ = self.log_.append(events)
        return self

    @property
    def as_of_(self) -> Any:
        """Time of the last event of the log, or when the last label of the fitted rows was known, if later."""
        check_is_fitted(self)
        return last_known(self.log_, self._delays)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The columns of X and the names of the aggregates."""
        check_is_fitted(self)
        names = [*self.feature_names_in_, *(aggregate.name for aggregate in self.aggregates_)]
        return np.asarray(names, dtype=object)

    def _compute(self, X: pd.DataFrame, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        threads, log = n_threads(self.n_jobs), self.log_  # once: another thread may be observing
        return compute_aggregates(
            self._asked, log, self._keyed(X, log), lag=self.lag, delays=self._delays, n_threads=threads, dtype=dtype
        )

    def _find_roles(self, X: pd.DataFrame, events: EventLog | None) -> dict[str, str]:
        """Role to column of the rows; what the user did not name is looked for under the log's name."""
        known = {} if events is None else events.roles
        roles: dict[str, str] = {}
        for role, name in (("user", self.user), ("item", self.item), ("time", self.time)):
            if name is not None:
                roles[role] = str(find_role(X.columns, name, role))
            elif known.get(role) is not None and _has(X.columns, known[role]):
                roles[role] = str(find_role(X.columns, known[role], role))
        if "time" not in roles:
            raise RoleError(
                f"history needs the time of each row: name its column by time=; the columns are {list(X.columns)}. "
                "Rows without a time have no history: use TargetStatistics on their user and item columns instead."
            )
        return roles

    def _choose(self, X: pd.DataFrame, y: Any, events: EventLog, last: Any) -> tuple[Aggregate, ...]:
        if not is_auto(self.aggregates):
            return tuple(self.aggregates)
        # not even the choice of columns may look beyond the last row
        before = events._before(last)
        events = before if before.n_events not in (0, events.n_events) else events
        taken = {*self.roles_.values(), *events.roles.values()}
        shared = [name for name in events.columns if name not in taken and _has(X.columns, name)]
        user, item = (events.roles[role] if role in self.roles_ else None for role in ("user", "item"))
        return choose_for_log(events, shared, user, item, self._label_names(y))

    def _label_names(self, y: Any) -> list[str]:
        """What is to be told, as far as it has names."""
        if self.tasks is not None:
            return [task.name for task in resolve_tasks(self.tasks, None)]
        named = y.columns if hasattr(y, "columns") else [getattr(y, "name", None)]
        return [str(name) for name in named if name is not None]

    def _fit_on_rows(self, X: pd.DataFrame, y: Any) -> None:
        """Make the log from the rows and their labels."""
        self.tasks_ = () if y is None else resolve_tasks(self.tasks, y)
        targets = None if y is None else self._targets(X, y)
        self.classes_ = {} if targets is None else targets.classes
        if any(task.name == ROW for task in self.tasks_):
            raise ValueError(f"a task cannot be called {ROW!r} here: that is the event type of the rows; rename it.")
        self.labels_, self._delays = [], {}
        if targets is not None:
            given = () if is_auto(self.aggregates) else self.aggregates
            asked = {spec for a in given for spec in (a.where, a.per, a.value) if isinstance(spec, str)}
            self.labels_ = [name for task in self.tasks_ for name in label_names(task, targets, asked)]
            self._delays = delays_of_labels(targets, time_dtype(X[self.roles_["time"]]), self.labels_)
        if is_auto(self.aggregates):
            roles = self.roles_
            self.aggregates_ = choose_for_rows(X, self.labels_, roles.get("user"), roles.get("item"), roles["time"])
        else:
            self.aggregates_ = tuple(self.aggregates)
        if not self.aggregates_:
            raise RoleError(
                "there is nothing to key a history by: name user= or item=, or give aggregates; "
                f"the columns are {list(X.columns)}."
            )
        self.log_ = self._log_of(X, targets)

    def _log_of(self, X: pd.DataFrame, targets: Targets | None) -> EventLog:
        columns = self._key_columns()
        return log_of_rows(X, targets, time=self.roles_["time"], columns=columns, labels=self.labels_)

    def _targets(self, X: pd.DataFrame, y: Any, classes: Classes | None = None) -> Targets:
        """Labels of the rows, in the coding of the fit."""
        rule: Any = self.on_conflict
        targets = encode_targets(y, self.tasks_, classes=classes, on_conflict=rule)
        check_labels_of(X, targets)
        return targets

    def _key_columns(self) -> list[str]:
        """Columns of the rows that their own log must hold: keys, filters, values."""
        names: list[str] = []
        for aggregate in self.aggregates_:
            for spec in (aggregate.where, aggregate.per):
                names += [str(name) for name in spec] if isinstance(spec, Mapping) else []
            is_label = aggregate.value in self.labels_ and aggregate.value not in self.feature_names_in_
            names += [] if aggregate.value is None or is_label else [aggregate.value]
            names += [self._row_column(key) for key in aggregate.keys]
        columns = [str(find_role(self.feature_names_in_, name, "key")) for name in dict.fromkeys(names)]
        return list(dict.fromkeys(columns))

    def _resolve(self) -> tuple[Aggregate, ...]:
        if not self.own_:
            return self.aggregates_
        return tuple(on_own_log(a, self.labels_, self.feature_names_in_) for a in self.aggregates_)

    def _keyed(self, X: pd.DataFrame, log: EventLog) -> Keyed:
        keys = dict.fromkeys(key for aggregate in self.aggregates_ for key in aggregate.keys)
        pairs = {}
        for key in keys:
            own, column = self._columns_of(key, X.columns)
            pairs[key] = X[own], column
        return key_rows(log, X[self.roles_["time"]], pairs)

    def _columns_of(self, key: str, columns: Any) -> tuple[str, str]:
        """The column of the rows, and that of the log, for a key."""
        column = self._row_column(key)
        return str(find_role(columns, column, "key")), self._log_column(key, column)

    def _row_column(self, key: str) -> str:
        """The column of the rows for a key: roles by their own name, by the name in the rows, or by that in the log."""
        role = self._role_of(key)
        return self.roles_[role] if role is not None and role in self.roles_ else key

    def _log_column(self, key: str, row_column: str) -> str:
        role = self._role_of(key)
        if self.own_:
            return str(find_role(self.feature_names_in_, row_column, "key"))
        return self.log_.roles[role] if role is not None else key

    def _role_of(self, key: str) -> str | None:
        names = {} if self.own_ or not hasattr(self, "log_") else self.log_.roles
        for role in ("user", "item"):
            if key in (self.roles_.get(role), getattr(self, role), names.get(role)):
                return role
        return key if key in ("user", "item") and key not in self.feature_names_in_ else None


def _has(columns: Any, name: str) -> bool:
    return name in columns or sum(str(column).endswith(f"__{name}") for column in columns) == 1
