"""make_funnel: what it returns fits together, its probabilities are the truth, its history is worth something."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mtl_classic.datasets import make_funnel
from mtl_classic.events import label_from_events

NAMES = ["view", "cart", "buy", "spend"]


@pytest.fixture(scope="module", params=[None, "7D"])
def shop(request: pytest.FixtureRequest) -> Any:
    return make_funnel(30_000, n_users=800, n_items=200, delay=request.param, random_state=3)


def test_rows_labels_and_probabilities_belong_together(shop: Any) -> None:
    assert len(shop.X) == len(shop.Y) == len(shop.probabilities) == 30_000
    assert [task.name for task in shop.tasks] == NAMES == list(shop.Y.columns) == list(shop.probabilities.columns)
    assert shop.X["time"].is_monotonic_increasing
    assert set(shop.roles.values()) <= set(shop.X.columns)
    assert shop.user_factors.shape == (800, 8)
    assert shop.item_factors.shape == (200, 8)


def test_the_funnel_narrows_in_labels_and_probabilities(shop: Any) -> None:
    for frame in (shop.Y, shop.probabilities):
        assert (frame["cart"] <= frame["view"]).all()
        assert (frame["buy"] <= frame["cart"]).all()
    assert ((shop.Y["spend"] > 0) == (shop.Y["buy"] == 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_calibrated_in_every_decile(shop: Any, name: str) -> None:
    truth, label = shop.probabilities[name], shop.Y[name]
    unit = 20.0 if name == "spend" else 1.0  # Poisson's variance: mean × the size of an event, for deciles without any
    for _, rows in truth.groupby(pd.qcut(truth, 10, labels=False)):
        seen = label[rows.index]
        error = np.sqrt(max(seen.var(), unit * rows.mean()) / len(rows))
        assert abs(seen.mean() - rows.mean()) < 4.5 * error


def test_conditional_rates_are_those_asked_for(shop: Any) -> None:
    Y = shop.Y
    seen = [Y["view"].mean(), Y.loc[Y["view"] == 1, "cart"].mean(), Y.loc[Y["cart"] == 1, "buy"].mean()]
    np.testing.assert_allclose(seen, [0.3, 0.35, 0.4], atol=0.02)


def test_every_label_follows_from_the_log(shop: Any) -> None:
    # The twin of label_from_events, by pandas: what happened to (user, item) in [time, time + horizon).
    events = shop.events.to_frame()
    rows = shop.X[["user", "item", "time"]].assign(row=np.arange(len(shop.X)))
    pairs = rows.merge(events, on=["user", "item"], suffixes=("", "_event"))
    after = pairs["time_event"] - pairs["time"]
    pairs = pairs[(after >= pd.Timedelta(0)) & (after < pd.Timedelta(shop.horizon))]
    for name in NAMES[:3]:
        happened = np.bincount(pairs["row"][pairs["event"] == name], minlength=len(rows))
        np.testing.assert_array_equal(happened, shop.Y[name])
    bought = pairs[pairs["event"] == "buy"]
    spend = np.bincount(bought["row"], weights=bought["value"], minlength=len(rows))
    np.testing.assert_allclose(spend, shop.Y["spend"])


def test_the_public_tool_makes_the_same_labels(shop: Any) -> None:
    made = label_from_events(shop.X, shop.events, shop.tasks, shop.horizon)
    assert made.notna().mean().min() > 0.8  # the last rows have not matured by the end of the log
    pd.testing.assert_frame_equal(made, shop.Y.where(made.notna()))


def test_a_delay_spreads_purchases_and_nothing_else() -> None:
    shop = make_funnel(10_000, delay="7D", random_state=0)
    assert [task.delay for task in shop.tasks] == [None, None, "7D", "7D"]
    events = shop.events.to_frame()
    late = events[events["time"] > shop.X["time"].iloc[-1] + pd.Timedelta("1D")]
    assert len(late) > 5
    assert (late["event"] == "buy").all()
    assert shop.events.last_time < shop.X["time"].iloc[-1] + pd.Timedelta("7D")


def test_past_purchase_rates_of_user_and_item_predict_the_next(shop: Any) -> None:
    half = shop.X["time"] < shop.X["time"].iloc[0] + pd.Timedelta("30D")
    past, later = shop.Y["view"][half], ~half
    score = sum(shop.X[key][later].map(past.groupby(shop.X[key][half]).mean()).fillna(0.3) for key in ("user", "item"))
    assert roc_auc_score(shop.Y["view"][later], score) > 0.68


def test_without_strength_users_and_items_are_alike() -> None:
    shop = make_funnel(20_000, strength=0.0, random_state=0)
    assert roc_auc_score(shop.Y["view"], shop.probabilities["view"]) < 0.58


def test_the_log_reaches_back_before_the_first_row() -> None:
    shop = make_funnel(3_000, n_days=20, history_days=40, random_state=0)
    days = (shop.X["time"].iloc[0] - pd.Timestamp(shop.events.time[0])).days
    assert 37 <= days <= 41
    assert shop.X["day"].iloc[0] == 0
    assert shop.X["day"].iloc[-1] in (18, 19, 20)


def test_missing_hides_labels_at_random() -> None:
    whole = make_funnel(5_000, random_state=0)
    part = make_funnel(5_000, missing={"buy": 0.9, "spend": 0.5}, random_state=0)
    assert part.Y["buy"].isna().mean() == pytest.approx(0.9, abs=0.02)
    assert part.Y["spend"].isna().mean() == pytest.approx(0.5, abs=0.03)
    assert not part.Y[["view", "cart"]].isna().any().any()
    pd.testing.assert_frame_equal(part.Y.fillna(whole.Y), whole.Y)


def test_the_seed_fixes_every_bit() -> None:
    one, same, other = (make_funnel(2_000, random_state=seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one.X, same.X)
    assert one.events.hash == same.events.hash != other.events.hash
    longer = make_funnel(4_000, random_state=5)
    np.testing.assert_array_equal(one.user_factors, longer.user_factors)


def test_small_shops_work() -> None:
    shop = make_funnel(1, n_users=1, n_items=1, n_factors=1, n_categories=1, history_days=0, random_state=0)
    assert shop.X.shape == (1, 7)
    assert shop.Y.shape == (1, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "n_rows must be an integer of at least 1"),
        ({"rates": (0.5, 0.5)}, "rates must be three numbers"),
        ({"rates": (0.5, 0.5, 1.0)}, "rates must be three numbers"),
        ({"missing": {"click": 0.5}}, "missing names click"),
        ({"missing": 1.0}, "missing must be a number of at least 0 and below 1"),
        ({"history_days": -1}, "history_days must be an integer of at least 0"),
        ({"delay": "10min"}, "at least an hour"),
        ({"n_rows": 10.5}, "n_rows must be an integer of at least 1, got 10.5"),
        ({"history_days": "28"}, "history_days must be an integer of at least 0, got '28'"),
        ({"n_rows": 1000, "n_users": 2, "n_items": 2}, "ask for fewer rows"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make_funnel(random_state=0, **options)


@pytest.mark.slow
def test_a_million_rows() -> None:
    shop = make_funnel(1_000_000, n_users=20_000, n_items=2_000, random_state=0)
    assert len(shop.X) == 1_000_000
