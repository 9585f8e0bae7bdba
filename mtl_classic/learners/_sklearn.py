"""Any scikit-learn estimator as a learner: one design matrix for all tasks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import loguniform, uniform
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.utils import get_tags

from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.parallel import thread_limit
from mtl_classic._core.tasks import Task
from mtl_classic.learners._columns import Features
from mtl_classic.learners._leaves import kept_share
from mtl_classic.learners._protocol import ConstantFit, FitRequest, Floats, Learner, TaskFit, constant_fit
from mtl_classic.learners._sklearn_fit import fit_estimator
from mtl_classic.learners._sklearn_refresh import (
    FORESTS,
    draw_coefficients,
    draw_leaves,
    grow_further,
    make_pass,
    way_to_refresh,
)

__all__ = ["SklearnLearner", "as_both_classes", "as_sklearn_learner", "sklearn_alias"]

NO_BOUNDS = (-np.inf, np.inf)
BOOSTERS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
TREE_SPACE = {
    "max_leaf_nodes": [7, 15, 31, 63],
    "learning_rate": loguniform(0.02, 0.3),
    "l2_regularization": loguniform(0.01, 30),
}
SPACES: list[tuple[Any, dict[str, Any]]] = [
    ((LogisticRegression, LinearSVR), {"C": loguniform(1e-3, 100)}),
    (Ridge, {"alpha": loguniform(1e-2, 1000)}),
    (PoissonRegressor, {"alpha": loguniform(1e-4, 10)}),
    (FORESTS, {"min_samples_leaf": [1, 2, 5, 10, 20, 50], "max_features": uniform(0.1, 0.9)}),
    (BOOSTERS, TREE_SPACE),
]


class SklearnLearner(Learner):
    """Any scikit-learn classifier and regressor, for every kind of task.

    Binary and multiclass tasks use ``classifier``, regression and ranking ``regressor``, counts ``count_regressor`` or
    the regressor. Means of counts are held between a hundredth of the mean count, because a mean of 0 would deny every
    event, and a hundred times the largest one, which a logarithm leaves soon outside of what was seen. Soft labels
    enter as both classes, weighted. An estimator that takes NaN reads codes and numbers as they are; for others numbers
    are imputed, marked as missing and scaled, and categories one-hot.

    Parameters
    ----------
    classifier : estimator with ``predict_proba``, default=None
    regressor : estimator, default=None
    count_regressor : estimator, default=None

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression, Ridge
    >>> from mtl_classic import PerTaskModel, SklearnLearner
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> learner = SklearnLearner(LogisticRegression(), Ridge())
    >>> model = PerTaskModel({"up": "binary"}, learner=learner, random_state=0).fit(X, X[:, 0] > 0)
    >>> bool((model.predict(X) == (X[:, 0] > 0)).mean() > 0.9)
    True
    """

    def __init__(self, classifier: Any = None, regressor: Any = None, *, count_regressor: Any = None) -> None:
        self.classifier = classifier
        self.regressor = regressor
        self.count_regressor = count_regressor

    def search_space(self) -> dict[str, Any]:
        """What is known to matter for linear models, forests and histogram boosting; of others nothing."""
        parts = {"classifier": self.classifier, "regressor": self.regressor, "count_regressor": self.count_regressor}
        spaces = {name: next((s for kinds, s in SPACES if isinstance(part, kinds)), {}) for name, part in parts.items()}
        return {f"{name}__{key}": values for name, space in spaces.items() for key, values in space.items()}

    def bin(self, features: Features, *, n_threads: int = 1) -> BinnedSklearn:
        """Keep the matrix, and make the scaled one-hot matrix if any of the estimators needs it."""
        given = [e for e in (self.classifier, self.regressor, self.count_regressor) if e is not None]
        return BinnedSklearn(features, _design(features) if not all(map(_takes_nan, given)) else None)

    def check_task(self, task: Task) -> None:
        """Refuse a task for which there is no estimator, or a classifier without probabilities."""
        estimator = self._estimator(task)
        if task.is_classification and not hasattr(estimator, "predict_proba"):
            name = type(estimator).__name__
            raise TypeError(
                f"Task {task.name!r} needs probabilities, and {name} has no predict_proba; "
                f"wrap it: CalibratedClassifierCV({name}())."
            )

    def fit_task(self, binned: BinnedSklearn, request: FitRequest) -> TaskFit:
        """Fit a clone on the labelled rows (those for early stopping included: there is none)."""
        constant = constant_fit(request)
        if constant is not None:
            return constant
        rows = request.rows if request.valid_rows is None else np.sort(np.r_[request.rows, request.valid_rows])
        model = clone(self._estimator(request.task))
        model.set_params(**_seeds(model, request))
        design = None if _takes_nan(model) else binned.design
        matrix = _fitting(model, binned.features.values[rows] if design is None else design.matrix[rows])
        y, weight = request.y[rows], None if request.weight is None else request.weight[rows]
        if request.task.is_soft:
            matrix, y, weight = as_both_classes(matrix, y, weight)
        if request.task.is_classification:
            y = y.astype(np.intp)
            if _too_few(model, y):
                return _prior_fit(request, y, weight)
        with thread_limit(request.n_threads):
            forest = isinstance(model, FORESTS)
            if forest and model.n_jobs is None:
                model.n_jobs = request.n_threads
            fit_estimator(model, matrix, y, weight, request.task.name)
            if forest:
                model.n_jobs = None  # threads would add up the trees of a prediction in any order
        transformer = None if design is None else design.transformer
        low, high = (0.01 * float(np.mean(y)), 100 * float(np.max(y))) if request.task.kind == "count" else NO_BOUNDS
        evidence = float(len(y) if weight is None else weight.sum())
        return SklearnFit(model, transformer, request.task.kind, request.n_classes, low, high, evidence=evidence)

    def refresh_way(self, fit: SklearnFit, how: str) -> str | None:
        """How a fit is moved by new rows: "leaves", "rounds", "pass", "coefficients"; None if it can't be."""
        return way_to_refresh(fit.model, how)

    def refresh_task(
        self, fit: SklearnFit, features: Features, request: FitRequest, how: str, decay: float
    ) -> SklearnFit | None:
        """A new fit that new rows have moved, in the way of `refresh_way`; None if they lack a class that it needs."""
        way, rows, model = way_to_refresh(fit.model, how), request.rows, fit.model
        part = features.take(rows)
        matrix = _readable(model, part.values if fit.transformer is None else part.seen_through(fit.transformer))
        y, weight = request.y[rows], None if request.weight is None else request.weight[rows]
        share, evidence = kept_share(fit.evidence, request.mass, decay if way in ("leaves", "coefficients") else 1.0)
        with thread_limit(request.n_threads):
            if way == "leaves":
                return replace(fit, model=draw_leaves(model, matrix, y, weight, decay), evidence=evidence)
            if request.task.is_soft:
                matrix, y, weight = as_both_classes(matrix, y, weight)
            if request.task.is_classification:
                y = y.astype(np.intp)
            if way == "rounds":
                moved = grow_further(model, matrix, y, weight, fit.n_added, request.seed, request.n_threads)
            elif way == "pass":
                moved = make_pass(model, matrix, y, weight)
            else:
                seeds = _seeds(model, request)
                moved = draw_coefficients(model, matrix, y, weight, share, seeds, request.task.name)
        if moved is None:
            return None
        grown = len(moved.estimators_) - len(model.estimators_) if way == "rounds" else 0
        return replace(fit, model=moved, n_added=fit.n_added + grown, evidence=evidence)

    def _estimator(self, task: Task) -> Any:
        if task.kind == "count" and self.count_regressor is not None:
            return self.count_regressor
        estimator = self.classifier if task.is_classification else self.regressor
        if estimator is None:
            needed = "classifier" if task.is_classification else "regressor"
            raise ValueError(
                f"Task {task.name!r} is {task.kind}, and the learner has no {needed} for it; "
                f"give SklearnLearner(classifier, regressor) both, or a dict task -> learner."
            )
        return estimator


def sklearn_alias(name: str) -> SklearnLearner | None:
    """The learner that a short name stands for, or None."""
    if name == "linear":
        return SklearnLearner(
            LogisticRegression(max_iter=1000), Ridge(), count_regressor=PoissonRegressor(max_iter=1000)
        )
    if name == "svm":
        # the squared loss estimates the mean, and its primal problem converges on labels of any scale
        regressor = LinearSVR(loss="squared_epsilon_insensitive", dual=False, max_iter=5000)
        return SklearnLearner(CalibratedClassifierCV(LinearSVC(dual=False, max_iter=5000), cv=3), regressor)
    if name == "forest":
        return SklearnLearner(
            RandomForestClassifier(200, min_samples_leaf=5),
            RandomForestRegressor(200, min_samples_leaf=5, max_features=0.4),
        )
    if name == "extra_trees":
        return SklearnLearner(
            ExtraTreesClassifier(200, min_samples_leaf=5),
            ExtraTreesRegressor(200, min_samples_leaf=5, max_features=0.4),
        )
    if name == "hist":
        return SklearnLearner(
            HistGradientBoostingClassifier(early_stopping=True),
            HistGradientBoostingRegressor(early_stopping=True),
            count_regressor=HistGradientBoostingRegressor(loss="poisson", early_stopping=True),
        )
    return None


def as_sklearn_learner(estimator: Any) -> SklearnLearner:
    """Wrap one bare scikit-learn estimator."""
    return SklearnLearner(classifier=estimator) if is_classifier(estimator) else SklearnLearner(regressor=estimator)


@dataclass
class _Design:
    transformer: Any
    matrix: Any


@dataclass
class BinnedSklearn:
    """The float matrix, and the imputed, scaled and one-hot one where it is needed."""

    features: Features
    design: _Design | None


@dataclass
class SklearnFit:
    """A fitted estimator, with the transformer of its design matrix."""

    model: Any
    transformer: Any
    kind: str
    n_classes: int
    low: float
    high: float
    n_rounds: int | None = None
    n_added: int = 0  # trees of a forest, by refreshes
    evidence: float | None = None  # weight of the rows that it rests on

    def predict(self, features: Features, n_threads: int = 1) -> Floats:
        """Scores on the scale of the task's kind."""
        if not len(features):
            return np.empty((0, self.n_classes) if self.kind == "multiclass" else 0)
        matrix = features.values if self.transformer is None else features.seen_through(self.transformer)
        with thread_limit(n_threads):
            return self._scores(_readable(self.model, matrix))

    def _scores(self, matrix: Any) -> Floats:
        if self.kind not in ("binary", "multiclass"):
            with np.errstate(over="ignore"):  # of a logarithm far outside what was seen
                return self.hold(np.asarray(self.model.predict(matrix), dtype=np.float64))
        probability = np.asarray(self.model.predict_proba(matrix), dtype=np.float64)
        if self.kind == "binary":
            return probability[:, 1]
        full = np.zeros((len(probability), self.n_classes))
        full[:, self.model.classes_.astype(np.intp)] = probability
        return full

    def hold(self, means: Floats) -> Floats:
        """Means of counts between a hundredth of the mean count and a hundred times the largest seen."""
        return np.clip(means, self.low, self.high)


def as_both_classes(matrix: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Soft labels: each row as a positive and as a negative, weighted."""
    matrix = sparse.vstack([matrix, matrix]).tocsr() if sparse.issparse(matrix) else np.vstack([matrix, matrix])
    base = np.ones(len(y)) if weight is None else weight
    y, weight = np.r_[np.ones(len(y)), np.zeros(len(y))], np.r_[base * y, base * (1 - y)]
    return matrix[weight > 0], y[weight > 0], weight[weight > 0]


def _seeds(model: Any, request: FitRequest) -> dict[str, int]:
    return {name: request.seed for name in model.get_params() if name.split("__")[-1] == "random_state"}


def _takes_nan(estimator: Any) -> bool:
    return bool(get_tags(estimator).input_tags.allow_nan)


def _readable(model: Any, matrix: Any) -> Any:
    return matrix.toarray() if sparse.issparse(matrix) and not get_tags(model).input_tags.sparse else matrix


def _fitting(model: Any, matrix: Any) -> Any:
    """The training matrix as the estimator can read it; a column without any number becomes 0, which bins need."""
    matrix = _readable(model, matrix)
    return matrix if sparse.issparse(matrix) else _fill_empty(matrix)


def _fill_empty(values: Any) -> Any:
    empty = np.isnan(values).all(axis=0)
    return np.where(empty, np.float32(0.0), values) if empty.any() else values


def _too_few(model: Any, y: Any) -> bool:
    """Whether a class is rarer than the folds that the estimator itself makes, as calibration does."""
    folds = model.get_params(deep=False).get("cv")
    return isinstance(folds, int) and int(np.unique(y, return_counts=True)[1].min()) < folds


def _prior_fit(request: FitRequest, y: Any, weight: Any) -> ConstantFit:
    warnings.warn(
        f"Task {request.task.name!r} has a class with fewer rows than the learner's own folds; its prior is predicted.",
        FallbackWarning,
        stacklevel=2,
    )
    share = np.bincount(y, weight, minlength=max(request.n_classes, 2)) / (len(y) if weight is None else weight.sum())
    return ConstantFit(share if request.task.kind == "multiclass" else share[1])


def _design(features: Features) -> _Design:
    """Double precision: in single, a row and a batch would differ in the digits that linear solvers show."""
    values = features.values
    if sparse.issparse(values):
        transformer = MaxAbsScaler().set_output(transform="default")
        return _Design(transformer, transformer.fit_transform(values.astype(np.float64)).tocsr())
    numeric = [j for j in range(values.shape[1]) if j not in features.categorical]
    transformer = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)),
                numeric,
            ),
            ("categories", OneHotEncoder(handle_unknown="ignore"), list(features.categorical)),
        ]
    )
    transformer.set_output(transform="default")  # arrays, whatever scikit-learn is configured to give to users
    matrix = transformer.fit_transform(_fill_empty(values).astype(np.float64))
    return _Design(transformer, matrix.tocsr() if sparse.issparse(matrix) else matrix)
