"""Certificates: who names whom, what a request may say, what a reader accepts."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.crypto.keys import new_p256, private_pem, public_sha256
from common.crypto.x509 import (
    certificate_sha256,
    issue_node_cert,
    load_ca,
    make_ca,
    make_csr,
    parse_csr,
    read_node_cert,
    server_cert,
)
from common.errors import BadInput

NOW = 1_800_000_000.0
CA = load_ca(*make_ca("test", now=NOW))


def issue(csr: bytes, **changes: object) -> bytes:
    names = {"tenant": "acme", "node": "node_1", "generation": 3, "lifetime_s": 86400.0, "now": NOW, **changes}
    return issue_node_cert(CA, csr, **names)  # type: ignore[arg-type]


def test_a_node_certificate_says_what_the_coordinator_set() -> None:
    key = new_p256()
    says = read_node_cert(issue(make_csr(key)))
    assert (says.tenant, says.node, says.generation) == ("acme", "node_1", 3)
    assert (says.not_before, says.not_after) == (NOW - 300, NOW + 86400)
    assert says.key_sha256 == public_sha256(key)


def test_names_in_the_request_are_ignored() -> None:
    key = new_p256()
    uri = x509.UniformResourceIdentifier("spiffe://hansa/tenant/victim/node/node_0")
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, "99")]))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = issue(csr.public_bytes(Encoding.PEM))
    says = read_node_cert(pem)
    assert (says.tenant, says.node, says.generation) == ("acme", "node_1", 3)
    certificate = x509.load_pem_x509_certificate(pem)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_node_certificate_is_for_clients_and_a_server_certificate_for_servers_only() -> None:
    node = x509.load_pem_x509_certificate(issue(make_csr(new_p256())))
    server = x509.load_pem_x509_certificate(server_cert(CA, ["localhost"], now=NOW)[1])
    uses = [list(c.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) for c in (node, server)]
    assert uses == [[ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.SERVER_AUTH]]
    node.verify_directly_issued_by(CA.certificate)
    server.verify_directly_issued_by(CA.certificate)


def test_a_server_certificate_names_hosts_and_addresses() -> None:
    pem = server_cert(CA, ["coord.example.org", "10.0.0.1", "::1"], now=NOW)[1]
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["coord.example.org"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]


@pytest.mark.parametrize("hosts", [[], [""], ["a b"], ["*.example.org/"], ["x" * 300]])
def test_a_server_certificate_needs_real_names(hosts: list[str]) -> None:
    with pytest.raises(BadInput):
        server_cert(CA, hosts, now=NOW)


def tampered_csr() -> bytes:
    lines = make_csr(new_p256()).splitlines()
    body = bytearray(lines[-2])
    body[3] = ord("A") if body[3] != ord("A") else ord("B")
    return b"\n".join([*lines[:-2], bytes(body), lines[-1]])


def rsa_csr() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def p384_csr() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "csr",
    [b"", b"junk", b"x" * 20_000, tampered_csr(), rsa_csr(), p384_csr(), private_pem(new_p256()), CA.pem],
    ids=["empty", "junk", "huge", "tampered", "rsa", "p384", "private key", "certificate"],
)
def test_only_a_p256_request_signed_by_its_own_key_is_taken(csr: bytes) -> None:
    with pytest.raises(BadInput):
        parse_csr(csr)


@pytest.mark.parametrize(
    "changes", [{"tenant": "a/b"}, {"tenant": ""}, {"node": "../x"}, {"node": ""}, {"generation": 0}]
)
def test_what_makes_no_name_is_not_issued(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        issue(make_csr(new_p256()), **changes)


@pytest.mark.parametrize("pem", [b"", b"junk", CA.pem, server_cert(CA, ["localhost"], now=NOW)[1]])
def test_only_a_node_certificate_reads_as_one(pem: bytes) -> None:
    with pytest.raises(BadInput):
        read_node_cert(pem)


def test_a_ca_is_pinned_by_the_hash_of_its_certificate() -> None:
    assert CA.sha256 == certificate_sha256(CA.pem) == CA.certificate.fingerprint(hashes.SHA256()).hex()
    with pytest.raises(BadInput, match="do not belong together"):
        load_ca(make_ca("other", now=NOW)[0], CA.pem)
