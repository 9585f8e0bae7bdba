"""Known probabilities of a synthetic shop: the funnel's product comes close to them."""

import numpy as np
import pandas as pd
import pytest

from mtl_classic import FunnelModel, MultiTaskModel, make_funnel


@pytest.mark.parametrize("seed", [0, 1])
def test_the_product_recovers_probabilities_that_the_columns_determine(seed: int) -> None:
    """Given the logits of each step, P(view), P(cart), P(buy) are found within .02, .02 and .01 on average."""
    shop = make_funnel(12_000, n_users=400, n_items=100, random_state=seed)
    p = shop.probabilities
    steps = {"view": p["view"], "cart": p["cart"] / p["view"], "buy": p["buy"] / p["cart"]}
    X = pd.DataFrame({name: np.log(q / (1 - q)) for name, q in steps.items()}).assign(price=shop.X["price"])
    scores = FunnelModel(shop.tasks, learner="linear").fit(X[:8_000], shop.Y[:8_000]).predict_scores(X[8_000:])
    for name, band in {"view": 0.02, "cart": 0.02, "buy": 0.01}.items():
        assert np.abs(scores[name] - p[name][8_000:]).mean() < band
        assert np.corrcoef(scores[name], p[name][8_000:])[0, 1] > 0.98
    assert np.corrcoef(scores["spend"], p["spend"][8_000:])[0, 1] > 0.8


def test_history_finds_much_of_what_makes_users_and_items_differ() -> None:
    """From ids, context and the log alone: mean within 15 % (spend 25 %), correlation with the truth above .45."""
    shop = make_funnel(20_000, n_users=500, n_items=200, random_state=0)
    train, test = slice(0, 14_000), slice(14_000, None)
    model = MultiTaskModel(shop.tasks, **shop.roles, random_state=0)
    scores = model.fit(shop.X[train], shop.Y[train], events=shop.events).predict_scores(shop.X[test])
    for name in ("view", "cart", "buy", "spend"):
        truth = shop.probabilities[name][test].to_numpy()
        assert scores[name].mean() == pytest.approx(truth.mean(), rel=0.25 if name == "spend" else 0.15)
        assert np.corrcoef(scores[name], truth)[0, 1] > 0.45
        assert np.abs(scores[name] - truth).mean() < 0.9 * np.abs(truth.mean() - truth).mean()
