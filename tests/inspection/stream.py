"""Days of a shop in which nothing changes, and a model of it."""

from typing import Any

import numpy as np
import pandas as pd

from mtl_classic import PerTaskModel, Task

TASKS = [Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy")]
ROLES = {"user": "user", "item": "item", "time": "time"}


def day(number: int, n: int = 25_000, *, drift: float = 1.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a day and their labels; `drift` divides the rate of clicks."""
    rng = np.random.default_rng([seed, 1000 + number])
    tastes = np.random.default_rng(99)
    user = rng.integers(0, 8000, n)
    own = tastes.normal(size=8000)[user]  # a user's rows are alike
    X = pd.DataFrame(
        {
            "user": user,
            "item": [f"i{k}" for k in rng.integers(0, 300, n)],
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(number + np.sort(rng.random(n)), unit="D"),
            "age": np.where(rng.random(n) < 0.1, np.nan, 40 + 10 * own),
            "price": rng.gamma(2.0, 10.0, n),
            "device": rng.choice(["phone", "desk", "tablet"], n, p=[0.6, 0.3, 0.1]),
            "campaign": pd.Categorical(rng.choice([f"c{k}" for k in range(80)], n)),
            "clock": number * 24.0 + rng.integers(0, 24, n),
        }
    )
    chance = 1 / (1 + np.exp(-(0.8 * own - 0.02 * (X["price"] - 20) + 0.3 * (X["device"] == "phone")))) / drift
    click = rng.random(n) < chance
    buy = click & (rng.random(n) < 0.4)
    spend = np.where(buy, X["price"] * rng.gamma(4.0, 0.25, n), 0.0)
    return X, pd.DataFrame({"click": click, "buy": buy, "spend": spend}).astype(float)


def make_model() -> Any:
    X, Y = day(0, 60_000)
    model = PerTaskModel(TASKS, **ROLES, exclude=["clock", "campaign"], learner="linear")
    return model.fit(X, Y)
