"""From what a user writes as ``learner=`` to a learner for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone

from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import check_options
from mtl_classic._core.tasks import Task
from mtl_classic.learners._lightgbm import LightGBMLearner
from mtl_classic.learners._protocol import Learner
from mtl_classic.learners._sklearn import as_sklearn_learner, sklearn_alias
from mtl_classic.learners._xgboost import XGBoostLearner

__all__ = ["ALIASES", "TakesLearner", "resolve_learners"]

ALIASES = ("lightgbm", "xgboost", "linear", "svm", "forest", "extra_trees", "hist")


class TakesLearner:
    """Mixin of estimators with a parameter ``learner``, whose settings can be set where a name stands for it.

    ``PerTaskModel(learner="lightgbm").set_params(learner__num_leaves=7)`` makes the name a `LightGBMLearner` first.
    """

    learner: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with ``deep`` also those of the learner, and of a dict's as ``learner__task__param``."""
        params: dict[str, Any] = super().get_params(deep=deep)  # type: ignore[misc]
        learner = params.get("learner")
        for task, own in learner.items() if deep and isinstance(learner, Mapping) else ():
            params[f"learner__{task}"] = own
            if hasattr(own, "get_params"):
                params |= {f"learner__{task}__{name}": value for name, value in own.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters, also those of the learner as ``learner__param``, or ``learner__task__param`` in a dict."""
        learner = params.get("learner", getattr(self, "learner", None))
        if isinstance(learner, Mapping):
            nested = {key: params.pop(key) for key in list(params) if key.startswith("learner__")}
            params |= {"learner": _with_params(learner, nested)} if nested else {}
        elif isinstance(learner, str) and any(name.startswith("learner__") for name in params):
            params = params | {"learner": _resolve(learner)}
        return super().set_params(**params)  # type: ignore[misc]

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: that of the learner, if it is one for all tasks, and of other parts."""
        learner = getattr(self, "learner", None)
        nested: dict[str, Any] = super().search_space()  # type: ignore[misc]
        if isinstance(learner, str):
            nested |= {f"learner__{name}": values for name, values in _resolve(learner).search_space().items()}
        return nested


def _with_params(learners: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """A dict of learners with some replaced (``learner__task``) or of other settings (``learner__task__param``)."""
    changed = dict(learners)
    for key in sorted(params, key=lambda key: key.count("__")):  # a learner before its settings
        fitting = [task for task in changed if f"{key}__".startswith(f"learner__{task}__")]
        task = max(fitting, key=len, default=None)
        if task is None:
            raise ValueError(f"{key} sets no learner: learner= is a dict with the tasks {', '.join(changed)}.")
        name = key.removeprefix(f"learner__{task}").removeprefix("__")
        if not name:
            changed[task] = params[key]
            continue
        own = changed[task]
        changed[task] = (_resolve(own) if isinstance(own, str) else clone(own)).set_params(**{name: params[key]})
    return changed


def resolve_learners(learner: Any, tasks: Sequence[Task], option: str = "learner") -> dict[str, Learner]:
    """A learner for each task; tasks that share a learner share the object, and so its binned matrix.

    Parameters
    ----------
    learner : str, Learner, scikit-learn estimator, or dict task -> any of these
    tasks : sequence of Task
    option : str, default="learner"
        The name of the parameter, for errors.

    Raises
    ------
    ValueError
        On an unknown alias.
    TaskError
        If a dict leaves a task out or names an unknown one.
    """
    resolved = _by_task(learner, [task.name for task in tasks], option)
    for task in tasks:
        check_options(resolved[task.name])
        resolved[task.name].check_task(task)
    return resolved


def _by_task(learner: Any, names: Sequence[str], option: str) -> dict[str, Learner]:
    if not isinstance(learner, Mapping):
        return dict.fromkeys(names, _resolve(learner, option))
    missing, unknown = [n for n in names if n not in learner], [n for n in learner if n not in names]
    if missing or unknown:
        raise TaskError(
            f"{option}= must name every task: missing {missing}, unknown {unknown}; the tasks are {', '.join(names)}."
        )
    keys = {name: learner[name] if isinstance(learner[name], str) else id(learner[name]) for name in names}
    made = {key: _resolve(learner[name], option) for name, key in keys.items()}
    return {name: made[key] for name, key in keys.items()}


def _resolve(learner: Any, option: str = "learner") -> Learner:
    if isinstance(learner, Learner):
        return clone(learner)
    if isinstance(learner, str):
        if learner == "lightgbm":
            return LightGBMLearner()
        if learner == "xgboost":
            return XGBoostLearner()
        wrapped = sklearn_alias(learner)
        if wrapped is None:
            raise ValueError(
                f"{option}={learner!r} is unknown; expected one of {', '.join(ALIASES)}, a Learner, "
                f"a scikit-learn estimator, or a dict."
            )
        return wrapped
    if hasattr(learner, "fit") and hasattr(learner, "get_params"):
        return as_sklearn_learner(learner)
    found = f"the class {learner.__name__}; make one: {learner.__name__}()" if isinstance(learner, type) else None
    raise TypeError(
        f"{option} must be a name, a Learner, a scikit-learn estimator or a dict task -> learner, "
        f"got {found or type(learner).__name__}."
    )
