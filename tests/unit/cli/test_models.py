"""Pulling and verifying a version: what is checked offline, and against which keys."""

import hashlib
import json

import pytest

from common import manifest as manifests
from common.cli.context import Contexts
from common.cli.modelfolder import check_folder, pinned_keys
from common.crypto.keys import key_id, new_ed25519, public_bytes
from common.errors import BadInput, BadManifest, BadSignature
from common.manifest import BlobRef, Manifest

WEIGHTS = b"weights" * 1000


@pytest.fixture
def signer():
    return new_ed25519()


def signed(signer, **fields):
    given = {
        "tenant": "a", "model": "heart", "version": 1, "source": "job", "federation": "f", "job": "j",
        "app_digest": "", "parent": "", "round": 3, "cohort": 2, "metrics": {"loss": 0.5}, "tensors": (),
        "blobs": {"weights": BlobRef(hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))}, "inputs": (),
        "outputs": (), "environment": {}, "packing": "", "packing_error": 0.0,
        "created_at": "2026-01-01T00:00:00.000Z", "key_id": key_id(public_bytes(signer)),
    }  # fmt: skip
    return manifests.sign(Manifest(**{**given, **fields}), signer)


@pytest.fixture
def folder(hub, hansa, signer, tmp_path):
    """A pulled version."""
    base = "/models/a/heart/versions/1"
    hub.on("GET", f"{base}/manifest", signed(signer))
    hub.on("GET", f"{base}/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}", WEIGHTS)
    code, out, err = hansa("model", "pull", "a/heart:1", tmp_path / "m")
    assert code == 0, err
    assert out.splitlines() == [str(tmp_path / "m" / "manifest.json"), str(tmp_path / "m" / "weights.safetensors")]
    return tmp_path / "m"


def key_of(signer):
    return f"{key_id(public_bytes(signer))}={public_bytes(signer).hex()}"


def test_a_pulled_version_verifies_against_its_signer(folder, hansa, signer):
    code, out, err = hansa("model", "verify", folder, "--key", key_of(signer), "--json")
    assert code == 0
    assert "good: a/heart v1" in err
    assert json.loads(out)["files"] == ["weights.safetensors"]


def test_another_signer_is_refused(folder, hansa):
    assert hansa("model", "verify", folder, "--key", key_of(new_ed25519()))[0] == 1


def test_one_changed_byte_is_found(folder, signer):
    keys = {key_id(public_bytes(signer)): public_bytes(signer)}
    assert check_folder(folder, keys)[1] == ["weights.safetensors"]
    data = bytearray(WEIGHTS)
    data[5000] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(BadSignature, match="has digest"):
        check_folder(folder, keys)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BadSignature, match="is missing"):
        check_folder(folder, keys)


def test_a_blob_that_is_not_what_the_manifest_names_is_not_kept(hub, hansa, signer, tmp_path):
    base = "/models/a/heart/versions/1"
    hub.on("GET", f"{base}/manifest", signed(signer))
    hub.on("GET", f"{base}/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}", b"other")
    assert hansa("model", "pull", "a/heart:1", tmp_path / "m")[0] == 1
    assert not list((tmp_path / "m").iterdir())


def test_another_version_s_manifest_is_refused(hub, hansa, signer, tmp_path):
    hub.on("GET", "/models/a/heart/versions/2/manifest", signed(signer))
    code, _, err = hansa("model", "pull", "a/heart:2", tmp_path / "m")
    assert code == 1
    assert BadManifest.code in err


def test_a_folder_with_other_things_in_it_is_left_alone(hub, hansa, signer, tmp_path):
    hub.on("GET", "/models/a/heart/versions/1/manifest", signed(signer))
    (tmp_path / "mine").write_text("x")
    assert hansa("model", "pull", "a/heart:1", tmp_path)[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_node_s_pinned_signers_will_do_and_none_will_not(folder, signer, tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node.json").write_text(json.dumps({"manifest_keys": {"k": "00" * 32}}))
    assert pinned_keys([], tmp_path / "node", Contexts()) == {"k": bytes(32)}
    with pytest.raises(BadInput):
        pinned_keys([], None, Contexts())
    with pytest.raises(BadInput):
        pinned_keys(["k=xyz"], None, Contexts())
    with pytest.raises(BadInput):
        pinned_keys([], tmp_path, Contexts())


def test_an_alias_is_moved_from_the_generation_that_was_seen(hub, hansa):
    version = {
        "tenant": "a", "model": "heart", "version": 3, "manifest": "", "manifest_size": 0, "federation": None,
        "job": None, "round": 0, "created_at": "2026-01-01T00:00:00.000Z", "metrics": {}, "servable": True,
    }  # fmt: skip
    old = {"name": "prod", "version": 1, "generation": 7, "moved_by": "x", "moved_at": "2026-01-01T00:00:00.000Z"}
    hub.on("GET", "/models/a/heart", {"tenant": "a", "model": "heart", "versions": [version], "aliases": [old]})
    hub.on("PUT", "/models/a/heart/aliases/prod", {**old, "version": 3, "generation": 8})
    assert hansa("model", "alias", "a/heart", "prod")[0] == 0
    assert json.loads(hub.asked[-1][2]) == {"version": 3, "expected_generation": 7}


def test_a_version_or_an_alias_is_shown_alone_and_one_that_is_not_there_is_not_found(hub, hansa):
    version = {
        "tenant": "a", "model": "heart", "version": 3, "manifest": "", "manifest_size": 0, "federation": None,
        "job": "job_1", "round": 2, "created_at": "2026-01-01T00:00:00.000Z", "metrics": {}, "servable": True,
    }  # fmt: skip
    prod = {"name": "prod", "version": 3, "generation": 7, "moved_by": "x", "moved_at": "2026-01-01T00:00:00.000Z"}
    both = [version, {**version, "version": 4, "job": "job_2"}]
    hub.on("GET", "/models/a/heart", {"tenant": "a", "model": "heart", "versions": both, "aliases": [prod]})
    for which in ("a/heart:3", "a/heart:prod"):
        code, out, _ = hansa("model", "show", which, "--json")
        assert (code, json.loads(out)) == (0, {**version, "aliases": ["prod"]})
    code, _, err = hansa("model", "show", "a/heart:9")
    assert code == 1
    assert "its newest is 4" in err
