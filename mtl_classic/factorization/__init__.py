"""Factorization machines and matrix factorization: the latent features that tasks share."""

from mtl_classic.factorization._fm import FactorizationMachineClassifier
from mtl_classic.factorization._fm_regressor import FactorizationMachineRegressor
from mtl_classic.factorization._latent_features import LatentFeatures
from mtl_classic.factorization._matrix import MatrixFactorization
from mtl_classic.factorization._multitask_fm import MultiTaskFactorizationMachine
from mtl_classic.factorization._segments import Segments
from mtl_classic.factorization._solvers import Adadelta, Adagrad, Adam, Ftrl, Sgd
from mtl_classic.factorization._solvers_fieldwise import Als, Gibbs

__all__ = [
    "Adadelta",
    "Adagrad",
    "Adam",
    "Als",
    "FactorizationMachineClassifier",
    "FactorizationMachineRegressor",
    "Ftrl",
    "Gibbs",
    "LatentFeatures",
    "MatrixFactorization",
    "MultiTaskFactorizationMachine",
    "Segments",
    "Sgd",
]
