"""Scores of more rows than memory holds: chunk by chunk, and into a file that a killed run goes on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import COLUMNS, FUNCTION, check_option
from mtl_classic._core.validation import Table, n_rows
from mtl_classic.metrics._fitted import scores_of
from mtl_classic.serving import _parquet
from mtl_classic.serving._chunks import fixed_size, open_chunks
from mtl_classic.serving._memory import Gauge, to_bytes

__all__ = ["predict_scores_in_chunks", "write_scores"]

Progress = Callable[[int, int | None], Any]
CHUNK_SIZE = 100_000
ROWS = "rows.json"  # how many fit under a limit of memory


def predict_scores_in_chunks(
    model: Any,
    X: Any,
    *,
    space: str = "entire",
    chunk_size: int = CHUNK_SIZE,
    memory_limit: int | str | None = None,
    progress: Progress | None = None,
) -> Iterator[pd.DataFrame]:
    """The scores of all tasks, a chunk of rows at a time.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one.
    X : table, path of a Parquet file or of a folder of them, list of paths, or iterable of tables
        A table is cut, files are read as far as needed, so that memory holds one chunk and its features.
    space : {"entire", "conditional"}, default="entire"
    chunk_size : int, default=100000
        Most rows of a chunk. Scores do not depend on it.
    memory_limit : int or str, default=None
        Bytes that a chunk may take, with its features and scores, above the model, its log and X: a number, ``"500MB"``
        or ``"2GiB"``. The first chunks are of 100 and of up to 8000 rows; from the memory of two of them follows how
        many rows the others have. Counted is what Python and numpy allocate; two fifths are left for what their
        allocators keep, and for other libraries.
    progress : callable, default=None
        Called after each chunk with the rows done and the rows in all (None where that is not known).

    Yields
    ------
    DataFrame
        As `predict_scores` gives it for the rows of the chunk.

    Raises
    ------
    ValueError
        If the limit is less than one row takes.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import PerTaskModel, predict_scores_in_chunks
    >>> X = np.random.default_rng(0).normal(size=(250, 3))
    >>> model = PerTaskModel({"up": "binary"}, random_state=0).fit(X, X[:, 0] > 0)
    >>> [len(scores) for scores in predict_scores_in_chunks(model, X, chunk_size=100)]
    [100, 100, 50]
    """
    for _, scores in scored_chunks(model, X, space, chunk_size, progress, memory_limit):
        yield scores


def scored_chunks(
    model: Any, X: Any, space: str, chunk_size: int, progress: Progress | None, memory_limit: int | str | None = None
) -> Iterator[tuple[Table, pd.DataFrame]]:
    """Each chunk with its scores."""
    check_option("progress", progress, (FUNCTION, None))
    size = fixed_size(chunk_size)
    gauge = None if memory_limit is None else Gauge(to_bytes(memory_limit), size())
    chunks = open_chunks(X, size if gauge is None else lambda: gauge.size)

    def score(table: Table) -> pd.DataFrame:
        return scores_of(model, table, space)

    done = 0
    for table in chunks.tables:
        yield table, score(table) if gauge is None else gauge.run(score, table)
        done += n_rows(table)
        if progress is not None:
            progress(done, chunks.total)


def write_scores(
    model: Any,
    X: Any,
    path: str | Path,
    *,
    keep: Sequence[str] = (),
    space: str = "entire",
    chunk_size: int = CHUNK_SIZE,
    progress: Progress | None = None,
    memory_limit: int | str | None = None,
) -> Path:
    """The scores of all tasks as a Parquet file; a run that was killed goes on where it was, and gives the same file.

    Finished chunks wait in a folder beside the file, ``.<name>.parts``, until all are there; then they become one
    file, put in place at once. A call with the same arguments continues with the first chunk that is missing, after
    having scored the last finished one again: if its scores differ, the model, its log or the rows are not the same,
    and the run is refused.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one.
    X : table, path of a Parquet file or of a folder of them, list of paths, or iterable of tables
        Of an iterable the same tables must come again for a run to be continued.
    path : str or Path
        The file to write; an existing one is replaced at the end, and a link goes on to lead there.
    keep : sequence of str, default=()
        Columns of X to write in front of the scores: user and item, say.
    space : {"entire", "conditional"}, default="entire"
    chunk_size : int, default=100000
        Rows of a chunk, and of a row group of the file.
    progress : callable, default=None
        Called after each chunk with the rows done and the rows in all (None where that is not known).
    memory_limit : int or str, default=None
        As in `predict_scores_in_chunks`: bytes that scoring may take, such as ``"500MB"``; chunks then have as many
        rows as fit, at most ``chunk_size``. A run that goes on keeps the rows that it had found to fit.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the folder beside the file holds chunks of another run; columns of ``keep`` that are not there.
    ImportError
        Without pyarrow.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from pathlib import Path
    >>> from mtl_classic import PerTaskModel, write_scores
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(250, 2)), columns=["a", "b"]).assign(row=range(250))
    >>> model = PerTaskModel({"up": "binary"}, random_state=0).fit(X, X["a"] > 0)
    >>> path = write_scores(model, X, Path(tempfile.mkdtemp()) / "scores.parquet", keep=["row"], chunk_size=100)
    >>> pd.read_parquet(path).columns.tolist(), len(pd.read_parquet(path))
    (['row', 'up'], 250)
    """
    check_option("keep", keep, COLUMNS)
    check_option("space", space, ("entire", "conditional"))
    check_option("progress", progress, (FUNCTION, None))
    path, keep = Path(path), list(keep)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    folder = path.with_name(f".{path.name}.parts")
    limit = {} if memory_limit is None else {"memory_limit": to_bytes(memory_limit)}
    rows = fixed_size(chunk_size)
    finished = _open_run(folder, {"chunk_size": int(chunk_size), "space": space, "keep": keep} | limit)
    gauge = _open_gauge(folder, limit["memory_limit"], rows()) if limit else None
    parts: list[Path] = []

    def size() -> int:
        if gauge is None:
            return rows()
        return _parquet.count_rows([_part(folder, len(parts))]) if len(parts) < finished else gauge.size

    def score(table: Table) -> pd.DataFrame:
        return _with_columns(table, scores_of(model, table, space), keep)

    chunks = open_chunks(X, size)
    done = 0
    for k, table in enumerate(chunks.tables):
        part = _part(folder, k)
        if k >= finished - 1:  # the last finished chunk is scored again, to see that the run is the same
            scores = score(table) if gauge is None else gauge.run(score, table)
            if k < finished:
                _check_same(part, scores, folder)
            else:
                _parquet.write_table(scores, part)
                _keep_rows(folder, gauge)
        elif _parquet.count_rows([part]) != n_rows(table):
            raise ValueError(_other_run(folder))
        parts.append(part)
        done += n_rows(table)
        if progress is not None:
            progress(done, chunks.total)
    if not parts or finished > len(parts):
        raise ValueError(
            f"X has no rows to score, or fewer than the run that was begun in {folder}; delete that folder."
        )
    _parquet.merge(parts, path)
    shutil.rmtree(folder)
    return path


def _open_run(folder: Path, job: dict[str, Any]) -> int:
    """The number of chunks that are finished, without a gap; the folder is made if need be.

    Where there is none, as after a call that was refused, any job may begin. Chunks of a job that ended before it knew
    how many rows fit under its limit of memory, be it that none did, are none.
    """
    told = folder / "run.json"
    before = json.loads(told.read_text()) if told.exists() else None
    finished = 0
    if before is not None and ("memory_limit" not in before or (folder / ROWS).exists()):
        while _part(folder, finished).exists():
            finished += 1
    if not finished:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _put_json(told, job)
    elif before != job:
        raise ValueError(_other_run(folder))
    return finished


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.parquet"


def _put_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _open_gauge(folder: Path, limit: int, most: int) -> Gauge:
    """The gauge of a run, which knows how many rows fit if finished chunks are gone on with."""
    gauge, told = Gauge(limit, most), folder / ROWS
    if told.exists():
        gauge.final = int(json.loads(told.read_text()))
    return gauge


def _keep_rows(folder: Path, gauge: Gauge | None) -> None:
    """Write down once how many rows fit."""
    if gauge is not None and gauge.final is not None and not (folder / ROWS).exists():
        _put_json(folder / ROWS, gauge.final)


def _with_columns(table: Table, scores: pd.DataFrame, keep: Sequence[str]) -> pd.DataFrame:
    if not keep:
        return scores.reset_index(drop=True)
    missing = [name for name in keep if name not in getattr(table, "columns", ())]
    if missing:
        raise ValueError(
            f"keep names {missing}, which are no columns of X; it has {list(getattr(table, 'columns', []))}."
        )
    repeated = [name for name in keep if name in scores.columns]
    if repeated:
        raise ValueError(f"keep names {repeated}, which are names of scores too; rename the columns of X.")
    kept = {name: _plain(table[name]).reset_index(drop=True) for name in keep}
    return pd.concat([pd.DataFrame(kept), scores.reset_index(drop=True)], axis=1)


def _plain(column: pd.Series) -> pd.Series:
    """Categories as their values: chunks may have others."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return column
    return pd.Series(pd.array(column.cat.categories.to_numpy()).take(column.cat.codes.to_numpy(), allow_fill=True))


def _check_same(part: Path, scores: pd.DataFrame, folder: Path) -> None:
    before = _parquet.read_table(part)
    same = before.shape == scores.shape and list(before.columns) == list(scores.columns)
    for name in scores.columns if same else ():
        one, other = before[name].to_numpy(), scores[name].to_numpy()
        equal = np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")
        same = same and (equal or before[name].equals(scores[name]) or repr(one.tolist()) == repr(other.tolist()))
    if not same:
        raise ValueError(_other_run(folder))


def _other_run(folder: Path) -> str:
    return (
        f"{folder} holds chunks of another run: other rows, another model or log, or other options. Delete it to begin "
        f"anew, or write to another path."
    )
