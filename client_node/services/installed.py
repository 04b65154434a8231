"""Model versions on a node's disk: fetched, verified, and there whole or not at all.

``models/<tenant>/<model>/<version>-<manifest digest>/`` holds the signed manifest, the graph and the packed tensors;
``current`` beside it says which version is served, so that a node without its coordinator still serves what it served
before.
Nothing here is believed because it is on disk: signature and digests are checked each time a version is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from client_node.ports.link import Link
from common import manifest as manifests
from common.crypto.files import sync_folder, write_atomic
from common.errors import BadInput, BadManifest, BadSignature
from common.ids import digest, slug
from common.manifest import Manifest
from common.units import MIB
from common.wire import hansa_node_pb2 as pb

_FILES = {"graph": "graph.onnx", "packed": "packed.safetensors"}
_MANIFEST = "manifest.json"
_VERSION = re.compile(r"\d{1,16}-[0-9a-f]{64}")
MAX_VERSION_BYTES = 4 * 1024 * MIB


@dataclass(frozen=True)
class Wanted:
    """What the coordinator asks this node to serve."""

    tenant: str
    model: str
    version: int
    manifest: str  # digest
    manifest_size: int
    federation: str
    alias: str

    @property
    def name(self) -> str:
        """Return "tenant/model"."""
        return f"{self.tenant}/{self.model}"


@dataclass(frozen=True)
class Installed:
    """A verified version on disk."""

    wanted: Wanted
    manifest: Manifest
    graph: Path
    packed: Path


def read_deploy(event: pb.Deploy) -> Wanted:
    """Return what ``event`` asks for.

    Raises:
        BadInput: a name or digest is malformed.
    """
    tenant, model = split_name(event.model)
    if not 1 <= event.version < 2**53:
        raise BadInput(f"version {event.version} of {event.model[:80]} is no version")
    federation = slug(event.federation, what="federation") if event.federation else ""
    alias = slug(event.alias, what="alias") if event.alias else ""
    manifest = digest(event.manifest.digest, what="manifest digest")
    return Wanted(tenant, model, event.version, manifest, event.manifest.size, federation, alias)


def split_name(name: str) -> tuple[str, str]:
    """Return the two halves of "tenant/model"; both may name a folder.

    Raises:
        BadInput: they may not.
    """
    tenant, _, model = name.partition("/")
    return slug(tenant, what="tenant"), slug(model, what="model")


class Shelf:
    """The ``models`` folder of a node."""

    def __init__(self, root: Path, keys: Mapping[str, bytes]) -> None:
        """Serve only what one of ``keys`` (key id to raw public key) signed."""
        self._root = root
        self._keys = keys
        self._incoming = root / ".incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def fetch_manifest(self, wanted: Wanted, link: Link) -> Manifest:
        """Download and verify the manifest; it is kept for ``fetch``.

        Raises:
            BadSignature: not signed by a pinned key, or about another version than was announced.
            BadManifest: malformed, or not servable.
        """
        if wanted.manifest_size > manifests.MAX_MANIFEST:
            raise BadManifest(f"a manifest of {wanted.manifest_size} bytes is over the limit")
        path = self._staging(wanted) / _MANIFEST
        if not path.exists():
            ref = pb.ContentRef(digest=wanted.manifest, size=wanted.manifest_size)
            await link.download(ref, path, model=wanted.name)
        return self._verified(wanted, path)

    async def fetch(self, wanted: Wanted, manifest: Manifest, link: Link) -> Installed:
        """Download the blobs and move the whole version into place.

        Raises:
            BadSignature: a blob has another digest. BadManifest: it is too large.
        """
        target = self._folder(wanted)
        if not target.exists():
            if sum(ref.size for role, ref in manifest.blobs.items() if role in _FILES) > MAX_VERSION_BYTES:
                raise BadManifest(f"the version is larger than the {MAX_VERSION_BYTES} bytes allowed")
            staging = self._staging(wanted)
            for role, name in _FILES.items():
                if not (staging / name).exists():
                    blob = manifest.blobs[role]
                    ref = pb.ContentRef(digest=blob.digest, size=blob.size)
                    await link.download(ref, staging / name, model=wanted.name)
                _sync(staging / name)
            _sync(staging / _MANIFEST)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            staging.rename(target)
            sync_folder(target.parent)
        return self.open(wanted)

    def open(self, wanted: Wanted) -> Installed:
        """Return the installed version, verified anew; a damaged one is removed, so that it is fetched again.

        Raises:
            BadSignature: signature or a digest does not match. BadManifest: malformed. FileNotFoundError: not there.
        """
        folder = self._folder(wanted)
        try:
            manifest = self._verified(wanted, folder / _MANIFEST)
            for role, name in _FILES.items():
                if _sha256(folder / name) != manifest.blobs[role].digest:
                    raise BadSignature(f"{role} of {wanted.name} version {wanted.version} is damaged on disk")
        except (BadSignature, BadManifest):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Installed(wanted, manifest, folder / _FILES["graph"], folder / _FILES["packed"])

    def has(self, wanted: Wanted) -> bool:
        """Say whether the version is in place."""
        return self._folder(wanted).exists()

    def make_current(self, wanted: Wanted) -> None:
        """Remember that this version is served, and forget the others but the one before."""
        folder = self._folder(wanted)
        pointer = folder.parent / "current"
        before = self._current(pointer)
        write_atomic(pointer, json.dumps(asdict(wanted)).encode())
        kept = {folder.name, self._folder(before).name if before else ""}
        for other in folder.parent.iterdir():
            if _VERSION.fullmatch(other.name) and other.name not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def discard(self, wanted: Wanted) -> None:
        """Forget what was fetched of a version that will not be served."""
        shutil.rmtree(self._incoming / wanted.manifest, ignore_errors=True)

    def drop(self, tenant: str, model: str) -> None:
        """Forget the model and its files."""
        shutil.rmtree(self._root / tenant / model, ignore_errors=True)

    def currents(self) -> list[Wanted]:
        """Return every version that was served last."""
        found = (self._current(path) for path in sorted(self._root.glob("*/*/current")))
        return [wanted for wanted in found if wanted is not None]

    def _verified(self, wanted: Wanted, path: Path) -> Manifest:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted.manifest:
            raise BadSignature(f"the manifest of {wanted.name} version {wanted.version} has another digest")
        manifest = manifests.verify(data, self._keys)
        if (manifest.tenant, manifest.model, manifest.version) != (wanted.tenant, wanted.model, wanted.version):
            raise BadSignature(f"the manifest is not about {wanted.name} version {wanted.version}")
        if manifest.federation != wanted.federation:
            raise BadSignature(f"the manifest names federation {manifest.federation!r}, not {wanted.federation!r}")
        if not manifest.servable:
            raise BadManifest(f"version {wanted.version} of {wanted.name} has no graph to serve")
        return manifest

    def _folder(self, wanted: Wanted) -> Path:
        return self._root / wanted.tenant / wanted.model / f"{wanted.version}-{wanted.manifest}"

    def _staging(self, wanted: Wanted) -> Path:
        folder = self._incoming / wanted.manifest
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _current(self, pointer: Path) -> Wanted | None:
        try:
            wanted = Wanted(**json.loads(pointer.read_bytes()))
            same = (pointer.parent.parent.name, pointer.parent.name) == split_name(wanted.name)
            return wanted if same and self._folder(wanted).is_dir() else None
        except (OSError, ValueError, TypeError, BadInput):
            return None


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
