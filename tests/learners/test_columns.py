"""From tables of any sort to the matrix that learners read."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mtl_classic.learners._columns import LARGEST, FeatureColumns, wide_columns

FRAME = pd.DataFrame(
    {
        "number": [1.5, np.nan, 3.0],
        "nullable": pd.array([1, None, 3], dtype="Int64"),
        "flag": [True, False, True],
        "maybe": pd.Series([True, None, False], dtype=object),
        "numbers": pd.Series([1, 2.5, None], dtype=object),
        "decimal": pd.Series([Decimal("1.5"), None, Decimal(2)], dtype=object),
        "shop": ["b", "a", None],
        "level": pd.Categorical([2, 1, None], categories=[3, 2, 1]),
        "when": pd.to_datetime(["1970-01-02", None, "1970-01-03"]),
        "zone": pd.to_datetime(["1970-01-02", None, "1970-01-03"]).tz_localize("UTC"),
        "took": pd.to_timedelta(["1D", None, "36h"]),
        "date": pd.Series([dt.date(1970, 1, 2), None, dt.date(2261, 12, 31)], dtype=object),
        "datetime": pd.Series([dt.datetime(1970, 1, 2, 12), None, pd.Timestamp(0)], dtype=object),
        "month": pd.PeriodIndex(["1970-02", None, "1970-01"], freq="M"),
        "user": [10, 20, 10],
    }
)
EXPECTED = {
    "number": [1.5, np.nan, 3],
    "nullable": [1, np.nan, 3],
    "flag": [1, 0, 1],
    "maybe": [1, np.nan, 0],
    "numbers": [1, 2.5, np.nan],
    "decimal": [1.5, np.nan, 2],
    "shop": [1, 0, np.nan],
    "level": [1, 0, np.nan],
    "when": [1, np.nan, 2],
    "zone": [1, np.nan, 2],
    "took": [1, np.nan, 1.5],
    "date": [1, np.nan, (dt.date(2261, 12, 31) - dt.date(1970, 1, 1)).days],
    "datetime": [1.5, np.nan, 0],
    "month": [31, np.nan, 0],
    "user": [0, 1, 0],
}


def test_every_sort_of_column() -> None:
    columns = FeatureColumns(ids=["user"]).fit(FRAME)
    features = columns.transform(FRAME)
    assert features.values.dtype == np.float32
    assert features.names[: len(EXPECTED)] == tuple(EXPECTED)
    for j, name in enumerate(EXPECTED):
        np.testing.assert_equal(features.values[:, j], np.float32(EXPECTED[name]), err_msg=name)
    assert [features.names[j] for j in features.categorical] == ["shop", "level", "user"]


@pytest.mark.parametrize("never", [
    np.array(["9999-12-31"], dtype="datetime64[s]"),
    pytest.param([dt.date(9999, 12, 31)], marks=pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 refuses it")),
])  # fmt: skip
def test_dates_beyond_nanoseconds_are_held_at_the_last(never: object) -> None:
    frame = pd.DataFrame({"until": pd.Series(never)})
    last = (dt.date(2262, 1, 1) - dt.date(1970, 1, 1)).days
    assert FeatureColumns().fit(frame).transform(frame).values.tolist() == [[last]]


def test_columns_by_name_whatever_their_order_and_their_company() -> None:
    columns = FeatureColumns(ids=["user"]).fit(FRAME)
    other = FRAME[FRAME.columns[::-1]].assign(more=1)
    np.testing.assert_equal(columns.transform(other).values, columns.transform(FRAME).values)


def test_unseen_categories_are_missing() -> None:
    columns = FeatureColumns().fit(FRAME[["shop", "level"]])
    new = pd.DataFrame({"shop": ["c", "b", "a"], "level": pd.Categorical([9, 1, 2])})
    np.testing.assert_equal(columns.transform(new).values, np.float32([[np.nan, np.nan], [1, 0], [0, 1]]))
    as_texts = pd.DataFrame({"shop": pd.Categorical(["c", "b", None]), "level": [1, 2, 3]})
    np.testing.assert_equal(columns.transform(as_texts).values, np.float32([[np.nan, 0], [1, 1], [np.nan, np.nan]]))


@pytest.mark.parametrize("served", [
    pd.Series([101, 102]), pd.Series([101.0, None]), pd.Series([101, 102], dtype="category"),
    pd.Series([101, 102], dtype=object),
])  # fmt: skip
def test_numbers_in_place_of_text_are_refused(served: pd.Series) -> None:
    columns = FeatureColumns().fit(pd.DataFrame({"store": ["101", "102", None]}))
    with pytest.raises(TypeError, match="'store' held text when it was learnt; it holds numbers now"):
        columns.transform(pd.DataFrame({"store": served}))
    with pytest.raises(TypeError, match="'store' held text when it was learnt; it holds truth values now"):
        columns.transform(pd.DataFrame({"store": [True, False]}))
    for fine in (["103", "104"], [None, None], ["101", 102]):
        columns.transform(pd.DataFrame({"store": fine}))


def test_ordered_categories_are_numbers_in_their_order_however_many() -> None:
    names = [f"{k:03}" for k in np.random.default_rng(0).permutation(300)]
    size = pd.Categorical(names[1::2], categories=names, ordered=True)
    frame = pd.DataFrame({"size": size, "shop": pd.Categorical(["a"] * 150)})
    columns = FeatureColumns().fit(frame)
    assert columns.names_ == ("size", "shop")
    assert columns.categorical == (1,)
    features = columns.transform(frame)
    assert features.categorical == (1,)
    assert features.values[:, 0].tolist() == list(range(1, 300, 2))
    assert wide_columns(frame, [], 255) == {}
    as_texts = pd.DataFrame({"size": [names[0], names[299], "none", None], "shop": "a"})
    np.testing.assert_equal(columns.transform(as_texts).values[:, 0], np.float32([0, 299, np.nan, np.nan]))


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_dates_have_a_calendar_where_it_varies(zone: str | None) -> None:
    stamps = pd.Series(pd.date_range("2019-12-30 23:59:59.9999", "2021-01-03", freq="7h", tz=zone))
    stamps.iloc[3] = pd.NaT
    frame = pd.DataFrame({
        "at": stamps,
        "day": stamps.dt.normalize().dt.tz_localize(None),
        "week": pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * (np.arange(len(stamps)) % 52), "D"),
        "born": [dt.date(1950 + k % 70, 3, 1) for k in range(len(stamps))],
        "took": pd.to_timedelta(np.arange(len(stamps)), "h"),
    })  # fmt: skip
    columns = FeatureColumns().fit(frame)
    parts = {"at": {"hour", "day_of_week", "day_of_year"}, "day": {"day_of_week", "day_of_year"}, "week": set()}
    parts |= {"born": {"day_of_week", "day_of_year"}, "took": set()}
    assert set(columns.calendar_.values()) == {(name, part) for name, of in parts.items() for part in of}
    features = columns.transform(frame)
    in_utc = stamps if zone is None else stamps.dt.tz_convert("UTC")
    values = dict(zip(features.names, features.values.T, strict=True))
    for part in ("hour", "day_of_week", "day_of_year"):
        expected = getattr(in_utc.dt, part).astype(np.float32)
        np.testing.assert_array_equal(values[f"at__{part}"], expected)
    day_of_year = pd.to_datetime(frame["born"]).dt.day_of_year
    np.testing.assert_array_equal(values["born__day_of_year"], day_of_year.astype(np.float32))
    later = columns.transform(frame.assign(at=pd.NaT))
    assert np.isnan(later.values[:, [name.startswith("at") for name in later.names]]).all()

    taken = FeatureColumns().fit(frame.assign(at__hour="mine"))  # a column of that name is the user's
    assert taken.names_.count("at__hour") == 1
    assert "at__hour" not in taken.calendar_


@pytest.mark.parametrize("dtype", [object, "string"])
@pytest.mark.parametrize("texts", [
    ["2024-01-01", None, "2024-01-02"], ["2024-01-01 12:00", "2024-01-02T06:00:00.5", "2024-02-29"],
    ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00+02:00", None],
])  # fmt: skip
def test_texts_of_dates_are_dates(texts: list[str | None], dtype: object) -> None:
    frame = pd.DataFrame({"day": pd.Series(texts, dtype=dtype)})
    dates = pd.DataFrame({"day": pd.to_datetime(frame["day"].astype(object), format="ISO8601", utc=True)})
    columns = FeatureColumns().fit(frame)
    assert columns.written_ == ("day",)
    assert columns.categorical == ()
    assert wide_columns(frame, [], 0) == {}
    expected = FeatureColumns().fit(dates).transform(dates).values
    assert np.nanmin(expected[:, 0]) > 19_000
    for served in (frame, dates):
        np.testing.assert_array_equal(columns.transform(served).values, expected)
    missing = pd.DataFrame({"day": pd.Series([None], dtype=dtype)})
    assert np.isnan(columns.transform(missing).values).all()
    with pytest.raises(ValueError, match="'day' held dates at fit, written as 2024-12-31 .*: '31.12.2024' is no date"):
        columns.transform(pd.DataFrame({"day": ["31.12.2024"]}))


@pytest.mark.parametrize("texts", [
    ["2024-01-01", "never"], ["2024-13-01", "2024-12-01"], ["20240101", "20240102"], ["01-02-2024", "02-02-2024"],
])  # fmt: skip
def test_other_texts_are_categories(texts: list[str]) -> None:
    columns = FeatureColumns().fit(pd.DataFrame({"day": texts}))
    assert columns.written_ == ()
    assert columns.categorical == (0,)


def test_dates_and_numbers_do_not_stand_for_each_other() -> None:
    dates = pd.to_datetime(["2024-01-01", None, "2024-03-01"])
    table = pd.DataFrame({"since": dates, "size": [1.0, 2.0, np.nan], "nothing": [None] * 3})
    columns = FeatureColumns().fit(table)
    for wrong in ({"since": [1_704_067_200, 0, 0]}, {"since": np.float32([19723, 0, 1])}, {"size": dates}):
        with pytest.raises(TypeError, match="held (dates|numbers) at fit; now it does not"):
            columns.transform(table.assign(**wrong))
    for fine in ({"since": dates.tz_localize("UTC")}, {"since": np.nan}, {"size": pd.NaT}, {"nothing": dates}):
        columns.transform(table.assign(**fine))


@pytest.mark.parametrize("values", [
    [dt.timedelta(days=1), None, pd.Timedelta("36h")], [np.timedelta64(24, "h"), None, np.timedelta64(2160, "m")],
    [pd.Period("1970-01-02"), None, pd.Period("1970-01-02 12:00", "h")],
])  # fmt: skip
def test_durations_and_periods_may_come_as_objects(values: list[object]) -> None:
    objects = pd.DataFrame({"took": pd.Series(values, dtype=object)})
    typed = objects if isinstance(values[0], pd.Period) else objects.astype("timedelta64[s]")
    for columns in (FeatureColumns().fit(objects), FeatureColumns().fit(typed)):
        for table in (objects, typed):
            np.testing.assert_equal(columns.transform(table).values[:, 0], np.float32([1, np.nan, 1.5]))


def test_roles_and_too_many_categories_are_left_out() -> None:
    frame = pd.DataFrame({"id": [f"u{k}" for k in range(300)], "t": np.arange(300), "x": 1.0})
    columns = FeatureColumns(exclude=["t"]).fit(frame)
    assert columns.names_ == ("x",)
    assert columns.left_out_ == {"id": 300}
    assert FeatureColumns(exclude=["t"], max_categories=300).fit(frame).names_ == ("id", "x")


def test_a_table_without_features_is_a_constant() -> None:
    columns = FeatureColumns(exclude=["x"]).fit(FRAME[["number"]].rename(columns={"number": "x"}))
    features = columns.transform(pd.DataFrame({"x": [1, 2]}))
    assert features.names == ("constant",)
    assert features.values.tolist() == [[0], [0]]


def test_arrays_and_frames_stand_for_each_other() -> None:
    numbers = np.array([[1.0, 2.0], [3.0, 4.0]])
    from_array = FeatureColumns().fit(numbers)
    from_frame = FeatureColumns().fit(pd.DataFrame(numbers, columns=["a", "b"]))
    unnamed = FeatureColumns().fit(pd.DataFrame(numbers))
    for columns in (from_array, from_frame, unnamed):
        for table in (
            numbers,
            numbers.astype(object),
            pd.DataFrame(numbers),
            pd.DataFrame(numbers, columns=["x", "y"]),
            sparse.csr_matrix(numbers),
        ):
            values = columns.transform(table).values
            np.testing.assert_equal(values.toarray() if sparse.issparse(values) else values, numbers)


def test_categories_of_a_frame_are_known_in_an_array() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "shop": ["b", "a"]})
    columns = FeatureColumns().fit(frame)
    np.testing.assert_equal(columns.transform(frame.to_numpy()).values, [[1, 1], [2, 0]])
    objects = FeatureColumns().fit(frame.to_numpy())
    np.testing.assert_equal(objects.transform(frame.to_numpy()).values, [[1, 1], [2, 0]])


@pytest.mark.parametrize("table", [np.array([[1e300, -1e300]]), pd.DataFrame({"a": [1e300], "b": [-1e300]})])
def test_huge_numbers_are_held_finite(table: object) -> None:
    assert FeatureColumns().fit(table).transform(table).values.tolist() == [[LARGEST, -LARGEST]]


def test_the_table_is_not_changed() -> None:
    before = FRAME.copy(deep=True)
    FeatureColumns(ids=["user"]).fit(FRAME).transform(FRAME)
    pd.testing.assert_frame_equal(FRAME, before)


def test_mixed_categories_keep_one_order() -> None:
    mixed = pd.DataFrame({"c": pd.Series(["b", 1, "a", 1, "1"], dtype=object)})
    shuffled = mixed.iloc[[4, 2, 1, 0, 3]]
    assert FeatureColumns().fit(mixed).categories_["c"].equals(FeatureColumns().fit(shuffled).categories_["c"])


def test_what_is_no_feature_is_named() -> None:
    with pytest.raises(TypeError, match="Column 'x' holds no numbers, categories or dates; convert it, or name it in"):
        FeatureColumns().fit(pd.DataFrame({"x": pd.arrays.IntervalArray.from_breaks([0, 1, 2])}))


def test_numbers_far_from_zero_keep_their_differences() -> None:
    day = 1_700_000_000_000 + 1000 * np.arange(86_400)
    near = {"zero": day - day[0], "wide": np.geomspace(1, 1e12, len(day)), "single": day.astype(np.float32)}
    frame = pd.DataFrame({"epoch": day, "negative": -1.0 * day, "nullable": pd.array(day, "Int64"), **near})
    expected = np.stack([day - day[0], day[-1] - day, day - day[0], *near.values()], axis=1).astype(np.float32)
    columns = FeatureColumns().fit(frame)
    assert list(columns.offsets_) == ["epoch", "negative", "nullable"]
    np.testing.assert_array_equal(columns.transform(frame).values, expected)
    array = frame.iloc[:, :3].to_numpy(np.float64)
    from_array = FeatureColumns().fit(array)
    for table in (array, frame.iloc[:, :3].astype(object), sparse.csr_matrix(array)):
        np.testing.assert_array_equal(from_array.transform(table).values, expected[:, :3])
