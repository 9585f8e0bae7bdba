"""A zip of named members, written atomically and read with suspicion."""

from __future__ import annotations

import json
import mmap as mapping
import os
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mtl_classic.persistence._errors import ModelFileError

__all__ = ["FORMAT", "MANIFEST", "Mapped", "hardly_compresses", "parse_json", "read_archive", "write_archive"]

FORMAT = "mtl_classic model"
MANIFEST = "manifest.json"
_STORED_ABOVE = 100  # what compresses better is stored as it is, so that no honest member is refused
_STORED_BELOW = 1.15  # and what hardly compresses, factors above all, because it takes longest to unpack
_MAX_RATIO = 200
_SMALL = 2**20  # bytes that are read whatever the ratio
_MAX_MANIFEST = 2**26
_MAX_MEMBERS = 1_000_000
_MAPPED_ABOVE = 2**16  # bytes of an array that is worth a mapping of its own
_HEAD = 10_000 + 128  # enough for the header of any array that is read
_ALIGNMENT = 64
_HEADER = struct.Struct("<4s5H3L2H")  # of a member in a zip: signature … length of its name, of what comes after
_PADDING_ID = 0xD935  # by custom the extra field that aligns what follows
_BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    OSError, UnicodeError, OverflowError, IndexError, KeyError, ValueError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Mapped:
    """A member that stays in the file: where its bytes are, uncompressed."""

    path: Path
    offset: int
    size: int
    head: bytes


def write_archive(
    path: Path, manifest: Mapping[str, Any], members: Mapping[str, bytes], stored: frozenset[str] = frozenset()
) -> None:
    """Write a zip beside `path`, bring it to the disk, then put it in place; equal members give equal bytes.

    Members named in `stored`, and those that compress too little or too well, are not compressed, and begin where
    arrays are aligned. A file that is replaced leaves its mode to the new one; a link goes on to lead there.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to save the model in; make it first.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            if path.exists():
                shutil.copymode(path, temporary)
            _write_zip(file, manifest, members, stored)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write_zip(
    file: BinaryIO, manifest: Mapping[str, Any], members: Mapping[str, bytes], stored: frozenset[str]
) -> None:
    """The members, then the manifest that tells the checksum of each as it lies in the file."""
    described: dict[str, Any] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in members.items():
            info = _new_member(name, is_stored=name in stored or _is_better_stored(data))
            if info.compress_type == zipfile.ZIP_STORED:
                _align(info, archive.start_dir, len(data))
            archive.writestr(info, data)
            checksum = zlib.crc32(_packed(file, info))
            described[name] = {"crc32": checksum, "packed": info.compress_size, "bytes": len(data)}
        text = json.dumps({**manifest, "members": described}, indent=1, ensure_ascii=True, allow_nan=False)
        archive.writestr(_new_member(MANIFEST, is_stored=False), text.encode())


def _new_member(name: str, is_stored: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _align(info: zipfile.ZipInfo, at: int, size: int) -> None:
    """Fill the header, so that the data begin at a multiple of the alignment."""
    header = _HEADER.size + len(info.filename.encode()) + 4 + (20 if size * 1.05 > zipfile.ZIP64_LIMIT else 0)
    padding = -(at + header) % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)


def _is_better_stored(data: bytes) -> bool:
    packed = len(zlib.compress(data, 1))
    if len(data) < _STORED_BELOW * packed:
        return True
    may = len(data) > _SMALL and 5 * len(data) > _STORED_ABOVE * packed  # the level of the file gains less than 5-fold
    return may and len(data) > _STORED_ABOVE * len(zlib.compress(data, 6))


def hardly_compresses(data: bytes, ratio: float) -> bool:
    """Whether bytes are read faster as they are, at little cost of room."""
    return len(data) < ratio * len(zlib.compress(data, 1))


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too, where the system knows how; the file is in its place already."""
    if os.name != "posix":
        return
    with suppress(OSError):  # of folders that may not be read, or on file systems that do not sync any
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_archive(path: Path, known_format: int, mmap: bool = False) -> tuple[dict[str, Any], dict[str, bytes | Mapped]]:
    """The manifest and the members, all checked against it; with `mmap` large uncompressed arrays stay in the file.

    Raises
    ------
    ModelFileError
        With the reason: no zip, no model, another format, a member too many, too few, too large or altered.
    """
    file = open(path, "rb")  # noqa: SIM115 - a file that is not there is told as such, what is wrong in it below
    try:
        with file, zipfile.ZipFile(file) as archive:
            infos = _check_listing(archive, path)
            manifest = _read_manifest(archive, infos)
            _check_format(manifest, known_format)
            described = manifest["members"]
            _check_names(set(infos) - {MANIFEST}, set(described))
            members = {name: _read_member(file, infos[name], described[name], path, mmap) for name in described}
    except ModelFileError:
        raise
    except _BROKEN as error:
        raise ModelFileError(
            f"{path.name} is no model file, or truncated or damaged ({type(error).__name__}: {error}). "
            f"Copy it again, or save the model again."
        ) from None
    return manifest, members


def _check_listing(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    size = path.stat().st_size
    if len(infos) > _MAX_MEMBERS:
        raise ModelFileError(f"The file has {len(infos)} members; at most {_MAX_MEMBERS} are read.")
    for info in infos:
        if _climbs(info.filename):
            raise ModelFileError(f"The member {info.filename!r} has a name that leads out of the file.")
        if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size) or info.compress_size > size:
            raise ModelFileError(
                f"The member {info.filename!r} says that it unpacks {info.compress_size} bytes to {info.file_size}; "
                f"more than {_MAX_RATIO}-fold is refused."
            )
    total = sum(info.file_size for info in infos)
    if total > _SMALL * 16 + _MAX_RATIO * size:
        raise ModelFileError(f"The file of {size} bytes says that it unpacks to {total}, more than {_MAX_RATIO}-fold.")
    by_name = {info.filename: info for info in infos}
    if len(by_name) < len(infos):
        raise ModelFileError("The file has several members of the same name.")
    return by_name


def _climbs(name: str) -> bool:
    """Whether a name is anything but plain folders and a file below here."""
    parts = name.split("/")
    return "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts)


def _read_manifest(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if MANIFEST not in infos:
        raise ModelFileError(f"The file has no {MANIFEST}, so it is no model that save_model wrote.")
    if infos[MANIFEST].file_size > _MAX_MANIFEST:
        raise ModelFileError(f"The {MANIFEST} says that it has {infos[MANIFEST].file_size} bytes; that is too many.")
    manifest = parse_json(_read_exactly(archive, infos[MANIFEST]))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(f"The {MANIFEST} is not that of a model that save_model wrote.")
    return manifest


def parse_json(data: Any) -> Any:
    """Strict JSON: no NaN, no bottomless nesting."""
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ModelFileError("A part of the file is nested too deeply.") from None


def _refuse_constant(text: str) -> None:
    raise ModelFileError(f"The file has the number {text}, which is no JSON.")


def _check_format(manifest: Mapping[str, Any], known: int) -> None:
    version = manifest.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"The {MANIFEST} has the format version {version!r}, which is none.")
    if version != known:
        made_by = manifest.get("versions")
        by = f" (by {made_by.get('mtl_classic')!r:.20})" if isinstance(made_by, dict) else ""
        age, way = ("a later", "Update mtl_classic") if version > known else ("an earlier", "Fit the model anew")
        raise ModelFileError(
            f"The file was written in the format {version} by {age} version of mtl_classic{by}; this one reads "
            f"{known}. {way}."
        )
    if not isinstance(manifest.get("members"), dict):
        raise ModelFileError(f"The {MANIFEST} does not say which members there are.")


def _check_names(there: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - there):
        raise ModelFileError(f"Members are missing: {', '.join(missing[:5])}.")
    if extra := sorted(there - expected):
        raise ModelFileError(f"There are members that the {MANIFEST} does not name: {', '.join(extra[:5])}.")


def _read_member(file: BinaryIO, info: zipfile.ZipInfo, described: Any, path: Path, mmap: bool) -> bytes | Mapped:
    if not isinstance(described, dict) or described.get("bytes") != info.file_size:
        raise ModelFileError(f"The member {info.filename!r} has not the size that the {MANIFEST} says.")
    is_stored = info.compress_type == zipfile.ZIP_STORED
    if mmap and is_stored and info.file_size >= _MAPPED_ABOVE and info.filename.endswith(".npy"):
        return _mapped(file, info, described, path)
    packed = _packed(file, info)
    _check_sum(packed, info, described)
    if is_stored:
        data = packed
    elif info.compress_type == zipfile.ZIP_DEFLATED:
        unpacker = zlib.decompressobj(-15)
        data = unpacker.decompress(packed, info.file_size + 1)  # never more than is declared
        if not unpacker.eof or unpacker.unused_data:
            raise ModelFileError(f"The member {info.filename!r} has not the size that it says.")
    else:
        raise ModelFileError(f"The member {info.filename!r} is compressed in a way that is not read here.")
    if len(data) != info.file_size:
        raise ModelFileError(f"The member {info.filename!r} has not the size that it says.")
    return data


def _check_sum(packed: bytes | memoryview, info: zipfile.ZipInfo, described: dict[str, Any]) -> None:
    if len(packed) != described.get("packed") or zlib.crc32(packed) != described.get("crc32"):
        raise ModelFileError(f"The member {info.filename!r} has been altered: its checksum is wrong.")


def _mapped(file: BinaryIO, info: zipfile.ZipInfo, described: dict[str, Any], path: Path) -> Mapped:
    start = _start(file, info)
    stop = start + info.file_size
    with mapping.mmap(file.fileno(), 0, access=mapping.ACCESS_READ) as whole, memoryview(whole)[start:stop] as data:
        _check_sum(data, info, described)
        return Mapped(path, start, info.file_size, bytes(data[:_HEAD]))


def _packed(file: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member as they lie in the file."""
    file.seek(_start(file, info))
    return file.read(info.compress_size)


def _start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the data of a member begin, after its own header."""
    file.seek(info.header_offset)
    signature, *_, n_name, n_extra = _HEADER.unpack(file.read(_HEADER.size))
    if signature != b"PK\3\4":
        raise ModelFileError(f"The member {info.filename!r} is not where the file says that it is.")
    return info.header_offset + _HEADER.size + int(n_name) + int(n_extra)


def _read_exactly(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes that are declared; never more are unpacked."""
    with archive.open(info) as file:
        data = file.read(info.file_size)
        if len(data) != info.file_size or file.read(1):
            raise ModelFileError(f"The member {info.filename!r} has not the size that it says.")
    return data
