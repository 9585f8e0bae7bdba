"""Who gains from whom."""

import numpy as np
import pandas as pd

from mtl_classic import TaskGraphModel, task_affinity


def test_siblings_gain_and_strangers_do_not() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 6))
    mood = X.sum(axis=1)
    Y = pd.DataFrame({"rating": mood + rng.normal(size=1500), "liked": (mood + rng.normal(size=1500) > 0) * 1.0})
    Y["coin"] = (rng.random(1500) < 0.5) * 1.0
    Y.loc[100:, "liked"] = np.nan
    table = task_affinity(X, Y, learner="linear", cv=3, random_state=0)
    assert len(table) == 6
    assert table["gain"].idxmax() == ("rating", "liked")
    assert table.loc[("coin", "rating"), "verdict"] != "better"
    assert (table["standard_error"] > 0).all()


def test_a_model_gives_its_settings_and_stays_unfitted() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    Y = pd.DataFrame({"a": X[:, 0], "b": X[:, 0] + rng.normal(size=200)})
    model = TaskGraphModel({"a": "regression", "b": "regression"}, learner="linear", cv=3, random_state=0)
    table = task_affinity(X, Y, model=model)
    assert table.index.tolist() == [("b", "a"), ("a", "b")]
    assert not hasattr(model, "tasks_")
