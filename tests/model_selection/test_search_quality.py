"""What a search is for: good settings after few candidates, and fronts that sums of scores do not see."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mtl_classic import MultiTaskSearchCV
from tests.model_selection.planted import TASKS, Planted, X, Y

SPACE = {"a": stats.uniform(-3, 6), "b": stats.uniform(-3, 6)}
N_TRIALS = 30


def search(seed: int, n_trials: int = N_TRIALS, **settings: Any) -> MultiTaskSearchCV:
    given = {"cv": 2, "pruning": False, "refit": False, "random_state": seed} | settings
    return MultiTaskSearchCV(Planted(TASKS), SPACE, n_trials=n_trials, **given).fit(X, Y)


def test_a_model_of_the_past_needs_half_the_candidates_of_chance() -> None:
    needed = []
    for seed in range(5):
        target = search(seed, strategy="random").best_score_
        scores = search(seed).cv_results_["mean_test_score"]
        reached = np.flatnonzero(scores >= target)
        needed.append(reached[0] + 1 if len(reached) else N_TRIALS + 1)
    assert np.median(needed) <= N_TRIALS / 2


def area(points: np.ndarray) -> float:
    """What the points dominate of the unit square."""
    total, height = 0.0, 0.0
    for x, y in sorted(map(tuple, np.clip(points, 0, 1)), reverse=True):
        total += x * max(y - height, 0.0)
        height = max(height, y)
    return total


@pytest.mark.parametrize("settings", [{"surrogate": "gp"}, {"surrogate": "tpe"}], ids=lambda s: s["surrogate"])
def test_a_front_dominates_the_bests_of_weighted_sums(settings: dict[str, Any]) -> None:
    sums = []
    for w in np.linspace(0.1, 0.9, 5):
        found = search(0, N_TRIALS // 5, objective={"y0": w, "y1": 1 - w}, **settings)
        sums.append([found.cv_results_[f"mean_test_score_{task}"][found.best_index_] for task in TASKS])
    front = search(0, objective="pareto", **settings).pareto_front_[list(TASKS)].to_numpy()
    best = np.array(sums)
    beaten = (best[None] >= front[:, None]).all(axis=2) & (best[None] > front[:, None]).any(axis=2)
    assert beaten.any(axis=1).mean() <= 0.1
    assert area(front) > 1.05 * area(best)
