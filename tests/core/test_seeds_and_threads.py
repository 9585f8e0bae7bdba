"""Seeds depend on names; one budget of threads."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_info

from mtl_classic import AveragingEnsemble, PerTaskModel, SklearnLearner
from mtl_classic._core.parallel import n_threads, split_budget, thread_limit
from mtl_classic._core.random import generator, root_seed, seeds_within, spawn_seed


def test_seeds_depend_on_names_not_on_order() -> None:
    assert spawn_seed(0, "buy", "own") == 1_832_739_291  # on every machine
    seeds = {spawn_seed(root, name) for root in (0, 1) for name in ("buy", "click", "spend")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert generator(0, "a").random() == generator(0, "a").random() != generator(0, "b").random()


def test_roots() -> None:
    assert root_seed(7) == root_seed(np.int64(7)) == 7
    assert root_seed(None) != root_seed(None)
    assert root_seed(np.random.RandomState(0)) == root_seed(np.random.RandomState(0))
    assert root_seed(np.random.default_rng(0)) == root_seed(np.random.default_rng(0))
    with pytest.raises(ValueError, match="non-negative integer, got -1"):
        root_seed(-1)
    with pytest.raises(TypeError, match="an int, a RandomState or a Generator, got str"):
        root_seed("seed")


def test_each_part_of_an_estimator_has_a_seed_of_its_own() -> None:
    members = [("a", PerTaskModel(learner=SklearnLearner(Ridge()))), ("b", PerTaskModel(random_state=3))]
    ensemble = AveragingEnsemble(members)
    seeds = seeds_within(ensemble, 0)
    assert seeds.keys() == {"random_state", "a__random_state", "b__random_state"}  # that of Ridge is its task's
    assert len(set(seeds.values())) == 3
    assert seeds_within(ensemble, 0, unset=True) == {k: v for k, v in seeds.items() if k != "b__random_state"}
    assert seeds_within(ensemble, 0, "other") != seeds


def test_budget() -> None:
    assert n_threads(None) == 1
    assert n_threads(3) == 3
    assert split_budget(4, 2) == (2, 2)
    assert split_budget(2, 5) == (2, 1)
    assert split_budget(None, 5) == (1, 1)
    assert split_budget(2, 0)[0] == 1
    with pytest.raises(ValueError, match="n_jobs=0 is no number of threads; None is one"):
        n_threads(0)
    for wrong in ("two", 1.5):
        with pytest.raises(TypeError, match=f"n_jobs must be an integer or None, got {wrong!r}"):
            n_threads(wrong)


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_thread_limit_holds_and_lets_go() -> None:
    before = blas_threads()
    with thread_limit(1):
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert blas_threads() == before
