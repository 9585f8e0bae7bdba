"""What we compare with: one LightGBM per task, as its users write it, on the same columns and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np

OBJECTIVES = {"binary": "binary", "regression": "regression", "count": "poisson"}

# The library's own settings; early stopping is the one thing that every user adds.
DEFAULTS: dict[str, Any] = {}

# Chosen on the validation weeks of Complete Journey: small leaves cannot rest on a handful of rare positives.
TUNED: dict[str, Any] = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_sum_hessian_in_leaf": 50.0,
    "lambda_l2": 1.0,
    "feature_fraction": 0.5,
}
TUNED_BY_KIND: dict[str, dict[str, Any]] = {
    "regression": {"min_sum_hessian_in_leaf": 1e-3, "min_data_in_leaf": 50},
    "rare": {"min_sum_hessian_in_leaf": 20.0, "lambda_l2": 10.0, "feature_fraction": 0.7},
}
RARE = 0.01


@dataclass
class OneLightGBM:
    """A fitted booster per task."""

    boosters: dict[str, lgb.Booster]

    def predict(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of every task."""
        return {name: booster.predict(values, num_threads=1) for name, booster in self.boosters.items()}


def settings(kind: str, y: np.ndarray, tuned: bool) -> dict[str, Any]:
    """Parameters of one task."""
    if not tuned:
        return dict(DEFAULTS)
    params = TUNED | TUNED_BY_KIND.get(kind, {})
    return params | TUNED_BY_KIND["rare"] if kind == "binary" and y.mean() < RARE else params


def fit_one_per_task(
    features: Any,
    labels: Mapping[str, tuple[str, np.ndarray]],
    train: np.ndarray,
    valid: np.ndarray,
    *,
    tuned: bool,
    refit: bool = False,
    seed: int = 0,
) -> OneLightGBM:
    """Bin and fit every task on its own, as a loop over ``LGBMModel.fit`` does.

    Parameters
    ----------
    features : Features
        The encoded matrix that our own models read too.
    labels : dict task -> (kind, labels); NaN is left out
    train, valid : rows
    tuned : bool
        Regularized for rare labels, or the library's defaults.
    refit : bool
        Train again on all rows for the rounds found.
    seed : int
    """
    boosters = {}
    for name, (kind, y) in labels.items():
        rows, stop = (part[~np.isnan(y[part])] for part in (train, valid))
        params = {"objective": OBJECTIVES[kind], "verbosity": -1, "num_threads": 1, "seed": seed, "deterministic": True}
        params |= {"force_col_wise": True} | settings(kind, y[rows], tuned)
        booster = _fit(features, y, rows, stop, params, 1000)
        if refit:
            booster = _fit(features, y, np.sort(np.r_[rows, stop]), None, params, max(booster.best_iteration, 1))
        boosters[name] = booster
    return OneLightGBM(boosters)


def _fit(
    features: Any, y: np.ndarray, rows: np.ndarray, stop: np.ndarray | None, params: dict[str, Any], rounds: int
) -> Any:
    categorical = list(features.categorical)
    data = lgb.Dataset(features.values[rows], y[rows], categorical_feature=categorical, params=params)
    if stop is None:
        return lgb.train(params, data, rounds)
    valid = lgb.Dataset(features.values[stop], y[stop], reference=data, categorical_feature=categorical, params=params)
    return lgb.train(params, data, rounds, valid_sets=[valid], callbacks=[lgb.early_stopping(30, verbose=False)])
