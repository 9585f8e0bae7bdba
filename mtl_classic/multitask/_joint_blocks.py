"""From the targets of a workbench to the blocks of a joint objective: views, weights, constants, paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mtl_classic._core.losses import is_learnable
from mtl_classic._core.targets import known_share
from mtl_classic._core.tasks import Task, fitting_order
from mtl_classic.learners._protocol import ConstantFit, FitRequest, Floats, Rows, constant_fit
from mtl_classic.multitask._joint_objective import Block, make_block
from mtl_classic.multitask._workbench import Workbench, can_stop, conditional_labels

__all__ = ["JointBlocks"]


class JointBlocks:
    """What each task learns, on any rows.

    Parameters
    ----------
    bench : Workbench
    routes : dict task -> "root", "direct" or "product"
        Whether a task learns its label in the entire space or where its parent is positive.

    Attributes
    ----------
    tasks : list of Task
        Those that have something to learn.
    constants : dict task -> ConstantFit
        The others.
    labelled : ndarray of bool, shape (n,)
        Rows with a label of any of the tasks.
    """

    def __init__(self, bench: Workbench, routes: Mapping[str, str]) -> None:
        self.bench, self.routes = bench, routes
        self.constants: dict[str, ConstantFit] = {}
        self.tasks: list[Task] = []
        self.labels: dict[str, tuple[Floats, Floats]] = {}
        self.labelled = np.zeros(len(bench.targets), dtype=bool)
        for task in bench.targets.tasks:
            y, weight = self._view(task)
            rows, n_classes = np.flatnonzero(weight > 0), bench.targets.n_classes(task)
            constant = constant_fit(FitRequest(task, y, rows, n_classes=n_classes))
            if constant is not None:
                self.constants[task.name] = constant
                continue
            self.tasks.append(task)
            self.labels[task.name] = y, weight
            self.labelled |= weight > 0

    def on(self, rows: Rows) -> tuple[Block, ...]:
        """The blocks of some rows, each with the prior of these rows, or of all where none of these has its label."""
        groups = None if self.bench.groups is None else self.bench.groups[rows]
        blocks: list[Block] = []
        for task in self.tasks:
            start = blocks[-1].columns.stop if blocks else 0
            n_classes, ranked = self.bench.targets.n_classes(task), groups if task.kind == "ranking" else None
            labels, weights = self.labels[task.name]
            if (weights[rows] > 0).any():
                block = make_block(task, start, labels[rows], weights[rows], n_classes, ranked)
            else:
                known = np.flatnonzero(weights > 0)
                prior = make_block(task, start, labels[known], weights[known], n_classes)
                y, weight = np.zeros((2, len(rows)))
                block = replace(prior, y=y, weight=weight, groups=ranked)
            blocks.append(block)
        return tuple(blocks)

    def moved(self, blocks: tuple[Block, ...], rows: Rows) -> tuple[Block, ...]:
        """The same blocks, priors included, with the labels of other rows."""
        groups = None if self.bench.groups is None else self.bench.groups[rows]
        out = []
        for block in blocks:
            y, weight = (values[rows] for values in self.labels[block.task.name])
            ranked = groups if block.task.kind == "ranking" else None
            out.append(replace(block, y=np.nan_to_num(y), weight=weight, groups=ranked))
        return tuple(out)

    def trusted(self, train: Rows, valid: Rows) -> list[bool]:
        """Whether each task has labels enough to tell its best round."""
        labels = [self.labels[task.name] for task in self.tasks]
        parts = train, valid
        return [can_stop(task, y, w > 0, parts) for task, (y, w) in zip(self.tasks, labels, strict=True)]

    def entire(self, name: str) -> tuple[Floats, Floats]:
        """Labels (0 where there is none) and weights of a task in the entire space, whatever its route."""
        y, weight = self._entire(next(task for task in self.tasks if task.name == name))
        return np.nan_to_num(y), weight

    def paths(self) -> dict[str, tuple[str, ...]]:
        """Binary children whose ancestors are binary and learnt, parents first: their own name and the ancestors'."""
        learnt = {task.name: task for task in self.tasks if task.kind == "binary"}
        found = {}
        for task in fitting_order(self.bench.targets.tasks):
            path, step = [task.name], task
            while step.name in learnt and step.parent in learnt:
                step = learnt[str(step.parent)]
                path.append(step.name)
            if task.name in learnt and step.parent is None and len(path) > 1:
                found[task.name] = tuple(path)
        return found

    def _view(self, task: Task) -> tuple[Floats, Floats]:
        """Labels and weights (0 where unlabelled) of what the task learns."""
        if self.routes[task.name] == "product":
            return self._weighted(task, conditional_labels(self.bench.targets, task))
        return self._entire(task)

    def _entire(self, task: Task) -> tuple[Floats, Floats]:
        y, weight = self._weighted(task, self.bench.targets.view(task.name))
        share = known_share(self.bench.targets, task, self.bench.weights)
        return y, weight if share is None else weight * share

    def _weighted(self, task: Task, y: Floats) -> tuple[Floats, Floats]:
        known = is_learnable(task.kind, y)
        weights = self.bench.weights
        weight = 1.0 if weights is None else weights[:, self.bench.targets.position(task.name)]
        return y, np.where(known, weight, 0.0)
