"""The funnel: each step is learnt where the step before it happened, and the steps are multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mtl_classic._core.base import Scores
from mtl_classic._core.exceptions import TaskError
from mtl_classic._core.options import MAPPING, Option, check_option, list_of
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic._core.validation import Table, row_index
from mtl_classic.learners._protocol import Floats, TaskFit
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._routes import (
    Key,
    better_routes,
    by_route,
    combine,
    conditional,
    has_entire_space,
    keys_of,
)
from mtl_classic.multitask._structure import LearnerStructure, predict_components
from mtl_classic.multitask._workbench import Component, Workbench, conditional_labels, hurdle_labels

__all__ = ["FunnelModel"]

MODES = ("product", "direct", "average", "auto")
HURDLE_SHARE = 0.5  # a label is zero-inflated if at least this share of it is zero


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
    mode : {"product", "direct", "average", "auto"} or dict task -> one of the first three, default="product"
        ``"product"``: conditional models, multiplied. ``"direct"``: models of the entire space, as in `PerTaskModel`.
        ``"average"``: the mean of the two. ``"auto"``: for each child the product, unless another has less loss on the
        validation rows beyond the noise (paired bootstrap by user, else query, else row; Holm over the children).
    hurdle : None, "auto" or list of str, default=None
        Count or regression tasks without parent that are modelled as P(y ≠ 0) · E[y given y ≠ 0]; ``"auto"``: those
        of which at least half is zero.
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
    fallbacks_ : dict task -> str
        Children that ``mode="auto"`` took off the product, and why.
    fits_ : dict (task, part) -> fitted learner
    columns_ : FeatureColumns
        Which columns are features, and the categories of each.

    Notes
    -----
    Where a parent is unlabelled its children's steps learn nothing: of what did not happen there, nobody knows whether
    the parent did; but for amounts, where no positive parent has a 0. Where parents are mostly unknown, ``"direct"``
    learns from more rows; ``"auto"`` takes it where the validation rows say so beyond the noise.

    Cost: one binning, then a fit per task on the rows of its condition. With ``"average"`` and ``"auto"`` also a fit
    per child on all rows. ``"auto"`` judges by what ``early_stopping`` holds out: without it the product stays. So that
    learners that do not stop early can be judged, they are fitted once more, without those rows.

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
    fallbacks_: dict[str, str]
    _options: ClassVar[dict[str, Option]] = {"mode": (*MODES, MAPPING), "hurdle": ("auto", list_of("tasks"), None)}

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        mode: str | Mapping[str, str] = "product",
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
        self._fit_on(self._open(X, Y, sample_weight, plan))
        return self

    def _fit_on(self, bench: Workbench) -> None:
        self._check_mode()
        hurdles = self._hurdles(bench)
        for name in sorted(hurdles):
            bench.learners[name].check_task(Task(name, "binary"))
        parts: dict[Key, Component] = {}
        for task in fitting_order(bench.targets.tasks):
            parts |= self._fit_parts(bench, task, hurdles)
        if not self._has_chosen(bench):
            self.routes_ = {task.name: self._route(task, hurdles) for task in self.tasks_}
            self.fallbacks_ = {}
        if self.mode == "auto" and bench.phase != "final":
            self._choose(bench, parts)
        needed = {key for task in self.tasks_ for key in keys_of(task, self.routes_[task.name])}
        self.fits_ = {key: part.fit for key, part in parts.items() if key in needed}

    def _fit_parts(self, bench: Workbench, task: Task, hurdles: set[str]) -> dict[Key, Component]:
        name = task.name
        if name in hurdles:
            learnt = hurdle_labels(task, bench.targets.view(name))
            return {(name, part): bench.fit(own, y, part) for part, (own, y) in learnt.items()}
        parts = {}
        judged = self.mode == "auto"
        mode = self.routes_[name] if self._has_chosen(bench) else self._mode(task)
        if has_entire_space(task) and mode != "product":
            parts[name, "entire"] = bench.fit_entire(task, judged=judged)
        if not has_entire_space(task):  # the same as in a PerTaskModel, to the bit
            parts[name, "conditional"] = bench.fit(task, bench.targets.view(name, "conditional"), judged=judged)
        elif mode != "direct":
            y = conditional_labels(bench.targets, task)
            parts[name, "conditional"] = bench.fit(task, y, "conditional", judged=judged)
        return parts

    def _route(self, task: Task, hurdles: set[str]) -> str:
        if task.name in hurdles:
            return "hurdle"
        if not has_entire_space(task):
            return "root"
        return "product" if self.mode == "auto" else self._mode(task)

    def _mode(self, task: Task) -> str:
        return self.mode if isinstance(self.mode, str) else self.mode.get(task.name, "product")

    def _has_chosen(self, bench: Workbench) -> bool:
        """Whether ``mode="auto"`` has chosen the routes in an earlier stage."""
        return self.mode == "auto" and bench.phase == "final"

    def _check_mode(self) -> None:
        if isinstance(self.mode, str):
            return
        for task, mode in self.mode.items():
            check_option(f"mode[{task!r}]", mode, MODES[:-1])
        children = {task.name for task in self.tasks_ if has_entire_space(task)}
        _refuse_others("mode", self.mode, children, "children (not multiclass or ranking ones) have a route to choose")

    def _hurdles(self, bench: Workbench) -> set[str]:
        able = {t.name for t in bench.targets.tasks if t.parent is None and t.kind in ("count", "regression")}
        if self.hurdle is None:
            return set()
        if isinstance(self.hurdle, str):
            return {name for name in able if _zero_share(bench, name) >= HURDLE_SHARE}
        _refuse_others("hurdle", self.hurdle, able, "count and regression tasks without parent can have one")
        return set(self.hurdle)

    def _choose(self, bench: Workbench, parts: dict[Key, Component]) -> None:
        """Take children off the product where another route is better on the validation rows beyond the noise.

        Judged are the tasks that, with all their ancestors, have enough validation labels to have been held out.
        """
        judged: dict[str, Task] = {}
        for task in fitting_order(self.tasks_):
            own = [part for (name, _), part in parts.items() if name == task.name]
            if all(part.held_out for part in own) and (task.parent is None or task.parent in judged):
                judged[task.name] = task
        if bench.split is None or not judged:
            return
        rows = bench.split[1]
        features = bench.features.take(rows)
        held_out = {
            key: part.held_out.predict(features, bench.threads)
            for key, part in parts.items()
            if part.held_out and key[0] in judged
        }
        labels = bench.targets.take(rows)
        weights = None if bench.weights is None else bench.weights[rows]
        clusters = None if bench.clusters is None else bench.clusters[rows]
        scores = by_route(tuple(judged.values()), self.classes_map_, self.routes_, held_out)
        for name, (route, why) in better_routes(scores, labels, weights, clusters).items():
            self.routes_[name], self.fallbacks_[name] = route, why

    def route_scores(self, X: Any) -> pd.DataFrame:
        """Entire-space scores of each child by every route whose parts are kept: columns ``task@route``.

        Kept are the parts of the route in use; those of the average are those of all three.

        Parameters
        ----------
        X : table of shape (n, n_features)

        Returns
        -------
        DataFrame
        """
        table = self._start_predict(X)
        parts = predict_components(self, table, self.fits_)
        return pd.DataFrame(by_route(self.tasks_, self.classes_map_, self.routes_, parts), index=row_index(table))

    def _scores(self, X: Table, space: str) -> Scores:
        return self._combined(predict_components(self, X, self.fits_), space)

    def _combined(self, parts: dict[Key, Floats], space: str) -> Scores:
        entire = combine(self.tasks_, self.classes_map_, self.routes_, parts)
        if space == "entire":
            return entire
        return conditional(self.tasks_, self.classes_map_, self.routes_, parts, entire)


def _refuse_others(option: str, names: Iterable[str], able: set[str], rule: str) -> None:
    wrong = sorted(map(str, set(names) - able))
    if wrong:
        there = ", ".join(sorted(able)) or "here none"
        raise TaskError(f"{option} names {', '.join(wrong)}; only {rule}: {there}.")


def _zero_share(bench: Workbench, name: str) -> float:
    """Of the rows that count; 0 if none does."""
    y = bench.targets.view(name)
    known = ~np.isnan(y)
    if bench.weights is not None:
        known &= bench.weights[:, bench.targets.position(name)] > 0
    return float((y[known] == 0).mean()) if known.any() else 0.0
