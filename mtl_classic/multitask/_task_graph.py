"""A graph of tasks: out-of-fold predictions of some help others, where they do help."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone

from mtl_classic._core.base import FitInput, MultiTaskEstimator, Scores, query_codes
from mtl_classic._core.exceptions import ConstantTaskWarning, UnusedColumnsWarning
from mtl_classic._core.options import COUNT_OR_0, FOLDS, POSITIVE, TRUTH, Option
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.targets import decode_targets
from mtl_classic._core.task_weights import check_task_weights
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, role_values
from mtl_classic.learners._protocol import Floats
from mtl_classic.learners._resolve import TakesLearner
from mtl_classic.model_selection import FoldPlan, cross_fit
from mtl_classic.model_selection._plans import plan_for
from mtl_classic.multitask._edge_search import easiest_first, find_edges
from mtl_classic.multitask._graph_edges import Edge, final_order, in_order, resolve_edges, to_dot
from mtl_classic.multitask._linear_combiner import LinearCombiner
from mtl_classic.multitask._out_of_fold import OutOfFold
from mtl_classic.multitask._per_task import PerTaskModel
from mtl_classic.multitask._score_columns import SCALES, append_columns, as_columns, read_scores, source_columns
from mtl_classic.multitask._verdicts import words
from mtl_classic.multitask._workbench import telling_weights

__all__ = ["TaskGraphModel"]

COMBINERS = ("linear", "learner")
UNJUDGED = "no fold has scored rows to learn from, so that none can tell whether the others help"


class TaskGraphModel(TakesLearner, MultiTaskEstimator):
    r"""One learner per task, and edges along which out-of-fold predictions of one task help another.

    With the linear combiner, the score of task t is that of a generalized linear model of the logits :math:`z` of its
    own learner and of its sources,

    .. math:: g(\hat y_t) = \beta_0 + \beta_t z_t + \sum_{s \to t} \beta_s z_s, \qquad
              \text{penalty } \frac{\alpha}{2} \lVert \beta \rVert^2,

    fitted on predictions for rows that the learners did not see. With few labels that is what pays: a line has little
    variance. With ``combiner="learner"`` the columns are features of the target's learner beside all others.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from ``Y``.
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
    edges : {"dynamic", "dense", "serial"} or list of (source, target[, level]), default="dynamic"
        ``"dynamic"`` keeps an edge only if it lowers the out-of-fold loss of a linear combination beyond the noise,
        greedily, and at most four to a task. ``"dense"``: all pairs. ``"serial"``: a chain, in which each task reads
        all before it. The level ``"base"`` (the default in a list) reads the source's own learner, so edges may be
        mutual; ``"final"`` reads the source's combined prediction, so these edges order the fits.
    order : {"given", "found"} or list of task names, default="given"
        Of the chain. ``"found"``: from the task that its own learner predicts best to the one that it predicts worst,
        by the out-of-fold loss relative to that of the prior, so that errors travel least; ranking tasks come last.
    combiner : {"linear", "learner"}, default="linear"
    scale : {"logit", "probability"}, default="logit"
        Of the columns.
    penalty : float, default=1.0
        The :math:`\alpha` of the linear combiner, for columns of unit spread.
    max_edges : int, default=None
        Most edges that ``"dynamic"`` keeps: those of the greatest gain, times the weight of the target.
    fallback : bool, default=True
        Whether a task that its sources make worse out of fold, beyond the noise, keeps its own learner; also one of
        which no fold can tell, as where a plan has a single fold.
    task_weights : dict name -> weight, default=None
        Importance of the tasks under ``max_edges``, 1 where not named; a task of weight 0 gets no edges of
        ``"dynamic"``.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        Folds, unless a plan is given; blocks of time where there is a time.
    user, item, time, query : str, default=None
        Columns with a role, as in `PerTaskModel`; so are the parameters that follow.
    exclude : sequence of str, default=()
    max_categories : int, default=255
    early_stopping : bool, default=True
    validation_fraction : float, default=0.1
    refit : bool, default=True
    on_conflict : {"raise", "lift", "drop"}, default="raise"
    n_jobs : int, default=None
        Folds in parallel; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    tasks_ : tuple of Task
    edges_ : tuple of (source, target, level)
        Those that are in use.
    order_ : tuple of str
        The tasks as they were combined: sources of final edges first.
    fallbacks_ : dict task -> str
        Tasks that keep their own learner although they had sources, and why.
    sharing_ : dict task -> str
        What was chosen for each task, in words.
    base_ : PerTaskModel
        The learners of the first level.
    combiners_ : dict task -> LinearCombiner or PerTaskModel

    Raises
    ------
    TaskError
        On a cycle of final edges, or edges that name no task.

    Notes
    -----
    Cost: one learner per task on all rows and one on each fold, not refitted on what stopped it: with 5 folds 3 to 8
    times one learner per task; with ``combiner="learner"`` as much again for the tasks with sources. The line of a
    ranking task has the least listwise loss, and no intercept. Where no fold covers a row (the earliest in time), it
    trains no combiner.

    References
    ----------
    Wolpert, Stacked generalization, Neural Networks 1992, doi 10.1016/S0893-6080(05)80023-1; Read et al., Classifier
    chains for multi-label classification, Machine Learning 2011, doi 10.1007/s10994-011-5256-5.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import TaskGraphModel
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 5))
    >>> mood = X @ [1, 1, 1, 1, 0]
    >>> Y = pd.DataFrame({"rating": mood + rng.normal(size=600), "liked": (mood + rng.normal(size=600) > 0) * 1.0})
    >>> Y.loc[60:, "liked"] = np.nan  # few labels
    >>> model = TaskGraphModel(edges=[("rating", "liked")], learner="linear", cv=3, random_state=0).fit(X, Y)
    >>> model.edges_
    (('rating', 'liked', 'base'),)
    """

    base_: PerTaskModel
    combiners_: dict[str, LinearCombiner | PerTaskModel]
    edges_: tuple[Edge, ...]
    order_: tuple[str, ...]
    fallbacks_: dict[str, str]
    sharing_: dict[str, str]
    _reasons: dict[str, str]
    _options: ClassVar[dict[str, Option]] = {
        "penalty": POSITIVE, "max_edges": (COUNT_OR_0, None), "fallback": TRUTH, "cv": FOLDS,
    }  # fmt: skip

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        learner: Any = "lightgbm",
        edges: Any = "dynamic",
        order: str | Sequence[str] = "given",
        combiner: str = "linear",
        scale: str = "logit",
        penalty: float = 1.0,
        max_edges: int | None = None,
        fallback: bool = True,
        task_weights: Mapping[str, float] | None = None,
        cv: Any = 5,
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
        self.learner = learner
        self.edges = edges
        self.order = order
        self.combiner = combiner
        self.scale = scale
        self.penalty = penalty
        self.max_edges = max_edges
        self.fallback = fallback
        self.task_weights = task_weights
        self.cv = cv
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
    ) -> TaskGraphModel:
        """Fit the learners, cross-fitted and on all rows; then the combiners, sources of final edges first.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Not used; accepted so that all structures are called alike.
        plan : FoldPlan, default=None
            The folds, in place of those of ``cv``.
        """
        self._check_choices()
        given = self._start_fit(X, Y, sample_weight)
        importance = check_task_weights(self.task_weights, self.tasks_)
        edges = resolve_edges(self.edges, in_order(self.order, self.tasks_))
        order = final_order(edges, self.tasks_)
        seed = root_seed(self.random_state)
        self.combiners_, self.fallbacks_, self._reasons = {}, {}, {}
        if edges and plan is None:
            plan = self._plan(given, seed)
        labels = decode_targets(given.targets)
        base = self._learners(self.tasks_, self.learner, spawn_seed(seed, "base"))
        self.base_ = base.fit(given.X, labels, sample_weight=given.weights, plan=plan)
        if edges and plan is not None:
            held = self._out_of_fold(base, given, labels, plan)
            named = [given if isinstance(given, str) else None for given in (self.edges, self.order)]
            if named[0] == "dynamic":
                edges = find_edges(held, edges, importance, self.max_edges)
            elif named == ["serial", "found"]:
                order = easiest_first(held)
                edges = resolve_edges("serial", order)
            for task in order:
                edges = self._combine(task, edges, given, held, plan, seed)
        self.edges_ = edges
        self.order_ = tuple(task.name for task in order)
        self.sharing_ = {task.name: self._describe(task) for task in self.tasks_}
        return self

    def to_dot(self) -> str:
        """The graph in use, in the language of Graphviz; base edges are dashed."""
        return to_dot(self.edges_, self.tasks_)

    def _check_choices(self) -> None:
        if self.combiner not in COMBINERS:
            raise ValueError(f"combiner must be one of {', '.join(COMBINERS)}, got {self.combiner!r}.")
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {self.scale!r}.")

    def _plan(self, given: FitInput, seed: int) -> FoldPlan:
        targets, seed = given.targets, spawn_seed(seed, "folds")
        labels = pd.DataFrame({task.name: targets.view(task.name) for task in targets.tasks})
        return plan_for(
            given.X, labels, targets.tasks, self.cv, None, time=self.roles_["time"], groups=None, seed=seed,
            sample_weight=given.weights,
        )  # fmt: skip

    def _learners(self, tasks: Sequence[Task], learner: Any, seed: int) -> PerTaskModel:
        return PerTaskModel(
            tuple(tasks),
            learner=learner,
            user=self.roles_["user"],
            item=self.roles_["item"],
            time=self.roles_["time"],
            query=self.roles_["query"],
            exclude=self.exclude,
            max_categories=self.max_categories,
            early_stopping=self.early_stopping,
            validation_fraction=self.validation_fraction,
            refit=self.refit,
            n_jobs=self.n_jobs,
            random_state=seed,
        )

    def _out_of_fold(self, base: PerTaskModel, given: FitInput, labels: pd.DataFrame, plan: FoldPlan) -> OutOfFold:
        once = clone(base).set_params(refit=False)  # a second fit of each fold would cost as much again for no gain
        with warnings.catch_warnings():
            for told in (ConstantTaskWarning, UnusedColumnsWarning):  # by the fit on all rows, where it matters
                warnings.simplefilter("ignore", told)
            crossed = cross_fit(
                once, given.X, labels, plan, sample_weight=given.weights, score=False, n_jobs=self.n_jobs
            )
        scores = read_scores(crossed.predictions, self.tasks_, self.classes_map_)
        user = role_values(given.X, self.roles_["user"])
        groups = query_codes(given.X, self.tasks_)
        clusters = groups if user is None else user.to_numpy()
        weights = telling_weights(given.weights, given.targets)
        return OutOfFold(given.targets, weights, scores, plan, crossed.fold, groups, clusters, self.scale, self.penalty)

    def _combine(
        self, task: Task, edges: tuple[Edge, ...], given: FitInput, held: OutOfFold, plan: FoldPlan, seed: int
    ) -> tuple[Edge, ...]:
        """Fit the combiner of one task; the edges that are left come back."""
        sources = [edge for edge in edges if edge[1] == task.name]
        if not sources or task.name not in held.able():
            return tuple(edge for edge in edges if edge[1] != task.name)
        if self.combiner == "linear":
            columns = held.columns(task, sources)
            combiner: Any = held.fit(task, columns)
            crossed = held.cross(task, columns)
        else:
            combiner, crossed = self._augmented(task, sources, given, held, plan, seed)
        verdict = held.against_own(task, crossed)
        unjudged = np.array_equal(crossed, held.scores[task.name], equal_nan=True)
        if self.fallback and (unjudged or verdict["verdict"] == "worse"):
            self.fallbacks_[task.name] = UNJUDGED if unjudged else words(verdict)
            return tuple(edge for edge in edges if edge[1] != task.name)
        self.combiners_[task.name] = combiner
        self._reasons[task.name] = words(verdict)
        held.final[task.name] = crossed
        return edges

    def _augmented(
        self, task: Task, sources: list[Edge], given: FitInput, held: OutOfFold, plan: FoldPlan, seed: int
    ) -> tuple[PerTaskModel, Floats]:
        """The target's learner on the table with the sources' columns: on all rows, and out of fold."""
        columns = self._named(sources, held.scores, held.final)
        table = append_columns(given.X, columns)
        single = replace(task, given=None)
        known = held.covered if held.forward else np.ones(len(held.covered), dtype=bool)
        labels = decode_targets(given.targets)[[task.name]]
        labels = labels if known.all() else labels.where(known[:, None], None)
        weight = held.weight(task)
        learner = self.learner[task.name] if isinstance(self.learner, Mapping) else self.learner
        model = self._learners([single], learner, spawn_seed(seed, "combiner", task.name))
        usable = None if (weight == 1).all() else weight
        once, crossed = clone(model).set_params(refit=False), held.scores[task.name].copy()
        learnable = known & ~np.isnan(given.targets.view(task.name)) & (weight > 0)
        splits = tuple(split for split in plan.splits if learnable[split[0]].any())  # in time the first has no columns
        if splits:
            folds = FoldPlan(splits, plan.n_rows, plan.temporal)
            with warnings.catch_warnings():
                for told in (ConstantTaskWarning, UnusedColumnsWarning):
                    warnings.simplefilter("ignore", told)
                fold = cross_fit(once, table, labels, folds, sample_weight=usable, score=False, n_jobs=self.n_jobs)
            rows = fold.fold >= 0
            crossed[rows] = read_scores(fold.predictions, (single,), self.classes_map_)[task.name][rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnusedColumnsWarning)  # said by the base
            return model.fit(table, labels, sample_weight=usable, plan=plan), crossed

    def _named(self, sources: Sequence[Edge], base: Scores, final: Scores) -> dict[str, Floats]:
        columns = source_columns(sources, self.tasks_, base, final, self.scale)
        named = {}
        for (source, _, level), values in zip(sources, columns, strict=True):
            for k in range(values.shape[1]):
                named[f"{level} score of {source}" + (f" {k}" if values.shape[1] > 1 else "")] = values[:, k]
        return named

    def _describe(self, task: Task) -> str:
        if task.name in self.fallbacks_:
            return f"its own learner: {self.fallbacks_[task.name]}"
        if task.name not in self.combiners_:
            return "its own learner: no edge to it is in use"
        helpers = ", ".join(f"{a} ({level})" for a, b, level in self.edges_ if b == task.name)
        return f"{self.combiner} combination with {helpers}: {self._reasons[task.name]}"

    def _scores(self, X: Table, space: str) -> Scores:
        base = self.base_._scores(self.base_._start_predict(X), "entire")
        final = dict(base)
        for task, _, combined in self._combinations(X, base):
            final[task.name] = combined
        return self._in_space(final, space)

    def _combinations(self, X: Table, base: Scores) -> Iterator[tuple[Task, Any, Floats]]:
        """For each combined task, in the order of the edges, what its combiner reads of some rows, and predicts."""
        final = dict(base)
        for task in final_order(self.edges_, self.tasks_):
            combiner = self.combiners_.get(task.name)
            if combiner is None:
                continue
            sources = [edge for edge in self.edges_ if edge[1] == task.name]
            if isinstance(combiner, LinearCombiner):
                own = as_columns(task, base[task.name], self.scale)
                read = np.column_stack([own, *source_columns(sources, self.tasks_, base, final, self.scale)])
                final[task.name] = combiner.predict(read)
            else:
                read = append_columns(X, self._named(sources, base, final))
                final[task.name] = combiner._scores(combiner._start_predict(read), "entire")[task.name]
            yield task, read, final[task.name]
