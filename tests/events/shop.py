"""A small shop: events and rows with ties in time, gaps in ids and values, and users that nobody has seen."""

import numpy as np
import pandas as pd

from mtl_classic.events import EventLog

ROLES = {"user": "user", "item": "item", "time": "time", "event": "type", "value": "price"}


def make_events(n: int = 3000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    price = rng.gamma(2.0, 10.0, n)
    price[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "user": rng.integers(0, 40, n),
            "item": [f"i{k}" for k in rng.integers(0, 25, n)],
            "time": rng.integers(0, 500, n),
            "type": rng.choice(["view", "cart", "buy"], n, p=[0.7, 0.2, 0.1]),
            "price": price,
            "store": rng.integers(0, 5, n),
            "coupon": rng.random(n) < 0.3,
        }
    )


def make_rows(n: int = 800, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": rng.integers(0, 50, n),
            "item": [f"i{k}" for k in rng.integers(0, 30, n)],
            "time": rng.integers(-10, 520, n),
            "store": rng.integers(0, 6, n),
        },
        index=rng.permutation(n),
    )


def make_log(n: int = 3000, seed: int = 0) -> EventLog:
    return EventLog(make_events(n, seed), **ROLES)
