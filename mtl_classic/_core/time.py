"""Time as numbers: datetimes become int64 nanoseconds, numeric time axes stay as they are."""

from __future__ import annotations

import re
import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.arrow import from_arrow
from mtl_classic._core.exceptions import DatesAsNumbersWarning
from mtl_classic._core.options import NOT_NEGATIVE, Kind, check_option

__all__ = ["check_duration", "is_datetime", "time_dtype", "to_duration", "to_stamp", "to_time"]

_NANOSECONDS = {
    "w": 604_800_000_000_000,
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "min": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
FOR_TEXT = "Text is read by pandas, the month first; read it yourself: pd.to_datetime(column, format=…)."
_WRITTEN = 1990_01_01, 2100_12_31  # years in which integers of eight digits may be dates
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]+)\s*")
_OF_DATES = (str, timedelta, np.timedelta64)
DURATION = Kind('a text like "7D" or a timedelta', lambda value: isinstance(value, _OF_DATES))


def is_datetime(values: Any) -> bool:
    """Whether the values (or dtype) are dates rather than numbers."""
    dtype = getattr(values, "dtype", values)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return True
    try:
        return bool(np.issubdtype(dtype, np.datetime64))
    except TypeError:
        return False


def time_dtype(time: Any) -> Any:
    """The dtype of a time axis as `to_time` reads it: texts are dates, in the zone that the first of them names."""
    column = time if hasattr(time, "dtype") else pd.Series(time)
    dtype = (from_arrow(column) if isinstance(column, pd.Series) else column).dtype
    if pd.api.types.is_object_dtype(dtype):
        dtype = pd.Series(time).infer_objects().dtype
    is_text = pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype)
    zone = _zone_of_text(pd.Series(column)) if is_text else None
    if zone is not None:
        return pd.DatetimeTZDtype("ns", zone)
    return np.dtype("datetime64[ns]") if is_text else dtype


def to_time(values: Any, what: str | None = None) -> npt.NDArray[Any]:
    """A time column as a numeric array.

    Parameters
    ----------
    values : array-like of shape (n,)
        Datetimes (with or without zone), strings or objects that pandas parses (the month first where that is open),
        integers or floats.
    what : str, default=None
        The name of the column, for the error; None: its own, else "time".

    Returns
    -------
    ndarray of shape (n,)
        int64 nanoseconds since 1970 for dates, int64 for integers, float64 for floats.

    Raises
    ------
    ValueError
        If a time is missing (the count is said) or infinite.
    TypeError
        If the values are neither dates nor numbers.

    Warns
    -----
    DatesAsNumbersWarning
        If all integers are dates written as yyyymmdd, of more than one month.
    """
    series = from_arrow(pd.Series(values))
    if what is None:
        what = series.name if isinstance(series.name, str) else "time"
    if series.dtype == object:
        series = series.infer_objects()
    is_text = series.dtype == object or pd.api.types.is_string_dtype(series.dtype)
    if is_text:
        series = _parse(series, what)
    if series.hasnans:
        missing = int(series.isna().sum())
        raise ValueError(
            f"{missing} of {len(series)} values of {what!r} are missing (NaT or NaN); "
            f"drop those rows or fill in their time."
        )
    if is_datetime(series.dtype):
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        try:
            return series.astype("datetime64[ns]").to_numpy().view(np.int64)
        except pd.errors.OutOfBoundsDatetime as error:
            hint = f". {FOR_TEXT}" if is_text else ""  # text without a year is of the year 1
            raise ValueError(
                f"{what!r} holds dates that nanoseconds do not reach (1677 to 2262): {error}{hint}"
            ) from None
    if pd.api.types.is_bool_dtype(series.dtype) or not pd.api.types.is_numeric_dtype(series.dtype):
        raise TypeError(
            f"{what!r} must hold dates or numbers, got {series.dtype}; convert it, as by pd.to_datetime (periods by "
            f".dt.to_timestamp)."
        )
    if pd.api.types.is_integer_dtype(series.dtype):
        if len(series) and series.max() > np.iinfo(np.int64).max:
            raise ValueError(
                f"{what!r} holds integers that 64 bits with a sign do not reach; the largest is {series.max()}."
            )
        integers = series.to_numpy(dtype=np.int64)
        _warn_of_written_dates(integers, what)
        return integers
    numbers = series.to_numpy(dtype=np.float64)
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise ValueError(f"{infinite} of {len(series)} values of {what!r} are infinite; expected finite times.")
    return numbers


def to_stamp(time: Any, like: Any, what: str = "time") -> Any:
    """One time on an axis, as `to_time` reads it; a date without a zone is meant in that of the axis.

    Parameters
    ----------
    time : datetime, text of one, or number
    like : dtype
        Of the times of the axis.
    what : str, default="time"
        The name of the option, for the error.

    Raises
    ------
    TypeError
        If it is a number on an axis of dates, or a date on one of numbers.
    """
    if not is_datetime(like):
        if is_datetime(time_dtype(pd.Series([time]))):
            raise TypeError(f"{what} must be a number, as the times of the log are; got {time!r}.")
        return to_time(pd.Series([time]), what)[0]
    refused = f"{what} must be a date, as the times of the log are; got {time!r}."
    if isinstance(time, int | float | np.number):  # to pandas, nanoseconds after 1970
        raise TypeError(refused)
    try:
        stamp = pd.Timestamp(time)
    except (TypeError, ValueError) as error:
        raise TypeError(refused) from error
    zone = getattr(like, "tz", None)
    if zone is not None and not pd.isna(stamp) and stamp.tzinfo is None:
        stamp = stamp.tz_localize(zone)
    return to_time(pd.Series([stamp]), what)[0]


def check_duration(name: str, value: Any) -> None:
    """Refuse an option that is a duration on no axis of time; None is none."""
    check_option(name, value, (DURATION, NOT_NEGATIVE, None))
    if isinstance(value, _OF_DATES):
        to_duration(value, np.dtype("datetime64[ns]"), name)


def to_duration(value: Any, like: Any, what: str = "duration") -> int | float:
    """A duration in the unit of a time axis.

    Parameters
    ----------
    value : str, timedelta or number
        ``"7D"``, ``"8w"``, ``"90min"`` or a timedelta where time is a date; a plain number where time is a number.
    like : array or dtype
        The time column, or its dtype, before `to_time`.
    what : str, default="duration"
        The name of the option, for the error.

    Returns
    -------
    int or float
        Nanoseconds for dates, the number itself for numbers; never negative.
    """
    if not is_datetime(like):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(
                f"{what}: Time is a number here, so a duration is a number in the same unit; got {value!r}."
            )
        duration: int | float = value.item() if isinstance(value, np.number) else value
    elif isinstance(value, str):
        duration = _parse_duration(value, what)
    elif isinstance(value, _OF_DATES):
        duration = int(pd.Timedelta(value).as_unit("ns").value)
    else:
        raise TypeError(
            f'{what}: Time is a date here, so a duration is a string like "7D" or a timedelta; got {value!r}.'
        )
    if not duration >= 0:
        raise ValueError(f"{what}: A duration must not be negative, got {value!r}.")
    return duration


def _warn_of_written_dates(times: npt.NDArray[np.int64], what: str) -> None:
    """Warn of dates written as yyyymmdd; within a month they are as far apart as days."""
    first, last = int(times.min(initial=_WRITTEN[1])), int(times.max(initial=_WRITTEN[0]))
    if first < _WRITTEN[0] or last > _WRITTEN[1] or first // 100 >= last // 100:
        return
    texts = np.unique(times).astype(str)
    if pd.to_datetime(texts, format="%Y%m%d", errors="coerce").notna().all():
        warnings.warn(
            f"{what!r} holds integers that look like dates written as yyyymmdd, {first} to {last}. They are read as "
            f"numbers, in which each month is 100 long; make dates of them: "
            f'pd.to_datetime(column, format="%Y%m%d").',
            DatesAsNumbersWarning,
            stacklevel=1,  # the same place wherever a time is read: told once
        )


def _zone_of_text(series: pd.Series) -> Any:
    """The zone of the first date, of "2024-03-31T12:00:00Z" that is UTC; None if it has none, or is no date."""
    known = np.flatnonzero(series.notna().to_numpy())[:1]
    try:
        return pd.to_datetime(series.iloc[known[0]]).tzinfo if len(known) else None
    except (ValueError, TypeError):
        return None


def _parse(series: pd.Series, what: str) -> pd.Series:
    try:
        return pd.to_datetime(series)
    except (ValueError, TypeError) as error:
        reason = str(error).partition(". You might")[0]
        raise TypeError(f"{what!r} must hold dates or numbers; could not read a date: {reason}. {FOR_TEXT}") from None


def _parse_duration(text: str, what: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is not None and match.group(2) in ("M", "MS", "Ms"):  # pandas' months, not minutes or milliseconds
        raise ValueError(
            f'{what}: Cannot read the duration {text!r}: months have no fixed length; use "30D", or "30min".'
        )
    unit = match.group(2).lower() if match else ""
    unit = {
        "week": "w",
        "weeks": "w",
        "day": "d",
        "days": "d",
        "hour": "h",
        "hours": "h",
        "m": "min",
        "minutes": "min",
    }.get(unit, unit)
    if match is None or unit not in _NANOSECONDS:
        raise ValueError(
            f"{what}: Cannot read the duration {text!r}; expected a number and a unit, such as "
            f'"7D", "8w", "12h", "30min".'
        )
    return round(float(match.group(1)) * _NANOSECONDS[unit])
