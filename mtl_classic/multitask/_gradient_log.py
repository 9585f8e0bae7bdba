"""How the tasks' gradients agree while they are boosted together, and what that and the labels advise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["EVERY", "GradientLog", "advice"]

EVERY = 10  # rounds between two looks
UNRELATED = 0.05  # a mean cosine nearer to 0 than this: the tasks want different splits
IMBALANCE = 20  # times fewer labels than the task with most


@dataclass
class GradientLog:
    r"""Cosines of the gradients of every two tasks over the rows that have both labels.

    .. math:: \cos(s, t) = \frac{\sum_i g_{is} g_{it}}{\sqrt{\sum_i g_{is}^2 \sum_i g_{it}^2}}

    Near 1 the same splits serve both; near -1 too, because a leaf holds a value for each; near 0 they compete for the
    splits. A task of several classes is left out: it has several gradients.
    """

    names: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    cosines: list[npt.NDArray[np.float64]] = field(default_factory=list)
    common: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    seen: int = 0

    def look(self, gradients: npt.NDArray[Any], blocks: Sequence[Any]) -> None:
        """Count a round, and now and then compare the gradients of shape (n, n_outputs)."""
        at, self.seen = self.seen, self.seen + 1
        single = [block for block in blocks if block.width == 1]
        if at % EVERY or not single:
            return
        self.names = [block.task.name for block in single]
        self.rounds.append(at)
        known = np.column_stack([block.weight > 0 for block in single]).astype(np.float64)
        g = gradients[:, [block.start for block in single]].astype(np.float64) * known
        self.common = known.T @ known
        squares = g**2
        scale = np.sqrt((squares.T @ known) * (known.T @ squares))
        self.cosines.append(np.divide(g.T @ g, scale, out=np.full(scale.shape, np.nan), where=scale > 0))

    def frame(self) -> pd.DataFrame:
        """Index (round, task), a column per task; NaN where no row has both labels."""
        index = pd.MultiIndex.from_product([self.rounds, self.names], names=["round", "task"])
        values = np.concatenate(self.cosines) if self.cosines else np.empty((0, len(self.names)))
        return pd.DataFrame(values, index=index, columns=self.names)


def advice(log: GradientLog, n_labels: Mapping[str, int]) -> list[str]:
    """What to think of, in words: tasks that compete for splits, and tasks with few labels beside the others.

    Parameters
    ----------
    log : GradientLog
    n_labels : dict task -> int
    """
    found: list[str] = []
    most = max(n_labels.values(), default=0)
    for name, n in n_labels.items():
        if n * IMBALANCE <= most:
            found.append(
                f"{name} has {n:,} labels, the task with most {most:,}: it is read off splits that others have found. "
                f"Compare it with its own learner (fallback=), or weigh it (task_weights=)."
            )
    if not log.cosines:
        return found
    noise = 3 / np.sqrt(np.maximum(log.common, 1.0))
    mean = np.abs(np.mean(log.cosines, axis=0))
    related = mean > np.maximum(noise, UNRELATED)
    np.fill_diagonal(related, False)
    for k, name in enumerate(log.names):
        if len(log.names) > 1 and not related[k].any():
            found.append(
                f"The gradients of {name} agree with those of no other task beyond the noise: it competes with them "
                f"for splits and is likely better alone."
            )
    return found
