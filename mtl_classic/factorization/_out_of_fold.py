"""Latent columns of training rows that did not see the rows: by folds, or by time where an event log is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from mtl_classic._core.exceptions import LabelError
from mtl_classic._core.time import time_dtype, to_time
from mtl_classic._core.validation import take_rows
from mtl_classic.events import EventLog
from mtl_classic.events._log import axis_kind
from mtl_classic.factorization._members import Basis, LatentMember
from mtl_classic.model_selection import FoldPlan, Temporal, cross_fit, make_folds

__all__ = ["columns_before_blocks", "columns_by_folds", "log_for_full_fit", "rotation"]

Array = npt.NDArray[Any]


def columns_by_folds(
    member: LatentMember, full: LatentMember, X: Any, Y: Any, plan: FoldPlan, sample_weight: Any, n_jobs: int | None
) -> pd.DataFrame:
    """Columns of each row from the model of its fold, in the basis of the full fit.

    NaN where no fold covers a row, and in folds whose training rows teach nothing: labels may begin late.
    """
    learnable = member.learnable(Y, sample_weight)
    splits = tuple((train, test) for train, test in plan.splits if learnable[train].any())
    if not splits:
        return full.columns(X) * np.float32("nan")
    plan = FoldPlan(splits, plan.n_rows, plan.temporal)
    crossed = cross_fit(member, X, Y, plan, method="columns", sample_weight=sample_weight, score=False, n_jobs=n_jobs)
    names = full.columns(take_rows(X, np.arange(1))).columns  # a fold may lack classes, and know them in another order
    columns = crossed.predictions.reindex(columns=names).astype(np.float32)
    for k, fitted in enumerate(crossed.models):
        _rotate(columns, np.flatnonzero(crossed.fold == k), fitted, full)
    return columns


def columns_before_blocks(
    member: LatentMember, full: LatentMember, X: pd.DataFrame, time: pd.Series, events: EventLog, plan: FoldPlan | None,
    n_blocks: int,
) -> pd.DataFrame:  # fmt: skip
    """Columns of each block of rows from the events before its first row; NaN where none of them counts."""
    stamps = _on_axis_of(events, time)
    template = full.columns(X.iloc[:1])
    columns = pd.DataFrame(
        np.full((len(X), template.shape[1]), np.nan, dtype=np.float32), columns=template.columns, index=X.index
    )
    for rows in blocks_of_time(time, plan, n_blocks):
        try:
            fitted = clone(member).fit(take_rows(X, rows), events=events._before(stamps[rows].min()))
        except LabelError:  # nothing that counts had happened yet
            continue
        columns.iloc[rows] = fitted.columns(take_rows(X, rows)).to_numpy()
        _rotate(columns, rows, fitted, full)
    return columns


def log_for_full_fit(events: EventLog, time: pd.Series) -> EventLog:
    """The events before the last fitted row: later ones are nothing that a fit on these rows may know."""
    return events._before(_on_axis_of(events, time).max())


def blocks_of_time(time: pd.Series, plan: FoldPlan | None, n_blocks: int) -> list[Array]:
    """Rows of each block, the earliest first: those of a temporal plan, else about ``n_blocks`` + 1 of equal size."""
    if plan is None or not plan.temporal:
        n_splits = min(n_blocks, int(time.nunique()) - 1)
        if n_splits < 1:
            return [np.arange(len(time))]
        plan = make_folds(Temporal(n_splits), np.zeros(len(time)), time=time)
    return [rows for k in range(-1, len(plan)) if len(rows := np.flatnonzero(plan.fold == k))]


def rotation(basis: Basis, onto: Basis) -> Array:
    r"""Orthogonal R that minimizes ‖A R − B‖ over the keys of both, (n_factors, n_factors): orthogonal Procrustes.

    R = U Vᵀ, where Aᵀ B = U S Vᵀ; one for each class where these have vectors of their own.
    """
    position = onto[0].get_indexer(basis[0])
    common = position >= 0
    own, other = basis[1][common].astype(np.float64), onto[1][position[common]]
    left, _, right = np.linalg.svd(np.moveaxis(own, 0, -1) @ np.moveaxis(other, 0, -2))
    return np.asarray(left @ right)


def _rotate(columns: pd.DataFrame, rows: Array, fitted: LatentMember, full: LatentMember) -> None:
    if fitted.output == "scores":
        return
    own, onto = fitted.basis(), full.basis()
    turns = np.full((1, *[onto[1].shape[-1]] * 2), np.nan)  # a fold that lacks classes has no such vectors
    if own[1].shape[1:] == onto[1].shape[1:]:
        turns = rotation(own, onto).reshape(-1, *turns.shape[1:])  # one for each class
    for k, names in enumerate(full.vector_columns(columns.columns)):
        where = columns.columns.get_indexer(pd.Index(names))
        turned = columns.iloc[rows, where].to_numpy() @ turns[k % len(turns)]
        columns.iloc[rows, where] = turned.astype(np.float32)


def _on_axis_of(events: EventLog, time: pd.Series) -> Array:
    kind = axis_kind(time_dtype(time))
    if events.n_events and kind != events.axis_kind:
        raise TypeError(
            f"The times of the log are {events.axis_kind}, those of the rows ({time.name!r}) {kind}; convert one."
        )
    return to_time(time, str(time.name))
