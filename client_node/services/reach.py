"""Can the coordinator be reached from here, and is it the one that was pinned?"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from client_node.services.checks import JOIN, Check
from client_node.services.node_dir import NodeDir
from common.clock import Clock

_TIMEOUT = 5.0  # seconds a step
_SKEW = 60.0  # seconds that certificates and leases bear easily


def check_coordinator(place: NodeDir, clock: Clock) -> list[Check]:
    """Return the steps to the coordinator in order, up to the first that fails."""
    who = place.identity()
    url = urlsplit(who.coordinator)
    host, port = url.hostname or "", url.port or 443
    link_host, _, link_port = who.link.rpartition(":")
    checks = [_resolves(host)]
    steps: tuple[Callable[[], list[Check]], ...] = (
        lambda: _connects("tcp", host, port),
        lambda: _pinned(place, who.ca_sha256),
        lambda: _answers(place, who.coordinator, clock),
        lambda: _connects("node link", link_host.strip("[]"), int(link_port or 0)),
        lambda: _link_tls(place, link_host.strip("[]"), int(link_port or 0)),
    )
    for step in steps:
        if not checks[-1].ok and checks[-1].name != "clock":
            break
        checks.extend(step())
    return checks


def _resolves(host: str) -> Check:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)}
    except OSError as error:
        return Check("dns", False, f"{host} does not resolve: {error.strerror}", f"getent hosts {host}")
    return Check("dns", True, f"{host} is {', '.join(sorted(found)[:3])}")


def _connects(name: str, host: str, port: int) -> list[Check]:
    try:
        with socket.create_connection((host, port), _TIMEOUT):
            return [Check(name, True, f"{host}:{port} accepts connections")]
    except OSError as error:
        why = error.strerror or str(error)
        fix = f"let this machine reach {host} on TCP port {port} (outbound), or start the coordinator"
        return [Check(name, False, f"{host}:{port} cannot be reached: {why}", fix)]


def _pinned(place: NodeDir, wanted: str) -> list[Check]:
    try:
        der = ssl.PEM_cert_to_DER_cert(place.ca.read_text())
    except (OSError, ValueError) as error:
        return [Check("pin", False, f"ca.pem cannot be read: {error}", JOIN)]
    if hashlib.sha256(der).hexdigest() != wanted:
        return [Check("pin", False, "ca.pem is not the CA that was pinned at join", JOIN)]
    return [Check("pin", True, f"the coordinator's CA is {wanted[:16]}…, as pinned at join")]


def _answers(place: NodeDir, url: str, clock: Clock) -> list[Check]:
    context = ssl.create_default_context(cafile=str(place.ca))
    try:
        before = clock.now()
        answer = httpx.get(f"{url.rstrip('/')}/api/v1/ca", verify=context, timeout=_TIMEOUT, trust_env=False).json()
        skew = clock.now() / 2 + before / 2 - float(answer["time"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        fix = "check that the coordinator's address is its own and no proxy is in between"
        return [Check("tls", False, f"{url} does not answer as the pinned coordinator: {error}", fix)]
    tls = Check("tls", True, f"{url} answers with a certificate of the pinned CA")
    word = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's"
    if abs(skew) > _SKEW:
        return [tls, Check("clock", False, f"this machine's clock is {word}", "timedatectl set-ntp true")]
    return [tls, Check("clock", True, f"this machine's clock is {word}")]


def _link_tls(place: NodeDir, host: str, port: int) -> list[Check]:
    context = ssl.create_default_context(cafile=str(place.ca))
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(place.certificate, place.key)
        with socket.create_connection((host, port), _TIMEOUT) as plain:
            plain.settimeout(_TIMEOUT)
            _first_word(plain, context, host)
    except (ssl.SSLError, OSError, ValueError) as error:
        fix = f"if the node was revoked: {JOIN}"
        return [Check("link tls", False, f"{host}:{port} refuses this node's certificate: {error}", fix)]
    return [Check("link tls", True, f"{host}:{port} accepts this node's certificate")]


def _first_word(plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
    """Shake hands and wait for the server's first byte: one that refuses our certificate says so only then (TLS 1.3).

    Not by ``wrap_socket``: it takes the descriptor away from ``plain`` and loses it when the peer has reset already.

    Raises:
        OSError: the peer refuses (``ssl.SSLError``), hangs up, or stays silent.
    """
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, to_send, server_hostname=host)
    for step in (tls.do_handshake, lambda: tls.read(1)):
        while True:
            try:
                step()
                break
            except ssl.SSLWantReadError:
                plain.sendall(to_send.read())
                data = plain.recv(16 * 1024)
                received.write(data) if data else received.write_eof()
        plain.sendall(to_send.read())
