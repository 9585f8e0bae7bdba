"""Boosters of XGBoost are read as it writes them, and refused where their numbers would lead it astray."""

import json
import re
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mtl_classic import ModelFileError
from mtl_classic.persistence._booster_bytes import check_booster_bytes
from mtl_classic.persistence._ubjson import read_ubjson

CATEGORIES: dict[str, Any] = {"objective": "binary:logistic"}
SETTINGS: list[dict[str, Any]] = [
    CATEGORIES, {"objective": "multi:softprob", "num_class": 2, "num_parallel_tree": 2, "subsample": 0.5},
    {"objective": "count:poisson"}, {"objective": "rank:ndcg"}, {"objective": "rank:pairwise"},
    {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8]}, {"multi_strategy": "multi_output_tree"},
    {"gamma": 1e6}, {"gamma": 3.0, "tree_method": "approx"},
]  # fmt: skip


def booster_of(options: dict[str, Any], n_rounds: int = 3) -> xgb.Booster:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)).astype(np.float32)
    X[:, 2] = rng.integers(0, 40, 200)
    y = (X[:, 0] + np.sin(X[:, 2]) > 0).astype(float)
    is_wide = "multi_strategy" in options
    types = ["q", "q", "q" if is_wide else "c"]
    data = xgb.DMatrix(X, np.c_[y, 1 - y] if is_wide else y, feature_types=types, enable_categorical=True)
    return xgb.train({"tree_method": "hist", "max_leaves": 6, "nthread": 1, "verbosity": 0} | options, data, n_rounds)


def bytes_of(options: dict[str, Any]) -> bytes:
    return bytes(booster_of(options).save_raw("ubj"))


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_what_xgboost_writes_is_read(options: dict[str, Any]) -> None:
    booster = booster_of(options)
    check_booster_bytes(bytes(booster.save_raw("ubj")))
    check_booster_bytes(bytes(booster[:2].save_raw("ubj")))


@pytest.mark.filterwarnings("ignore")
def test_dart_is_read() -> None:
    check_booster_bytes(bytes_of({"booster": "dart", "rate_drop": 0.5}))


def test_numbers_are_those_of_the_text() -> None:
    booster = booster_of(CATEGORIES)
    told, text = read_ubjson(bytes(booster.save_raw("ubj"))), json.loads(booster.save_raw("json"))
    trees = told[b"learner"][b"gradient_booster"][b"model"][b"trees"]
    known = text["learner"]["gradient_booster"]["model"]["trees"]
    assert [tree[b"left_children"].size for tree in trees] == [len(tree["left_children"]) for tree in known]
    assert any(tree["categories"] for tree in known)


def with_item(data: bytes, name: str, value: int, at: int = 0) -> bytes:
    """With another item in the first array of a name that is not empty."""
    sign = struct.pack(">q", len(name)) + name.encode() + b"[$"
    forms = {"l": ">i", "L": ">q", "U": ">B"}
    for found in re.finditer(re.escape(sign), data):
        kind = chr(data[found.end()])
        start, form = found.end() + 11, forms[kind]
        if struct.unpack_from(">q", data, found.end() + 3)[0]:
            start += at * struct.calcsize(form)
            return data[:start] + struct.pack(form, value) + data[start + struct.calcsize(form) :]
    raise AssertionError(name)


@pytest.mark.parametrize(("name", "value", "at", "options"), [
    ("left_children", 99, 0, CATEGORIES), ("left_children", 0, 0, CATEGORIES), ("right_children", -5, 0, CATEGORIES),
    ("left_children", 2, 0, CATEGORIES), ("parents", 99, 1, CATEGORIES), ("parents", -1, 2, CATEGORIES),
    ("split_indices", 3, 0, CATEGORIES), ("split_indices", -1, 0, CATEGORIES), ("split_type", 2, 0, CATEGORIES),
    ("categories", -1, 0, CATEGORIES), ("categories", 2**24, 0, CATEGORIES), ("categories_nodes", 99, 0, CATEGORIES),
    ("categories_segments", 99, 0, CATEGORIES), ("categories_sizes", 0, 0, CATEGORIES),
    ("categories_sizes", 2**40, 0, CATEGORIES), ("left_children", -1, 0, SETTINGS[6]),
])  # fmt: skip
def test_trees_that_would_lead_xgboost_astray_are_refused(name: str, value: int, at: int, options: Any) -> None:
    with pytest.raises(ModelFileError, match="XGBoost"):
        check_booster_bytes(with_item(bytes_of(options), name, value, at))


@pytest.mark.parametrize(("old", "new"), [
    (b"idi\x00", b"idi\x63"), (b"tree_info[#L" + bytes(7) + b"\x03i\x00", b"tree_info[#L" + bytes(7) + b"\x03i\x09"),
    (b"binary:logistic", b"multi:softprob!"),
    (b"num_featureSL" + bytes(7) + b"\x013", b"num_featureSL" + bytes(7) + b"\x012"),
    (b"sum_hessian[$d#L", b"sum_hessian[$l#L"), (b"loss_changes", b"loss_chances"), (b"gbtree", b"gbtrea"),
])  # fmt: skip
def test_heads_of_other_trees_are_refused(old: bytes, new: bytes) -> None:
    data = bytes_of(CATEGORIES)
    assert old in data
    with pytest.raises(ModelFileError, match="XGBoost"):
        check_booster_bytes(data.replace(old, new, 1))


LONG = b"L" + struct.pack(">q", 2**62)


@pytest.mark.parametrize("data", [
    b"", b"{", b"}", b"{}{}", b"[#" * 50_000, (b"[#L" + bytes(7) + b"\x01") * 50_000, b"S" + LONG, b"[#" + LONG,
    b"[$l#" + LONG, b"[$S#L" + bytes(8), b"{L" + bytes(8) + b"i\x01L" + bytes(8) + b"i\x01}", b"l\x00",
    b"SL" + b"\xff" * 8,
])  # fmt: skip
def test_what_is_no_value_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_ubjson(data)


def test_every_truncation_is_refused() -> None:
    data = bytes_of(CATEGORIES)
    for length in range(0, len(data), 97):
        with pytest.raises(ModelFileError, match="XGBoost"):
            check_booster_bytes(data[:length])


def survive(options: dict[str, Any], n: int, seed: int) -> tuple[int, int]:
    """Let XGBoost predict with whatever is not refused of bytes changed at random; it may raise."""
    rng, data = np.random.default_rng(seed), bytes_of(options)
    rows = xgb.DMatrix(rng.normal(size=(50, 3)).astype(np.float32) * 20)
    n_read = 0
    for _ in range(n):
        changed = bytearray(data)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        with suppress(ModelFileError):
            check_booster_bytes(bytes(changed))
            n_read += 1
            with suppress(xgb.core.XGBoostError):
                booster = xgb.Booster({"nthread": 1, "verbosity": 0})
                booster.load_model(changed)
                booster.predict(rows, validate_features=False)
    return n, n_read


@pytest.mark.slow
@pytest.mark.parametrize("k", range(len(SETTINGS)))
def test_no_bytes_that_are_read_end_the_process(k: int) -> None:
    script = f"from tests.persistence.test_booster_bytes import *\nprint(*survive(SETTINGS[{k}], 5_000, {k}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    n, n_read = map(int, done.stdout.split())
    assert 0 < n_read < n
