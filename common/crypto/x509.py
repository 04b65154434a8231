"""Certificates of the node link.

One CA signs the server's certificate and the nodes'.  A node is named by the URI
``spiffe://hansa/tenant/<tenant>/node/<node>``; the certificate's generation stands in the subject's serial number, so
that two copies of one node are told apart at renewal.  The coordinator sets every name: what a CSR says of itself is
ignored, it only proves possession of its key.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.clock import SystemClock
from common.crypto.keys import new_p256, parse_private, private_pem, public_sha256
from common.errors import BadInput

BACKDATE_S = 300.0  # a node whose clock is up to five minutes slow can use its certificate at once
CA_LIFETIME_S = 20 * 365 * 86400.0
SERVER_LIFETIME_S = 5 * 365 * 86400.0
MAX_CSR = 16 * 1024  # bytes
_URI = re.compile(r"spiffe://hansa/tenant/([a-z0-9-]{1,40})/node/([a-z0-9_]{1,40})")


@dataclass(frozen=True)
class Authority:
    """The CA: its key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The CA certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def sha256(self) -> str:
        """What join tokens pin."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True)
class NodeCertificate:
    """What a node's certificate says."""

    tenant: str
    node: str
    generation: int
    not_after: float  # UTC seconds
    key_sha256: str
    not_before: float = 0.0


def make_ca(name: str, *, now: float | None = None) -> tuple[bytes, bytes]:
    """Return (key PEM, certificate PEM) of a fresh CA called ``name``."""
    key, at = new_p256(), _at(now)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = _usage(sign_certificates=True)
    builder = _builder(subject, subject, key.public_key(), at, CA_LIFETIME_S)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return private_pem(key), builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def load_ca(key_pem: bytes, cert_pem: bytes) -> Authority:
    """Return the CA in two PEM texts.

    Raises:
        BadInput: they are no P-256 key and its certificate.
    """
    key, certificate = parse_private(key_pem), parse_certificate(cert_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or public_sha256(key) != public_sha256(certificate):
        raise BadInput("the CA's key and certificate do not belong together")
    return Authority(key, certificate)


def server_cert(ca: Authority, hosts: Iterable[str], *, now: float | None = None) -> tuple[bytes, bytes]:
    """Return (key PEM, certificate PEM) of a fresh server key, valid for the host names and IP addresses ``hosts``.

    Raises:
        BadInput: ``hosts`` is empty or holds what is neither.
    """
    names = [_general_name(host) for host in hosts]
    if not names:
        raise BadInput("a server certificate needs at least one host name or IP address")
    key = new_p256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hansa coordinator")])
    builder = _builder(subject, ca.certificate.subject, key.public_key(), _at(now), SERVER_LIFETIME_S)
    builder = _leaf(builder, ca, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return private_pem(key), builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def make_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a PEM certificate request that proves possession of ``key`` and says nothing else."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def parse_csr(csr_pem: bytes) -> x509.CertificateSigningRequest:
    """Return the request in ``csr_pem`` if it is signed by its own P-256 key.

    Raises:
        BadInput: it is not.
    """
    if len(csr_pem) > MAX_CSR:
        raise BadInput(f"a certificate request of {len(csr_pem)} bytes is over the limit of {MAX_CSR}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadInput("a certificate request must be for a P-256 key")
        signed = csr.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadInput("not a PEM certificate request") from error
    if not signed:
        raise BadInput("the certificate request is not signed by its own key")
    return csr


def issue_node_cert(
    ca: Authority, csr_pem: bytes, tenant: str, node: str, generation: int, lifetime_s: float, now: float
) -> bytes:
    """Return the PEM certificate of ``node`` for the key in ``csr_pem``, valid from five minutes ago.

    Raises:
        BadInput: the request is malformed, or tenant and node make no URI.
    """
    csr = parse_csr(csr_pem)
    uri = f"spiffe://hansa/tenant/{tenant}/node/{node}"
    if not _URI.fullmatch(uri) or generation < 1:
        raise BadInput(f"{uri!r} generation {generation} names no node")
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - parse_csr refused every other kind
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant),
            x509.NameAttribute(NameOID.COMMON_NAME, node),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, str(generation)),
        ]
    )
    builder = _builder(subject, ca.certificate.subject, key, now, lifetime_s)
    builder = _leaf(builder, ca, ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def read_node_cert(pem: bytes) -> NodeCertificate:
    """Return what the node certificate ``pem`` says; whether its CA is ours was TLS's business.

    Raises:
        BadInput: it is no node certificate.
    """
    certificate = parse_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        serial = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
        key = public_sha256(certificate)
    except (x509.ExtensionNotFound, ValueError, UnsupportedAlgorithm) as error:
        raise BadInput("the certificate names no node") from error
    match = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None or len(serial) != 1 or not re.fullmatch(r"[1-9][0-9]{0,9}", str(serial[0].value)):
        raise BadInput("the certificate names no node")
    return NodeCertificate(
        tenant=match[1],
        node=match[2],
        generation=int(str(serial[0].value)),
        not_after=certificate.not_valid_after_utc.timestamp(),
        key_sha256=key,
        not_before=certificate.not_valid_before_utc.timestamp(),
    )


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Return the certificate in ``pem``.

    Raises:
        BadInput: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError) as error:
        raise BadInput("not a PEM certificate") from error


def certificate_sha256(pem: bytes) -> str:
    """Return the hex SHA-256 of the certificate's DER bytes: a CA's fingerprint."""
    return hashlib.sha256(parse_certificate(pem).public_bytes(Encoding.DER)).hexdigest()


def _at(now: float | None) -> float:
    return SystemClock().now() if now is None else now


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        raise BadInput(f"{host[:80]!r} is neither a host name nor an IP address")
    return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, lifetime_s: float
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(seconds=BACKDATE_S))
        .not_valid_after(start + timedelta(seconds=lifetime_s))
    )


def _leaf(builder: x509.CertificateBuilder, ca: Authority, use: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(authority, critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
