"""Delays of labels: a child waits for its parent, and all of them are counted from a time that has a name."""

import numpy as np
import pandas as pd
import pytest

from mtl_classic import PerTaskModel, RoleError, Task
from mtl_classic._core.delays import label_delays, longest_delay

FUNNEL = (
    Task("view", "binary"),
    Task("buy", "binary", given="view", delay=3),
    Task("spend", "regression", given="buy"),
)


def test_a_child_is_known_no_sooner_than_its_parent() -> None:
    assert label_delays(FUNNEL, np.dtype(int)) == {"view": 0, "buy": 3, "spend": 3}
    assert longest_delay(FUNNEL, np.arange(5)) == 3
    assert longest_delay(FUNNEL, None) == 0


def test_a_delay_needs_a_time_to_be_counted_from() -> None:
    X = pd.DataFrame({"price": np.arange(20.0), "day": np.arange(20)})
    model = PerTaskModel([Task("buy", "binary", delay=3)], learner="linear")
    with pytest.raises(RoleError, match=r"no time column is named: 'buy' \(3\). Name it \(time=\)"):
        model.fit(X, X["price"] > 10)
    model.set_params(time="day").fit(X, X["price"] > 10)
