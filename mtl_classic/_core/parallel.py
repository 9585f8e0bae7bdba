"""One thread budget, split between processes, boosters, BLAS and numba."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from joblib import effective_n_jobs
from threadpoolctl import ThreadpoolController

__all__ = ["n_threads", "openmp_budget", "openmp_limit", "split_budget", "thread_limit"]


def n_threads(n_jobs: int | None) -> int:
    """The number of threads that ``n_jobs`` stands for, as joblib counts: ``None`` is 1, ``-1`` all cores."""
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


def openmp_budget() -> int:
    """Threads that a call without ``n_jobs`` may use: what OpenMP would, and no more than there are cores.

    So ``OMP_NUM_THREADS``, a limit by threadpoolctl, and what joblib leaves to each of its workers are kept.
    """
    return max(1, min([n_threads(-1), *(pool.get_num_threads() for pool in _openmp())]))


@contextmanager
def openmp_limit(n: int) -> Iterator[None]:
    """Hold the OpenMP teams that this thread, and no other, calls together to ``n`` threads; takes microseconds."""
    pools = _openmp()
    before = [pool.get_num_threads() for pool in pools]
    for pool in pools:
        pool.set_num_threads(n)
    try:
        yield
    finally:
        for pool, n_before in zip(pools, before, strict=True):
            pool.set_num_threads(n_before)


def _openmp() -> list[Any]:
    return [pool for pool in _controller(len(sys.modules)).lib_controllers if pool.user_api == "openmp"]


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """The thread pools of the loaded libraries: finding them takes a millisecond, and only an import adds one."""
    return ThreadpoolController()
