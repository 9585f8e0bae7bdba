"""The event log: what happened, to whom, with what, and when; immutable column arrays in the order of time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.keys import warn_of_lost_digits
from mtl_classic._core.time import is_datetime, time_dtype, to_stamp, to_time
from mtl_classic._core.validation import Events, as_table, find_role
from mtl_classic.events._coded import Coded
from mtl_classic.events._column import Column, as_column, check_amounts, check_same_kind, joined_column
from mtl_classic.events._repeats import warn_of_repeats
from mtl_classic.events._room import Room

ROLES = ("user", "item", "time", "event", "value")


class EventLog(Events):
    """An immutable log of events, sorted by time, that models read their history from.

    One row of `frame` is one event: who (`user`), with what (`item`), when (`time`), and if given which type of event
    (`event`) and how much (`value`). All other columns (store, category, coupon ...) are kept as well and may serve as
    keys, values or filters of an :class:`Aggregate`. Events of the same time keep the order of the frame.

    Parameters
    ----------
    frame : DataFrame of shape (n_events, n_columns)
        pandas, polars or any frame that narwhals knows. It is copied, never changed.
    user, item, time : str
        Names of columns. Times are datetimes or numbers (weeks as integers, say); a missing time is refused, a missing
        user or item is not: such an event enters no history of a user or item.
    event : str, optional
        The column that holds the type of the event.
    value : str, optional
        The numeric column that holds the amount of the event: a price, a quantity, a rating.

    Attributes
    ----------
    n_events : int
    columns : tuple of str
    roles : mapping of role to column name, only of the roles that were given
    time : ndarray of shape (n_events,), int64 (nanoseconds, UTC, or the integers given) or float64
    event_types : tuple, the most frequent first

    Raises
    ------
    ValueError
        A column name that occurs twice, a missing or infinite time (their number is told).
    RoleError
        A role column that is not there; no column for user, item or time.

    Notes
    -----
    Building costs one stable sort, O(n log n); texts and categories are stored as integer codes. scikit-learn's `clone`
    hands on the log itself, joblib maps its arrays into the memory of workers. It has no `len` on purpose: scikit-learn
    would cut a fit parameter that is as long as X into folds.

    Examples
    --------
    >>> import pandas as pd
    >>> events = pd.DataFrame({
    ...     "user": ["ann", "bob", "ann"], "item": ["tea", "tea", "jam"], "type": ["buy", "view", "view"],
    ...     "ts": pd.to_datetime(["2024-01-03", "2024-01-02", "2024-01-01"]), "price": [4.0, 0.0, 0.0]})
    >>> log = EventLog(events, user="user", item="item", time="ts", event="type", value="price")
    >>> log
    EventLog(3 events, 2 users, 2 items, 2024-01-01 00:00:00 to 2024-01-03 00:00:00)
    >>> log.event_types
    ('view', 'buy')
    >>> log.before("2024-01-03").column("user").tolist()
    ['ann', 'bob']
    """

    _left_out_to: Any = None  # the last time of the events that a model file left out of this log

    def __init__(
        self,
        frame: Any,
        *,
        user: str,
        item: str,
        time: str,
        event: str | None = None,
        value: str | None = None,
    ) -> None:
        table = _as_frame(frame)
        named = dict(zip(ROLES, (user, item, time, event, value), strict=True))
        _check_named(named)
        roles = {
            role: str(find_role(table.columns, name, role, index=table.index.names))
            for role, name in named.items()
            if name is not None
        }
        warn_of_lost_digits(table, (roles["user"], roles["item"]), frame)
        axis, columns = _read(table, table.columns, roles)
        order = None if _is_sorted(axis) else np.argsort(axis, kind="stable")
        names = tuple(str(name) for name in table.columns)
        rooms = {name: Room(column.data, order=order) for name, column in columns.items()}
        rooms[roles["time"]] = Room(axis, order=order)
        columns = {name: Column(rooms[name].front(len(axis)), column.values) for name, column in columns.items()}
        axis = rooms[roles["time"]].front(len(axis))
        self._set(names, roles, axis, time_dtype(table[roles["time"]]), columns, rooms)

    def _set(
        self,
        names: tuple[str, ...],
        roles: dict[str, str],
        axis: npt.NDArray[Any],
        time_dtype: Any,
        columns: dict[str, Column],
        rooms: dict[str, Room] | None = None,
    ) -> None:
        self._names = names
        self._roles = roles
        self._time = axis
        self._time_dtype = time_dtype
        self._columns = columns
        self._cache: dict[Any, Any] = {}
        self._rooms = rooms or {}

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self._time)

    @property
    def roles(self) -> Mapping[str, str]:
        """Role (user, item, time, event, value) to column name."""
        return MappingProxyType(self._roles)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in the order of the frame."""
        return self._names

    @property
    def time(self) -> npt.NDArray[Any]:
        """Times, ascending: int64 (nanoseconds for datetimes) or float64."""
        return self._time

    @property
    def is_datetime(self) -> bool:
        """Whether the time axis is one of datetimes (nanoseconds) rather than of numbers."""
        return is_datetime(self._time_dtype)

    @property
    def axis_kind(self) -> str:
        """What the times are, in words: numbers, dates, or dates with a time zone."""
        return axis_kind(self._time_dtype)

    @property
    def last_time(self) -> Any:
        """Time of the last event: a Timestamp for datetimes, else a number; None if the log is empty."""
        if not self.n_events:
            return None
        return self._from_axis(self._time[-1:]).iloc[0]

    @property
    def event_types(self) -> tuple[Any, ...]:
        """Types of events, the most frequent first (ties in order of appearance); empty without an `event` column."""
        if "event" not in self._roles:
            return ()
        if "types" not in self._cache:
            codes, values = self.encode(self._roles["event"])
            counts = np.bincount(codes[codes >= 0], minlength=len(values))
            by_frequency = np.argsort(-counts, kind="stable")
            self._cache["types"] = tuple(values[i] for i in by_frequency if counts[i])
        return cast(tuple[Any, ...], self._cache["types"])

    @property
    def hash(self) -> str:
        """SHA-256 of the content (hexadecimal): equal for logs that hold the same events in the same order."""
        if "hash" not in self._cache:
            digest = hashlib.sha256(repr((self._names, sorted(self._roles.items()), self.axis_kind)).encode())
            digest.update(self._time.tobytes())
            for name in self._names:
                if name != self._roles["time"]:
                    digest.update(self._columns[name].fingerprint())
            self._cache["hash"] = digest.hexdigest()
        return cast(str, self._cache["hash"])

    def column(self, name: str) -> npt.NDArray[Any]:
        """The values of a column, shape (n_events,), in the order of time."""
        if name == self._roles["time"]:
            return self._from_axis(self._time).to_numpy()
        return self._column(name).decode()

    def encode(self, name: str) -> tuple[npt.NDArray[np.int64], pd.Index[Any]]:
        """Integer codes of a column, (n_events,), -1 where missing, and the distinct values that they number."""
        if name not in self._cache.setdefault("codes", {}):
            column = Column(self.column(name)) if name == self._roles["time"] else self._column(name)
            older = self._cache.get("older", {}).pop(name, None)
            self._cache["codes"][name] = Coded.of(column, self._values_index(name), older)
        coded: Coded = self._cache["codes"][name]
        return coded.codes, coded.values

    def before(self, time: Any) -> Self:
        """The events strictly before a time, of the kind that the log has: a date or text of one, else a number."""
        return self._before(self._to_axis(time))

    def append(self, frame: Any) -> Self:
        """A new log with the events of `frame` (a frame with the columns of this log, or a log) added.

        Columns that this log does not have are ignored; a column that is missing is refused, and so is
        text in place of numbers, or the other way. On equal times the older events come first, so appending day by day
        and building at once give the same log. Cost: that of the new events where they are all later than the old ones;
        else, and where an earlier append has used up the room behind the arrays, a copy of the log.
        `RepeatedEventsWarning` says so where most of at least 100 events are there already.
        """
        table = frame.to_frame() if isinstance(frame, EventLog) else _as_frame(frame)
        missing = [name for name in self._names if name not in table.columns]
        if missing:
            raise ValueError(
                f"append needs the columns of the log; missing are {missing}, there are {list(table.columns)}. "
                "Add them (as missing values if nothing is known)."
            )
        if not len(table):
            return self
        if not self.n_events:
            return self._not_yet_whole(type(self)(table[list(self._names)], **self._roles))
        dtype = time_dtype(table[self._roles["time"]])
        if axis_kind(dtype) != self.axis_kind:
            raise TypeError(
                f"the times of the log are {self.axis_kind}, those appended {axis_kind(dtype)}; convert them to one."
            )
        axis, columns = _read(table, self._names, self._roles)
        for name, column in columns.items():
            check_same_kind(self._columns[name], column, name)
        if not _is_sorted(axis):
            order = np.argsort(axis, kind="stable")
            axis = axis[order]
            columns = {name: Column(column.data[order], column.values) for name, column in columns.items()}
        return self._not_yet_whole(self._joined(axis, columns))

    def to_frame(self) -> pd.DataFrame:
        """The events as a new pandas frame, in the order of time."""
        data = {
            name: self._from_axis(self._time) if name == self._roles["time"] else self._columns[name].decode()
            for name in self._names
        }
        return pd.DataFrame(data, columns=list(self._names))

    def __sklearn_clone__(self) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_rooms": {}}

    def __repr__(self) -> str:
        if not self.n_events:
            return "EventLog(0 events)"
        users, items = (_n_present(self.encode(self._roles[role])[0]) for role in ("user", "item"))
        first = self._from_axis(self._time[:1]).iloc[0]
        return f"EventLog({self.n_events} events, {users} users, {items} items, {first} to {self.last_time})"

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            raise ValueError(f"the event log has no column {name!r}; it has {list(self._names)}.")
        return self._columns[name]

    @property
    def _is_lacking(self) -> bool:
        """Whether events that a model file left out are still to be told."""
        if self._left_out_to is None:
            return False
        return not self.n_events or bool(self._time[-1] < self._to_axis(self._left_out_to))

    def _not_yet_whole(self, told: Self) -> Self:
        """The log, which may lack events that a model file left out until it is told of later ones."""
        if self._left_out_to is not None and told._time[-1] <= told._to_axis(self._left_out_to):
            told._left_out_to = self._left_out_to
        return told

    def _joined(self, tail: npt.NDArray[Any], new: dict[str, Column]) -> Self:
        """The log and later columns in the order of time: O(new events) where all are later, and there is room."""
        order = None
        if tail[0] < self._time[-1]:  # of equal times the older events come first
            order = np.argsort(np.concatenate([self._time, tail]), kind="stable")
        rooms: dict[str, Room] = {}
        axis = self._extended(rooms, self._roles["time"], self._time, tail, order)
        columns: dict[str, Column] = {}
        kept: dict[str, pd.Index[Any] | None] = {}
        for name, column in self._columns.items():
            known = self._values_index(name)
            old, added, values = joined_column(column, new[name], known, name == self._roles.get("value"))
            kept[name] = known if values is column.values else None
            columns[name] = Column(self._extended(rooms, name, old, added, order), values)
        whole = type(self).__new__(type(self))
        whole._set(self._names, self._roles, axis, self._time_dtype, columns, rooms)
        if tail[0] <= self._time[-1]:
            start = np.searchsorted(axis, tail[0])
            at = start + np.flatnonzero(np.isin(axis[start:], tail))
            held = {name: column.data[at] for name, column in columns.items()}
            is_new = (at if order is None else order[at]) >= len(self._time)
            warn_of_repeats({self._roles["time"]: axis[at], **held}, is_new, are_late=order is not None)
        whole._cache["indexes"] = {name: index for name, index in kept.items() if index is not None}
        if order is None:
            whole._cache["older"] = self._cache.get("older", {}) | self._cache.get("codes", {})
        return whole

    def _values_index(self, name: str) -> pd.Index[Any] | None:
        """The distinct values of a coded column, ready to be looked up."""
        values = self._columns[name].values if name in self._columns else None
        indexes = self._cache.setdefault("indexes", {})
        if values is not None and name not in indexes:
            indexes[name] = pd.Index(values)
        return cast("pd.Index[Any] | None", indexes.get(name))

    def _extended(
        self, rooms: dict[str, Room], name: str, old: npt.NDArray[Any], tail: npt.NDArray[Any], order: Any
    ) -> npt.NDArray[Any]:
        held = self._columns[name].data if name in self._columns else self._time
        room = self._rooms.get(name) if order is None and old is held else None  # a room holds what was there
        if room is None or not room.take(len(old), tail):
            room = Room(old, tail, order=order)
        rooms[name] = room
        return room.front(len(old) + len(tail))

    def _before(self, stamp: Any) -> Self:
        """The events strictly before a time on the axis."""
        return self._slice(slice(int(np.searchsorted(self._time, stamp, side="left"))))

    def _after(self, time: Any) -> Self:
        """The events strictly after a time; None is before all."""
        start = 0 if time is None else int(np.searchsorted(self._time, self._to_axis(time), side="right"))
        return self._slice(slice(start, None))

    def _slice(self, part: slice) -> Self:
        log = type(self).__new__(type(self))
        columns = {name: Column(column.data[part], column.values) for name, column in self._columns.items()}
        log._set(self._names, self._roles, self._time[part], self._time_dtype, columns)
        return log

    def _to_axis(self, time: Any, what: str = "time") -> Any:
        return to_stamp(time, self._time_dtype, what)

    def _from_axis(self, axis: npt.NDArray[Any]) -> pd.Series[Any]:
        """Times in the type that the frame had; nanoseconds are UTC."""
        if not self.is_datetime:
            return pd.Series(axis)
        stamps = pd.Series(axis.view("datetime64[ns]"))
        zone = getattr(self._time_dtype, "tz", None)
        return stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)


def _check_named(named: Mapping[str, str | None]) -> None:
    """Refuse a log without user, item or time; one without items has the same item everywhere."""
    missing = [role for role in ROLES[:3] if named[role] is None]
    if missing:
        raise RoleError(
            f"An event log has user, item and time; there is no column for {', '.join(missing)}. Where events have no "
            f'item (or user), give them and the rows a column of one value: frame.assign(item="-").'
        )


def _read(
    table: pd.DataFrame, names: Iterable[Any], roles: Mapping[str, str]
) -> tuple[npt.NDArray[Any], dict[str, Column]]:
    """Times and columns of a frame, in its order."""
    axis = to_time(table[roles["time"]], "time of the event log")
    columns = {
        str(name): as_column(table[name], str(name), amount=name == roles.get("value"))
        for name in names
        if name != roles["time"]
    }
    if "value" in roles:
        check_amounts(columns[roles["value"]], roles["value"])
    return axis, columns


def _as_frame(frame: Any) -> pd.DataFrame:
    table = as_table(frame) if hasattr(frame, "columns") else None
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"an event log is made of a frame with named columns, not of {type(frame).__name__}.")
    return table


def axis_kind(dtype: Any) -> str:
    """What times of a type are, in words; dates with and without a zone do not mix, hours would be lost."""
    if not is_datetime(dtype):
        return "numbers"
    return "dates" if getattr(dtype, "tz", None) is None else "dates with a time zone"


def _is_sorted(axis: npt.NDArray[Any]) -> bool:
    return bool(np.all(axis[1:] >= axis[:-1]))


def _n_present(codes: npt.NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.bincount(codes[codes >= 0])))
