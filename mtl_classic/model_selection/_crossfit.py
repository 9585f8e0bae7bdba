"""The one out-of-fold engine: whatever is learnt from Y and feeds another learner goes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, has_fit_parameter

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.exceptions import FoldError, UnlabelledTaskError
from mtl_classic._core.options import FUNCTION, MAPPING, TRUTH, Kind, check_option
from mtl_classic._core.parallel import split_budget, thread_limit
from mtl_classic._core.targets import spell_out
from mtl_classic._core.tasks import label_array
from mtl_classic._core.validation import as_table, n_rows, take_rows, with_index_of
from mtl_classic.model_selection._assembly import assemble
from mtl_classic.model_selection._folds import FoldPlan, Rows
from mtl_classic.model_selection._plans import check_plan
from mtl_classic.model_selection._progress import SILENT, Progress

__all__ = ["CrossFit", "cross_fit", "events_for", "fit_folds", "fit_name", "rows_of"]

METHOD = Kind("the name of a method", lambda value: isinstance(value, str))


@dataclass(frozen=True)
class CrossFit:
    """Out-of-fold predictions and the models that made them.

    Attributes
    ----------
    predictions : DataFrame or ndarray of n rows, or None
        NaN where no fold covers a row; None if none were asked for.
    fold : ndarray of shape (n,)
        Fold that predicted each row, -1 where none did.
    models : list
        The fitted estimator of each fold.
    scores : ndarray of shape (n_folds,), or (n_folds, n_scores)
        ``model.score`` on the rows that the fold predicts, NaN where the estimator has none; or what a scorer said.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from mtl_classic.model_selection import cross_fit, make_folds
    >>> X = np.arange(8.0)[:, None]
    >>> fit = cross_fit(LinearRegression(), X, 2 * X[:, 0], make_folds(2, X[:, 0], random_state=0), method="predict")
    >>> bool(np.allclose(fit.predictions, 2 * X[:, 0]))
    True
    """

    predictions: Any
    fold: Rows
    models: list[Any]
    scores: npt.NDArray[np.float64]


def cross_fit(
    estimator: Any,
    X: Any,
    Y: Any,
    plan: FoldPlan,
    *,
    method: str | None = "predict_scores",
    sample_weight: Any = None,
    fit_params: Mapping[str, Any] | None = None,
    score: bool | Callable[[Any, Any, Any], Any] = True,
    n_jobs: int | None = None,
) -> CrossFit:
    """Fit a clone on the training rows of each fold and predict the fold's rows.

    Tasks are those of all rows (kinds, positive classes), so that a fold that lacks a class still speaks of both.

    No model is ever fitted on all rows: the caller does that. Estimators that stop early split off a part of the rows
    they are given, so the fold they predict is seen by nothing.

    Parameters
    ----------
    estimator : estimator with ``fit`` and ``method``
    X, Y : table and labels of n rows
    plan : FoldPlan
    method : str or None, default="predict_scores"
        Also ``"predict"``, ``"predict_proba"`` (lists become one array per task), ``"transform"``. None: no
        predictions.
    sample_weight : array of n rows, default=None
    fit_params : dict, default=None
        Passed to every fit unchanged (``events``).
    score : bool or callable (estimator, X, Y) -> number or array, default=True
        Whether to call ``estimator.score`` on each fold, or what to call in its place.
    n_jobs : int, default=None
        Folds in parallel; the thread budget is split between them. Changes no result.

    Returns
    -------
    CrossFit

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import PerTaskModel, cross_fit, make_folds
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> Y = np.c_[X[:, 0] > 0, X[:, 1] > 0]
    >>> fit = cross_fit(PerTaskModel(learner="linear"), X, Y, make_folds(3, Y, random_state=0))
    >>> fit.predictions.shape, len(fit.models)
    ((300, 2), 3)
    """
    X = as_table(X)
    if plan is None:
        raise TypeError("cross_fit needs a plan; make one with make_folds(…).")
    check_plan(plan, n_rows(X))
    _check_method(estimator, method)
    check_option("fit_params", fit_params, (MAPPING, None))
    check_option("score", score, (TRUTH, FUNCTION))
    return fit_folds(
        estimator, X, Y, plan, [SILENT] * len(plan), method=method, sample_weight=sample_weight, fit_params=fit_params,
        score=score, n_jobs=n_jobs,
    )  # fmt: skip


def _check_method(estimator: Any, method: Any) -> None:
    """Refuse a method that the estimator has neither now nor, as some have it, once it is fitted."""
    check_option("method", method, (METHOD, None))
    there = method is None or any(hasattr(one, method) for one in (estimator, type(estimator)))
    if not there and not hasattr(type(estimator), "__getattr__"):
        raise ValueError(
            f"{type(estimator).__name__} has no method {method!r}; through a Pipeline scores are "
            f'method="decision_function".'
        )


def fit_folds(
    estimator: Any,
    X: Any,
    Y: Any,
    plan: FoldPlan,
    steps: Sequence[Progress],
    *,
    method: str | None = "predict_scores",
    sample_weight: Any = None,
    fit_params: Mapping[str, Any] | None = None,
    score: bool | Callable[[Any, Any, Any], Any] = True,
    n_jobs: int | None = None,
) -> CrossFit:
    """`cross_fit` as a part of another fit, whose callbacks are told of each fold's step."""
    X = as_table(X)
    if isinstance(sample_weight, Real) or getattr(sample_weight, "ndim", 1) == 0:
        sample_weight = np.full(n_rows(X), sample_weight)
    for what, values in (("Y", Y), ("sample_weight", sample_weight)):
        if values is not None and _num_samples(values) != n_rows(X):
            raise ValueError(
                f"X has {n_rows(X)} rows, but {what} has {_num_samples(values)}; expected the same number."
            )
    Y, sample_weight = (
        None if values is None else with_index_of(X, rows_of(values), what)
        for what, values in (("Y", Y), ("sample_weight", sample_weight))
    )
    workers, threads = split_budget(n_jobs, len(plan))
    estimator = _unfitted(estimator, Y, threads if n_jobs is not None else None)
    params = dict(fit_params or {})
    names = [f"Fold {k}" for k in range(len(plan))] if len(plan) > 1 else ["A fold"]  # one of a plan, mostly
    job = delayed(_fit_fold)
    fitted = Parallel(n_jobs=workers)(
        job(clone(estimator), X, Y, where, train, test, method, sample_weight, dict(params), score, threads, step)
        for where, (train, test), step in zip(names, plan.splits, steps, strict=True)
    )
    models = [model for model, _, _ in fitted]
    predictions = None
    if method is not None:
        knowing = models if method == "predict_proba" else []
        predictions = assemble([part for _, part, _ in fitted], plan, X, knowing)
    return CrossFit(predictions, plan.fold, models, np.array([value for _, _, value in fitted]))


def _unfitted(estimator: Any, Y: Any, threads: int | None) -> Any:
    """A clone that learns the tasks of all rows in every fold, whichever classes are absent there."""
    model = clone(estimator)
    nested = [part for part in model.get_params(deep=True).values() if isinstance(part, MultiTaskEstimator)]
    for part in [*nested, model]:
        own = part.get_params(deep=False)
        if isinstance(part, MultiTaskEstimator) and "tasks" in own:
            part.set_params(tasks=spell_out(own["tasks"], Y))
    own = model.get_params(deep=False)
    # Others that name no threads keep to one: of some the parameter is deprecated, and warns of any number.
    if threads is not None and "n_jobs" in own and (isinstance(model, MultiTaskEstimator) or own["n_jobs"] is not None):
        model.set_params(n_jobs=threads)
    return model


def _fit_fold(
    model: Any,
    X: Any,
    Y: Any,
    where: str,
    train: Rows,
    test: Rows,
    method: str | None,
    sample_weight: Any,
    fit_params: dict[str, Any],
    score: bool | Callable[[Any, Any, Any], Any],
    threads: int,
    step: Progress,
) -> tuple[Any, Any, Any]:
    if sample_weight is not None:
        fit_params[fit_name(model, "sample_weight")] = take_rows(sample_weight, train)
    with thread_limit(threads):
        try:
            with step.fitting(model):
                model.fit(take_rows(X, train), take_rows(rows_of(Y), train), **fit_params)
        except UnlabelledTaskError as error:
            raise FoldError(
                f"{where} cannot be trained: {error} In its {len(train)} training rows, that is; "
                f"if the labels begin late, use fewer folds or later rows, or leave the task out."
            ) from error
        except Exception as error:
            error.add_note(
                f"{where} cannot be trained: {type(model).__name__} fails on its {len(train)} training rows."
            )
            raise
        X_test = take_rows(X, test)
        predicted = None if method is None else getattr(model, method)(X_test)
        value: Any = float("nan")
        if callable(score):
            value = score(model, X_test, take_rows(rows_of(Y), test))
        elif score and hasattr(model, "score"):
            value = model.score(X_test, take_rows(rows_of(Y), test))
    return model, predicted, value


def fit_name(estimator: Any, name: str) -> str:
    """A fit parameter as the estimator, or the last step of a pipeline, reads it."""
    return f"{estimator.steps[-1][0]}__{name}" if _names_steps(estimator) else name


def events_for(estimator: Any, events: Any) -> dict[str, Any]:
    """Events as fit parameters of the estimator, or of all steps of a pipeline that read them."""
    if events is None or not _names_steps(estimator):
        return {} if events is None else {"events": events}
    reading = [name for name, step in estimator.steps if hasattr(step, "fit") and has_fit_parameter(step, "events")]
    return {f"{name}__events": events for name in reading}


def _names_steps(estimator: Any) -> bool:
    """Whether parameters say which step of a pipeline they are for; metadata routing leads them to those that ask."""
    return hasattr(estimator, "steps") and not get_config()["enable_metadata_routing"]


def rows_of(values: Any) -> Any:
    """Labels or weights of which rows can be taken: pandas, or an array."""
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    return values if hasattr(values, "iloc") else label_array(values)
