"""The steps of a pipeline for one row: history and factors from arrays, whatever else from a frame of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import is_classifier

from mtl_classic._core.keys import KeyCodes
from mtl_classic._core.validation import as_table
from mtl_classic._kernels.fm import ENTRIES_AHEAD
from mtl_classic.events import HistoryFeatures
from mtl_classic.events._row_index import HistoryIndex
from mtl_classic.factorization import LatentFeatures, MatrixFactorization
from mtl_classic.factorization._fm_base import BaseFactorizationMachine
from mtl_classic.factorization._implicit import ImplicitFactors, with_mean, with_unseen
from mtl_classic.factorization._losses import to_mean
from mtl_classic.factorization._problem import Rows
from mtl_classic.preprocessing import TargetStatistics
from mtl_classic.preprocessing._vocabulary import MISSING, UNSEEN
from mtl_classic.serving._row_design import RowDesign
from mtl_classic.serving._row_values import Row, Source, Sources, is_missing

__all__ = ["RowStep", "compile_step"]

Array = npt.NDArray[Any]


class RowStep(Protocol):
    """A step that adds columns to a row."""

    def apply(self, row: Row) -> None:
        """Add a block of columns."""
        ...


def compile_step(step: Any, sources: Sources) -> list[RowStep]:
    """The step for single rows; ``sources`` learns where the columns that it adds are."""
    if isinstance(step, HistoryFeatures):
        index, before = HistoryIndex(step), dict(sources)
        read = {index.time, *(name for table in index.tables.values() for name, _ in table.columns)}
        if not read & before.keys():
            _add(sources, index.names)
            return [OfHistory(index, step, before)]
    if isinstance(step, LatentFeatures):
        known, columns = dict(sources), list(step.feature_names_in_)  # members do not read each other's columns
        steps = []
        for member in step._members.values():
            steps.append(_of_member(member, known, columns))
            _add(sources, [name for name in step.latent_features_ if name.startswith(f"{member.name}__")])
        return steps
    if isinstance(step, TargetStatistics) and all(len(key) == 1 for key in step.keys_):
        made_of = OfStatistics(step, dict(sources))
        _add(sources, step.statistics_)
        return [made_of]
    return [OfFrames(step, dict(sources), sources)]


def _add(sources: Sources, names: Sequence[str]) -> None:
    block = 1 + max((source[0] for source in sources.values() if source is not None), default=-1)
    for position, name in enumerate(names):
        sources[name] = (block, position)


def _of_member(member: Any, sources: Sources, columns: list[str]) -> RowStep:
    model = member.model_
    if member.output == "scores":
        if isinstance(model, MatrixFactorization) and isinstance(model._factors, ImplicitFactors):
            return OfPairs(model, sources, OfMemberFrame(member, columns, sources))
        if isinstance(model, BaseFactorizationMachine) and OfMachineRow.can_read(model):
            return OfMachineRow(model, sources)
    return OfMemberFrame(member, columns, sources)


class OfHistory:
    """History from a grouped log."""

    def __init__(self, index: HistoryIndex, step: HistoryFeatures, sources: Sources) -> None:
        self.index, self.step, self.sources = index, step, sources

    def apply(self, row: Row) -> None:
        """Add the history."""
        columns = self.index.columns(row.values)
        if columns is None:  # a time that the axis of the log does not have: as for a table
            frame = row.frame(list(self.step.feature_names_in_), self.sources)
            columns = np.asarray(self.step.transform(frame)[list(self.index.names)], dtype=np.float32)[0]
        row.blocks.append(columns)


class OfPairs:
    """Score and lengths of the vectors of a `MatrixFactorization`; ``frames`` makes those of rows of the past."""

    def __init__(self, model: MatrixFactorization, sources: Sources, frames: OfMemberFrame) -> None:
        self.user, self.item = model.roles_["user"], model.roles_["item"]
        self.at = sources.get(self.user), sources.get(self.item)
        self.frames = frames
        self.time = model._time_of_rows(frames.columns)
        factors = model._factors
        self.told_to = np.zeros(0) if model._told is None else model._told.latest_of(len(factors.users))
        self.codes = KeyCodes(self.user, model._users.values), KeyCodes(self.item, model._items.values)
        self.vectors = [with_unseen(factors), with_mean(factors.items)]
        self.biases = [np.append(factors.user_bias, factors.unseen_bias), with_mean(factors.item_bias)]
        self.lengths = [np.append(np.linalg.norm(v, axis=1), 0.0) for v in (factors.users, factors.items)]

    def apply(self, row: Row) -> None:
        """Add the three columns."""
        known = (self.codes[0].get(row.get(self.user, self.at[0])), self.codes[1].get(row.get(self.item, self.at[1])))
        u, i = (-1 if code is None else code for code in known)
        if self.time is not None and not self._is_later(row.get(self.time, self.frames.sources.get(self.time)), u):
            self.frames.apply(row)
            return
        bias = self.biases[0][u].astype(np.float64) + self.biases[1][i]
        product = np.einsum(
            "nf,nf->n", self.vectors[0][u : u + 1 or None].astype(np.float64), self.vectors[1][i : i + 1 or None]
        )
        row.blocks.append(np.array([product[0] + bias, self.lengths[0][u], self.lengths[1][i]], dtype=np.float32))

    def _is_later(self, time: Any, user: int) -> bool:
        """Whether a time surely comes after all that was told of a user."""
        if isinstance(time, pd.Timestamp) and time.tz is None:
            return bool(time.as_unit("ns").value > self.told_to[user])
        return isinstance(time, int | float) and bool(time > self.told_to[user])


class OfMachineRow:
    """The score of a factorization machine over the fields of a frame."""

    def __init__(self, model: Any, sources: Sources) -> None:
        self.model = model
        self.design = RowDesign(model._design.encoder, sources)
        self.parts = model._interactions.parts
        self.n_parts = model._interactions.n_parts

    @staticmethod
    def can_read(model: Any) -> bool:
        """Whether the machine has one output, for two classes or numbers, and one-hot and number fields only."""
        single = model._parameters.n_outputs is None and len(getattr(model, "classes_", (0, 1))) == 2
        return RowDesign.can_read(model._design.encoder) and single

    def apply(self, row: Row) -> None:
        """Add the score."""
        row.blocks.append(np.array([self._score(self.design.entries(row))], dtype=np.float32))

    def _score(self, entries: list[tuple[int, float]]) -> float:
        model, parts = self.model, self.parts
        if parts is None:
            entries.sort()
        else:
            entries.sort(key=lambda entry: (parts[entry[0]], entry[0]))
        n = len(entries)
        extra = model._extra
        indices: npt.NDArray[np.int32] = np.zeros(n + ENTRIES_AHEAD, dtype=np.int32)
        values: npt.NDArray[np.float32] = np.zeros(n + ENTRIES_AHEAD, dtype=np.float32)
        indices[:n], values[:n] = zip(*entries, strict=True)
        if extra is not None:
            order = np.argsort(indices[:n])
            raw = np.array([extra.row_score(indices[:n][order], values[:n][order])])
        else:
            bounds = np.array([0, n], np.int64) if parts is None else self._bounds(indices[:n])
            given = None if all(value == 1.0 for _, value in entries) else values
            raw = model._parameters.scores(Rows(given, indices, bounds, 1), model._interactions).astype(np.float64)
        if not is_classifier(model):
            raw = to_mean(model.loss, raw) * model.target_scale_ + model.target_mean_
        return float(raw[0])

    def _bounds(self, columns: Array) -> npt.NDArray[np.int64]:
        """Where each part begins; the end of one row is the start of the next."""
        counts = np.bincount(self.parts[columns], minlength=self.n_parts)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


class OfStatistics:
    """Target means of single columns."""

    def __init__(self, step: TargetStatistics, sources: Sources) -> None:
        self.means = step._means
        self.keys: list[tuple[str, Source, KeyCodes]] = []
        for (name,), coder in zip(step.keys_, step._coders, strict=True):
            values = coder.vocabularies[0].values
            self.keys.append((name, sources.get(name), KeyCodes(name, values, 1 + np.arange(len(values)))))

    def apply(self, row: Row) -> None:
        """Add the means."""
        codes = []
        for name, at, known in self.keys:
            value = row.get(name, at)
            code = known.get(value)
            codes.append(code if code is not None else MISSING if is_missing(value) else UNSEEN)
        row.blocks.append(self.means.transform(np.array([codes]))[0])


class OfMemberFrame:
    """Any other latent model, by a frame of one row."""

    def __init__(self, member: Any, columns: list[str], sources: Sources) -> None:
        self.member, self.columns, self.sources = member, columns, sources

    def apply(self, row: Row) -> None:
        """Add the model's columns."""
        frame = row.frame(self.columns, self.sources)
        row.blocks.append(self.member.columns(frame).to_numpy(np.float32)[0])


class OfFrames:
    """Any other step, by a frame of one row; its columns are named values."""

    def __init__(self, step: Any, before: Sources, sources: Sources) -> None:
        self.step, self.before = step, before
        self.columns = list(step.feature_names_in_)
        for name in step.get_feature_names_out():  # what the step replaces is read from here on
            if str(name) not in self.columns:
                sources[str(name)] = None

    def apply(self, row: Row) -> None:
        """Add the step's columns to the named values."""
        made = as_table(self.step.transform(row.frame(self.columns, self.before)))  # of whatever frames it is set to
        row.values = {**row.values, **{str(name): made[name].iloc[0] for name in made.columns}}
