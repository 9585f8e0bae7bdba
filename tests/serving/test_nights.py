"""Scores made at midnight are those of the evaluation afterwards, where training knew how old the log would be."""

import numpy as np
import pandas as pd
import pytest

from mtl_classic import HistoryFeatures, MultiTaskModel, make_funnel
from mtl_classic.metrics import roc_auc

FIRST, LAST = 28, 42


@pytest.mark.parametrize(("lag", "tolerance"), [("1D", 0.0), (None, 0.02)])
def test_fourteen_nights(lag: str | None, tolerance: float) -> None:
    """Without a lag in training the log is up to a day older at night: AUC moves, within the noise of so few rows."""
    shop = make_funnel(16_000, n_users=800, n_items=100, n_days=LAST, random_state=0)
    days, events = shop.X["day"].to_numpy(), shop.events.to_frame()
    start = shop.X["time"].min().normalize()
    history = HistoryFeatures(**shop.roles, lag=lag)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=history, latent=None, random_state=0)
    train = days < FIRST
    model.fit(shop.X[train], shop.Y[train], events=shop.events.before(start + pd.Timedelta(days=FIRST)))
    nights = {}
    for day in range(FIRST, LAST):
        nights[day] = model.predict_scores(shop.X[days == day])
        begin = start + pd.Timedelta(days=day)
        model.observe(events[(events["time"] >= begin) & (events["time"] < begin + pd.Timedelta("1D"))])
        assert model.as_of_ < begin + pd.Timedelta("1D")
    for day, night in nights.items():
        rows = days == day
        offline = model.predict_scores(shop.X[rows])  # the log has gone on since
        if lag is not None:
            pd.testing.assert_frame_equal(offline, night)
        gap = roc_auc(shop.Y.loc[rows, "view"], night["view"]) - roc_auc(shop.Y.loc[rows, "view"], offline["view"])
        assert np.abs(gap) <= tolerance
