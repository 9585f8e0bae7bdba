"""Task weights: how much each task counts in joint losses and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.tasks import Task

__all__ = [
    "ADAPTIVE",
    "BY_CV",
    "GradientWeights",
    "check_task_weights",
    "dynamic_weights",
    "fixed_task_weights",
    "gradient_weights",
    "uncertainty_weights",
]

Floats = npt.NDArray[np.float64]

ADAPTIVE = ("uncertainty", "dynamic")  # weights that follow the losses while a joint model is trained
BY_CV = "cv"  # weights that are chosen before it is
TEMPERATURE = 2.0  # of the dynamic weight average: the paper's


class GradientWeights(Protocol):
    """Weights of the tasks' columns in a rows × tasks matrix of gradients, round by round."""

    follows_losses: bool

    def update(self, losses: Floats) -> Floats:
        """Weights of the next round, of shape (n_tasks,) and mean one over the tasks that have a loss.

        ``losses`` are the mean training losses of this round, relative to those of the prior; NaN for none.
        """
        ...


def check_task_weights(
    task_weights: Mapping[str, float] | None, tasks: Sequence[Task], what: str = "task_weights"
) -> npt.NDArray[np.float64]:
    """Weights of the tasks in their order, scaled to a mean of one.

    Parameters
    ----------
    task_weights : dict name -> weight, or None
        ``None``: all equal. Tasks that the dict does not name have weight 1.
    tasks : sequence of Task
    what : str, default="task_weights"
        The parameter, for the errors.

    Returns
    -------
    ndarray of shape (n_tasks,)

    Raises
    ------
    TypeError
        On weights that are no dict, or no numbers.
    TaskError
        On names that are no task, negative or non-finite weights, or only zeros.
    """
    names = [task.name for task in tasks]
    if task_weights is None:
        return np.ones(len(names))
    if not isinstance(task_weights, Mapping):
        raise TypeError(
            f"{what} must be None, a dict name -> weight, or a name the estimator knows; got {task_weights!r}."
        )
    given: dict[str, Any] = dict(task_weights)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise TaskError(f"{what} names unknown tasks: {', '.join(unknown)}; the tasks are {', '.join(names)}.")
    if wrong := {name: weight for name, weight in given.items() if not isinstance(weight, Real)}:
        raise TypeError(f"{what} must be numbers, got {wrong}.")
    weights = np.array([float(given.get(name, 1.0)) for name in names])
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise TaskError(f"{what} must be finite, non-negative and not all zero, got {given}.")
    return weights * (len(names) / weights.sum())


def fixed_task_weights(task_weights: Any) -> Any:
    """What weighs the tasks in means: a name of weights that are found in training stands for equal ones there."""
    return None if isinstance(task_weights, str) and task_weights in (*ADAPTIVE, BY_CV) else task_weights


def gradient_weights(task_weights: Mapping[str, float] | str | None, tasks: Sequence[Task]) -> GradientWeights:
    r"""The weights that a joint loss asks for.

    ``None`` and a dict stay fixed. ``"uncertainty"``: the homoscedastic noise of each task at its best value for the
    losses so far, :math:`w_t \propto 1 / L_t`, so that tasks that are hard to learn pull less. ``"dynamic"``: the tasks
    whose loss falls slowest pull most, :math:`w_t \propto \exp(r_t / 2),\ r_t = L_t^{(k)} / L_t^{(k-1)}`.

    Parameters
    ----------
    task_weights : None, dict name -> weight, "uncertainty" or "dynamic"
    tasks : sequence of Task

    References
    ----------
    Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, doi
    10.1109/CVPR.2018.00781; Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, doi
    10.1109/CVPR.2019.00197 (dynamic weight average).
    """
    if isinstance(task_weights, str):
        if task_weights not in ADAPTIVE:
            names = ", ".join(map(repr, (*ADAPTIVE, BY_CV)))
            raise ValueError(f"task_weights must be None, a dict name -> weight, or {names}; got {task_weights!r}.")
        return _Uncertainty() if task_weights == "uncertainty" else _DynamicAverage()
    return _Fixed(check_task_weights(task_weights, tasks))


class _Fixed:
    follows_losses = False

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    def update(self, losses: Floats) -> Floats:
        return self.weights


class _Uncertainty:
    follows_losses = True

    def update(self, losses: Floats) -> Floats:
        return uncertainty_weights(losses)


class _DynamicAverage:
    follows_losses = True

    def __init__(self) -> None:
        self.before: Floats | None = None

    def update(self, losses: Floats) -> Floats:
        before, self.before = self.before, losses.copy()
        return dynamic_weights(losses, before)


def uncertainty_weights(losses: Floats) -> Floats:
    """1 / loss, which minimizes Σ exp(−s) loss + s over the s, scaled to a mean of 1; 1 without a loss."""
    return _to_mean_one(1.0 / np.maximum(losses, 1e-3))


def dynamic_weights(losses: Floats, before: Floats | None) -> Floats:
    """Softmax of the ratio of two rounds' losses, scaled to a mean of 1: tasks that improve slowly count more."""
    ratio = np.ones(len(losses)) if before is None else losses / np.maximum(before, 1e-12)
    return _to_mean_one(np.exp(ratio / TEMPERATURE))


def _to_mean_one(weights: Floats) -> Floats:
    known = np.isfinite(weights)
    return np.where(known, weights / weights[known].mean(), 1.0) if known.any() else np.ones(len(weights))
