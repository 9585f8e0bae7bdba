"""Fold plans, the out-of-fold engine, masked scorers and search."""

from mtl_classic.model_selection._crossfit import CrossFit, cross_fit
from mtl_classic.model_selection._folds import FoldPlan, Temporal, make_folds
from mtl_classic.model_selection._scorers import multitask_scorer
from mtl_classic.model_selection._search import MultiTaskSearchCV

__all__ = ["CrossFit", "FoldPlan", "MultiTaskSearchCV", "Temporal", "cross_fit", "make_folds", "multitask_scorer"]
