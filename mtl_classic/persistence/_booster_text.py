"""Whether the text of a LightGBM booster is one: LightGBM follows the numbers of its trees without looking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic.persistence._errors import ModelFileError

__all__ = ["check_booster"]

_SIZES = re.compile(rb"\ntree_sizes=([0-9 ]*)\n\n")
_END = b"end of trees\n"
_CATEGORY = 1  # bit of a decision
# As written with 17 digits; at others, or those beyond double precision, LightGBM ends the process.
_REAL = rb"-?(?:[0-9]{1,20}(?:\.[0-9]{1,25})?|[0-9](?:\.[0-9]{1,20})?[eE][+-]?(?:[0-9]{1,2}|[0-2][0-9]{2}|30[0-7]))"
_REALS = re.compile(rb"(?:" + _REAL + rb"(?: " + _REAL + rb")*)?")
_ANY = rb"-?+(?:[0-9]++(?:\.[0-9]++)?+(?:e[+-]?+[0-9]{1,3}+)?+|nan|inf)"  # at others it ends the process, too
_ANYS = re.compile(rb"(?:" + _ANY + rb"(?: (?!\Z)|\Z))++")
_OF_SPLITS = (b"threshold", b"split_gain", b"internal_value", b"internal_weight", b"internal_count")
_OF_LEAVES = (b"leaf_value", b"leaf_weight", b"leaf_count")
_MOST_LINES = 22  # that LightGBM reads of a tree
_OBJECTIVE = re.compile(rb"[a-z0-9_]+(?: [a-z0-9_]+(?::" + _ANY + rb")?)*")
_PARAMETER = re.compile(rb"\[[a-z0-9_]+: .*\]")

Ints = npt.NDArray[np.int64]
Tree = dict[bytes, bytes]  # what it says of each name


def check_booster(text: Any) -> None:
    """Refuse a text whose trees are not laid out as its head says, or lead out of a tree or of a row.

    Cost: a pass over the numbers of splits and children.
    """
    if not isinstance(text, str) or not text.startswith("tree\n"):
        raise ModelFileError("The text of a LightGBM booster is none.")
    try:
        _check(text.encode())
    except (ValueError, KeyError, IndexError) as error:
        raise ModelFileError(
            f"The text of a LightGBM booster is not as LightGBM writes it ({type(error).__name__}: {error})."
        ) from None


def _check(data: bytes) -> None:
    found = _SIZES.search(data)
    if b"\r" in data or b"\0" in data:
        raise ValueError("lines that end otherwise")
    if found is None:
        raise ValueError("no tree_sizes")
    trees: list[Tree] = []
    at = found.end()
    for k, size in enumerate(map(int, found[1].split())):
        if not data.startswith(b"Tree=%d\n" % k, at):
            raise ValueError(f"tree {k} is not where it should be")
        trees.append(_tree(data[at : at + size]))
        at += size
    if not data.startswith(_END, at):
        raise ValueError("the trees do not end where they should")
    _check_parameters(data[at:].split(b"\n"))
    n_features = _check_head(data[: found.start()], len(trees))
    if trees:
        _check_trees(trees, n_features)


def _tree(data: bytes) -> Tree:
    lines = [line.partition(b"=") for line in data.rstrip(b"\n").split(b"\n")]
    tree = {name: value for name, _, value in lines}
    if len(tree) < len(lines):
        raise ValueError("a name twice in a tree")
    if len(lines) > 1 + _MOST_LINES or not all(sign for _, sign, _ in lines):
        raise ValueError("lines of a tree")
    return tree


def _check_parameters(lines: Sequence[bytes]) -> None:
    """LightGBM takes each line apart, whatever it is."""
    if b"parameters:" in lines:
        first = lines.index(b"parameters:") + 1
        told = lines[first : lines.index(b"end of parameters", first)]
        if not all(_PARAMETER.fullmatch(line) for line in told if line):
            raise ValueError("parameters")


def _check_head(head: bytes, n_trees: int) -> int:
    """The number of features, after the numbers of classes."""
    fields = {name: value for name, _, value in (line.partition(b"=") for line in head.split(b"\n"))}
    n_classes, per_round = int(fields[b"num_class"]), int(fields[b"num_tree_per_iteration"])
    told = [int(word[10:]) for word in fields.get(b"objective", b"").split() if word.startswith(b"num_class:")]
    if not 1 <= n_classes <= per_round or n_trees % per_round or any(n != per_round for n in told):
        raise ValueError("numbers of classes")
    if b"objective" in fields and not _OBJECTIVE.fullmatch(fields[b"objective"]):
        raise ValueError("objective")
    return int(fields[b"max_feature_idx"]) + 1


def _check_trees(trees: Sequence[Tree], n_features: int) -> None:
    n_leaves = _whole(_values(trees, b"num_leaves"), repeat(1))
    n_inner = n_leaves - 1
    if (n_inner < 0).any():
        raise ValueError("num_leaves")
    _check_numbers(trees, n_leaves)
    first = np.repeat(np.cumsum(n_inner) - n_inner, n_inner)
    node, tree = np.arange(len(first)) - first, np.repeat(np.arange(len(trees)), n_inner)
    for name in (b"left_child", b"right_child"):  # after their parent, so that every walk ends
        child = _whole(_values(trees, name), n_inner)
        inner = (child > node) & (child < n_inner[tree])
        if not (inner | ((child < 0) & (child >= -n_leaves[tree]))).all():
            raise ValueError(name.decode())
    _check_features(_whole(_values(trees, b"split_feature"), n_inner), n_features)
    _check_categories(trees, n_inner, tree)
    for one, n in zip(trees, n_leaves.tolist(), strict=True):
        if one.get(b"is_linear", b"0") != b"0":
            _check_lines(one, n, n_features)


def _check_numbers(trees: Sequence[Tree], n_leaves: Ints) -> None:
    """One for each split or leaf, though only thresholds and values must be there; of a lone leaf no more is read."""
    for tree, n in zip(trees, n_leaves.tolist(), strict=True):
        if not {b"threshold", b"leaf_value"} <= tree.keys():
            raise ValueError("no thresholds or values")
        told = [(b"shrinkage", 1), *((name, n) for name in (_OF_LEAVES if n > 1 else _OF_LEAVES[:1]))]
        told += [(name, n - 1) for name in _OF_SPLITS if n > 1]
        for name, count in told:
            if name in tree and (_count(tree[name]) != count or not _ANYS.fullmatch(tree[name])):
                raise ValueError(name.decode())


def _check_features(features: Ints, n_features: int) -> None:
    if len(features) and not 0 <= features.min() <= features.max() < n_features:
        raise ValueError("features")


def _check_categories(trees: Sequence[Tree], n_inner: Ints, tree: Ints) -> None:
    """Sets of categories: where each begins, and which of them nodes ask for by their thresholds."""
    n_sets = _whole(_values(trees, b"num_cat"), repeat(1))
    asks = _whole(_values(trees, b"decision_type"), n_inner) & _CATEGORY == _CATEGORY
    with_sets = np.flatnonzero(n_sets)
    if not np.isin(tree[asks], with_sets).all():
        raise ValueError("category sets")
    ends = np.cumsum(n_inner)
    for k in with_sets.tolist():
        bounds, words = trees[k][b"cat_boundaries"], trees[k][b"cat_threshold"]
        starts = _whole([bounds], [int(n_sets[k]) + 1])
        if starts[0] or (np.diff(starts) < 0).any() or starts[-1] != _count(words):
            raise ValueError("category sets")
        thresholds, asking = trees[k][b"threshold"].split(b" "), asks[ends[k] - n_inner[k] : ends[k]]
        asked = [thresholds[node] for node in np.flatnonzero(asking)]
        if any(not number.isdigit() or int(number) >= n_sets[k] for number in asked):
            raise ValueError("category sets")


def _check_lines(tree: Tree, n_leaves: int, n_features: int) -> None:
    """Linear models in leaves: how many features each has, and which; leaves are parted by two blanks."""
    counts = _whole([tree[b"num_features"]], [n_leaves])
    features, values = (b" ".join(tree[name].split()) for name in (b"leaf_features", b"leaf_coeff"))
    if (counts < 0).any() or _count(values) != counts.sum():
        raise ValueError("linear leaves")
    constants = tree[b"leaf_const"]
    if _count(constants) != n_leaves or not all(_REALS.fullmatch(line) for line in (values, constants)):
        raise ValueError("numbers of linear leaves")
    _check_features(_whole([features], [int(counts.sum())]), n_features)


def _values(trees: Sequence[Tree], name: bytes) -> list[bytes]:
    return [tree[name] for tree in trees]


def _count(line: bytes) -> int:
    return line.count(b" ") + 1 if line else 0


def _whole(lines: Sequence[bytes], counts: Any) -> Ints:
    """The whole numbers of some lines, so many in each, in no other way of writing than LightGBM's."""
    if any(_count(line) != n for line, n in zip(lines, counts, strict=False)):
        raise ValueError("numbers of nodes")
    joined = b" ".join(line for line in lines if line)
    padded = b" " + joined
    lone = padded.count(b"-") != padded.count(b" -") or b"- " in padded + b" "
    if joined.translate(None, b"0123456789 -") or lone or (joined and b"  " in padded + b" "):
        raise ValueError("whole numbers")
    return np.fromstring(joined, np.int64, sep=" ") if joined else np.zeros(0, np.int64)
