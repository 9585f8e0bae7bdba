"""Scores on the scale where sums make sense: logits, logarithms, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic._core.base import Floats
from mtl_classic._core.losses import EPSILON
from mtl_classic._core.tasks import Task

__all__ = ["average", "from_link", "gradient", "scored_rows", "to_average", "to_link"]

SMALLEST = 1e-6  # probabilities nearer to 0 or 1 say no more: a logit of 14 would outweigh every other column


def scored_rows(scores: Floats) -> npt.NDArray[np.bool_]:
    """Rows that have a score: some lie in no fold, or in every bag."""
    return np.asarray(~np.isnan(scores).reshape(len(scores), -1).any(axis=1))


def to_link(kind: str, score: Floats) -> Floats:
    """Logit of a probability, centred logarithms of class probabilities, logarithm of a count; others as they are."""
    if kind == "binary":
        p = np.clip(score, SMALLEST, 1 - SMALLEST)
        return np.asarray(np.log(p) - np.log1p(-p))
    if kind == "multiclass":
        logs = np.log(np.maximum(score, SMALLEST))
        return np.asarray(logs - logs.mean(axis=1, keepdims=True))
    if kind == "count":
        return np.asarray(np.log(np.maximum(score, SMALLEST)))
    return score


def from_link(kind: str, value: Floats) -> Floats:
    """The inverse of `to_link`."""
    if kind == "binary":
        return np.asarray(1 / (1 + np.exp(-np.clip(value, -700, 700))))
    if kind == "multiclass":
        shifted = np.exp(value - value.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    if kind == "count":
        return np.asarray(np.exp(np.minimum(value, 700)))
    return value


def gradient(kind: str, y: Floats, score: Floats) -> Floats:
    """Minus the slope of the loss on the scale of the link, up to a factor: label less score, NaN where unlabelled."""
    if kind != "multiclass":
        return np.asarray(y - score)
    classes = np.arange(score.shape[1])
    hit = np.where(np.isnan(y)[:, None], np.nan, (y[:, None] == classes).astype(np.float64))
    return np.asarray(hit - score)


def to_average(kind: str, score: Floats, moments: tuple[float, float] | None = None) -> Floats:
    """What members are averaged on: counts as logarithms, ranking scores standardized by (mean, spread)."""
    if kind == "count":
        return np.asarray(np.log(np.maximum(score, EPSILON)))
    if kind == "ranking" and moments is not None:
        return np.asarray((score - moments[0]) / moments[1])
    return score


def average(
    task: Task, scores: Sequence[Any], weights: Any, moments: Sequence[tuple[float, float]] | None = None
) -> Floats:
    """The weighted mean of the members' scores of one task, on the scale of the task."""
    each: Sequence[Any] = [None] * len(scores) if moments is None else moments
    parts = [to_average(task.kind, values, m) for values, m in zip(scores, each, strict=True)]
    mean = sum(w * values for w, values in zip(weights, parts, strict=True))
    return np.exp(mean) if task.kind == "count" else np.asarray(mean)
