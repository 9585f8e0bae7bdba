"""Ensembles: several structures, one model."""

from mtl_classic.ensemble._averaging import AveragingEnsemble, average_over_seeds

__all__ = ["AveragingEnsemble", "average_over_seeds"]
