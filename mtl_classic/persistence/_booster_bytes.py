"""Whether the bytes of an XGBoost booster are those of one: XGBoost follows numbers of its trees without looking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._ubjson import Span, joined, read_ubjson

__all__ = ["check_booster_bytes"]

Object = dict[bytes, Any]
Array = npt.NDArray[Any]
_COUNT = re.compile(rb"[0-9]{1,9}")
_NUMBER = rb"(?:-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[Ee][+-]?[0-9]{1,3})?|NaN|-?Infinity)"
_NUMBERS = re.compile(rb"\[?" + _NUMBER + rb"(?:," + _NUMBER + rb")*\]?")
_WORD = re.compile(rb"[A-Za-z0-9_.:+-]{0,100}")
_DELETED = 2**31 - 1  # what a pruned node says in place of its feature
_LAST_CATEGORY = 2**24
_MOST_WORDS = 2**28  # XGBoost keeps the categories of a node as bits, up to the last
_OF_NODES = {
    b"left_children": "l", b"right_children": "l", b"parents": "l", b"split_indices": "l", b"split_conditions": "d",
    b"split_type": "U", b"default_left": "U", b"loss_changes": "d", b"sum_hessian": "d",
}  # fmt: skip


def check_booster_bytes(data: Any) -> None:
    """Refuse what is no booster of trees as XGBoost writes it, or has trees that lead out of a tree or of a row.

    Cost: a step for each array, and a pass over the numbers of nodes.
    """
    if not isinstance(data, bytes):
        raise ModelFileError("The bytes of an XGBoost booster are none.")
    try:
        _check(data)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"The bytes of an XGBoost booster are not as XGBoost writes them ({type(error).__name__}: {error})."
        ) from None


def _check(data: bytes) -> None:
    model = read_ubjson(data)
    _require(len(_list(model[b"version"], int)) == 3, "version")
    learner = model[b"learner"]
    n_features, n_outputs = _check_head(learner)
    boosted = learner[b"gradient_booster"]
    name, model = boosted[b"name"], boosted[b"model"] if b"model" in boosted else boosted[b"gbtree"][b"model"]
    if name == b"dart":  # a level deeper, as XGBoost writes it before 3.4
        _require(b"model" not in boosted and boosted[b"gbtree"][b"name"] == b"gbtree", "dart")
    else:
        _require(name == b"gbtree" and b"gbtree" not in boosted, "the kind of booster")
    n_trees = _check_rounds(model, n_outputs)
    for holder in (boosted, model):
        if b"weight_drop" in holder:
            _require(len(_list(holder[b"weight_drop"], float)) == n_trees, "weights of trees")
    _require(name != b"dart" or b"weight_drop" in boosted, "weights of trees")
    if n_trees:
        _Trees(data, model[b"trees"], n_features, n_outputs).check()


def _check_head(learner: Object) -> tuple[int, int]:
    """The numbers of features and outputs, after the names of features and the objective."""
    shape, objective = learner[b"learner_model_param"], learner[b"objective"]
    n_features, n_classes, n_targets = (_count(shape[key]) for key in (b"num_feature", b"num_class", b"num_target"))
    n_outputs = max(n_classes, n_targets)
    _require(n_features and n_targets and (n_classes <= 1 or n_targets == 1), "numbers of features and outputs")
    base = shape[b"base_score"]
    _require(_NUMBERS.fullmatch(base) and base.count(b",") + 1 in (1, n_outputs), "base_score")
    _count(shape.get(b"boost_from_average", b"1"))
    for names in (learner[b"feature_names"], learner[b"feature_types"]):
        _require(len(_list(names, bytes)) in (0, n_features), "names of features")
    _require(all(isinstance(text, bytes) for text in learner[b"attributes"].values()), "attributes")
    told = [_count(options[b"num_class"]) for options in objective.values() if b"num_class" in options]
    is_multiclass = objective[b"name"].startswith(b"multi:")
    _require(all(n == n_classes for n in told) and bool(told) >= is_multiclass, "numbers of classes")
    for text in _texts(objective):
        _require(_WORD.fullmatch(text) or _NUMBERS.fullmatch(text), "objective")
    return n_features, n_outputs


def _texts(objective: Object) -> list[bytes]:
    """Whatever the objective says in words; some keep arrays beside."""
    options = [value for value in objective.values() if isinstance(value, dict)]
    texts = [objective[b"name"], *(text for option in options for text in option.values())]
    others = [value for key, value in objective.items() if key != b"name" and not isinstance(value, dict)]
    _require(all(isinstance(value, Span) for value in others), "objective")
    return texts


def _check_rounds(model: Object, n_outputs: int) -> int:
    """The number of trees, after the trees of each round and of each output."""
    trees, outputs = _list(model[b"trees"], dict), _list(model[b"tree_info"], int)
    bounds, shape = _list(model[b"iteration_indptr"], int), model[b"gbtree_model_param"]
    n_trees = _count(shape[b"num_trees"])
    _require(n_trees == len(trees) == len(outputs) == bounds[-1] and bounds[0] == 0, "numbers of trees")
    _require(all(a < b for a, b in pairwise(bounds)), "numbers of trees")
    _require(1 <= _count(shape[b"num_parallel_tree"]) <= max(n_trees, 1), "numbers of trees")
    _require(all(0 <= output < n_outputs for output in outputs), "tree_info")
    _require([tree[b"id"] for tree in trees] == list(range(n_trees)), "numbers of trees")
    cats = model.get(b"cats", {})  # of frames with categories; learners give codes
    _require(all((value.size if isinstance(value, Span) else len(value)) == 0 for value in cats.values()), "cats")
    return n_trees


class _Trees:
    """The numbers of all trees, one tree after the other."""

    def __init__(self, data: bytes, trees: Sequence[Object], n_features: int, n_outputs: int) -> None:
        self.data, self.trees, self.n_features = data, trees, n_features
        shapes = [tree[b"tree_param"] for tree in trees]
        self.n_nodes = np.array([_count(shape[b"num_nodes"]) for shape in shapes])
        self.n_deleted = np.array([_count(shape[b"num_deleted"]) for shape in shapes])
        self.width = _count(shapes[0][b"size_leaf_vector"])
        _require(self.n_nodes.min() > 0, "num_nodes")
        widths = {shape[b"size_leaf_vector"] for shape in shapes}
        _require(len(widths) == 1 and self.width in (0, 1, n_outputs), "size_leaf_vector")
        _require(all(_count(shape[b"num_feature"]) == n_features for shape in shapes), "num_feature")
        _require(self.width > 1 or n_outputs <= len(trees), "numbers of outputs")
        self.firsts = np.cumsum(self.n_nodes) - self.n_nodes

    def check(self) -> None:
        """Refuse trees of other lengths, and walks that do not end in a leaf."""
        nodes = {name: self._read(name, kind, self.n_nodes) for name, kind in _OF_NODES.items()}
        left, right, feature = nodes[b"left_children"], nodes[b"right_children"], nodes[b"split_indices"]
        _require(nodes[b"split_type"].max() <= 1 and nodes[b"default_left"].max() <= 1, "split_type")
        deleted = (feature == _DELETED) & (nodes[b"default_left"] == 1)
        _require((np.add.reduceat(deleted, self.firsts, dtype=np.int64) == self.n_deleted).all(), "num_deleted")
        _require(((feature >= 0) & (feature < self.n_features) | deleted).all(), "split_indices")
        inner = left != -1
        _require(not (inner & deleted).any() and not deleted[self.firsts].any(), "pruned nodes")
        self._check_children(nodes, inner, deleted)
        self._read(b"base_weights", "d", self.n_nodes * max(self.width, 1))
        if self.width > 1:
            self._check_leaves(right, ~inner)
        else:
            _require((right[~inner] == -1).all(), "right_children")
        self._check_categories(nodes[b"split_type"] == 1)

    def _check_children(self, nodes: dict[bytes, Array], inner: Array, deleted: Array) -> None:
        """Two for each inner node, after it, that know it as their parent."""
        first = np.repeat(self.firsts, self.n_nodes)
        ends, node = np.repeat(self.n_nodes, self.n_nodes)[inner], (np.arange(len(first)) - first)[inner]
        for name in (b"left_children", b"right_children"):
            child = nodes[name][inner]
            _require(((child > node) & (child < ends)).all(), name.decode())
            at = child + first[inner]
            _require((nodes[b"parents"][at] == node).all() and not deleted[at].any(), "parents")
        _require((nodes[b"left_children"] != nodes[b"right_children"])[inner].all(), "children")
        is_root = np.zeros(len(first), dtype=bool)
        is_root[self.firsts] = True
        parents, own = nodes[b"parents"], np.arange(len(first)) - first
        _require(((parents >= 0) & (parents < own) | is_root).all(), "parents")
        _require(np.isin(parents[self.firsts], (-1, _DELETED)).all(), "parents")

    def _check_leaves(self, right: Array, is_leaf: Array) -> None:
        """Values of all outputs, that a leaf finds by the number in place of a right child."""
        n_leaves = np.add.reduceat(is_leaf, self.firsts, dtype=np.int64)
        if any(b"leaf_weights" in tree for tree in self.trees):  # from XGBoost 3.2 on
            self._read(b"leaf_weights", "d", n_leaves * self.width)
            number, ends = right[is_leaf], np.repeat(n_leaves, n_leaves)
            _require(((number >= 0) & (number < ends)).all(), "leaf_weights")

    def _check_categories(self, by_category: Array) -> None:
        """Those of each node that asks for them, one after the other."""
        sizes = np.array([tree[b"categories_nodes"].size for tree in self.trees])
        n_categories = np.array([tree[b"categories"].size for tree in self.trees])
        node = self._read(b"categories_nodes", "l", sizes) + np.repeat(self.firsts, sizes)
        _require(np.array_equal(node, np.flatnonzero(by_category)), "categories_nodes")
        inside = self._read(b"categories_nodes", "l", sizes)
        _require(((inside >= 0) & (inside < np.repeat(self.n_nodes, sizes))).all(), "categories_nodes")
        start, size = (self._read(name, "L", sizes) for name in (b"categories_segments", b"categories_sizes"))
        category = self._read(b"categories", "l", n_categories)
        _require(((size > 0) & (size <= len(category))).all(), "categories_sizes")
        tree = np.repeat(np.arange(len(self.trees)), sizes)
        told = np.bincount(tree, weights=size, minlength=len(self.trees))
        firsts = np.cumsum(size) - size
        offsets = np.repeat(np.cumsum(n_categories) - n_categories, sizes)
        _require((told == n_categories).all() and (start + offsets == firsts).all(), "categories_segments")
        if len(category):
            _require(category.min() >= 0 and category.max() < _LAST_CATEGORY, "categories")
            words = np.maximum.reduceat(category, firsts) // 32 + 1
            _require(words.sum(dtype=np.int64) <= _MOST_WORDS, "categories")

    def _read(self, name: bytes, kind: str, sizes: Array) -> Array:
        """The arrays with a name, which have so many items in each tree."""
        spans = [tree[name] for tree in self.trees]
        _require([span.size for span in spans] == sizes.tolist(), name.decode())
        return joined(self.data, spans, kind)


def _require(holds: Any, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _list(value: Any, kind: type) -> list[Any]:
    _require(isinstance(value, list) and all(type(item) is kind for item in value), "a list")
    return list(value)


@lru_cache(1000)
def _count(text: Any) -> int:
    _require(_COUNT.fullmatch(text), "a number")
    return int(text)
