"""Whether sharing harms a task: the losses that are compared."""

import numpy as np

from mtl_classic import Task
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
