"""Which product types a household is shown in a week: its own, its store's, promoted ones, and two by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.random import generator
from mtl_classic.datasets._journey_tables import first_day
from mtl_classic.events import Aggregate, EventLog, HistoryFeatures

__all__ = ["SOURCES", "choose", "home_stores"]

# How many of each source, in this order; what a source cannot fill (a new household has few types of its own) goes to
# the last, so that every query has as many rows.
SOURCES = {"own": 8, "store": 4, "promoted": 4, "random": 2}
_ACTIVE = "8w"
_STORE_WINDOW = "4w"


def home_stores(log: EventLog, lines: pd.DataFrame, weeks: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Households that shopped in the 8 weeks before each week, and the store where they bought most lines in them.

    Columns ``household, week, store``, sorted by week and household.
    """
    pairs = lines[["household", "store"]].drop_duplicates()
    rows = _each_week(pairs, weeks)
    rows["lines"] = count(log, rows, Aggregate(("household", "store"), "count", window=_ACTIVE))
    rows = rows[rows["lines"] > 0].sort_values(
        ["week", "household", "lines", "store"], ascending=[True, True, False, True], kind="stable"
    )
    return rows.drop_duplicates(["week", "household"])[["household", "week", "store"]].reset_index(drop=True)


def choose(
    log: EventLog,
    lines: pd.DataFrame,
    visits: pd.DataFrame,
    types: pd.Index[Any],
    promotion: npt.NDArray[np.float32],
    root: int,
) -> pd.DataFrame:
    """Eighteen distinct product types for each visit (household, week, home store).

    ``promotion``, the number of products promoted, has the shape (weeks, stores, types), sorted weeks and stores of
    ``visits``. Columns of the result: ``visit`` (row of ``visits``), ``item`` (code in ``types``) and ``source``; it is
    sorted by visit and item.
    """
    own = _own_scores(log, lines, visits)
    store = _store_scores(log, visits, types)
    popularity = _popularity(log, visits, types)
    chosen = []
    for number, week in enumerate(np.unique(visits["week"])):
        rows = np.flatnonzero(visits["week"] == week)
        rng = generator(root, "complete_journey", "candidates", int(week))
        place = visits["store"].cat.codes.to_numpy()[rows]
        chance = _gumbel(rng, (2, len(rows), len(types)))
        root_popularity = 0.5 * np.log(np.maximum(popularity[number], 1e-9))
        promoted = np.log(np.maximum(np.nan_to_num(promotion[number]), 1e-30))
        promoted[~(promotion[number] > 0)] = -np.inf
        scores = [
            _dense(own[own["week"] == week], rows, types),
            np.where(store[number] > 0, store[number], -np.inf)[place],
            (promoted + root_popularity)[place] + chance[0],
            root_popularity + chance[1],
        ]
        chosen.append(_pick(scores, rows))
    return pd.concat(chosen, ignore_index=True).sort_values(["visit", "item"], ignore_index=True)


def count(log: EventLog, rows: pd.DataFrame, aggregate: Aggregate) -> npt.NDArray[np.float64]:
    """One history column for rows that have the aggregate's keys and a week: what was known as the week began."""
    rows = rows.assign(time=first_day(rows["week"]))
    return HistoryFeatures([aggregate]).fit_transform(rows, events=log)[aggregate.name].to_numpy(np.float64)


def _each_week(keys: pd.DataFrame, weeks: npt.NDArray[np.int64]) -> pd.DataFrame:
    return keys.merge(pd.DataFrame({"week": weeks}), how="cross")


def _own_scores(log: EventLog, lines: pd.DataFrame, visits: pd.DataFrame) -> pd.DataFrame:
    pairs = lines[["household", "product_type"]].drop_duplicates()
    rows = visits[["household", "week"]].assign(visit=np.arange(len(visits))).merge(pairs, on="household")
    rows["score"] = count(log, rows, Aggregate(("household", "product_type"), "decayed", half_life=_ACTIVE))
    return rows.loc[rows["score"] > 0, ["week", "visit", "product_type", "score"]]


def _store_scores(log: EventLog, visits: pd.DataFrame, types: pd.Index[Any]) -> npt.NDArray[np.float64]:
    """Lines of each type in each store in the 4 weeks before, shape (weeks, stores, types)."""
    weeks, stores = np.unique(visits["week"]), visits["store"].cat.categories
    rows = pd.MultiIndex.from_product([weeks, stores, types], names=["week", "store", "product_type"]).to_frame(False)
    lines = count(log, rows, Aggregate(("store", "product_type"), "count", window=_STORE_WINDOW))
    return lines.reshape(len(weeks), len(stores), len(types))


def _popularity(log: EventLog, visits: pd.DataFrame, types: pd.Index[Any]) -> npt.NDArray[np.float64]:
    """Lines of each type in the 8 weeks before, shape (weeks, types)."""
    weeks = np.unique(visits["week"])
    rows = pd.MultiIndex.from_product([weeks, types], names=["week", "product_type"]).to_frame(False)
    return count(log, rows, Aggregate("product_type", "count", window=_ACTIVE)).reshape(len(weeks), len(types))


def _gumbel(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Noise that makes the k largest of log(weight) + noise a sample without replacement by weight."""
    return -np.log(rng.standard_exponential(shape))


def _dense(own: pd.DataFrame, rows: npt.NDArray[np.intp], types: pd.Index[Any]) -> npt.NDArray[np.float64]:
    out = np.full((len(rows), len(types)), -np.inf)
    place = np.searchsorted(rows, own["visit"])
    out[place, types.get_indexer(pd.Index(own["product_type"]))] = own["score"]
    return out


def _pick(scores: list[npt.NDArray[np.float64]], visit: npt.NDArray[np.intp]) -> pd.DataFrame:
    """The best of each source that no source before it took; -inf is never taken."""
    taken = np.zeros(scores[0].shape, bool)
    wanted = np.zeros(len(visit), np.int64)
    parts = []
    for source, score in zip(SOURCES, scores, strict=True):
        wanted += SOURCES[source]
        last = source == list(SOURCES)[-1]
        most = int((wanted - taken.sum(axis=1)).max()) if last else SOURCES[source]
        # Equal counts are common: the more popular type, which stands first, wins.
        free = np.where(taken, -np.inf, score) - 1e-9 * np.arange(score.shape[1])
        best = np.argpartition(-free, most - 1, axis=1)[:, :most]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(free, best, axis=1), axis=1), axis=1)
        good = np.isfinite(np.take_along_axis(free, best, axis=1))
        if last:
            good &= np.arange(most) < (wanted - taken.sum(axis=1))[:, None]
        row, column = np.nonzero(good)
        taken[row, best[row, column]] = True
        parts.append(pd.DataFrame({"visit": visit[row], "item": best[row, column], "source": source}))
    return pd.concat(parts, ignore_index=True)
