"""A few threads that unpack members and parse boosters, while Python puts the model together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mtl_classic._core.parallel import openmp_budget

__all__ = ["Workers", "workers"]

_WORTH = 2**18  # bytes of a file; smaller ones are read before threads have started
_MOST = 8  # threads: what Python does alone takes as long as an eighth of the rest


class Workers:
    """Runs functions that spend their time outside of Python; without a pool, one after the other.

    Whatever the threads, results come in the order of the calls, and so does the first error.

    Parameters
    ----------
    pool : ThreadPoolExecutor or None
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    @property
    def are_many(self) -> bool:
        """Whether a call is worth starting before its result is needed."""
        return self._pool is not None

    def results(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Result of `work` for each item."""
        return map(work, items) if self._pool is None else self._pool.map(work, items)

    def started(self, work: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
        """Start the work; a function that waits for its result or raises its error."""
        if self._pool is None:
            return lambda: work(item)
        return self._pool.submit(work, item).result


@contextmanager
def workers(n_bytes: int) -> Iterator[Workers]:
    """Threads for a file of so many bytes, at most the budget; what is not begun when an error comes never is."""
    n = min(_MOST, openmp_budget()) if n_bytes >= _WORTH else 1
    if n == 1:
        yield Workers(None)
        return
    pool = ThreadPoolExecutor(n, thread_name_prefix="load_model")
    try:
        yield Workers(pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
