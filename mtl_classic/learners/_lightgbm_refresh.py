"""A LightGBM booster whose leaves new rows have moved."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import lightgbm as lgb
import numpy as np

from mtl_classic.learners._leaves import move_leaves, slopes_of
from mtl_classic.learners._protocol import FitRequest, Floats, run_lengths
from mtl_classic.learners._text_booster import tree_sizes

__all__ = ["refit_leaves"]

_LEAVES = re.compile(r"^num_leaves=(\d+)$", re.MULTILINE)
_VALUE, _WEIGHT = "leaf_value", "leaf_weight"
_SIZES = re.compile(r"^tree_sizes=.*$", re.MULTILINE)
_PLAIN = {"boosting": "gbdt", "scale_pos_weight": "1", "is_unbalance": "0"}
_OBJECTIVES = {  # whose slopes are those of a kind
    "binary sigmoid:1": "binary",
    "cross_entropy": "binary",
    "multiclass": "multiclass",
    "regression": "regression",
    "poisson": "count",
}


def refit_leaves(text: str, values: Any, request: FitRequest, decay: float, share: float) -> lgb.Booster:
    """Leaves moved one by one where the objective is the task's own, else by LightGBM, all at the same share.

    Parameters
    ----------
    text : str
        The booster, whose leaves are values, not lines.
    values : array or CSR of shape (n, n_columns)
        The requested rows.
    request : FitRequest
    decay : float
        Of what each leaf rests on, as in `move_leaves`.
    share : float
        Of the old values, where LightGBM has to do it.
    """
    booster = lgb.Booster(model_str=text)
    sizes = tree_sizes(text)
    if sizes is None or not _is_plain(text, request.task.kind):
        return _refitted(booster, text, values, request, share)
    start = text.index("Tree=0\n") if sizes else len(text)
    ends = start + np.cumsum([0, *sizes])
    trees = [text[a:b] for a, b in pairwise(ends.tolist())]
    outputs = booster.num_model_per_iteration()
    old, evidence = ([_numbers(name, tree) for tree in trees] for name in (_VALUE, _WEIGHT))
    penalty, rate = float(_parameter(text, "lambda_l2")), float(_parameter(text, "learning_rate"))
    constants = [_constant(value, known + penalty) for value, known in zip(old[:outputs], evidence, strict=False)]
    for tree, constant in enumerate(constants):
        old[tree] = old[tree] - constant
    options = {"num_threads": request.n_threads}
    moved, rested = move_leaves(
        old,
        evidence,
        booster.predict(values, pred_leaf=True, **options).reshape(len(request.rows), -1),
        slopes_of(
            request,
            softmax_factor=outputs / max(outputs - 1, 1),
            poisson_step=float(_parameter(text, "poisson_max_delta_step")),
        ),
        np.tile(constants, (len(request.rows), 1)),
        rate=rate,
        penalty=penalty,
        decay=decay,
        most=float(_parameter(text, "max_delta_step")) or np.inf,
    )
    for tree, constant in enumerate(constants):
        moved[tree] = moved[tree] + constant
    trees = [_written(*parts) for parts in zip(trees, moved, rested, strict=True)]
    head = _SIZES.sub("tree_sizes=" + " ".join(str(len(tree)) for tree in trees), text[:start])
    return lgb.Booster(model_str=head + "".join(trees) + text[ends[-1] :])


def _is_plain(text: str, kind: str) -> bool:
    """Whether the booster learnt the loss of the task as it is, in trees that add up."""
    objective = re.search(r"^objective=(.*?)(?: num_class:\d+)?$", text, re.MULTILINE)
    known = objective is not None and _OBJECTIVES.get(objective[1]) == kind
    return known and all(_parameter(text, key) == value for key, value in _PLAIN.items())


def _parameter(text: str, name: str) -> str:
    found = re.search(rf"^\[{name}: (.*)\]$", text, re.MULTILINE)
    return "" if found is None else found[1]


def _numbers(name: str, tree: str) -> Floats:
    found = re.search(rf"^{name}=(.*)$", tree, re.MULTILINE)
    return np.array([] if found is None else found[1].split(), dtype=np.float64)


def _constant(value: Floats, weight: Floats) -> float:
    """What boosting began with: it is in the leaves of the first tree, whose own steps are 0 in the mean."""
    return float(np.average(value, weights=weight if weight.sum() > 0 else None) if len(weight) else value[0])


def _written(tree: str, value: Floats, evidence: Floats) -> str:
    for name, numbers in ((_VALUE, value), (_WEIGHT, evidence)):
        if len(numbers):
            line = f"{name}=" + " ".join(map(repr, numbers.tolist()))
            tree = re.sub(rf"^{name}=.*$", line, tree, flags=re.MULTILINE)
    return tree


def _refitted(booster: lgb.Booster, text: str, values: Any, request: FitRequest, share: float) -> lgb.Booster:
    """LightGBM's own refit, which draws leaves without new rows towards 0, and begins from scores of 0.

    So leaves that no row reaches get their value back; and the constant that boosting began with, which is in the
    leaves of the first tree of each class, is what the rows begin from. A forest has it in every tree: there it stays.
    """
    rows, options = request.rows, {"verbosity": -1, "num_threads": request.n_threads}
    parts: dict[str, Any] = {
        "label": request.y[rows],
        "weight": None if request.weight is None else request.weight[rows],
        "group": None if request.groups is None else run_lengths(request.groups[rows]),
    }
    old = [
        np.array([booster.get_leaf_output(tree, leaf) for leaf in range(int(size))])
        for tree, size in enumerate(_LEAVES.findall(text))
    ]
    constants, score = np.zeros(len(old)), None
    if "\naverage_output\n" not in text:
        first = booster.predict(values, raw_score=True, num_iteration=1, **options).reshape(len(rows), -1)
        start = first.mean(axis=0)
        constants[: len(start)], score = start, np.repeat(start, len(rows))
    for tree in np.flatnonzero(constants).tolist():
        _set_leaves(booster, tree, old[tree] - constants[tree])
    moved = booster.refit(values, **parts, decay_rate=share, init_score=score, dataset_params=options, **options)
    reached = booster.predict(values, pred_leaf=True, **options).reshape(len(rows), -1)
    for tree, known in enumerate(old):
        new = np.array([moved.get_leaf_output(tree, leaf) for leaf in range(len(known))])
        there = np.isin(np.arange(len(known)), reached[:, tree])
        _set_leaves(moved, tree, np.where(there, new + constants[tree], known))
    return moved


def _set_leaves(booster: lgb.Booster, tree: int, values: Floats) -> None:
    for leaf, value in enumerate(values):
        booster.set_leaf_output(tree, leaf, float(value))
