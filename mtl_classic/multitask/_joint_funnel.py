"""A joint funnel: the product of steps, then trees that correct it, where validation rows are the better for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xgboost as xgb

from mtl_classic.learners._protocol import Floats, Rows
from mtl_classic.multitask._entire_space import EntireSpace, FunnelRounds, Steps, steps_on
from mtl_classic.multitask._joint_blocks import JointBlocks
from mtl_classic.multitask._joint_objective import Block
from mtl_classic.multitask._vector_trees import BoosterSettings, VectorTrees, boost
from mtl_classic.multitask._workbench import Workbench, can_stop

__all__ = ["correct_product"]


def correct_product(
    matrix: Any,
    joint: JointBlocks,
    bench: Workbench,
    settings: BoosterSettings,
    seed: int,
    trees: VectorTrees,
    held_out: VectorTrees | None,
) -> tuple[VectorTrees, VectorTrees | None]:
    """Boost the binary children on from the product's margins, by the gradient of the entire space.

    All children are read at one round, that at which their loss on the validation rows has surely fallen most; if it
    has nowhere, the product stays as it is. It also stays without validation rows, and for children that have too few
    labels there.

    Parameters
    ----------
    matrix : dense features of shape (n, p)
    joint, bench, settings, seed : as for the first stage
    trees, held_out : VectorTrees
        The first stage on all rows, and on the training rows.
    """
    if bench.split is None or held_out is None:
        return trees, held_out
    train, valid = bench.split
    paths = {child: path for child, path in joint.paths().items() if _trusted(joint, child, train, valid)}
    if not paths:
        return trees, held_out
    labels = {child: joint.entire(child) for child in paths}
    margins = _own_margins(held_out, matrix, bench.threads)
    fitted, watch = (steps_on(rows, paths, margins, labels) for rows in (train, valid))
    rounds = FunnelRounds(watch, settings.n_iter_no_change)
    validation = xgb.DMatrix(matrix[valid], nthread=bench.threads), rounds
    params = settings.resolve(joint.on(train), seed, bench.threads)
    booster = _boost(matrix[train], fitted, params, settings.max_iter, validation)
    if not rounds.best:
        return trees, held_out
    seen = replace(held_out, correction=_as_trees(booster, held_out.blocks, paths, rounds.best))
    if trees is held_out:
        return seen, seen
    everything = np.arange(len(bench.targets))
    final = steps_on(everything, paths, _own_margins(trees, matrix, bench.threads), labels)
    booster = _boost(matrix, final, params, rounds.best)
    return replace(trees, correction=_as_trees(booster, trees.blocks, paths, rounds.best)), seen


def _trusted(joint: JointBlocks, child: str, train: Rows, valid: Rows) -> bool:
    """Whether a child has labels enough to tell the round."""
    task = next(task for task in joint.tasks if task.name == child)
    y, weight = joint.entire(child)
    return can_stop(task, y, weight > 0, (train, valid))


def _own_margins(trees: VectorTrees, matrix: Any, n_threads: int) -> dict[str, Floats]:
    return {name: values[:, 0] for name, values in trees.margins(matrix, n_threads).items() if values.shape[1] == 1}


def _boost(
    matrix: Any,
    steps: Steps,
    params: dict[str, Any],
    n_rounds: int,
    validation: tuple[xgb.DMatrix, FunnelRounds] | None = None,
) -> xgb.Booster:
    zeros = np.zeros((matrix.shape[0], len(steps.paths)), dtype=np.float32)
    data = xgb.QuantileDMatrix(matrix, zeros, max_bin=params["max_bin"], nthread=params["nthread"])
    return boost(data, EntireSpace(steps), params, n_rounds, validation=validation)


def _as_trees(booster: xgb.Booster, blocks: Sequence[Block], paths: Mapping[str, Any], n_rounds: int) -> VectorTrees:
    """The correction as trees whose outputs are the children's moves."""
    tasks = {block.task.name: block.task for block in blocks}
    nothing = np.empty(0)
    moves = (Block(tasks[child], j, 1, nothing, nothing, np.zeros(1)) for j, child in enumerate(paths))
    return VectorTrees(booster, tuple(moves), dict.fromkeys(paths, n_rounds))
