"""Solvers of factorization machines: what each one can do, and the stochastic ones.

A solver is a frozen dataclass with its own tunables and a table of capabilities, `can`; what it cannot do is refused
before any work. Whatever it is, `solve(problem, parameters, settings)` fills the parameters in place and returns a
report.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mtl_classic._kernels import fm_steps
from mtl_classic.factorization._descent import descend
from mtl_classic.factorization._problem import Parameters, Problem
from mtl_classic.factorization._settings import Report, Settings

__all__ = ["Adadelta", "Adagrad", "Adam", "Capabilities", "Ftrl", "Report", "Settings", "Sgd", "Solver"]

Array = npt.NDArray[Any]
STOCHASTIC_LOSSES = frozenset({"log", "kl", "softmax", "squared", "poisson", "hinge", "bpr"})


@dataclass(frozen=True)
class Capabilities:
    """What a solver can do.

    `losses`: names; `interactions`: "all", "groups"; the rest says whether it takes new rows on top of old ones,
    mini-batches, dropout and DropConnect, members to average, validation rows to stop on.
    """

    losses: frozenset[str] = STOCHASTIC_LOSSES
    interactions: frozenset[str] = frozenset({"all", "groups"})
    partial_fit: bool = True
    batches: bool = True
    dropout: bool = True
    members: bool = True
    early_stopping: bool = True
    return_std: bool = False


class Solver(ABC):
    """A way to fit the parameters; see the module."""

    name: ClassVar[str]
    can: ClassVar[Capabilities]
    n_slots: ClassVar[int] = 1

    @abstractmethod
    def solve(self, problem: Problem, parameters: Parameters, settings: Settings) -> Report:
        """Fill the parameters in place."""


class StochasticSolver(Solver):
    """A solver that takes a step per row or batch: a rule of `_kernels.fm_steps` and how its slots start."""

    can: ClassVar[Capabilities] = Capabilities()
    default_rate: ClassVar[float]

    @abstractmethod
    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """Return the rule of the factors and that of the linear weights, with numbers of the parameters' type."""

    def start(self, slots: Array, rule: Any) -> None:
        """Fill the slots (…, n_slots, n) behind new parameters; slot 0 holds these."""

    def solve(self, problem: Problem, parameters: Parameters, settings: Settings) -> Report:
        """Descend; see `_descent`."""
        return descend(self, problem, parameters, settings)

    def rate(self, settings: Settings) -> float:
        """Return the learning rate that was asked for, or the solver's own."""
        return self.default_rate if settings.learning_rate is None else settings.learning_rate


@dataclass(frozen=True)
class Sgd(StochasticSolver):
    """Plain stochastic gradient descent with a constant rate."""

    name: ClassVar[str] = "sgd"
    default_rate: ClassVar[float] = 0.01

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Sgd(dtype(rate)),) * 2


@dataclass(frozen=True)
class Adagrad(StochasticSolver):
    """Adagrad per coordinate."""

    accumulator_start: float = 1.0

    name: ClassVar[str] = "adagrad"
    n_slots: ClassVar[int] = 2
    default_rate: ClassVar[float] = 0.05

    def __post_init__(self) -> None:
        if not self.accumulator_start > 0:
            raise ValueError(f"accumulator_start must be positive, got {self.accumulator_start}.")

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adagrad(dtype(rate)),) * 2

    def start(self, slots: Array, rule: Any) -> None:
        """See `StochasticSolver`."""
        slots[..., 1, :] = self.accumulator_start


@dataclass(frozen=True)
class Adam(StochasticSolver):
    """Adam, its moments moving only when a feature occurs."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    name: ClassVar[str] = "adam"
    n_slots: ClassVar[int] = 3
    default_rate: ClassVar[float] = 0.002

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adam(dtype(rate), dtype(self.beta1), dtype(self.beta2), dtype(self.epsilon)),) * 2


@dataclass(frozen=True)
class Adadelta(StochasticSolver):
    """Adadelta: steps of the size of past steps, with no rate to choose."""

    rho: float = 0.95
    epsilon: float = 1e-6

    name: ClassVar[str] = "adadelta"
    n_slots: ClassVar[int] = 3
    default_rate: ClassVar[float] = 1.0

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adadelta(dtype(rate), dtype(self.rho), dtype(self.epsilon)),) * 2


@dataclass(frozen=True)
class Ftrl(StochasticSolver):
    """Follow the regularized leader with an L1 penalty: weights that the data do not call for are exactly 0.

    Linear weights start at 0 and leave it when their gradients' sum exceeds ``l1_linear``. Factors start at random, and
    one that reaches 0 stays there until the sum exceeds 2 ``l1_factors``.
    """

    l1_linear: float = 1.0
    l1_factors: float = 0.0
    accumulator_start: float = 1.0

    name: ClassVar[str] = "ftrl"
    can: ClassVar[Capabilities] = Capabilities(members=False)  # a mean of sparse weights is not sparse
    n_slots: ClassVar[int] = 3
    default_rate: ClassVar[float] = 0.05

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return fm_steps.Ftrl(dtype(rate), dtype(self.l1_factors)), fm_steps.Ftrl(dtype(rate), dtype(self.l1_linear))

    def start(self, slots: Array, rule: Any) -> None:
        """See `StochasticSolver`; z starts where it gives the parameter that is there."""
        slots[..., 1, :] = self.accumulator_start
        value = slots[..., 0, :]
        slots[..., 2, :] = -value * np.sqrt(self.accumulator_start) / rule.rate - np.sign(value) * rule.l1
