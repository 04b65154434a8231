"""What one node can prove to another: a statement signed with the key of a certificate that the CA signed."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from common.crypto.keys import parse_private
from common.crypto.x509 import NodeCertificate, parse_certificate, read_node_cert
from common.errors import BadInput, BadSignature

MAX_CERTIFICATE = 8 * 1024  # bytes of PEM
_SKEW_S = 300.0  # clocks of two nodes may differ so much


def sign_statement(key_pem: bytes, statement: bytes) -> bytes:
    """Return the ECDSA-SHA256 signature of a node's certificate key.

    Raises:
        BadInput: it is no P-256 key.
    """
    key = parse_private(key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput("a node signs with the P-256 key of its certificate")
    return key.sign(statement, ec.ECDSA(SHA256()))


def verify_statement(certificate_pem: bytes, signature: bytes, statement: bytes) -> None:
    """Return if the certificate's key signed ``statement``.

    Raises:
        BadSignature: it did not. BadInput: it is no certificate.
    """
    key = parse_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadSignature("a node's certificate is for a P-256 key")
    try:
        key.verify(signature, statement, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise BadSignature("a node's statement was not signed with the key of its certificate") from error


def verified_node(certificate_pem: bytes, ca_pem: bytes, now: float) -> NodeCertificate:
    """Return what a peer's certificate says, if the CA that this node pinned issued it and it is valid now.

    Raises:
        BadSignature: another CA signed it, or it is out of date. BadInput: it names no node.
    """
    if len(certificate_pem) > MAX_CERTIFICATE:
        raise BadInput(f"a certificate of {len(certificate_pem)} bytes is over the limit of {MAX_CERTIFICATE}")
    says = read_node_cert(certificate_pem)
    certificate, ca = parse_certificate(certificate_pem), parse_certificate(ca_pem)
    try:
        certificate.verify_directly_issued_by(ca)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise BadSignature(f"the certificate of node {says.node} was not issued by this coordinator's CA") from error
    if constraints.ca or not says.not_before - _SKEW_S <= now <= says.not_after + _SKEW_S:
        raise BadSignature(f"the certificate of node {says.node} is out of date")
    return says
