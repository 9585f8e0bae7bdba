"""One pass over the rows: everything that the kernels need, made once."""

from __future__ import annotations

from copy import copy
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from mtl_classic._core.random import spawn_seed
from mtl_classic._kernels.fm import Noise, fit_epoch
from mtl_classic._kernels.fm_batch import fit_batches
from mtl_classic._kernels.fm_multi import fit_outputs_epoch
from mtl_classic.factorization._losses import kernel_loss
from mtl_classic.factorization._pairs import sample_pairs
from mtl_classic.factorization._problem import Parameters, Problem, Rows
from mtl_classic.factorization._settings import Settings, StepRules

Array = npt.NDArray[Any]
# Rows lie in memory in the order of one permutation, and blocks of them are permuted anew in every epoch: as good as
# shuffled, and read as a stream.
BLOCK_ROWS = 512
# The interaction weights of outputs are few and start at 1: a light pull towards it.
REG_MIXERS = 1e-3


class Epoch(Protocol):
    """A pass over the rows."""

    def run(self) -> None:
        """Visit all rows once."""

    def for_member(self, parameters: Parameters, settings: Settings, rng: np.random.Generator) -> Self:
        """Return the pass of other parameters over the same copy of the rows, blocks in an order of its own."""


def make_epoch(
    solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings, rng: np.random.Generator
) -> Epoch:
    """Return the pass that the problem calls for."""
    if problem.targets.ndim == 2:
        return OutputsEpoch(solver, problem, parameters, settings, rng)
    if problem.query is not None or settings.batch_size > 1:
        return BatchEpoch(solver, problem, parameters, settings, rng)
    return RowEpoch(solver, problem, parameters, settings, rng)


class RowEpoch:
    """A step per row."""

    def __init__(
        self, solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.problem, self.parameters, self.settings, self.rng = problem, parameters, settings, rng
        self.dtype, interactions = parameters.dtype, problem.interactions
        self.order = rng.permutation(problem.n_rows)
        self.rows = Rows.arrange(problem.X, self.order, interactions)
        self.targets, self.weights = (a[self.order].astype(self.dtype) for a in (problem.targets, problem.weights))
        self.rules = solver.rules(solver.rate(settings), self.dtype.type)
        self.penalties = tuple(self._penalty(reg) for reg in (problem.reg_factors, problem.reg_linear))
        self.mixing = None if interactions.mixing is None else interactions.mixing.astype(self.dtype)
        self.sums, self.work = parameters.scratch(interactions.n_parts, copies=2)
        self.noise = _noise(settings)
        self.loss = kernel_loss(problem.loss, problem.targets, self.dtype) if problem.targets.ndim == 1 else None

    def for_member(self, parameters: Parameters, settings: Settings, rng: np.random.Generator) -> Self:
        """See `Epoch`; scratch is used by one pass after the other."""
        other = copy(self)
        other.parameters, other.rng, other.noise = parameters, rng, _noise(settings)
        return other

    def _penalty(self, penalty: float | Array) -> Any:
        if np.ndim(penalty) == 0:
            return self.dtype.type(penalty)
        return np.ascontiguousarray(penalty, dtype=self.dtype)

    def blocks(self) -> Array:
        """Return the blocks of rows in this epoch's order."""
        return self.rng.permutation(-(-self.rows.n_rows // BLOCK_ROWS))

    def run(self) -> None:
        """Visit all rows once."""
        p, rows = self.parameters, self.rows
        p.clock = fit_epoch(
            p.lanes, p.loop_factors, self.rules, self.loss, p.factors, p.linear, p.bias,
            rows.values, rows.indices, rows.bounds, self.targets, self.weights, self.blocks(), BLOCK_ROWS, self.mixing,
            self.penalties, self.sums, self.noise, p.clock,
        )  # fmt: skip


class BatchEpoch(RowEpoch):
    """A step per batch of rows, or of pairs of rows of a query."""

    def __init__(
        self, solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        super().__init__(solver, problem, parameters, settings, rng)
        self.query = None if problem.query is None else problem.query[self.order]
        self.factor_gradients = np.zeros(parameters.n_columns * parameters.width, dtype=self.dtype)
        self.linear_gradients = np.zeros(parameters.n_columns, dtype=self.dtype)
        self.stamps = np.zeros(parameters.n_columns, dtype=np.int8)
        self.touched = np.zeros(parameters.n_columns, dtype=np.int64)

    def run(self) -> None:
        """Visit all rows, or for every row that has one a pair, once."""
        p, rows = self.parameters, self.rows
        if self.query is None:
            units = self.rng.permutation(rows.n_rows)[:, None]
        else:
            units = self.rng.permutation(sample_pairs(self.targets, self.query, self.rng))
        p.clock = fit_batches(
            p.lanes, p.loop_factors, self.rules, self.loss, p.factors, p.linear, p.bias,
            rows.values, rows.indices, rows.bounds, self.targets, self.weights, units,
            self.settings.batch_size, self.mixing, self.penalties, self.sums, self.noise, p.clock,
            self.factor_gradients, self.linear_gradients, self.stamps, self.touched,
        )  # fmt: skip


class OutputsEpoch(RowEpoch):
    """A step per row for all outputs; `importance` multiplies their weights and may change between epochs.

    `anchor` is the output whose interaction weights stay 1, or -1.
    """

    def __init__(
        self, solver: StepRules, problem: Problem, parameters: Parameters, settings: Settings,
        rng: np.random.Generator, anchor: int = -1,
    ) -> None:  # fmt: skip
        super().__init__(solver, problem, parameters, settings, rng)
        self.anchor = anchor
        names, widths = zip(*problem.loss, strict=True)
        self.group_bounds = np.concatenate([[0], np.cumsum(widths)])
        firsts = problem.targets.T[self.group_bounds[:-1]]
        pairs = [kernel_loss(name, y, self.dtype) for name, y in zip(names, firsts, strict=True)]
        self.losses = np.array([loss for loss, _ in pairs])
        # One bound for all tasks, the loosest that a count asks for: it stays in a register.
        bounds = [bound for (_, bound), name in zip(pairs, names, strict=True) if name == "poisson"]
        self.largest = max(bounds, default=self.dtype.type(0))
        self.importance = np.ones(problem.targets.shape[1], dtype=self.dtype)
        self.penalties = (*self.penalties, self.dtype.type(REG_MIXERS))

    def run(self) -> None:
        """Visit all rows once."""
        p, rows = self.parameters, self.rows
        p.clock = fit_outputs_epoch(
            p.lanes, p.sizes, self.rules, self.losses, self.largest, self.group_bounds, self.anchor, p.factors,
            p.linear, p.bias, p.mixers, p.shares, rows.values, rows.indices, rows.bounds, self.targets, self.weights,
            self.importance, self.blocks(), BLOCK_ROWS, self.mixing, self.penalties, self.sums, self.work,
            self.noise, p.clock,
        )  # fmt: skip


def _noise(settings: Settings) -> Noise | None:
    if not settings.dropout and not settings.drop_connect:
        return None
    return Noise(1.0 - settings.dropout, 1.0 - settings.drop_connect, spawn_seed(settings.seed, "noise"))
