"""Metrics in the form that a bootstrap can recompute: as functions of sums over clusters of rows.

A bootstrap replicate gives every cluster a count (how often it was drawn). A mean, a ratio, an F1 or R² is a function
of a few weighted sums, so all its replicates are one product (sums × clusters) · (clusters × replicates). ROC AUC and
average precision need the order of the scores, but only around the positives: the rows between two positives act as
one. The products are sparse-times-dense: single-threaded, hence the same bits whatever the number of threads. They go
by column, so that the draws, which are more than fit into a cache, are read once for many sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic.metrics._arrays import Codes, Floats, divide
from mtl_classic.metrics._curves import area_below_roc, cumulative, mean_of_precision

SUMS_AT_ONCE = 64  # their replicates, 64 kB for 128 draws, stay in the cache while the draws go by
MAX_STEPS = 2048  # of a curve: beyond, neighbours are joined for the replicates (error 1 %), not for the value

Replicate = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class Clusters:
    """To which of ``n`` clusters each row of the table belongs."""

    codes: Codes
    n: int


class SharedSums:
    """Sums over clusters that many statistics ask for: each distinct one is multiplied by the draws once.

    The weights of a task's rows are a sum of each of its metrics, and a baseline is judged against many models.
    """

    def __init__(self, clusters: Clusters) -> None:
        self.clusters = clusters
        self._rows: list[Any] = []
        self._places: dict[bytes, int] = {}
        self._counts: Floats | None = None

    def add(self, sums: Iterable[Any]) -> Codes:
        """Take rows of shape (n_clusters,), dense or sparse; returns their places in `products`."""
        return np.array([self._place(sparse.csr_matrix(row)) for row in sums], dtype=np.intp)

    def products(self, counts: Floats) -> Floats:
        """All sums for counts of shape (n_clusters, n_replicates), of shape (n_sums, n_replicates)."""
        if self._counts is not counts:
            self._products = np.vstack([block @ counts for block in self._blocks])
            self._counts = counts
        return self._products

    def _place(self, row: Any) -> int:
        content = blake2b(row.indices.tobytes() + row.data.tobytes(), digest_size=16).digest()
        place = self._places.setdefault(content, len(self._rows))
        if place == len(self._rows):
            self._rows.append(row)
        return place

    @cached_property
    def _blocks(self) -> list[Any]:
        rows, self._rows = self._rows, []  # not held twice
        return [sparse.vstack(rows[i : i + SUMS_AT_ONCE], format="csc") for i in range(0, len(rows), SUMS_AT_ONCE)]


class Statistic(Protocol):
    """A metric bound to the rows that it judges."""

    @property
    def rows(self) -> Codes:
        """Positions of the rows in the table."""

    @property
    def is_distance(self) -> bool:
        """Whether noise alone makes it positive, and a draw of noisy rows once more."""

    def value(self) -> float:
        """The metric itself."""

    def by_cluster(self, shared: SharedSums) -> Replicate:
        """A function from counts of shape (n_clusters, n_replicates) to replicates of shape (n_replicates,).

        To be called once all statistics that share sums have been asked for theirs.
        """


@dataclass(frozen=True, eq=False)
class SumStatistic:
    """A function of sums over rows.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Positions in the table, which say to what cluster a row belongs.
    parts : ndarray or CSR matrix of shape (n, n_sums)
        What each row adds to each sum, its weight included.
    combine : callable
        From sums of shape (n_sums, n_replicates) to the metric of shape (n_replicates,).
    is_distance : bool
        Whether noise alone makes it positive, and a draw of noisy rows once more.
    known : float or None
        The metric itself, where it is not to be summed up from the parts.
    """

    rows: Codes
    parts: Any
    combine: Replicate
    is_distance: bool = False
    known: float | None = None

    def value(self) -> float:
        """The metric itself."""
        if self.known is not None:
            return self.known
        if not len(self.rows):
            return float("nan")
        return float(self.combine(np.asarray(self.parts.sum(axis=0), dtype=np.float64).reshape(-1, 1))[0])

    def gathered(self, clusters: Clusters) -> SumStatistic:
        """The same over a table with a row per cluster: it has the same replicates, and keeps no rows."""
        of = clusters.codes[self.rows]
        sums = np.column_stack([np.bincount(of, part, clusters.n) for part in self.parts.T]).astype(np.float64)
        present = np.flatnonzero(np.bincount(of, minlength=clusters.n))
        return replace(self, rows=present, parts=sums[present], known=self.value())

    def by_cluster(self, shared: SharedSums) -> Replicate:
        """A function from counts to replicates."""
        n, n_clusters, of = len(self.rows), shared.clusters.n, shared.clusters.codes[self.rows]
        if sparse.issparse(self.parts):
            member = sparse.csr_matrix((np.ones(n), (of, np.arange(n))), shape=(n_clusters, n))
            places = shared.add((member @ self.parts).T.tocsr())
        else:
            places = shared.add(np.bincount(of, part, n_clusters) for part in self.parts.T)
        return lambda counts: self.combine(shared.products(counts)[places])


class Curve:
    """The order of the rows by score, as sums that ROC AUC and average precision share.

    Segments run from the highest score down: even ones hold the negatives between two steps, odd ones a step: a score
    that has positives, or, beyond ``MAX_STEPS`` of them, a run of such scores with all between.

    Parameters
    ----------
    rows : ndarray of shape (n,)
    y, scores, weight : ndarray of shape (n,), float64
    """

    def __init__(self, rows: Codes, y: Floats, scores: Floats, weight: Floats) -> None:
        self.rows, self.y, self.scores, self.weight = rows, y, scores, weight
        self._clusters: Clusters | None = None
        self._counts: Floats | None = None

    @cached_property
    def order(self) -> Codes:
        """The rows from the highest score down."""
        return np.argsort(-self.scores, kind="stable")

    @cached_property
    def areas(self) -> dict[str, float]:
        """Both metrics themselves."""
        tp, fp, _ = cumulative(self.y, self.scores, self.weight, self.order)
        return {"roc_auc": area_below_roc(tp, fp), "average_precision": mean_of_precision(tp, fp)}

    def sums(self, clusters: Clusters, counts: Floats) -> tuple[Floats, Floats]:
        """Positives of each step and negatives of each segment, of shape (…, n_replicates)."""
        if self._clusters is not clusters:
            segment, n_segments = self._segments()
            shape, where = (n_segments, clusters.n), (segment, clusters.codes[self.rows])
            self._negatives = sparse.csr_matrix((self.weight * (1 - self.y), where), shape=shape).tocsc()
            self._positives = sparse.csr_matrix((self.weight * self.y, where), shape=shape)[1::2].tocsc()
            self._clusters, self._counts = clusters, None
        if self._counts is not counts:
            self._sums = np.asarray(self._positives @ counts), np.asarray(self._negatives @ counts)
            self._counts = counts
        return self._sums

    def _segments(self) -> tuple[Codes, int]:
        order = self.order
        score = self.scores[order]
        tie = np.cumsum(np.append(False, score[1:] != score[:-1]))
        has_positive = np.bincount(tie, self.y[order]) > 0
        number = np.cumsum(has_positive)  # of scores with positives, down to here
        found = max(int(number[-1]), 1)
        n_steps = min(int(number[-1]), MAX_STEPS)
        step, following = ((count * n_steps + found - 1) // found for count in (number, number + 1))
        inside = has_positive | ((following == step) & (number > 0))
        segment = np.empty(len(order), dtype=np.intp)
        segment[order] = (2 * step - inside)[tie]
        return segment, 2 * n_steps + 1


@dataclass(frozen=True, eq=False)
class CurveStatistic:
    """ROC AUC or average precision of a curve."""

    curve: Curve
    area: str
    is_distance = False

    @property
    def rows(self) -> Codes:
        """Positions of the rows in the table."""
        return self.curve.rows

    def value(self) -> float:
        """The metric itself."""
        return self.curve.areas[self.area]

    def by_cluster(self, shared: SharedSums) -> Replicate:
        """A function from counts to replicates, centred as if no scores had been joined."""
        clusters, combine = shared.clusters, _roc_auc if self.area == "roc_auc" else _average_precision
        joined = float(combine(*self.curve.sums(clusters, np.ones((clusters.n, 1))))[0])
        shift = self.value() - joined
        return lambda counts: combine(*self.curve.sums(clusters, counts)) + shift


def _roc_auc(positives: Floats, negatives: Floats) -> Floats:
    total = negatives.sum(axis=0)
    with_ties = negatives.cumsum(axis=0)[1::2]
    below = total - with_ties + negatives[1::2] / 2
    return divide((positives * below).sum(axis=0), positives.sum(axis=0) * total)


def _average_precision(positives: Floats, negatives: Floats) -> Floats:
    tp, fp = positives.cumsum(axis=0), negatives.cumsum(axis=0)[1::2]
    return divide((positives * divide(tp, tp + fp, 0.0)).sum(axis=0), positives.sum(axis=0))


def mean_statistic(rows: Codes, values: Floats, weight: Floats) -> SumStatistic:
    """Σ w v / Σ w."""
    return SumStatistic(rows, np.column_stack([weight * values, weight]), lambda s: divide(s[0], s[1]))


def root_statistic(rows: Codes, values: Floats, weight: Floats) -> SumStatistic:
    """√ (Σ w v / Σ w)."""
    return SumStatistic(rows, np.column_stack([weight * values, weight]), lambda s: np.sqrt(divide(s[0], s[1])))


def ratio_statistic(rows: Codes, upper: Floats, lower: Floats) -> SumStatistic:
    """Σ u / Σ l."""
    return SumStatistic(rows, np.column_stack([upper, lower]), lambda s: divide(s[0], s[1]))


def r2_statistic(rows: Codes, y: Floats, scores: Floats, weight: Floats) -> SumStatistic:
    """1 − Σ w (y − f)² / (Σ w y² − (Σ w y)² / Σ w), with labels shifted by their mean for accuracy."""
    shifted = y - (np.average(y, weights=weight) if len(y) else 0.0)
    constant = not len(y) or y.min() == y.max()

    def combine(s: Floats) -> Floats:
        spread = s[2] - divide(s[1] ** 2, s[3])
        return 1 - divide(s[0], np.where(constant | (spread <= 1e-12 * np.maximum(s[2], 1e-300)), 0.0, spread))

    parts = np.column_stack([weight * (y - scores) ** 2, weight * shifted, weight * shifted**2, weight])
    return SumStatistic(rows, parts, combine)


def confusion_statistic(
    rows: Codes, y: Floats, called: npt.NDArray[np.bool_], weight: Floats, name: str
) -> SumStatistic:
    """Precision, recall or F1 from the weights of true positives, false positives, false negatives."""
    parts = np.column_stack([weight * y * called, weight * (1 - y) * called, weight * y * ~called])

    def combine(s: Floats) -> Floats:
        tp, fp, fn = s
        if name == "f1":
            return divide(2 * tp, 2 * tp + fp + fn)
        return divide(tp, tp + (fp if name == "precision" else fn))

    return SumStatistic(rows, parts, combine)


def macro_f1_statistic(rows: Codes, y: Floats, predicted: Codes, weight: Floats) -> SumStatistic:
    """Mean F1 over the classes that occur."""
    n = len(rows)
    codes, _ = pd.factorize(np.concatenate([y.astype(np.intp), predicted]))
    true, called = codes[:n], codes[n:]
    n_classes = int(codes.max(initial=-1)) + 1
    hit = np.flatnonzero(true == called)
    row = np.concatenate([hit, np.arange(n), np.arange(n)])
    column = np.concatenate([true[hit], n_classes + true, n_classes + called])
    parts = sparse.csr_matrix((weight[row], (row, column)), shape=(n, 2 * n_classes))

    def combine(s: Floats) -> Floats:
        score = divide(2 * s[:n_classes], s[n_classes:])
        seen = ~np.isnan(score)
        return divide(np.where(seen, score, 0.0).sum(axis=0), seen.sum(axis=0).astype(np.float64))

    return SumStatistic(rows, parts, combine)


def calibration_statistic(rows: Codes, bins: Codes, y: Floats, scores: Floats, weight: Floats) -> SumStatistic:
    """Σ_b |Σ w (f − y)| / Σ w over fixed bins."""
    n_bins = int(bins.max(initial=-1)) + 1
    gap = np.zeros((len(rows), n_bins + 1))
    gap[np.arange(len(rows)), bins] = weight * (scores - y)
    gap[:, n_bins] = weight
    return SumStatistic(rows, gap, lambda s: divide(np.abs(s[:n_bins]).sum(axis=0), s[n_bins]), is_distance=True)
