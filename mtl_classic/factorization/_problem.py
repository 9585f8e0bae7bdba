"""What a solver of factorization machines is given, and what it fills: rows, targets, parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mtl_classic._kernels.fm import ENTRIES_AHEAD
from mtl_classic._kernels.fm_multi import predict_outputs
from mtl_classic._kernels.fm_predict import predict_scores
from mtl_classic._kernels.rows import copy_entries, count_entries
from mtl_classic._kernels.simd import LANE_BLOCK, aligned_zeros, make_lanes

Array = npt.NDArray[Any]
# The vectors that kernels are compiled for; other multiples of 8 are done as several of the longest that divides them.
VECTOR_LENGTHS = (32, 16, 8)


@dataclass(frozen=True)
class Interactions:
    """Which columns interact.

    `parts` (n_columns,) is the part of each column and `mixing` (n_parts, n_parts) says which parts interact; None
    and None: all columns with each other.
    """

    parts: Array | None = None
    mixing: Array | None = None

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return 1 if self.mixing is None else len(self.mixing)


@dataclass(frozen=True)
class Rows:
    """Rows as the kernels read them.

    Entries sorted by part, `bounds[row · n_parts + part]` the start of each part, `values` None where all are 1.
    """

    values: Array | None
    indices: Array
    bounds: Array
    n_rows: int

    @classmethod
    def arrange(cls, X: sparse.csr_matrix, order: Array | None, interactions: Interactions) -> Rows:
        """Copy rows in an order, with room to look ahead behind the last entry."""
        rows = np.arange(X.shape[0]) if order is None else np.asarray(order, dtype=np.int64)
        n_parts = interactions.n_parts
        bounds = np.empty(len(rows) * n_parts + 1, dtype=np.int64)
        indices, indptr = X.indices.astype(np.int32, copy=False), X.indptr.astype(np.int64, copy=False)
        count_entries(indices, indptr, rows, interactions.parts, n_parts, bounds)
        all_ones = bool((X.data == 1).all())
        values = None if all_ones else X.data.astype(np.float32, copy=False)
        new_values = None if all_ones else np.zeros(bounds[-1] + ENTRIES_AHEAD, dtype=np.float32)
        new_indices = np.zeros(bounds[-1] + ENTRIES_AHEAD, dtype=np.int32)
        copy_entries(values, indices, indptr, rows, interactions.parts, n_parts, bounds, new_values, new_indices)
        return cls(new_values, new_indices, bounds, len(rows))

    @classmethod
    def read(cls, X: sparse.csr_matrix, interactions: Interactions) -> Rows:
        """Take rows as they come, without a copy where they need no sorting."""
        if interactions.parts is not None or len(X.indices) == 0:
            return cls.arrange(X, None, interactions)
        values = None if (X.data == 1).all() else X.data.astype(np.float32, copy=False)
        return cls(values, X.indices.astype(np.int32, copy=False), X.indptr.astype(np.int64, copy=False), X.shape[0])


@dataclass(frozen=True)
class Problem:
    """Rows, targets and weights of one fit.

    `X` is encoded and scaled, float32; `targets` and `weights` are float32, (n,), or (n, n_outputs) with weight 0
    where a label is missing; `loss` is a name, or for several outputs a tuple of (name, number of outputs). `query`
    (n,) are group codes for ranking; `fields` is field → columns where they are known; `time` (n,) says which rows are
    the latest, where that matters. Penalties are numbers or one per column.
    """

    X: sparse.csr_matrix
    targets: Array
    weights: Array
    loss: Any
    interactions: Interactions = field(default_factory=Interactions)
    reg_factors: float | Array = 0.0
    reg_linear: float | Array = 0.0
    query: Array | None = None
    fields: dict[str, Array] | None = None
    time: Array | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.X.shape[0])

    def take(self, rows: Array) -> Problem:
        """Return the problem of some rows."""
        query, time = (None if codes is None else codes[rows] for codes in (self.query, self.time))
        return Problem(
            self.X[rows], self.targets[rows], self.weights[rows], self.loss, self.interactions,
            self.reg_factors, self.reg_linear, query, self.fields, time,
        )  # fmt: skip


class Parameters:
    """Bias, linear weights and factors, each with the slots of its solver beside it, in flat aligned arrays.

    Column j's factors start at `factors[j · n_slots · width]`; numbers of factors are rounded up to multiples of 8
    (`live` marks the real ones), the rest stays 0. Columns never seen in training are 0 throughout, so that they say
    nothing; `seen` marks the others. With `n_outputs`, the factors are `n_factors` shared ones and `n_private` for
    each output, and `mixers` are the outputs' interaction weights; without, all that is for one output. With
    `shared_linear`, there is one more linear weight and bias behind those of the outputs, and `shares` says how much
    of it goes into each output.
    """

    NUMBERS = ("factors", "linear", "bias", "mixers", "shares")

    def __init__(
        self, n_columns: int, n_factors: int, n_slots: int = 1, *, n_outputs: int | None = None, n_private: int = 0,
        shared_linear: bool = False, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.n_columns, self.n_factors, self.n_slots, self.dtype = n_columns, n_factors, n_slots, np.dtype(dtype)
        self.n_outputs, self.n_private, self.shared_linear = n_outputs, n_private, shared_linear
        self.shared_width, self.private_width = _padded(n_factors), _padded(n_private)
        private = np.tile(np.arange(self.private_width) < n_private, n_outputs or 0)
        self.live = np.concatenate([np.arange(self.shared_width) < n_factors, private])
        self.width = len(self.live)
        self.output_width = 1 if n_outputs is None else _padded(n_outputs + shared_linear)
        self.factors = aligned_zeros(n_columns * n_slots * self.width, dtype)
        self.linear = aligned_zeros(n_columns * n_slots * self.output_width, dtype)
        self.bias = aligned_zeros(n_slots * self.output_width, dtype)
        self.mixers = aligned_zeros((n_outputs or 0) * n_slots * self.shared_width, dtype)
        self.shares = aligned_zeros(n_slots * self.output_width if shared_linear else 0, dtype)
        self.seen = np.zeros(n_columns, dtype=bool)
        self.clock = 0

    @property
    def factor_slots(self) -> Array:
        """View of the factors, (n_columns, n_slots, width)."""
        return self.factors.reshape(self.n_columns, self.n_slots, self.width)

    @property
    def linear_slots(self) -> Array:
        """View of the linear weights, (n_columns, n_slots, output_width)."""
        return self.linear.reshape(self.n_columns, self.n_slots, self.output_width)

    @property
    def bias_slots(self) -> Array:
        """View of the biases, (n_slots, output_width)."""
        return self.bias.reshape(self.n_slots, self.output_width)

    @property
    def mixer_slots(self) -> Array:
        """View of the interaction weights, (n_outputs, n_slots, shared_width)."""
        return self.mixers.reshape(self.n_outputs or 0, self.n_slots, self.shared_width)

    @property
    def share_slots(self) -> Array:
        """View of the outputs' shares of the shared linear weights, (n_slots, output_width), or (n_slots, 0)."""
        return self.shares.reshape(self.n_slots, -1)

    @property
    def lanes(self) -> tuple[int, ...]:
        """The kernels' `lanes`: the longest vector that divides what there is of factors."""
        widths = [width for width in (self.shared_width, self.private_width) if width]
        return make_lanes(next(length for length in VECTOR_LENGTHS if all(width % length == 0 for width in widths)))

    @property
    def loop_factors(self) -> int | None:
        """The kernels' `n_factors`: None where one vector holds them all."""
        return None if self.width in VECTOR_LENGTHS else self.width

    @property
    def sizes(self) -> tuple[int | None, int | None, int, int]:
        """The kernels' `sizes` of several outputs.

        None for the usual shared factors of one vector and no private ones.
        """
        usual = self.private_width == 0 and self.shared_width in VECTOR_LENGTHS
        shared, private = (None, None) if usual else (self.shared_width, self.private_width)
        return shared, private, self.n_outputs or 0, (self.n_outputs or 0) + self.shared_linear

    def scratch(self, n_parts: int, copies: int = 1) -> tuple[Array, Array]:
        """Return the kernels' `sums`, and `work` for several outputs."""
        length = _padded(max(self.width, self.output_width))
        work = aligned_zeros(6 * length, self.dtype).reshape(6, length)
        return aligned_zeros(copies * 2 * n_parts * self.width, self.dtype), work

    def copy(self) -> Parameters:
        """Return a copy, aligned too."""
        return self.grow(self.n_columns)

    def grow(self, n_columns: int) -> Parameters:
        """Return a copy with more columns; the new ones are unseen."""
        other = Parameters(
            n_columns,
            self.n_factors,
            self.n_slots,
            n_outputs=self.n_outputs,
            n_private=self.n_private,
            shared_linear=self.shared_linear,
            dtype=self.dtype,
        )
        other.restore(self)
        return other

    def restore(self, other: Parameters) -> None:
        """Take over the numbers of another one that has no more columns."""
        for name in (*self.NUMBERS, "seen"):
            numbers = getattr(other, name)
            getattr(self, name)[: len(numbers)] = numbers
        self.clock = other.clock

    def is_finite(self) -> bool:
        """Whether all numbers are finite: the sum of finite numbers of a sane size is."""
        return all(np.isfinite(getattr(self, name).sum(dtype=np.float64)) for name in self.NUMBERS)

    def scores(self, rows: Rows, interactions: Interactions) -> Array:
        """Return the score of every row, (n,) or (n, n_outputs), in the parameters' type."""
        sums, work = self.scratch(interactions.n_parts)
        mixing = None if interactions.mixing is None else interactions.mixing.astype(self.dtype)
        if self.n_outputs is not None:
            out = np.empty((rows.n_rows, self.n_outputs), dtype=self.dtype)
            predict_outputs(
                self.lanes, self.sizes, self.n_slots, self.factors, self.linear, self.bias, self.mixers,
                self.shares, rows.values, rows.indices, rows.bounds, mixing, sums, work, out,
            )  # fmt: skip
            return out
        out = np.empty(rows.n_rows, dtype=self.dtype)
        predict_scores(
            self.lanes, self.loop_factors, self.factors, self.n_slots * self.width, self.linear, self.n_slots,
            self.bias, rows.values, rows.indices, rows.bounds, mixing, sums, out,
        )  # fmt: skip
        return out

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {name: np.array(getattr(self, name)) for name in self.NUMBERS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in self.NUMBERS:
            numbers = getattr(self, name)
            setattr(self, name, aligned_zeros(len(numbers), self.dtype))
            getattr(self, name)[:] = numbers


def mean_one(weights: Array) -> Array:
    """Return weights whose mean is 1 where they are not 0: their scale says nothing, but solvers step by it."""
    used = weights > 0
    return np.asarray(weights / weights[used].mean(dtype=np.float64)) if used.any() else weights


def _padded(n: int) -> int:
    return -(-n // LANE_BLOCK) * LANE_BLOCK
