"""Fold plans: spread evenly, whole groups, blocks of time, and what can't be done."""

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

from mtl_classic import FoldError, LabelError, Task, Temporal, make_folds
from mtl_classic.model_selection._dealing import _strata
from mtl_classic.model_selection._folds import _blocks
from mtl_classic.model_selection._maturity import mask_immature, temporal_folds
from mtl_classic.model_selection._validation_split import validation_split

rng = np.random.default_rng(0)


def test_every_row_is_predicted_once_by_a_model_that_did_not_see_it() -> None:
    plan = make_folds(4, np.zeros(21), random_state=0)
    assert len(plan) == 4
    assert np.bincount(plan.fold).tolist() == [6, 5, 5, 5]
    for train, test in plan.splits:
        assert len(np.intersect1d(train, test)) == 0
        assert len(train) + len(test) == 21
    assert plan.last is plan.splits[-1]


def test_folds_are_pure() -> None:
    Y = (rng.random(100) < 0.3).astype(float)
    assert (make_folds(3, Y, random_state=1).fold == make_folds(3, Y, random_state=1).fold).all()
    assert (make_folds(3, Y, random_state=1).fold != make_folds(3, Y, random_state=2).fold).any()


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_rare_positives_of_every_task_are_spread(missing: float) -> None:
    n = 2000
    Y = pd.DataFrame({f"common{j}": (rng.random(n) < 0.4).astype(float) for j in range(6)})
    Y = Y.mask(rng.random(Y.shape) < missing)
    Y["rare"], Y["count"] = 0.0, rng.poisson(3.0, n)
    Y.loc[rng.choice(n, 10, replace=False), "rare"] = 1
    fold = make_folds(5, Y, random_state=0).fold
    assert np.bincount(fold[Y["rare"] == 1], minlength=5).tolist() == [2, 2, 2, 2, 2]


def slow_strata(Y: pd.DataFrame) -> list:
    """The rarest class of each row over the tasks by name, the first of equals, and which tasks are unlabelled."""
    keys: list = []
    for _, row in Y.iterrows():
        known = [
            (int((Y[name] == row[name]).sum()), name, row[name]) for name in sorted(Y.columns) if row[name] == row[name]
        ]
        keys.append((min(known, key=lambda one: one[0])[1:] if known else None, *row.isna()))
    return keys


def test_a_stratum_is_a_rarest_class_and_a_pattern_of_missing_labels() -> None:
    random = np.random.default_rng(1)
    Y = pd.DataFrame({name: random.choice([0.0, 1.0, 2.0], 300, p=[0.7, 0.25, 0.05]) for name in "cab"})
    Y = Y.mask(random.random(Y.shape) < 0.3)
    strata, counts = _strata(Y)
    keys = slow_strata(Y)
    assert len(set(zip(strata, keys, strict=True))) == len(set(strata)) == len(set(keys)) > 20
    rarest = Y.apply(lambda column: column.map(column.value_counts())).min(axis=1).fillna(len(Y) + 1)
    assert counts.tolist() == rarest.tolist()
    many = pd.DataFrame({"spend": np.where(np.arange(300) < 100, 0, np.arange(300))})
    assert _strata(many)[1].tolist() == [100] * 100 + [200] * 200  # of many values: zero or not


def test_nullable_integers_with_many_values() -> None:
    Y = pd.DataFrame({"n": pd.array([*range(30), None, None], dtype="Int64")})
    assert np.bincount(make_folds(4, Y, random_state=0).fold).tolist() == [8, 8, 8, 8]


@given(st.lists(st.integers(0, 15), min_size=40, max_size=80))
def test_groups_are_never_split(groups: list) -> None:
    n_groups = len(set(groups))
    if n_groups < 3:
        with pytest.raises(FoldError, match=f"3 folds need at least as many groups; got n_groups={n_groups}"):
            make_folds(3, np.zeros(len(groups)), groups=groups, random_state=0)
        return
    fold = make_folds(3, np.zeros(len(groups)), groups=groups, random_state=0).fold
    assert (pd.Series(fold).groupby(groups).nunique() == 1).all()


def test_groups_of_several_columns_and_missing_ones() -> None:
    groups = pd.DataFrame({"user": [1, 1, 1, 2, 2, None], "day": [1, 1, 2, 1, 1, 1]})
    fold = make_folds(2, np.zeros(6), groups=groups, random_state=0).fold
    assert fold[0] == fold[1]
    assert fold[3] == fold[4]


@pytest.mark.parametrize("nobody", [np.nan, None])
def test_missing_groups_are_a_group_each(nobody: Any) -> None:
    groups = np.where(np.arange(300) % 3 == 0, np.arange(300) // 15, nobody)
    texts = [f"u{user}" if k % 3 == 0 else user for k, user in enumerate(groups.tolist())]
    for given_groups in (groups, pd.Series(groups), pd.DataFrame({"user": groups, "shop": nobody}), texts):
        fold = make_folds(5, np.zeros(300), groups=given_groups, random_state=0).fold
        assert np.bincount(fold).min() > 40
        assert (pd.Series(fold).groupby(groups).nunique() == 1).all()


def test_groups_as_tuples() -> None:
    user, day = rng.integers(0, 9, 60), rng.choice(["a", "b"], 60)
    frame = pd.DataFrame({"user": user, "day": day})
    pairs = list(zip(user.tolist(), day.tolist(), strict=True))
    expected = make_folds(3, np.zeros(60), groups=frame, random_state=0).fold
    for groups in (pairs, pl.from_pandas(frame), frame.to_numpy()):
        assert (make_folds(3, np.zeros(60), groups=groups, random_state=0).fold == expected).all()


def slow_blocks(counts: np.ndarray, blocks: int) -> np.ndarray:
    """One time after the other."""
    n, middle = len(counts), (np.cumsum(counts) - counts / 2) / counts.sum()
    block = np.minimum((middle * blocks).astype(np.intp), blocks - 1)
    for k in range(blocks):
        block[k] = min(block[k], k)
        block[n - 1 - k] = max(block[n - 1 - k], blocks - 1 - k)
    for i in range(1, n):
        block[i] = min(max(block[i], block[i - 1]), block[i - 1] + 1)
    for i in range(n):
        block[i] = max(block[i], blocks - (n - i))
    return np.maximum.accumulate(block)


@given(st.lists(st.integers(1, 50) | st.sampled_from([1, 1000]), min_size=2, max_size=40), st.integers(2, 9))
def test_blocks_are_those_made_one_time_after_the_other(counts: list, blocks: int) -> None:
    assume(len(counts) >= blocks)
    block = _blocks(np.array(counts), blocks)
    assert block.tolist() == slow_blocks(np.array(counts), blocks).tolist()
    assert set(block) == set(range(blocks))


times = st.lists(st.integers(0, 12), min_size=8, max_size=60)


@given(times, st.integers(1, 4), st.integers(0, 3))
def test_temporal_folds_train_on_the_past_only(time: list, n_splits: int, gap: int) -> None:
    stamps = np.array(time)
    if len(set(time)) <= n_splits:
        return
    try:
        plan = make_folds(Temporal(n_splits, gap), np.zeros(len(time)), time=time)
    except FoldError:  # of the gap: the first block is too short for it
        first = make_folds(Temporal(n_splits), np.zeros(len(time)), time=time).splits[0][1]
        assume(stamps[first].min() - gap > stamps.min())
        raise
    assert plan.temporal
    assert len(plan) == n_splits
    previous_end = -1
    for train, test in plan.splits:
        assert stamps[train].max() < stamps[test].min() - gap
        assert stamps[test].min() > previous_end  # blocks follow each other, a time is never split
        previous_end = stamps[test].max()
        assert (stamps[train] < stamps[test].min() - gap).sum() == (stamps < stamps[test].min() - gap).sum()
    assert previous_end == stamps.max()
    assert (stamps[plan.fold == -1] < stamps[plan.splits[0][1]].min()).all()


def test_blocks_of_time_hold_about_equally_many_rows() -> None:
    assert _blocks(np.array([2, 5, 3]), 2).tolist() == [0, 0, 1]  # the middle of the 5 lies in the first half
    time = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, 4000), unit="D")
    plan = make_folds(4, np.zeros(4000), time=time)
    sizes = [len(test) for _, test in plan.splits]
    assert min(sizes) > 700
    assert max(sizes) < 900


def test_a_gap_in_days_also_on_texts() -> None:
    time = pd.date_range("2024-01-01", periods=40, freq="D")
    dates, texts = (make_folds(Temporal(3, "5D"), np.zeros(40), time=t) for t in (time, time.strftime("%Y-%m-%d")))
    assert [len(train) for train, _ in dates.splits] == [len(train) for train, _ in texts.splits] == [5, 15, 25]


def test_a_query_lies_within_one_time() -> None:
    with pytest.raises(FoldError, match="1 groups have rows in more than one block of time; .* users are kept"):
        make_folds(2, np.zeros(6), time=[1, 1, 2, 2, 3, 3], groups=["a", "a", "b", "c", "b", "c"][:1] + list("abcbd"))
    assert len(make_folds(2, np.zeros(6), time=[1, 1, 2, 2, 3, 3], groups=list("aabbcc"))) == 2


def test_given_fold_numbers() -> None:
    plan = make_folds([0, 2, -1, 2, 0, 5], np.zeros(6))
    assert plan.fold.tolist() == [0, 1, -1, 1, 0, 2]
    assert plan.splits[0][0].tolist() == [1, 2, 3, 5]  # rows of no fold still train


@pytest.mark.parametrize(
    "splitter", [KFold(3), StratifiedKFold(3), GroupKFold(3), TimeSeriesSplit(3)], ids=lambda s: type(s).__name__
)
def test_splitters_of_scikit_learn(splitter: Any) -> None:
    y, groups = np.tile([0, 1], 15), np.repeat(np.arange(15), 2)
    needs_groups = isinstance(splitter, GroupKFold)
    plan = make_folds(splitter, y, groups=groups if needs_groups else None)
    expected = list(splitter.split(np.zeros((30, 1)), y, groups if needs_groups else None))
    for (train, test), (wanted_train, wanted_test) in zip(plan.splits, expected, strict=True):
        assert (train == wanted_train).all()
        assert (test == wanted_test).all()


@pytest.mark.parametrize(
    ("cv", "options", "error", "says"),
    [
        (1, {}, FoldError, "cv=1: at least two folds"),
        (None, {}, TypeError, "cv must be an int, a splitter, Temporal"),
        (True, {}, TypeError, "cv must be an int"),
        (7, {}, FoldError, "7 folds need at least as many rows; got n_samples=6. Use fewer folds"),
        (Temporal(2), {}, FoldError, "need the time of each row; give time="),
        (5, {"time": [1, 1, 2, 2, 3, 3]}, FoldError, "need 6 distinct times, got 3; use fewer splits"),
        (2, {"time": [1, 2]}, FoldError, "time has 2 values for 6 rows"),
        (Temporal(2, gap=5), {"time": [1, 1, 2, 2, 3, 3]}, FoldError, "gap 5 leaves no training rows"),
        ([0, 1, 0, 1, 0], {}, FoldError, r"must be 6 integers, got shape \(5,\)"),
        ([0.0, 1, 0, 1, 0, 1], {}, FoldError, "must be 6 integers, got .* of float64"),
        ([0, 0, 0, -1, 0, 0], {}, FoldError, "At least two folds are needed, got 1"),
        ([0, 1, 0, 1, 0, 1], {"groups": [1, 1, 2, 2, 3, 3]}, FoldError, "splits 3 groups .* use whole groups"),
        (KFold(3), {"groups": [1, 2, 2, 2, 3, 3]}, FoldError, "splits 1 groups"),
        (RepeatedKFold(n_splits=2), {}, FoldError, "predicted by more than one fold"),
        (ShuffleSplit(3, test_size=0.5, random_state=0), {}, FoldError, "predicted by more than one fold"),
        ("five", {}, TypeError, "cv must be an int, a splitter, .* got 'five'"),
        (2.0, {}, TypeError, "cv must be an int, a splitter, .* got 2.0"),
        (2, {"groups": [1, 2]}, FoldError, "groups has 2 values for 6 rows"),
    ],
)
def test_folds_that_are_refused(cv: Any, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make_folds(cv, np.zeros(6), **options)


def test_a_splitter_that_needs_one_label_is_told_of_several_tasks() -> None:
    with pytest.raises(FoldError, match="cannot split rows of several tasks.*stratified for every task"):
        make_folds(StratifiedKFold(3), np.tile([[0, 1], [1, 0]], (5, 1)))


def test_a_splitter_that_trains_on_what_it_predicts_is_refused() -> None:
    class Cheating:
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
            yield np.arange(6), np.arange(3)
            yield np.arange(3), np.arange(3, 6)

    with pytest.raises(FoldError, match="Fold 0 trains on 3 of the rows that it predicts"):
        make_folds(Cheating(), np.zeros(6))


def test_temporal_needs_a_split() -> None:
    with pytest.raises(FoldError, match="at least one split, got n_splits=0"):
        Temporal(0)


def test_validation_rows_are_the_latest() -> None:
    train, valid = validation_split(np.zeros(100), 0.1, time=np.arange(100)[::-1], gap=5) or (None, None)
    assert sorted(valid) == list(range(10))
    assert sorted(train) == list(range(15, 100))


@pytest.mark.parametrize(("days", "fraction", "held_out"), [(10, 0.1, 1), (4, 0.25, 1), (9, 1 / 3, 3), (10, 0.3, 3)])
def test_of_equal_days_as_many_as_asked_for_are_held_out(days: int, fraction: float, held_out: int) -> None:
    time = np.tile(np.arange(days), 7)
    _, valid = validation_split(np.zeros(len(time)), fraction, time=time) or (None, None)
    assert sorted(set(time[valid])) == list(range(days - held_out, days))


def test_the_first_time_is_never_all_of_the_validation() -> None:
    train, valid = validation_split(np.zeros(10), 0.5, time=[0] * 8 + [1, 2]) or (None, None)
    assert (list(train), list(valid)) == (list(range(8)), [8, 9])


def test_validation_never_splits_a_query() -> None:
    groups = np.repeat(np.arange(20), 5)
    for time in (None, rng.integers(0, 50, 100)):
        train, valid = validation_split(np.zeros(100), 0.2, groups=groups, time=time, random_state=0) or (None, None)
        assert len(np.intersect1d(groups[train], groups[valid])) == 0
        assert len(valid) >= 10


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.4, 0.15, 0.75, 0.001])
def test_the_share_asked_for_is_held_out_of_every_stratum(fraction: float) -> None:
    y = np.repeat([0.0, 1.0, np.nan], [6000, 300, 700])
    train, valid = validation_split(y, fraction, random_state=0) or (None, None)
    assert sorted([*train, *valid]) == list(range(7000))
    assert len(valid) == math.ceil(7000 * fraction)
    for stratum in (y == 0, y == 1, np.isnan(y)):
        assert abs(stratum[valid].sum() - fraction * stratum.sum()) <= 1
    if fraction in (0.1, 0.25):
        np.testing.assert_array_equal(valid, make_folds(round(1 / fraction), y, random_state=0).splits[0][1])


def test_where_nothing_can_be_held_out() -> None:
    assert validation_split(np.zeros(4), 0.9, random_state=0) is None
    assert validation_split(np.zeros(3), 0.1, random_state=0) is None
    assert validation_split(np.zeros(30), 0.1, time=np.ones(30)) is None
    assert validation_split(np.zeros(30), 0.1, groups=np.ones(30), random_state=0) is None
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        validation_split(np.zeros(30), 1.5)


BUY = Task("buy", "binary", given="view", delay=3)
FUNNEL = (Task("view", "binary"), BUY, Task("spend", "regression", given="buy"))


def test_immature_labels_are_masked() -> None:
    Y = pd.DataFrame(1.0, index=range(10), columns=["view", "buy", "spend"])
    masked, counts = mask_immature(Y, FUNNEL, np.arange(10))
    assert counts == {"buy": 3, "spend": 3}
    assert masked["view"].notna().all()
    assert masked["buy"].isna().tolist() == [False] * 7 + [True] * 3
    assert Y.notna().all().all()
    assert mask_immature(Y, FUNNEL, np.arange(10), end=12)[1] == {"buy": 0, "spend": 0}
    with pytest.raises(LabelError, match="No label of 'buy' is mature.*give a log that reaches further"):
        mask_immature(Y, FUNNEL, np.arange(10), end=1)


def test_gaps_are_as_long_as_the_longest_delay() -> None:
    time = np.arange(40)
    for cv in (4, Temporal(4), Temporal(4, gap=1), Temporal(4, gap=6)):
        plan = temporal_folds(cv, np.zeros(40), FUNNEL, time)
        gap = 6 if cv == Temporal(4, gap=6) else 3
        assert len(plan) == 4
        assert all(time[train].max() == time[test].min() - gap - 1 for train, test in plan.splits)
    late = (Task("buy", "binary", delay=15),)
    assert len(temporal_folds(5, np.zeros(40), late, time)) == 1  # fewer, larger blocks
    with pytest.raises(FoldError, match="leaves no training rows"):
        temporal_folds(5, np.zeros(40), (Task("buy", "binary", delay=35),), time)


@pytest.mark.parametrize("cv", [3, Temporal(3)])
@pytest.mark.parametrize("form", [lambda t: t, lambda t: pd.Timestamp("2024-01-01") + pd.to_timedelta(t, "D")])
def test_a_query_that_lives_on_into_a_block_of_time_belongs_to_it(cv: Any, form: Any) -> None:
    time = np.random.default_rng(0).permutation(40)
    queries = time // 2 % 5 + 5 * (time // 15)  # each of several times, apart by up to 11
    plan = temporal_folds(cv, np.zeros(40), (Task("view", "binary"),), form(time), groups=queries)
    assert len(plan) == 3
    last = pd.Series(time).groupby(queries).transform("max").to_numpy()
    for train, test in plan.splits:
        assert not set(queries[train]) & set(queries[test])
        assert last[train].max() < last[test].min()
    assert set(np.concatenate([plan.splits[0][0], *(test for _, test in plan.splits)])) == set(range(40))


@pytest.mark.parametrize("form", [list, iter, lambda pairs: [(np.isin(np.arange(12), a), b) for a, b in pairs]])
def test_pairs_of_training_and_test_rows(form: Any) -> None:
    pairs = list(TimeSeriesSplit(3).split(np.zeros((12, 1))))
    plan = make_folds(form(pairs), np.zeros((12, 2)))
    for found, expected in zip(plan.splits, pairs, strict=True):
        assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]


@pytest.mark.parametrize(
    ("cv", "says"),
    [
        ([([0, 1], [2]), ([0, 2], [1], [3])], "Fold 1 of cv must be a pair .* got 3 parts"),
        ([([0.0, 1.0], [2])], "Fold 0 of cv must be a pair .* of float64"),
        ([([0, 1], [6])], "Fold 0 of cv names rows from 6 to 6; there are 0 to 5"),
        ([([0, 1], [-1])], "names rows from -1 to -1"),
        ([([0, 1], [1])], "Fold 0 trains on 1 of the rows"),
    ],
)
def test_pairs_that_are_refused(cv: Any, says: str) -> None:
    with pytest.raises(FoldError, match=says):
        make_folds(cv, np.zeros(6))


@pytest.mark.parametrize("splitter", [GroupKFold(3), GroupShuffleSplit(1), StratifiedGroupKFold(3)], ids=str)
@pytest.mark.parametrize("n_tasks", [1, 2])
def test_a_splitter_of_groups_asks_for_them(splitter: Any, n_tasks: int) -> None:
    with pytest.raises(FoldError, match="keeps groups whole, and was given none. Give them as groups="):
        make_folds(splitter, np.tile([[0] * n_tasks, [1] * n_tasks], (6, 1)))


@pytest.mark.parametrize("rare", ["a", "c"])
def test_rare_positives_are_spread_over_groups_whatever_comes_first(rare: str) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 3000)
    Y = pd.DataFrame({name: rng.integers(0, 2, 3000) for name in "abc"})
    Y[rare] = np.isin(groups, np.arange(10)) & (rng.random(3000) < 0.6)
    for first in (True, False):
        order = np.argsort(Y[rare].to_numpy() != first, kind="stable")
        plan = make_folds(5, Y.iloc[order], groups=groups[order], random_state=0)
        positives = Y[rare].to_numpy()[order]
        assert [len(np.unique(groups[order][test][positives[test]])) for _, test in plan.splits] == [2] * 5


def test_a_number_of_splits_is_whole() -> None:
    for wrong in (2.5, "3", True):
        with pytest.raises(TypeError, match="n_splits must be an integer"):
            Temporal(wrong)  # type: ignore[arg-type]


def test_rows_without_labels_count_for_no_block_of_time() -> None:
    time, y = np.arange(60), np.where(np.arange(60) < 30, np.nan, 1.0)
    plan = make_folds(Temporal(2), np.column_stack([y, y]), time=time)
    np.testing.assert_array_equal(np.unique(plan.fold, return_counts=True)[1], [40, 10, 10])
    np.testing.assert_array_equal(plan.splits[0][0], np.arange(40))
    some = np.column_stack([y, np.zeros(60)])
    np.testing.assert_array_equal(make_folds(Temporal(2), some, time=time).fold, np.repeat([-1, 0, 1], 20))
