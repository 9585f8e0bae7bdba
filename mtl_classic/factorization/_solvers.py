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

from mtl_classic._core.options import FINITE, FINITE_POSITIVE, SHARE_OR_0, Option, check_options
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

    `losses`: names; `interactions`: "all", "groups"; `inputs`: what the rows may come as; the rest says whether it
    takes new rows on top of old ones, mini-batches, dropout and DropConnect, members to average, the time of rows.
    """

    losses: frozenset[str] = STOCHASTIC_LOSSES
    interactions: frozenset[str] = frozenset({"all", "groups"})
    inputs: frozenset[str] = frozenset({"array", "csr", "frame"})
    partial_fit: bool = True
    batches: bool = True
    dropout: bool = True
    members: bool = True
    time: bool = True

    @property
    def warm_start(self) -> bool:
        """Whether it goes on from the last fit: if it learns in parts."""
        return self.partial_fit


class Solver(ABC):
    """A way to fit the parameters; see the module."""

    name: ClassVar[str]
    can: ClassVar[Capabilities]
    n_slots: ClassVar[int] = 1
    _options: ClassVar[dict[str, Option]] = {}

    def __post_init__(self) -> None:
        check_options(self)

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
    """Plain stochastic gradient descent with a constant rate, 0.01 if not said otherwise.

    Examples
    --------
    >>> from mtl_classic.factorization import FactorizationMachineRegressor, Sgd
    >>> FactorizationMachineRegressor(solver=Sgd(), learning_rate=0.02).solver
    Sgd()
    """

    name: ClassVar[str] = "sgd"
    default_rate: ClassVar[float] = 0.01

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Sgd(dtype(rate)),) * 2


@dataclass(frozen=True)
class Adagrad(StochasticSolver):
    r"""Adagrad: each number's step is divided by the root of its own summed squared gradients; rate 0.05.

    .. math:: G \leftarrow G + g^2, \quad v \leftarrow v - \eta g / \sqrt{G}

    Parameters
    ----------
    accumulator_start : float, default=1.0
        What G starts from. A larger one keeps steps of one length for longer, as `Sgd` does, and goes with a higher
        rate (10 with 0.2).

    References
    ----------
    .. [1] J. Duchi, E. Hazan, Y. Singer (2011). Adaptive subgradient methods for online learning and stochastic
       optimization. JMLR 12. https://jmlr.org/papers/v12/duchi11a.html

    Examples
    --------
    >>> from mtl_classic.factorization import Adagrad, FactorizationMachineRegressor
    >>> FactorizationMachineRegressor(solver=Adagrad(accumulator_start=10.0), learning_rate=0.2).solver
    Adagrad(accumulator_start=10.0)
    """

    accumulator_start: float = 1.0

    name: ClassVar[str] = "adagrad"
    n_slots: ClassVar[int] = 2
    _options: ClassVar[dict[str, Option]] = {"accumulator_start": FINITE_POSITIVE}
    default_rate: ClassVar[float] = 0.05

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adagrad(dtype(rate)),) * 2

    def start(self, slots: Array, rule: Any) -> None:
        """See `StochasticSolver`."""
        slots[..., 1, :] = self.accumulator_start


@dataclass(frozen=True)
class Adam(StochasticSolver):
    """Adam, its moments moving only when a column occurs; rate 0.002.

    Parameters
    ----------
    beta1, beta2 : float, default=0.9 and 0.999
        How much of the mean gradient and of the mean squared gradient stays in a step.
    epsilon : float, default=1e-8
        Added to the mean squared gradient.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba (2015). Adam: a method for stochastic optimization. ICLR.
       https://doi.org/10.48550/arXiv.1412.6980

    Examples
    --------
    >>> from mtl_classic.factorization import Adam
    >>> Adam(beta1=0.8)
    Adam(beta1=0.8, beta2=0.999, epsilon=1e-08)
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    name: ClassVar[str] = "adam"
    n_slots: ClassVar[int] = 3
    _options: ClassVar[dict[str, Option]] = {"beta1": SHARE_OR_0, "beta2": SHARE_OR_0, "epsilon": FINITE}
    default_rate: ClassVar[float] = 0.002

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adam(dtype(rate), dtype(self.beta1), dtype(self.beta2), dtype(self.epsilon)),) * 2


@dataclass(frozen=True)
class Adadelta(StochasticSolver):
    """Adadelta: steps of the size of past steps, with no rate to choose.

    Parameters
    ----------
    rho : float, default=0.95
        How much of the mean squared gradient and of the mean squared step stays in a step.
    epsilon : float, default=1e-6
        Added to both; the first steps' size.

    References
    ----------
    .. [1] M. D. Zeiler (2012). ADADELTA: an adaptive learning rate method. https://doi.org/10.48550/arXiv.1212.5701

    Examples
    --------
    >>> from mtl_classic.factorization import Adadelta
    >>> Adadelta(rho=0.9)
    Adadelta(rho=0.9, epsilon=1e-06)
    """

    rho: float = 0.95
    epsilon: float = 1e-6

    name: ClassVar[str] = "adadelta"
    n_slots: ClassVar[int] = 3
    _options: ClassVar[dict[str, Option]] = {"rho": SHARE_OR_0, "epsilon": FINITE_POSITIVE}
    default_rate: ClassVar[float] = 1.0

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return (fm_steps.Adadelta(dtype(rate), dtype(self.rho), dtype(self.epsilon)),) * 2


@dataclass(frozen=True)
class Ftrl(StochasticSolver):
    """Follow the regularized leader with an L1 penalty: weights that the data do not call for are exactly 0.

    Linear weights start at 0 and leave it when their gradients' sum exceeds ``l1_linear``. Factors start at random, and
    one that reaches 0 stays there until the sum exceeds 2 ``l1_factors``. The rate is 0.05.

    Parameters
    ----------
    l1_linear, l1_factors : float, default=1.0 and 0.0
        Penalties λ₁ Σ |w| and λ₁ Σ |v|.
    accumulator_start : float, default=1.0
        As for `Adagrad`, which this is where nothing is penalized.

    References
    ----------
    .. [1] H. B. McMahan et al. (2013). Ad click prediction: a view from the trenches. KDD.
       https://doi.org/10.1145/2487575.2488200

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic.factorization import FactorizationMachineClassifier, Ftrl
    >>> rng = np.random.default_rng(0)
    >>> X = np.eye(20)[rng.integers(0, 20, 2000)]                     # one field of 20 values
    >>> y = rng.random(2000) < np.where(X[:, 3] == 1, 0.9, 0.2)       # one of which matters
    >>> model = FactorizationMachineClassifier(
    ...     solver=Ftrl(l1_linear=60.0), max_iter=5, early_stopping=False, random_state=0)
    >>> np.flatnonzero(model.fit(X, y).coef_).tolist()
    [3]
    """

    l1_linear: float = 1.0
    l1_factors: float = 0.0
    accumulator_start: float = 1.0

    name: ClassVar[str] = "ftrl"
    can: ClassVar[Capabilities] = Capabilities(members=False, time=False)  # a mean of sparse weights is not sparse
    n_slots: ClassVar[int] = 3
    _options: ClassVar[dict[str, Option]] = {
        "l1_linear": FINITE, "l1_factors": FINITE, "accumulator_start": FINITE_POSITIVE,
    }  # fmt: skip
    default_rate: ClassVar[float] = 0.05

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """See `StochasticSolver`."""
        return fm_steps.Ftrl(dtype(rate), dtype(self.l1_factors)), fm_steps.Ftrl(dtype(rate), dtype(self.l1_linear))

    def start(self, slots: Array, rule: Any) -> None:
        """See `StochasticSolver`; z starts where it gives the parameter that is there."""
        slots[..., 1, :] = self.accumulator_start
        value = slots[..., 0, :]
        slots[..., 2, :] = -value * np.sqrt(self.accumulator_start) / rule.rate - np.sign(value) * rule.l1
