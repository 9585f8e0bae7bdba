"""Trees grown for all tasks at once: every split serves all labels, every leaf holds a value for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.stats import loguniform, uniform

from mtl_classic._core.base import Scores
from mtl_classic._core.options import COUNT, COUNT_OR_0, FOLDS, Option
from mtl_classic._core.random import root_seed, spawn_seed
from mtl_classic._core.task_weights import BY_CV, gradient_weights
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, role_values, take_rows
from mtl_classic.learners._columns import Features
from mtl_classic.learners._defaults import n_bins
from mtl_classic.learners._params import check_joint_trees
from mtl_classic.learners._protocol import ConstantFit, Floats, TaskFit
from mtl_classic.learners._xgboost import XGBoostLearner
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._task_weights import choose_task_weights
from mtl_classic.multitask._dense_features import DenseFeatures
from mtl_classic.multitask._extra_forest import ExtraForest, grow
from mtl_classic.multitask._gradient_log import GradientLog, advice
from mtl_classic.multitask._joint_blocks import JointBlocks
from mtl_classic.multitask._joint_funnel import correct_product
from mtl_classic.multitask._routes import combine, conditional, has_entire_space
from mtl_classic.multitask._structure import LearnerStructure
from mtl_classic.multitask._vector_trees import BoosterSettings, VectorTrees, boost_with_stops
from mtl_classic.multitask._verdicts import worse_than_alone
from mtl_classic.multitask._workbench import Workbench, open_workbench

__all__ = ["SharedTreesModel"]

TREES = ("boosted", "extra")
FUNNELS = ("direct", "product", "joint")


class SharedTreesModel(LearnerStructure):
    r"""One model of trees for all tasks, whatever their kinds and whichever labels are missing.

    Every split is chosen by the sum of the tasks' gains, and every leaf holds a value for each task:

    .. math:: \text{gain} = \sum_t \frac{(\sum_i m_{it} g_{it})^2}{\sum_i m_{it} h_{it} + \lambda}, \qquad
              v_t = -\frac{\sum_i m_{it} g_{it}}{\sum_i m_{it} h_{it} + \lambda}

    over the rows i of the leaf, with :math:`m_{it} = 0` where task t is unlabelled. So a task with few labels reads its
    values off splits that the others have found. Each task has its own loss, its own weights per row, and is read at
    the round that is best on its own validation labels.

    Worth trying where tasks depend on the same structure and some have few labels, or (``trees="extra"``) where a small
    table has many labels. Where all labels are plenty, one learner per task is usually better.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from ``Y``.
    trees : {"boosted", "extra"}, default="boosted"
        XGBoost's vector leaves with a joint objective, or scikit-learn's multi-output extra trees. The latter find
        splits with missing labels at the mean of their task, and estimate all values from labelled rows only.
    funnel : {"direct", "product", "joint"}, default="product"
        What a binary, count or regression child of a funnel learns. ``"direct"``: its label in the entire space.
        ``"product"``: its label where the parent is positive; predictions are multiplied. ``"joint"``: so too, and then
        binary children are boosted on by the gradient of the entire-space likelihood through the product, for as many
        rounds as lower the children's loss on the validation rows by more than its standard error: none where the
        product is best. P(child) ≤ P(parent) always holds in both.
    task_weights : None, dict name -> weight, "uncertainty", "dynamic" or "cv", default=None
        How much each task's gradients count (boosted trees only): equally, as given (1 where not named), by Kendall's
        homoscedastic uncertainty, by the dynamic weight average, or chosen by cross-validation: three times as much for
        the task where that helps some task beyond the noise and harms none, else equally.
    fallback : None, str, Learner or dict task -> learner, default=None
        A task that is worse than this learner alone on the validation rows, beyond the noise, is given back to it.
        None shares always.
    max_leaves : int, default=None
        None follows the labels, as do the settings below.
    learning_rate : float, default=None
    max_iter : int, default=1000
        Most rounds of boosting.
    n_iter_no_change : int, default=30
        Rounds without a better validation loss of any task before stopping; tasks with too few labels there to tell
        follow the others.
    min_child_weight : float, default=None
        Least sum of a task's hessians in a leaf, below which its value there is 0; None is none, for the sake of tasks
        with few labels.
    reg_lambda : float, default=None
        Positive: it holds the values of tasks that have few labels or none in a leaf.
    colsample_bytree : float, default=None
    max_bin : int, default=None
        None is a fifth of the labelled rows, between 32 and 256.
    n_trees : int, default=300
        Of extra trees.
    params : dict, default=None
        Further parameters of XGBoost (no dart, no constraints) or ``ExtraTreesRegressor``, taking precedence.
    max_onehot : int, default=16
        Categorical columns with at most this many values become one-hot, others target means of all tasks.
    cv : int, splitter or Temporal, default=5
        Folds of those means on the training rows; with a time column those of an int are blocks of time.
    user, item, time, query : str, default=None
        Columns with a role. Time and query are no features; time also puts the validation rows last.
    exclude : sequence of str, default=()
        Further columns that are no features.
    max_categories : int, default=255
        Categorical columns with more values are no features.
    early_stopping : bool, default=True
        Stop by the last fold of the plan, or by a split of the model's own.
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
    rounds_ : dict task -> int
        Round at which each task is read (boosted trees).
    fallbacks_ : dict task -> str
        Tasks that went back to a learner of their own, and why.
    sharing_ : dict task -> str
        What was chosen for each task, in words.
    gradient_cosines_ : DataFrame
        Index (round, task), a column per task: how the gradients of two tasks agree over the rows that have both
        labels, every tenth round of boosting. Near 0 the tasks compete for splits; empty for extra trees.
    advice_ : list of str
        On tasks that compete, and tasks with few labels beside the others.
    task_weights_ : dict task -> weight
        Those chosen, with ``task_weights="cv"``.
    trees_ : VectorTrees, ExtraForest, or None where there is nothing to share
    constants_, fits_ : dict task -> fitted learner
        Of tasks with one class; of those in ``fallbacks_``.
    routes_ : dict task -> "root", "product" or "direct"
        How each task's entire-space score is made.
    columns_, dense_ : FeatureColumns, DenseFeatures
        Which columns are features; how they become numbers.

    Notes
    -----
    Cost of boosting: that of one booster whose histograms hold two numbers per output, for as many rounds as the task
    that needs most: it can take longer than a booster per task. ``task_weights="cv"`` adds (n_tasks + 1) × 3 fits. A
    ranking task is learnt listwise: by the cross-entropy of a query's softmax against its shares of gain.

    References
    ----------
    Chen, Guestrin, XGBoost: A Scalable Tree Boosting System, KDD 2016, doi 10.1145/2939672.2939785; Geurts, Ernst,
    Wehenkel, Extremely randomized trees, Machine Learning 2006, doi 10.1007/s10994-006-6226-1; Ma et al., Entire Space
    Multi-Task Model, SIGIR 2018, doi 10.1145/3209978.3210104 (``funnel="joint"``, for networks).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import SharedTreesModel
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> Y = pd.DataFrame({"visits": rng.poisson(np.exp(X[:, 0])), "buy": X[:, 0] + rng.normal(size=500) > 0})
    >>> Y["buy"] = Y["buy"].astype(float).where(rng.random(500) < 0.2)  # one label in five
    >>> model = SharedTreesModel({"visits": "count", "buy": "binary"}, max_iter=50, random_state=0).fit(X, Y)
    >>> model.predict_scores(X).columns.tolist()
    ['visits', 'buy']
    """

    trees_: VectorTrees | ExtraForest | None
    constants_: dict[str, ConstantFit]
    fits_: dict[str, TaskFit]
    rounds_: dict[str, int]
    fallbacks_: dict[str, str]
    task_weights_: dict[str, float]
    _options: ClassVar[dict[str, Option]] = XGBoostLearner._options | {
        "trees": TREES, "funnel": FUNNELS, "n_trees": COUNT, "max_onehot": COUNT_OR_0, "cv": FOLDS,
    }  # fmt: skip

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        trees: str = "boosted",
        funnel: str = "product",
        task_weights: Mapping[str, float] | str | None = None,
        fallback: Any = None,
        max_leaves: int | None = None,
        learning_rate: float | None = None,
        max_iter: int = 1000,
        n_iter_no_change: int = 30,
        min_child_weight: float | None = None,
        reg_lambda: float | None = None,
        colsample_bytree: float | None = None,
        max_bin: int | None = None,
        n_trees: int = 300,
        params: Mapping[str, Any] | None = None,
        max_onehot: int = 16,
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
        self.trees = trees
        self.funnel = funnel
        self.task_weights = task_weights
        self.fallback = fallback
        self.max_leaves = max_leaves
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.colsample_bytree = colsample_bytree
        self.max_bin = max_bin
        self.n_trees = n_trees
        self.params = params
        self.max_onehot = max_onehot
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

    def search_space(self) -> dict[str, Any]:
        """The size of the trees, their rate, and what holds their leaves (boosted trees)."""
        if self.trees != "boosted":
            return super().search_space()
        return super().search_space() | {
            "max_leaves": [7, 15, 31, 63],
            "learning_rate": loguniform(0.02, 0.2),
            "reg_lambda": loguniform(0.1, 30),
            "colsample_bytree": uniform(0.3, 0.7),
        }

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> SharedTreesModel:
        """Grow the trees of all tasks.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Not used; accepted so that all structures are called alike.
        plan : FoldPlan, default=None
            Early stopping and the fallback use its last fold.
        """
        self._check_choices()
        given = self._start_fit(X, Y, sample_weight)
        if self.task_weights == BY_CV:
            self.task_weights_ = choose_task_weights(self, X, Y, sample_weight=sample_weight, plan=plan)
        elif hasattr(self, "task_weights_"):
            del self.task_weights_
        gradient_weights(self._gradient_weights(), given.targets.tasks)
        seed = root_seed(self.random_state)
        bench = open_workbench(
            self,
            given,
            plan=plan,
            seed=seed,
            learner=self.fallback if self.fallback is not None else "xgboost",
            option="fallback",
            early_stopping=self.early_stopping,
        )
        self.columns_ = bench.columns
        self.dense_ = DenseFeatures(self.max_onehot, self.cv, spawn_seed(seed, "means"))
        matrix = self.dense_.fit_transform(bench.features, bench.targets, bench.weights, self._time(given.X, bench))
        self.routes_ = {
            task.name: "root" if not has_entire_space(task) else "direct" if self.funnel == "direct" else "product"
            for task in self.tasks_
        }
        joint = JointBlocks(bench, self.routes_)
        self.constants_, self.rounds_, self.fits_, self.fallbacks_ = joint.constants, {}, {}, {}
        log = GradientLog()
        held_out = self._grow(bench, joint, matrix, log)
        self.gradient_cosines_ = log.frame()
        if self.fallback is not None and held_out is not None:
            self._fall_back(bench, matrix, held_out)
        self.sharing_ = {task.name: self._describe(task) for task in self.tasks_}
        labelled = (~np.isnan(bench.targets.entire)).sum(axis=0)
        counts = {task.name: int(n) for task, n in zip(bench.targets.tasks, labelled, strict=True)}
        self.advice_ = advice(log, counts)
        return self

    def _gradient_weights(self) -> Any:
        return self.task_weights_ if self.task_weights == BY_CV else self.task_weights

    def _check_choices(self) -> None:
        if self.trees == "boosted":
            check_joint_trees(self.params)
        if self.trees == "extra" and (self.funnel == "joint" or isinstance(self.task_weights, str)):
            raise ValueError(
                'trees="extra" has no gradients: funnel="joint" and task_weights that follow the losses need '
                'trees="boosted".'
            )

    def _time(self, X: Table, bench: Workbench) -> Any:
        time = role_values(X, self.roles_["time"])
        return time if time is None or bench.order is None else take_rows(time, bench.order)

    def _grow(
        self, bench: Workbench, joint: JointBlocks, matrix: Any, log: GradientLog
    ) -> VectorTrees | ExtraForest | None:
        """Set ``trees_``; the trees that have not seen the validation rows are returned where there are any."""
        self.trees_ = None
        if not joint.tasks:
            return None
        if self.trees == "extra":
            self.trees_ = self._forest(bench, joint, matrix, np.arange(len(bench.targets)))
            if self.fallback is None or bench.split is None:
                return None
            return self._forest(bench, joint, matrix, bench.split[0])
        max_bin = n_bins(int(joint.labelled.sum())) if self.max_bin is None else self.max_bin
        settings = BoosterSettings(
            self.max_leaves, self.learning_rate, self.max_iter, self.n_iter_no_change, self.min_child_weight,
            self.reg_lambda, self.colsample_bytree, max_bin, self.params,
        )  # fmt: skip
        self.trees_, held_out = boost_with_stops(
            matrix, joint, bench, settings, self._gradient_weights(), spawn_seed(bench.seed, "trees"), log
        )
        self.rounds_ = dict(self.trees_.rounds)
        if self.funnel == "joint":
            seed = spawn_seed(bench.seed, "joint funnel")
            self.trees_, held_out = correct_product(matrix, joint, bench, settings, seed, self.trees_, held_out)
        return held_out

    def _forest(self, bench: Workbench, joint: JointBlocks, matrix: Any, rows: Any) -> ExtraForest:
        rows = rows[joint.labelled[rows]]
        seed = spawn_seed(bench.seed, "trees")
        blocks = joint.on(rows)
        return grow(matrix[rows], blocks, n_trees=self.n_trees, params=self.params, seed=seed, threads=bench.threads)

    def _fall_back(self, bench: Workbench, matrix: Any, held_out: VectorTrees | ExtraForest) -> None:
        """Give tasks back to their own learner where that is better on the validation rows beyond the noise."""
        if bench.split is None:
            return
        rows = bench.split[1]
        features = bench.features.take(rows)
        tasks = [task for task in self.tasks_ if task.name not in self.constants_]
        own = {task.name: bench.fit_entire(task, judged=True) for task in tasks}
        alone = {name: part.held_out.predict(features, bench.threads) for name, part in own.items() if part.held_out}
        parts = {name: fit.predict(features) for name, fit in self.constants_.items()}
        shared = self._combine(parts | held_out.predict(matrix[rows], bench.threads), self.routes_)
        for name, why in worse_than_alone(bench, rows, shared, alone).items():
            self.fits_[name], self.fallbacks_[name] = own[name].fit, why
            self.routes_[name] = "direct" if self.routes_[name] == "product" else self.routes_[name]

    def _combine(self, parts: Scores, routes: Mapping[str, str]) -> Scores:
        return combine(self.tasks_, self.classes_map_, routes, _keyed(parts, routes))

    def _describe(self, task: Task) -> str:
        if task.name in self.constants_:
            return "a constant: there is one class"
        if task.name in self.fallbacks_:
            return f"its own learner ({self.fallbacks_[task.name]})"
        if self.trees == "extra":
            return f"{self.n_trees} extra trees for all tasks"
        more = getattr(self.trees_, "correction", None)
        further = f", and {more.rounds[task.name]} of the joint funnel" if more and task.name in more.rounds else ""
        return f"boosted trees for all tasks, read at round {self.rounds_[task.name]}{further}"

    def _parts(self, features: Features) -> Scores:
        parts = {} if self.trees_ is None else self.trees_.predict(self.dense_.transform(features), self._threads())
        parts |= {name: fit.predict(features) for name, fit in self.constants_.items()}
        return parts | {name: fit.predict(features, self._threads()) for name, fit in self.fits_.items()}

    def _scores(self, X: Table, space: str) -> Scores:
        return self._from_parts(self._parts(self.columns_.transform(X)), space)

    def _from_parts(self, parts: Scores, space: str) -> Scores:
        entire = self._combine(parts, self.routes_)
        if space == "entire":
            return entire
        return conditional(self.tasks_, self.classes_map_, self.routes_, _keyed(parts, self.routes_), entire)


def _keyed(parts: Scores, routes: Mapping[str, str]) -> dict[tuple[str, str], Floats]:
    """Scores under the names that the routes give to their parts."""
    return {(name, "entire" if routes[name] == "direct" else "conditional"): score for name, score in parts.items()}
