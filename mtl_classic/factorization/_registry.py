"""All solvers by name, and the refusal of what one cannot do."""

from __future__ import annotations

from typing import Any

from mtl_classic.factorization._solvers import Adadelta, Adagrad, Adam, Ftrl, Sgd, Solver
from mtl_classic.factorization._solvers_fieldwise import Als, Gibbs

SOLVERS: dict[str, Solver] = {
    solver.name: solver for solver in (Adagrad(), Sgd(), Adam(), Adadelta(), Ftrl(), Als(), Gibbs())
}


def resolve_solver(solver: Any) -> Solver:
    """Return the solver of a name, or the object itself."""
    if isinstance(solver, Solver):
        return solver
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, or a solver object, got {solver!r}.")
    return SOLVERS[solver]


def learns_in_parts(estimator: Any) -> bool:
    """Whether the solver of an estimator takes rows in parts; for `available_if`, so it says why not.

    A solver that is not known is refused where it is asked for.
    """
    solver = estimator.solver if isinstance(estimator.solver, Solver) else SOLVERS.get(str(estimator.solver))
    if solver is not None and not solver.can.partial_fit:
        able = [other.name for other in SOLVERS.values() if other.can.partial_fit]
        raise AttributeError(f"solver={solver.name!r} has no partial_fit; solvers that have: {', '.join(able)}.")
    return True


def check_solver(solver: Solver, *, loss: str, interactions: str, rows: str, **asked: bool) -> None:
    """Refuse a loss, interactions, a form of the rows, or a capability (named in `asked`) that a solver lacks.

    And say which solvers have it.
    """
    chosen = (("loss", loss, "losses"), ("interactions", interactions, "interactions"), ("X", rows, "inputs"))
    for what, value, table in chosen:
        if value not in getattr(solver.can, table):
            able = [other.name for other in SOLVERS.values() if value in getattr(other.can, table)]
            raise ValueError(
                f"solver={solver.name!r} cannot do {what}={value!r}, only "
                f"{', '.join(sorted(getattr(solver.can, table)))}; solvers that can: {', '.join(able) or 'none'}."
            )
    for what, wanted in asked.items():
        if wanted and not getattr(solver.can, what):
            able = [other.name for other in SOLVERS.values() if getattr(other.can, what)]
            raise ValueError(f"solver={solver.name!r} cannot do {what}; solvers that can: {', '.join(able) or 'none'}.")
