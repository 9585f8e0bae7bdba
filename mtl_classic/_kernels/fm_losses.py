"""Losses of factorization machines and their derivatives by the score.

| id | loss | ℓ(s, y) | derivative |
|---|---|---|---|
| `LOG` | log, soft labels too | log(1 + exp(s)) − y s | 1 / (1 + exp(−s)) − y |
| `SQUARED` | squared | ½ (s − y)² | s − y |
| `POISSON` | Poisson, log link | exp(s) − y s | exp(s) − y |
| `SOFTMAX` | log loss of a class's softmax, in the kernels of several outputs | log Σ exp(s) − Σ y s | softmax(s) − y |
| `HINGE` | hinge, y in {0, 1} | max(0, 1 − (2y − 1) s) | −(2y − 1) where positive |

The kernels' `loss` is a pair: the id, and the largest score that exp is taken of in the derivative. Beyond it Poisson
loss goes on as a straight line, so that one score that overshot does not give a slope of 10¹³, after which steps that
are divided by past slopes never move again.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from mtl_classic._kernels.simd import FAST_FLAGS

LOG, SQUARED, POISSON, HINGE, SOFTMAX = range(5)
# exp(30) is 10¹³: beyond any count, and far from overflow in float32.
LARGEST_EXPONENT = 30
ROUNDING = 1.5 * 2**23


def exponential(x):  # type: ignore[no-untyped-def]
    """Return exp(x).

    In float32 by a polynomial in registers (relative error below 1e-6): every row waits for it, and a call of libm
    empties all vector registers.
    """
    raise TypeError("exponential is compiled by numba only")


@overload(exponential)
def _exponential(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exponential32(x)
    return lambda x: np.exp(x)


@njit(fastmath={"contract"}, forceinline=True)
def _exponential32(x):  # type: ignore[no-untyped-def]
    """Return 2ⁿ eʳ with x = n log 2 + r. Adding 1.5 · 2²³ rounds to an integer, so no sum may be reordered here."""
    x = x if x < np.float32(88) else np.float32(88)
    x = x if x > np.float32(-87) else np.float32(-87)
    shifted = x * np.float32(1.4426950408889634) + np.float32(ROUNDING)
    r = x - (shifted - np.float32(ROUNDING)) * np.float32(0.6931471805599453)
    low = np.float32(0.49999229) + r * np.float32(0.16667116)
    high = np.float32(0.04189056) + r * np.float32(0.00831248)
    square = r * r
    series = (np.float32(1) + r) + square * (low + square * high)
    bits = np.int32((np.float32(shifted).view(np.int32) << 23) + 0x3F800000)
    return series * bits.view(np.float32)


@njit(fastmath=set(FAST_FLAGS), error_model="numpy", forceinline=True)
def loss_slope(loss, target, score):  # type: ignore[no-untyped-def]
    """Return the derivative of a row's loss, a pair of id and largest exponent, by its score, in the score's type."""
    kind, loss, largest = type(score), loss[0], loss[1]
    if loss == LOG:
        return kind(1) / (kind(1) + exponential(-score)) - target
    if loss == SQUARED:
        return score - target
    if loss == POISSON:
        return exponential(min(score, kind(largest))) - target
    sign = target + target - kind(1)
    return -sign if sign * score < kind(1) else kind(0)
