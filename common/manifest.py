"""The manifest of a model version: what it is, where it came from, and the digests of its blobs; signed.

Canonical JSON (sorted keys, no spaces, no NaN) in an envelope ``{"key_id", "payload", "signature"}``, the last two in
base64.  The signature covers ``DOMAIN`` and the payload's bytes, so no other signed thing can be passed off as a
manifest.  Reading is strict: unknown keys, a second spelling of the same values, or a key that was not pinned are
refused.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto import keys as crypto_keys
from common.crypto.canonical import canonical
from common.errors import BadInput, BadManifest, BadSignature, BadUpdate
from common.ids import digest, slug
from common.tensors.safe import strict_json

SCHEMA = 1
DOMAIN = b"hansa model manifest v1\n"
MAX_MANIFEST = 32 * 1024 * 1024  # bytes of the envelope
ROLES = ("weights", "graph", "packed")
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class BlobRef:
    """A blob by content."""

    digest: str
    size: int  # bytes


@dataclass(frozen=True)
class Port:
    """One input or output of the graph; a name in the shape is a free dimension."""

    name: str
    dtype: str  # safetensors name, or "STR"
    shape: Shape


@dataclass(frozen=True)
class TensorRow:
    """One row of the dtype and shape table of the weights."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """One immutable version.  "" and 0 stand for "none" throughout."""

    tenant: str
    model: str
    version: int
    source: str  # "job" | "import"
    federation: str
    job: str
    app_digest: str
    parent: str  # digest of the previous version's manifest
    round: int
    cohort: int  # nodes whose updates are in it
    metrics: dict[str, float]
    tensors: tuple[TensorRow, ...]
    blobs: dict[str, BlobRef]  # by role
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    environment: dict[str, str]  # of the export: tool -> release
    packing: str  # "fp16" | "int8" | "fp32" | ""
    packing_error: float  # largest absolute difference of a weight
    created_at: str  # ISO 8601, UTC
    key_id: str
    schema: int = field(default=SCHEMA)

    @property
    def servable(self) -> bool:
        """Whether a node can serve it."""
        return "graph" in self.blobs and "packed" in self.blobs

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return canonical(asdict(self))


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """Return the signed envelope; the caller has put the key's id into ``manifest.key_id``."""
    payload = manifest.to_bytes()
    envelope = {
        "key_id": manifest.key_id,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signature": base64.b64encode(crypto_keys.sign(key, DOMAIN + payload)).decode("ascii"),
    }
    return canonical(envelope)


def verify(envelope: bytes, keys: Mapping[str, bytes]) -> Manifest:
    """Return the manifest in ``envelope`` if a pinned key signed it.

    Args:
        envelope: What ``sign`` returned.
        keys: Raw Ed25519 public keys by key id.

    Raises:
        BadSignature: no pinned key of that id, or it did not sign these bytes.
        BadManifest: malformed.
    """
    payload, key_id, signature = _open(envelope)
    if key_id not in keys:
        raise BadSignature(f"manifest is signed by key {key_id[:80]!r}, which is not pinned here")
    crypto_keys.verify(keys[key_id], signature, DOMAIN + payload)
    manifest = parse(payload)
    if manifest.key_id != key_id:
        raise BadSignature(f"manifest names key {manifest.key_id[:80]!r} but is signed by {key_id}")
    return manifest


def read_unverified(envelope: bytes) -> Manifest:
    """Return the manifest of an envelope that this process wrote itself and found by digest.

    Raises:
        BadManifest: malformed.
    """
    return parse(_open(envelope)[0])


def parse(payload: bytes) -> Manifest:
    """Return the manifest in canonical JSON.

    Raises:
        BadManifest: anything ``Manifest.to_bytes`` would not have written.
    """
    try:
        manifest = _manifest(strict_json(payload, "the manifest"))
        same = manifest.to_bytes() == payload
    except (BadUpdate, BadInput) as error:
        raise BadManifest(error.detail) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadManifest(f"the manifest is malformed: {str(error)[:120]}") from error
    if not same:
        raise BadManifest("the manifest is not canonical JSON")
    return manifest


def _open(envelope: bytes) -> tuple[bytes, str, bytes]:
    if len(envelope) > MAX_MANIFEST:
        raise BadManifest(f"a manifest of {len(envelope)} bytes is over the limit of {MAX_MANIFEST}")
    try:
        table = strict_json(envelope, "the envelope")
        key_id, payload, signature = table["key_id"], table["payload"], table["signature"]
        if len(table) != 3 or not isinstance(key_id, str):
            raise BadManifest("the envelope must hold exactly key_id, payload and signature")
        return base64.b64decode(payload, validate=True), key_id, base64.b64decode(signature, validate=True)
    except BadUpdate as error:
        raise BadManifest(error.detail) from error
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BadManifest("the envelope is malformed") from error


_TEXTS = ("federation", "job", "app_digest", "parent", "created_at", "key_id")


def _manifest(data: dict[str, Any]) -> Manifest:
    if data["schema"] != SCHEMA:
        raise BadManifest(f"manifest schema {str(data['schema'])[:20]} is not {SCHEMA}")
    if data["source"] not in {"job", "import"} or data["packing"] not in {"", "fp16", "int8", "fp32"}:
        raise BadManifest("source or packing has an unknown value")
    for key in _TEXTS:
        _text(data[key], key)
    for key, low in (("version", 1), ("round", 0), ("cohort", 0)):
        _whole(data[key], key, low)
    return Manifest(
        **data
        | {
            "tenant": slug(_text(data["tenant"], "tenant"), what="tenant"),
            "model": slug(_text(data["model"], "model"), what="model"),
            "metrics": {_text(k, "metric"): _real(v, k) for k, v in data["metrics"].items()},
            "tensors": tuple(_row(row) for row in data["tensors"]),
            "blobs": {role: _blob(role, ref) for role, ref in data["blobs"].items()},
            "inputs": tuple(_port(row) for row in data["inputs"]),
            "outputs": tuple(_port(row) for row in data["outputs"]),
            "environment": {_text(k, "tool"): _text(v, k) for k, v in data["environment"].items()},
            "packing_error": _real(data["packing_error"], "packing_error"),
        }
    )


def _blob(role: str, ref: dict[str, Any]) -> BlobRef:
    if role not in ROLES:
        raise BadManifest(f"blob role {role[:20]!r} is not one of {', '.join(ROLES)}")
    return BlobRef(**ref | {"digest": digest(_text(ref["digest"], role)), "size": _whole(ref["size"], role, 0)})


def _row(row: dict[str, Any]) -> TensorRow:
    shape = tuple(_whole(d, "dimension", 0) for d in row["shape"])
    return TensorRow(
        **row | {"name": _text(row["name"], "name"), "dtype": _text(row["dtype"], "dtype"), "shape": shape}
    )


def _port(row: dict[str, Any]) -> Port:
    shape = tuple(d if isinstance(d, str) else _whole(d, "dimension", 0) for d in row["shape"])
    name, dtype = _text(row["name"], "name"), _text(row["dtype"], "dtype")
    return Port(**row | {"name": name, "dtype": dtype, "shape": shape})


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise BadManifest(f"{what[:40]} must be a text of at most 1024 characters")
    return value


def _whole(value: object, what: str, low: int) -> int:
    if type(value) is not int or not low <= value < 2**53:
        raise BadManifest(f"{what[:40]} must be a whole number of at least {low}")
    return value


def _real(value: object, what: str) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise BadManifest(f"{what[:40]} must be a finite number")
    return value
