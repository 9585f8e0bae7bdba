"""Ids of 64 bits, whatever types hold them."""

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import pytest

from mtl_classic import EventLog, LostDigitsWarning, MatrixFactorization, PerTaskModel
from mtl_classic._core.keys import KeyCodes, join_keys, key_kind, key_positions, refuse_other_kind, value_kind

LONG = [2**60, 2**60 + 1, 2**60 + 2]
TYPES = ["Int64", "UInt64", "int64", "uint64", "object"]


@pytest.mark.parametrize("asked", TYPES)
@pytest.mark.parametrize("known", TYPES)
def test_long_ids_are_not_compared_as_floats(known: str, asked: str) -> None:
    ids, others = pd.Index(LONG, dtype=known), pd.Index([2**60 + 1, 2**60 + 3, 2**60], dtype=asked)
    assert key_positions(ids, others).tolist() == [1, -1, 0]
    assert join_keys(ids, others).tolist() == [*LONG, *others]


@pytest.mark.parametrize(("known", "asked"), [("uint64", "Int64"), ("int64", "UInt64"), ("float64", "UInt64")])
def test_missing_ids_are_not_known(known: str, asked: str) -> None:
    assert key_positions(pd.Index([3, 5], dtype=known), pd.Index([5, None, 4], dtype=asked)).tolist() == [1, -1, -1]


def test_floats_are_the_integers_that_they_equal() -> None:
    assert key_positions(pd.Index(LONG), pd.Index([2.0**60, float("nan")])).tolist() == [0, -1]
    assert join_keys(pd.Index([3, 5]), pd.Index([4.0])).dtype == "float64"


@pytest.mark.parametrize(("kind", "values"), [
    ("text", ["a", "nan"]), ("numbers", [1, 2.5]), ("numbers", [np.int64(1), np.float32(2)]),
    ("truth values", [True, np.False_]), ("dates", [pd.Timestamp("2024"), pd.Timestamp("2024-02", tz="UTC")]),
    ("dates", [dt.date(2024, 1, 1)]), ("dates", [np.datetime64("2024-01-01")]),
    ("durations", [pd.Timedelta("1D"), dt.timedelta(2)]), ("durations", [np.timedelta64(1, "h")]),
    ("other", [b"a"]), ("other", [(1, 2)]),
])  # fmt: skip
def test_the_kind_of_ids_is_that_of_each(kind: str, values: list[object]) -> None:
    assert {value_kind(value) for value in values} == {kind}
    assert key_kind(pd.Index(values, dtype=object, tupleize_cols=False)) == kind


def test_text_is_no_date() -> None:
    known = pd.Index(["2024-01-01"])
    with pytest.raises(TypeError, match="'day' held text when it was learnt; it holds dates now"):
        refuse_other_kind(known, pd.Series(pd.to_datetime(["2024-01-01"]), name="day"), np.array([False]))
    with pytest.raises(TypeError, match="'day' held text when it was learnt; the row has Timestamp"):
        KeyCodes("day", known).get(pd.Timestamp("2024-01-01"))
    for nothing in (None, np.nan, pd.NA, pd.NaT, np.datetime64("NaT", "ns"), np.timedelta64("NaT", "ns")):
        assert KeyCodes("day", known).get(nothing) is None


@pytest.mark.parametrize(
    ("dtype", "largest", "warns"),
    [
        ("float64", 2**53, True),
        ("float64", 2**53 - 1, False),
        ("Float64", 2**60, True),
        ("float32", 2**24, True),
        ("float32", 2**24 - 1, False),
        ("float16", 2**11, True),
        ("float16", 2**11 - 1, False),
        ("Int64", 2**60, False),
        ("int64", 2**60, False),
        ("str", 2**60, False),
    ],
)
def test_ids_that_have_lost_digits_are_told(dtype: str, largest: int, warns: bool) -> None:
    ids = pd.Series([1, largest, 3, largest] * 5, dtype="int64").astype(dtype)
    X = pd.DataFrame({"user": ids, "item": [1, 2] * 10, "time": range(20)})
    y = pd.Series([0, 1, 1, 0] * 5)
    for call in (
        lambda: EventLog(X, user="user", item="item", time="time"),
        lambda: PerTaskModel({"y": "binary"}, user="user", learner="linear").fit(X, y),
        lambda: MatrixFactorization(user="user", item="item").fit(X, y),
    ):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            call()
        lost = [str(one.message) for one in told if one.category is LostDigitsWarning]
        assert any("'user' holds ids as" in message for message in lost) == warns
