"""Scores under a limit of memory: the same scores, in chunks that stay below it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import FunnelModel, make_funnel, predict_scores_in_chunks, top_k, write_scores
from mtl_classic.serving._memory import Gauge, to_bytes
from tests.serving.fake import Known, candidates

ROOT = Path(__file__).parents[2]


class Hungry:
    """A model that takes as many bytes a row as it is told, and some whatever the rows."""

    def __init__(self, per_row: int, fixed: int = 0) -> None:
        self.per_row, self.fixed = per_row, fixed
        self.largest = 0

    def predict_scores(self, X: Any, space: str) -> pd.DataFrame:
        taken = np.ones(self.per_row * len(X) + self.fixed, dtype=np.uint8)
        self.largest = max(self.largest, len(taken))
        return pd.DataFrame({"y": X[:, 0] + 0.0 * taken[0]})


@pytest.mark.parametrize(("limit", "n_bytes"), [
    (5000, 5000), ("500MB", 500 * 10**6), ("2GiB", 2**31), ("1.5 kb", 1500), ("100M", 100 * 2**20), ("7", 7),
])  # fmt: skip
def test_limits_in_words(limit: Any, n_bytes: int) -> None:
    assert to_bytes(limit) == (n_bytes if limit != "7" else 7)


@pytest.mark.parametrize("limit", ["much", "", "-5MB", "5 MBs", 0, -1, True, 2.5, "0.1"])
def test_no_limits(limit: Any) -> None:
    with pytest.raises(ValueError, match="memory_limit must be"):
        to_bytes(limit)


@pytest.mark.parametrize(("per_row", "fixed"), [(1000, 0), (100, 3_000_000), (20_000, 0)])
def test_chunks_are_as_large_as_the_limit_allows(per_row: int, fixed: int) -> None:
    model, X = Hungry(per_row, fixed), np.arange(100_000.0)[:, None]
    parts = list(predict_scores_in_chunks(model, X, memory_limit="20MB"))
    assert np.array_equal(pd.concat(parts)["y"], X[:, 0])
    assert 0.5 * 0.6 * 20e6 < model.largest < 0.6 * 20e6
    assert max(map(len, parts)) < 100_000


def test_chunks_without_rows_measure_nothing() -> None:
    X = np.arange(1000.0)[:, None]
    tables = [part for start in range(0, 1000, 50) for part in (X[start : start + 50], X[:0])]
    parts = list(predict_scores_in_chunks(Hungry(10, 10), iter(tables), memory_limit="20MB"))
    assert [len(part) for part in parts] == [50, 0] * 20
    assert np.array_equal(pd.concat(parts)["y"], X[:, 0])


def test_a_large_limit_leaves_the_chunk_size() -> None:
    X = np.zeros((50_000, 1))
    sizes = [len(part) for part in predict_scores_in_chunks(Hungry(10), X, memory_limit="1GB", chunk_size=10_000)]
    assert max(sizes) == 10_000
    assert sum(sizes) == 50_000


def test_a_limit_that_no_row_keeps_is_told() -> None:
    with pytest.raises(ValueError, match=r"memory_limit allows 1000000 bytes, but scoring one row .* at least \d+"):
        list(predict_scores_in_chunks(Hungry(10, 5_000_000), np.zeros((9000, 1)), memory_limit="1MB"))


def test_a_limit_that_no_row_keeps_leaves_the_path_free(tmp_path: Path) -> None:
    rows, path = np.zeros((9000, 1)), tmp_path / "scores.parquet"
    for memory_limit in ("1MB", "1MB"):
        with pytest.raises(ValueError, match="memory_limit allows 1000000 bytes"):
            write_scores(Hungry(10, 5_000_000), rows, path, memory_limit=memory_limit)
    write_scores(Hungry(10, 5_000_000), rows, path, memory_limit="20MB")
    assert len(pd.read_parquet(path)) == 9000


def test_files_streams_and_lists_of_the_best(tmp_path: Path) -> None:
    rows = candidates(30_000)
    rows.iloc[:20_000].to_parquet(tmp_path / "a.parquet", row_group_size=7000)
    rows.iloc[20_000:].to_parquet(tmp_path / "b.parquet")
    expected = rows["score_spend"].to_numpy()
    streams = (rows, tmp_path, (rows.iloc[k : k + 4000] for k in range(0, 30_000, 4000)))
    for source in streams:
        parts = list(predict_scores_in_chunks(Known(), source, memory_limit="3MB"))
        assert np.array_equal(pd.concat(parts)["spend"], expected)
        assert len({len(part) for part in parts}) > 1
    limited = top_k(Known(), tmp_path, by="spend", k=3, memory_limit="3MB")
    pd.testing.assert_frame_equal(limited, top_k(Known(), rows, by="spend", k=3))


def test_a_model_says_the_same() -> None:
    shop = make_funnel(12_000, n_users=60, n_items=40, random_state=0)
    model = FunnelModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X[:900], shop.Y[:900])
    parts = list(predict_scores_in_chunks(model, shop.X, memory_limit="1MB"))
    assert max(map(len, parts)) < 8000
    pd.testing.assert_frame_equal(pd.concat(parts), model.predict_scores(shop.X), check_exact=True)


def test_few_rows_do_not_decide() -> None:
    gauge = Gauge(10**6, 50)
    for _ in range(6):
        gauge.run(pd.DataFrame, np.zeros((gauge.size, 1)))
    assert gauge.size == 50


PEAK = """
import sys, resource, threading, time
import numpy as np
from mtl_classic import MultiTaskModel, make_funnel, predict_scores_in_chunks

shop = make_funnel(150_000, n_users=3000, n_items=400, random_state=0)
few = shop.X[:4000]
model = MultiTaskModel(shop.tasks, **shop.roles, latent=None, random_state=0, n_jobs=1)
model.fit(few, shop.Y[:4000], events=shop.events)
model.predict_scores(shop.X[:9000])  # what is made once
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
for limit in sys.argv[1:]:
    before, peak, done = resident(), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())
    thread = threading.Thread(target=watch)
    thread.start()
    sizes = [len(part) for part in predict_scores_in_chunks(model, shop.X, memory_limit=limit)]
    done.set()
    thread.join()
    print(peak[0] - before, max(sizes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_the_memory_of_the_process_stays_below() -> None:
    script = [sys.executable, "-c", PEAK, "20MB", "10GB"]
    done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT)
    limited, free = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    assert limited[0] < 20e6 < free[0]
    assert limited[1] < free[1] == 100_000
