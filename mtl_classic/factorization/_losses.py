"""Losses of factorization machines: the kernels' ids, the mean over rows, where the bias starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp, softmax, xlogy

from mtl_classic._kernels.fm_losses import HINGE, LARGEST_EXPONENT, LOG, POISSON, SOFTMAX, SQUARED

Floats = npt.NDArray[Any]

# "kl" is log loss against labels between 0 and 1; "bpr" is log loss of the difference between two rows of a query.
KERNEL_IDS = {
    "log": LOG,
    "kl": LOG,
    "bpr": LOG,
    "softmax": SOFTMAX,
    "squared": SQUARED,
    "poisson": POISSON,
    "hinge": HINGE,
}


def kernel_loss(loss: str, targets: Floats, dtype: Any) -> tuple[int, Any]:
    """Return the kernels' id of a loss, and the score that exp is not taken beyond: twice the largest label.

    Past that a Poisson fit learns nothing but to come back.
    """
    largest = float(LARGEST_EXPONENT)
    if loss == "poisson":
        largest = min(largest, float(np.log(2 * max(float(targets.max(initial=0)), 1.0))))
    return KERNEL_IDS[loss], np.dtype(dtype).type(largest)


# Infinite scores are no news here: the fit says that it diverged.
@np.errstate(over="ignore", invalid="ignore")
def mean_loss(loss: str, scores: Floats, targets: Floats, weights: Floats) -> float:
    """Return the mean of log loss, half squared error, half Poisson deviance; NaN where there is no weight."""
    if not weights.any():
        return float("nan")
    s, y = scores.astype(np.float64), targets.astype(np.float64)
    if loss in ("log", "kl"):
        each = np.logaddexp(0, s) - y * s
    elif loss == "squared":
        each = 0.5 * (s - y) ** 2
    elif loss == "poisson":
        each = np.exp(np.minimum(s, LARGEST_EXPONENT)) - y * s + xlogy(y, y) - y
    elif loss == "softmax":
        each, weights = logsumexp(s, axis=1) - (y * s).sum(axis=1), weights[:, 0]
    else:
        each = np.maximum(0, 1 - (2 * y - 1) * s)
    return float(np.average(each, weights=weights))


def bias_start(loss: str, targets: Floats, weights: Floats) -> float:
    """Return the score of the targets' mean, where the bias starts.

    So that a rare label costs no epoch to find its rate.
    """
    if loss in ("log", "kl"):
        share = float(_shares(targets, weights))
        return float(np.log(share / (1 - share)))
    mean = float(np.average(targets, weights=weights)) if weights.any() else 0.0
    if loss == "poisson":
        return float(np.log(max(mean, 1e-6)))
    return mean if loss == "squared" else 0.0


def class_bias_start(targets: Floats, weights: Floats) -> Floats:
    """Return the scores of the classes' shares."""
    return np.log(_shares(targets, weights[:, 0]))


def _shares(targets: Floats, weights: Floats) -> Floats:
    """Return the mean of labels from 0 to 1; where it is 0 or 1 as if there were half a row more of either kind.

    The first rows of many may be of one class, and a bias that starts at the end of the scale is long on its way back.
    """
    total = float(weights.sum(dtype=np.float64))
    mean = np.average(targets, axis=0, weights=weights) if total > 0 else np.full(targets.shape[1:], 0.5)
    inside = np.where((mean > 0) & (mean < 1), mean, (mean * total + 0.5) / (total + 1))
    return np.clip(inside, 1e-6, 1 - 1e-6)


def to_mean(loss: str, scores: Floats) -> Floats:
    """Return the label's expectation: a probability for log loss, a rate for Poisson."""
    if loss in ("log", "kl"):
        return expit(scores)
    if loss == "softmax":
        return softmax(scores, axis=1)
    return np.exp(np.minimum(scores, LARGEST_EXPONENT)) if loss == "poisson" else scores
