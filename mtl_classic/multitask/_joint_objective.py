"""One objective for all tasks: a rows × outputs matrix of gradients, zero where a label is missing.

Conventions: a task has a *block* of adjacent outputs (one, or one per class). Margins are raw scores; boosters start at
0, and each block adds the margin of its prior. Gradients g and hessians h are those of a proper loss, on a scale
where g² is about h while nothing is learnt (numbers divided by their spread, counts by their dispersion), so that the
gain Σ g² / Σ h of a split speaks the same language for every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from mtl_classic._core.listwise import gain_shares, query_softmax
from mtl_classic._core.losses import EPSILON, is_learnable, task_loss
from mtl_classic._core.task_weights import GradientWeights
from mtl_classic._core.tasks import Task
from mtl_classic.learners._protocol import Floats
from mtl_classic.multitask._gradient_log import GradientLog

__all__ = ["Block", "JointObjective", "make_block"]

Singles = npt.NDArray[np.float32]
Groups = npt.NDArray[np.intp]

MAX_DELTA = 0.7  # XGBoost's own guard of Poisson steps: the hessian is taken this far ahead


@dataclass(frozen=True)
class Block:
    """The outputs of one task, and its labels.

    Attributes
    ----------
    task : Task
    start, width : int
        Its outputs.
    y : ndarray of shape (n,)
        Labels, 0 where there is none.
    weight : ndarray of shape (n,)
        0 where there is no label.
    base : ndarray of shape (width,)
        Margins of the prior.
    center, spread : float
        A number's label is center + spread × margin.
    dispersion : float
        By how much g² exceeds h at the prior.
    groups : ndarray of shape (n,) or None
        Queries of a ranking task.
    """

    task: Task
    start: int
    width: int
    y: Floats
    weight: Floats
    base: Floats
    center: float = 0.0
    spread: float = 1.0
    dispersion: float = 1.0
    groups: Groups | None = None

    @property
    def columns(self) -> slice:
        """The block's outputs in the matrix."""
        return slice(self.start, self.start + self.width)

    def bare(self) -> Block:
        """Without the labels, which a fitted model need not carry."""
        nothing = np.empty(0)
        return replace(self, y=nothing, weight=nothing, groups=None)

    def scores(self, margins: Floats) -> Floats:
        """From raw outputs (n, n_outputs), less the prior's margins, to scores on the scale of the kind."""
        return self.to_scores(margins[:, self.columns] + self.base)

    def to_scores(self, raw: Floats) -> Floats:
        """From the block's own margins (n, width), the prior's included, to scores on the scale of the kind."""
        if self.task.kind == "multiclass":
            return np.asarray(softmax(raw, axis=1))
        if self.task.kind == "binary":
            return np.asarray(expit(raw[:, 0]))
        if self.task.kind == "count":
            return np.asarray(np.exp(np.minimum(raw[:, 0], 50.0)))
        return np.asarray(self.center + self.spread * raw[:, 0])

    def derivatives(self, margins: Floats) -> tuple[Floats, Floats]:
        """Gradient and hessian of the weighted loss, of shape (n, width)."""
        raw = margins[:, self.columns] + self.base
        g, h = _DERIVATIVES[self.task.kind](self, raw)
        weight = (self.weight / self.dispersion)[:, None]
        return g * weight, h * weight

    def loss(self, margins: Floats) -> float:
        """Weighted mean of the proper loss over the labelled rows; NaN without any."""
        y = np.where(self.weight > 0, self.y, np.nan)
        return task_loss(self.task.kind, y, self.scores(margins), self.weight, self.groups)


def make_block(
    task: Task, start: int, y: Floats, weight: Floats | None, n_classes: int = 0, groups: Groups | None = None
) -> Block:
    """The block of a task from its encoded labels (NaN, and -1 for classes, are unlabelled)."""
    known = is_learnable(task.kind, y)
    w = known.astype(np.float64) if weight is None else np.where(known, weight, 0.0)
    labels = np.where(known, y, 0.0)
    mean = float(np.average(labels, weights=w))
    if task.kind == "multiclass":
        share = np.bincount(labels.astype(np.intp), w, minlength=n_classes) / w.sum()
        return Block(task, start, n_classes, labels, w, np.log(np.maximum(share, EPSILON)))
    if task.kind == "binary":
        p = float(np.clip(mean, EPSILON, 1 - EPSILON))
        return Block(task, start, 1, labels, w, np.array([np.log(p / (1 - p))]))
    variance = float(np.average((labels - mean) ** 2, weights=w))
    if task.kind == "count":
        dispersion = max(variance / max(mean, EPSILON), 1.0)
        return Block(task, start, 1, labels, w, np.array([np.log(max(mean, EPSILON))]), dispersion=dispersion)
    if task.kind == "regression":
        return Block(task, start, 1, labels, w, np.zeros(1), center=mean, spread=float(np.sqrt(variance)) or 1.0)
    return Block(task, start, 1, labels, w, np.zeros(1), groups=groups)


def _binary(block: Block, raw: Floats) -> tuple[Floats, Floats]:
    p = expit(raw)
    return p - block.y[:, None], np.maximum(p * (1 - p), 1e-16)


def _multiclass(block: Block, raw: Floats) -> tuple[Floats, Floats]:
    p = softmax(raw, axis=1)
    g = p.copy()
    g[np.arange(len(p)), block.y.astype(np.intp)] -= 1.0
    return g, np.maximum(2 * p * (1 - p), 1e-16)


def _regression(block: Block, raw: Floats) -> tuple[Floats, Floats]:
    return raw - ((block.y - block.center) / block.spread)[:, None], np.ones_like(raw)


def _count(block: Block, raw: Floats) -> tuple[Floats, Floats]:
    mean = np.exp(np.minimum(raw, 50.0))
    return mean - block.y[:, None], mean * np.exp(MAX_DELTA)


def _ranking(block: Block, raw: Floats) -> tuple[Floats, Floats]:
    """Listwise: cross-entropy of the softmax of a query's scores against its shares of gain 2^y − 1."""
    if block.groups is None:
        raise ValueError(f"The ranking task {block.task.name!r} needs the query of each row.")
    known = block.weight > 0
    p = query_softmax(np.where(known, raw[:, 0], -np.inf), block.groups)
    share = gain_shares(np.where(known, block.y, 0.0), block.groups)
    tells = ~np.isnan(share)
    return np.where(tells, p - share, 0.0)[:, None], np.maximum(np.where(tells, p * (1 - p), 0.0), 1e-16)[:, None]


_DERIVATIVES = {
    "binary": _binary,
    "multiclass": _multiclass,
    "regression": _regression,
    "count": _count,
    "ranking": _ranking,
}


class JointObjective:
    r"""Gradients of all blocks, weighed task by task.

    Parameters
    ----------
    blocks : sequence of Block
    weights : GradientWeights
    log : GradientLog, default=None
        Looks at the gradients.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        weights: GradientWeights,
        log: GradientLog | None = None,
    ) -> None:
        self.log = log
        alone = len(blocks) == 1  # then there is nobody to agree on a scale with: the gradients are the library's own
        self.blocks = tuple(replace(block, dispersion=1.0) if alone else block for block in blocks)
        self.weights = weights
        self.prior_losses = np.array([block.loss(np.zeros((len(block.y), self.n_outputs))) for block in self.blocks])

    @property
    def n_outputs(self) -> int:
        """Columns of the matrix of margins."""
        return sum(block.width for block in self.blocks)

    def losses(self, margins: Floats) -> Floats:
        """Mean loss of each task relative to that of its prior."""
        losses = np.array([block.loss(margins) for block in self.blocks])
        return losses / np.where(self.prior_losses > 0, self.prior_losses, 1.0)

    def gradients(self, margins: Floats) -> tuple[Singles, Singles]:
        """Gradients and hessians of one round, of shape (n, n_outputs)."""
        losses = self.losses(margins) if self.weights.follows_losses else self.prior_losses
        share = self.weights.update(losses)
        g, h = np.zeros((2, len(margins), self.n_outputs))
        for k, block in enumerate(self.blocks):
            own = block.derivatives(margins)
            g[:, block.columns] += share[k] * own[0]
            h[:, block.columns] += share[k] * own[1]
        if self.log is not None:
            self.log.look(g, self.blocks)
        return g.astype(np.float32), h.astype(np.float32)
