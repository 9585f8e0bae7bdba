"""What learners are asked for: rows, weights and rounds of each fit, told by a learner that only takes notes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import Learner, PerTaskModel, Task, make_folds
from mtl_classic._core.targets import encode_targets, entire_weight
from mtl_classic.multitask._workbench import (
    Workbench,
    conditional_labels,
    known_share,
    n_events,
    telling_weights,
)

NAN = np.nan
FUNNEL = [Task("click", "binary"), Task("buy", "binary", given="click")]
ASKED: list[Any] = []


class Noted:
    n_rounds = 7

    def predict(self, features: Any, n_threads: int = 1) -> Any:
        return np.zeros(len(features))


class Notes(Learner):
    def __init__(self, early_stops: bool = True) -> None:
        self.early_stops = early_stops

    def bin(self, features: Any, *, n_threads: int = 1) -> Any:
        return None

    def fit_task(self, binned: Any, request: Any) -> Any:
        ASKED.append(request)
        return Noted()


def open_bench(phase: str = "whole", early_stops: bool = True, weight: Any = None, **options: Any) -> Workbench:
    """One hundred rows in time, of which each seventh has no label."""
    time = np.arange(100)
    X = pd.DataFrame({"x": time % 5, "day": time})
    Y = pd.DataFrame({"y": np.where(time % 7, time % 2, NAN)})
    task = Task("y", "binary", delay=options.pop("delay", None))
    model = PerTaskModel([task], learner=Notes(early_stops), time="day", validation_fraction=0.25, **options)
    bench = model._open(X, Y, weight, None)
    bench.phase = phase
    ASKED.clear()
    return bench


LABELLED = np.flatnonzero(np.arange(100) % 7)


@pytest.mark.parametrize("delay", [None, 10])
def test_validation_rows_are_the_latest_after_a_gap_as_long_as_the_delay(delay: Any) -> None:
    bench = open_bench(delay=delay)
    assert bench.split is not None
    train, valid = bench.split
    assert (valid[0], valid[-1]) == (75, 99)
    assert train[-1] == 75 - (delay or 0) - 1


@pytest.mark.parametrize("phase", ["whole", "held out"])
def test_what_does_not_stop_early_is_judged_by_a_fit_without_the_validation_rows(phase: str) -> None:
    bench = open_bench(phase, early_stops=False, refit=False)
    part = bench.fit_entire(bench.targets.tasks[0], judged=True)
    assert ASKED[0].rows.tolist() == LABELLED[LABELLED < 75].tolist()
    assert ASKED[0].valid_rows is None
    assert part.held_out is not None
    if phase == "whole":  # refit=False is for those that stopped
        assert ASKED[1].rows.tolist() == LABELLED.tolist()
    assert len(ASKED) == 1 + (phase == "whole")


def test_boosters_stop_by_the_validation_rows_and_are_then_fitted_on_all_rows() -> None:
    bench = open_bench()
    part = bench.fit_entire(bench.targets.tasks[0])
    first, second = ASKED
    assert first.rows.tolist() == LABELLED[LABELLED < 75].tolist()
    assert first.valid_rows.tolist() == LABELLED[LABELLED >= 75].tolist()
    assert second.rows.tolist() == LABELLED.tolist()
    assert (second.valid_rows, second.n_rounds, second.weight) == (None, 7, None)
    assert first.seed == second.seed
    assert part.held_out is not None
    assert part.held_out is not part.fit


@pytest.mark.parametrize("early_stops", [True, False])
def test_what_is_held_out_sees_no_validation_row(early_stops: bool) -> None:
    for phase, options in (("held out", {}), ("whole", {"refit": False})):
        bench = open_bench(phase, early_stops, **options)
        part = bench.fit_entire(bench.targets.tasks[0])
        (asked,) = ASKED
        whole = bench.phase == "whole" and not early_stops
        assert asked.rows.tolist() == (LABELLED if whole else LABELLED[LABELLED < 75]).tolist()
        assert part.held_out is (part.fit if early_stops else None)


def test_rounds_are_kept_for_the_final_stage_and_constants_are_nothing_to_stop_by() -> None:
    bench = open_bench()
    task = Task("y", "regression")
    bench.fit(task, np.arange(100.0), "amount")
    assert bench.rounds == {("y", "amount"): 7}
    ASKED.clear()
    bench.fit(task, np.where(np.arange(100) < 75, 1.0, np.arange(100)))
    assert [asked.valid_rows for asked in ASKED] == [None]


def test_classes_that_the_fit_did_not_see_are_left_out() -> None:
    bench = open_bench(early_stops=False)
    bench.targets.classes["y"] = np.array(["a", "b", "c"])
    bench.fit(Task("y", "multiclass"), np.r_[-1, NAN, np.arange(98) % 3])
    (asked,) = ASKED
    assert (asked.rows[0], asked.n_classes, asked.groups) == (2, 3, None)


def test_the_final_stage_takes_the_rounds_that_were_found() -> None:
    bench = open_bench("final")
    bench.rounds = {("y", "own"): 5}
    assert bench.fit_entire(bench.targets.tasks[0]).held_out is None
    (asked,) = ASKED
    assert (asked.rows.tolist(), asked.valid_rows, asked.n_rounds) == (LABELLED.tolist(), None, 5)


def test_rows_of_weight_zero_are_not_there_and_scales_multiply_weights() -> None:
    weight = np.where(np.arange(100) % 3, 2.0, 0.0)
    scale = np.linspace(1, 2, 100)
    rows = LABELLED[LABELLED % 3 > 0]
    bench = open_bench(early_stops=False, weight=weight)
    task = bench.targets.tasks[0]
    bench.fit(task, bench.targets.view("y"))
    bench.fit(task, bench.targets.view("y"), scale=scale)
    bench.weights = None
    bench.fit(task, bench.targets.view("y"), scale=scale)
    for asked, of_rows, expected in zip(ASKED, (rows, rows, LABELLED), (weight, weight * scale, scale), strict=True):
        assert asked.rows.tolist() == of_rows.tolist()
        assert asked.weight[of_rows].tolist() == expected[of_rows].tolist()


def test_rows_of_a_query_come_together_with_their_labels_weights_and_folds() -> None:
    """Each row is known by its weight, whatever its place."""
    row = np.arange(120)
    X, Y = pd.DataFrame({"x": row, "q": row % 30}), pd.DataFrame({"rank": row // 3 % 4, "other": row % 2})
    tasks = [Task("rank", "ranking", query="q"), Task("other", "binary")]
    plan = make_folds(3, Y, groups=X["q"], random_state=0)
    weight = 1.0 + np.random.default_rng(0).permutation(120)
    at = np.argsort(weight)  # the row of weight 1, 2 …
    ASKED.clear()
    PerTaskModel(tasks, learner=Notes(), refit=False).fit(X, Y, sample_weight=weight, plan=plan)
    for name, asked in zip(Y, ASKED, strict=True):
        rows = at[asked.weight.astype(int) - 1]
        assert sorted(rows[asked.rows]) == sorted(plan.last[0])
        assert sorted(rows[asked.valid_rows]) == sorted(plan.last[1])
        np.testing.assert_array_equal(asked.y, Y[name].to_numpy()[rows])
        assert (np.diff(X["q"].to_numpy()[rows]) != 0).sum() == 29
        assert (asked.groups is not None) is (name == "rank")


def test_too_few_events_or_one_class_are_nothing_to_stop_by() -> None:
    for positives in ([3, 40, 60], [*range(1, 70, 3), 80], range(75, 100)):
        bench = open_bench()
        y = np.zeros(100)
        y[list(positives)] = 1
        bench.fit(bench.targets.tasks[0], y)
        (asked,) = ASKED
        assert asked.valid_rows is None
        assert len(asked.rows) == 100
        ASKED.clear()


@pytest.mark.parametrize(
    ("kind", "labels", "events"),
    [
        ("binary", [0, 0, 0, 1], 1),
        ("binary", [1, 1, 1, 0], 1),
        ("multiclass", [0, 2, 2, 1, 2], 2),
        ("count", [0, 3, 0, 1], 2),
        ("ranking", [0, 3, 0, 1, 1], 3),
        ("regression", [0.0, 0.0, 1.5], 3),
    ],
)
def test_events_are_the_labels_that_tell_something(kind: str, labels: list, events: int) -> None:
    task = Task("y", kind, query="q" if kind == "ranking" else None)
    assert n_events(task, np.array(labels, dtype=float)) == events


def test_zeros_that_only_the_parent_tells_weigh_the_share_of_labelled_children() -> None:
    #                 told     labelled      unlabelled          no parent
    click = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, NAN, NAN]
    buy = [0, NAN, 0, 0, 0, 1, 1, NAN, NAN, NAN, NAN, NAN, 0, 1]
    targets = encode_targets(pd.DataFrame({"click": click, "buy": buy}), FUNNEL)
    share = known_share(targets, FUNNEL[1], None)
    assert share is not None
    np.testing.assert_allclose(share, [3 / 8] * 4 + [1] * 10)
    assert known_share(targets, FUNNEL[0], None) is None
    odd = pd.DataFrame({"click": [*click, 0], "buy": [*buy, 1]})  # a child that happened where its parent did not
    dropped = known_share(encode_targets(odd, FUNNEL, on_conflict="drop"), FUNNEL[1], None)
    assert dropped is not None
    np.testing.assert_allclose(dropped[:-1], [3 / 8] * 4 + [1] * 10)
    complete = encode_targets(pd.DataFrame({"click": click, "buy": np.nan_to_num(buy)}), FUNNEL)
    assert known_share(complete, FUNNEL[1], None) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_the_known_share_along_a_chain_and_with_weights(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    chain = [*FUNNEL, Task("spend", "regression", given="buy")]
    click, buy = rng.random(300) < 0.6, rng.random(300) < 0.5
    spend = np.where(rng.random(300) < 0.7, rng.integers(0, 3, 300), NAN)
    Y = pd.DataFrame({"click": click, "buy": click & buy, "spend": np.where(click & buy, spend, NAN)}).astype(float)
    w = rng.integers(0, 4, (300, 3)).astype(float) if weighted else np.ones((300, 3))
    targets = encode_targets(Y, chain)
    held, bought = click & buy, click & buy & ~np.isnan(spend) & (w[:, 2] > 0)
    below = w[bought, 1].sum() / w[held, 1].sum()
    told = w[bought, 0].sum() + below * w[click & ~buy & (w[:, 2] > 0), 0].sum()
    expected = np.where(held, 1.0, np.where(click, below, told / w[click, 0].sum()))
    share = known_share(targets, chain[2], w if weighted else None)
    assert share is not None
    np.testing.assert_allclose(share, expected)
    entire = entire_weight(targets, chain[2], w if weighted else None)
    assert entire is not None
    np.testing.assert_allclose(entire, expected * w[:, 2])


@pytest.mark.parametrize("click", [[0, 0, 1], [0, 0, 0]])
def test_without_a_label_where_the_parent_is_positive_zeros_count_whole(click: list) -> None:
    targets = encode_targets(pd.DataFrame({"click": click, "buy": [NAN, 0, NAN]}), FUNNEL)
    assert known_share(targets, FUNNEL[1], None) is None


def test_a_ranking_below_a_parent_is_conditional_everywhere() -> None:
    tasks = [FUNNEL[0], Task("grade", "ranking", query="q", given="click")]
    targets = encode_targets(pd.DataFrame({"click": [0, 1, 1, NAN, NAN], "grade": [0, 0, 2, 0, 1]}), tasks)
    for space in ("entire", "conditional"):
        np.testing.assert_equal(targets.view("grade", space), [NAN, 0, 2, NAN, 1])
    assert known_share(targets, tasks[1], None) is None


def test_children_of_unknown_parents_teach_nothing_where_only_those_that_happened_are_seen() -> None:
    Y = pd.DataFrame({"click": [0, 1, 1, NAN, NAN], "buy": [0, 0, 1, 1, 0]})
    targets = encode_targets(Y, FUNNEL)
    np.testing.assert_equal(targets.view("buy", "conditional"), [NAN, 0, 1, 1, NAN])
    np.testing.assert_equal(conditional_labels(targets, FUNNEL[1]), [NAN, 0, 1, NAN, NAN])
    only = encode_targets(Y.assign(buy=[0, 0, 0, 1, NAN]), FUNNEL)  # where no other child happened they stay
    np.testing.assert_equal(conditional_labels(only, FUNNEL[1]), [NAN, 0, 0, 1, NAN])
    amounts = [FUNNEL[0], Task("spend", "regression", given="click")]
    spend = encode_targets(Y.assign(spend=[0, 5.0, 2.0, 9.0, 0]), amounts)
    np.testing.assert_equal(conditional_labels(spend, amounts[1]), [NAN, 5, 2, 9, NAN])
    np.testing.assert_equal(conditional_labels(spend, amounts[0]), spend.view("click"))
    ways = [FUNNEL[0], Task("way", "multiclass", given="click")]
    way = encode_targets(Y.assign(way=[None, "a", "b", "a", None]), ways)
    np.testing.assert_equal(conditional_labels(way, ways[1]), [NAN, 0, 1, 0, NAN])


def test_weights_without_a_scale_add_up_to_the_effective_number_of_rows() -> None:
    y = np.r_[np.tile([0.0, 1.0], 50), NAN]
    targets = encode_targets(pd.DataFrame({"a": y, "b": y}), [Task("a", "binary"), Task("b", "binary")])
    own = np.r_[np.random.default_rng(0).random(100), 50.0]  # the last row has no label
    told = telling_weights(np.column_stack([own / 1e9, own]), targets)
    assert told is not None
    assert told[:, 1].tolist() == own.tolist()
    assert told[:100, 0].sum() == pytest.approx(own[:100].sum() ** 2 / (own[:100] ** 2).sum())
    np.testing.assert_allclose(told[:, 0] / told[0, 0], own / own[0])
    assert telling_weights(None, targets) is None
    spread = np.full(101, 5e-4)
    spread[0] = 0.02  # the largest is not tiny, the typical one is
    told = telling_weights(np.column_stack([spread, np.zeros(101)]), targets)
    assert told is not None
    assert told[:100, 0].sum() == pytest.approx(spread[:100].sum() ** 2 / (spread[:100] ** 2).sum())
    assert not told[:, 1].any()
