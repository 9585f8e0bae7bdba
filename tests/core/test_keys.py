"""Ids of 64 bits, whatever types hold them."""

import pandas as pd
import pytest

from mtl_classic._core.keys import join_keys, key_positions

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
