"""Arrays with room behind their end, so that a log of years takes a day's events without being copied."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SPARE = 8  # one more row in so many; pages that nobody has written cost no memory


class Room:
    """A buffer of which logs show the front, read-only; what is shown is never written again.

    Parameters
    ----------
    parts : arrays of shape (n_i,), one after the other
    order : ndarray or None
        Their rows in the order wanted.
    """

    def __init__(self, *parts: Array, order: npt.NDArray[np.intp] | None = None) -> None:
        size = sum(map(len, parts))
        self.array = np.empty(size + size // SPARE + 1024, dtype=np.result_type(*parts))
        self.used = size
        self._lock = Lock()
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, out=self.array[:size])
        if order is not None:
            self.array[:size] = whole[order]
        elif len(parts) == 1:
            self.array[:size] = whole

    def front(self, size: int) -> Array:
        """The first rows, read-only."""
        view = self.array[:size]
        view.flags.writeable = False
        return view

    def take(self, size: int, tail: Array) -> bool:
        """Put rows behind the first `size`, if nobody has yet and there is room."""
        with self._lock:
            end = size + len(tail)
            if size != self.used or end > len(self.array) or np.result_type(self.array, tail) != self.array.dtype:
                return False
            self.array[size:end] = tail
            self.used = end
            return True
