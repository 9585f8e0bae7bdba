"""Which fields are put together before the exact solvers run."""

import numpy as np
import pytest

from mtl_classic._kernels.fieldwise import count_pairs
from mtl_classic.factorization._patterns import ROOM, find_patterns
from mtl_classic.preprocessing import FieldEncoder
from tests._reference.fieldwise import join_fields


@pytest.mark.parametrize("most", [0, 1, 60, 300])
def test_pairs_are_counted_up_to_a_limit(most: int) -> None:
    first, second = np.random.default_rng(0).integers(0, [[30], [9]], (2, 400))
    slots = np.empty(1024, dtype=np.int64)
    distinct = len(set(zip(first.tolist(), second.tolist(), strict=True)))
    assert 150 < distinct < 270
    assert count_pairs(first, second, 9, most, slots) == min(distinct, most + 1)


@pytest.mark.parametrize("seed", range(8))
def test_fields_join_the_block_that_they_enlarge_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 40, 300)
    columns = [user // rng.integers(1, 9) if rng.random() < 0.5 else rng.integers(0, rng.integers(2, 30), 300)
               for _ in range(12)]  # fmt: skip
    codes = np.column_stack(columns)
    encoder = FieldEncoder(categorical=[str(k) for k in range(12)]).fit(codes)
    field_of = np.repeat(np.arange(12), [len(columns) for columns in encoder.fields_.values()])
    blocks = find_patterns(encoder.transform(codes), field_of, [0] * 12)
    found = [set(field_of[part]) for part in np.split(blocks.columns, blocks.starts[1:-1])]
    assert found == [set(block) for block in join_fields(codes, ROOM)]
    assert 1 < len(found) < 12
