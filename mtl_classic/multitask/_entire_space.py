"""The second stage of a joint funnel: trees for the children by the gradient of the entire space, through the product.

Where every parent is labelled, the likelihood of a funnel falls apart into its conditional models, and the gradient
through the product, which does not know who came through the parent, says less about a child than its own rows do. What
it does know are the errors that the steps make together. So the product comes first, and this corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from scipy.special import expit

from mtl_classic._core.losses import EPSILON, losses
from mtl_classic.learners._protocol import Floats, Rows

__all__ = ["EntireSpace", "FunnelRounds", "Steps", "steps_on"]

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Steps:
    """The binary steps of a funnel on some rows.

    Attributes
    ----------
    names : tuple of str
        All steps, roots included.
    paths : dict child -> tuple of str
        The child and its ancestors. These children are moved.
    margins : dict name -> ndarray of shape (n,)
        Of each step given its parent, by the first stage.
    labels : dict child -> (ndarray of shape (n,), ndarray of shape (n,))
        Labels in the entire space, 0 where there is none, and weights, 0 where there is none.
    """

    names: tuple[str, ...]
    paths: Mapping[str, tuple[str, ...]]
    margins: Mapping[str, Floats]
    labels: Mapping[str, tuple[Floats, Floats]]

    def probabilities(self, moves: Floats) -> dict[str, Floats]:
        """Of each step given its parent, after moves of shape (n, n_children)."""
        p = {name: np.asarray(expit(self.margins[name])) for name in self.names}
        for j, child in enumerate(self.paths):
            p[child] = np.asarray(expit(self.margins[child] + moves[:, j]))
        return p

    def losses(self, moves: Floats) -> Floats:
        """Weighted log-loss of each row and child in the entire space, of shape (n, n_children); 0 without a label."""
        p = self.probabilities(moves)
        out = np.zeros((len(moves), len(self.paths)))
        for j, (child, path) in enumerate(self.paths.items()):
            y, weight = self.labels[child]
            out[:, j] = weight * losses("binary", y, np.prod([p[name] for name in path], axis=0))
        return out


class EntireSpace:
    r"""Log-loss of every child in the entire space, moved by the child's margin alone.

    Of :math:`P = \prod_b \sigma(m_b)` over a child c and its ancestors it has

    .. math:: \frac{\partial L}{\partial m_c} = (1 - p_c) \left(-y + (1 - y) \frac{P}{1 - P}\right),

    and the expected hessian is :math:`(1 - p_c)^2 P / (1 - P)`. A child moves its own margin only: to let rare children
    move their parents made the parents worse.

    Parameters
    ----------
    steps : Steps
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    @property
    def n_outputs(self) -> int:
        """One for each child."""
        return len(self.steps.paths)

    def gradients(self, margins: Floats) -> tuple[Singles, Singles]:
        """Gradients and hessians of one round, of shape (n, n_outputs)."""
        p = self.steps.probabilities(margins)
        g, h = np.zeros((2, len(margins), self.n_outputs))
        for j, (child, path) in enumerate(self.steps.paths.items()):
            y, weight = self.steps.labels[child]
            product = np.prod([p[name] for name in path], axis=0)
            odds = product / np.maximum(1 - product, EPSILON)
            g[:, j] = weight * (1 - p[child]) * (-y + (1 - y) * odds)
            h[:, j] = weight * np.maximum((1 - p[child]) ** 2 * odds, 1e-16)
        return g.astype(np.float32), h.astype(np.float32)


class FunnelRounds(xgb.callback.TrainingCallback):
    """The round at which the children's loss has surely fallen most since round 0, the product.

    Surely: the change of the mean loss of the validation rows, plus its standard error over the rows, is least. With
    the mean alone a handful of rare labels would decide.
    """

    def __init__(self, steps: Steps, patience: int) -> None:
        self.steps, self.patience = steps, patience
        n = len(next(iter(steps.margins.values())))
        self.start = steps.losses(np.zeros((n, len(steps.paths)))).sum(axis=1)
        self.history = [0.0]

    @property
    def best(self) -> int:
        """Rounds to keep; 0 if nothing is better than the product."""
        return int(np.argmin(self.history))

    def metric(self, predt: Any, data: Any) -> tuple[str, float]:
        """Keep the loss; under the name of a metric, because here XGBoost hands out the margins."""
        moves = np.asarray(predt, dtype=np.float64).reshape(-1, len(self.steps.paths))
        change = self.steps.losses(moves).sum(axis=1) - self.start
        self.history.append(float(change.mean() + change.std() / np.sqrt(len(change))))
        return "loss", self.history[-1]

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Whether the best round was long ago."""
        return len(self.history) - 1 - self.best >= self.patience


def steps_on(
    rows: Rows,
    children: Mapping[str, Sequence[str]],
    margins: Mapping[str, Floats],
    labels: Mapping[str, tuple[Floats, Floats]],
) -> Steps:
    """The steps on some rows, from margins and labels of all rows."""
    names = tuple(dict.fromkeys(name for path in children.values() for name in path))
    return Steps(
        names,
        {child: tuple(path) for child, path in children.items()},
        {name: margins[name][rows] for name in names},
        {child: (labels[child][0][rows], labels[child][1][rows]) for child in children},
    )
