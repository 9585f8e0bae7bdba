"""From raw scores to predictions as XGBoost has them: in single precision, by the exponential of the C library."""

import math

import numpy as np
from numba import njit

__all__ = ["EXPONENTIAL", "IDENTITY", "LOGISTIC", "SOFTMAX", "apply_links"]

IDENTITY, LOGISTIC, EXPONENTIAL, SOFTMAX = range(4)
_ONE, _TINY, _LARGEST = np.float32(1.0), np.float32(1e-16), np.float32(88.7)


@njit(cache=True)
def apply_links(raw, starts, links, out):
    """The predictions of some boosters for one row.

    raw : float32 (n_outputs); starts : int32 (n_boosters + 1), where the outputs of each begin; links : int8
    (n_boosters); out : float64 (n_outputs).
    """
    for booster in range(links.size):
        first, last, link = starts[booster], starts[booster + 1], links[booster]
        if link == SOFTMAX:
            _softmax(raw[first:last], out[first:last])
            continue
        for i in range(first, last):
            if link == LOGISTIC:
                out[i] = _ONE / (math.exp(min(-raw[i], _LARGEST)) + _ONE + _TINY)
            elif link == EXPONENTIAL:
                out[i] = math.exp(raw[i])
            else:
                out[i] = raw[i]


@njit(cache=True)
def _softmax(raw, out):
    """The powers are single, their sum is double."""
    largest, total = raw.max(), 0.0
    powers = np.empty_like(raw)
    for i in range(raw.size):
        powers[i] = math.exp(raw[i] - largest)
        total += powers[i]
    for i in range(raw.size):
        out[i] = powers[i] / np.float32(total)
