"""Fold plans, the out-of-fold engine and masked scorers."""

from mtl_classic.model_selection._crossfit import CrossFit, cross_fit
from mtl_classic.model_selection._folds import FoldPlan, Temporal, make_folds
from mtl_classic.model_selection._scorers import multitask_scorer

__all__ = ["CrossFit", "FoldPlan", "Temporal", "cross_fit", "make_folds", "multitask_scorer"]
