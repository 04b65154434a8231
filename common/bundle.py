"""An app's archive: packed the same way every time, opened only after every entry was judged.

The archive (a zip) is how an app travels; its *identity* is ``app_digest``, the SHA-256 over the sorted lines
``<path> <sha256 of the file>``, so that a steward approves files and not a zip's timestamps.

Rules of opening, each because of an attack: names are relative, plain and normal (no zip-slip); only regular files (no
links, no devices); no name twice, nor twice under a case-insensitive file system; sizes are counted while inflating,
not believed (bombs).  A broken rule refuses the archive; nothing is rewritten.

Rows stay where they are: tables (CSV, Parquet, SQLite …) are never packed, other data only up to a limit.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import BadInput, QuotaExceeded
from common.ids import AppDigest, new_id
from common.units import MIB

PYPROJECT = "pyproject.toml"
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "build", "dist"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyo", ".swp"})
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".sqlite", ".db"})
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can say


@dataclass(frozen=True)
class BundleLimits:
    """What an archive may be; an attacker can push on each of these."""

    archive_bytes: int = 32 * MIB
    file_bytes: int = 32 * MIB
    total_bytes: int = 64 * MIB
    packed_data_bytes: int = 1 * MIB  # larger files that are no code are left out when packing
    files: int = 2000
    ratio: int = 200  # inflated over packed, of one file above `ratio_from` bytes
    ratio_from: int = 1 * MIB
    name_bytes: int = 240


LIMITS = BundleLimits()


@dataclass(frozen=True)
class Bundle:
    """A checked archive, open in memory."""

    files: Mapping[str, bytes]  # path -> content, sorted by path

    @property
    def digest(self) -> AppDigest:
        """Return the app's identity."""
        return app_digest({path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()})

    @property
    def pyproject(self) -> str:
        """Return the text of ``pyproject.toml``.

        Raises:
            BadInput: there is none, or it is no UTF-8.
        """
        try:
            return self.files[PYPROJECT].decode()
        except KeyError:
            raise BadInput("the app has no pyproject.toml", next_step="run it in the app's directory") from None
        except UnicodeDecodeError as error:
            raise BadInput(f"pyproject.toml is not UTF-8: {error}") from error


def app_digest(files: Mapping[str, str]) -> AppDigest:
    """Return the identity of an app from its files' SHA-256 digests, by path."""
    lines = "".join(f"{path} {files[path]}\n" for path in sorted(files))
    return AppDigest(hashlib.sha256(lines.encode()).hexdigest())


def pack(root: Path, *, on_skip: Callable[[str, str], None] | None = None, limits: BundleLimits = LIMITS) -> bytes:
    """Return the archive of the app directory ``root``: equal files give equal bytes.

    Args:
        root: The directory that holds ``pyproject.toml``.
        on_skip: Called with (path, why) for each file of the app that is left out.
        limits: What the archive may be.

    Raises:
        BadInput: ``root`` is no app directory.
        QuotaExceeded: the app is over a limit.
    """
    if not (root / PYPROJECT).is_file():
        raise BadInput(f"{root} has no pyproject.toml", next_step="name the directory of a Flower app")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in _app_files(root, on_skip or _silent, limits):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, (root / path).read_bytes())
    data = buffer.getvalue()
    read_bundle(data, limits)  # what we pack must open at the other end
    return data


def read_bundle(data: bytes, limits: BundleLimits = LIMITS) -> Bundle:
    """Return the files of an archive written by anybody.

    Raises:
        BadInput: not a zip, or an entry breaks a rule.
        QuotaExceeded: over a limit.
    """
    if len(data) > limits.archive_bytes:
        raise QuotaExceeded(f"the app archive has {len(data)} bytes, at most {limits.archive_bytes} are allowed")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, limits)
            return Bundle(_inflate(archive, [e for e in entries if not e.is_dir()], limits))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"the app archive is not a sound zip file: {error}") from error


def unpack(data: bytes, target: Path, limits: BundleLimits = LIMITS) -> AppDigest:
    """Write the archive's files into the new folder ``target``, whole or not at all; return the app's identity.

    An existing ``target`` is replaced.

    Raises:
        BadInput: as ``read_bundle``.
        QuotaExceeded: as ``read_bundle``.
    """
    bundle = read_bundle(data, limits)
    aside = target.with_name(f".{target.name}.{new_id('new')}")
    try:
        for path, content in bundle.files.items():
            place = aside / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        aside.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return bundle.digest


def _silent(_path: str, _why: str) -> None:
    """Say nothing of a file that is left out."""


def _app_files(root: Path, on_skip: Callable[[str, str], None], limits: BundleLimits) -> list[str]:
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(
            n for n in names if n not in _SKIPPED_FOLDERS and not n.startswith(".") and "egg-info" not in n
        )
        for name in files:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            why = _left_out(path, limits)
            if why:
                on_skip(relative, why)
            elif why is None:
                found.append(relative)
    return sorted(found)


def _left_out(path: Path, limits: BundleLimits) -> str | None:
    """Return why a file is not packed, "" for what nobody misses, None when it is packed."""
    if path.name.startswith(".") or path.suffix in _SKIPPED_SUFFIXES:
        return ""
    if path.is_symlink() or not path.is_file():
        return "not a regular file"
    if path.suffix.lower() in _TABLES:
        return "data stays where it is; register it at the node"
    if path.suffix != ".py" and path.stat().st_size > limits.packed_data_bytes:
        return f"larger than {limits.packed_data_bytes} bytes"
    return None


def _check_entries(entries: list[zipfile.ZipInfo], limits: BundleLimits) -> None:
    if len(entries) > limits.files:
        raise QuotaExceeded(f"the app has {len(entries)} files, at most {limits.files} are allowed")
    seen: dict[str, str] = {}
    for entry in entries:
        _check_name(entry.orig_filename, limits)
        _check_kind(entry)
        folded = unicodedata.normalize("NFC", entry.filename).casefold().rstrip("/")
        if folded in seen:
            raise BadInput(f"the app archive names {entry.filename!r} twice (also as {seen[folded]!r})")
        seen[folded] = entry.filename
        if entry.file_size > limits.file_bytes:
            raise QuotaExceeded(
                f"{entry.filename} has {entry.file_size} bytes, at most {limits.file_bytes} are allowed"
            )
    files = {name.casefold() for name in (e.filename for e in entries) if not name.endswith("/")}
    for entry in entries:
        parents = PurePosixPath(entry.filename.casefold()).parents
        if any(str(parent) in files for parent in parents):
            raise BadInput(f"the app archive has {entry.filename!r} below a name that is a file")


def _check_name(name: str, limits: BundleLimits) -> None:
    parts = name.rstrip("/").split("/")
    if (
        not name
        or len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes
        or not name.isprintable()
        or "\\" in name
        or ":" in name
        or any(part in {"", ".", ".."} for part in parts)
        or unicodedata.normalize("NFC", name) != name
    ):
        raise BadInput(f"the app archive holds the unsafe name {name[:120]!r}")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & 0x1:
        raise BadInput(f"{entry.filename} is encrypted")
    if kind and not (stat.S_ISREG(kind) or (stat.S_ISDIR(kind) and entry.is_dir())):
        raise BadInput(f"{entry.filename} is no regular file")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadInput(f"{entry.filename} is packed by an unusual method")


def _inflate(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], limits: BundleLimits) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total = 0
    for entry in sorted(entries, key=lambda e: e.filename):
        allowed = min(limits.file_bytes, limits.total_bytes - total)
        if entry.compress_size * limits.ratio + limits.ratio_from < entry.file_size:
            raise QuotaExceeded(f"{entry.filename} inflates more than {limits.ratio} times")
        with archive.open(entry) as stream:
            content = stream.read(allowed + 1)  # counted, whatever the header says
        if len(content) > allowed:
            raise QuotaExceeded(f"the app inflates over {limits.total_bytes} bytes at {entry.filename}")
        total += len(content)
        files[entry.filename] = content
    return files
