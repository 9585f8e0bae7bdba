"""The door of every metric: labels, scores and weights become arrays, and unlabelled rows leave.

Conventions: labels and scores are float64, NaN in a label means "unlabelled", a weight of zero means "not there". A
score that is NaN on a labelled row is an error: a model that keeps silent where it is unsure would look too good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

PROBABILITY_SLACK = 1e-6  # sums and products of float32 probabilities may leave [0, 1] by rounding


def as_floats(values: Any, what: str) -> Floats:
    """Numbers as float64, with NaN for None and NA."""
    if isinstance(values, pd.DataFrame | pd.Series):
        array: Any = values
    else:
        array = np.asarray(values)
        if array.dtype == object:
            array = pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)
    try:
        if isinstance(array, np.ndarray):
            return array.astype(np.float64, copy=False)
        if isinstance(array, pd.Series) and isinstance(array.dtype, np.dtype) and array.dtype.kind in "biuf":
            return array.to_numpy(dtype=np.float64)  # with na_value= it would be a copy
        return np.asarray(array.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        raise TypeError(f"The {what} must be numbers, got {np.asarray(array).dtype}; encode them first.") from None


def check_weight(sample_weight: Any, n: int) -> Floats:
    """Weights of the rows; None is one for each."""
    if sample_weight is None:
        return np.ones(n)
    weight = as_floats(sample_weight, "sample weights")
    weight = weight if weight.ndim else np.full(n, weight)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight has the shape {weight.shape}; expected ({n},), one weight a row.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        bad = int((~np.isfinite(weight) | (weight < 0)).sum())
        raise ValueError(f"sample_weight must be finite and not negative; {bad} of {n} weights are not.")
    return weight


def scaled(weight: Floats) -> Floats:
    """Weights times a power of two where they are so small or large that products of their sums would not be numbers.

    All metrics are ratios of such sums, so nothing else changes, not by a bit.
    """
    exponent = int(np.frexp(weight.max(initial=1.0 if not len(weight) else 0.0))[1])
    return weight if abs(exponent) < 256 else np.ldexp(weight, -exponent)


def labelled(y: Any, scores: Any, sample_weight: Any = None, *, ndim: int = 1) -> tuple[Floats, Floats, Floats]:
    """Labels, scores and weights of the rows that count.

    Parameters
    ----------
    y : array of shape (n,)
    scores : array of shape (n,), or (n, n_classes) where ``ndim`` is 2
    sample_weight : array of shape (n,), default=None
    ndim : {1, 2}
        Number of dimensions that the scores must have.

    Returns
    -------
    y, scores, weight : ndarray, float64
        Without the rows that are unlabelled or have a weight of zero.
    """
    labels, values = as_floats(y, "labels"), as_floats(scores, "scores")
    if labels.ndim != 1 or values.ndim != ndim or len(labels) != len(values):
        expected = "(n,)" if ndim == 1 else "(n, n_classes)"
        raise ValueError(
            f"Labels of shape {labels.shape} and scores of shape {values.shape}; expected (n,) and {expected}, n alike."
        )
    weight = check_weight(sample_weight, len(labels))
    known = ~np.isnan(labels) & (weight > 0)
    if not known.all():
        labels, values, weight = labels[known], values[known], weight[known]
    check_scores(values)
    return labels, values, weight


def check_scores(scores: Floats) -> None:
    """Refuse NaN among the scores of labelled rows."""
    missing = np.isnan(scores)
    if missing.any():
        rows = int(missing.reshape(len(scores), -1).any(axis=1).sum())
        raise ValueError(
            f"The scores are NaN in {rows} of {len(scores)} labelled rows; a metric needs a score for each. "
            "Rows that no fold covered are left out by making their labels NaN."
        )


def check_binary(y: Floats) -> None:
    """Refuse labels outside [0, 1]."""
    if len(y) and not (y.min() >= 0 and y.max() <= 1):
        raise ValueError(
            f"Binary labels must be 0 and 1, or in [0, 1] where they are soft; got {y.min():g} to {y.max():g}."
        )


def check_probabilities(p: Floats) -> None:
    """Refuse scores outside [0, 1]."""
    if p.size and not (p.min() >= -PROBABILITY_SLACK and p.max() <= 1 + PROBABILITY_SLACK):
        raise ValueError(f"Expected probabilities in [0, 1], got {p.min():g} to {p.max():g}; are these margins?")


def check_means(means: Floats) -> None:
    """Refuse means of counts below 0."""
    if means.size and not means.min() >= -PROBABILITY_SLACK:
        raise ValueError(
            f"Expected means of counts, at least 0; {int((means < 0).sum())} are negative, the least {means.min():g}. "
            f"Are these logarithms?"
        )


def check_codes(codes: Floats, p: Floats) -> None:
    """Refuse class codes that are no columns of the probabilities."""
    bad = (codes < -1) | (codes >= p.shape[1]) | (codes != np.floor(codes))
    if bad.any():
        raise ValueError(
            f"Class codes must be integers from 0 to {p.shape[1] - 1} (or -1); {int(bad.sum())} are not, the first is "
            f"{codes[bad][0]:g}. Labels are turned into codes by their position in the sorted classes."
        )


def mean(values: npt.NDArray[Any], weight: Floats) -> float:
    """Weighted mean, NaN where there is nothing."""
    return float(np.average(values, weights=weight)) if len(values) else float("nan")


def divide(upper: Any, lower: Any, otherwise: float = np.nan) -> Floats:
    """``upper / lower`` where the lower is positive, NaN or ``otherwise`` elsewhere."""
    return np.asarray(np.divide(upper, lower, out=np.full(np.shape(lower), otherwise), where=np.asarray(lower) > 0))


def factorize(values: Any, n: int, what: str) -> tuple[Codes, pd.Index]:
    """Groups as codes 0, 1, …, in order of appearance, -1 where missing, and their keys.

    Parameters
    ----------
    values : array of shape (n,) of hashables, or frame whose columns together name the group
    n : int
        Number of rows expected.
    what : str
        For the error.
    """
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = pd.DataFrame(values)
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        values = values.iloc[:, 0]
    if not hasattr(values, "__len__"):
        raise TypeError(f"The {what} must be an array with a value for each row, or a frame, got {values!r}.")
    if len(values) != n:
        raise ValueError(f"The {what} have {len(values)} rows, but there are {n} labels; expected one for each row.")
    if isinstance(values, pd.DataFrame):
        keys: Any = pd.MultiIndex.from_frame(values)
        missing = values.isna().any(axis=1).to_numpy()
        codes, found = keys.factorize()
        return np.where(missing, -1, codes).astype(np.intp), found
    codes, found = pd.factorize(values if isinstance(values, pd.Series | pd.Index) else pd.Series(values))
    return codes.astype(np.intp), pd.Index(found)
