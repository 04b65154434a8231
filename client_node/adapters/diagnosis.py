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
        return _sentence(error, address, now)
    return ""


def _connect(address: str, mine: Credentials) -> None:
    host, port = split_address(address)
    came, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context(mine).wrap_bio(came, to_send, server_hostname=host)
    # Not wrap_socket: it leaks the descriptor when the other end resets the connection before the handshake.
    with socket.create_connection((host, port), TIMEOUT_S) as plain:
        plain.settimeout(TIMEOUT_S)
        for step in (tls.do_handshake, lambda: tls.read(1)):  # TLS 1.3: a refusal of our certificate comes only now
            _pump(step, plain, came, to_send)


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


def _sentence(error: OSError, address: str, now: float) -> str:
    match error:
        case socket.gaierror():
            host = split_address(address)[0]
            return f"DNS: {host} does not resolve ({error.strerror}); check the name and this machine's resolver"
        case ConnectionRefusedError():
            return f"{address} refuses connections: the coordinator is down or listens on another port"
        case ssl.SSLCertVerificationError():
            return _their_certificate(error, address, now)
        case ssl.SSLError():
            return _their_refusal(error, now)
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


def _their_certificate(error: ssl.SSLCertVerificationError, address: str, now: float) -> str:
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


def _their_refusal(error: ssl.SSLError, now: float) -> str:
    text = (error.reason or str(error)).lower()
    if "alert" not in text:
        return f"TLS fails: {error.reason or error}; is this the node link's port?"
    if "unknown_ca" in text or "unknown ca" in text:
        return "the coordinator does not know this node's CA: it was set up anew; join again"
    return (
        f"the coordinator refuses this node's certificate ({text.replace('_', ' ')}); either its clock and this one "
        f"({iso(now)}) differ, or the certificate is no longer good"
    )
