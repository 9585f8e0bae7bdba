"""Conformal intervals for regression and count tasks: coverage that holds whatever the model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mtl_classic._core.base import FitInput, Floats, Scores
from mtl_classic._core.delays import longest_delay
from mtl_classic._core.exceptions import FoldError, TaskError
from mtl_classic._core.options import FOLDS, SHARE, Option, check_option
from mtl_classic._core.random import generator, root_seed, spawn_seed
from mtl_classic._core.targets import known_share
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, n_rows, resolve_roles, role_values, row_index
from mtl_classic.ensemble._members import OverMembers, in_all_classes, shared_plan
from mtl_classic.ensemble._store import Data, cross_fit_members, fit_members
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._plans import check_plan, labels_for_folds, time_for_folds
from mtl_classic.model_selection._progress import with_callbacks
from mtl_classic.model_selection._validation_split import validation_split

__all__ = ["ConformalModel"]

KINDS = ("regression", "count")
BISECTIONS = 60


class ConformalModel(OverMembers):
    r"""A model with prediction intervals that cover the label of a new row with a given probability.

    With signed residuals :math:`r_i = y_i - f_{-i}(x_i)` of rows that their model was not fitted on,

    - ``"split"``: one model on part of the rows; :math:`[f(x) + q_{\alpha/2}(r), f(x) + q_{1 - \alpha/2}(r)]`;
    - ``"cv+"``: a model per fold; the quantiles of :math:`f_{k(i)}(x) + r_i` over all rows i, with the model of the
      fold that i was left out of.

    Both tails are bounded separately, so intervals of skewed labels are skewed. Counts are treated on the scale of
    square roots, where their spread is even, and the bounds are whole numbers. Lower bounds of labels that are never
    negative are never negative.

    Parameters
    ----------
    estimator : multi-task estimator
        Unfitted.
    method : {"cv+", "split"}, default="cv+"
        ``"split"`` costs one fit and needs rows to spare; ``"cv+"`` uses all rows for both.
    cv : int, splitter, Temporal or array of fold numbers, default=5
        Of ``"cv+"``; an int gives folds in time where the member, or the log given to ``fit``, names a time.
    calibration_fraction : float, default=0.25
        Of ``"split"``: the share of rows held out, the latest where folds would be in time.
    groups : str, default=None
        Column whose groups are never split; then folds are not in time.
    memory : str or joblib.Memory, default=None
        Where finished fits are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for folds and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds, and seeds an estimator that has no seed of its own.

    Attributes
    ----------
    tasks_ : tuple of Task
    estimator_ : fitted estimator
        Makes the predictions: of all rows for ``"cv+"``, of those not held out for ``"split"``.
    fold_estimators_ : list of fitted estimators
        What the intervals are centred on.
    residuals_ : dict task -> list of arrays
        Sorted residuals of each of them; counts on the scale of square roots.
    lowest_ : dict task -> float
        Below which no bound lies: 0 where no label is negative, else −inf.
    n_uncovered_ : int
        Rows that no fold predicts, which have no residual.

    Notes
    -----
    Rows must be exchangeable with those of the fit for the coverage to be exact: at least 1 − α for ``"split"``, in the
    worst case 1 − 2α for ``"cv+"``, in practice 1 − α and, for models that differ much from fold to fold, a little
    more. On later rows coverage is what drift leaves of it. It is that of all rows together: of a rare amount, 0 in
    nearly all of them, the few that are not may lie outside (intervals for buyers are those of a task whose label is
    NaN for all others). Residuals count alike whatever their sample weight, but for those of weight 0, which do not.
    Where a funnel child is labelled in a share of its parent's positive rows, as large a share, drawn at random, of the
    zeros that the parent tells counts. Cost of an interval: one prediction per fold, and a bisection.

    References
    ----------
    R. F. Barber et al., Predictive inference with the jackknife+, 2021, doi:10.1214/20-AOS1965.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import ConformalModel, PerTaskModel
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 1))
    >>> Y = X + rng.normal(size=(2000, 1))
    >>> model = ConformalModel(PerTaskModel(learner="linear"), random_state=0).fit(X[:1000], Y[:1000])
    >>> bounds = model.predict_interval(X[1000:], coverage=0.9)["y0"]
    >>> inside = (bounds["low"] <= Y[1000:, 0]) & (Y[1000:, 0] <= bounds["high"])
    >>> bool(0.87 < inside.mean() < 0.93)
    True
    """

    _options: ClassVar[dict[str, Option]] = {
        "method": ("cv+", "split"), "cv": (FOLDS, None), "calibration_fraction": SHARE,
    }  # fmt: skip

    def __init__(
        self,
        estimator: Any,
        *,
        method: str = "cv+",
        cv: Any = 5,
        calibration_fraction: float = 0.25,
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.calibration_fraction = calibration_fraction
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> ConformalModel:
        """Fit the models, and keep the residuals of the rows that they were not fitted on.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to the estimator.
        plan : FoldPlan, default=None
            Used in place of ``cv``, and handed to the estimator; ``"split"`` holds out the rows of its last fold.
        """
        self._check_members()
        given = self._start_fit(X, Y, sample_weight)
        Y = rows_of(Y)
        numeric = [task for task in self.tasks_ if task.kind in KINDS]
        if not numeric:
            kinds = ", ".join(f"{task.name} ({task.kind})" for task in self.tasks_)
            raise TaskError(f"Intervals are for regression and count tasks; there are only {kinds}.")
        data = Data(given.X, Y, given.weights, events)
        split = self.method == "split"
        progress = self._begin(1 if split else 2, X, Y)
        run: Any = {"memory": self.memory, "n_jobs": self.n_jobs, "progress": progress}
        plan = self._split(given, data, plan) if split else shared_plan(self, given, Y, self.cv, plan, events)
        members = self._seeded_members()
        store = cross_fit_members(members, data, plan, self.tasks_, self.classes_map_, keep_models=True, **run)
        self.fold_estimators_ = store.models["model"]
        self._agree(self.fold_estimators_, all_classes=False)
        refitted = [] if split else fit_members(members, data, plan=plan, **run)
        self.estimator_ = self.fold_estimators_[0] if split else refitted[0]
        self.n_uncovered_ = int((store.fold < 0).sum())
        self.lowest_, self.residuals_ = {}, {}
        for task in numeric:
            known = given.counted(task.name)
            known = known[~np.isnan(known)]
            self.lowest_[task.name] = 0.0 if len(known) and known.min() >= 0 else -np.inf
            error = self._errors(given, task, store.scores["model"][task.name])
            by_fold = [error[store.fold == k] for k in range(len(plan))]
            self.residuals_[task.name] = [np.sort(values[~np.isnan(values)]) for values in by_fold]
        progress.end(X, Y)
        return self

    def _split(self, given: FitInput, data: Data, plan: FoldPlan | None) -> FoldPlan:
        n = n_rows(given.X)
        if plan is not None:
            check_plan(plan, n)
            return FoldPlan((plan.last,), n, plan.temporal)
        column = resolve_roles(given.X, groups=self.groups)["groups"] if self.groups is not None else None
        named = time_for_folds(given.X, self.roles_["time"], data.events)
        time = None if column is not None else role_values(given.X, named)
        time = None if time is None or time.nunique() < 2 else time
        gap = longest_delay(self.tasks_, time)
        seed = spawn_seed(root_seed(self.random_state), "calibration")
        rows = validation_split(
            labels_for_folds(data.Y, self.tasks_, given.weights),
            self.calibration_fraction,
            groups=role_values(given.X, column),
            time=time,
            gap=gap,
            random_state=seed,
        )
        if rows is None:
            raise FoldError(f"{n} rows are too few to hold out {self.calibration_fraction:.0%} of them.")
        return FoldPlan((rows,), n, time is not None)

    def _errors(self, given: FitInput, task: Task, scores: Floats) -> Floats:
        """Signed residuals of the rows that count, NaN elsewhere."""
        error = _spread_evenly(task, given.counted(task.name)) - _spread_evenly(task, scores)
        share = known_share(given.targets, task, given.weights)
        if share is not None:  # all zeros that the parent tells would be too many beside the labelled children
            chance = generator(root_seed(self.random_state), "share", task.name).random(len(error))
            error[chance >= share] = np.nan
        return error

    def _scores(self, X: Table, space: str) -> Scores:
        scores: Scores = self.estimator_._scores(self.estimator_._start_predict(X), space)
        return in_all_classes(scores, self.estimator_.classes_map_, self.classes_map_)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> pd.DataFrame:
        """Bounds between which the label lies with the given probability.

        Parameters
        ----------
        X : table of shape (n, n_features)
        coverage : float, default=0.9
            In (0, 1).

        Returns
        -------
        DataFrame with the columns (task, "low") and (task, "high")
            For regression and count tasks. Infinite where there are too few residuals for the coverage (fewer than 39
            for 95 %).
        """
        check_option("coverage", coverage, SHARE)
        table = self._start_predict(X)
        centers = [model._scores(model._start_predict(table), "entire") for model in self.fold_estimators_]
        tail = (1 - coverage) / 2
        bounds: dict[tuple[str, str], Floats] = {}
        for task in self.tasks_:
            if task.kind not in KINDS:
                continue
            middle = np.asarray([_spread_evenly(task, scores[task.name]) for scores in centers])
            residuals = self.residuals_[task.name]
            low = -_upper_bound(-middle, [-r[::-1] for r in residuals], tail)
            high = _upper_bound(middle, residuals, tail)
            bounds[task.name, "low"], bounds[task.name, "high"] = self._back(task, low, high)
        frame = pd.DataFrame(bounds, index=row_index(table)).rename_axis(columns=["task", "bound"])
        return frame + 0.0  # no −0

    def _back(self, task: Task, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        if task.kind == "count":
            low, high = np.maximum(low, 0.0) ** 2, np.maximum(high, 0.0) ** 2
            # whole numbers inside the bounds; rounding noise must not push a whole bound over
            return np.ceil(low - 1e-9), np.floor(high + 1e-9)
        return np.maximum(low, self.lowest_[task.name]), np.maximum(high, self.lowest_[task.name])


def _spread_evenly(task: Task, values: Floats) -> Floats:
    return np.sqrt(np.maximum(values, 0.0)) if task.kind == "count" else values


def _upper_bound(centers: Floats, residuals: list[Floats], tail: float) -> Floats:
    """The ⌈(1 − tail)(n + 1)⌉-th smallest of centers[k] + residuals[k] over all folds k, for every row.

    Found by bisection: how many sums lie at or below a bound is a binary search in each fold's sorted residuals.
    """
    n = sum(map(len, residuals))
    rank = int(np.ceil((1 - tail) * (n + 1) - 1e-9))
    if rank > n or not centers.shape[1]:
        return np.full(centers.shape[1], np.inf)
    used = [k for k, values in enumerate(residuals) if len(values)]
    low = np.min([centers[k] + residuals[k][0] for k in used], axis=0) - 1e-9
    high = np.max([centers[k] + residuals[k][-1] for k in used], axis=0) + 1e-9
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = sum(np.searchsorted(residuals[k], middle - centers[k], side="right") for k in used)
        enough = below >= rank
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    return np.asarray(high)
