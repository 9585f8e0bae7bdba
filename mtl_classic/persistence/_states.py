"""From an object of an allowed class to plain values, and back.

Most classes give their attributes, by `__getstate__`; below are those that keep their state outside of Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_classic.persistence._booster_bytes import check_booster_bytes
from mtl_classic.persistence._booster_text import check_booster
from mtl_classic.persistence._classes import class_named
from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._kernel_states import check_state

__all__ = ["from_state", "to_state"]

State = dict[str, Any]
# Attributes that only fitting needs, and that are no plain values.
_LEFT_OUT: dict[str, set[str]] = {
    "sklearn.SGDClassifier": {"_loss_function_"},
    "sklearn.SGDRegressor": {"_loss_function_"},
}
# What is told about the fitted rows, as long as they were many.
_OF_THE_FIT = {"_sample_weight", "fold_", "oob_scores_", "oof_predictions_", "oof_scores_"}
_OF_THE_SESSION = {"_skl_callbacks", "_metadata_request"}  # what set_callbacks and set_fit_request have left
# Labels and weights of the fitted rows, which predictions do not read: arrays of no rows are written in their place.
_LABELS = {"mtl_classic.Block": ("y", "weight", "groups")}
_N_CLASSES = re.compile(r"^num_class=(.{0,9})$", re.MULTILINE)
_SHORT = 100  # characters; boosters of categories by pandas are read one by one
_FEW = 1000  # of whatever is remembered between files
_OWN = ("_handle", "params")  # what every booster has of its own
_LENT: dict[Any, State] = {}
_NONE: frozenset[str] = frozenset()
_ALLOWED: dict[type, frozenset[str]] = {}  # attributes that were found to be no methods
_LEAF = -1
_NODES_OF_TREE = {"left_child", "right_child", "feature", "threshold"}


@dataclass(frozen=True)
class _Writer:
    to_state: Callable[[Any], State]
    from_state: Callable[[type, State], Any]


def to_state(value: Any, name: str) -> State:
    """The state of an object whose class has the name."""
    if name in _WRITERS:
        return _WRITERS[name].to_state(value)
    state = value.__getstate__()
    if isinstance(state, tuple):  # of a class with slots
        state = {**(state[0] or {}), **(state[1] or {})}
    if state is None:
        state = {}
    if not isinstance(state, dict):
        raise TypeError(f"{name} has a state that is no dict, a {type(state).__name__}")
    left_out = _OF_THE_FIT | _OF_THE_SESSION | _LEFT_OUT.get(name, set())
    state = {key: item for key, item in state.items() if key not in left_out}
    for key in _LABELS.get(name, ()):
        state[key] = state[key][:0] if isinstance(state[key], np.ndarray) else None
    return state


def from_state(name: str, state: State) -> Any:
    """An object of the class with the name, made without calling its constructor."""
    cls = class_named(name)
    if name in _WRITERS:
        return _WRITERS[name].from_state(cls, state)
    if not state.keys() <= _ALLOWED.get(cls, _NONE):
        for attribute in state:
            _check_attribute(cls, name, attribute)
        if len(state) < _FEW:
            _ALLOWED[cls] = (_ALLOWED.get(cls, _NONE) if len(_ALLOWED.get(cls, _NONE)) < _FEW else _NONE) | state.keys()
    check_state(name, state)
    value: Any = object.__new__(cls)
    if hasattr(cls, "__setstate__"):
        value.__setstate__(state)
    elif hasattr(value, "__dict__"):
        value.__dict__.update(state)  # past the `__setattr__` of frozen dataclasses
    else:
        for attribute, item in state.items():
            object.__setattr__(value, attribute, item)
    if name in _WIDTHS and "n_features_in_" in state:
        _check_width(value, _WIDTHS[name](value))
    return value


def _check_width(model: Any, widths: list[int]) -> None:
    """Trees read no columns beyond those that scikit-learn asks a table for."""
    if max(widths, default=0) > model.n_features_in_:
        raise ModelFileError(f"The trees of a {type(model).__name__} read columns that it does not have.")


def _widths_by_histogram(model: Any) -> list[int]:
    nodes = [tree.nodes for trees in model._predictors for tree in trees]
    return [int(one["feature_idx"][one["is_leaf"] == 0].max(initial=-1)) + 1 for one in nodes]


def _check_attribute(cls: type, name: str, attribute: Any) -> None:
    """An attribute may not take the place of a method."""
    if not isinstance(attribute, str) or not attribute.isidentifier() or attribute.startswith("__"):
        raise ModelFileError(
            f"The file gives an object of {name} the attribute {attribute!r}, which is no name of one."
        )
    if callable(getattr(cls, attribute, None)) or isinstance(getattr(cls, attribute, None), property):
        raise ModelFileError(f"The file gives an object of {name} a value in place of its method {attribute!r}.")


def _lightgbm_state(booster: Any) -> State:
    return {
        "text": booster.model_to_string(num_iteration=-1),
        "best_iteration": int(booster.best_iteration),
        "params": {key: item for key, item in booster.params.items() if isinstance(item, str | int | float | bool)},
    }


def _lightgbm_from_state(cls: type, state: State) -> Any:
    """A booster of its text, by LightGBM's constructor, or like one that it made: then the trees wait as text.

    The constructor also reads the parameters back, which takes as long as the trees, and they are known. Beside them,
    two lines of the text decide what Python keeps of a booster: one that was constructed lends it to those that agree.
    """
    from mtl_classic.learners._text_booster import TextBooster, tree_sizes  # not before a booster is there: LightGBM

    text = state["text"]
    if not isinstance(text, str):
        raise ModelFileError("The text of a LightGBM booster is none.")
    n_classes = _N_CLASSES.findall(text, 0, max(text.find("\nTree="), 0))
    categories = text[text.rfind("\npandas_categorical:") :]
    key = cls, *n_classes, categories
    if key in _LENT and tree_sizes(text) is not None:
        booster: Any = TextBooster(text, deepcopy(_LENT[key]), check_booster)
    else:
        check_booster(text)
        booster = cls(model_str=text)
        if len(n_classes) == 1 and len(categories) < _SHORT and len(_LENT) < _FEW:
            _LENT[key] = {name: deepcopy(item) for name, item in booster.__dict__.items() if name not in _OWN}
    booster.best_iteration, booster.params = int(state["best_iteration"]), dict(state["params"])
    return booster


def _xgboost_state(booster: Any) -> State:
    return {"model": bytes(booster.save_raw("ubj"))}


def _xgboost_from_state(cls: type, state: State) -> Any:
    check_booster_bytes(state["model"])
    booster = cls()
    booster.load_model(bytearray(state["model"]))
    return booster


def _tree_state(tree: Any) -> State:
    """Arrays of a scikit-learn tree, without the garbage between its fields."""
    (n_features, n_classes, n_outputs), state = tree.__reduce__()[1], tree.__getstate__()
    nodes = np.zeros_like(state["nodes"])
    for field in nodes.dtype.names:
        nodes[field] = state["nodes"][field]
    return {
        "n_features": int(n_features),
        "n_classes": np.asarray(n_classes),
        "n_outputs": int(n_outputs),
        "max_depth": int(state["max_depth"]),
        "nodes": nodes,
        "values": state["values"],
    }


def _tree_from_state(cls: type, state: State) -> Any:
    nodes, values, n_features = state["nodes"], state["values"], state["n_features"]
    if not set(nodes.dtype.names or ()) >= _NODES_OF_TREE or nodes.ndim != 1:
        raise ModelFileError("The nodes of a tree lack their fields.")
    inner = nodes["left_child"] != _LEAF
    _check_children(nodes["left_child"], nodes["right_child"], inner)
    _check_range(nodes["feature"][inner], n_features, "feature")
    tree = cls(n_features, state["n_classes"], state["n_outputs"])
    kept = {"max_depth": state["max_depth"], "node_count": len(nodes), "nodes": nodes, "values": values}
    tree.__setstate__(kept)  # checks dtypes and shapes
    return tree


def _predictor_state(predictor: Any) -> State:
    return dict(predictor.__dict__)


def _predictor_from_state(cls: type, state: State) -> Any:
    """A tree of scikit-learn's histogram boosting; its nodes are followed without looking, so they are checked here."""
    nodes = state["nodes"]
    inner = nodes["is_leaf"] == 0
    _check_children(nodes["left"], nodes["right"], inner)
    categorical = inner & (nodes["is_categorical"] != 0)
    for bitsets in (state["binned_left_cat_bitsets"], state["raw_left_cat_bitsets"]):
        if bitsets.dtype != np.uint32 or bitsets.ndim != 2 or bitsets.shape[1] != 8:
            raise ModelFileError("The category sets of a tree have another shape.")
        _check_range(nodes["bitset_idx"][categorical], len(bitsets), "category set")
    _check_range(nodes["feature_idx"][inner], None, "feature")
    predictor: Any = object.__new__(cls)
    predictor.__dict__.update({key: state[key] for key in ("nodes", "binned_left_cat_bitsets", "raw_left_cat_bitsets")})
    return predictor


def _check_children(left: Any, right: Any, inner: Any) -> None:
    """Children come after their parent, so that every walk ends."""
    own = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        if (child <= own).any() or (child >= len(inner)).any():
            raise ModelFileError("A tree has children that are no nodes after their parent.")
    if not len(inner):
        raise ModelFileError("A tree has no nodes.")


def _check_range(numbers: Any, end: int | None, what: str) -> None:
    if (numbers < 0).any() or (end is not None and (numbers >= end).any()):
        raise ModelFileError(f"A tree asks for a {what} that there is not.")


def _loss_state(loss: Any) -> State:
    power = getattr(loss.closs, "power", None)
    return {"n_classes": loss.n_classes, "power": power, "constant_hessian": bool(loss.constant_hessian)}


def _loss_from_state(cls: type, state: State) -> Any:
    options = {}
    if cls.__name__ == "HalfMultinomialLoss":
        options["n_classes"] = state["n_classes"]
    if state["power"] is not None:
        options["power"] = state["power"]
    loss = cls(**options)
    loss.constant_hessian = state["constant_hessian"]
    return loss


_LOSS = _Writer(_loss_state, _loss_from_state)
_WRITERS: dict[str, _Writer] = {
    "lightgbm.Booster": _Writer(_lightgbm_state, _lightgbm_from_state),
    "xgboost.Booster": _Writer(_xgboost_state, _xgboost_from_state),
    "sklearn.Tree": _Writer(_tree_state, _tree_from_state),
    "sklearn.TreePredictor": _Writer(_predictor_state, _predictor_from_state),
    "sklearn.HalfBinomialLoss": _LOSS,
    "sklearn.HalfGammaLoss": _LOSS,
    "sklearn.HalfMultinomialLoss": _LOSS,
    "sklearn.HalfPoissonLoss": _LOSS,
    "sklearn.HalfSquaredError": _LOSS,
    "sklearn.HalfTweedieLoss": _LOSS,
    "sklearn.HalfTweedieLossIdentity": _LOSS,
}
# Columns that the trees of a fitted model read.
_WIDTHS: dict[str, Callable[[Any], list[int]]] = {
    **{f"sklearn.{family}{kind}": widths for kind in ("Classifier", "Regressor") for family, widths in (
        ("DecisionTree", lambda model: [model.tree_.n_features]), ("ExtraTree", lambda model: [model.tree_.n_features]),
        ("RandomForest", lambda model: [tree.n_features_in_ for tree in model.estimators_]),
        ("ExtraTrees", lambda model: [tree.n_features_in_ for tree in model.estimators_]),
        ("HistGradientBoosting", _widths_by_histogram),
    )},
}  # fmt: skip
