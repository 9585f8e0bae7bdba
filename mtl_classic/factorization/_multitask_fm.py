"""The factorization machine for several tasks: one table of latent vectors, read by each task in its own way."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.metaestimators import available_if

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.task_weights import BY_CV
from mtl_classic._core.tasks import Task, resolve_tasks
from mtl_classic._core.validation import role_values
from mtl_classic.factorization._alone import find_harm, fit_alone, pass_alone
from mtl_classic.factorization._descent import start_parameters
from mtl_classic.factorization._fm_base import REG_FACTORS, REG_LINEAR
from mtl_classic.factorization._joint import descend_jointly, find_anchor, losses_of_tasks, pass_jointly
from mtl_classic.factorization._joint_machine import JointMachine
from mtl_classic.factorization._outputs import (
    announced_classes,
    find_constants,
    label_weights,
    labelled_rows,
    make_outputs,
    refuse_other_labels,
    refuse_unlabelled,
)
from mtl_classic.factorization._problem import Problem, mean_one
from mtl_classic.factorization._registry import learns_in_parts
from mtl_classic.factorization._settings import Settings, machine_space
from mtl_classic.factorization._solvers import Solver, StochasticSolver
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._task_weights import choose_task_weights

__all__ = ["MultiTaskFactorizationMachine"]

Array = npt.NDArray[Any]


class MultiTaskFactorizationMachine(JointMachine):
    r"""One embedding of the columns for all tasks; each task weighs its dimensions, and has its own linear part.

    .. math:: s_t(x) = b_t + \sum_j (w_{jt} + c_t u_j) x_j + \sum_f r_{tf} \sum_{j < l} v_{jf} v_{lf} x_j x_l

    with v, u shared and r, c, w, b learnt per task (r = c = 1 for the task with the most labels, to fix the scale), and
    for ``n_private`` > 0 the products of a task's own vectors besides. Tasks with few labels learn from the others what
    is shared; what is shared moves by the mean of a row's labelled tasks. Missing labels move nothing.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        Of the kinds binary (soft labels too), multiclass, regression and count. None infers the kinds from ``Y``.
    n_factors : int, default=16
        Shared dimensions; multiples of 8 waste nothing.
    n_private : int, default=0
        Further dimensions of each task's own.
    shared_linear : bool, default=True
        The u and c; with one task they would say nothing new, and are left out.
    solver : {"adagrad", "sgd", "adam", "adadelta", "ftrl"} or solver object, default="adagrad"
    learning_rate : float or None, default=None
        None is the solver's own (0.05 for Adagrad).
    max_iter : int, default=30
        Most passes over the rows.
    reg_linear, reg_factors : float or dict of field to float, default=1e-4 and 0.03
        Penalties of the columns in a row.
    dropout, drop_connect : float, default=0.0
        Share of the latent dimensions, of the embedding entries, left out of a training step.
    init_scale : float, default=0.01
        Standard deviation of the first vectors.
    task_weights : None, dict task -> weight, "uncertainty", "dynamic" or "cv", default=None
        ``"uncertainty"`` weighs tasks by 1 / loss; ``"dynamic"`` gives those that improve slowly more weight; ``"cv"``
        gives one task three times as much where that helps some task out-of-fold beyond the noise and harms none.
    fallback : bool, default=True
        Fit each task alone too, and take that where the joint fit is worse on the validation rows.
    fallback_level : float, default=0.5
        How sure that must be: the level of the interval of the paired difference that lies above 0 (Holm-corrected, as
        in `compare`). Harm that a tenth of the rows cannot prove at 0.95, more rows to come may: on MovieLens-100k with
        few labels the rating was then worse than alone, beyond the noise, in two of three seeds, at 0.5 in none.
    fields, groups, interactions, categorical, exclude, scale
        As for `FactorizationMachineClassifier`.
    user : str or None, default=None
        Column by whose values validation losses are compared (rows of one user err alike); it stays a feature.
    early_stopping : bool, default=True
        Each task keeps the pass that was the best on its validation rows, which are not learnt: a task that has no
        other labels stays near their mean. Without, or with fewer than 25 of them, all rows are trained on for
        ``max_iter`` passes, and nothing falls back.
    validation_fraction : float, default=0.1
    n_iter_no_change : int, default=2
        The fit stops when no task has improved for so many passes.
    tol : float, default=0.0
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with non-zero children of negative parents.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    tasks_ : tuple of Task
    best_iter_ : dict task -> int
        The pass of the fit that the task keeps; ``partial_fit`` goes on from there.
    constants_ : dict task -> ndarray
        What tasks predict whose labels are all the same (a share per class for multiclass tasks); they are in none of
        the other attributes.
    fallbacks_ : dict task -> str
        Tasks that have their own machine, and why.
    task_weights_ : dict task -> weight
        Those chosen, with ``task_weights="cv"``.
    validation_losses_ : DataFrame
        After each pass (rows), by task: log loss, half squared error of standardized labels, half Poisson deviance.
        Empty where no rows were held out, as in ``partial_fit``.
    interaction_weights_ : dict task -> ndarray of shape (n_factors,)
        The r of each task; (n_classes, n_factors) for multiclass tasks.
    outputs_ : tuple of TaskOutput
        Where the scores of each task lie among those of the machine, and on which scale.
    linear_shares_ : dict task -> ndarray of shape (1,)
        The c of each task; (n_classes,) for multiclass tasks.

    Notes
    -----
    A pass costs non-zeros × (n_factors + n_tasks × (n_private + 2)); the work on the shared vectors is done once for
    all tasks. With some ten columns a row, four tasks cost half of four machines; with two columns (users and items
    alone) the tasks' own parts are nearly all of a pass, and it costs what four machines cost. ``fallback`` adds a fit
    per task, ``task_weights="cv"`` (n_tasks + 1) × 3 fits.

    References
    ----------
    .. [1] S. Rendle (2010). Factorization machines. ICDM. https://doi.org/10.1109/ICDM.2010.127
    .. [2] A. Kendall, Y. Gal, R. Cipolla (2018). Multi-task learning using uncertainty to weigh losses. CVPR.
       https://doi.org/10.1109/CVPR.2018.00781
    .. [3] S. Liu, E. Johns, A. Davison (2019). End-to-end multi-task learning with attention. CVPR.
       https://doi.org/10.1109/CVPR.2019.00197

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic.factorization import MultiTaskFactorizationMachine
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 50, 5000), "item": rng.integers(0, 40, 5000)})
    >>> taste = np.where((X["user"] % 2) == (X["item"] % 2), 1, -1)       # what two tasks have in common
    >>> stars = 3 + taste + rng.normal(size=5000)
    >>> Y = pd.DataFrame({"like": (taste + rng.normal(size=5000) > 0) * 1.0, "stars": stars})
    >>> Y.loc[400:, "like"] = None                                       # few labels
    >>> tasks = {"like": "binary", "stars": "regression"}
    >>> model = MultiTaskFactorizationMachine(tasks, categorical=["user", "item"], init_scale=0.1, random_state=0)
    >>> scores = model.fit(X, Y).predict_scores(X)
    >>> bool(((scores["like"] > 0.5) == (taste > 0)).mean() > 0.9)
    True
    >>> model.fallbacks_
    {}
    """

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        n_factors: int = 16,
        n_private: int = 0,
        shared_linear: bool = True,
        solver: str | Solver = "adagrad",
        learning_rate: float | None = None,
        max_iter: int = 30,
        reg_linear: float | Mapping[Any, float] = REG_LINEAR,
        reg_factors: float | Mapping[Any, float] = REG_FACTORS,
        dropout: float = 0.0,
        drop_connect: float = 0.0,
        init_scale: float = 0.01,
        task_weights: Mapping[str, float] | str | None = None,
        fallback: bool = True,
        fallback_level: float = 0.5,
        fields: Mapping[Any, Any] | None = None,
        groups: Mapping[Any, Any] | None = None,
        interactions: Any = "all",
        categorical: Sequence[str] = (),
        exclude: Sequence[str] = (),
        scale: bool = True,
        user: str | None = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        tol: float = 0.0,
        on_conflict: str = "raise",
        random_state: Any = None,
    ) -> None:
        self.tasks = tasks
        self.n_factors = n_factors
        self.n_private = n_private
        self.shared_linear = shared_linear
        self.solver = solver
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.reg_linear = reg_linear
        self.reg_factors = reg_factors
        self.dropout = dropout
        self.drop_connect = drop_connect
        self.init_scale = init_scale
        self.task_weights = task_weights
        self.fallback = fallback
        self.fallback_level = fallback_level
        self.fields = fields
        self.groups = groups
        self.interactions = interactions
        self.categorical = categorical
        self.exclude = exclude
        self.scale = scale
        self.user = user
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.on_conflict = on_conflict
        self.random_state = random_state

    def search_space(self) -> dict[str, Any]:
        """The sizes of the shared and private vectors, the rate, and what holds the vectors."""
        return machine_space() | {"n_private": [0, 4, 8]}

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> Self:
        """Fit all tasks together, then those alone that had better stay so.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Not used; accepted so that all structures are called alike.
        plan : FoldPlan, default=None
            Its last fold are the validation rows.
        """
        checked = self._start_fit(X, Y, sample_weight)
        solver = self._check_solver(X)
        settings = self._settings()
        check_plan(plan, len(checked.targets))
        if self.task_weights == BY_CV:
            self.task_weights_ = choose_task_weights(self, X, Y, sample_weight=sample_weight, plan=plan)
        elif hasattr(self, "task_weights_"):
            del self.task_weights_
        task_weights = self._check_task_weights()
        weights = mean_one(label_weights(checked.targets, checked.weights)).astype(np.float32)
        self.constants_ = find_constants(checked.targets, weights)
        self.outputs_ = make_outputs(checked.targets, weights, self.constants_)
        matrix = self._encode(checked.X)
        self._start_machines(solver)
        if not self.outputs_:
            return self
        problem, task_weights = self._problem(matrix, checked.targets, weights), self._of_outputs(task_weights)
        training, validation, held = self._split(problem, settings, plan)
        self._anchor = find_anchor(training, self.outputs_)
        report = descend_jointly(
            solver, training, validation, self.outputs_, self._parameters(solver), settings, task_weights, self._anchor
        )
        self._checkpoints, self._losses = report.checkpoints, report.losses[-2:]
        self.best_iter_ = {output.name: at for output, at in zip(self.outputs_, report.best, strict=True)}
        names = [output.name for output in self.outputs_]
        self.validation_losses_ = pd.DataFrame([] if validation is None else report.losses[1:], columns=names)
        if self.fallback and validation is not None and len(self.outputs_) > 1:
            users = role_values(checked.X, self.roles_["user"])
            self._fall_back(solver, training, validation, settings, None if users is None else users.to_numpy()[held])
        return self

    @available_if(learns_in_parts)
    @all_or_nothing
    def partial_fit(self, X: Any, Y: Any, classes: Any = None, *, sample_weight: Any = None) -> Self:
        """One pass over new rows, on top of what is learnt: of every machine that some task reads.

        These are the passes of the fit that were the best for some task, which all labels move, and the machines of
        tasks that fell back, which their own labels move. So the cost is that of a pass for each of them; without a fit
        before there is one. Unlabelled tasks of a row move nothing.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
            A frame's new values get columns of their own. Scales are those of the first call.
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
            The first rows must have labels of every task whose classes are not announced.
        classes : dict task -> array, or the array of a single task, default=None
            All classes that will ever come, at the first call, of binary and multiclass tasks; the others have those of
            ``Y``. Later the same, or None.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
            Multiplies losses and penalties as it is: a step of weight 2 is twice as long.
        """
        resume = hasattr(self, "_checkpoints")
        announced = announced_classes(self.tasks_ if resume else resolve_tasks(self.tasks, Y), classes)
        checked = (self._check_more if resume else self._start_fit)(X, Y, sample_weight, announced)
        solver, task_weights = self._check_solver(X), self._check_task_weights()
        weights = label_weights(checked.targets, checked.weights)
        if resume:
            refuse_other_labels(checked.targets, weights, self.constants_)
            self._check_resumes(solver)
            matrix = self._extend(checked.X)
        else:
            refuse_unlabelled(checked.targets, weights, announced)
            self.constants_, self.outputs_ = {}, make_outputs(checked.targets, weights, {})
            matrix = self._encode(checked.X)
            self._start_machines(solver)
        if not self.outputs_:
            return self
        problem, task_weights = self._problem(matrix, checked.targets, weights), self._of_outputs(task_weights)
        problem = problem.take(labelled_rows(problem))
        settings = replace(self._settings(), max_iter=1, early_stopping=False, resume=resume)
        if resume:
            self._checkpoints = {at: p.grow(self._design.n_columns) for at, p in self._checkpoints.items()}
            self._alone = {name: p.grow(self._design.n_columns) for name, p in self._alone.items()}
        else:
            self._anchor, self._checkpoints = find_anchor(problem, self.outputs_), {1: self._parameters(solver)}
            self.best_iter_ = {output.name: 1 for output in self.outputs_}
        self._pass(solver, problem, settings, task_weights)
        return self

    def _pass(self, solver: StochasticSolver, problem: Problem, settings: Settings, task_weights: Array | str) -> None:
        """Move all machines by one pass; weights that follow losses follow those of the new rows before it."""
        for parameters in self._checkpoints.values():
            start_parameters(solver, problem, parameters, settings)
        if isinstance(task_weights, str):
            now = losses_of_tasks(problem, self.outputs_, self._checkpoint_scores(problem.X))
            self._losses = [*self._losses[-2:], now]
        for parameters in self._checkpoints.values():
            pass_jointly(solver, problem, self.outputs_, parameters, settings, task_weights, self._losses, self._anchor)
        for output in self.outputs_:
            if output.name in self._alone:
                pass_alone(solver, problem, output, self._alone[output.name], settings)
        self.validation_losses_ = self.validation_losses_.iloc[:0]

    def _fall_back(
        self, solver: StochasticSolver, training: Problem, validation: Problem, settings: Settings, users: Array | None
    ) -> None:
        """Fit each task alone; keep that where the joint fit is worse."""
        alone = fit_alone(solver, training, validation, self.outputs_, settings, self.n_factors)
        self.fallbacks_ = find_harm(
            validation, self.outputs_, {task.name: task.kind for task in self.tasks_},
            self._checkpoint_scores(validation.X), alone, users=users, level=self.fallback_level,
            seed=settings.seed % 2**31,
        )  # fmt: skip
        self._alone = {name: alone[name] for name in self.fallbacks_}
        if self.fallbacks_:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.fallbacks_.items())
            warnings.warn(f"Tasks with a machine of their own: {reasons}.", FallbackWarning, stacklevel=4)
