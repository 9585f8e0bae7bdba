"""Seeds that depend on names, not on order: one task more or less changes no other task's stream."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from sklearn.base import clone

__all__ = ["generator", "root_seed", "seeded", "seeds_within", "spawn_seed"]


def root_seed(random_state: Any) -> int:
    """The entropy from which all seeds of one fit are spawned.

    ``None`` draws fresh entropy; an int is itself; a ``RandomState`` or ``Generator`` gives its next number.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state must be a non-negative integer, got {random_state}.")
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 2**31 - 1))
    raise TypeError(
        f"random_state must be None, an int, a RandomState or a Generator, got {type(random_state).__name__}."
    )


def spawn_seed(root: int, *names: str | int) -> int:
    """A 31-bit seed from the root and a path of names (bit-stable over machines and processes)."""
    return int(_sequence(root, names).generate_state(1, np.uint32)[0] >> 1)


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A generator from the root and a path of names."""
    return np.random.default_rng(_sequence(root, names))


def seeds_within(estimator: Any, root: int, *names: str | int, unset: bool = False) -> dict[str, int]:
    """A seed for each ``random_state`` of an estimator and its parts, by its path; ``unset``: for those that are None.

    Learners are left out: a structure gives them the seeds of their tasks.
    """
    seeds = {}
    for name, value in estimator.get_params().items():
        *path, last = name.split("__")
        if last == "random_state" and "learner" not in path and not (unset and value is not None):
            seeds[name] = spawn_seed(root, *names, *path)
    return seeds


def seeded(estimator: Any, root: int, *names: str | int) -> Any:
    """A clone with seeds where there are none, but for parts of what has one."""
    given = [path.split("__") for path, value in estimator.get_params().items() if value is not None]
    told = tuple("".join(f"{part}__" for part in inside) for *inside, last in given if last == "random_state")
    seeds = seeds_within(estimator, root, *names, unset=True)
    return clone(estimator).set_params(**{path: seed for path, seed in seeds.items() if not path.startswith(told)})


def _sequence(root: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    key = tuple(zlib.crc32(name.encode()) if isinstance(name, str) else int(name) for name in names)
    return np.random.SeedSequence(root, spawn_key=key)
