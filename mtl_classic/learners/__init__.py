"""Learners: the model of one task, reading a matrix that is binned once for all tasks."""

from mtl_classic.learners._lightgbm import LightGBMLearner
from mtl_classic.learners._protocol import Learner
from mtl_classic.learners._sklearn import SklearnLearner
from mtl_classic.learners._xgboost import XGBoostLearner

__all__ = ["Learner", "LightGBMLearner", "SklearnLearner", "XGBoostLearner"]
