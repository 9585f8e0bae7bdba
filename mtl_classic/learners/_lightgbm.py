"""LightGBM as a learner: one Dataset for all tasks; subsets reuse its bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
from scipy import sparse
from scipy.stats import loguniform, uniform

from mtl_classic._core.labels import MAX_RELEVANCE
from mtl_classic._core.options import (
    COUNT,
    COUNT_OR_0,
    FINITE,
    FINITE_POSITIVE,
    MAPPING,
    SHARE_OR_ALL,
    TWO_OR_MORE,
    Option,
)
from mtl_classic._core.tasks import Task
from mtl_classic.learners._columns import Features
from mtl_classic.learners._defaults import tree_defaults
from mtl_classic.learners._flat_trees import flat_trees_for
from mtl_classic.learners._leaves import kept_share
from mtl_classic.learners._lightgbm_refresh import refit_leaves
from mtl_classic.learners._params import check_lightgbm, lightgbm_params
from mtl_classic.learners._protocol import (
    FitRequest,
    Floats,
    Learner,
    Rows,
    TaskFit,
    constant_fit,
    n_further,
    run_lengths,
)

__all__ = ["LightGBMLearner"]

_OBJECTIVES = {
    "binary": "binary",
    "multiclass": "multiclass",
    "regression": "regression",
    "count": "poisson",
    "ranking": "lambdarank",
}
_LONGEST_QUERY = 10_000  # rows, of lambdarank


class LightGBMLearner(Learner):
    """Gradient-boosted trees by LightGBM, for every kind of task.

    The objective follows the kind: binary log-loss (``cross_entropy`` for soft labels), softmax, squared error, Poisson
    deviance, lambdarank. Settings that are None follow the label: a leaf of a classification tree must rest on a
    number of expected positives, not of rows, so that rare labels are regularized more.

    Parameters
    ----------
    num_leaves : int, default=None
    learning_rate : float, default=None
    max_iter : int, default=1000
        Most rounds of boosting.
    n_iter_no_change : int, default=20
        Rounds without a better validation loss before stopping.
    min_data_in_leaf : int, default=None
    min_sum_hessian_in_leaf : float, default=None
        For log-loss about the number of rarer-class rows that a leaf rests on.
    lambda_l2 : float, default=None
    feature_fraction : float, default=None
        Share of the columns tried by each tree.
    cat_smooth : float, default=100.0
        Hessians added to each category before the categories are ordered by their means: LightGBM's own 10 lets the
        means of small categories decide, which are noise.
    max_bin : int, default=255
    params : dict, default=None
        Further parameters of LightGBM, by any of its names, taking precedence; an objective must be one of the kind of
        the tasks. ``boosting="dart"`` can't be stopped early: it takes ``max_iter`` rounds.

    References
    ----------
    Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import LightGBMLearner, PerTaskModel
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> learner = LightGBMLearner(num_leaves=7)
    >>> model = PerTaskModel({"up": "binary"}, learner=learner, random_state=0).fit(X, X[:, 0] > 0)
    >>> bool((model.predict(X) == (X[:, 0] > 0)).mean() > 0.9)
    True
    """

    early_stops = True

    _options: ClassVar[dict[str, Option]] = {
        "num_leaves": (TWO_OR_MORE, None), "learning_rate": (FINITE_POSITIVE, None), "max_iter": COUNT,
        "n_iter_no_change": COUNT, "min_data_in_leaf": (COUNT_OR_0, None), "min_sum_hessian_in_leaf": (FINITE, None),
        "lambda_l2": (FINITE, None), "feature_fraction": (SHARE_OR_ALL, None), "cat_smooth": FINITE,
        "max_bin": TWO_OR_MORE, "params": (MAPPING, None),
    }  # fmt: skip

    def __init__(
        self,
        *,
        num_leaves: int | None = None,
        learning_rate: float | None = None,
        max_iter: int = 1000,
        n_iter_no_change: int = 20,
        min_data_in_leaf: int | None = None,
        min_sum_hessian_in_leaf: float | None = None,
        lambda_l2: float | None = None,
        feature_fraction: float | None = None,
        cat_smooth: float = 100.0,
        max_bin: int = 255,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_leaves = num_leaves
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.min_data_in_leaf = min_data_in_leaf
        self.min_sum_hessian_in_leaf = min_sum_hessian_in_leaf
        self.lambda_l2 = lambda_l2
        self.feature_fraction = feature_fraction
        self.cat_smooth = cat_smooth
        self.max_bin = max_bin
        self.params = params

    def search_space(self) -> dict[str, Any]:
        """The size of the trees, their rate, and what holds their leaves."""
        return {
            "num_leaves": [7, 15, 31, 63, 127],
            "learning_rate": loguniform(0.02, 0.2),
            "min_sum_hessian_in_leaf": loguniform(0.1, 50),
            "lambda_l2": loguniform(0.01, 30),
            "feature_fraction": uniform(0.3, 0.7),
        }

    def check_task(self, task: Task) -> None:
        """Refuse settings that LightGBM would not take, or ignore."""
        check_lightgbm(self.params, task)

    def bin(self, features: Features, *, n_threads: int = 1) -> BinnedLightGBM:
        """Construct the Dataset that all tasks share.

        Cost: one pass over a sample of 200,000 rows for the bin edges and one over all rows; one to two bytes a value.
        """
        params = self._dataset_params() | {"num_threads": n_threads}
        if not sparse.issparse(features.values):  # sparse bins, column by column, break on subsets: wild memory
            params = {"is_enable_sparse": False} | params
        dataset = lgb.Dataset(
            features.values,
            label=np.zeros(len(features), dtype=np.float32),
            feature_name=[f"f{j}" for j in range(features.values.shape[1])],
            categorical_feature=list(features.categorical),
            params=params,
            free_raw_data=True,
        )
        dataset.construct()
        return BinnedLightGBM(dataset, len(features), params)

    def fit_task(self, binned: BinnedLightGBM, request: FitRequest) -> TaskFit:
        """Boost one task on a subset of the shared bins."""
        constant = constant_fit(request)
        if constant is not None:
            return constant
        _check_queries(request)
        params = self._train_params(request, binned.dataset.num_feature())
        train = binned.subset(request.rows, request)
        valid, callbacks = [], []
        rounds = request.n_rounds
        if request.valid_rows is not None and params.get("boosting") == "dart":  # later rounds change earlier trees
            rounds = self.max_iter
        elif request.valid_rows is not None:
            valid = [binned.subset(request.valid_rows, request)]
            callbacks = [lgb.early_stopping(self.n_iter_no_change, first_metric_only=True, verbose=False)]
            rounds = self.max_iter
        elif rounds is None:
            rounds = min(self.max_iter, tree_defaults(request.task.kind, request.y[request.rows]).n_rounds)
        booster = lgb.train(params | binned.params, train, rounds, valid_sets=valid, callbacks=callbacks)
        best = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
        return LightGBMFit(booster, best if valid else rounds, evidence=request.mass)

    def refresh_way(self, fit: LightGBMFit, how: str) -> str | None:
        """How a fit is moved by new rows, as asked for; None for leaves that hold lines, not values."""
        return None if how == "leaves" and lightgbm_params(self.params).get("linear_tree") else how

    def refresh_task(
        self, fit: LightGBMFit, features: Features, request: FitRequest, how: str, decay: float
    ) -> TaskFit:
        """A new fit that new rows have moved: leaf values, or a tenth as many rounds added as the fit had.

        The trees stay, and a leaf's value moves as far as its new rows weigh beside ``decay`` · those that it rests on,
        by a Newton step of the loss (`move_leaves`); under other objectives than those of the kinds, and those of
        rankings and forests, by LightGBM's own refit, all leaves by the same share.
        """
        _check_queries(request)
        known = fit.booster.model_to_string(num_iteration=-1 if fit.n_rounds is None else fit.n_rounds)
        share, evidence = kept_share(fit.evidence, request.mass, decay if how == "leaves" else 1.0)
        values = features.values[request.rows]
        if how == "leaves":
            moved = refit_leaves(known, values, request, decay, share)
            return replace(fit, booster=moved, n_rounds=moved.current_iteration(), evidence=evidence)
        old, n_columns = lgb.Booster(model_str=known), values.shape[1]
        data = {
            "label": request.y[request.rows],
            "weight": None if request.weight is None else request.weight[request.rows],
            "group": None if request.groups is None else run_lengths(request.groups[request.rows]),
            "categorical_feature": list(features.categorical),
            "feature_name": [f"f{j}" for j in range(n_columns)],
        }
        params = self._dataset_params() | self._train_params(request, n_columns)
        n_old = old.current_iteration()
        more = n_further(n_old, fit.n_added)
        moved = lgb.train(params, lgb.Dataset(values, **data, params=dict(params)), more, init_model=old)
        n_new = moved.current_iteration()
        return LightGBMFit(moved, n_new, fit.n_added + n_new - n_old, evidence)

    def _dataset_params(self) -> dict[str, Any]:
        # without feature_pre_filter=False a column useless for one task's leaf size would be lost to all tasks
        params = {"verbosity": -1, "max_bin": self.max_bin, "feature_pre_filter": False, "deterministic": True}
        given = lightgbm_params(self.params)
        given.pop("objective", None)  # of the tasks: it says nothing of bins
        return params | {"force_col_wise": not given.get("force_row_wise", False)} | given

    def _train_params(self, request: FitRequest, n_columns: int) -> dict[str, Any]:
        kind = request.task.kind
        auto = tree_defaults(kind, request.y[request.rows], n_columns)
        params: dict[str, Any] = {
            "objective": "cross_entropy" if request.task.is_soft else _OBJECTIVES[kind],
            "num_leaves": self.num_leaves if self.num_leaves is not None else auto.num_leaves,
            "learning_rate": self.learning_rate if self.learning_rate is not None else auto.learning_rate,
            "min_data_in_leaf": self.min_data_in_leaf if self.min_data_in_leaf is not None else auto.min_rows,
            "min_sum_hessian_in_leaf": self.min_sum_hessian_in_leaf
            if self.min_sum_hessian_in_leaf is not None
            else auto.min_hessian,
            "lambda_l2": self.lambda_l2 if self.lambda_l2 is not None else auto.l2,
            "feature_fraction": self.feature_fraction if self.feature_fraction is not None else auto.feature_fraction,
            "cat_smooth": self.cat_smooth,
            "seed": request.seed,
            "num_threads": request.n_threads,
        }
        if kind == "multiclass":
            params["num_class"] = request.n_classes
        if kind == "ranking":
            params |= {
                "eval_at": [10],
                "label_gain": [float(2**k - 1) for k in range(MAX_RELEVANCE + 1)],
            }
        return params | lightgbm_params(self.params)


@dataclass
class BinnedLightGBM:
    """A constructed Dataset, and the parameters it was binned with."""

    dataset: lgb.Dataset
    n_rows: int
    params: dict[str, Any]

    def subset(self, rows: Rows, request: FitRequest) -> lgb.Dataset:
        """Labelled rows with the shared bins; all rows are the Dataset itself, whose label is then set.

        A label is never changed under a live booster: training ends by cutting the booster loose from its data.
        """
        _forget(self.dataset)
        whole = len(rows) == self.n_rows
        part = self.dataset if whole else self.dataset.subset(rows, params=self.params).construct()
        part.set_label(request.y[rows].astype(np.float32))
        if request.weight is not None:
            part.set_weight(request.weight[rows])
        if request.groups is not None:
            part.set_group(run_lengths(request.groups[rows]))
        return part


def _check_queries(request: FitRequest) -> None:
    """Refuse a query that is longer than LightGBM ranks."""
    for rows in (request.rows, request.valid_rows):
        longest = 0 if request.groups is None or rows is None else int(run_lengths(request.groups[rows]).max(initial=0))
        if longest > _LONGEST_QUERY:
            raise ValueError(
                f"Task {request.task.name!r} has a query of {longest:,} rows, and LightGBM ranks at most "
                f"{_LONGEST_QUERY:,}; use learner='xgboost' or a finer query."
            )


def _forget(dataset: lgb.Dataset) -> None:
    """Drop the weights and queries of the task before: setters given None keep them, and subsets inherit them."""
    for name in ("weight", "group"):
        dataset.set_field(name, None)
        setattr(dataset, name, None)


@dataclass
class LightGBMFit:
    """A trained booster."""

    booster: lgb.Booster
    n_rounds: int | None
    n_added: int = 0  # of these, by refreshes
    evidence: float | None = None  # weight of the rows that it rests on

    def predict(self, features: Features, n_threads: int = 1) -> Floats:
        """Scores on the scale of the task's kind."""
        if not len(features):
            k = self.booster.num_model_per_iteration()
            return np.empty((0, k) if k > 1 else 0)
        if isinstance(features.values, np.ndarray):
            flat = flat_trees_for(self.booster, self.n_rounds, len(features))
            if flat is not None:
                return flat.predict_rows(np.ascontiguousarray(features.values), n_threads)[0]
        return np.asarray(
            self.booster.predict(features.values, num_iteration=self.n_rounds, num_threads=n_threads), dtype=np.float64
        )
