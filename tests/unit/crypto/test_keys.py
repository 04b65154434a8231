"""Keys on disk and signatures; the coordinator's three keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.keyring import RENEW_TLS_S, open_keyring
from common.crypto.keys import (
    key_id,
    load_ed25519,
    load_p256,
    load_private,
    new_ed25519,
    new_p256,
    private_pem,
    public_bytes,
    public_sha256,
    save_private,
    sign,
    verify,
)
from common.crypto.x509 import SERVER_LIFETIME_S, make_csr, parse_csr
from common.errors import BadInput, BadSignature

NOW = 1_800_000_000.0


def test_a_saved_key_is_its_owners_alone_and_reads_back(tmp_path: Path) -> None:
    path, key = tmp_path / "key.pem", new_p256()
    save_private(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert private_pem(load_private(path)) == private_pem(key)
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"], "nothing half-written stays"


def test_a_key_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    save_private(tmp_path / "ec", new_p256())
    save_private(tmp_path / "ed", new_ed25519())
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(BadInput):
        load_p256(tmp_path / "ed")
    with pytest.raises(BadInput):
        load_ed25519(tmp_path / "ec")
    with pytest.raises(BadInput):
        load_private(tmp_path / "junk")


def test_key_and_request_have_the_same_public_hash() -> None:
    key = new_p256()
    assert public_sha256(key) == public_sha256(parse_csr(make_csr(key))) == public_sha256(key.public_key())
    assert public_sha256(key) != public_sha256(new_p256())


# RFC 8032, section 7.1, test 3.
_SECRET = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
_PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def test_ed25519_signs_as_rfc_8032_says() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(_SECRET)
    assert public_bytes(key) == _PUBLIC
    assert sign(key, bytes.fromhex("af82")) == _SIGNATURE
    verify(_PUBLIC, _SIGNATURE, bytes.fromhex("af82"))


@given(st.binary(max_size=100), st.binary(max_size=80), st.binary(max_size=40))
def test_no_other_signature_key_or_text_verifies(data: bytes, signature: bytes, public: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(_PUBLIC, signature, data)
    with pytest.raises(BadSignature):
        verify(public, _SIGNATURE, data)


def test_a_key_id_is_short_and_stable() -> None:
    assert key_id(b"") == "e3b0c44298fc1c14"  # SHA-256 of nothing


def test_three_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    first = open_keyring(tmp_path, ["localhost"], NOW)
    again = open_keyring(tmp_path, ["localhost"], NOW + 60)
    assert (first.ca.pem, first.tls_certificate, first.manifest_keys) == (
        again.ca.pem,
        again.tls_certificate,
        again.manifest_keys,
    )
    secrets = ["ca/ca.key", "tls/key.pem", "signing/key.pem"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in secrets] == [0o600] * 3
    assert len({(tmp_path / name).read_bytes() for name in secrets}) == 3
    ((name, public),) = first.manifest_keys.items()
    assert name == key_id(bytes.fromhex(public))


def test_the_server_certificate_follows_new_hosts_and_age_while_the_ca_stays(tmp_path: Path) -> None:
    first = open_keyring(tmp_path, ["localhost"], NOW)
    more = open_keyring(tmp_path, ["localhost", "10.0.0.1"], NOW)
    fewer = open_keyring(tmp_path, ["10.0.0.1"], NOW)
    old = open_keyring(tmp_path, ["10.0.0.1"], NOW + SERVER_LIFETIME_S - RENEW_TLS_S + 1)
    certificates = [k.tls_certificate for k in (first, more, fewer, old)]
    assert len(set(certificates)) == 3
    assert certificates[1] == certificates[2]
    assert {k.ca.pem for k in (first, more, fewer, old)} == {first.ca.pem}
    x509.load_pem_x509_certificate(old.tls_certificate).verify_directly_issued_by(first.ca.certificate)


def test_a_damaged_keyring_is_refused_not_replaced(tmp_path: Path) -> None:
    open_keyring(tmp_path, ["localhost"], NOW)
    (tmp_path / "ca" / "ca.key").write_bytes(b"junk")
    with pytest.raises(BadInput):
        open_keyring(tmp_path, ["localhost"], NOW)
    assert (tmp_path / "ca" / "ca.key").read_bytes() == b"junk"
