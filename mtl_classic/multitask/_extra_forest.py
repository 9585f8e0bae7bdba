"""Extremely randomized trees with a value for every output in each leaf: for small tables with many labels.

scikit-learn's forest knows neither missing labels nor weights per row and task. Splits are therefore found with each
missing label at its task's mean, where it says nothing about a difference; then every node's values are estimated again
from its labelled rows and their weights. A node without a labelled row of a task takes the value of the node above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from mtl_classic._core.losses import EPSILON
from mtl_classic._core.parallel import thread_limit
from mtl_classic._kernels.tree_paths import add_along_paths, fill_from_parents
from mtl_classic.learners._protocol import Floats
from mtl_classic.multitask._joint_objective import Block

__all__ = ["ExtraForest", "grow"]


@dataclass
class ExtraForest:
    """A fitted forest; outputs are labels on a common scale: numbers standardized, a 0/1 column per class."""

    model: ExtraTreesRegressor
    blocks: tuple[Block, ...]
    centers: Floats
    spreads: Floats

    def predict(self, matrix: Any, n_threads: int = 1) -> dict[str, Floats]:
        """Scores of each task, on the scale of its kind."""
        if not matrix.shape[0]:
            raw = np.empty((0, len(self.centers)))
        else:
            with thread_limit(n_threads):  # one thread a forest: more would add the trees up in any order
                raw = np.asarray(self.model.predict(matrix)).reshape(matrix.shape[0], -1)
        return self.scores(raw)

    def scores(self, raw: Floats) -> dict[str, Floats]:
        """Scores of each task from the outputs of the forest, of shape (n, n_outputs)."""
        values = self.centers + self.spreads * raw
        return {block.task.name: _scores(block, values[:, block.columns]) for block in self.blocks}


def grow(
    matrix: Any, blocks: Sequence[Block], *, n_trees: int, params: Mapping[str, Any] | None, seed: int, threads: int
) -> ExtraForest:
    """Grow the forest on all rows.

    Cost: as scikit-learn's; with missing labels or weights also a pass over rows × depth × outputs for each tree.
    """
    targets, weights = map(np.hstack, zip(*(_outputs(block) for block in blocks), strict=True))
    centers = _means(targets, weights)
    spreads = np.sqrt(_means((targets - centers) ** 2, weights))
    spreads[spreads == 0] = 1.0
    scaled = np.where(weights > 0, (targets - centers) / spreads, 0.0)
    row_weight = weights.mean(axis=1)
    plain = bool((weights == 1).all())
    settings: dict[str, Any] = {"n_estimators": n_trees, "random_state": seed, "n_jobs": threads}
    model = ExtraTreesRegressor(**settings | {"min_samples_leaf": 2, "max_features": "sqrt"} | dict(params or {}))
    weighted = not plain and (row_weight != row_weight[0]).any()
    outputs = scaled if scaled.shape[1] > 1 else scaled[:, 0]  # a column-vector is warned of
    model.fit(matrix, outputs, sample_weight=row_weight if weighted else None)
    model.n_jobs = None
    if not plain:
        for tree in model.estimators_:
            _estimate_again(tree.tree_, tree.apply(matrix, check_input=False), scaled, weights)
    return ExtraForest(model, tuple(block.bare() for block in blocks), centers, spreads)


def _outputs(block: Block) -> tuple[Floats, Floats]:
    """Labels (n, width) and weights (n, width) of a block."""
    weight = np.repeat(block.weight[:, None], block.width, axis=1)
    if block.task.kind != "multiclass":
        return block.y[:, None], weight
    return (block.y[:, None] == np.arange(block.width)).astype(np.float64), weight


def _means(values: Floats, weights: Floats) -> Floats:
    """Weighted means of the columns; 0 for one without a label here, as among earlier rows where labels begin late."""
    mass = weights.sum(axis=0)
    return np.divide((values * weights).sum(axis=0), mass, out=np.zeros_like(mass), where=mass > 0)


def _estimate_again(tree: Any, leaves: Any, values: Floats, weights: Floats) -> None:
    """Set the values of all nodes to the weighted means of the labelled rows that pass them."""
    parent = np.zeros(tree.node_count, dtype=np.intp)
    inner = np.flatnonzero(tree.children_left >= 0)
    parent[tree.children_left[inner]], parent[tree.children_right[inner]] = inner, inner
    mass, total = np.zeros((2, tree.node_count, values.shape[1]))
    add_along_paths(leaves, parent, weights, mass)
    add_along_paths(leaves, parent, values * weights, total)
    mean = np.divide(total, mass, out=np.zeros_like(mass), where=mass > 0)
    fill_from_parents(parent, mass, mean)
    tree.value[:, :, 0] = mean


def _scores(block: Block, values: Floats) -> Floats:
    if block.task.kind == "multiclass":
        shares = np.maximum(values, EPSILON)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))
    if block.task.kind == "binary":
        return np.clip(values[:, 0], 0.0, 1.0)
    return np.maximum(values[:, 0], 0.0) if block.task.kind == "count" else values[:, 0]
