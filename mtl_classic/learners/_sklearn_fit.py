"""Fitting an estimator of scikit-learn, around what it can't do itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.svm import LinearSVR
from sklearn.utils.validation import has_fit_parameter

__all__ = ["fit_estimator"]

VALIDATION_SHARE = 0.1  # scikit-learn's default


def fit_estimator(model: Any, matrix: Any, y: Any, weight: Any, name: str) -> None:
    """Fit a clone to the labels of the task with the name.

    A class of a single row can't be on both sides of a validation split, nor all classes in one of fewer rows: then
    there is no early stopping. LinearSVR penalizes its intercept, so it learns labels around their mean, which is added
    to the intercept afterwards.
    """
    if weight is not None and not has_fit_parameter(model, "sample_weight"):
        raise ValueError(
            f"Task {name!r} has weights (those given, of soft labels, or of a child that is labelled in a share), but "
            f"{type(model).__name__}.fit takes no sample_weight."
        )
    sizes = np.unique(y, return_counts=True)[1] if is_classifier(model) else np.array([len(y)])
    if sizes.min() < 2 or len(y) * VALIDATION_SHARE < len(sizes):
        stops = (key for key in model.get_params() if key.split("__")[-1] == "early_stopping")
        model.set_params(**dict.fromkeys(stops, False))
    center = np.average(y, weights=weight) if isinstance(model, LinearSVR) and model.fit_intercept else None
    weights = {} if weight is None else {"sample_weight": weight}
    with config_context(enable_metadata_routing=False):  # weights are for what is inside it too, asked for or not
        model.fit(matrix, y if center is None else y - center, **weights)
    if center is not None:
        model.intercept_ = model.intercept_ + center
