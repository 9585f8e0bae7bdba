"""How much each task gains from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from mtl_classic._core.base import FitInput
from mtl_classic._core.options import Kind, check_option
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import decode_targets
from mtl_classic._core.tasks import Task
from mtl_classic.learners._protocol import Floats
from mtl_classic.metrics._significance import compare_pairs
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._graph_edges import resolve_edges
from mtl_classic.multitask._task_graph import TaskGraphModel

__all__ = ["task_affinity"]

GRAPH = Kind("a TaskGraphModel", lambda value: isinstance(value, TaskGraphModel))
Z = 3.92  # width of a normal 95 % interval in standard errors


def task_affinity(
    X: Any,
    Y: Any,
    *,
    tasks: Iterable[Task] | Mapping[str, str] | None = None,
    learner: Any = "lightgbm",
    model: TaskGraphModel | None = None,
    sample_weight: Any = None,
    plan: FoldPlan | None = None,
    cv: Any = 5,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> pd.DataFrame:
    r"""How much the out-of-fold loss of each task falls when a line may also read the logit of another task.

    .. math:: \text{gain}(s \to t) = 1 - \frac{L_t(z_t, z_s)}{L_t(z_t)}

    where both lines are fitted on out-of-fold logits and judged on folds they did not see.

    Parameters
    ----------
    X : table of shape (n, n_features)
    Y : labels of shape (n, n_tasks), NaN where unlabelled
    tasks : list of Task, dict name -> kind, or None, default=None
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
    model : TaskGraphModel, default=None
        An unfitted model whose roles and settings are used in place of ``tasks``, ``learner`` and those that follow.
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
    plan : FoldPlan, default=None
    cv : int, splitter, Temporal or array of fold numbers, default=5
    n_jobs : int, default=None
    random_state : int, RandomState or None, default=None

    Returns
    -------
    DataFrame
        Index (source, target); columns ``gain`` (relative), ``standard_error`` (of the gain, by the paired bootstrap),
        ``p_value`` (after Holm over all pairs) and ``verdict``: "better", "worse" or "same". Pairs whose target cannot
        be combined (too few labels, constants) are left out.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import task_affinity
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 5))
    >>> Y = pd.DataFrame({"rating": X.sum(axis=1) + rng.normal(size=400), "liked": (X.sum(axis=1) > 0) * 1.0})
    >>> Y.loc[40:, "liked"] = np.nan
    >>> table = task_affinity(X, Y, learner="linear", cv=3, random_state=0)
    >>> bool(table.loc[("rating", "liked"), "gain"] > 0)
    True
    """
    check_option("model", model, (GRAPH, None))
    graph = (
        clone(model)
        if model is not None
        else TaskGraphModel(tasks, learner=learner, cv=cv, n_jobs=n_jobs, random_state=random_state)
    )
    given: FitInput = graph._start_fit(X, Y, sample_weight)
    seed = root_seed(graph.random_state)
    plan = graph._plan(given, seed) if plan is None else plan
    base = graph._learners(graph.tasks_, graph.learner, spawn_seed(seed, "base"))
    held = graph._out_of_fold(base, given, decode_targets(given.targets), plan)
    by_name = {task.name: task for task in graph.tasks_}
    able = held.able()
    pairs = [edge for edge in resolve_edges("dense", graph.tasks_) if edge[1] in able]
    alone = {
        name: held.losses(by_name[name], held.cross(by_name[name], held.columns(by_name[name], []))) for name in able
    }
    index = pd.MultiIndex.from_tuples([edge[:2] for edge in pairs], names=["source", "target"])
    if not pairs:
        return pd.DataFrame(columns=["gain", "standard_error", "p_value", "verdict"], index=index, dtype=np.float64)

    def judged() -> Iterator[tuple[str, Floats, Floats, Floats]]:
        for edge in pairs:
            source, target = edge[:2]
            task = by_name[target]
            shared = held.losses(task, held.cross(task, held.columns(task, [edge])))
            yield f"{source} -> {target}", shared, alone[target], held.loss_weight(task)

    table = compare_pairs(judged(), clusters=held.clusters)
    result = pd.DataFrame(
        {
            "gain": -table["difference"] / table["baseline"],
            "standard_error": (table["difference_high"] - table["difference_low"]) / Z / table["baseline"],
            "p_value": table["p_value"],
            "verdict": table["verdict"],
        }
    )
    return result.set_axis(index, axis=0)
