"""What estimators tell solvers, and what solvers report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from scipy.stats import loguniform

from mtl_classic._core.options import (
    COLUMNS,
    COUNT,
    FINITE,
    FINITE_POSITIVE,
    MAPPING,
    NOT_NEGATIVE,
    SHARE,
    SHARE_OR_0,
    TRUTH,
    Option,
)

# What the machines for one task and for many take.
OPTIONS: dict[str, Option] = {
    "n_factors": COUNT, "learning_rate": (FINITE_POSITIVE, None), "max_iter": COUNT, "dropout": SHARE_OR_0,
    "drop_connect": SHARE_OR_0, "init_scale": FINITE, "fields": (MAPPING, None), "groups": (MAPPING, None),
    "categorical": COLUMNS, "exclude": COLUMNS, "scale": TRUTH, "early_stopping": TRUTH, "validation_fraction": SHARE,
    "n_iter_no_change": COUNT, "tol": NOT_NEGATIVE,
}  # fmt: skip


def machine_space() -> dict[str, Any]:
    """What is worth searching of a factorization machine."""
    return {
        "n_factors": [8, 16, 32],
        "learning_rate": loguniform(0.01, 0.2),
        "reg_factors": loguniform(1e-3, 0.3),
    }


@dataclass(frozen=True)
class Settings:
    """The tunables of an estimator that a solver needs, and the fit's seed.

    `resume` goes on from the parameters as they are.
    """

    max_iter: int = 30
    learning_rate: float | None = None
    batch_size: int = 1
    dropout: float = 0.0
    drop_connect: float = 0.0
    init_scale: float = 0.01
    early_stopping: bool = True
    validation_fraction: float = 0.1
    n_iter_no_change: int = 2
    tol: float = 0.0
    n_members: int = 1
    seed: int = 0
    resume: bool = False


class StepRules(Protocol):
    """What descent needs of a stochastic solver: its rate, its rule per kind of parameter, how new slots start."""

    def rate(self, settings: Settings) -> float:
        """Return the learning rate."""

    def rules(self, rate: float, dtype: Any) -> tuple[Any, Any]:
        """Return the rules of factors and of linear weights, as the kernels take them."""

    def start(self, slots: Any, rule: Any) -> None:
        """Fill the slots behind new parameters."""


@dataclass(frozen=True)
class Report:
    """What a solver says about its run.

    Epochs or sweeps kept, the validation losses, and whatever else an estimator keeps for its predictions.
    """

    n_iter: int
    validation_losses: list[float] = field(default_factory=list)
    extra: Any = None
