"""The factorization machine for several tasks: one table of latent vectors, read by each task in its own way."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.losses import losses
from mtl_classic._core.random import generator, root_seed, spawn_seed
from mtl_classic._core.task_weights import ADAPTIVE, BY_CV, check_task_weights
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, role_values
from mtl_classic.factorization._descent import descend_validated, split_validation
from mtl_classic.factorization._design import Design, input_form
from mtl_classic.factorization._fm_base import REG_FACTORS, REG_LINEAR, check_ranges
from mtl_classic.factorization._joint import (
    TaskOutput,
    code_tasks,
    descend_jointly,
    find_constants,
    label_weights,
    own_problem,
)
from mtl_classic.factorization._problem import Parameters, Problem, Rows
from mtl_classic.factorization._registry import check_solver, resolve_solver
from mtl_classic.factorization._settings import Settings, machine_space
from mtl_classic.factorization._solvers import Solver, StochasticSolver
from mtl_classic.factorization._task_views import conditional_scores, entire_scores
from mtl_classic.metrics import compare
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._task_weights import choose_task_weights

__all__ = ["MultiTaskFactorizationMachine"]

Array = npt.NDArray[Any]


class MultiTaskFactorizationMachine(MultiTaskEstimator):
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
        Each task keeps the pass that was the best on its validation rows. Without, or with fewer than 25 of them, all
        rows are trained on for ``max_iter`` passes, and nothing falls back.
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
        The pass that the task keeps.
    constants_ : dict task -> ndarray
        What tasks predict whose labels are all the same (a share per class for multiclass tasks); they are in none of
        the other attributes.
    fallbacks_ : dict task -> str
        Tasks that have their own machine, and why.
    task_weights_ : dict task -> weight
        Those chosen, with ``task_weights="cv"``.
    validation_losses_ : DataFrame
        After each pass (rows), by task: log loss, half squared error of standardized labels, half Poisson deviance.
    interaction_weights_ : dict task -> ndarray of shape (n_factors,)
        The r of each task; (n_classes, n_factors) for multiclass tasks.
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

    outputs_: tuple[TaskOutput, ...]
    constants_: dict[str, Array]
    task_weights_: dict[str, float]

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
        if plan is not None:
            check_plan(plan, len(checked.targets))
        if self.task_weights == BY_CV:
            self.task_weights_ = choose_task_weights(self, X, Y, sample_weight=sample_weight, plan=plan)
        task_weights = self._check_task_weights()
        weights = label_weights(checked.targets, checked.weights)
        self.constants_ = find_constants(checked.targets, weights)
        if len(self.constants_) == len(self.tasks_):
            return self._without_machine(checked.X)
        self.outputs_, targets, weights = code_tasks(checked.targets, weights, self.constants_)
        if isinstance(task_weights, np.ndarray):
            task_weights = task_weights[[task.name not in self.constants_ for task in self.tasks_]]
        problem = self._problem(self._encode(checked.X), targets, weights)
        training, validation, held = self._split(problem, settings, plan)
        report = descend_jointly(
            solver, training, validation, self.outputs_, self._parameters(problem, solver), settings, task_weights
        )
        self._checkpoints = report.checkpoints
        self.best_iter_ = {output.name: at for output, at in zip(self.outputs_, report.best, strict=True)}
        names = [output.name for output in self.outputs_]
        self.validation_losses_ = pd.DataFrame([] if validation is None else report.losses[1:], columns=names)
        self._alone: dict[str, Parameters] = {}
        self.fallbacks_: dict[str, str] = {}
        if self.fallback and validation is not None and len(self.outputs_) > 1:
            users = role_values(checked.X, self.roles_["user"])
            self._fall_back(solver, training, validation, settings, None if users is None else users.to_numpy()[held])
        return self

    def _without_machine(self, table: Table) -> Self:
        """There is nothing to learn; the columns are remembered, so that rows are read as ever."""
        self._encode(table)
        self.outputs_, self._checkpoints, self._alone = (), {}, {}
        self.best_iter_, self.fallbacks_, self.validation_losses_ = {}, {}, pd.DataFrame()
        return self

    def _check_solver(self, X: Any) -> StochasticSolver:
        check_ranges(self)
        solver = resolve_solver(self.solver)
        check_solver(
            solver,
            loss="squared",
            interactions="all" if isinstance(self.interactions, str) else "groups",
            rows=input_form(X),
            dropout=self.dropout > 0 or self.drop_connect > 0,
        )
        if not isinstance(solver, StochasticSolver):
            raise ValueError(
                f"solver={solver.name!r} fits one task; a joint fit needs one of adagrad, sgd, adam, adadelta, ftrl."
            )
        return solver

    def _settings(self) -> Settings:
        return Settings(
            max_iter=self.max_iter, learning_rate=self.learning_rate, dropout=self.dropout,
            drop_connect=self.drop_connect, init_scale=self.init_scale, early_stopping=self.early_stopping,
            validation_fraction=self.validation_fraction, n_iter_no_change=self.n_iter_no_change, tol=self.tol,
            seed=root_seed(self.random_state),
        )  # fmt: skip

    def _check_task_weights(self) -> Array | str:
        given = self.task_weights_ if self.task_weights == BY_CV else self.task_weights
        if isinstance(given, str):
            if given not in ADAPTIVE:
                names = ", ".join(map(repr, (*ADAPTIVE, BY_CV)))
                raise ValueError(f"task_weights must be None, a dict, or one of {names}; got {given!r}.")
            return given
        return check_task_weights(given, self.tasks_)

    def _encode(self, table: Table) -> sparse.csr_matrix:
        self._design = Design(
            categorical=self.categorical, exclude=self.exclude, scale=self.scale, fields=self.fields,
            groups=self.groups, interactions=self.interactions,
        )  # fmt: skip
        matrix = self._design.fit_transform(_as_frame(table))
        self._interactions = self._design.interactions()
        return matrix

    def _problem(self, matrix: sparse.csr_matrix, targets: Array, weights: Array) -> Problem:
        return Problem(
            matrix, targets, weights, tuple((output.loss, output.width) for output in self.outputs_),
            self._interactions,
            self._design.per_column(self.reg_factors, REG_FACTORS, "reg_factors"),
            self._design.per_column(self.reg_linear, REG_LINEAR, "reg_linear"), None, self._design.fields(),
        )  # fmt: skip

    def _parameters(self, problem: Problem, solver: Solver) -> Parameters:
        return Parameters(
            problem.X.shape[1], self.n_factors, solver.n_slots, n_outputs=problem.targets.shape[1],
            n_private=self.n_private, shared_linear=bool(self.shared_linear) and len(self.outputs_) > 1,
        )  # fmt: skip

    def _split(
        self, problem: Problem, settings: Settings, plan: FoldPlan | None
    ) -> tuple[Problem, Problem | None, Array]:
        if plan is None or not self.early_stopping:
            return split_validation(problem, settings, generator(settings.seed, "validation"))
        rows, held = plan.last
        return problem.take(rows), problem.take(held), held

    def _fall_back(
        self, solver: StochasticSolver, training: Problem, validation: Problem, settings: Settings, users: Array | None
    ) -> None:
        """Fit each task alone; keep that where the joint fit is worse."""
        joint, own, alone = {}, {}, {}
        scores = self._checkpoint_scores(validation.X)
        kinds = {task.name: task.kind for task in self.tasks_}
        for output in self.outputs_:
            labelled = validation.weights[:, output.start] > 0
            ours, check = own_problem(training, output), own_problem(validation, output)
            if not labelled.any() or not ours.n_rows:
                continue
            alone[output.name] = self._fit_alone(solver, ours, check, settings, output)
            y = np.where(labelled, _numbers(output, validation.targets), np.nan)
            joint[output.name] = losses(kinds[output.name], y, output.expectation(scores[output.name]))
            raw = alone[output.name].scores(Rows.read(validation.X, self._interactions), self._interactions)
            own[output.name] = losses(kinds[output.name], y, output.expectation(raw))
        weights = {output.name: validation.weights[:, output.start] for output in self.outputs_}
        weights = {name: weights[name] for name in joint}
        seed = settings.seed % 2**31
        table = compare(joint, own, clusters=users, sample_weight=weights, level=self.fallback_level, random_state=seed)
        for name, row in table.iterrows():
            if row["verdict"] == "worse":
                self._alone[str(name)] = alone[str(name)]
                self.fallbacks_[str(name)] = (
                    f"the joint fit's validation loss {row['value']:.5g} is above {row['baseline']:.5g}, that of the "
                    "task alone"
                )
        if self.fallbacks_:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.fallbacks_.items())
            warnings.warn(f"Tasks with a machine of their own: {reasons}.", FallbackWarning, stacklevel=3)

    def _fit_alone(
        self, solver: StochasticSolver, training: Problem, validation: Problem, settings: Settings, output: TaskOutput
    ) -> Parameters:
        single = output.loss != "softmax"
        parameters = Parameters(
            training.X.shape[1], self.n_factors if single else 0, solver.n_slots,
            n_outputs=None if single else output.width, n_private=0 if single else self.n_factors,
        )  # fmt: skip
        seed = spawn_seed(settings.seed, output.name)
        descend_validated(
            solver, training, validation, parameters, replace(settings, seed=seed), generator(seed, "descent")
        )
        return parameters

    def _checkpoint_scores(self, matrix: sparse.csr_matrix) -> dict[str, Array]:
        """Scores of every task at its own checkpoint."""
        rows = Rows.read(matrix, self._interactions)
        at = {pass_: p.scores(rows, self._interactions) for pass_, p in self._checkpoints.items()}
        return {output.name: output.of(at[self.best_iter_[output.name]]) for output in self.outputs_}

    def _scores(self, X: Table, space: str) -> dict[str, Array]:
        return self._scores_of(self._design.transform(_as_frame(X)), space)

    def _scores_of(self, matrix: sparse.csr_matrix, space: str) -> dict[str, Array]:
        """Scores of encoded rows."""
        raw = self._checkpoint_scores(matrix)
        rows = Rows.read(matrix, self._interactions)
        raw |= {name: p.scores(rows, self._interactions) for name, p in self._alone.items()}
        scores = {output.name: output.expectation(raw[output.name]) for output in self.outputs_}
        scores |= {
            name: np.broadcast_to(value, (matrix.shape[0], *value.shape)).copy()
            for name, value in self.constants_.items()
        }
        scores = entire_scores(self.tasks_, self.classes_map_, scores)
        return scores if space == "entire" else conditional_scores(self.tasks_, self.classes_map_, scores)

    @property
    def linear_shares_(self) -> dict[str, Array]:
        """The c of each task at its checkpoint, empty without shared linear weights."""
        return {
            output.name: self._checkpoints[self.best_iter_[output.name]].share_slots[
                0, output.start : output.start + output.width
            ]
            for output in self.outputs_
        }

    @property
    def interaction_weights_(self) -> dict[str, Array]:
        """The r of each task at its checkpoint."""
        weights = {}
        for output in self.outputs_:
            mixers = self._checkpoints[self.best_iter_[output.name]].mixer_slots[:, 0, : self.n_factors]
            own = mixers[output.start : output.start + output.width]
            weights[output.name] = own if output.loss == "softmax" else own[0]
        return weights


def _as_frame(table: Table) -> Table:
    """Arrays as frames with numbered columns, because only frames may hold missing numbers."""
    return pd.DataFrame(table) if isinstance(table, np.ndarray) else table


def _numbers(output: TaskOutput, targets: Array) -> Array:
    """The labels as `losses` wants them: codes of classes, numbers on their own scale."""
    own = output.of(targets).astype(np.float64)
    return own.argmax(axis=1).astype(np.float64) if output.loss == "softmax" else own * output.scale + output.mean
