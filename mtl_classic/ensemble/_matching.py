"""Members refitted on all rows may be surer of themselves than those of the folds.

A combiner is fitted on out-of-fold scores, so its coefficients suit their spread. With few labels early stopping may
end a refit at 150 rounds where the folds ended at 20; its logits are then three times as wide, and a coefficient that
was right out-of-fold is ruin. Rows without a label for the task were seen by neither: on them the two are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_classic._core.base import FitInput, Floats, Scores
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import take_rows
from mtl_classic.ensemble._links import to_link
from mtl_classic.ensemble._store import OutOfFold
from mtl_classic.model_selection._folds import Rows

__all__ = ["Matching", "match_members"]

LEAST_ROWS = 200  # fewer rows tell the spread too badly
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Matching:
    """A shift and a factor on the link's scale: η → to + (η − at) · factor."""

    at: Floats
    to: Floats
    factor: float

    def __call__(self, eta: Floats) -> Floats:
        """Link scores of a refitted member as the folds' members would give them."""
        return np.asarray(self.to + (eta - self.at) * self.factor)


def match_members(members: Mapping[str, Any], store: OutOfFold, given: FitInput) -> dict[str, dict[str, Matching]]:
    """For each member and each task with enough unlabelled rows that a fold covers, how to bring its scores back."""
    compared: dict[str, Rows] = {}
    for task in store.tasks:
        rows = np.flatnonzero(np.isnan(given.counted(task.name)) & (store.fold >= 0))
        if task.kind != "ranking" and len(rows) >= LEAST_ROWS:
            compared[task.name] = rows[:: max(1, len(rows) // MOST_ROWS)]
    found: dict[str, dict[str, Matching]] = {name: {} for name in members}
    if not compared:
        return found
    scored = np.unique(np.concatenate(list(compared.values())))  # once for all tasks: often the same rows lack labels
    table = take_rows(given.X, scored)
    for name, member in members.items():
        scores: Scores = member._scores(member._start_predict(table), "entire")
        for task in store.tasks:
            if task.name in compared:
                rows = compared[task.name]
                refitted = scores[task.name][np.searchsorted(scored, rows)]
                found[name][task.name] = _match(task, store.scores[name][task.name][rows], refitted)
    return found


def _match(task: Task, folds: Floats, refitted: Floats) -> Matching:
    wanted, own = to_link(task.kind, folds), to_link(task.kind, refitted)
    center, at = wanted.mean(axis=0), own.mean(axis=0)
    spread = float(np.sqrt(((own - at) ** 2).mean()))
    factor = float(np.sqrt(((wanted - center) ** 2).mean())) / spread if spread > 1e-12 else 1.0
    return Matching(at, center, factor)
