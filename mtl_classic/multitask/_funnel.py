"""The funnel: each step is learnt where the step before it happened, and the steps are multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_classic._core.base import Scores
from mtl_classic._core.losses import task_loss
from mtl_classic._core.targets import Classes
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic._core.validation import Table
from mtl_classic.learners._protocol import Floats, TaskFit
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._structure import (
    LearnerStructure,
    condition_probability,
    hold_monotone,
    predict_components,
)
from mtl_classic.multitask._workbench import Component, Workbench

__all__ = ["FunnelModel"]

MODES = ("product", "direct", "average", "auto")
HURDLE_SHARE = 0.5  # a label is zero-inflated if at least this share of it is zero

Key = tuple[str, str]  # (task, part): "conditional", "entire", "happens", "amount"


class FunnelModel(LearnerStructure):
    r"""A funnel of tasks: view → cart → buy → spend, or any tree of ``given``.

    The chain rule holds exactly in the product:

    .. math:: P(child) = P(parent)\, P(child \mid parent), \qquad
              E[spend] = P(buy)\, E[spend \mid buy]

    so each conditional model sees only the rows whose parent is positive: a few percent of the rows, where its label
    says something. P(child) ≤ P(parent) always holds.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        Children name their parent with ``given``. Children are binary, count or regression; a multiclass or ranking
        child is predicted conditionally everywhere.
    mode : {"product", "direct", "average", "auto"}, default="product"
        ``"product"``: conditional models, multiplied. ``"direct"``: models of the entire space, as in `PerTaskModel`.
        ``"average"``: the mean of the two. ``"auto"``: for each child the one with the least loss on the validation
        rows; the product unless another is better.
    hurdle : None, "auto" or list of str, default=None
        Count or regression tasks without parent that are modelled as P(y ≠ 0) · E[y given y ≠ 0]; ``"auto"``: those of
        which at least half is zero.
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
    user, item, time, query : str, default=None
        Columns with a role. Time and query are no features; time also puts the validation rows last.
    exclude : sequence of str, default=()
        Further columns that are no features.
    max_categories : int, default=255
        Categorical columns with more values are no features.
    early_stopping : bool, default=True
        Boosters stop by the last fold of the plan, or by a split of their own.
    validation_fraction : float, default=0.1
        Size of that split.
    refit : bool, default=True
        Train again on all rows for the rounds found.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with non-zero children of negative parents.
    n_jobs : int, default=None
        Threads; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    tasks_ : tuple of Task
    routes_ : dict task -> "root", "hurdle", "product", "direct" or "average"
        How each task's entire-space score is made.
    validation_ : dict task -> dict route -> loss
        The losses behind ``mode="auto"``; empty otherwise.
    fits_ : dict (task, part) -> fitted learner

    Notes
    -----
    Cost: one binning, then a fit per task on the rows of its condition. With ``"average"`` and ``"auto"`` also a fit per
    child on all rows.

    References
    ----------
    Ma et al., Entire Space Multi-Task Model, SIGIR 2018, doi 10.1145/3209978.3210104 (the product, for networks);
    Cragg, Some Statistical Models for Limited Dependent Variables, Econometrica 1971, doi 10.2307/1909582 (the hurdle).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import FunnelModel, Task
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"price": rng.normal(size=500), "rank": rng.normal(size=500)})
    >>> click = (X["rank"] + rng.normal(size=500) > 0).astype(int)
    >>> Y = pd.DataFrame({"click": click, "buy": click * (X["price"] + rng.normal(size=500) < 0)})
    >>> tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    >>> scores = FunnelModel(tasks, random_state=0).fit(X, Y).predict_scores(X)
    >>> bool((scores["buy"] <= scores["click"]).all())
    True
    """

    fits_: dict[Key, TaskFit]
    routes_: dict[str, str]
    validation_: dict[str, dict[str, float]]

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        mode: str = "product",
        hurdle: str | Sequence[str] | None = None,
        learner: Any = "lightgbm",
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        query: str | None = None,
        exclude: Sequence[str] = (),
        max_categories: int = 255,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        refit: bool = True,
        on_conflict: str = "raise",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.tasks = tasks
        self.mode = mode
        self.hurdle = hurdle
        self.learner = learner
        self.user = user
        self.item = item
        self.time = time
        self.query = query
        self.exclude = exclude
        self.max_categories = max_categories
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.on_conflict = on_conflict
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> FunnelModel:
        """Fit the steps of the funnel, parents first.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
            A child may be NaN or 0 where its parent is negative.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Not used; accepted so that all structures are called alike.
        plan : FoldPlan, default=None
            Early stopping and ``mode="auto"`` use its last fold.

        Raises
        ------
        FunnelConflictError
            If a child is non-zero where its parent is negative and ``on_conflict="raise"``.
        """
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}.")
        bench = self._open(X, Y, sample_weight, plan)
        hurdles = self._hurdles(bench)
        parts: dict[Key, Component] = {}
        for task in fitting_order(bench.targets.tasks):
            parts |= self._fit_parts(bench, task, hurdles)
        self.routes_ = {task.name: self._route(task, hurdles) for task in self.tasks_}
        self.validation_ = {}
        if self.mode == "auto":
            self._choose(bench, parts)
        needed = {key for task in self.tasks_ for key in _keys(task, self.routes_[task.name])}
        self.fits_ = {key: part.fit for key, part in parts.items() if key in needed}
        return self

    def _fit_parts(self, bench: Workbench, task: Task, hurdles: set[str]) -> dict[Key, Component]:
        name = task.name
        if name in hurdles:
            y = bench.targets.view(name)
            happens = np.where(np.isnan(y), np.nan, (y != 0).astype(np.float64))
            amount = np.where(y != 0, y, np.nan)
            occurrence = Task(name, "binary")
            return {
                (name, "happens"): bench.fit(occurrence, happens, "happens"),
                (name, "amount"): bench.fit(task, amount, "amount"),
            }
        parts = {}
        if _has_entire_space(task) and self.mode != "product":
            parts[name, "entire"] = bench.fit(task, bench.targets.view(name, "entire"))
        if not _has_entire_space(task) or self.mode != "direct":
            parts[name, "conditional"] = bench.fit(task, bench.targets.view(name, "conditional"), "conditional")
        return parts

    def _route(self, task: Task, hurdles: set[str]) -> str:
        if task.name in hurdles:
            return "hurdle"
        if not _has_entire_space(task):
            return "root"
        return "product" if self.mode == "auto" else self.mode

    def _hurdles(self, bench: Workbench) -> set[str]:
        able = {t.name for t in bench.targets.tasks if t.parent is None and t.kind in ("count", "regression")}
        if self.hurdle is None:
            return set()
        if isinstance(self.hurdle, str):
            if self.hurdle != "auto":
                raise ValueError(f'hurdle must be None, "auto" or a list of tasks, got {self.hurdle!r}.')
            return {name for name in able if _zero_share(bench.targets.view(name)) >= HURDLE_SHARE}
        wrong = sorted(set(self.hurdle) - able)
        if wrong:
            raise ValueError(f"hurdle names {', '.join(wrong)}; only count and regression tasks without parent can have one: {sorted(able)}.")
        return set(self.hurdle)

    def _choose(self, bench: Workbench, parts: dict[Key, Component]) -> None:
        """Pick the route of each child, parents first, by the loss on the validation rows."""
        if bench.split is None or any(part.held_out is None for part in parts.values()):
            return
        rows = bench.split[1]
        features = bench.features.take(rows)
        held_out = {key: part.held_out.predict(features, bench.threads) for key, part in parts.items() if part.held_out}
        for task in fitting_order(bench.targets.tasks):
            if not _has_entire_space(task):
                continue
            y = bench.targets.view(task.name)[rows]
            weight = None if bench.weights is None else bench.weights[rows, bench.targets.position(task.name)]
            losses = {}
            for route in ("product", "direct", "average"):
                scores = combine(self.tasks_, self.classes_map_, self.routes_ | {task.name: route}, held_out)
                losses[route] = task_loss(task.kind, y, scores[task.name], weight)
            self.validation_[task.name] = losses
            self.routes_[task.name] = min(losses, key=lambda route: losses[route])

    def _scores(self, X: Table, space: str) -> Scores:
        parts = predict_components(self, X, self.fits_)
        entire = combine(self.tasks_, self.classes_map_, self.routes_, parts)
        if space == "entire":
            return entire
        return _conditional(self.tasks_, self.classes_map_, self.routes_, parts, entire)


def combine(tasks: Sequence[Task], classes: Classes, routes: Mapping[str, str], parts: Mapping[Key, Floats]) -> Scores:
    """Entire-space scores from the parts, parents first."""
    entire: Scores = {}
    for task in fitting_order(tasks):
        name, route = task.name, routes[task.name]
        if route == "root":
            entire[name] = parts[name, "conditional"]
        elif route == "hurdle":
            entire[name] = parts[name, "happens"] * parts[name, "amount"]
        elif route == "direct":
            entire[name] = parts[name, "entire"]
        else:
            product = condition_probability(task, tasks, classes, entire) * parts[name, "conditional"]
            entire[name] = product if route == "product" else (product + parts[name, "entire"]) / 2
    return hold_monotone(tasks, classes, entire)


def _conditional(
    tasks: Sequence[Task], classes: Classes, routes: Mapping[str, str], parts: Mapping[Key, Floats], entire: Scores
) -> Scores:
    scores = dict(entire)
    for task in tasks:
        if routes[task.name] in ("root", "hurdle"):
            continue
        if routes[task.name] == "product":
            scores[task.name] = parts[task.name, "conditional"]
            continue
        ratio = entire[task.name] / np.maximum(condition_probability(task, tasks, classes, entire), 1e-12)
        scores[task.name] = np.clip(ratio, 0.0, 1.0) if task.kind == "binary" else ratio
    return scores


def _keys(task: Task, route: str) -> list[Key]:
    parts = {
        "root": ("conditional",),
        "hurdle": ("happens", "amount"),
        "product": ("conditional",),
        "direct": ("entire",),
        "average": ("conditional", "entire"),
    }
    return [(task.name, part) for part in parts[route]]


def _has_entire_space(task: Task) -> bool:
    """Whether the task has two different views: multiclass and ranking children are conditional everywhere."""
    return task.parent is not None and task.kind not in ("multiclass", "ranking")


def _zero_share(y: Floats) -> float:
    known = y[~np.isnan(y)]
    return float((known == 0).mean())
