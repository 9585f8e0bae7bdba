"""Structures: how tasks work together."""

from mtl_classic.multitask._funnel import FunnelModel
from mtl_classic.multitask._per_task import PerTaskModel

__all__ = ["FunnelModel", "PerTaskModel"]
