"""A structure in two stages: first without the validation rows, to be judged on them; then on all rows, if wanted."""

from __future__ import annotations

import time as clock
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.random import root_seed, seeds_within
from mtl_classic._core.validation import take_rows, with_index_of
from mtl_classic.learners._protocol import Rows
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._structure import LearnerStructure
from mtl_classic.multitask._workbench import Workbench

__all__ = ["Stage", "stage"]


class Stage(Protocol):
    """A structure that has not seen the validation rows."""

    held_out: Any
    seconds: float  # that this stage took; the other takes about as long

    def final(self, random_state: int | None = None) -> Any:
        """The structure fitted on all rows; another ``random_state`` gives a sibling of it."""
        ...


def stage(
    structure: MultiTaskEstimator,
    X: Any,
    Y: Any,
    split: tuple[Rows, Rows],
    *,
    sample_weight: Any = None,
    like: Stage | None = None,
    shared: bool = True,
) -> Stage:
    """Fit a clone of the structure on the training rows of a split; boosters stop by its validation rows.

    Where the structure is made of learners, its two stages together are its ``fit``, to the bit and at its cost, and a
    sibling costs the second stage only. Any other estimator is fitted anew on all rows.

    Parameters
    ----------
    structure : unfitted estimator
    X : table of shape (n, n_features)
    Y : labels of shape (n,) or (n, n_tasks)
    split : (training rows, validation rows)
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
    like : Stage, default=None
        Of another structure on the same rows, whose encoded features and labels are shared.
    shared : bool, default=True
        Whether further stages may be ``like`` this one; else its encoded features go once they are binned.
    """
    Y = with_index_of(X, Y)
    plan = FoldPlan((split,), len(Y))
    began = clock.monotonic()
    if isinstance(structure, LearnerStructure) and hasattr(structure, "_fit_on"):
        fresh: Any = clone(structure)
        earlier = like.bench if isinstance(like, _BenchStage) else None
        bench = replace(fresh._open(X, Y, sample_weight, plan, earlier), phase="held out")
        fresh._fit_on(bench)
        if bench.refit and not shared:
            bench = replace(bench, features=bench.features.take(np.empty(0, dtype=np.intp)))
        return _BenchStage(fresh, bench, clock.monotonic() - began)
    rows = np.sort(split[0])
    weight = None if sample_weight is None else take_rows(sample_weight, rows)
    held_out = clone(structure).fit(take_rows(X, rows), take_rows(Y, rows), sample_weight=weight)
    return _RefitStage(held_out, structure, X, Y, sample_weight, plan, clock.monotonic() - began)


@dataclass
class _BenchStage:
    """On a bench that stays open: features, bins and rounds are those of the first stage."""

    held_out: Any
    bench: Workbench
    seconds: float

    def final(self, random_state: int | None = None) -> Any:
        model = copy(self.held_out)
        if random_state is not None:
            model.random_state = random_state
        seed = self.bench.seed if random_state is None else root_seed(random_state)
        phase = "final" if self.bench.refit else "whole"  # without a refit the first fits are those that count
        model._fit_on(replace(self.bench, phase=phase, seed=seed))
        return model


@dataclass
class _RefitStage:
    """By a second fit, which stops by the validation rows as it would alone."""

    held_out: Any
    structure: Any
    X: Any
    Y: Any
    sample_weight: Any
    plan: FoldPlan
    seconds: float

    def final(self, random_state: int | None = None) -> Any:
        model = clone(self.structure)
        if random_state is not None:
            seeds = seeds_within(model, random_state)
            model.set_params(**seeds | ({"random_state": random_state} if "random_state" in seeds else {}))
        return model.fit(self.X, self.Y, sample_weight=self.sample_weight, plan=self.plan)
