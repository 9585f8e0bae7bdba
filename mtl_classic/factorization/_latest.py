"""What the latest rows tell a machine that was stopped by them: how far its scores hold for rows to come."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from mtl_classic.factorization._losses import mean_loss
from mtl_classic.factorization._problem import Parameters, Problem

__all__ = ["calibrate", "latest_units", "rescale"]

Array = npt.NDArray[Any]
# Two numbers cost about 1 / n of log-loss when they are fitted to n rows, and win some thousandths.
FEWEST_ROWS = 500
LARGEST_CHANGE = 2.0  # of the scores' scale, either way
WITHOUT_SCALE = ("hinge", "bpr")  # margins and orders


def latest_units(times: Array, unit: Array, count: int) -> npt.NDArray[np.bool_]:
    """Mark the `count` units with the latest rows; of equal times those that come later in the rows.

    `unit` (n,) is the unit of each row, 0 … n_units − 1: rows, or queries that must not be split.
    """
    latest = np.full(int(unit.max()) + 1, -1, dtype=np.int64)
    np.maximum.at(latest, unit, np.argsort(np.argsort(times, kind="stable"), kind="stable"))
    marked = np.zeros(len(latest), dtype=bool)
    marked[np.argsort(latest, kind="stable")[len(latest) - count :]] = True
    return marked


def calibrate(problem: Problem, scores: Array) -> tuple[float, float]:
    """Return the a and c > 0 with the least mean loss of the scores a + c s; a = 0 for several classes."""
    single = problem.targets.ndim == 1
    loss = problem.loss if single else problem.loss[0][0]
    if loss in WITHOUT_SCALE or problem.n_rows < FEWEST_ROWS:
        return 0.0, 1.0
    scores = scores.astype(np.float64)

    def changed(x: Array) -> float:
        return mean_loss(loss, (x[1] if single else 0.0) + np.exp(x[0]) * scores, problem.targets, problem.weights)

    most = float(np.log(LARGEST_CHANGE))
    bounds = [(-most, most), (None, None)]
    found = minimize(changed, np.zeros(1 + single), method="L-BFGS-B", bounds=bounds[: 1 + single])
    # Rows that decide nothing leave the scores as they are.
    if not np.isfinite(found.fun) or not np.isfinite(found.x).all():
        return 0.0, 1.0
    return float(found.x[1]) if single else 0.0, float(np.exp(found.x[0]))


def rescale(parameters: Parameters, shift: float, slope: float) -> None:
    """Change the parameters so that every score s becomes shift + slope · s."""
    parameters.factor_slots[:, 0] *= parameters.dtype.type(np.sqrt(slope))
    parameters.linear_slots[:, 0] *= parameters.dtype.type(slope)
    parameters.bias_slots[0] *= parameters.dtype.type(slope)
    if parameters.n_outputs is None:
        parameters.bias_slots[0] += parameters.dtype.type(shift)
