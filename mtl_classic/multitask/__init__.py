"""Structures: how tasks work together."""

from mtl_classic.multitask._funnel import FunnelModel
from mtl_classic.multitask._per_task import PerTaskModel
from mtl_classic.multitask._shared_trees import SharedTreesModel

__all__ = ["FunnelModel", "PerTaskModel", "SharedTreesModel"]
