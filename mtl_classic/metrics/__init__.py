"""Masked, weighted metrics of every kind of task, and the one test of what is better beyond the noise."""

from mtl_classic._core.losses import EPSILON
from mtl_classic.metrics._calibration import calibration_table, ctr, cvr, expected_calibration_error
from mtl_classic.metrics._classification import accuracy, f1, macro_f1, precision, recall
from mtl_classic.metrics._curves import average_precision, precision_recall_curve, roc_auc
from mtl_classic.metrics._evaluate import evaluate, evaluate_scores
from mtl_classic.metrics._losses import losses, normalized_score, prior_scores, task_loss
from mtl_classic.metrics._pointwise import brier, log_loss, mae, mse, poisson_deviance, r2, rmse
from mtl_classic.metrics._ranking import grouped_auc, mean_average_precision, ndcg
from mtl_classic.metrics._registry import DEFAULT_METRICS, Metric, get_metric
from mtl_classic.metrics._sampling import correct_sampling, sampling_weights
from mtl_classic.metrics._significance import compare

__all__ = [
    "DEFAULT_METRICS",
    "EPSILON",
    "Metric",
    "accuracy",
    "average_precision",
    "brier",
    "calibration_table",
    "compare",
    "correct_sampling",
    "ctr",
    "cvr",
    "evaluate",
    "evaluate_scores",
    "expected_calibration_error",
    "f1",
    "get_metric",
    "grouped_auc",
    "log_loss",
    "losses",
    "macro_f1",
    "mae",
    "mean_average_precision",
    "mse",
    "ndcg",
    "normalized_score",
    "poisson_deviance",
    "precision",
    "precision_recall_curve",
    "prior_scores",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "sampling_weights",
    "task_loss",
]
