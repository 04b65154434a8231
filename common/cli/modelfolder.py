"""A pulled version on disk: the signed manifest and one file a blob; made online, checked offline.

    heart-v3/manifest.json        the signed envelope, byte for byte
    heart-v3/weights.safetensors  graph.onnx  packed.safetensors

What is verified is the folder against the manifest, and the manifest against keys that came from somewhere else (the
command line, a node's join, the login): never against a key found beside the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import manifest as manifests
from common.cli.context import Contexts
from common.client import Client
from common.errors import BadInput, BadManifest, BadSignature
from common.manifest import Manifest
from common.units import MIB

FILES = {"weights": "weights.safetensors", "graph": "graph.onnx", "packed": "packed.safetensors"}
_MANIFEST = "manifest.json"


def pull_version(client: Client, tenant: str, model: str, version: int, folder: Path) -> list[str]:
    """Download the version into ``folder`` and return its files' names; the manifest is written last.

    Raises:
        BadInput: the folder holds something else already.
        BadSignature: a blob is not what the manifest names.
    """
    envelope = client.models.manifest(tenant, model, version)
    manifest = manifests.read_unverified(envelope)
    if (manifest.tenant, manifest.model, manifest.version) != (tenant, model, version):
        raise BadManifest(f"asked for {tenant}/{model}:{version}, got {manifest.tenant}/{manifest.model}")
    if folder.exists() and any(folder.iterdir()) and not (folder / _MANIFEST).exists():
        raise BadInput(f"{folder} is not empty", next_step="name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)
    for role, blob in manifest.blobs.items():
        if _digest(folder / FILES[role]) != blob.digest:
            client.models.pull_blob(tenant, model, version, blob.digest, folder / FILES[role])
    (folder / _MANIFEST).write_bytes(envelope)
    return [_MANIFEST, *(FILES[role] for role in manifest.blobs)]


def check_folder(folder: Path, keys: Mapping[str, bytes]) -> tuple[Manifest, list[str]]:
    """Return the manifest in ``folder`` and the files found right.

    Raises:
        BadInput: the folder holds no version.
        BadSignature: no pinned key signed the manifest, or a file is not what it names.
        BadManifest: the manifest is malformed.
    """
    try:
        envelope = (folder / _MANIFEST).read_bytes()
    except OSError as error:
        raise BadInput(f"{folder} has no {_MANIFEST}", next_step="hansa model pull MODEL") from error
    manifest = manifests.verify(envelope, keys)
    checked = []
    for role, blob in manifest.blobs.items():
        found = _digest(folder / FILES[role])
        if found != blob.digest:
            what = "is missing" if not found else f"has digest {found[:16]}…, the manifest says {blob.digest[:16]}…"
            raise BadSignature(f"{folder / FILES[role]} {what}", next_step="pull the version again")
        checked.append(FILES[role])
    return manifest, checked


def pinned_keys(given: Sequence[str], node: Path | None, contexts: Contexts) -> dict[str, bytes]:
    """Return the signers to trust: those given, those a node pinned, else those of the context in use.

    Raises:
        BadInput: none, or one is malformed.
    """
    texts = dict(text.partition("=")[::2] for text in given)
    if node is not None:
        try:
            texts |= json.loads((node / "node.json").read_text("utf-8"))["manifest_keys"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{node} is not the folder of a joined node") from error
    if not texts and contexts.current:
        texts = contexts.get().keys
    try:
        keys = {key_id: bytes.fromhex(public) for key_id, public in texts.items()}
    except ValueError as error:
        raise BadInput(f"a key is not hexadecimal: {error}", next_step="write --key ID=HEX") from error
    if not keys:
        raise BadInput("no signer is pinned", next_step="add --key ID=HEX, or --node DIR of a joined node")
    return keys


def _digest(path: Path) -> str:
    """Return the file's SHA-256; "" if there is no such file."""
    if not path.is_file():
        return ""
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            seen.update(chunk)
    return seen.hexdigest()
