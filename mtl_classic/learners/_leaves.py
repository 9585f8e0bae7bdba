"""Leaves of boosted trees moved by new rows, each as far as these weigh beside the rows that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from mtl_classic.learners._protocol import FitRequest, Floats, Rows

__all__ = ["Slopes", "covers", "kept_share", "move_leaves", "slopes_of"]

Slopes = Callable[[Floats], tuple[Floats, Floats]]


def move_leaves(
    values: Sequence[Floats],
    evidence: Sequence[Floats],
    reached: Rows,
    slopes: Slopes,
    score: Floats,
    *,
    rate: float,
    penalty: float,
    decay: float,
    most: float = np.inf,
) -> tuple[list[Floats], list[Floats]]:
    r"""A Newton step in each leaf of one tree after the other, held by the leaf's old value.

    .. math:: v \leftarrow \frac{(\delta H + \lambda) v - \eta G'}{\delta H + \lambda + H'}, \qquad
              H \leftarrow \delta H + H'

    with the sums G' and H' of the new rows' gradients and hessians at the scores of the trees before, which have been
    moved. Where the old rows lay in the same leaves, that is nearly the step of both together, the old ones at the
    share δ. Leaves that no new row reaches keep their values.

    Parameters
    ----------
    values, evidence : list of ndarray of shape (n_leaves,)
        v and H of each tree. One without H is a constant, and stays.
    reached : int ndarray of shape (n, n_trees)
        The leaf of each row.
    slopes : callable
        Gradients and hessians of the rows, from scores, all of shape (n, n_outputs).
    score : ndarray of shape (n, n_outputs)
        What boosting began from.
    rate, penalty, decay : float
        η, λ, δ.
    most : float, default=inf
        A step that the new rows alone would take, before η, is no longer than this.

    Returns
    -------
    values, evidence : list of ndarray
    """
    moved, rested, score = [], [], score.copy()
    for tree, (old, known) in enumerate(zip(values, evidence, strict=True)):
        output, leaf, new = tree % score.shape[1], reached[:, tree], old
        if output == 0:
            gradients, hessians = slopes(score)
        if len(known):
            gradient, hessian = (np.bincount(leaf, part[:, output], len(old)) for part in (gradients, hessians))
            held = decay * known + penalty
            step = -gradient if np.isinf(most) else np.clip(-gradient, -most * hessian, most * hessian)
            total = held + hessian
            there = (np.bincount(leaf, minlength=len(old)) > 0) & (total > 0)
            new = np.where(there, (held * old + rate * step) / np.where(there, total, 1.0), old)
            known = decay * known + hessian
        score[:, output] += new[leaf]
        moved.append(new)
        rested.append(known)
    return moved, rested


def slopes_of(request: FitRequest, *, softmax_factor: float, poisson_step: float) -> Slopes:
    """Gradients and hessians of a task's own loss on the requested rows, as boosters take them.

    Parameters
    ----------
    request : FitRequest
        Not of a ranking.
    softmax_factor : float
        By which the hessian p (1 − p) of a class is multiplied.
    poisson_step : float
        A mean's hessian is that of a score larger by so much, which makes steps safe.
    """
    kind, y = request.task.kind, request.y[request.rows, None]
    weight = 1.0 if request.weight is None else request.weight[request.rows, None]

    def slopes(score: Floats) -> tuple[Floats, Floats]:
        if kind == "regression":
            return weight * (score - y), weight * np.ones_like(score)
        if kind == "count":
            mean = np.exp(score)
            return weight * (mean - y), weight * mean * np.exp(poisson_step)
        if kind == "binary":
            p = expit(score)
            return weight * (p - y), weight * p * (1 - p)
        p = softmax(score, axis=1)
        return weight * (p - (y == np.arange(score.shape[1]))), weight * softmax_factor * p * (1 - p)

    return slopes


def kept_share(evidence: float | None, new: float, decay: float) -> tuple[float, float | None]:
    """Share of the old value in a new one, for a model that is moved as a whole, and the weight that it then rests on.

    Parameters
    ----------
    evidence : float or None
        Weight of the rows that the model rests on; None where it is not known: then the share is ``decay``.
    new : float
        Weight of the new rows.
    decay : float
    """
    if evidence is None:
        return decay, None
    kept = decay * evidence
    return kept / (kept + new), kept + new


def covers(left: npt.NDArray[Any], right: npt.NDArray[Any], evidence: Floats) -> Floats:
    """What the nodes of a tree rest on: leaves as they are, inner nodes, which come before their children, added up."""
    total = evidence.copy()
    for node in np.flatnonzero(left >= 0)[::-1]:
        total[node] = total[left[node]] + total[right[node]]
    return total
