"""Linear models of scikit-learn as a matrix of coefficients, for one row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVR
from sklearn.utils.extmath import softmax

from mtl_classic.learners._sklearn import SklearnFit

__all__ = ["FlatLinear", "is_flat_linear"]

Floats = npt.NDArray[np.float64]
_MODELS = (LogisticRegression, LinearRegression, LinearSVR, PoissonRegressor, Ridge)


def is_flat_linear(fit: Any) -> bool:
    """Whether a fit is a linear model over the scaled numbers and one-hot categories of `SklearnLearner`."""
    if type(fit) is not SklearnFit or type(fit.model) not in _MODELS or type(fit.transformer) is not ColumnTransformer:
        return False
    steps = {name: type(step) for name, step, _ in fit.transformer.transformers_ if name != "remainder"}
    return steps == {"numbers": Pipeline, "categories": OneHotEncoder}


class FlatLinear:
    """Some linear models over the same features; those that share a transformer share what it makes of a row.

    Sums are rounded in another order than in scikit-learn, whose own order depends on the number of rows.

    Parameters
    ----------
    fits : sequence of SklearnFit
        Such that `is_flat_linear`.
    """

    def __init__(self, fits: Sequence[SklearnFit]) -> None:
        self.n_fits = len(fits)
        transformers = {id(fit.transformer): fit.transformer for fit in fits}
        self.groups = [
            _Group(_Design(transformer), {k: fit for k, fit in enumerate(fits) if fit.transformer is transformer})
            for transformer in transformers.values()
        ]

    def predict(self, row: npt.NDArray[np.float32]) -> list[Floats]:
        """For each fit its scores of a row, of shape (1,) or (1, n_classes)."""
        found: dict[int, Floats] = {}
        for group in self.groups:
            found |= group.predict(row)
        return [found[k] for k in range(self.n_fits)]


class _Group:
    """Linear models over one design."""

    def __init__(self, design: _Design, fits: dict[int, SklearnFit]) -> None:
        self.design, self.fits = design, fits
        models = [fit.model for fit in fits.values()]
        coefficients = [np.atleast_2d(model.coef_) for model in models]
        widths = [len(own) for own in coefficients]
        self.coefficients = np.concatenate(coefficients)
        self.intercepts = np.concatenate(
            [np.broadcast_to(model.intercept_, width) for model, width in zip(models, widths, strict=True)]
        )
        self.slices = [slice(first, last) for first, last in pairwise(np.cumsum([0, *widths]).tolist())]

    def predict(self, row: npt.NDArray[np.float32]) -> dict[int, Floats]:
        raw = (self.coefficients * self.design.of(row)).sum(axis=1) + self.intercepts
        return {k: _scores(fit, raw[own]) for (k, fit), own in zip(self.fits.items(), self.slices, strict=True)}


class _Design:
    """What the transformer makes of a row: scaled numbers, marks of missing ones, one-hot categories."""

    def __init__(self, transformer: ColumnTransformer) -> None:
        columns = {name: np.array(own, dtype=np.intp) for name, _, own in transformer.transformers_}
        steps = transformer.named_transformers_
        self.numbers, self.categories = columns["numbers"], columns["categories"]
        self.mean, self.scale, self.marked = np.empty(0), np.empty(0), np.empty(0, np.intp)
        if len(self.numbers):
            scaler, imputer = (step for _, step in steps["numbers"].steps)
            self.mean, self.scale, self.marked = scaler.mean_, scaler.scale_, imputer.indicator_.features_
        known = steps["categories"].categories_ if len(self.categories) else []
        ends = np.cumsum([len(self.numbers) + len(self.marked), *map(len, known)]).tolist()
        self.n_columns = ends[-1]
        self.column_of = [
            {_key(value): first + k for k, value in enumerate(values.tolist())}
            for first, values in zip(ends, known, strict=False)
        ]

    def of(self, row: npt.NDArray[np.float32]) -> Floats:
        """The design of a row, of shape (n_columns,)."""
        out = np.zeros(self.n_columns)
        scaled = (row[self.numbers] - self.mean) / self.scale
        missing = np.isnan(scaled)
        scaled[missing] = 0.0
        out[: len(scaled)] = scaled
        out[len(scaled) : len(scaled) + len(self.marked)] = missing[self.marked]
        for value, column_of in zip(row[self.categories].tolist(), self.column_of, strict=True):
            column = column_of.get(_key(value))
            if column is not None:
                out[column] = 1.0
        return out


def _key(value: float) -> float | None:
    """None for missing, which is a category where it was there at fit."""
    return None if value != value else value


def _scores(fit: SklearnFit, raw: Floats) -> Floats:
    """On the scale of the task's kind, as `SklearnFit` has them."""
    if fit.kind not in ("binary", "multiclass"):
        with np.errstate(over="ignore"):
            return fit.hold(np.exp(raw) if type(fit.model) is PoissonRegressor else raw)
    if fit.kind == "binary":
        return np.asarray(expit(raw))
    of_known = np.concatenate([1 - expit(raw), expit(raw)]) if len(raw) == 1 else softmax(raw[None])[0]
    scores = np.zeros((1, fit.n_classes))
    scores[0, fit.model.classes_.astype(np.intp)] = of_known
    return scores
