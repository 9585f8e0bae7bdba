"""Times and durations as numbers."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic._core.exceptions import DatesAsNumbersWarning
from mtl_classic._core.time import is_datetime, time_dtype, to_duration, to_time

DATES = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"]))
DAY = 86_400_000_000_000


@pytest.mark.parametrize(
    "values",
    [
        DATES,
        DATES.dt.tz_localize("UTC"),
        DATES.astype("datetime64[s]"),
        ["2024-01-01", "2024-01-02"],
        np.array(DATES, dtype=object),
        DATES.to_numpy(),
    ],
)
def test_dates_become_nanoseconds(values: Any) -> None:
    stamps = to_time(values)
    assert stamps.dtype == np.int64
    assert stamps.tolist() == [DATES.iloc[0].value, DATES.iloc[0].value + DAY]


def test_a_column_s_own_name_is_told() -> None:
    with pytest.raises(ValueError, match="1 of 1 values of 'day' are missing"):
        to_time(pd.Series([None], name="day", dtype="datetime64[ns]"))


def test_zones_are_converted() -> None:
    local = DATES.dt.tz_localize("Europe/Berlin")
    assert (to_time(local) == to_time(DATES) - 3_600_000_000_000).all()


def test_numbers_stay_numbers() -> None:
    assert to_time([1, 2]).dtype == np.int64
    assert to_time([0.5, 2]).dtype == np.float64
    for narrow in ("int8", "uint32", "Int16"):  # sums with durations would overflow
        assert to_time(pd.Series([1, 2], dtype=narrow)).dtype == np.int64
    assert to_time(pd.Series([1, 2], dtype=object)).tolist() == [1, 2]  # not nanoseconds since 1970 in disguise


@pytest.mark.parametrize("dtype", ["int64", "int32", "Int64", "object"])
def test_dates_written_as_numbers_are_told_of(dtype: str) -> None:
    days = pd.date_range("2024-01-30", "2024-03-01").strftime("%Y%m%d").astype(int)
    column = pd.Series(days, name="ts").astype(dtype)
    with pytest.warns(DatesAsNumbersWarning, match=r"'ts' holds .* 20240130 to 20240301\. .*format=\"%Y%m%d\""):
        assert to_time(column).tolist() == list(days)


@pytest.mark.parametrize(
    "values",
    [
        1_706_659_200 + 86_400 * np.arange(60),  # seconds since 1970
        DATES.astype("datetime64[ns]").to_numpy().view(np.int64),
        np.arange(52),
        202_401 + np.arange(12),  # months
        20_240_101 + np.arange(1000),  # numbers of orders
        [2024_01_30, 2024_02_30],
        [2024_01_01, 2024_01_31],  # as far apart as days
        [2024_01_01],
        [1024_01_01, 1024_02_01],
        np.array([2024_01_30, 2024_02_01], dtype=float),
        np.array([], dtype=np.int64),
    ],
)
def test_other_numbers_are_no_dates(values: Any) -> None:
    to_time(values)  # warnings are errors


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (pd.to_datetime(["2024-01-01", None]), ValueError, "1 of 2 values of 'ts' are missing"),
        ([1.0, np.nan, np.nan], ValueError, "2 of 3 values of 'ts' are missing"),
        ([1.0, np.inf], ValueError, "1 of 2 values of 'ts' are infinite"),
        (np.array([2**63], dtype=np.uint64), ValueError, "64 bits with a sign do not reach; the largest is 9223"),
        (["soon"], TypeError, "could not read a date"),
        (["12.03.2024", "13.03.2024"], TypeError, "the month first; read it yourself: pd.to_datetime"),
        ([True, False], TypeError, "must hold dates or numbers, got bool"),
        (pd.to_timedelta(["1D", "2D"]), TypeError, "must hold dates or numbers, got timedelta64"),
        (pd.period_range("2024-01", periods=2, freq="M"), TypeError, r"got period\[M\]; convert it"),
        (pd.Series(np.array(["9999-12-31"], dtype="datetime64[s]")), ValueError, "1677 to 2262"),
    ],
)
def test_times_that_are_refused(values: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        to_time(values, "ts")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1D", DAY),
        ("1.5 days", 1.5 * DAY),
        ("2w", 14 * DAY),
        ("90min", DAY / 16),
        ("90 Min", DAY / 16),
        ("90m", DAY / 16),
        (timedelta(hours=24), DAY),
    ],
)
def test_durations_on_a_date_axis(value: Any, expected: float) -> None:
    assert to_duration(value, DATES) == expected


def test_durations_on_a_number_axis() -> None:
    assert to_duration(7, np.dtype(np.int64)) == 7
    assert to_duration(0.5, np.dtype(np.int64)) == 0.5
    with pytest.raises(TypeError, match="Time is a number here, so a duration is a number"):
        to_duration("7D", np.dtype(np.int64))
    with pytest.raises(TypeError, match='a duration is a string like "7D"'):
        to_duration(7, DATES)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        to_duration(-1, np.dtype(np.float64))
    with pytest.raises(ValueError, match="Cannot read the duration 'a while'"):
        to_duration("a while", DATES)
    for months in ("1M", "2MS"):
        with pytest.raises(ValueError, match="months have no fixed length"):
            to_duration(months, DATES)


def test_what_a_date_is() -> None:
    assert is_datetime(DATES)
    assert is_datetime(DATES.dt.tz_localize("UTC"))
    assert not is_datetime(pd.Series([1]))
    assert not is_datetime(pd.Series(["a"]))
    for values in (["2024-01-01"], np.array(DATES, dtype=object), DATES):
        assert is_datetime(time_dtype(values))
    assert time_dtype(pd.Series([1, 2], dtype=object)) == np.int64
    assert time_dtype(["2024-01-01", "2024-01-02"]) == time_dtype(["some day"]) == np.dtype("datetime64[ns]")


@pytest.mark.parametrize(("suffix", "zone"), [("Z", "UTC"), ("+00:00", "UTC"), ("+02:00", "UTC+02:00")])
@pytest.mark.parametrize("dtype", [object, "str"])
def test_text_may_name_a_zone(suffix: str, zone: str, dtype: Any) -> None:
    texts = pd.Series([None, f"2024-01-01T12:00:00{suffix}"], dtype=dtype)
    assert time_dtype(texts) == pd.DatetimeTZDtype("ns", zone)
    assert to_time(texts[1:])[0] == pd.Timestamp(texts[1]).value
