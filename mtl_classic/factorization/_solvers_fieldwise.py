"""Solvers that set one weight after the other, exactly: alternating least squares and Gibbs sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mtl_classic._core.options import COUNT, FINITE, SHARE_OR_0, Option
from mtl_classic._core.random import generator
from mtl_classic.factorization._chain import Chain
from mtl_classic.factorization._descent import split_validation
from mtl_classic.factorization._draws import Draws, Scale
from mtl_classic.factorization._machines import join_machines, split_machine
from mtl_classic.factorization._problem import Parameters, Problem
from mtl_classic.factorization._solvers import Capabilities, Report, Settings, Solver

__all__ = ["Als", "Gibbs"]

Array = npt.NDArray[Any]
# A penalty of 0 leaves weights undetermined where columns always occur together.
LEAST_PRECISION = 1e-8
# Mean squared error of the training rows, in variances of the target, that only rounding of huge numbers explains.
LARGEST_ERROR = 1e4


@dataclass(frozen=True)
class Als(Solver):
    """Alternating least squares: each weight and factor in turn goes to the minimum of the penalized squared error.

    The objective is that of the stochastic solvers: Σ s (½ (y − ŷ)² + ½ λ Σ v² of the columns in the row).

    References
    ----------
    .. [1] S. Rendle (2012). Factorization machines with libFM. ACM TIST 3(3).
       https://doi.org/10.1145/2168752.2168771

    Examples
    --------
    >>> from mtl_classic.factorization import Als
    >>> Als().can.losses
    frozenset({'squared'})
    """

    name: ClassVar[str] = "als"
    can: ClassVar[Capabilities] = Capabilities(
        losses=frozenset({"squared"}), partial_fit=False, batches=False, dropout=False, members=False, time=False
    )

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, problem: Problem, parameters: Parameters, settings: Settings) -> Report:
        """Sweep `max_iter` times, or until the validation rows stop improving; then the best sweep's are kept."""
        problem = _weighted_rows(problem)
        rng = generator(settings.seed, "als")
        training, validation, _ = split_validation(problem, settings, rng)
        scale = Scale.of(training.targets, training.weights)
        chain = Chain(training, parameters.n_factors, rng, scale.apply(training.targets))
        counts = chain.column_weights()
        columns = chain.blocks.columns
        chain.prior[1, 0] = np.maximum(_per_column(problem.reg_linear, columns) * counts, LEAST_PRECISION)
        chain.prior[1, 1:] = np.maximum(_per_column(problem.reg_factors, columns) * counts, LEAST_PRECISION)
        if validation is None:
            for _ in range(settings.max_iter):
                chain.run()
            chain.write(parameters, scale)
            report = Report(settings.max_iter)
        else:
            report = _sweep_until_worse(chain, validation, scale, parameters, settings)
        _refuse_divergence(chain, training)
        return report


@dataclass(frozen=True)
class Gibbs(Solver):
    r"""Gibbs sampling of the Bayesian factorization machine.

    The weights of a field, and its factors one by one, share a normal prior, whose mean and precision are drawn too:

    .. math::

        y \sim N(\hat y, 1/\alpha), \quad v_{jf} \sim N(\mu_{gf}, 1/\lambda_{gf}),
        \quad \alpha, \lambda \sim \Gamma(½, ½), \quad \mu \sim N(0, 1/\lambda)

    for targets of standard deviation 1: nothing is left to tune. Labels of two classes are the signs of such a target,
    which is drawn along (probit). Predictions are means over the draws that are kept; ``n_members`` of the machine is
    the number of chains, each of which goes to another of the many equally good places.

    Parameters
    ----------
    burn_in : float, default=0.05
        Share of the sweeps before the first that is kept.
    max_draws : int, default=200
        Most draws of a chain to keep, evenly spaced.
    max_bytes : int, default=2**28
        Most memory for those of a chain, 4 bytes × columns × (n_factors + 1) each; where that leaves a few dozens only,
        as for 10⁵ columns with 32 factors, more of them predict better.

    References
    ----------
    .. [1] S. Rendle (2012). Factorization machines with libFM. ACM TIST 3(3).
       https://doi.org/10.1145/2168752.2168771

    Examples
    --------
    >>> from mtl_classic.factorization import FactorizationMachineRegressor, Gibbs
    >>> FactorizationMachineRegressor(solver=Gibbs(burn_in=0.2), max_iter=100).solver.burn_in
    0.2
    """

    burn_in: float = 0.05
    max_draws: int = 200
    max_bytes: int = 2**28

    name: ClassVar[str] = "gibbs"
    _options: ClassVar[dict[str, Option]] = {"burn_in": SHARE_OR_0, "max_draws": COUNT, "max_bytes": FINITE}
    can: ClassVar[Capabilities] = Capabilities(
        losses=frozenset({"squared", "probit"}),
        partial_fit=False,
        batches=False,
        dropout=False,
        time=False,
    )

    @np.errstate(over="ignore", invalid="ignore")
    def solve(self, problem: Problem, parameters: Parameters, settings: Settings) -> Report:
        """Run a chain of `max_iter` sweeps for each member, one after the other.

        The draws are the report's `extra`, the last of each chain fill the parameters.
        """
        problem = _weighted_rows(problem)
        probit = problem.loss == "probit"
        scale = Scale() if probit else Scale.of(problem.targets, problem.weights)
        members = split_machine(parameters, settings.n_members)
        kept = self._kept(settings.max_iter, members[0])
        size, n_draws = (parameters.n_columns, members[0].n_factors), len(members) * len(kept)
        draws = Draws(*size, n_draws, problem.interactions, probit, scale)
        for k, member in enumerate(members):
            rng = generator(settings.seed, "gibbs", *([k] if k else []))
            self._run_chain(problem, member, settings.max_iter, kept, draws, rng)
        if len(members) > 1:
            join_machines(members, parameters)
        return Report(settings.max_iter, extra=draws)

    @staticmethod
    def _run_chain(
        problem: Problem, parameters: Parameters, n_sweeps: int, kept: set[int], draws: Draws, rng: np.random.Generator
    ) -> None:
        target = np.zeros(problem.n_rows) if draws.probit else draws.scale.apply(problem.targets)
        chain = Chain(problem, parameters.n_factors, rng, target)
        positive = np.asarray(problem.targets) > 0.5
        for k in range(n_sweeps):
            if draws.probit:
                chain.draw_target(positive)
            else:
                chain.draw_alpha()
            chain.draw_prior()
            chain.run(chain.draw_noise())
            if k in kept:
                draws.keep(chain)
        chain.write(parameters, draws.scale)
        _refuse_divergence(chain, problem)

    def _kept(self, n_sweeps: int, parameters: Parameters) -> set[int]:
        """Sweeps whose draws are kept, the last among them."""
        first = min(int(self.burn_in * n_sweeps), n_sweeps - 1)
        room = self.max_bytes // max(4 * parameters.n_columns * (parameters.n_factors + 1), 1)
        count = max(1, min(n_sweeps - first, self.max_draws, room))
        return {round(k) for k in np.linspace(n_sweeps - 1, first, count)}


def _weighted_rows(problem: Problem) -> Problem:
    """Rows of weight 0 are as if they were not there."""
    return problem if (problem.weights > 0).all() else problem.take(np.flatnonzero(problem.weights > 0))


def _refuse_divergence(chain: Chain, problem: Problem) -> None:
    errors = chain.target - chain.scores(problem.X, problem)[chain.order]
    if not np.average(errors**2, weights=problem.weights[chain.order]) <= LARGEST_ERROR:
        raise ValueError("The fit diverged: the columns' numbers are too large. Scale them (scale=True).")


def _per_column(penalty: float | Array, columns: Array) -> float | Array:
    return penalty if np.ndim(penalty) == 0 else np.asarray(penalty)[columns]


def _sweep_until_worse(
    chain: Chain, validation: Problem, scale: Scale, parameters: Parameters, settings: Settings
) -> Report:
    target, best = scale.apply(validation.targets), 0
    losses: list[float] = []
    while len(losses) < settings.max_iter and len(losses) - best <= settings.n_iter_no_change:
        chain.run()
        errors = target - chain.scores(validation.X, validation)
        losses.append(float(0.5 * scale.deviation**2 * np.average(errors**2, weights=validation.weights)))
        if len(losses) == 1 or losses[-1] < losses[best - 1] - settings.tol:
            best = len(losses)
            chain.write(parameters, scale)
    return Report(best, losses)
