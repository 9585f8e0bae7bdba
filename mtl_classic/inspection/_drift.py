"""How far shares, rates and ratios may be from what they were, given how many rows tell of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "calibration_ratio", "effective_rows", "population_stability", "share"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float, float]  # value, low, high
FEW = 20  # events; fewer say little about how they scatter


def effective_rows(clusters: npt.NDArray[np.intp] | None, n: int) -> float:
    """Kish's number of independent rows: n² / Σ n_c², n where there are no clusters."""
    if clusters is None or not n:
        return float(n)
    sizes = np.bincount(clusters).astype(np.float64)
    return float(n**2 / (sizes**2).sum())


def population_stability(before: Floats, now: Floats, n_before: float, n_now: float, z: float) -> Interval:
    r"""The index :math:`\sum_i (p_i - q_i) \log (p_i / q_i)` of shares now (p) and before (q), with an interval.

    Samples of the same population have an index of about :math:`b = (B - 1)(1 / n + 1 / m)` for B bins: the interval is
    that of the index minus b, by the delta method and the variance under equality, :math:`2 (B - 1)(1 / n + 1 / m)^2`.
    """
    used = (before + now) > 0
    if used.sum() < 2 or not now.sum() or not before.sum():
        return 0.0, 0.0, float("inf") if not now.sum() else 0.0
    q, p = (_shares(counts[used], n) for counts, n in ((before, n_before), (now, n_now)))
    log = np.log(p / q)
    index = float(((p - q) * log).sum())
    noise = 1.0 / n_before + 1.0 / n_now
    variance = _variance(p, log + 1 - q / p) / n_now + _variance(q, 1 - log - p / q) / n_before
    spread = z * np.sqrt(variance + 2 * (len(p) - 1) * noise**2)
    centre = index - (len(p) - 1) * noise
    return index, max(0.0, float(centre - spread)), max(index, float(centre + spread))


def _shares(counts: Floats, n: float) -> Floats:
    """Shares of the bins as n rows would show them, half a row added to each."""
    rows = counts * (n / counts.sum()) + 0.5
    return rows / rows.sum()


def _variance(shares: Floats, values: Floats) -> float:
    mean = (shares * values).sum()
    return float((shares * (values - mean) ** 2).sum())


def share(count: float, total: float, n: float, z: float) -> Interval:
    """A share with Wilson's interval, as n independent rows tell it."""
    if not total:
        return float("nan"), 0.0, 1.0
    p = count / total
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return p, max(0.0, float(centre - spread)), min(1.0, float(centre + spread))


def calibration_ratio(
    predicted: Floats, observed: Floats, clusters: npt.NDArray[np.intp] | None
) -> Callable[[float], Interval]:
    r"""Sum of the predicted :math:`P` ÷ sum of the observed :math:`O`, non-negative, with an interval, of z.

    The expected sums m that :math:`O` does not contradict, :math:`(O - m)^2 \le z^2 \phi m`, give the ratios
    :math:`P / m`; the dispersion :math:`\phi = \sum_c (o_c - p_c O / P)^2 / O` is taken over clusters c of rows. What
    comes back keeps no rows.
    """
    total, seen = float(predicted.sum()), float(observed.sum())
    if total <= 0:
        nothing = (float("nan") if seen == 0 else 0.0), 0.0, float("inf")
        return lambda z: nothing
    if seen == 0:
        return lambda z: (float("inf"), total / z**2, float("inf"))
    errors: Floats = observed - predicted * (seen / total)
    if clusters is not None:
        errors = np.bincount(clusters, errors).astype(np.float64)
    dispersion = float((errors**2).sum()) / seen
    if np.count_nonzero(observed) < FEW:
        dispersion = max(dispersion, float((observed**2).sum()) / seen)

    def interval(z: float) -> Interval:
        c = z**2 * dispersion
        root = np.sqrt(c * seen + c**2 / 4)
        lowest, highest = seen + c / 2 - root, seen + c / 2 + root
        return total / seen, total / highest, total / lowest if lowest > 0 else float("inf")

    return interval
