"""Dates as numbers: columns that hold them, also as texts or objects, in days, and the calendar of these days."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "calendar_part",
    "days",
    "holds",
    "is_date",
    "is_text",
    "is_time",
    "is_written",
    "parts_that_vary",
    "written_dates",
]

PARTS = ("hour", "day_of_week", "day_of_year")
_TIMES: tuple[tuple[Any, ...], ...] = ((dt.date, np.datetime64), (dt.timedelta, np.timedelta64), (pd.Period,))
_BOUNDS = {  # within what nanoseconds can tell; years such as 9999 stand for "never" and are held there
    "M": (np.datetime64("1678-01-01"), np.datetime64("2262-01-01")),
    "m": (np.timedelta64(-106_000, "D"), np.timedelta64(106_000, "D")),
}
_DAY = 86_400_000_000_000  # nanoseconds
_WRITTEN = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"  # dates of ISO 8601
_SLACK = 1e-6 / 3600  # hours; a day's fraction has lost some digits
_MONDAY = 3  # 1970 began on a Thursday

Floats = npt.NDArray[np.float64]


def days(column: pd.Series) -> npt.NDArray[np.float64]:
    """Dates, from 1970 on, and durations in days, NaN where missing."""
    if column.dtype == object and holds(column, _TIMES[1]):
        column = pd.to_timedelta(column)
    elif column.dtype == object and holds(column, _TIMES[2]):
        column = pd.to_datetime(column.map(pd.Period.to_timestamp, na_action="ignore"))
    elif column.dtype == object:
        column = pd.to_datetime(column, utc=True)
    elif isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    values = column.to_numpy()
    if np.datetime_data(values.dtype)[0] != "ns":
        values = np.clip(values, *_BOUNDS[values.dtype.kind]).astype(f"{values.dtype.kind}8[ns]")
    return np.where(np.isnat(values), np.nan, values.view(np.int64) / _DAY)


def written_dates(column: pd.Series) -> pd.Series:
    """Texts of dates as dates, in UTC."""
    texts = column.dropna()
    other = texts[~texts.str.fullmatch(_WRITTEN).astype(bool)]
    try:
        if len(other):
            raise ValueError(f"{other.iloc[0]!r} is no date")
        return pd.to_datetime(column.astype(object), format="ISO8601", utc=True)
    except ValueError as error:
        raise ValueError(
            f"Column {column.name!r} held dates at fit, written as 2024-12-31 or 2024-12-31 23:59; now it does not: "
            f"{error}."
        ) from None


def is_written(column: pd.Series) -> bool:
    """Whether a column holds dates as texts, each of them; the first one tells of most columns that it does not."""
    if not is_text(column):
        return False
    texts = pd.Series(pd.unique(column.dropna()))
    if not all(len(part) and part.str.fullmatch(_WRITTEN).all() for part in (texts.iloc[:1], texts)):
        return False
    return bool(pd.to_datetime(texts.astype(object), format="ISO8601", utc=True, errors="coerce").notna().all())


def is_text(column: pd.Series) -> bool:
    """Whether a column holds texts alone."""
    if column.dtype == object:
        return holds(column, (str,)) and bool(column.notna().any())
    return isinstance(column.dtype, pd.StringDtype)


def is_time(column: pd.Series) -> bool:
    """Whether a column holds dates, periods or durations, as objects too."""
    if column.dtype == object:
        return any(holds(column, types) for types in _TIMES) and bool(column.notna().any())
    return column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype)


def is_date(column: pd.Series) -> bool:
    """Whether times are dates or periods, not durations."""
    return column.dtype.kind != "m" and not (column.dtype == object and holds(column, _TIMES[1]))


def holds(column: pd.Series, types: tuple[Any, ...]) -> bool:
    """Whether all values of a column of objects that are not missing are of some types."""
    return all(isinstance(value, types) for value in column.dropna())


def calendar_part(days: npt.NDArray[np.floating[Any]], part: str) -> Floats:
    """A part of dates that are days from 1970 on: hour 0 … 23, day of week 0 (Monday) … 6, day of year 1 … 366.

    NaN stays NaN.
    """
    if part == "hour":
        return np.asarray(np.floor(days * 24 + _SLACK) % 24)
    whole = np.floor(days + _SLACK / 24)
    if part == "day_of_week":
        return np.asarray((whole + _MONDAY) % 7)
    dates = np.where(np.isnan(whole), 0, whole).astype("datetime64[D]")
    of_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64) + 1
    return np.where(np.isnan(days), np.nan, of_year)


def parts_that_vary(days: Floats) -> tuple[str, ...]:
    """The parts worth telling of dates: of more than one value, the day of the year where there is more than one year.

    Within a year it says what the date itself does.
    """
    known = days[~np.isnan(days)]
    if not len(known):
        return ()
    years = np.unique(np.floor(known[[known.argmin(), known.argmax()]]).astype("datetime64[D]").astype("datetime64[Y]"))
    varied = [part for part in PARTS[:2] if np.ptp(calendar_part(known, part)) > 0]
    return (*varied, *(PARTS[2:] if len(years) > 1 else ()))
