"""Codes and statistics: what turns a table into numbers before the learners see it."""

from mtl_classic.preprocessing._fields import FieldEncoder
from mtl_classic.preprocessing._target_statistics import TargetStatistics

__all__ = ["FieldEncoder", "TargetStatistics"]
