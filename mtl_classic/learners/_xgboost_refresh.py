"""An XGBoost booster whose leaves new rows have moved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from mtl_classic.learners._leaves import covers, move_leaves, slopes_of
from mtl_classic.learners._protocol import FitRequest

__all__ = ["refit_leaves"]

_OBJECTIVES = {  # whose slopes are those of a kind
    "binary:logistic": "binary",
    "multi:softprob": "multiclass",
    "reg:squarederror": "regression",
    "count:poisson": "count",
}


def refit_leaves(
    old: xgb.Booster, data: xgb.DMatrix, request: FitRequest, params: Mapping[str, Any], decay: float
) -> xgb.Booster:
    """Leaves moved by steps of our own where the objective is the task's own, else towards those of XGBoost.

    Parameters
    ----------
    old : Booster
    data : DMatrix
        The requested rows, labelled.
    request : FitRequest
    params : mapping
        Of the training.
    decay : float
        Of what each leaf rests on, as in `move_leaves`.
    """
    model = json.loads(old.save_raw("json"))
    if not _is_plain(model["learner"], request.task.kind):
        return _refreshed(old, model, data, params, decay)
    trees, n_rows = _trees(model), len(request.rows)
    outputs = len(set(model["learner"]["gradient_booster"]["model"]["tree_info"])) or 1
    values, evidence = ([np.asarray(tree[name]) for tree in trees] for name in ("split_conditions", "sum_hessian"))
    reached = old.predict(data, pred_leaf=True).reshape(n_rows, -1).astype(np.intp)
    score = old.predict(data, output_margin=True).reshape(n_rows, outputs).astype(np.float64)
    for k, value in enumerate(values):
        score[:, k % outputs] -= value[reached[:, k]]
    step = float(model["learner"]["objective"].get("poisson_regression_param", {}).get("max_delta_step", 0.0))
    moved, rested = move_leaves(
        values,
        evidence,
        reached,
        slopes_of(request, softmax_factor=2.0, poisson_step=step),
        score,
        rate=float(params["learning_rate"]),
        penalty=float(params["lambda"]),
        decay=decay,
        most=float(params.get("max_delta_step", step)) or np.inf,
    )
    for tree, value, weight in zip(trees, moved, rested, strict=True):
        children = np.asarray(tree["left_children"]), np.asarray(tree["right_children"])
        tree["split_conditions"], tree["sum_hessian"] = value.tolist(), covers(*children, weight).tolist()
    return _loaded(model)


def _is_plain(learner: Mapping[str, Any], kind: str) -> bool:
    """Whether the booster learnt the loss of the task as it is, in one tree a round and output."""
    objective, boosting = learner["objective"], learner["gradient_booster"]
    if _OBJECTIVES.get(objective["name"]) != kind or boosting["name"] != "gbtree":
        return False
    trees = boosting["model"]
    return (
        float(objective.get("reg_loss_param", {}).get("scale_pos_weight", 1)) == 1
        and int(trees["gbtree_model_param"]["num_parallel_tree"]) == 1
        and trees["tree_info"] == [k % (max(trees["tree_info"], default=0) + 1) for k in range(len(trees["tree_info"]))]
    )


def _refreshed(
    old: xgb.Booster, model: dict[str, Any], data: xgb.DMatrix, params: Mapping[str, Any], decay: float
) -> xgb.Booster:
    """Means of the old leaf values and those of XGBoost's own ``refresh``, by their sums of hessians."""
    updating = {"process_type": "update", "updater": "refresh", "refresh_leaf": True, "min_child_weight": 0.0}
    updated = xgb.train({**params, **updating}, data, old.num_boosted_rounds(), xgb_model=old)
    fresh = json.loads(updated.save_raw("json"))
    for before, after in zip(_trees(model), _trees(fresh), strict=True):
        is_leaf = np.asarray(after["left_children"]) == -1
        values, known = np.asarray(after["split_conditions"]), np.asarray(before["split_conditions"])
        kept, new = decay * np.asarray(before["sum_hessian"]), np.asarray(after["sum_hessian"])
        reached, total = is_leaf & (new > 0), kept + new
        mean = (kept * known + new * values) / np.where(reached, total, 1.0)
        after["split_conditions"] = np.where(reached, mean, np.where(is_leaf, known, values)).tolist()
        after["sum_hessian"] = total.tolist()
    return _loaded(fresh)


def _trees(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Trees in XGBoost's JSON; dart keeps them one level deeper."""
    boosted = model["learner"]["gradient_booster"]
    trees: list[dict[str, Any]] = boosted.get("gbtree", boosted)["model"]["trees"]
    return trees


def _loaded(model: dict[str, Any]) -> xgb.Booster:
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(model).encode()))
    return booster
