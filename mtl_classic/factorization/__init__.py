"""Factorization machines and matrix factorization: the latent features that tasks share."""

from mtl_classic.factorization._fm import FactorizationMachineClassifier
from mtl_classic.factorization._fm_regressor import FactorizationMachineRegressor
from mtl_classic.factorization._latent_features import LatentFeatures
from mtl_classic.factorization._matrix import MatrixFactorization
from mtl_classic.factorization._multitask_fm import MultiTaskFactorizationMachine
from mtl_classic.factorization._segments import Segments

__all__ = [
    "FactorizationMachineClassifier",
    "FactorizationMachineRegressor",
    "LatentFeatures",
    "MatrixFactorization",
    "MultiTaskFactorizationMachine",
    "Segments",
]
