"""Boosted trees whose leaves hold a value for every output: XGBoost with the joint objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xgboost as xgb

from mtl_classic._core.task_weights import gradient_weights
from mtl_classic._core.tasks import Task
from mtl_classic.learners._defaults import TreeDefaults, tree_defaults
from mtl_classic.learners._params import OF_JOINT_TREES, xgboost_params
from mtl_classic.learners._protocol import Floats, Rows
from mtl_classic.learners._xgboost import set_threads
from mtl_classic.multitask._gradient_log import GradientLog
from mtl_classic.multitask._joint_blocks import JointBlocks
from mtl_classic.multitask._joint_objective import Block, JointObjective
from mtl_classic.multitask._workbench import Workbench

__all__ = ["BoosterSettings", "Objective", "Stops", "VectorTrees", "boost", "boost_with_stops", "rounds_by_validation"]


@dataclass(frozen=True)
class BoosterSettings:
    """What the user asked for; None follows the labels."""

    max_leaves: int | None
    learning_rate: float | None
    max_iter: int
    n_iter_no_change: int
    min_child_weight: float | None
    reg_lambda: float | None
    colsample_bytree: float | None
    max_bin: int
    params: Mapping[str, Any] | None

    def resolve(self, blocks: Sequence[Block], seed: int, threads: int) -> dict[str, Any]:
        """Parameters of XGBoost: leaves as many as the best labelled task bears, the rest at its usual values.

        XGBoost sets the value of a task to 0 in every leaf where its own hessian is below ``min_child_weight``: the few
        labels of a task would never be heard. So the values are held by ``reg_lambda`` alone.
        """
        auto = [_auto(block) for block in blocks]
        given = {
            "max_leaves": self.max_leaves if self.max_leaves is not None else max(a.num_leaves for a in auto),
            "learning_rate": self.learning_rate if self.learning_rate is not None else 0.05,
            "min_child_weight": self.min_child_weight if self.min_child_weight is not None else 0.0,
            "lambda": self.reg_lambda if self.reg_lambda is not None else 5.0,
            "colsample_bytree": self.colsample_bytree if self.colsample_bytree is not None else 0.7,
        }
        fixed: dict[str, Any] = {
            "tree_method": "hist",
            "multi_strategy": "multi_output_tree",
            "grow_policy": "lossguide",
            "max_depth": 0,
            "max_bin": self.max_bin,
            "base_score": 0.0,
            "disable_default_eval_metric": True,
            "seed": seed,
            "nthread": threads,
            "verbosity": 0,
        }
        params = fixed | given | xgboost_params(self.params, OF_JOINT_TREES)
        if not params["lambda"] > 0:
            raise ValueError(
                f"reg_lambda must be positive, got {params['lambda']}: "
                f"a leaf may hold no label of a task, whose value would be 0 / 0."
            )
        return params


@dataclass
class VectorTrees:
    """A trained booster, and the round at which each task is read."""

    booster: xgb.Booster
    blocks: tuple[Block, ...]
    rounds: dict[str, int]
    correction: VectorTrees | None = None  # further trees, whose margins are added

    def predict(self, matrix: Any, n_threads: int = 1) -> dict[str, Floats]:
        """Scores of each task, on the scale of its kind, each at its own round."""
        margins = self.margins(matrix, n_threads)
        for name, more in (self.correction.margins(matrix, n_threads) if self.correction else {}).items():
            margins[name] = margins[name] + more
        return {block.task.name: block.to_scores(margins[block.task.name]) for block in self.blocks}

    def margins(self, matrix: Any, n_threads: int = 1) -> dict[str, Floats]:
        """Margins (n, width) of each task, the prior's included, without those of the correction.

        One pass over the trees: from one task's round to that of the next the margins go on where they were.
        """
        n = matrix.shape[0]
        raw, done = np.zeros((n, sum(block.width for block in self.blocks)), dtype=np.float32), 0
        set_threads(self.booster, n_threads)
        margins: dict[str, Floats] = {}
        for block in sorted(self.blocks, key=lambda block: self.rounds[block.task.name]):
            stop = self.rounds[block.task.name]
            if n and stop > done:
                part: Any = {"iteration_range": (done, stop), "base_margin": raw if done else None}
                raw = self.booster.inplace_predict(matrix, predict_type="margin", **part).reshape(n, -1)
                done = stop
            margins[block.task.name] = raw[:, block.columns].astype(np.float64) + block.base
        return {block.task.name: margins[block.task.name] for block in self.blocks}


class Objective(Protocol):
    """Gradients of all outputs."""

    @property
    def n_outputs(self) -> int:
        """Columns of the matrix of margins."""
        ...

    def gradients(self, margins: Floats) -> tuple[Any, Any]:
        """Gradients and hessians of one round, of shape (n, n_outputs)."""
        ...


class Stops(xgb.callback.TrainingCallback):
    """Losses of every task on the validation rows, round by round; training ends when no trusted task gets better.

    The others have too few labels to tell: a loss of negatives alone would fall round by round without end.
    """

    def __init__(self, blocks: Sequence[Block], patience: int, trusted: Sequence[bool]) -> None:
        self.blocks, self.patience, self.trusted = blocks, patience, np.asarray(trusted)
        self.history: list[Floats] = []

    def metric(self, predt: Any, data: Any) -> tuple[str, float]:
        """Keep the losses; under the name of a metric, because here XGBoost hands out the margins."""
        margins = np.asarray(predt, dtype=np.float64).reshape(len(self.blocks[0].y), -1)
        self.history.append(np.array([block.loss(margins) for block in self.blocks]))
        return "loss", float(np.nansum(self.history[-1]))

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Whether every trusted task has had its best round long ago."""
        losses = np.array(self.history)
        best = np.argmin(np.where(np.isnan(losses), np.inf, losses), axis=0)
        return bool((epoch - best >= self.patience)[self.trusted].all())


def boost_with_stops(
    matrix: Any,
    joint: JointBlocks,
    bench: Workbench,
    settings: BoosterSettings,
    task_weights: Any,
    seed: int,
    log: GradientLog,
) -> tuple[VectorTrees, VectorTrees | None]:
    """Boost all tasks, read each at its best round on the validation rows, and train again on all rows.

    Returns
    -------
    trees : VectorTrees
    held_out : VectorTrees or None
        Those that have not seen the validation rows, where there are any.
    """

    def boosted(
        rows: Rows, blocks: tuple[Block, ...], n_rounds: int, log: GradientLog | None = None, validation: Any = None
    ) -> xgb.Booster:
        objective = JointObjective(blocks, gradient_weights(task_weights, joint.tasks), log)
        part = matrix if len(rows) == matrix.shape[0] else matrix[rows]
        zeros = np.zeros((len(rows), objective.n_outputs), dtype=np.float32)  # labels and masks live in the objective
        params = settings.resolve(blocks, seed, bench.threads)
        data = xgb.QuantileDMatrix(part, zeros, max_bin=params["max_bin"], nthread=bench.threads)
        return boost(data, objective, params, n_rounds, validation=validation)

    everything = np.flatnonzero(joint.labelled)
    trusted: list[bool] = []
    if bench.split is not None:
        train, valid = (rows[joint.labelled[rows]] for rows in bench.split)
        trusted = joint.trusted(train, valid)
    if not any(trusted):
        blocks = joint.on(everything)
        rounds = min(settings.max_iter, max(_auto(block).n_rounds for block in blocks))
        booster = boosted(everything, blocks, rounds, log)
        return VectorTrees(booster, _bare(blocks), {task.name: rounds for task in joint.tasks}), None
    blocks = joint.on(train)
    stops = Stops(joint.moved(blocks, valid), settings.n_iter_no_change, trusted)
    validation = xgb.DMatrix(matrix[valid], nthread=bench.threads), stops
    booster = boosted(train, blocks, settings.max_iter, log, validation)
    rounds_of = rounds_by_validation(stops.history, joint.tasks, trusted)
    held_out = VectorTrees(booster, _bare(blocks), rounds_of)
    if not bench.refit:
        return held_out, held_out
    blocks = joint.on(everything)
    booster = boosted(everything, blocks, max(rounds_of.values()))
    return VectorTrees(booster, _bare(blocks), rounds_of), held_out


def boost(
    train: xgb.DMatrix,
    objective: Objective,
    params: dict[str, Any],
    n_rounds: int,
    *,
    validation: tuple[xgb.DMatrix, Any] | None = None,
) -> xgb.Booster:
    """Boost all outputs together.

    Parameters
    ----------
    train : DMatrix whose label is a matrix of zeros of shape (n, n_outputs)
        Labels and masks live in the objective.
    objective : JointObjective or another with its two members
    params : dict
    n_rounds : int
    validation : (DMatrix, callback with a ``metric``), default=None
    """

    def gradients(predt: Any, data: Any) -> tuple[Any, Any]:
        return objective.gradients(np.asarray(predt, dtype=np.float64).reshape(-1, objective.n_outputs))

    extra: dict[str, Any] = {}
    if validation is not None:
        data, stops = validation
        extra = {"evals": [(data, "validation")], "custom_metric": stops.metric, "callbacks": [stops]}
    return xgb.train(params, train, n_rounds, obj=gradients, verbose_eval=False, **extra)


def rounds_by_validation(history: Sequence[Floats], tasks: Sequence[Task], trusted: Sequence[bool]) -> dict[str, int]:
    """The round of least validation loss of each task.

    A task with too few labels to tell follows the others: the round of the least mean loss of those that can.
    """
    losses = np.asarray(history)
    sure = np.asarray(trusted) & ~np.isnan(losses).any(axis=0)
    own = np.argmin(np.where(np.isnan(losses), np.inf, losses), axis=0)
    relative = losses / np.where(losses[0] > 0, losses[0], 1.0)
    joint = int(np.argmin(relative[:, sure].mean(axis=1))) if sure.any() else len(losses) - 1
    return {task.name: int(own[k] if sure[k] else joint) + 1 for k, task in enumerate(tasks)}


def _auto(block: Block) -> TreeDefaults:
    return tree_defaults(block.task.kind, block.y[block.weight > 0])


def _bare(blocks: Sequence[Block]) -> tuple[Block, ...]:
    return tuple(block.bare() for block in blocks)
