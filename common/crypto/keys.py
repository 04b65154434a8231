"""Key pairs: P-256 for certificates, Ed25519 for manifests.  A private key never leaves the machine it was made on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from common.crypto.files import write_atomic
from common.errors import BadInput, BadSignature

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Certified = ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey | x509.Certificate | x509.CertificateSigningRequest


def new_p256() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_ed25519() -> ed25519.Ed25519PrivateKey:
    """Return a fresh Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def private_pem(key: PrivateKey) -> bytes:
    """Return ``key`` as unencrypted PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def save_private(path: Path, key: PrivateKey) -> None:
    """Write ``key`` to ``path`` atomically, readable by its owner only from the first byte on."""
    write_atomic(path, private_pem(key), mode=0o600)


def parse_private(data: bytes) -> PrivateKey:
    """Return the P-256 or Ed25519 key in PEM ``data``.

    Raises:
        BadInput: it holds no such key.
    """
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise BadInput("not an unencrypted PEM private key") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise BadInput("the private key is neither P-256 nor Ed25519")


def load_private(path: Path) -> PrivateKey:
    """Return the key in file ``path``.

    Raises:
        BadInput: it holds no P-256 or Ed25519 key.
    """
    return parse_private(path.read_bytes())


def load_p256(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in file ``path``.

    Raises:
        BadInput: it holds another kind of key.
    """
    key = load_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{path.name} holds no P-256 key")
    return key


def load_ed25519(path: Path) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key in file ``path``.

    Raises:
        BadInput: it holds another kind of key.
    """
    key = load_private(path)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BadInput(f"{path.name} holds no Ed25519 key")
    return key


def public_sha256(source: Certified) -> str:
    """Return the hex SHA-256 of the public key (DER SubjectPublicKeyInfo) of a key, certificate or CSR."""
    key = source if isinstance(source, ec.EllipticCurvePublicKey) else source.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def public_bytes(key: ed25519.Ed25519PrivateKey) -> bytes:
    """Return the 32 raw bytes of ``key``'s public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(public: bytes) -> str:
    """Return the short name of a raw Ed25519 public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(key: ed25519.Ed25519PrivateKey, data: bytes) -> bytes:
    """Return the 64-byte Ed25519 signature of ``data``."""
    return key.sign(data)


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    """Return if ``signature`` is ``public``'s over ``data``.

    Raises:
        BadSignature: it is not, or ``public`` is no Ed25519 key.
    """
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"the signature does not match key {key_id(public)}") from error
