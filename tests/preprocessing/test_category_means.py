"""Means per category of many labels at once: what they hold while they are learnt and told."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic.preprocessing import TargetStatistics


def test_statistics_of_many_tasks_are_not_copied_on_the_way() -> None:
    rng, n, n_tasks = np.random.default_rng(0), 20_000, 20
    X = pd.DataFrame({"shop": rng.integers(0, 50, n), "item": rng.integers(0, 50, n)})
    Y = rng.normal(size=(n, n_tasks))
    statistics = TargetStatistics(["shop", "item"], cv=2, random_state=0).fit(X, Y)
    assert _peak(lambda: statistics.fit(X, Y)) < 4 * Y.nbytes  # labels, one working copy, their encoding
    tables = 3.5 if pd.__version__ >= "3" else 4.5  # before, pandas copies what it puts side by side
    assert _peak(lambda: statistics.transform(X)) < tables * Y.nbytes  # two keys and the block in work


def _peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    kept = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak
