"""What is inside of a factorization machine for several tasks: its checks, its parts, and what their scores say."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.base import FitInput, MultiTaskEstimator, query_columns
from mtl_classic._core.options import COUNT_OR_0, SHARE, TRUTH, Option
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.targets import Classes, Targets
from mtl_classic._core.task_weights import ADAPTIVE, BY_CV, check_task_weights
from mtl_classic._core.validation import Table
from mtl_classic.factorization._descent import split_validation
from mtl_classic.factorization._design import Design, input_form, one_entry_each, refuse_empty
from mtl_classic.factorization._fm_base import REG_FACTORS, REG_LINEAR
from mtl_classic.factorization._outputs import TaskOutput, code_labels, labelled_rows
from mtl_classic.factorization._problem import Interactions, Parameters, Problem, Rows
from mtl_classic.factorization._registry import check_solver, resolve_solver
from mtl_classic.factorization._settings import OPTIONS, Settings
from mtl_classic.factorization._solvers import Solver, StochasticSolver
from mtl_classic.model_selection import FoldPlan

Array = npt.NDArray[Any]


class JointMachine(MultiTaskEstimator):
    """Checks, machines and scores; `MultiTaskFactorizationMachine` has the parameters, and fits.

    `_checkpoints` are the machines of the passes that some task keeps, by pass; `_alone` those of tasks that fell back.
    `_anchor` is the output whose interaction weights stay 1, `_losses` are those of the last passes, by task.
    """

    outputs_: tuple[TaskOutput, ...]
    constants_: dict[str, Array]
    task_weights_: dict[str, float]
    best_iter_: dict[str, int]
    fallbacks_: dict[str, str]
    validation_losses_: pd.DataFrame
    _design: Design
    _interactions: Interactions
    _checkpoints: dict[int, Parameters]
    _alone: dict[str, Parameters]
    _anchor: int
    _losses: list[list[float]]
    _fitted_by: str
    _options: ClassVar[dict[str, Option]] = OPTIONS | {
        "n_private": COUNT_OR_0, "shared_linear": TRUTH, "fallback": (TRUTH, None), "fallback_level": SHARE,
    }  # fmt: skip

    def _check_solver(self, X: Any) -> StochasticSolver:
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

    def _check_task_weights(self) -> Array | str:
        if self.task_weights == BY_CV and not hasattr(self, "task_weights_"):
            raise ValueError('task_weights="cv" is found by fits; call fit before partial_fit, or give a dict.')
        given = self.task_weights_ if self.task_weights == BY_CV else self.task_weights
        if isinstance(given, str):
            if given not in ADAPTIVE:
                names = ", ".join(map(repr, (*ADAPTIVE, BY_CV)))
                raise ValueError(f"task_weights must be None, a dict, or one of {names}; got {given!r}.")
            return given
        return check_task_weights(given, self.tasks_)

    def _of_outputs(self, task_weights: Array | str) -> Array | str:
        """The weights of the tasks that are no constants."""
        if isinstance(task_weights, str):
            return task_weights
        return task_weights[[task.name not in self.constants_ for task in self.tasks_]]

    def _check_more(self, X: Any, Y: Any, sample_weight: Any, announced: Classes) -> FitInput:
        """Validate rows that come on top of those that were learnt."""
        table = self._start_predict(X)
        refuse_empty(table)
        for name, labels in announced.items():
            known = self.classes_map_[name]
            if not np.array_equal(np.asarray(labels), np.asarray(known)):
                raise ValueError(
                    f"classes of task {name!r} are not the same as on the last call to partial_fit, or fit: {known}. "
                    f"Give all classes at the first call, and later the same or none."
                )
        return self._with_labels(table, Y, sample_weight)

    def _check_resumes(self, solver: Solver) -> None:
        """Refuse other machines than those that there are."""
        asked = self._parameters(solver)
        before = {(p.n_factors, p.n_private, p.shared_linear) for p in self._checkpoints.values()}
        if self._fitted_by != solver.name or before - {(asked.n_factors, asked.n_private, asked.shared_linear)}:
            raise ValueError(
                "n_factors, n_private, shared_linear and solver cannot change between fits that build on each other."
            )

    def _settings(self) -> Settings:
        return Settings(
            max_iter=self.max_iter, learning_rate=self.learning_rate, dropout=self.dropout,
            drop_connect=self.drop_connect, init_scale=self.init_scale, early_stopping=self.early_stopping,
            validation_fraction=self.validation_fraction, n_iter_no_change=self.n_iter_no_change, tol=self.tol,
            seed=root_seed(self.random_state),
        )  # fmt: skip

    def _encode(self, table: Table) -> sparse.csr_matrix:
        ids = {*self.categorical, self.roles_["user"]}
        queries = [column for column in query_columns(table, self.tasks_) if column not in ids]
        self._design = Design(
            categorical=self.categorical, exclude=[*self.exclude, *queries], scale=self.scale, fields=self.fields,
            groups=self.groups, interactions=self.interactions,
        )  # fmt: skip
        matrix = self._design.fit_transform(_as_frame(table))
        self._interactions = self._design.interactions()
        return matrix

    def _extend(self, table: Table) -> sparse.csr_matrix:
        self._design, matrix = self._design.extend(_as_frame(table))
        self._interactions = self._design.interactions()
        return matrix

    def _start_machines(self, solver: Solver) -> None:
        """None of them is there yet; where all tasks are constants it stays so, and rows are read as ever."""
        self._checkpoints, self._alone, self._losses, self._fitted_by, self._anchor = {}, {}, [], solver.name, 0
        self.best_iter_, self.fallbacks_ = {}, {}
        self.validation_losses_ = pd.DataFrame(columns=[output.name for output in self.outputs_])

    def _problem(self, matrix: sparse.csr_matrix, targets: Targets, weights: Array) -> Problem:
        return Problem(
            matrix, *code_labels(targets, weights, self.outputs_),
            tuple((output.loss, output.width) for output in self.outputs_), self._interactions,
            self._design.per_column(self.reg_factors, REG_FACTORS, "reg_factors"),
            self._design.per_column(self.reg_linear, REG_LINEAR, "reg_linear"), None, self._design.fields(),
        )  # fmt: skip

    def _parameters(self, solver: Solver) -> Parameters:
        return Parameters(
            self._design.n_columns, self.n_factors, solver.n_slots, n_private=self.n_private,
            n_outputs=sum(output.width for output in self.outputs_),
            shared_linear=bool(self.shared_linear) and len(self.outputs_) > 1,
        )  # fmt: skip

    def _split(
        self, problem: Problem, settings: Settings, plan: FoldPlan | None
    ) -> tuple[Problem, Problem | None, Array]:
        """Return what to learn from and to stop by, and the rows of the latter; in neither are rows without labels.

        Where a plan leaves no labels to learn from, or none to stop by, all rows are learnt.
        """
        labelled = labelled_rows(problem)
        if plan is None or not self.early_stopping:
            every = len(labelled) == problem.n_rows
            known = problem if every else problem.take(labelled)
            training, validation, held = split_validation(known, settings, generator(settings.seed, "validation"))
            return training, validation, labelled[held]
        rows, held = (np.intersect1d(part, labelled) for part in plan.last)
        if not len(rows) or not len(held):
            return problem.take(labelled), None, held[:0]
        return problem.take(rows), problem.take(held), held

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
        return self._in_space(scores, space)

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
            checkpoint = self._checkpoints[self.best_iter_[output.name]]
            own = checkpoint.mixer_slots[output.start : output.start + output.width, 0, : checkpoint.n_factors]
            weights[output.name] = own if output.loss == "softmax" else own[0]
        return weights


def _as_frame(table: Table) -> Table:
    """Arrays as frames with numbered columns, because only frames may hold missing numbers; sparse rows as such."""
    if sparse.issparse(table):
        if not np.isfinite(table.data).all():
            raise ValueError("A sparse X must not hold NaN: leave out what is missing, or give an array or a frame.")
        return one_entry_each(table)
    return pd.DataFrame(table) if isinstance(table, np.ndarray) else table
