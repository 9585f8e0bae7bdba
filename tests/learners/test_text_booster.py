"""Boosters that wait as text behave as those that LightGBM has read."""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import lightgbm as lgb
import numpy as np
import pytest

from mtl_classic.learners._flat_trees import FlatTrees, can_flatten, flat_trees_for
from mtl_classic.learners._text_booster import TextBooster, tree_sizes

X = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
OBJECTIVES = ("binary", "multiclass", "regression")


def boost(objective: str = "binary", n_rounds: int = 7) -> lgb.Booster:
    y = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5]) if objective == "multiclass" else (X[:, 0] > 0).astype(float)
    params = {"objective": objective, "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    return lgb.train(params | ({"num_class": 3} if objective == "multiclass" else {}), lgb.Dataset(X, y), n_rounds)


def waiting(booster: lgb.Booster) -> TextBooster:
    attributes = {name: value for name, value in booster.__dict__.items() if name != "_handle"}
    return TextBooster(booster.model_to_string(num_iteration=-1), attributes)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_flat_trees_need_no_reading(objective: str) -> None:
    booster = boost(objective)
    text = waiting(booster)
    assert can_flatten(text)
    for n_rounds in (None, 3, 7):
        (own,), (expected,) = (FlatTrees([(one, n_rounds)]).predict_rows(X) for one in (text, booster))
        np.testing.assert_array_equal(own, expected)
        np.testing.assert_array_equal(own, booster.predict(X, num_iteration=-1 if n_rounds is None else n_rounds))
    assert flat_trees_for(text, 3, 10) is None
    assert flat_trees_for(text, 3, 10_000) is not None
    assert text.num_trees() == booster.num_trees()
    assert type(text) is TextBooster


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_first_method_that_needs_trees_reads_them(objective: str) -> None:
    booster = boost(objective)
    text, known = waiting(booster), booster.model_to_string(num_iteration=-1)
    assert text.model_to_string(num_iteration=-1) == known
    assert type(text) is TextBooster
    np.testing.assert_array_equal(text.predict(X, num_iteration=5), booster.predict(X, num_iteration=5))
    assert type(text) is lgb.Booster
    assert set(text.__dict__) == set(booster.__dict__)
    assert text.num_trees() == booster.num_trees()
    assert text.current_iteration() == booster.current_iteration()
    np.testing.assert_array_equal(text.feature_importance("gain"), waiting(booster).feature_importance("gain"))


def test_copies_and_pickles() -> None:
    booster = boost()
    expected = booster.predict(X)
    for read in (False, True):
        for duplicate in (copy, deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
            text = waiting(booster)
            if read:
                text.predict(X[:1])
            np.testing.assert_array_equal(duplicate(text).predict(X), expected)
            np.testing.assert_array_equal(text.predict(X), expected)
    assert type(pickle.loads(pickle.dumps(waiting(booster)))) is TextBooster


def test_threads_share_one_reading() -> None:
    booster = boost()
    expected = booster.predict(X)
    for _ in range(5):
        text = waiting(booster)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _, one=text: one.predict(X, num_threads=1), range(16)))
        assert all((values == expected).all() for values in found)


def test_none_is_freed_that_was_never_read() -> None:
    text = waiting(boost())
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = text.colour
    del text
    gc.collect()


def test_texts_that_are_not_laid_out_as_they_say() -> None:
    known = boost().model_to_string(num_iteration=-1)
    assert len(tree_sizes(known) or ()) == 7
    assert tree_sizes(boost(n_rounds=3).model_to_string(num_iteration=-1)) is not None
    cut = known.split("end of trees")[0]
    for text in (known.replace("Tree=4", "Tree=5"), known.replace("tree_sizes", "sizes"), cut, "tree\n"):
        assert tree_sizes(text) is None
    assert tree_sizes(known.replace("feature_names=", "feature_names=é")) is None


def test_a_text_is_checked_once_before_it_is_read() -> None:
    booster, seen = boost(), []
    attributes, text = waiting(booster).__dict__, booster.model_to_string(num_iteration=-1)
    attributes = {name: value for name, value in attributes.items() if name != "_text"}
    checked = TextBooster(text, attributes, seen.append)
    assert checked.num_trees() == booster.num_trees()
    assert not seen
    assert checked.model_to_string(num_iteration=-1) == text
    np.testing.assert_array_equal(checked.predict(X), booster.predict(X))
    assert seen == [text]
    assert set(checked.__dict__) == set(booster.__dict__)

    def refuse(text: str) -> None:
        raise ValueError("no such tree")

    for read in (lambda one: one.predict(X), lambda one: FlatTrees([(one, None)]), deepcopy):
        forged = TextBooster(text, attributes, refuse)
        for _ in range(2):
            with pytest.raises(ValueError, match="no such tree"):
                read(forged)
