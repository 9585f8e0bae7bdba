"""Losses of factorization machines and their derivatives by the score.

| id | loss | ℓ(s, y) | derivative |
|---|---|---|---|
| `LOG` | log, soft labels too | log(1 + exp(s)) − y s | 1 / (1 + exp(−s)) − y |
| `SQUARED` | squared | ½ (s − y)² | s − y |
| `POISSON` | Poisson, log link | exp(s) − y s | exp(s) − y |
| `SOFTMAX` | log loss of a class's softmax, in the kernels of several outputs | log Σ exp(s) − Σ y s | softmax(s) − y |
| `HINGE` | hinge, y in {0, 1} | max(0, 1 − (2y − 1) s) | −(2y − 1) where positive |
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from mtl_classic._kernels.simd import FAST_FLAGS

LOG, SQUARED, POISSON, HINGE, SOFTMAX = range(5)
# exp(30) is 10¹³: beyond any count, and far from overflow in float32.
LARGEST_EXPONENT = 30


def exponential(x):  # type: ignore[no-untyped-def]
    """Return exp(x).

    In float32 by a polynomial in registers (relative error near 2e-7), because a call of libm in the middle of a row
    empties all vector registers.
    """
    raise TypeError("exponential is compiled by numba only")


@overload(exponential)
def _exponential(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return _exponential32
    return lambda x: np.exp(x)


def _exponential32(x):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    x = min(max(x, np.float32(-87)), np.float32(88))
    power = np.int32(x * np.float32(1.4426950408889634) + np.float32(126.5)) - np.int32(126)
    r = x - np.float32(power) * np.float32(0.693359375) + np.float32(power) * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    for coefficient in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = series * r + np.float32(coefficient)
    bits = (power + np.int32(127)) << np.int32(23)
    return (series * r * r + r + one) * np.int32(bits).view(np.float32)


@njit(fastmath=set(FAST_FLAGS), error_model="numpy", forceinline=True)
def loss_slope(loss, target, score):  # type: ignore[no-untyped-def]
    """Return the derivative of a row's loss by its score, in the score's type."""
    kind = type(score)
    if loss == LOG:
        return kind(1) / (kind(1) + exponential(-score)) - target
    if loss == SQUARED:
        return score - target
    if loss == POISSON:
        return exponential(min(score, kind(LARGEST_EXPONENT))) - target
    sign = target + target - kind(1)
    return -sign if sign * score < kind(1) else kind(0)
