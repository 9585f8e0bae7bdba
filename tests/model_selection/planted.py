"""An estimator whose quality is a known function of its settings, so that a search costs nothing but itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.validation import Table

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X.copy()
TASKS = {"y0": "regression", "y1": "regression"}


class Planted(MultiTaskEstimator):
    """Predicts a share of the label, which stands in X: the share is 1 where the settings are those of the task."""

    def __init__(
        self, tasks: Any = None, *, a: Any = 0.0, b: Any = 0.0, kind: str = "x", log: Any = None, n_jobs: Any = None,
        wait: float = 0.0,
    ) -> None:  # fmt: skip
        self.tasks = tasks
        self.a = a
        self.b = b
        self.kind = kind
        self.log = log
        self.n_jobs = n_jobs
        self.wait = wait

    def search_space(self) -> dict[str, Any]:
        return {"a": [-1.0, 0.0, 1.0]}

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> Planted:
        self._start_fit(X, Y, sample_weight)
        self.weighted_, self.events_ = sample_weight is not None, events
        if self.log is not None:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {self.a}\n")
        time.sleep(self.wait)
        if self.a == "broken":
            raise RuntimeError("it broke")
        return self

    def _scores(self, X: Table, space: str) -> Scores:
        centres = (-0.4, 0.4)  # the tasks want different settings: a front of trade-offs, and not a convex one
        worse = 0.2 if self.kind == "y" else 0.0
        values = np.asarray(X, dtype=np.float64)
        shares = [np.exp(-((self.a - c) ** 2) - (self.b - c) ** 2) - worse for c in centres]
        return {task.name: shares[j % 2] * values[:, j % 2] for j, task in enumerate(self.tasks_)}


def score_of(share: float) -> float:
    """What a task scores on labels of mean 0 whose share is predicted, but for the mean of the sample."""
    return 1 - (1 - share) ** 2
