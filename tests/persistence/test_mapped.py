"""Large arrays that stay in the file."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_classic import (
    EventLog,
    HistoryFeatures,
    MatrixFactorization,
    ModelFileError,
    load_model,
    make_funnel,
    save_model,
)
from mtl_classic.persistence import _archive


@pytest.fixture(scope="module")
def fitted() -> tuple[HistoryFeatures, Any]:
    shop = make_funnel(90_000, n_users=3000, n_items=500, random_state=0)
    return HistoryFeatures(**shop.roles).fit(shop.X[:1000], events=shop.events), shop


def mapped(log: EventLog) -> bool:
    return isinstance(log.time.base, np.memmap) or isinstance(log.time, np.memmap)


def test_a_log_is_mapped_and_says_the_same(fitted: Any, tmp_path: Path) -> None:
    model, shop = fitted
    path = tmp_path / "model.zip"
    save_model(model, path, include_events=True, compress=False)
    loaded, copied = load_model(path, mmap=True), load_model(path)
    assert mapped(loaded.log_)
    assert not mapped(copied.log_)
    assert loaded.log_.hash == model.log_.hash
    rows = shop.X[1000:2000]
    expected = model.transform(rows)
    for other in (loaded, copied):
        assert other.transform(rows).equals(expected)
    before = path.read_bytes()
    new = shop.events.to_frame().tail(100)
    new["time"] += new["time"].max() - new["time"].min()
    assert loaded.observe(new).log_.hash == copied.observe(new).log_.hash
    assert path.read_bytes() == before


def test_what_is_compressed_is_loaded_all_the_same(fitted: Any, tmp_path: Path) -> None:
    save_model(fitted[0], tmp_path / "model.zip", include_events=True)
    loaded = load_model(tmp_path / "model.zip", mmap=True)
    assert not mapped(loaded.log_)
    assert loaded.log_.hash == fitted[0].log_.hash


def test_arrays_are_aligned_and_small_ones_are_not_mapped(fitted: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    save_model(fitted[0], path, include_events=True, compress=False)
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        stored = [info for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
        assert stored
        assert all(_archive._start(file, info) % 64 == 0 for info in stored)


def test_writing_to_a_mapped_array_stays_in_memory(tmp_path: Path) -> None:
    shop = make_funnel(2000, random_state=0)
    model = MatrixFactorization(n_factors=64, user="user", item="item", max_iter=1, random_state=0)
    model.fit(shop.X, shop.Y[["view"]])
    model._factors.users = np.tile(model._factors.users, (8, 1))
    path = tmp_path / "model.zip"
    save_model(model, path, compress=False)
    loaded = load_model(path, mmap=True)
    loaded._factors.users[:] = 7
    assert (load_model(path)._factors.users != 7).any()


def test_damage_is_refused(fitted: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    save_model(fitted[0], path, include_events=True, compress=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for mmap in (False, True):
        with pytest.raises(ModelFileError):
            load_model(path, mmap=mmap)
    os.truncate(path, len(data) // 2)
    with pytest.raises(ModelFileError):
        load_model(path, mmap=True)


def test_what_hardly_compresses_is_mapped_from_any_file(tmp_path: Path) -> None:
    shop = make_funnel(2000, random_state=0)
    model = MatrixFactorization(n_factors=64, user="user", item="item", max_iter=1, random_state=0)
    model.fit(shop.X, shop.Y[["view"]])
    model._factors.users = np.random.default_rng(0).normal(size=(2000, 64))
    save_model(model, tmp_path / "model.zip")
    users = load_model(tmp_path / "model.zip", mmap=True)._factors.users
    assert isinstance(users, np.memmap) or isinstance(users.base, np.memmap)
    assert users.flags.aligned
    assert np.array_equal(users, model._factors.users)
