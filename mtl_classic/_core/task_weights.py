"""Task weights: how much each task counts in joint losses and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.tasks import Task

__all__ = ["check_task_weights"]


def check_task_weights(task_weights: Mapping[str, float] | None, tasks: Sequence[Task]) -> npt.NDArray[np.float64]:
    """Weights of the tasks in their order, scaled to a mean of one.

    Parameters
    ----------
    task_weights : dict name -> weight, or None
        ``None``: all equal. Tasks that the dict does not name have weight 1.
    tasks : sequence of Task

    Returns
    -------
    ndarray of shape (n_tasks,)

    Raises
    ------
    TaskError
        On names that are no task, negative or non-finite weights, or only zeros.
    """
    names = [task.name for task in tasks]
    if task_weights is None:
        return np.ones(len(names))
    if not isinstance(task_weights, Mapping):
        raise TypeError(f"task_weights must be None or a dict name -> weight here, got {type(task_weights).__name__}.")
    given: dict[str, Any] = dict(task_weights)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise TaskError(f"task_weights names unknown tasks: {', '.join(unknown)}; the tasks are {', '.join(names)}.")
    weights = np.array([float(given.get(name, 1.0)) for name in names])
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise TaskError(f"task_weights must be finite, non-negative and not all zero, got {given}.")
    return weights * (len(names) / weights.sum())
