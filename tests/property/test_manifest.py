"""Hostile manifests raise nothing but our own errors."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadManifest, BadSignature
from common.manifest import BlobRef, Manifest, parse, verify

GOOD = Manifest(
    tenant="a", model="m", version=1, source="job", federation="", job="", app_digest="", parent="", round=0, cohort=0,
    metrics={"loss": 0.5}, tensors=(), blobs={"weights": BlobRef("0" * 64, 1)}, inputs=(), outputs=(), environment={},
    packing="", packing_error=0.0, created_at="", key_id="k",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(GOOD.to_bytes()))), JSON)
def test_a_manifest_with_any_one_value_replaced_is_read_exactly_or_refused(key, value):
    table = json.loads(GOOD.to_bytes()) | {key: value}
    payload = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    with contextlib.suppress(BadManifest):
        assert parse(payload).to_bytes() == payload


@given(st.binary(max_size=200) | st.builds(lambda v: json.dumps(v).encode(), JSON))
def test_noise_is_no_envelope(noise):
    try:
        verify(noise, {})
    except (BadManifest, BadSignature):
        return
    raise AssertionError("noise was verified")
