"""Further parameters of the boosters as users write them: one name for each, and none that would be silently ignored.

A library that is given a parameter by its main name ignores the other names, so what we set ourselves would win.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import lightgbm as lgb
import numpy as np
import xgboost as xgb

from mtl_classic._core.tasks import Task

__all__ = [
    "OF_JOINT_TREES", "check_joint_trees", "check_lightgbm", "check_xgboost", "lightgbm_params", "xgboost_params",
]  # fmt: skip

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
    "categorical_feature": "cat_feature categorical_column cat_column categorical_features",
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
_NUMBERS_OF_LIGHTGBM = (
    "regression regression_l2 l2 mean_squared_error mse l2_root root_mean_squared_error rmse regression_l1 l1 "
    "mean_absolute_error mae huber fair poisson quantile mape mean_absolute_percentage_error gamma tweedie"
)
_OBJECTIVES_OF_LIGHTGBM = {
    "binary": "binary cross_entropy xentropy",
    "multiclass": "multiclass softmax",
    "regression": _NUMBERS_OF_LIGHTGBM,
    "count": _NUMBERS_OF_LIGHTGBM,
    "ranking": "lambdarank rank_xendcg xendcg xe_ndcg xe_ndcg_mart xendcg_mart",
}
_NUMBERS_OF_XGBOOST = (
    "reg:squarederror reg:squaredlogerror reg:pseudohubererror reg:absoluteerror reg:quantileerror reg:expectileerror "
    "reg:gamma reg:tweedie count:poisson"
)
_OBJECTIVES_OF_XGBOOST = {
    "binary": "binary:logistic reg:logistic",
    "multiclass": "multi:softprob",
    "regression": _NUMBERS_OF_XGBOOST,
    "count": _NUMBERS_OF_XGBOOST,
    "ranking": "rank:ndcg rank:pairwise rank:map",
}
# What the task and the table say: another value would fail in the library, or be ignored.
_OWN_OF_LIGHTGBM = ("num_class", "categorical_feature", "feature_pre_filter")
_OWN_OF_XGBOOST = (
    "num_class", "num_target", "num_feature", "feature_types", "enable_categorical", "missing", "updater",
    "process_type",
)  # fmt: skip
_OF_ONE_OUTPUT = ("monotone_constraints", "interaction_constraints")
OF_JOINT_TREES = ("objective", "base_score", "eval_metric", "disable_default_eval_metric")
_SET_ELSEWHERE = {"num_iterations": "max_iter", "early_stopping_round": "n_iter_no_change"}


def _main_names(table: Mapping[str, str]) -> dict[str, str]:
    return {other: name for name, others in table.items() for other in others.split()}


_LIGHTGBM, _XGBOOST = _main_names(_OF_LIGHTGBM), _main_names(_OF_XGBOOST)


def lightgbm_params(params: Params) -> dict[str, Any]:
    """The parameters by LightGBM's main names; where both names are given, the main one counts, as in LightGBM."""
    return _renamed(params, _LIGHTGBM, _OWN_OF_LIGHTGBM, _known_to_lightgbm)


def xgboost_params(params: Params, own: tuple[str, ...] = ()) -> dict[str, Any]:
    """The parameters by the names that we set; a booster without trees, or trees of other matrices, are refused."""
    renamed = _renamed(params, _XGBOOST, (*_OWN_OF_XGBOOST, *own), _known_to_xgboost)
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


def check_lightgbm(params: Params, task: Task) -> None:
    """Refuse parameters with which LightGBM could not learn the task, or would learn another."""
    _check_objective(lightgbm_params(params), task, _OBJECTIVES_OF_LIGHTGBM)


def check_xgboost(params: Params, task: Task) -> None:
    """Refuse parameters with which XGBoost could not learn the task, or would learn another."""
    _check_objective(xgboost_params(params), task, _OBJECTIVES_OF_XGBOOST)


def check_joint_trees(params: Params) -> None:
    """Refuse parameters that XGBoost does not take for trees of several outputs."""
    given = xgboost_params(params, OF_JOINT_TREES)
    if given.get("multi_strategy", "multi_output_tree") != "multi_output_tree":
        return
    refused = [name for name in _OF_ONE_OUTPUT if given.get(name) is not None and str(given[name]).strip("()[]{} ")]
    refused += ["booster"] if given.get("booster") == "dart" else []
    if refused:
        named = ", ".join(f"{name}={given[name]!r}" for name in refused)
        raise ValueError(
            f"params has {named}, which XGBoost does not support for trees of several tasks; leave it out, or give "
            f"each task its own trees: PerTaskModel(learner=XGBoostLearner(params=…))."
        )


def _check_objective(params: Mapping[str, Any], task: Task, objectives: Mapping[str, str]) -> None:
    known = objectives[task.kind].split()
    if "objective" in params and params["objective"] not in known:
        raise ValueError(
            f"params has objective={params['objective']!r}, and the task {task.name!r} is of the kind {task.kind!r}, "
            f"which takes {', '.join(known)}. Leave the objective out, or give a learner for each task: "
            f"learner={{{task.name!r}: …}}."
        )


def _renamed(
    params: Params, main: Mapping[str, str], own: tuple[str, ...], known: Callable[[], frozenset[str]]
) -> dict[str, Any]:
    given = dict(params or {})
    for name, value in given.items():
        if (ours := _SET_ELSEWHERE.get(main.get(name, name))) is not None:
            raise ValueError(f"params has {name!r}, but the rounds are not set there; use {ours}={value!r}.")
        if main.get(name, name) in own:
            raise ValueError(f"params has {name!r}, which follows from the tasks and the table here; leave it out.")
    names = known() if given else frozenset()
    for name in given if names else ():
        if name not in names and name not in main:
            nearest = "".join(
                f"; did you mean {near!r}?" for near in get_close_matches(str(name), sorted({*names, *main}), 1)
            )
            raise ValueError(f"params has {name!r}, which the library does not know and would ignore{nearest or '.'}")
    return {
        main.get(name, name): value
        for name, value in given.items()
        if main.get(name, name) not in given.keys() - {name}
    }


@lru_cache(maxsize=1)
def _known_to_lightgbm() -> frozenset[str]:
    """All names of LightGBM's parameters, as the library lists them; none where it does not."""
    lists = getattr(lgb.basic, "_ConfigAliases", None)  # private, so it may go
    aliases: dict[str, list[str]] = getattr(lists, "_get_all_param_aliases", dict)()
    return frozenset(aliases).union(*aliases.values())


@lru_cache(maxsize=1)
def _known_to_xgboost() -> frozenset[str]:
    """All names of XGBoost's parameters that a booster of some objective keeps, and those of the whole library."""
    data = xgb.DMatrix(np.zeros((2, 1)), label=[0, 1])
    names = {"eval_metric", *xgb.get_config()}
    more: dict[str, dict[str, Any]] = {"multi:softprob": {"num_class": 2}, "reg:quantileerror": {"quantile_alpha": 0.5}}
    more |= {"reg:expectileerror": {"expectile_alpha": 0.5}}
    for objective in " ".join(_OBJECTIVES_OF_XGBOOST.values()).split():
        settings = {"booster": "dart", "objective": objective, "verbosity": 0, "nthread": 1} | more.get(objective, {})
        with suppress(xgb.core.XGBoostError):  # an objective of a later version
            _add_names(json.loads(xgb.train(settings, data, 1).save_config()), names)
    return frozenset(names)


def _add_names(config: Any, names: set[str]) -> None:
    for name, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, dict | list):
            _add_names(value, names)
        elif isinstance(name, str):
            names.add(name)
