import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_array
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import FunnelModel, make_funnel, predict_scores_in_chunks, top_k, write_scores
from mtl_classic.serving._parquet import read_chunks
from tests.serving.fake import Known, candidates

ROOT = Path(__file__).parents[2]


def test_chunks_are_the_whole_bit_for_bit() -> None:
    shop = make_funnel(900, n_users=60, n_items=40, random_state=0)
    model = FunnelModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y)
    told: list[Any] = []
    parts = list(
        predict_scores_in_chunks(
            model, shop.X, chunk_size=128, progress=lambda *said: told.append(said), space="conditional"
        )
    )
    pd.testing.assert_frame_equal(pd.concat(parts), model.predict_scores(shop.X, space="conditional"), check_exact=True)
    assert told[0] == (128, 900)
    assert told[-1] == (900, 900)


def test_tables_of_all_kinds_and_streams_of_them_are_cut() -> None:
    class Sum:
        def predict_scores(self, X: Any, space: str) -> pd.DataFrame:
            return pd.DataFrame({"y": np.ravel(X.sum(axis=1))})

    X = np.random.default_rng(0).integers(0, 9, (50, 3)).astype(float)
    tables = (X, X.tolist(), list(X), csr_array(X), pd.DataFrame(X), pl.DataFrame(X))
    streams = ([X[:30], X[30:]], [pl.DataFrame(X[:30]), pl.DataFrame(X[30:])], iter([csr_array(X)]))
    for source in (*tables, *streams):
        parts = list(predict_scores_in_chunks(Sum(), source, chunk_size=20))
        assert pd.concat(parts)["y"].tolist() == X.sum(axis=1).tolist()
        assert max(map(len, parts)) == 20


def test_no_rows_have_no_scores_wherever_they_are(tmp_path: Path) -> None:
    none, path = candidates(50)[:0], tmp_path / "none.parquet"
    none.to_parquet(path)
    for source in (none, iter([none]), path, [path, path]):
        (*_, part) = predict_scores_in_chunks(Known(), source)
        assert (len(part), list(part)) == (0, ["buy", "spend"])
    for limit in (None, "10MB"):
        for source in (none, path):
            file = write_scores(Known(), source, tmp_path / "scores.parquet", keep=["user"], memory_limit=limit)
            assert (len(pd.read_parquet(file)), list(pd.read_parquet(file))) == (0, ["user", "buy", "spend"])
    roles = {"user": "user"}
    pd.testing.assert_frame_equal(top_k(Known(roles), path, by="buy", k=2), top_k(Known(roles), none, by="buy", k=2))


def test_a_file_holds_columns_and_scores(tmp_path: Path) -> None:
    rows = candidates(1000).assign(kind=lambda x: pd.Categorical(x["item"].str[:2]), gap=None)
    rows.iloc[700:, rows.columns.get_loc("gap")] = "late"  # all missing in the first chunks
    path = write_scores(Known(), rows, tmp_path / "scores.parquet", keep=["user", "kind", "gap"], chunk_size=300)
    came = pd.read_parquet(path)
    assert list(came.columns) == ["user", "kind", "gap", "buy", "spend"]
    assert np.array_equal(came["spend"], rows["score_spend"])
    assert came["kind"].tolist() == rows["kind"].tolist()
    assert came["gap"].dropna().eq("late").sum() == 300
    assert os.listdir(tmp_path) == ["scores.parquet"]


def test_columns_to_keep_may_be_an_index(tmp_path: Path) -> None:
    rows = candidates(50)
    path = write_scores(Known(), rows, tmp_path / "scores.parquet", keep=rows.columns[:2])
    assert pd.read_parquet(path)[rows.columns[:2]].equals(rows[rows.columns[:2]].reset_index(drop=True))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [300, 600, 900, 1000])
def test_a_broken_run_goes_on_and_gives_the_same_file(after: int, tmp_path: Path) -> None:
    rows = candidates(1000)
    whole = write_scores(Known(), rows, tmp_path / "whole.parquet", keep=["user", "item"], chunk_size=100)

    def stop(done: int, total: int | None) -> None:
        if done == after:
            raise KilledError

    with pytest.raises(KilledError):
        write_scores(Known(), rows, tmp_path / "again.parquet", keep=["user", "item"], chunk_size=100, progress=stop)
    assert not (tmp_path / "again.parquet").exists()
    model = Known()
    again = write_scores(model, rows, tmp_path / "again.parquet", keep=["user", "item"], chunk_size=100)
    assert again.read_bytes() == whole.read_bytes()
    assert model.n_rows == 1000 - after + 100  # what was left, and one chunk to see that it is the same run


KILLED = """
import sys, time
from mtl_classic import write_scores
from tests.serving.fake import Known, candidates

def progress(done, total):
    print(done, flush=True)
    time.sleep(0.05 if len(sys.argv) > 2 else 0)

write_scores(Known(), candidates(2000), sys.argv[1], keep=["user"], chunk_size=100, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_goes_on_and_gives_the_same_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    first = subprocess.Popen([*command, str(tmp_path / "a"), "slowly"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdout is not None
    for line in first.stdout:
        if int(line) >= 500:
            first.send_signal(signal.SIGKILL)
            break
    first.wait()
    first.stdout.close()
    assert not (tmp_path / "a").exists()
    for name in ("a", "b"):
        subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True, cwd=ROOT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("of_a_file", [False, True])
def test_a_broken_run_under_a_limit_of_memory(of_a_file: bool, after: int, tmp_path: Path) -> None:
    rows, path = candidates(1500), tmp_path / "again.parquet"
    if of_a_file:
        rows.to_parquet(tmp_path / "rows.parquet", row_group_size=400)
        rows = tmp_path / "rows.parquet"
    whole = write_scores(Known(), rows, tmp_path / "whole.parquet", keep=["user"], chunk_size=1500)
    sizes: list[int] = []

    def stop(done: int, total: int | None) -> None:
        sizes.append(done)
        if len(sizes) == after:
            raise KilledError

    limit: dict[str, Any] = {"keep": ["user"], "memory_limit": "150kB"}
    with pytest.raises(KilledError):
        write_scores(Known(), rows, path, progress=stop, **limit)
    if after > 4:  # before, it is not known how many rows fit, and nothing is kept
        with pytest.raises(ValueError, match="another run"):
            write_scores(Known(), rows, path, keep=["user"])
    model, again = Known(), []
    write_scores(model, rows, path, progress=lambda done, _: again.append(done), **limit)
    pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(whole))
    assert len(again) >= 5
    if after > 4:  # what was done is not done again
        assert again[:after] == sizes
        assert model.n_rows == 1500 - (sizes[-2] if after > 1 else 0)
    with pytest.raises(ValueError, match="memory_limit"):
        write_scores(Known(), rows, tmp_path / "c.parquet", memory_limit="little")


def test_chunks_of_files_have_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, n in zip(paths, (10_000, 30), strict=True):
        candidates(n).to_parquet(path, row_group_size=999)
    sizes: list[int] = [100, 100, 5000, 3000, 3000, 20, 20]
    found: list[pd.DataFrame] = []

    def size() -> int:
        return sizes[len(found)]

    for chunk in read_chunks(paths, size):
        found += [chunk]
    assert [len(chunk) for chunk in found] == [100, 100, 5000, 3000, 1800, 20, 10]
    pd.testing.assert_frame_equal(pd.concat(found), pd.concat(map(pd.read_parquet, paths)))


def test_a_run_broken_off_while_the_parts_become_one_leaves_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, path = candidates(500), tmp_path / "scores.parquet"
    before = write_scores(Known(), rows[:300], path, chunk_size=100).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_table", lambda _: os.kill(os.getpid(), signal.SIGINT))  # each part, once all are there
        with pytest.raises(KeyboardInterrupt):
            write_scores(Known(), rows, path, chunk_size=100)
    assert sorted(os.listdir(tmp_path)) == [".scores.parquet.parts", "scores.parquet"]
    assert path.read_bytes() == before
    write_scores(Known(), rows, path, chunk_size=100)
    assert (os.listdir(tmp_path), len(pd.read_parquet(path))) == (["scores.parquet"], 500)


@pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")
def test_a_link_goes_on_to_lead_to_the_file_and_the_file_keeps_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "today.parquet", tmp_path / "folder" / "latest.parquet"
    link.parent.mkdir()
    link.symlink_to(path)
    assert write_scores(Known(), candidates(50), link) == link
    path.chmod(0o640)
    write_scores(Known(), candidates(80), link)
    assert (link.is_symlink(), len(pd.read_parquet(path)), path.stat().st_mode & 0o777) == (True, 80, 0o640)
    assert (os.listdir(link.parent), sorted(os.listdir(tmp_path))) == ([link.name], ["folder", path.name])


def test_long_ids_in_files_stay_what_they_are_beside_missing_ones(tmp_path: Path) -> None:
    ids = [2**60 + k for k in range(6)] + [None, 2**60 + 7, 5, None, None, None]
    rows = pd.DataFrame({"id": pd.array(ids, dtype="Int64"), "count": pd.array([*range(11), None], dtype="Int64")})
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(rows).replace_schema_metadata(None), path)
    chunks = list(read_chunks([path], lambda: 3))
    assert [value if value is not pd.NA else None for chunk in chunks for value in chunk["id"]] == ids
    assert [str(chunk["count"].dtype) for chunk in chunks] == ["int64", "int64", "int64", "float64"]
    model = Known()
    scored = rows.assign(score_y=0.5)
    pq.write_table(pa.Table.from_pandas(scored).replace_schema_metadata(None), path)
    kept = pq.read_table(write_scores(model, path, tmp_path / "scores.parquet", keep=["id"], chunk_size=3))
    assert kept["id"].to_pylist() == ids


def test_kept_categories_may_be_numbers_and_missing(tmp_path: Path) -> None:
    rows = candidates(10).assign(user=pd.Categorical([2**60 + 1, 2**60, None, 2**60, None] * 2))
    rows["flag"] = pd.Categorical([True, None] * 5)
    kept = pq.read_table(write_scores(Known(), rows, tmp_path / "a.parquet", keep=["user", "flag"], chunk_size=5))
    assert kept["user"].to_pylist() == [2**60 + 1, 2**60, None, 2**60, None] * 2
    assert kept["flag"].to_pylist() == [True, None] * 5


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    rows, path = candidates(500), tmp_path / "scores.parquet"

    def begin() -> None:
        def stop(done: int, total: int | None) -> None:
            raise KilledError

        with pytest.raises(KilledError):
            write_scores(Known(), rows, path, chunk_size=100, progress=stop)

    begin()
    for model, X, options in (
        (Known(shift=1e-9), rows, {"chunk_size": 100}),
        (Known(), rows.iloc[::-1], {"chunk_size": 100}),
        (Known(), rows, {"chunk_size": 50}),
        (Known(), rows, {"chunk_size": 100, "keep": ["user"]}),
        (Known(), rows, {"chunk_size": 100, "space": "conditional"}),
    ):
        with pytest.raises(ValueError, match="another run"):
            write_scores(model, X, path, **options)
    assert len(pd.read_parquet(write_scores(Known(), rows, path, chunk_size=100))) == 500


def test_fewer_rows_than_were_begun_are_refused(tmp_path: Path) -> None:
    rows, path = candidates(500), tmp_path / "scores.parquet"

    def stop(done: int, total: int | None) -> None:
        if done == 300:
            raise KilledError

    with pytest.raises(KilledError):
        write_scores(Known(), rows, path, chunk_size=100, progress=stop)
    with pytest.raises(ValueError, match="another run"):  # the last chunk is the same, but one before it is not
        write_scores(Known(), [rows[:100], rows[150:200], rows[200:]], path, chunk_size=100)
    with pytest.raises(ValueError, match="fewer than the run that was begun"):
        write_scores(Known(), rows[:200], path, chunk_size=100)
    with pytest.raises(ValueError, match="no rows to score"):
        write_scores(Known(), iter([]), tmp_path / "none.parquet")
    assert len(pd.read_parquet(write_scores(Known(), rows, path, chunk_size=100))) == 500


def test_a_call_that_was_refused_leaves_the_path_free(tmp_path: Path) -> None:
    rows, path = candidates(50), tmp_path / "scores.parquet"
    with pytest.raises(ValueError, match="no columns of X"):
        write_scores(Known(), rows, path, keep=["usr"])
    assert len(pd.read_parquet(write_scores(Known(), rows, path, keep=["user"]))) == 50


def test_pipelines_score_what_they_make_of_the_rows(tmp_path: Path) -> None:
    rows = candidates(500)
    ready = FunctionTransformer(lambda table: table.rename(columns={"buy": "score_buy", "spend": "score_spend"}))
    raw = rows.rename(columns={"score_buy": "buy", "score_spend": "spend"})
    pipe = Pipeline([("ready", ready), ("model", Known())])
    parts = pd.concat(predict_scores_in_chunks(pipe, raw, chunk_size=70))
    pd.testing.assert_frame_equal(parts, Known().predict_scores(rows))
    path = write_scores(pipe, raw, tmp_path / "scores.parquet", keep=["user"], chunk_size=70)
    assert np.array_equal(pd.read_parquet(path)["spend"], rows["score_spend"])
    best = top_k(pipe, raw, by="buy", k=2, columns=["user", "item"])
    pd.testing.assert_frame_equal(best, top_k(Known(), rows, by="buy", k=2, columns=["user", "item"]))


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="list of files or tables is empty"):
        next(predict_scores_in_chunks(Known(), []))
    with pytest.raises(ValueError, match="no columns of X"):
        write_scores(Known(), candidates(10), tmp_path / "a.parquet", keep=["nothing"])
    with pytest.raises(ValueError, match="names of scores"):
        write_scores(Known(), candidates(10).assign(buy=1), tmp_path / "b.parquet", keep=["buy"])
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        write_scores(Known(), candidates(10), tmp_path)
    assert not tmp_path.with_name(f".{tmp_path.name}.parts").exists()
