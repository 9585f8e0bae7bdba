"""Ensembles: several structures, one model."""

from mtl_classic.ensemble._averaging import AveragingEnsemble, average_over_seeds
from mtl_classic.ensemble._stacking import StackingEnsemble

__all__ = ["AveragingEnsemble", "StackingEnsemble", "average_over_seeds"]
