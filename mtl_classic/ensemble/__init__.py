"""Ensembles: several models, one model; its calibration and its intervals."""

from mtl_classic.ensemble._averaging import AveragingEnsemble, average_over_seeds
from mtl_classic.ensemble._bagging import BaggingEnsemble
from mtl_classic.ensemble._boosting import BoostingEnsemble
from mtl_classic.ensemble._calibration import CalibratedModel
from mtl_classic.ensemble._intervals import ConformalModel
from mtl_classic.ensemble._stacking import StackingEnsemble

__all__ = [
    "AveragingEnsemble",
    "BaggingEnsemble",
    "BoostingEnsemble",
    "CalibratedModel",
    "ConformalModel",
    "StackingEnsemble",
    "average_over_seeds",
]
