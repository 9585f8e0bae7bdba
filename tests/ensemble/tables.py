"""Small tables with every kind of task, and members that are fitted in milliseconds."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mtl_classic import PerTaskModel, SklearnLearner, Task

MIXED = (
    Task("buy", "binary"),
    Task("spend", "regression"),
    Task("visits", "count"),
    Task("reason", "multiclass"),
)
FUNNEL = (Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy"))


def mixed(n: int = 600, seed: int = 0, missing: float = 0.3) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    X["shop"] = rng.choice(["north", "south"], n)
    signal = X["a"] + np.abs(X["b"])
    Y = pd.DataFrame(
        {
            "buy": (signal + rng.normal(size=n) > 1).astype(float),
            "spend": signal + rng.normal(size=n),
            "visits": rng.poisson(np.exp(signal / 2)).astype(float),
            "reason": np.where(signal + rng.normal(size=n) > 1.5, "gift", np.where(X["c"] > 0, "need", "whim")),
        }
    )
    return X, Y.mask(rng.random(Y.shape) < missing)


def ranked(n_queries: int = 240) -> tuple[pd.DataFrame, pd.DataFrame, list[Task]]:
    """Ten candidates in each query, graded by the amount that was bought."""
    rng = np.random.default_rng(0)
    n = 10 * n_queries
    X = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    X["query"] = np.repeat(np.arange(n_queries), 10)
    bought = rng.random(n) < 1 / (1 + np.exp(1 - 2 * X["a"]))
    spend = np.where(bought, np.exp(X["b"] + 0.3 * rng.normal(size=n)), 0.0)
    Y = pd.DataFrame({"grade": np.clip(np.round(spend), 0, 4), "buy": bought * 1.0, "spend": spend})
    tasks = [Task("grade", "ranking", query="query"), Task("buy", "binary"), Task("spend", "regression", given="buy")]
    return X, Y, tasks


def funnel(n: int = 800, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    click = (X["a"] + rng.normal(size=n) > 0).astype(float)
    buy = click * (X["b"] + rng.normal(size=n) > 0)
    return X, pd.DataFrame({"click": click, "buy": buy, "spend": buy * np.exp(X["c"])})


def trees(depth: int = 3) -> SklearnLearner:
    return SklearnLearner(
        DecisionTreeClassifier(max_depth=depth, min_samples_leaf=5),
        DecisionTreeRegressor(max_depth=depth, min_samples_leaf=5),
    )


def members(tasks: Any = MIXED, **roles: Any) -> list[tuple[str, PerTaskModel]]:
    return [
        ("linear", PerTaskModel(tasks, learner="linear", random_state=0, **roles)),
        ("shallow", PerTaskModel(tasks, learner=trees(2), random_state=0, **roles)),
        ("deep", PerTaskModel(tasks, learner=trees(5), random_state=0, **roles)),
    ]
