"""Why the coordinator cannot be reached, in one sentence an operator can act on.

gRPC's own text is of little use here ("Socket closed" for a clock that is wrong), so the connection is tried once more
step by step: name, TCP, TLS, what the other end says of our certificate.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from client_node.services.credentials import Credentials
from common.clock import Clock, iso

TIMEOUT_S = 5.0
# OpenSSL's X509_V_ERR_*: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_NOT_YET, _EXPIRED, _HOST, _IP = 9, 10, 62, 64
_UNKNOWN_CA = {18, 19, 20, 21}


class _CertificateRefused(OSError):
    """The other end hung up as soon as it had seen this node's certificate."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``address``, IPv6 in brackets or not."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


def diagnose(address: str, mine: Credentials, clock: Clock) -> str:
    """Return why a connection to ``address`` fails, or "" if nothing is found; blocks for some seconds."""
    now = clock.now()
    if now >= mine.says.not_after:
        return (
            f"this node's certificate expired at {iso(mine.says.not_after)} (this clock says {iso(now)}); "
            "ask a tenant admin for a new token and join again: hansa node join"
        )
    if now < mine.says.not_before:
        return (
            f"this machine's clock is wrong: it says {iso(now)}, but this node's certificate begins at "
            f"{iso(mine.says.not_before)}; set the clock: timedatectl set-ntp true"
        )
    try:
        _connect(address, mine)
    except OSError as error:
        return _sentence(error, address, mine, now)
    return ""


def _connect(address: str, mine: Credentials) -> None:
    host, port = split_address(address)
    came, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context(mine).wrap_bio(came, to_send, server_hostname=host)
    # Not wrap_socket: it leaks the descriptor when the other end resets the connection before the handshake.
    with socket.create_connection((host, port), TIMEOUT_S) as plain:
        plain.settimeout(TIMEOUT_S)
        _pump(tls.do_handshake, plain, came, to_send)
        try:  # under TLS 1.3 the other end judges our certificate only now; gRPC just hangs up if it does not like it
            _pump(lambda: tls.read(1), plain, came, to_send)
        except (ssl.SSLError, ConnectionError) as error:
            raise _CertificateRefused from error


def _pump(step: Callable[[], object], plain: socket.socket, came: ssl.MemoryBIO, to_send: ssl.MemoryBIO) -> None:
    """Run one step of TLS, carrying its bytes."""
    while True:
        try:
            step()
        except ssl.SSLWantReadError:
            plain.sendall(to_send.read())
            if data := plain.recv(65536):
                came.write(data)
            else:
                came.write_eof()
        else:
            plain.sendall(to_send.read())
            return


def _sentence(error: OSError, address: str, mine: Credentials, now: float) -> str:
    match error:
        case socket.gaierror():
            host = split_address(address)[0]
            return f"DNS: {host} does not resolve ({error.strerror}); check the name and this machine's resolver"
        case ConnectionRefusedError():
            return f"{address} refuses connections: the coordinator is down or listens on another port"
        case _CertificateRefused():
            return _our_certificate(mine, now)
        case ssl.SSLError():
            return _their_certificate(error, address, now)
        case TimeoutError():
            return f"{address} does not answer: a firewall drops the packets, or the coordinator hangs"
        case _:
            return f"{address} cannot be reached: {error.strerror or error}"


def _context(mine: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=mine.ca.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads keys from files only; made 0700
        chain = Path(folder) / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(mine.key + mine.certificate)
        context.load_cert_chain(chain)
    return context


def _their_certificate(error: ssl.SSLError, address: str, now: float) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"{address} does not speak TLS as the node link does ({error.reason or error}); is it the right port?"
    code = error.verify_code
    if code in {_NOT_YET, _EXPIRED}:
        word = "is not valid yet" if code == _NOT_YET else "has expired"
        return f"the coordinator's certificate {word} by this machine's clock ({iso(now)}): one of the two is wrong"
    if code in _UNKNOWN_CA:
        return (
            f"{address} shows a certificate of another CA than the one pinned at join: it is not this node's "
            "coordinator, or its CA was made anew (then join again), or a proxy opens TLS in between"
        )
    if code in {_HOST, _IP}:
        return f"the coordinator's certificate is not for {address}: its operator must serve with this host name"
    return f"the coordinator's certificate is refused: {error.verify_message}"


def _our_certificate(mine: Credentials, now: float) -> str:
    return (
        f"the coordinator hangs up on this node's certificate (good from {iso(mine.says.not_before)} to "
        f"{iso(mine.says.not_after)}; this clock says {iso(now)}): its clock is outside of that time, or its CA was "
        "made anew (then join again)"
    )
