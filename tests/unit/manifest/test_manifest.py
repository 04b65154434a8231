"""A manifest is believed only as it was signed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from common.crypto.keys import key_id, new_ed25519, public_bytes
from common.errors import BadManifest, BadSignature
from common.manifest import DOMAIN, BlobRef, Manifest, Port, TensorRow, parse, read_unverified, sign, verify

KEY = new_ed25519()
KEY_ID = key_id(public_bytes(KEY))
KEYS = {KEY_ID: public_bytes(KEY)}
MANIFEST = Manifest(
    tenant="alpha", model="risk", version=3, source="job", federation="fed", job="job_1", app_digest="a" * 64,
    parent="b" * 64, round=5, cohort=4, metrics={"loss": 0.25, "acc": 1.0},
    tensors=(TensorRow("arrays/w", "F32", (2, 3)),),
    blobs={"weights": BlobRef("c" * 64, 10), "graph": BlobRef("d" * 64, 11), "packed": BlobRef("e" * 64, 12)},
    inputs=(Port("x", "F32", ("batch", 3)),), outputs=(Port("y", "F32", ("batch", 2)),),
    environment={"onnx": "1.20"}, packing="int8", packing_error=0.01, created_at="2026-01-01T00:00:00.000Z",
    key_id=KEY_ID,
)  # fmt: skip


def opened(envelope: bytes) -> dict:
    return json.loads(envelope)


def signed_payload(payload: bytes) -> bytes:
    text = {
        "key_id": KEY_ID,
        "payload": base64.b64encode(payload).decode(),
        "signature": base64.b64encode(KEY.sign(DOMAIN + payload)).decode(),
    }
    return json.dumps(text).encode()


def changed(**values) -> bytes:
    return json.dumps(json.loads(MANIFEST.to_bytes()) | values, sort_keys=True, separators=(",", ":")).encode()


def test_what_was_signed_is_verified():
    assert verify(sign(MANIFEST, KEY), KEYS) == MANIFEST
    assert read_unverified(sign(MANIFEST, KEY)) == MANIFEST
    assert MANIFEST.servable
    assert not replace(MANIFEST, blobs={"weights": BlobRef("c" * 64, 10)}).servable


def test_the_bytes_are_canonical():
    data = json.loads(MANIFEST.to_bytes())
    assert MANIFEST.to_bytes() == json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def test_a_key_that_is_not_pinned_is_refused():
    other = new_ed25519()
    with pytest.raises(BadSignature):
        verify(sign(MANIFEST, KEY), {})
    with pytest.raises(BadSignature):
        verify(sign(MANIFEST, other), KEYS)
    with pytest.raises(BadSignature):
        verify(sign(MANIFEST, KEY), {KEY_ID: public_bytes(other)})


def test_a_manifest_that_names_another_key_than_signed_it_is_refused():
    other = new_ed25519()
    other_id = key_id(public_bytes(other))
    envelope = opened(sign(MANIFEST, other)) | {"key_id": other_id}
    with pytest.raises(BadSignature):
        verify(json.dumps(envelope).encode(), KEYS | {other_id: public_bytes(other)})


def test_every_changed_byte_of_the_payload_is_noticed():
    envelope = opened(sign(MANIFEST, KEY))
    payload = base64.b64decode(envelope["payload"])
    for at in range(0, len(payload), 7):
        bad = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(BadSignature):
            verify(json.dumps(envelope | {"payload": base64.b64encode(bad).decode()}).encode(), KEYS)


def test_a_signature_over_the_bare_payload_is_no_signature_of_a_manifest():
    payload = MANIFEST.to_bytes()
    envelope = opened(signed_payload(payload)) | {"signature": base64.b64encode(KEY.sign(payload)).decode()}
    with pytest.raises(BadSignature):
        verify(json.dumps(envelope).encode(), KEYS)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[]", b"null", MANIFEST.to_bytes() + b" ", MANIFEST.to_bytes().replace(b",", b", ", 1),
        MANIFEST.to_bytes().replace(b'"round":5', b'"round":5,"round":6'), changed(schema=2), changed(extra=1),
        changed(version=0), changed(version="3"), changed(version=True), changed(round=-1), changed(source="gift"),
        changed(tenant="../etc"), changed(model="a/b"), changed(metrics={"loss": 1}), changed(metrics={"loss": "low"}),
        changed(metrics=[1]), changed(blobs={"secret": {"digest": "c" * 64, "size": 1}}),
        changed(blobs={"graph": {"digest": "../../x", "size": 1}}), changed(blobs={"graph": {"digest": "c" * 64}}),
        changed(blobs={"graph": {"digest": "c" * 64, "size": -1}}), changed(blobs={"graph": 3}), changed(tensors=3),
        changed(tensors=[{"name": "w", "dtype": "F32", "shape": [-1]}]), changed(inputs=[{"name": "x"}]),
        changed(packing="int4"), changed(packing_error=float("nan")), changed(environment={"onnx": 1}),
        changed(job="j" * 2000), changed(packing=[]), changed(key_id=None),
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_refused_even_if_it_is_signed(payload):
    with pytest.raises(BadManifest):
        verify(signed_payload(payload), KEYS)


@pytest.mark.parametrize(
    "envelope",
    [b"", b"{}", b"[]", b'{"key_id":1,"payload":"","signature":""}', b'{"payload":"%","key_id":"","signature":""}'],
)
def test_a_malformed_envelope_is_refused(envelope):
    with pytest.raises(BadManifest):
        verify(envelope, KEYS)


def test_the_same_bytes_for_ever():
    """A frozen manifest of schema 1; if this fails, old signatures stop verifying."""
    frozen = (
        b'{"app_digest":"","blobs":{},"cohort":0,"created_at":"t","environment":{},"federation":"","inputs":'
        b'[{"dtype":"F32","name":"x","shape":["batch",3]}],"job":"","key_id":"k","metrics":{},"model":"m","outputs":[],'
        b'"packing":"","packing_error":0.0,"parent":"","round":0,"schema":1,"source":"import","tenant":"t","tensors":[],'
        b'"version":1}'
    )
    assert parse(frozen).to_bytes() == frozen
    assert parse(frozen).inputs == (Port("x", "F32", ("batch", 3)),)
