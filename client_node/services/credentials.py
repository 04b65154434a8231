"""The node's key and certificate on disk, and how both change together.

A renewal makes ``next.pem`` first, asks for its certificate, then replaces ``cert.pem`` and, last, ``key.pem``.  A
crash in between is mended by whoever reads them next: the certificate says which key it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from client_node.services.node_dir import NodeDir
from common.crypto.files import sync_folder, write_atomic
from common.crypto.keys import load_p256, new_p256, private_pem, public_sha256, save_private
from common.crypto.x509 import NodeCertificate, read_node_cert
from common.errors import BadInput, NotFound


@dataclass(frozen=True)
class Credentials:
    """What proves who this node is, as PEM, and what its certificate says."""

    key: bytes = field(repr=False)
    certificate: bytes
    ca: bytes
    says: NodeCertificate


def load_credentials(place: NodeDir) -> Credentials:
    """Return the node's credentials, ending a renewal that a crash interrupted.

    Raises:
        NotFound: this node has not joined. BadInput: its files are damaged or do not belong together.
    """
    try:
        certificate, ca = place.certificate.read_bytes(), place.ca.read_bytes()
        says = read_node_cert(certificate)
        key = load_p256(place.key)
        if public_sha256(key) != says.key_sha256:
            key = _finish_renewal(place, says)
    except FileNotFoundError as error:
        raise NotFound(
            f"{place.root} holds no {Path(error.filename).name}: this node has not joined",
            next_step="hansa node join https://HOST:PORT --token TOKEN",
        ) from error
    return Credentials(private_pem(key), certificate, ca, says)


def next_key(place: NodeDir) -> ec.EllipticCurvePrivateKey:
    """Return the key to renew with: the one a lost reply was for, or a fresh one, on disk before it is used."""
    path = _next(place)
    if not path.exists():
        save_private(path, new_p256())
    return load_p256(path)


def forget_next_key(place: NodeDir) -> None:
    """Drop a key whose renewal was refused."""
    _next(place).unlink(missing_ok=True)


def install_renewed(place: NodeDir, certificate: bytes) -> None:
    """Make ``certificate`` and the key it was asked for the node's own.

    Raises:
        BadInput: it is not for that key, or not for this node.
    """
    says, before = read_node_cert(certificate), read_node_cert(place.certificate.read_bytes())
    if says.key_sha256 != public_sha256(load_p256(_next(place))) or says.node != before.node:
        raise BadInput("the renewed certificate is not for this node's new key")
    write_atomic(place.certificate, certificate)
    _finish_renewal(place, says)


def _finish_renewal(place: NodeDir, says: NodeCertificate) -> ec.EllipticCurvePrivateKey:
    if not _next(place).exists():
        raise BadInput(
            f"{place.key} does not belong to {place.certificate}",
            next_step="ask a tenant admin for a new token and join again: hansa node join",
        )
    key = load_p256(_next(place))
    if public_sha256(key) != says.key_sha256:
        raise BadInput(f"neither {place.key} nor {_next(place)} belongs to {place.certificate}")
    _next(place).replace(place.key)
    sync_folder(place.root)
    return key


def _next(place: NodeDir) -> Path:
    return place.root / "next.pem"
