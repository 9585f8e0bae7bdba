"""Structures: how tasks work together."""

from mtl_classic.multitask._affinity import task_affinity
from mtl_classic.multitask._funnel import FunnelModel
from mtl_classic.multitask._per_task import PerTaskModel
from mtl_classic.multitask._shared_trees import SharedTreesModel
from mtl_classic.multitask._task_graph import TaskGraphModel

__all__ = ["FunnelModel", "PerTaskModel", "SharedTreesModel", "TaskGraphModel", "task_affinity"]
