"""Ranking metrics: equal to their twins, whatever the ties, weights, groups and row order."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import metrics as mc
from tests._reference import metrics_ranking as slow

PAIRS = {
    "ndcg": (mc.ndcg, slow.ndcg_of_query, True),
    "map": (mc.mean_average_precision, slow.average_precision_of_query, True),
    "auc": (mc.grouped_auc, slow.auc_of_query, False),
}


def ranked(seed, n=14, steps=4):
    random = np.random.default_rng(seed)
    y = np.where(random.random(n) < 0.15, np.nan, random.integers(0, 4, n) * random.integers(0, 2, n))
    groups, scores = random.integers(0, 4, n), random.integers(0, steps, n).astype(float)
    return y, scores, groups, random.integers(0, 3, n).astype(float)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("k", [None, 1, 3])
@given(seed=st.integers(0, 10**6), weighted=st.booleans())
def test_equals_the_twin(name, k, seed, weighted):
    fast, twin, has_k = PAIRS[name]
    y, scores, groups, weight = ranked(seed)
    weight = weight if weighted else np.ones(len(y))
    options = {"k": k} if has_k else {}
    expected = slow.over_queries(twin, y, scores, groups, weight, **options)
    assert fast(y, scores, groups, sample_weight=weight, **options) == pytest.approx(expected, rel=1e-10, nan_ok=True)


@given(st.integers(0, 10**6))
def test_linear_gains_equal_the_twin(seed):
    y, scores, groups, _ = ranked(seed)
    expected = slow.over_queries(slow.ndcg_of_query, y, scores, groups, gain="linear", k=3)
    assert mc.ndcg(y, scores, groups, k=3, gain="linear") == pytest.approx(expected, rel=1e-10, nan_ok=True)


@pytest.mark.parametrize("metric", [mc.ndcg, mc.mean_average_precision, mc.grouped_auc])
def test_row_order_and_names_of_groups_do_not_matter(metric):
    y, scores, groups, weight = ranked(3, n=200, steps=20)
    shuffle = np.random.default_rng(0).permutation(200)
    value = metric(y, scores, groups, sample_weight=weight)
    assert metric(y[shuffle], scores[shuffle], groups[shuffle], sample_weight=weight[shuffle]) == pytest.approx(value)
    named = np.array(["b", "a", "zz", "c"], dtype=object)[groups]
    assert metric(y, scores, named, sample_weight=weight) == pytest.approx(value)
    columns = pd.DataFrame({"user": groups // 2, "day": groups % 2})
    assert metric(y, scores, columns, sample_weight=weight) == pytest.approx(value)
    assert metric(y, scores, columns.to_numpy(), sample_weight=weight) == pytest.approx(value)


@pytest.mark.parametrize("metric", [mc.ndcg, mc.mean_average_precision, mc.grouped_auc])
def test_values_of_the_queries(metric):
    y, scores = np.array([1, 0, 0, 0, np.nan, 1.0]), np.array([3.0, 2, 1, 2, 1, 1])
    values = metric(y, scores, ["a", "a", "b", "b", "c", "a"], average=None)
    assert list(values.index) == ["a", "b"]
    assert np.isnan(values["b"])
    assert metric(y, scores, ["a", "a", "b", "b", "c", "a"]) == values["a"]


def test_averages_by_queries_and_by_rows():
    y, scores, groups = [1, 0, 0, 1, 0], [2, 1, 3, 1, 2], ["a", "a", "b", "b", "b"]
    assert mc.grouped_auc(y, scores, groups) == pytest.approx(0.5)
    assert mc.grouped_auc(y, scores, groups, average="row") == pytest.approx(0.4)


def test_a_constant_score_is_worth_chance():
    random = np.random.default_rng(0)
    y, groups = random.integers(0, 2, 40_000), np.repeat(np.arange(4000), 10)
    for metric in (mc.ndcg, mc.mean_average_precision, mc.grouped_auc):
        by_chance = metric(y, random.random(40_000), groups)
        assert metric(y, np.zeros(40_000), groups) == pytest.approx(by_chance, abs=0.01)


def test_the_loss_of_reports_is_one_minus_ndcg():
    y, scores, groups, _ = ranked(8, n=100)
    loss = mc.task_loss("ranking", y, scores, groups=groups)
    assert loss == pytest.approx(1 - mc.ndcg(y, scores, groups))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mc.ndcg([1, 0], [1, 2], ["a", None]), "group is missing in 1 labelled rows"),
        (lambda: mc.ndcg([1, 0], [1, 2], ["a"]), "groups have 1 rows, but there are 2 labels"),
        (lambda: mc.ndcg([1, -1], [1, 2], ["a", "a"]), "must not be negative"),
        (lambda: mc.ndcg([1, 0], [1, 2], ["a", "a"], k=0), "at least 1"),
        (lambda: mc.ndcg([1, 0], [1, 2], ["a", "a"], gain="cubic"), "gain must be"),
        (lambda: mc.ndcg([1, 0], [1, 2], ["a", "a"], average="users"), "average must be"),
        (lambda: mc.grouped_auc([1, 0], [1, np.nan], ["a", "a"]), "NaN in 1 of 2"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("metric", [mc.ndcg, mc.mean_average_precision, mc.grouped_auc])
def test_empty(metric):
    assert np.isnan(metric([], [], []))
    assert metric([], [], [], average=None).empty


@pytest.mark.slow
def test_ten_million_rows():
    random = np.random.default_rng(0)
    n = 10_000_000
    groups, scores = random.integers(0, 500_000, n), random.random(n)
    y = random.integers(0, 3, n) * (random.random(n) < 0.2)
    start = time.perf_counter()
    assert mc.grouped_auc(y, scores, groups) == pytest.approx(0.5, abs=0.002)
    assert 0 < mc.ndcg(y, scores, groups, k=10) < 1
    assert time.perf_counter() - start < 120
