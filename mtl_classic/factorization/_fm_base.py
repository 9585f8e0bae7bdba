"""What the factorization machines for one label share: the way from X and y to a solver, and back to scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.options import COLUMN, COUNT, COUNT_OR_0, TRUTH, Option
from mtl_classic._core.random import root_seed
from mtl_classic._core.time import to_time
from mtl_classic._core.validation import check_order, find_role
from mtl_classic.factorization._design import Design, input_form, read_table, refuse_empty
from mtl_classic.factorization._draws import Draws
from mtl_classic.factorization._pairs import has_pairs
from mtl_classic.factorization._problem import Parameters, Problem, Rows, mean_one
from mtl_classic.factorization._registry import check_solver, resolve_solver
from mtl_classic.factorization._settings import OPTIONS, Settings, machine_space
from mtl_classic.factorization._solvers import StochasticSolver

Array = npt.NDArray[Any]
# What fields get that a dict of penalties does not name.
REG_LINEAR, REG_FACTORS = 1e-4, 0.03


@dataclass(frozen=True)
class Labels:
    """Labels in the coding of a loss: `targets` (n,) or (n, n_classes), and the loss that they call for."""

    targets: Array
    loss: str

    @property
    def n_outputs(self) -> int | None:
        """Number of outputs; None for the kernels of a single one."""
        return None if self.targets.ndim == 1 else self.targets.shape[1]


class BaseFactorizationMachine(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Fit, scores and factors; subclasses say how labels are coded (`_labels`) and what scores mean."""

    _parameters: Parameters
    _design: Design
    _fitted_by: tuple[str, str]  # solver and loss: what the slots beside the parameters mean
    _extra: Draws | None
    _options: ClassVar[dict[str, Option]] = OPTIONS | {
        "n_members": COUNT, "batch_size": COUNT, "query": (COLUMN, None), "time": (COLUMN, None), "warm_start": TRUTH,
        "verbose": (COUNT_OR_0, TRUTH),
    }  # fmt: skip

    def search_space(self) -> dict[str, Any]:
        """What is worth searching: the size of the vectors, the rate (stochastic solvers), and what holds them."""
        space = machine_space()
        if not isinstance(resolve_solver(self.solver), StochasticSolver):
            del space["learning_rate"]
        return space

    @all_or_nothing
    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, query: Any = None, time: Any = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array or CSR of shape (n, n_features), or frame
            Frames are encoded by `FieldEncoder`.
        y : array of shape (n,)
            Labels; a soft-label classifier also takes (n, n_classes).
        sample_weight : array of shape (n,), default=None
            Multiplies a row's loss and penalties; 0 leaves the row out. Stochastic solvers divide by the mean.
        query : array of shape (n,), default=None
            Groups for ``loss="bpr"``, in place of the column ``query``.
        time : array of shape (n,), default=None
            Times of the rows, dates or numbers, in place of the column ``time``.

        Returns
        -------
        self
        """
        self._check_parameters(X, time=time)
        resume = self.warm_start and hasattr(self, "_parameters")
        table = read_table(self, X, reset=not resume)
        check_order(table, y=y, sample_weight=sample_weight, query=query, time=time)
        labels = self._labels(y, reset=not resume, sample_weight=sample_weight)
        matrix = self._encode(table, resume)
        problem = self._problem(table, matrix, labels, sample_weight, query, self._times(table, time))
        if isinstance(resolve_solver(self.solver), StochasticSolver):  # the others' solutions say what the scale means
            problem = replace(problem, weights=mean_one(problem.weights).astype(np.float32))
        if problem.query is not None and not has_pairs(problem.targets, problem.query):
            raise ValueError('loss="bpr" learns from rows of one query that have different labels; there are none.')
        self._solve(problem, labels, self._settings(resume=resume), resume)
        return self

    @all_or_nothing
    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, query: Any, classes: Any = None) -> Self:
        self._check_parameters(X, partial_fit=True)
        resume = hasattr(self, "_parameters")
        table = read_table(self, X, reset=not resume)
        check_order(table, y=y, sample_weight=sample_weight, query=query)
        labels = self._labels(y, reset=not resume, classes=classes, sample_weight=sample_weight)
        matrix = self._encode(table, resume)
        problem = self._problem(table, matrix, labels, sample_weight, query)
        self._solve(problem, labels, self._settings(resume=resume, max_iter=1, early_stopping=False), resume)
        return self

    def _encode(self, table: Any, resume: bool) -> sparse.csr_matrix:
        if resume:
            refuse_empty(table)
            self._design, matrix = self._design.extend(table)
            return matrix
        self._design = self._new_design(table)
        return self._design.fit_transform(table)

    def _new_design(self, table: Any) -> Design:
        exclude = list(self.exclude)
        if self.time is not None and isinstance(table, pd.DataFrame):
            exclude.append(str(find_role(table.columns, self.time, "time")))
        return Design(
            categorical=self.categorical, exclude=exclude, scale=self.scale, fields=self.fields,
            groups=self.groups, interactions=self.interactions,
        )  # fmt: skip

    def _labels(self, y: Any, *, reset: bool, classes: Any = None, sample_weight: Any = None) -> Labels:
        raise TypeError("subclasses code their labels")

    def _check_parameters(self, X: Any, partial_fit: bool = False, time: Any = None) -> None:
        if self.loss not in self._losses:
            raise ValueError(f"loss must be one of {', '.join(self._losses)}, got {self.loss!r}.")
        check_solver(
            resolve_solver(self.solver),
            loss=self.loss,
            interactions="all" if isinstance(self.interactions, str) else "groups",
            rows=input_form(X),
            partial_fit=partial_fit,
            warm_start=self.warm_start,
            batches=self.batch_size > 1,
            dropout=self.dropout > 0 or self.drop_connect > 0,
            members=self.n_members > 1,
            time=self.time is not None or time is not None,
        )

    def _settings(self, **changes: Any) -> Settings:
        names = (
            "max_iter", "learning_rate", "batch_size", "dropout", "drop_connect", "init_scale", "early_stopping",
            "validation_fraction", "n_iter_no_change", "tol", "n_members",
        )  # fmt: skip
        settings = {name: getattr(self, name) for name in names} | {"seed": root_seed(self.random_state)}
        return Settings(**(settings | changes))

    def _problem(
        self, table: Any, matrix: sparse.csr_matrix, labels: Labels, sample_weight: Any, query: Any,
        time: Array | None = None,
    ) -> Problem:  # fmt: skip
        n = matrix.shape[0]
        weights = _check_sample_weight(sample_weight, matrix, dtype=np.float32, ensure_non_negative=True)
        targets = labels.targets.astype(np.float32)
        if labels.n_outputs is not None:
            weights = np.repeat(weights[:, None], labels.n_outputs, axis=1)
        check_consistent_length(matrix, targets)
        problem = Problem(
            matrix, targets, weights,
            labels.loss if labels.n_outputs is None else ((labels.loss, labels.n_outputs),),
            self._design.interactions(),
            self._design.per_column(self.reg_factors, REG_FACTORS, "reg_factors"),
            self._design.per_column(self.reg_linear, REG_LINEAR, "reg_linear"),
            self._query_codes(table, n, query) if labels.loss == "bpr" else None,
            self._design.fields(),
            time,
        )  # fmt: skip
        return problem if weights.all() else problem.take(np.flatnonzero(weights.reshape(n, -1)[:, 0]))

    def _times(self, table: Any, time: Any) -> Array | None:
        time = self._given_or_column(table, time, "time", "the times")
        if time is None:
            return None
        times = to_time(time, self.time or "time")
        if len(times) != table.shape[0]:
            raise ValueError(f"time has {len(times)} entries, X has {table.shape[0]} rows.")
        return times

    def _given_or_column(self, table: Any, given: Any, role: str, what: str) -> Any:
        """What was given to fit, else the column that the parameter names, else None."""
        if given is not None or getattr(self, role) is None:
            return given
        if not isinstance(table, pd.DataFrame):
            raise ValueError(f"{role}= names a column, so X must be a frame; or give {what} to fit({role}=…).")
        return table[find_role(table.columns, getattr(self, role), role)]

    def _query_codes(self, table: Any, n: int, query: Any) -> Array:
        query = self._given_or_column(table, query, "query", "the groups")
        if query is None:
            raise ValueError(
                'loss="bpr" compares rows of one group: give query=, a column of X, or fit(query=…), an array.'
            )
        if not np.ndim(query):
            raise TypeError(f"query must be an array with the group of each row, got {query!r}.")
        codes = pd.factorize(np.asarray(query))[0]
        if len(codes) != n:
            raise ValueError(f"query has {len(codes)} entries, X has {n} rows.")
        if (codes < 0).any():
            raise ValueError(f"{int((codes < 0).sum())} of {n} rows have no query; leave them out, or fill it in.")
        return codes

    def _solve(self, problem: Problem, labels: Labels, settings: Settings, resume: bool) -> None:
        solver, n_factors = resolve_solver(self.solver), self.n_factors * self.n_members
        if resume:
            self._check_resumes(solver, labels)
            self._parameters = self._parameters.grow(self._design.n_columns)
        elif labels.n_outputs is None:
            self._parameters = Parameters(self._design.n_columns, n_factors, solver.n_slots)
        else:
            self._parameters = Parameters(
                self._design.n_columns, 0, solver.n_slots, n_outputs=labels.n_outputs, n_private=n_factors
            )
        report = solver.solve(problem, self._parameters, settings)
        self._fitted_by = solver.name, self.loss
        self.validation_losses_ = list(report.validation_losses)
        self.n_iter_, self.best_iter_ = len(self.validation_losses_) or report.n_iter, report.n_iter
        self.fields_ = problem.fields
        self._interactions, self._extra = problem.interactions, report.extra

    def _check_resumes(self, solver: Any, labels: Labels) -> None:
        p = self._parameters
        factors = p.n_factors if p.n_outputs is None else p.n_private
        before, now = (factors, p.n_outputs), (self.n_factors * self.n_members, labels.n_outputs)
        if (*before, *self._fitted_by) != (*now, solver.name, self.loss):
            raise ValueError(
                "n_factors, n_members, loss, solver and the number of classes cannot change between fits that build on "
                "each other; fit with warm_start=False."
            )

    def _raw_scores(self, X: Any) -> Array:
        """Return the scores of rows, float64, (n,) or (n, n_outputs)."""
        matrix = self._matrix(X)
        if self._extra is not None:
            return self._extra.mean_score(matrix)
        return self._parameters.scores(Rows.read(matrix, self._interactions), self._interactions).astype(np.float64)

    def _matrix(self, X: Any) -> sparse.csr_matrix:
        check_is_fitted(self, "_parameters")
        return self._design.transform(read_table(self, X, reset=False))

    @property
    def factors_(self) -> Array:
        """Factors of the columns, (n_columns, n_factors); (n_columns, n_classes, n_factors) for several classes."""
        p = self._fitted()
        if p.n_outputs is None:
            return p.factor_slots[:, 0, : p.n_factors]
        return p.factor_slots[:, 0, p.live].reshape(p.n_columns, p.n_outputs, p.n_private)

    @property
    def coef_(self) -> Array:
        """Linear weights of the columns, (n_columns,) or (n_classes, n_columns)."""
        p = self._fitted()
        return p.linear_slots[:, 0, 0] if p.n_outputs is None else p.linear_slots[:, 0, : p.n_outputs].T

    @property
    def intercept_(self) -> Any:
        """Bias, a float or (n_classes,)."""
        p = self._fitted()
        return float(p.bias[0]) if p.n_outputs is None else p.bias_slots[0, : p.n_outputs]

    def _fitted(self) -> Parameters:
        if not hasattr(self, "_parameters"):
            raise AttributeError(f"{type(self).__name__} is not fitted yet.")
        return self._parameters

    def transform(self, X: Any) -> Array:
        """Latent vectors of rows: Σ x v over the columns of each part.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)

        Returns
        -------
        ndarray of float32, shape (n, n_parts · n_members · n_factors)
            One part for ``interactions="all"``, else one per group; for several classes, one block per class each.
        """
        matrix = self._matrix(X)
        factors = self._parameters.factor_slots[:, 0, self._parameters.live]
        parts = self._interactions.parts
        if parts is None:
            return np.asarray(matrix @ factors, dtype=np.float32)
        n_parts = self._interactions.n_parts - 1  # the last holds the columns of no group
        return np.hstack([matrix @ (factors * (parts == a)[:, None]) for a in range(n_parts)]).astype(np.float32)

    @property
    def _n_features_out(self) -> int:
        n_parts = 1 if self._interactions.parts is None else self._interactions.n_parts - 1
        return n_parts * int(self._parameters.live.sum())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_parameters")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags
