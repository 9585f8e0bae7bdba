"""Several machines whose scores are averaged: they are one machine with all their factors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl_classic.factorization._problem import Parameters

__all__ = ["join_machines", "split_machine"]

Array = npt.NDArray[Any]


def split_machine(parameters: Parameters, n_members: int) -> list[Parameters]:
    """Return empty members that together have as many factors as the parameters."""
    if n_members == 1:
        return [parameters]
    p = parameters
    return [
        Parameters(
            p.n_columns, p.n_factors // n_members, p.n_slots, n_outputs=p.n_outputs,
            n_private=p.n_private // n_members, dtype=p.dtype,
        )
        for _ in range(n_members)
    ]  # fmt: skip


def join_machines(members: Sequence[Parameters], parameters: Parameters) -> None:
    """Fill the parameters so that their score is the mean of the members' scores.

    The mean of M products ⟨v_j, v_l⟩ is the product of the concatenated vectors v / √M; weights and biases are means.
    The solvers' slots come along, so that later passes take steps of the length of the members' last ones.
    """
    first, p = members[0], parameters
    n_vectors, length = first.n_outputs or 1, first.n_factors or first.n_private
    by_member = [m.factor_slots[..., m.live].reshape(p.n_columns, p.n_slots, n_vectors, length) for m in members]
    joined = np.concatenate(by_member, axis=3).reshape(p.n_columns, p.n_slots, -1)
    joined[:, 0] /= np.sqrt(len(members))
    p.factor_slots[..., p.live] = joined
    if not p.live.all():  # the padding holds no factors, but the state that keeps steps finite
        p.factor_slots[..., ~p.live] = first.factor_slots[..., ~first.live][..., :1]
    p.linear[:] = _mean([m.linear for m in members])
    p.bias[:] = _mean([m.bias for m in members])
    p.seen, p.clock = first.seen.copy(), first.clock


def _mean(arrays: Sequence[Array]) -> Array:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64))
