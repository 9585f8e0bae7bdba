"""The one answer to "is it better beyond the noise?": a paired bootstrap over clusters.

Construction, for every comparison in the library (fallbacks, reports, benchmarks):

1. Clusters (users, else queries, else rows) are drawn with replacement, as many as there are; model and baseline are
   judged on the same draws, so that what is hard for both cancels. More than ``MAX_CLUSTERS`` clusters are first joined
   at random into that many, which leaves the variance of a sum over independent clusters what it was.
2. The 95 % interval lies between the 2.5 % and 97.5 % quantiles of the replicates' differences. That of a calibration
   error itself is reflected at the value: noise makes the error too large, and the draws make it so once more. (Where
   scores are right all of the error is noise, of which this takes off a part.)
3. p = 2 · min(share of replicates ≤ 0, share ≥ 0), at most 1. Where no replicate lies on the other side, it is the
   normal tail 2 Φ(−|d| / se) with the replicates' standard deviation, at most 2 / (replicates + 1). It is never below
   2^(1 − m) for m clusters: that many agreeing signs happen by chance, so five clusters or fewer prove nothing.
4. Holm's step-down corrects the p-values of one metric over all tasks (and slices).
5. "better" or "worse": the whole interval lies on one side of 0 and the corrected p is at most 1 − level. Else "same".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from mtl_classic._core.options import INTEGER, SHARE, Kind, check_option
from mtl_classic._core.random import generator, root_seed
from mtl_classic.metrics._arrays import Codes, Floats, as_floats, check_weight, factorize
from mtl_classic.metrics._statistics import Clusters, SharedSums, Statistic, mean_statistic

MAX_CLUSTERS = 20_000
CHUNK = 128  # replicates at a time: 20 MB of counts at most
BATCH_SIZE = 5_000_000  # rows and replicates of the metrics that are recomputed together: half a GB
COLUMNS = ("value", "low", "high")
REPLICATES = Kind("an integer of at least 100, or 0 for no intervals", INTEGER.is_type, lambda n: n == 0 or n >= 100)
PAIRED_COLUMNS = (*COLUMNS, "baseline", "difference", "difference_low", "difference_high", "p_value", "verdict")


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric of one task, of the model and (where there is one) of the baseline."""

    model: Statistic
    baseline: Statistic | None
    clusters: Clusters
    direction: int  # 1: more is better
    family: str  # Holm corrects within a family


def compare(
    model_losses: Mapping[str, Any],
    baseline_losses: Mapping[str, Any],
    *,
    clusters: Any = None,
    sample_weight: Any = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Whether a model's mean loss differs from a baseline's beyond the noise, task by task.

    Cost: one pass over the rows of each task; then replicates × clusters (of which there are 20,000 at most).

    Parameters
    ----------
    model_losses, baseline_losses : dict task -> array of shape (n,)
        Loss of each row, as from `losses`; NaN where the row has no label for the task. Pairs with a NaN are left out.
    clusters : array of shape (n,), frame, or dict task -> array, default=None
        Who the rows belong to: users, else queries. None: every row is on its own; so is one whose cluster is missing.
    sample_weight : array of shape (n,) or dict task -> array, default=None
        Non-negative weights.
    n_replicates : int, default=1000
        Bootstrap replicates, at least 100; 0 leaves intervals and verdicts out.
    level : float, default=0.95
        Of the interval, and 1 − the error rate of the verdicts over all tasks.
    random_state : int, RandomState or None, default=0
        The same seed gives the same bits; a task more or less does not change another's interval.

    Returns
    -------
    DataFrame
        Index: the tasks. Columns ``value``, ``low``, ``high`` (mean loss and its interval), ``baseline``,
        ``difference`` (negative: the model is better), ``difference_low``, ``difference_high``, ``p_value`` (after
        Holm) and ``verdict``: "better", "worse", "same", or missing where nothing could be compared.

    References
    ----------
    C. A. Field, A. H. Welsh, Bootstrapping clustered data, 2007, doi:10.1111/j.1467-9868.2007.00593.x; S. Holm, A
    simple sequentially rejective multiple test procedure, 1979, doi:10.2307/4615733.

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic.metrics import compare
    >>> a, b = np.random.default_rng(0).normal(size=(2, 500))
    >>> table = compare({"buy": a + 0.5, "spend": b}, {"buy": a + 0.1 * b, "spend": b})
    >>> table["verdict"].to_dict()
    {'buy': 'worse', 'spend': 'same'}
    """
    missing = [name for name in model_losses if name not in baseline_losses]
    if missing:
        raise ValueError(f"No baseline losses for the tasks {', '.join(missing)}; given: {', '.join(baseline_losses)}.")

    def weight(name: str) -> Any:
        return sample_weight.get(name) if isinstance(sample_weight, Mapping) else sample_weight

    pairs = ((name, own, baseline_losses[name], weight(name)) for name, own in model_losses.items())
    return compare_pairs(pairs, clusters=clusters, n_replicates=n_replicates, level=level, random_state=random_state)


def compare_pairs(
    pairs: Iterable[tuple[str, Any, Any, Any]],
    *,
    clusters: Any = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    """`compare` of a stream of (name, model's losses, baseline's losses, weights): what was read is not kept.

    So many pairs of a large table may be compared, if they are made one after the other.
    """
    seed = root_seed(random_state)
    shared: dict[tuple[int, int], Clusters] = {}
    drawn: dict[tuple[int, int], Clusters] = {}
    names: list[str] = []

    def comparisons() -> Iterator[Comparison]:
        for name, own, other, weight in pairs:
            own, other = as_floats(own, "losses"), as_floats(other, "losses")
            if own.ndim != 1 or own.shape != other.shape:
                raise ValueError(
                    f"Task {name!r} has losses of the shapes {own.shape} and {other.shape}; expected (n,) twice."
                )
            who = clusters.get(name) if isinstance(clusters, Mapping) else clusters
            key = id(who), len(own)
            if key not in shared:
                shared[key] = make_clusters(who, len(own), seed)
                drawn[key] = Clusters(np.arange(shared[key].n), shared[key].n)
            weight = check_weight(weight, len(own))
            rows = np.flatnonzero(~np.isnan(own) & ~np.isnan(other) & (weight > 0))
            pair = [mean_statistic(rows, values[rows], weight[rows]).gathered(shared[key]) for values in (own, other)]
            names.append(name)
            yield Comparison(pair[0], pair[1], drawn[key], -1, "loss")

    table = compare_statistics(comparisons(), n_replicates=n_replicates, level=level, seed=seed)
    return table.set_axis(pd.Index(names, name="task"), axis=0)


def make_clusters(values: Any, n: int, seed: int) -> Clusters:
    """Clusters from their keys (None: every row on its own), at most ``MAX_CLUSTERS``."""
    codes = np.arange(n) if values is None else factorize(values, n, "clusters")[0]
    return clusters_of(codes, seed)


def clusters_of(codes: Codes, seed: int, at_most: int | None = None) -> Clusters:
    """Clusters from codes 0, 1, …, at most so many (``MAX_CLUSTERS``); rows whose code is -1 are each on their own."""
    at_most = at_most or MAX_CLUSTERS
    codes, alone = codes.copy(), codes < 0
    known = int(codes.max(initial=-1)) + 1
    count = known + int(alone.sum())
    codes[alone] = np.arange(known, count)
    if count > at_most:
        joined = generator(seed, "clusters", count).permutation(count) % at_most
        codes, count = joined[codes], at_most
    return Clusters(codes.astype(np.intp), count)


def compare_statistics(
    comparisons: Iterable[Comparison], *, n_replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Value, interval and, against a baseline, difference, interval and verdict of each comparison, in their order.

    An iterator is read in batches, so that only some tasks of a large table are in memory at a time.
    """
    check_bootstrap(n_replicates, level)
    records: list[dict[str, float]] = []
    families: list[str] = []
    directions: list[int] = []
    for batch in _batches(comparisons, n_replicates):
        records += _records(batch, n_replicates, level, seed)
        families += [comparison.family for comparison in batch]
        directions += [comparison.direction for comparison in batch]
    if not any("baseline" in record for record in records):
        return pd.DataFrame(records, columns=list(COLUMNS))
    table = pd.DataFrame(records, columns=list(PAIRED_COLUMNS[:-1])).astype(np.float64)
    for family in dict.fromkeys(families):
        mine = np.array(families) == family
        table.loc[mine, "p_value"] = holm(table.loc[mine, "p_value"].to_numpy())
    table["verdict"] = _verdicts(table, np.array(directions), 1 - level)
    return table


def check_bootstrap(n_replicates: Any, level: Any) -> None:
    """Refuse numbers of replicates and levels that make no intervals."""
    check_option("n_replicates", n_replicates, REPLICATES)
    check_option("level", level, SHARE)


def _batches(comparisons: Iterable[Comparison], n_replicates: int) -> Iterator[list[Comparison]]:
    """Comparisons of at most ``BATCH_SIZE`` together, or those of one task, which share work."""
    batch: list[Comparison] = []
    size = 0
    for comparison in comparisons:
        own = len(comparison.model.rows) + n_replicates
        size += own
        if batch and size > BATCH_SIZE and comparison.model.rows is not batch[-1].model.rows:
            yield batch
            batch, size = [], own
        batch.append(comparison)
    yield batch


def _records(batch: Sequence[Comparison], n_replicates: int, level: float, seed: int) -> list[dict[str, float]]:
    """The rows of the table; those of the same clusters share the draws, which are those of every other batch."""
    records: list[dict[str, float]] = [{} for _ in batch]
    for clusters in {id(c.clusters): c.clusters for c in batch}.values():
        members = [i for i, c in enumerate(batch) if c.clusters is clusters]
        statistics = [s for i in members for s in (batch[i].model, batch[i].baseline) if s is not None]
        draws = iter(bootstrap(statistics, clusters, n_replicates, seed))
        for i in members:
            own = next(draws)
            other = next(draws) if batch[i].baseline is not None else None
            records[i] = _summarize(batch[i], own, other, level)
    return records


def bootstrap(statistics: Sequence[Statistic], clusters: Clusters, n_replicates: int, seed: int) -> Floats:
    """Replicates of all statistics over the same draws of clusters.

    Returns
    -------
    ndarray of shape (n_statistics, n_replicates)
        NaN where a draw leaves a statistic undefined.
    """
    drawn_from = [(i, s) for i, s in enumerate(statistics) if len(s.rows) and n_replicates]
    shared = SharedSums(clusters)
    prepared = [(i, s.by_cluster(shared)) for i, s in drawn_from]
    result = np.full((len(statistics), n_replicates), np.nan)
    random = generator(seed, "bootstrap", clusters.n)
    for start in range(0, n_replicates if prepared else 0, CHUNK):
        size = min(CHUNK, n_replicates - start)
        drawn = random.integers(0, clusters.n, size=(size, clusters.n), dtype=np.int64)
        drawn += np.arange(size)[:, None] * clusters.n
        counts = np.bincount(drawn.ravel(), minlength=size * clusters.n).reshape(size, clusters.n)
        weights = np.ascontiguousarray(counts.T, dtype=np.float64)
        for i, replicate in prepared:
            result[i, start : start + size] = replicate(weights)
    return result


def holm(p_values: Floats) -> Floats:
    """Holm's step-down correction: the i-th smallest of m p-values times m − i + 1, made monotone; NaN stay out."""
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _summarize(comparison: Comparison, own: Floats, other: Floats | None, level: float) -> dict[str, float]:
    value = comparison.model.value()
    low, high = _interval(own, level)
    if comparison.model.is_distance:  # what the draws add to the value is what noise has added to the truth
        low, high = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
    record = {"value": value, "low": low, "high": high}
    if comparison.baseline is None or other is None:
        return record
    baseline = comparison.baseline.value()
    difference = own - other
    low, high = _interval(difference, level)
    n_clusters = int(np.count_nonzero(np.bincount(comparison.clusters.codes[comparison.model.rows])))
    p_value = _p_value(value - baseline, difference, n_clusters) if low <= high else float("nan")
    record |= {"baseline": baseline, "difference": value - baseline, "p_value": p_value}
    return record | {"difference_low": low, "difference_high": high}


def _interval(replicates: Floats, level: float) -> tuple[float, float]:
    """Percentile interval; NaN where more than half of the replicates are undefined."""
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) <= len(replicates):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _p_value(difference: float, replicates: Floats, n_clusters: int) -> float:
    replicates = replicates[~np.isnan(replicates)]
    across = min(int((replicates <= 0).sum()), int((replicates >= 0).sum()))
    if across:
        p = 2 * across / len(replicates)
    else:
        error = float(np.std(replicates))
        tail = 2 * float(ndtr(-abs(difference) / error)) if error > 0 else 0.0
        p = min(tail, 2 / (len(replicates) + 1))
    return min(1.0, max(p, 2.0 ** (1 - n_clusters)))


def _verdicts(table: pd.DataFrame, direction: Codes, alpha: float) -> list[str | None]:
    up, down = table["difference_low"].to_numpy() > 0, table["difference_high"].to_numpy() < 0
    sure = table["p_value"].to_numpy() <= alpha
    gain = np.where(up & sure, direction, np.where(down & sure, -direction, 0))
    known = table["p_value"].notna().to_numpy() & (direction != 0)
    return [{1: "better", -1: "worse", 0: "same"}[int(g)] if k else None for g, k in zip(gain, known, strict=True)]
