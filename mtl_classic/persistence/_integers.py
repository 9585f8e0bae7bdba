"""Whole numbers and dates in fewer bytes, to be read faster than they would be unpacked.

Codes of a few categories need one byte, not eight; times in seconds that are kept in nanoseconds are multiples of 10⁹;
what is sorted grows by small steps. So an array is kept as ``(x − least) / step``, or the growth of it, in the
narrowest unsigned type: exactly the same numbers, because all of it is counted modulo 2⁶⁴.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic.persistence._errors import ModelFileError

__all__ = ["WIDTHS", "narrow", "widened"]

WIDTHS = ("u1", "u2", "u4")
WORTH = 256  # bytes of an array
_ALL = 2**64

Array = npt.NDArray[Any]


def narrow(flat: Array) -> tuple[Array, dict[str, Any]] | None:
    """An array of shape (n,) in a narrower type, and what `widened` needs to know; None where there is no gain."""
    if flat.dtype.kind not in "iuMm" or not flat.dtype.isnative or flat.dtype.itemsize == 1 or flat.nbytes < WORTH:
        return None
    whole = flat.view(np.int64) if flat.dtype.kind in "Mm" else flat
    least = int(whole.min())
    numbers = whole.astype(np.uint64)
    numbers -= np.uint64(least % _ALL)
    step = int(np.gcd.reduce(numbers)) or 1
    if step > 1:
        numbers //= np.uint64(step)
    width, grows = _width(numbers), False
    if (numbers[1:] >= numbers[:-1]).all():
        growth = np.diff(numbers, prepend=np.uint64(0))
        if _width(growth) < width:
            numbers, width, grows = growth, _width(growth), True
    if width >= flat.dtype.itemsize:
        return None
    return numbers.astype(f"<u{width}"), {"as": f"u{width}", "least": least, "step": step, "grows": grows}


def widened(packed: Array, told: Mapping[str, Any], out: Array) -> None:
    """Write what `narrow` was given into `out`, of shape (n,) and the dtype that there was."""
    if out.dtype.kind not in "iuMm" or type(told["least"]) is not int or type(told["step"]) is not int:
        raise ModelFileError(f"An array of {out.dtype} is not one of whole numbers.")
    bits = 8 * out.dtype.itemsize
    numbers = out.view(f"u{out.dtype.itemsize}")  # what comes out right modulo 2⁶⁴ does so modulo less
    if told["grows"]:
        np.cumsum(packed, out=numbers)
    else:
        numbers[:] = packed
    if told["step"] != 1:
        numbers *= numbers.dtype.type(told["step"] % 2**bits)
    if told["least"]:
        numbers += numbers.dtype.type(told["least"] % 2**bits)


def _width(numbers: Array) -> int:
    """Bytes that the largest number needs."""
    bits = int(numbers.max()).bit_length()
    return next((width for width in (1, 2, 4) if bits <= 8 * width), 8)
