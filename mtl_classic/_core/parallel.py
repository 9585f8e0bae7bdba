"""One thread budget, split between processes, boosters, BLAS and numba."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from numbers import Integral

from joblib import effective_n_jobs
from threadpoolctl import ThreadpoolController

__all__ = ["n_threads", "split_budget", "thread_limit"]


def n_threads(n_jobs: int | None) -> int:
    """The number of threads that ``n_jobs`` stands for, as joblib counts: ``None`` is 1, ``-1`` all cores."""
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral)):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs=0 is no number of threads; None is one, -1 all cores, -2 all but one.")
    return int(effective_n_jobs(n_jobs))


def split_budget(n_jobs: int | None, n_units: int) -> tuple[int, int]:
    """Workers and threads for each worker, for ``n_units`` independent pieces of work."""
    budget = n_threads(n_jobs)
    workers = max(1, min(budget, n_units))
    return workers, max(1, budget // workers)


@contextmanager
def thread_limit(n: int) -> Iterator[None]:
    """Hold BLAS, OpenMP and (where it is loaded) numba to ``n`` threads."""
    numba = sys.modules.get("numba")
    before = numba.get_num_threads() if numba else None
    if numba:
        numba.set_num_threads(max(1, min(n, numba.config.NUMBA_NUM_THREADS)))
    try:
        with _controller(len(sys.modules)).limit(limits=n):
            yield
    finally:
        if numba:
            numba.set_num_threads(before)


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """The thread pools of the loaded libraries: finding them takes a millisecond, and only an import adds one."""
    return ThreadpoolController()
