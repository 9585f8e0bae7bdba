"""XGBoost as a learner: one quantile sketch for all tasks; subsets are binned with its cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import xgboost as xgb
from scipy.stats import loguniform, uniform

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
from mtl_classic.learners._defaults import n_bins, tree_defaults
from mtl_classic.learners._params import check_xgboost, xgboost_params
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
from mtl_classic.learners._xgboost_refresh import refit_leaves

__all__ = ["XGBoostLearner", "set_threads"]

_THREADS: WeakKeyDictionary[xgb.Booster, int] = WeakKeyDictionary()

_OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "count": "count:poisson",
    "ranking": "rank:ndcg",
}
FAR = 1000.0  # deviations from 0; labels are read in single precision, in which much further ones would be the same
SMALL = 0.01  # deviation: XGBoost makes no split that gains less than 1e-6, so that of small labels it learns nothing
IN_UNITS = ("gamma", "min_split_loss", "alpha", "reg_alpha", "max_delta_step", "base_score")  # of the labels
_METRICS = {
    "binary": "logloss",
    "multiclass": "mlogloss",
    "regression": "rmse",
    "count": "poisson-nloglik",
    "ranking": "ndcg@10",
}


class XGBoostLearner(Learner):
    """Gradient-boosted trees by XGBoost (``hist``), for every kind of task.

    Settings that are None follow the label, as in `LightGBMLearner`. A ``QuantileDMatrix`` takes new labels but cannot
    be sliced, so subsets are built from the float matrix with the cuts of the whole (``ref=``).

    Parameters
    ----------
    max_leaves : int, default=None
    learning_rate : float, default=None
    max_iter : int, default=1000
        Most rounds of boosting.
    n_iter_no_change : int, default=20
        Rounds without a better validation loss before stopping.
    min_child_weight : float, default=None
        Least sum of hessians in a leaf; for log-loss about the number of rarer-class rows that it rests on.
    reg_lambda : float, default=None
    colsample_bytree : float, default=None
    max_bin : int, default=None
        None is a fifth of the rows, between 32 and 256: a histogram with as many bins as rows takes more time than the
        rows themselves, and tells no more.
    params : dict, default=None
        Further parameters of XGBoost, by any of its names, taking precedence; an objective must be one of the kind of
        the tasks.

    References
    ----------
    Chen, Guestrin, XGBoost: A Scalable Tree Boosting System, KDD 2016, doi 10.1145/2939672.2939785.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import PerTaskModel, XGBoostLearner
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = PerTaskModel({"up": "binary"}, learner=XGBoostLearner(max_leaves=7), random_state=0).fit(X, X[:, 0] > 0)
    >>> bool((model.predict(X) == (X[:, 0] > 0)).mean() > 0.9)
    True
    """

    early_stops = True

    _options: ClassVar[dict[str, Option]] = {
        "max_leaves": (COUNT_OR_0, None), "learning_rate": (FINITE_POSITIVE, None), "max_iter": COUNT,
        "n_iter_no_change": COUNT, "min_child_weight": (FINITE, None), "reg_lambda": (FINITE, None),
        "colsample_bytree": (SHARE_OR_ALL, None), "max_bin": (TWO_OR_MORE, None), "params": (MAPPING, None),
    }  # fmt: skip

    def __init__(
        self,
        *,
        max_leaves: int | None = None,
        learning_rate: float | None = None,
        max_iter: int = 1000,
        n_iter_no_change: int = 20,
        min_child_weight: float | None = None,
        reg_lambda: float | None = None,
        colsample_bytree: float | None = None,
        max_bin: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.max_leaves = max_leaves
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.colsample_bytree = colsample_bytree
        self.max_bin = max_bin
        self.params = params

    def search_space(self) -> dict[str, Any]:
        """The size of the trees, their rate, and what holds their leaves."""
        return {
            "max_leaves": [7, 15, 31, 63, 127],
            "learning_rate": loguniform(0.02, 0.2),
            "min_child_weight": loguniform(0.1, 50),
            "reg_lambda": loguniform(0.01, 30),
            "colsample_bytree": uniform(0.3, 0.7),
        }

    def check_task(self, task: Task) -> None:
        """Refuse settings that XGBoost would not take, or ignore."""
        check_xgboost(self.params, task)

    def bin(self, features: Features, *, n_threads: int = 1) -> BinnedXGBoost:
        """Sketch the quantiles once."""
        types, max_bin = _types(features), self._max_bin(len(features))
        whole = xgb.QuantileDMatrix(
            features.values, max_bin=max_bin, nthread=n_threads, feature_types=types, enable_categorical=True
        )
        return BinnedXGBoost(whole, features, types, max_bin)

    def fit_task(self, binned: BinnedXGBoost, request: FitRequest) -> TaskFit:
        """Boost one task on a subset that has the shared cuts."""
        constant = constant_fit(request)
        if constant is not None:
            return constant
        params = self._train_params(request, binned.whole.num_col(), binned.max_bin)
        center, unit = _center(request, params), _unit(request, params)
        request = _moved(request, center, unit)
        train = binned.training(request.rows, request)
        evals: list[tuple[xgb.DMatrix, str]] = []
        rounds, patience = request.n_rounds, None
        if request.valid_rows is not None:
            evals = [(binned.validation(request.valid_rows, request), "validation")]
            rounds, patience = self.max_iter, self.n_iter_no_change
        elif rounds is None:
            rounds = min(self.max_iter, tree_defaults(request.task.kind, request.y[request.rows]).n_rounds)
        booster = xgb.train(params, train, rounds, evals=evals, early_stopping_rounds=patience, verbose_eval=False)
        return XGBoostFit(booster, booster.best_iteration + 1 if evals else rounds, request.task.kind, center, unit)

    def refresh_task(self, fit: XGBoostFit, features: Features, request: FitRequest, how: str, decay: float) -> TaskFit:
        """A new fit that new rows have moved: leaf values, or a tenth as many rounds added as the fit had.

        The trees stay, and a leaf's value moves as far as its new rows weigh beside ``decay`` · those that it rests on,
        by a Newton step of the loss (`move_leaves`); under other objectives than those of the kinds, and those of
        rankings, dart and parallel trees, towards the leaves of XGBoost's own ``refresh``.
        """
        old = fit.booster if fit.n_rounds is None else fit.booster[: fit.n_rounds]
        n_columns, n_old, rows = features.values.shape[1], old.num_boosted_rounds(), request.rows
        max_bin = self._max_bin(len(rows))
        request = _moved(request, fit.center, fit.unit)
        params = self._train_params(request, n_columns, max_bin)
        options = {"nthread": request.n_threads, "feature_types": _types(features), "enable_categorical": True}
        if how == "leaves":
            data = _labelled(xgb.DMatrix(features.values[rows], **options), rows, request)
            return replace(fit, booster=refit_leaves(old, data, request, params, decay), n_rounds=n_old)
        data = xgb.QuantileDMatrix(features.values[rows], max_bin=max_bin, **options)
        more = n_further(n_old, fit.n_added)
        moved = xgb.train(params, _labelled(data, rows, request), more, xgb_model=old)
        return replace(fit, booster=moved, n_rounds=n_old + more, n_added=fit.n_added + more)

    def _max_bin(self, n_rows: int) -> int:
        given = xgboost_params(self.params).get("max_bin", self.max_bin)
        return given if given is not None else n_bins(n_rows)

    def _train_params(self, request: FitRequest, n_columns: int, max_bin: int) -> dict[str, Any]:
        kind = request.task.kind
        auto = tree_defaults(kind, request.y[request.rows], n_columns)
        params: dict[str, Any] = {
            "objective": _OBJECTIVES[kind],
            "eval_metric": _METRICS[kind],
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "max_depth": 0,
            "max_bin": max_bin,
            "max_leaves": self.max_leaves if self.max_leaves is not None else auto.num_leaves,
            "learning_rate": self.learning_rate if self.learning_rate is not None else auto.learning_rate,
            "min_child_weight": self.min_child_weight
            if self.min_child_weight is not None
            else max(auto.min_hessian, auto.min_rows if kind == "regression" else 0.0),
            "lambda": self.reg_lambda if self.reg_lambda is not None else auto.l2,
            "colsample_bytree": self.colsample_bytree if self.colsample_bytree is not None else auto.feature_fraction,
            "seed": request.seed,
            "nthread": request.n_threads,
            "verbosity": 0,
        }
        if kind == "multiclass":
            params["num_class"] = request.n_classes
        if kind == "ranking":
            params["ndcg_exp_gain"] = bool(request.y[request.rows].max() <= 31)
        return params | xgboost_params(self.params)


@dataclass
class BinnedXGBoost:
    """A quantile sketch, and the float matrix from which subsets are cut."""

    whole: xgb.QuantileDMatrix
    features: Features
    types: list[str] | None
    max_bin: int

    def training(self, rows: Rows, request: FitRequest) -> xgb.QuantileDMatrix:
        """Labelled rows with the shared cuts; all rows are the matrix itself with a new label.

        Never for ranking: queries set on the matrix could not be taken off again for the next task.
        """
        if len(rows) == len(self.features) and request.groups is None:
            return _labelled(self.whole, rows, request)
        options = {"max_bin": self.max_bin, "nthread": request.n_threads, "feature_types": self.types}
        part = xgb.QuantileDMatrix(self.features.values[rows], ref=self.whole, enable_categorical=True, **options)
        return _labelled(part, rows, request)

    def validation(self, rows: Rows, request: FitRequest) -> xgb.DMatrix:
        """Rows to stop by: a plain matrix, because XGBoost wants a quantile one to refer to the training subset."""
        part = xgb.DMatrix(
            self.features.values[rows], nthread=request.n_threads, feature_types=self.types, enable_categorical=True
        )
        return _labelled(part, rows, request)


def _types(features: Features) -> list[str] | None:
    """None where all are numbers: XGBoost reads the types as text in every round, one column after the other."""
    if not features.categorical:
        return None
    return ["c" if j in features.categorical else "q" for j in range(features.values.shape[1])]


def _center(request: FitRequest, params: Mapping[str, Any]) -> float:
    """The mean of the labels of a squared loss where they are far from 0 and near each other, else 0."""
    if not _is_squared(request, params) or "base_score" in params:
        return 0.0
    y = request.y[request.rows]
    return float(y.mean()) if abs(y.mean()) > FAR * y.std() else 0.0


def _unit(request: FitRequest, params: Mapping[str, Any]) -> float:
    """A power of 2 near the deviation of the labels of a squared loss where that is small, else 1."""
    if not _is_squared(request, params) or any(name in params for name in IN_UNITS):
        return 1.0
    deviation = float(request.y[request.rows].std())
    return float(2.0 ** np.floor(np.log2(deviation))) if 0 < deviation < SMALL else 1.0


def _is_squared(request: FitRequest, params: Mapping[str, Any]) -> bool:
    return request.task.kind == "regression" and bool(params["objective"] == _OBJECTIVES["regression"])


def _moved(request: FitRequest, center: float, unit: float) -> FitRequest:
    """The labels as the booster learns them."""
    return replace(request, y=(request.y - center) / unit) if (center, unit) != (0.0, 1.0) else request


def _labelled(part: Any, rows: Rows, request: FitRequest) -> Any:
    part.set_label(request.y[rows])
    if request.groups is None:
        part.set_weight(np.ones(len(rows)) if request.weight is None else request.weight[rows])
        return part
    sizes = run_lengths(request.groups[rows])
    part.set_group(sizes)
    if request.weight is not None:  # XGBoost weighs queries, not rows
        part.set_weight(np.add.reduceat(request.weight[rows], np.r_[0, np.cumsum(sizes)[:-1]]) / sizes)
    return part


def set_threads(booster: xgb.Booster, n_threads: int) -> None:
    """Tell a booster how many threads to predict with, if it does not know: once told, it configures itself anew."""
    if _THREADS.get(booster) != n_threads:
        booster.set_param({"nthread": n_threads})
        _THREADS[booster] = n_threads


@dataclass
class XGBoostFit:
    """A trained booster."""

    booster: xgb.Booster
    n_rounds: int | None
    kind: str
    center: float = 0.0  # of the labels, added to the scores
    unit: float = 1.0  # of the labels, by which scores are multiplied before
    n_added: int = 0  # of the rounds, by refreshes

    def predict(self, features: Features, n_threads: int = 1) -> Floats:
        """Scores on the scale of the task's kind."""
        if not len(features):
            shape = np.shape(
                self.predict(Features(np.zeros((1, features.values.shape[1]), np.float32), features.names, ()))
            )
            return np.empty((0, *shape[1:]))
        set_threads(self.booster, n_threads)
        values = self.booster.inplace_predict(features.values, iteration_range=(0, self.n_rounds or 0))
        scores = np.asarray(values, dtype=np.float64)
        if scores.ndim == 2:  # of single precision they sum to 1 only nearly, of which scikit-learn warns
            return scores / scores.sum(axis=1, keepdims=True)
        return scores * self.unit + self.center
