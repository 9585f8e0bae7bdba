"""Rows that look like consecutive measurements are not held out at random without a word."""

import warnings

import numpy as np
import pandas as pd
import pytest

from mtl_classic import PerTaskModel, RowOrderWarning, make_folds
from mtl_classic.model_selection._row_order import neighbour_correlation
from mtl_classic.model_selection._validation_split import validation_split

N = 400
HOURS = np.cumsum(np.random.default_rng(0).normal(size=N))  # a river, hour by hour
NOISE = np.random.default_rng(1).normal(size=N)


@pytest.mark.parametrize("labels", [HOURS, NOISE], ids=["hours", "noise"])
def test_the_correlation_is_that_of_the_rank_of_each_row_with_the_next(labels):
    assert neighbour_correlation(labels) == pytest.approx(pd.Series(labels).rank().autocorr(), abs=0.01)
    assert neighbour_correlation(np.exp(5 * labels)) == neighbour_correlation(labels)


@pytest.mark.parametrize(
    "labels",
    [
        NOISE,
        np.sort(NOISE),
        np.repeat([0.0, 1.0], N // 2),
        np.repeat(np.arange(20.0), N // 20),
        HOURS[:50],
        np.r_[NOISE[: N // 2], 1e6 + NOISE[N // 2 :]],
    ],
    ids=["noise", "sorted", "classes in runs", "small counts in runs", "few rows", "a jump of level"],
)
def test_harmless_orders_pass_in_silence(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_folds(4, labels, random_state=0)
        validation_split(labels, 0.25, random_state=0)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_consecutive_rows_held_out_at_random_are_warned_of_by_the_task_s_name(missing):
    labels = pd.DataFrame(
        {"noise": NOISE, "flow": np.where(np.random.default_rng(2).random(N) < missing, np.nan, HOURS)}
    )
    for hold_out in (lambda: make_folds(4, labels), lambda: validation_split(labels, 0.25)):
        with pytest.warns(RowOrderWarning, match=r"'flow': neighbouring rows .* name the time column"):
            hold_out()


def test_time_or_groups_or_folds_of_one_s_own_are_an_answer():
    block = np.arange(N) // 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_folds(4, HOURS, time=np.arange(N))
        make_folds(4, HOURS, groups=block)
        make_folds(block, HOURS)
        validation_split(HOURS, 0.25, time=np.arange(N))
        validation_split(HOURS, 0.25, groups=block)


def test_a_model_says_it_once_and_not_where_a_plan_is_given():
    X = pd.DataFrame({"level": HOURS + NOISE})
    model = PerTaskModel({"flow": "regression"}, random_state=0)
    with pytest.warns(RowOrderWarning) as caught:
        model.fit(X, HOURS)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, HOURS, plan=make_folds(4, HOURS, groups=np.arange(N) // 50))
