"""Files that are not as they were written are refused, with the reason; writing is all or nothing."""

import io
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_classic import ModelFileError, PerTaskModel, load_model, save_model
from mtl_classic.persistence import _archive
from tests.persistence.models import make_rows, outputs, same

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    X, Y = make_rows(120)
    learner = {"up": "linear", "amount": "lightgbm"}
    model = PerTaskModel({"up": "binary", "amount": "regression"}, learner=learner, random_state=0)
    path = tmp_path_factory.mktemp("saved") / "model.zip"
    save_model(model.fit(X, Y[["up", "amount"]]), path)
    return model, X, path


def unpack(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def changed(path: Path, target: Path, change: Callable[[dict[str, Any], Members], None]) -> Path:
    """The file with another manifest or other members."""
    members = unpack(path)
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    return pack(target, [("manifest.json", json.dumps(manifest).encode()), *members.items()])


def put(key: str, value: Any) -> Callable[[dict[str, Any], Members], None]:
    return lambda manifest, members: manifest.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("format_version", 4), "later version"),
        (put("format_version", 1), r"format 1 by an earlier version .*; this one reads 3. Fit the model anew"),
        (put("format_version", "1"), "format version"),
        (put("format", "other"), "not that of a model"),
        (put("members", []), "which members"),
        (put("versions", {"mtl_classic": "99.0"}), r"written by mtl_classic 99.0"),
        (lambda manifest, members: members.pop("model.json"), "missing: model.json"),
        (lambda manifest, members: members.update(extra=b"1"), "does not name: extra"),
        (lambda manifest, members: members.update({"model.json": members["model.json"] + b" "}), "not the size"),
        (lambda manifest, members: members.update({"model.json": members["model.json"].swapcase()}), "checksum"),
        (lambda manifest, members: manifest["members"]["model.json"].update(crc32=0), "checksum"),
        (lambda manifest, members: manifest["members"].pop("model.json"), "does not name"),
    ],
)
def test_a_changed_file_is_refused(change: Any, told: str, saved: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=told):
        load_model(changed(saved[2], tmp_path / "changed.zip", change))


def test_swapped_members_are_refused(saved: Any, tmp_path: Path) -> None:
    members = unpack(saved[2])
    names = sorted(set(members) - {"manifest.json"})
    for one, other in pairwise(names):
        exchanged = members | {one: members[other], other: members[one]}
        with pytest.raises(ModelFileError):
            load_model(pack(tmp_path / "swapped.zip", list(exchanged.items())))


@pytest.mark.parametrize(
    "name", ["../up.txt", "/etc/up", "a/../../up", "c:\\up", "a\\..\\up", "./up", "a//up", "folder/"]
)
def test_names_that_climb_are_refused(name: str, saved: Any, tmp_path: Path) -> None:
    path = pack(tmp_path / "climbs.zip", [*unpack(saved[2]).items(), (name, b"x")])
    with pytest.raises(ModelFileError, match="leads out of the file"):
        load_model(path)
    assert sorted(p.name for p in tmp_path.parent.rglob("up*")) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicated_names_are_refused(saved: Any, tmp_path: Path) -> None:
    members = list(unpack(saved[2]).items())
    with pytest.raises(ModelFileError, match="same name"):
        load_model(pack(tmp_path / "twice.zip", [*members, members[1]]))


def test_zip_bombs_are_refused_before_they_are_unpacked(saved: Any, tmp_path: Path) -> None:
    bomb = pack(tmp_path / "bomb.zip", [*unpack(saved[2]).items(), ("bomb", bytes(2**26))])
    with pytest.raises(ModelFileError, match="more than 200-fold"):
        load_model(bomb)
    small = pack(tmp_path / "small.zip", [*unpack(saved[2]).items(), ("bomb", bytes(2**22))])
    with pytest.raises(ModelFileError, match="The member 'bomb' says that it unpacks"):
        load_model(small)
    many = pack(tmp_path / "many.zip", [(f"bomb{k}", bytes(2**20)) for k in range(60)])
    with pytest.raises(ModelFileError, match="more than 200-fold"):
        load_model(many)


def test_sizes_that_are_too_small_are_found_out(saved: Any, tmp_path: Path) -> None:
    """A member that says it is small and unpacks to much more: no more is unpacked than it says."""
    path = pack(tmp_path / "lies.zip", [*unpack(saved[2]).items(), ("big", b"ab" * 100_000)])
    data = bytearray(path.read_bytes())
    said = struct.pack("<L", 200_000)
    while (at := data.find(said)) >= 0:
        data[at : at + 4] = struct.pack("<L", 200)
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        load_model(path)


def test_what_compresses_too_well_is_stored_as_it_is(saved: Any, tmp_path: Path) -> None:
    model = saved[0]
    model.zeros_ = np.zeros(3_000_000)
    try:
        save_model(model, tmp_path / "zeros.zip")
    finally:
        del model.zeros_
    assert (load_model(tmp_path / "zeros.zip").zeros_ == 0).all()


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all" * 50, b'{"format": "mtl_classic model"}'])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(ModelFileError, match="no model file"):
        load_model(tmp_path / "other")


def test_other_zips_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    (tmp_path / "arrays.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match="no manifest.json"):
        load_model(tmp_path / "arrays.npz")
    with pytest.raises(ModelFileError, match="nested too deeply"):
        load_model(pack(tmp_path / "deep.zip", [("manifest.json", b"[" * 100_000)]))
    with pytest.raises(ModelFileError, match="no JSON"):
        load_model(pack(tmp_path / "nan.zip", [("manifest.json", b'{"format": NaN}')]))


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing.zip")


def test_where_no_file_can_be_written_is_named(saved: Any, tmp_path: Path) -> None:
    model, _, _ = saved
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        save_model(model, tmp_path / "nowhere" / "model.zip")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        save_model(model, tmp_path)


@pytest.mark.parametrize("model", [None, {"a": 1}, PerTaskModel, object()])
def test_only_models_are_saved(model: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="save_model saves estimators"):
        save_model(model, tmp_path / "model.zip")
    assert list(tmp_path.iterdir()) == []


def test_writing_is_all_or_nothing(saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, _ = saved
    path = tmp_path / "model.zip"
    save_model(model, path)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError("the disk is full")

    for broken in ("_write_zip", "os.fsync", "os.replace"):
        monkeypatch.setattr(f"{_archive.__name__}.{broken}", fail)
        with pytest.raises(OSError, match="disk is full"):
            save_model(model, path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["model.zip"]
    model.handler_ = print
    try:
        with pytest.raises(TypeError, match=r"PerTaskModel\.handler_ is a"):
            save_model(model, path)
    finally:
        del model.handler_
    assert path.read_bytes() == before
    save_model(model, path)
    assert same(outputs(load_model(path), X), outputs(model, X))


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_file_has_the_mode_of_any_other_new_file(saved: Any, tmp_path: Path) -> None:
    save_model(saved[0], tmp_path / "model.zip")
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("model.zip", "plain")]
    assert modes[0] == modes[1]


@pytest.mark.skipif(os.name != "posix", reason="modes of files, links")
def test_a_file_that_is_replaced_leaves_its_mode_and_a_link_its_way(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, link = tmp_path / "models" / "first.zip", tmp_path / "latest.zip"
    kept.parent.mkdir()
    kept.touch(0o600)
    link.symlink_to(kept)
    save_model(saved[0], link)
    assert link.is_symlink()
    assert os.listdir(kept.parent) == ["first.zip"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    load_model(link)

    def fail(*args: Any) -> int:
        raise PermissionError("folders are not to be read")

    monkeypatch.setattr(f"{_archive.__name__}.os.open", fail)
    save_model(saved[0], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == kept.read_bytes()
