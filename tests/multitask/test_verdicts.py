"""Whether sharing harms a task: the losses that are compared."""

import numpy as np
import pytest

from mtl_classic import Task
from mtl_classic._core.losses import task_loss
from mtl_classic._core.targets import encode_targets
from mtl_classic.multitask._verdicts import compare_scores


def test_rows_of_no_weight_leave_their_query_and_do_not_silence_it() -> None:
    rng = np.random.default_rng(0)
    query, y = np.repeat(np.arange(100), 5), rng.integers(0, 3, 500).astype(float)
    targets = encode_targets(y, [Task("list", "ranking", query="q")])
    shared, alone = rng.normal(size=(2, 500))
    weights = np.where(np.arange(500) % 5, 1.0, 0.0)[:, None]
    kept = np.flatnonzero(weights)
    found = compare_scores(targets, {"list": shared}, {"list": alone}, groups=query, weights=weights)
    wanted = compare_scores(targets.take(kept), {"list": shared[kept]}, {"list": alone[kept]}, groups=query[kept])
    columns = ["value", "baseline", "difference"]
    assert found.loc["list", columns].tolist() == wanted.loc["list", columns].tolist()
    assert found.loc["list", "verdict"] in ("better", "worse", "same")


def test_queries_weigh_the_mean_of_their_rows_as_in_every_loss() -> None:
    rng = np.random.default_rng(0)
    query, y = np.repeat(np.arange(100), 5), rng.integers(0, 3, 500).astype(float)
    y[::7] = np.nan
    shared, alone = rng.normal(size=(2, 500))
    weight = rng.integers(0, 4, 500).astype(float)
    targets = encode_targets(y, [Task("list", "ranking", query="q")])
    table = compare_scores(targets, {"list": shared}, {"list": alone}, groups=query, weights=weight[:, None])
    found = table.loc["list"]
    assert found["value"] == pytest.approx(task_loss("ranking", y, shared, weight, query))
    assert found["baseline"] == pytest.approx(task_loss("ranking", y, alone, weight, query))
