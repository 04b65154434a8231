"""The coordinator's three keys on disk: CA, TLS, manifest signing.  Made once, then read.

Losing one does not lose the others: the CA key can be taken offline between joins, the TLS key is replaced at will,
manifests name the key that signed them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto.files import private_folder, write_atomic
from common.crypto.keys import key_id, load_ed25519, new_ed25519, public_bytes, save_private
from common.crypto.x509 import Authority, load_ca, make_ca, parse_certificate, server_cert

RENEW_TLS_S = 180 * 86400.0


@dataclass(frozen=True)
class Keyring:
    """What the composition root hands to the services."""

    ca: Authority
    tls_key: bytes = field(repr=False)  # PEM
    tls_certificate: bytes  # PEM
    signing: Ed25519PrivateKey = field(repr=False)

    @property
    def manifest_keys(self) -> dict[str, str]:
        """Key id to public key (hex), as nodes pin them."""
        public = public_bytes(self.signing)
        return {key_id(public): public.hex()}


def open_keyring(folder: Path, hosts: Sequence[str], now: float) -> Keyring:
    """Return the keys under ``folder``, making those that are missing.

    The server's certificate is made anew when ``hosts`` has a name it lacks or half a year is left.

    Raises:
        BadInput: a file there is damaged.
    """
    private_folder(folder)
    with (folder / ".keyring").open("w") as lock:  # two processes must not make two CAs
        fcntl.flock(lock, fcntl.LOCK_EX)
        ca = _open_ca(private_folder(folder / "ca"), now)
        key, certificate = _open_tls(private_folder(folder / "tls"), ca, hosts, now)
        return Keyring(ca, key, certificate, _open_signing(private_folder(folder / "signing")))


def _open_ca(folder: Path, now: float) -> Authority:
    if not (folder / "ca.pem").exists():
        key, certificate = make_ca("hansa", now=now)
        write_atomic(folder / "ca.key", key, mode=0o600)
        write_atomic(folder / "ca.pem", certificate)
    return load_ca((folder / "ca.key").read_bytes(), (folder / "ca.pem").read_bytes())


def _open_tls(folder: Path, ca: Authority, hosts: Sequence[str], now: float) -> tuple[bytes, bytes]:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    if not certificate.exists() or not _serves(parse_certificate(certificate.read_bytes()), ca, hosts, now):
        key_pem, certificate_pem = server_cert(ca, hosts, now=now)
        certificate.unlink(missing_ok=True)  # a key without its certificate is made anew, the reverse would not be
        write_atomic(key, key_pem, mode=0o600)
        write_atomic(certificate, certificate_pem)
    return key.read_bytes(), certificate.read_bytes()


def _serves(certificate: x509.Certificate, ca: Authority, hosts: Sequence[str], now: float) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    fresh = certificate.not_valid_after_utc.timestamp() - now > RENEW_TLS_S
    return fresh and set(hosts) <= held and certificate.issuer == ca.certificate.subject


def _open_signing(folder: Path) -> Ed25519PrivateKey:
    if not (folder / "key.pem").exists():
        save_private(folder / "key.pem", new_ed25519())
    key = load_ed25519(folder / "key.pem")
    public = public_bytes(key).hex().encode()
    if not (folder / "pub").exists() or (folder / "pub").read_bytes() != public:
        write_atomic(folder / "pub", public)
    return key
