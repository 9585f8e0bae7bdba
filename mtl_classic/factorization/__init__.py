"""Factorization machines and matrix factorization: the latent features that tasks share."""

from mtl_classic.factorization._fm import FactorizationMachineClassifier
from mtl_classic.factorization._fm_regressor import FactorizationMachineRegressor
from mtl_classic.factorization._multitask_fm import MultiTaskFactorizationMachine

__all__ = ["FactorizationMachineClassifier", "FactorizationMachineRegressor", "MultiTaskFactorizationMachine"]
