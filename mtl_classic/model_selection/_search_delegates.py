"""What a search hands on to the best estimator that it has refitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

__all__ = ["BestEstimator"]


def _best_has(name: str) -> Callable[[Any], bool]:
    """Whether the best estimator (before the fit: the given one) has a method; its own error says why not."""

    def check(search: Any) -> bool:
        getattr(getattr(search, "best_estimator_", search.estimator), name)
        return True

    return check


class BestEstimator(MetaEstimatorMixin, BaseEstimator):
    """Base of a search: predictions are those of ``best_estimator_``."""

    estimator: Any
    best_estimator_: Any
    refit: Any

    def _best(self) -> Any:
        if self.refit is False and hasattr(self, "cv_results_"):
            raise AttributeError(
                f"{type(self).__name__}(refit=False) has no best estimator; fit one with best_params_, or refit=True."
            )
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> Any:
        """Labels of all tasks, as the best estimator predicts them."""
        return self._best().predict(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities of the best estimator, a list with one array per classification task."""
        return self._best().predict_proba(X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Scores of all tasks, as a pipeline hands them through too."""
        return self._best().decision_function(X)

    @available_if(_best_has("predict_scores"))
    def predict_scores(self, X: Any, space: str = "entire") -> pd.DataFrame:
        """Scores of all tasks by the best estimator.

        Parameters
        ----------
        X : table of shape (n, n_features)
        space : {"entire", "conditional"}, default="entire"
        """
        return self._best().predict_scores(X, space)

    @available_if(_best_has("score"))
    def score(self, X: Any, Y: Any) -> float:
        """Mean over tasks of 1 − loss / loss of the training prior, of the best estimator."""
        return float(self._best().score(X, Y))

    @property
    def classes_(self) -> Any:
        """Classes of the best estimator: a list of several tasks' where all have classes, those of one with 1-D Y."""
        return self._best().classes_

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the fit."""
        return int(self._best().n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        """Columns of the fit."""
        return self._best().feature_names_in_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self.estimator)
