"""Scores of tasks as columns that another model can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic._core.base import Scores
from mtl_classic._core.score_frames import score_names
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table
from mtl_classic.learners._protocol import Floats
from mtl_classic.multitask._graph_edges import Edge

__all__ = ["SCALES", "append_columns", "as_columns", "read_scores", "source_columns"]

SCALES = ("logit", "probability")
LEAST = 1e-5  # probabilities are held this far from 0 and 1: a single overconfident score must not tilt a line


def as_columns(task: Task, score: Floats, scale: str) -> Floats:
    """Columns (n, 1), or (n, n_classes) of a multiclass task; on the logit scale also the logarithm of counts."""
    values = score if score.ndim == 2 else score[:, None]
    if scale == "probability" or task.kind in ("regression", "ranking"):
        return values
    if task.kind == "count":
        return np.asarray(np.log(np.maximum(values, LEAST)))
    p = np.clip(values, LEAST, 1 - LEAST)
    return np.asarray(np.log(p) - np.log1p(-p))


def source_columns(
    sources: Iterable[Edge], tasks: Sequence[Task], base: Scores, final: Scores, scale: str
) -> list[Floats]:
    """For each edge the columns of its source, of the level that the edge reads."""
    by_name = {task.name: task for task in tasks}
    return [as_columns(by_name[name], (final if level == "final" else base)[name], scale) for name, _, level in sources]


def read_scores(frame: pd.DataFrame, tasks: Sequence[Task], classes: Classes) -> Scores:
    """Scores per task from the columns of ``predict_scores``; classes without a column have probability 0."""
    scores: Scores = {}
    for task in tasks:
        if task.kind != "multiclass":
            scores[task.name] = frame[task.name].to_numpy(dtype=np.float64)
            continue
        names = score_names(task, classes)
        scores[task.name] = frame.reindex(columns=names, fill_value=0.0).to_numpy(dtype=np.float64)
    return scores


def append_columns(X: Table, columns: dict[str, Floats]) -> Table:
    """The table with further columns: by name in a frame, at the end of an array or sparse matrix."""
    if not columns:
        return X
    if isinstance(X, pd.DataFrame):
        return pd.concat([X, pd.DataFrame(columns, index=X.index)], axis=1)
    added: Any = np.column_stack(list(columns.values()))
    if sparse.issparse(X):
        return sparse.hstack([X, sparse.csr_matrix(added)]).tocsr()
    return np.hstack([X, added.astype(object) if X.dtype == object else added])
