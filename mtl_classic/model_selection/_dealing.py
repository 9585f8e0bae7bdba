"""Rows or whole groups dealt out at random, so that every fold gets its share of the rare and of the missing."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.arrow import as_known_type
from mtl_classic._core.exceptions import FoldError
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.tasks import label_frame

__all__ = ["Rows", "deal", "deal_share", "group_codes"]

Rows = npt.NDArray[np.intp]


def group_codes(groups: Any) -> Rows | None:
    """Groups as codes; of missing ones each is its own, for nobody says that anonymous rows belong together."""
    if groups is None:
        return None
    if hasattr(groups, "to_pandas"):
        groups = groups.to_pandas()
    is_rows = isinstance(groups, list | tuple) and len(groups) > 0 and isinstance(groups[0], tuple)
    if is_rows or (isinstance(groups, np.ndarray) and groups.ndim == 2):
        groups = pd.DataFrame(groups)
    elif isinstance(groups, list | tuple):  # NumPy makes texts of what stands beside texts, missing ones too
        groups = pd.Series(groups, dtype=object)
    key = as_known_type(np.asarray(groups))
    if not key.ndim:
        raise TypeError(f"groups must be an array with a value for each row, or a frame, got {groups!r}.")
    if isinstance(groups, pd.DataFrame):
        number = groups.groupby(list(groups.columns), sort=False, dropna=False, observed=True).ngroup()
        key = number.mask(groups.isna().all(axis=1)).to_numpy()
    codes, values = pd.factorize(key)
    alone = codes < 0
    codes[alone] = len(values) + np.arange(alone.sum())
    return np.asarray(codes, dtype=np.intp)


def deal(n_splits: int, Y: Any, codes: Rows | None, random_state: Any) -> Rows:
    """The fold of each row: rows (or groups), those of one stratum together, are dealt out like cards."""
    order = _deck(Y, codes, random_state)
    if len(order) < n_splits:
        raise FoldError(
            f"{n_splits} folds need at least as many {'rows' if codes is None else 'groups'}; "
            f"got {'n_samples' if codes is None else 'n_groups'}={len(order)}. Use fewer folds."
        )
    return _of_rows(np.arange(len(order)) % n_splits, order, codes)


def deal_share(fraction: float, Y: Any, codes: Rows | None, random_state: Any) -> Rows:
    """1 for the rows of such a share, as even over strata, 0 for the others; of 1 / k they are the first of k folds."""
    order, share = _deck(Y, codes, random_state), Fraction(float(fraction)).limit_denominator(1_000_000)
    so_far = -(-np.arange(len(order) + 1) * share.numerator // share.denominator)  # rounded up
    return _of_rows(np.diff(so_far), order, codes)


def _deck(Y: Any, codes: Rows | None, random_state: Any) -> Rows:
    """Rows (or groups) shuffled, then brought together by stratum, heavy groups first."""
    rng = generator(root_seed(random_state), "folds")
    strata, rarity = _strata(Y)
    units = strata if codes is None else _strata_of_groups(strata, rarity, codes)
    sizes = np.zeros(len(units), dtype=np.intp) if codes is None else np.bincount(codes)
    return np.lexsort((rng.permutation(len(units)), -sizes, units))


def _of_rows(dealt: Rows, order: Rows, codes: Rows | None) -> Rows:
    """What each row (or the group of each row) was dealt."""
    hand = np.empty(len(order), dtype=np.intp)
    hand[order] = dealt
    return hand if codes is None else hand[codes]


def _strata_of_groups(strata: Rows, rarity: Rows, codes: Rows) -> Rows:
    """The stratum of each group's rarest row: rare positives are spread, however many negatives are beside them."""
    rarest_last = np.lexsort((strata, -rarity))
    first = np.zeros(codes.max(initial=-1) + 1, dtype=np.intp)
    first[codes[rarest_last]] = strata[rarest_last]
    return first


def _strata(Y: Any) -> tuple[Rows, Rows]:
    """A code per row: its rarest class over all tasks, then which tasks are unlabelled; and the rows of that class.

    In this order, because many tasks make many patterns of missing labels, which would tear a rare class apart. Tasks
    are looked at by name, so that their order changes no fold.
    """
    frame = label_frame(Y)
    frame = frame[sorted(frame.columns)]
    n = len(frame)
    rarest_count = np.full(n, n + 1)
    rarest = np.zeros(n, dtype=np.intp)
    missing = np.zeros(n, dtype=np.intp)
    offset = 1
    for column in (frame.iloc[:, j] for j in range(frame.shape[1])):
        known = column.notna().to_numpy()
        if not known.all():
            missing = missing * 2 % 1_000_003 + ~known
        codes, values = pd.factorize(column)
        if len(values) > 20:
            zero = (column == 0).to_numpy(dtype=bool, na_value=False)
            codes, values = np.where(known, zero, -1), pd.Index([False, True])
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        count = np.where(codes >= 0, counts[np.maximum(codes, 0)] if len(counts) else n + 1, n + 1)
        better = count < rarest_count
        rarest[better] = offset + codes[better]
        rarest_count[better] = count[better]
        offset += len(values)
    patterns = np.unique(missing, return_inverse=True)[1]
    codes = pd.factorize(rarest * (patterns.max(initial=0) + 1) + patterns, sort=True)[0]
    return np.asarray(codes, dtype=np.intp), rarest_count
