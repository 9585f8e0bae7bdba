"""Bytes flipped, cut and moved at random: a file is refused, or says exactly what it said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_classic import AveragingEnsemble, ModelFileError, PerTaskModel, load_model, save_model
from tests.persistence.models import make_rows, outputs, same


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any, list[np.ndarray]]:
    """A small file with boosters' text and binary, arrays, texts: its bytes, rows, and what the model says."""
    X, Y = make_rows(80)
    Y = Y[["up", "visits"]]
    kinds = {"up": "binary", "visits": "count"}
    members = [(name, PerTaskModel(kinds, learner=name, random_state=0)) for name in ("lightgbm", "xgboost", "linear")]
    model = AveragingEnsemble(members).fit(X, Y)
    path = tmp_path_factory.mktemp("fuzz") / "model.zip"
    save_model(model, path)
    return path.read_bytes(), X, outputs(model, X)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with one kind of damage."""
    out = bytearray(data)
    n = len(out)
    kind = rng.choice(["bit", "byte", "bytes", "cut", "cut front", "insert", "remove", "move", "directory"])
    at, length = int(rng.integers(n)), int(rng.integers(1, 64))
    if kind == "bit":
        out[at] ^= 1 << int(rng.integers(8))
    elif kind == "byte":
        out[at] = int(rng.integers(256))
    elif kind == "bytes":
        out[at : at + length] = rng.bytes(len(out[at : at + length]))
    elif kind == "cut":
        del out[at:]
    elif kind == "cut front":
        del out[:at]
    elif kind == "insert":
        out[at:at] = rng.bytes(length)
    elif kind == "remove":
        del out[at : at + length]
    elif kind == "move":
        to = int(rng.integers(n))
        part = bytes(out[at : at + length])
        out[to : to + len(part)] = part
    else:  # the names, sizes and places at the end of a zip, where every byte means something
        directory = out.find(b"PK\x01\x02")
        out[int(rng.integers(directory, n))] = int(rng.integers(256))
    return bytes(out)


def attack(saved: Any, path: Path, n: int, seed: int) -> tuple[int, int]:
    data, X, expected = saved
    rng = np.random.default_rng(seed)
    n_refused = 0
    for k in range(n):
        path.write_bytes(damaged(data, rng))
        try:
            model = load_model(path)
        except ModelFileError:
            n_refused += 1
            continue
        assert same(outputs(model, X), expected), f"damage {k} of seed {seed} changed a prediction"
    return n, n_refused


def test_300_damaged_files(saved: Any, tmp_path: Path) -> None:
    n, n_refused = attack(saved, tmp_path / "damaged.zip", 300, seed=0)
    assert n_refused >= 0.8 * n


@pytest.mark.slow
def test_10_000_damaged_files(saved: Any, tmp_path: Path) -> None:
    n, n_refused = attack(saved, tmp_path / "damaged.zip", 10_000, seed=1)
    assert n_refused >= 0.8 * n


def test_every_truncation_of_the_end_is_refused(saved: Any, tmp_path: Path) -> None:
    data = saved[0]
    for length in [*range(1, 200), *range(200, len(data), len(data) // 100)]:
        (tmp_path / "short.zip").write_bytes(data[:-length])
        with pytest.raises(ModelFileError):
            load_model(tmp_path / "short.zip")
