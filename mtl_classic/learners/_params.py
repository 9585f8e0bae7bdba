"""Further parameters of the boosters as users write them: one name for each, and none that would be silently ignored.

A library that is given a parameter by its main name ignores the other names, so what we set ourselves would win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["check_max_iter", "lightgbm_params", "xgboost_params"]

Params = Mapping[str, Any] | None

_OF_LIGHTGBM = {
    "objective": "objective_type app application loss",
    "boosting": "boosting_type boost",
    "num_leaves": "num_leaf max_leaves max_leaf max_leaf_nodes",
    "learning_rate": "shrinkage_rate eta",
    "min_data_in_leaf": "min_data_per_leaf min_data min_child_samples min_samples_leaf",
    "min_sum_hessian_in_leaf": "min_sum_hessian_per_leaf min_sum_hessian min_hessian min_child_weight",
    "lambda_l2": "reg_lambda lambda l2_regularization",
    "feature_fraction": "sub_feature colsample_bytree",
    "max_bin": "max_bins",
    "is_enable_sparse": "is_sparse enable_sparse sparse",
    "seed": "random_seed random_state",
    "num_threads": "num_thread nthread nthreads n_jobs",
    "num_class": "num_classes",
    "verbosity": "verbose",
    "eval_at": "ndcg_eval_at ndcg_at map_eval_at map_at",
    "num_iterations": (
        "num_iteration n_iter num_tree num_trees num_round num_rounds nrounds num_boost_round n_estimators max_iter"
    ),
    "early_stopping_round": "early_stopping_rounds early_stopping n_iter_no_change",
}
_OF_XGBOOST = {
    "learning_rate": "eta",
    "lambda": "reg_lambda",
    "seed": "random_state",
    "nthread": "n_jobs",
    "num_iterations": "n_estimators num_boost_round num_round max_iter",
    "early_stopping_round": "early_stopping_rounds n_iter_no_change",
}
_SET_ELSEWHERE = {"num_iterations": "max_iter", "early_stopping_round": "n_iter_no_change"}


def _main_names(table: Mapping[str, str]) -> dict[str, str]:
    return {other: name for name, others in table.items() for other in others.split()}


_LIGHTGBM, _XGBOOST = _main_names(_OF_LIGHTGBM), _main_names(_OF_XGBOOST)


def lightgbm_params(params: Params) -> dict[str, Any]:
    """The parameters by LightGBM's main names; where both names are given, the main one counts, as in LightGBM."""
    return _renamed(params, _LIGHTGBM)


def xgboost_params(params: Params) -> dict[str, Any]:
    """The parameters by the names that we set; a booster without trees, or trees of other matrices, are refused."""
    renamed = _renamed(params, _XGBOOST)
    if renamed.get("booster") == "gblinear":
        raise ValueError(
            "params has booster='gblinear', but trees are wanted here; for linear models: learner='linear'."
        )
    method = renamed.get("tree_method", "hist")
    if method not in ("hist", "auto"):
        raise ValueError(
            f"params has tree_method={method!r}, but the matrix, which is binned once for all tasks, takes 'hist' only."
        )
    return renamed


def check_max_iter(max_iter: int) -> None:
    """Refuse less than one round of boosting."""
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter!r}.")


def _renamed(params: Params, main: Mapping[str, str]) -> dict[str, Any]:
    given = dict(params or {})
    for name, value in given.items():
        if (ours := _SET_ELSEWHERE.get(main.get(name, name))) is not None:
            raise ValueError(f"params has {name!r}, but the rounds are not set there; use {ours}={value!r}.")
    return {
        main.get(name, name): value
        for name, value in given.items()
        if main.get(name, name) not in given.keys() - {name}
    }
