"""Becoming a node, and staying one.

``join``: trust is built in order.  The coordinator's CA is fetched without verification and must have the hash in the
token; only then is the token's secret sent, over TLS verified by that CA.  The key is made here and never leaves.
``keep_certificate``: a new key and certificate before half of the old one's life is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from client_node.ports.link import Link
from client_node.services.credentials import forget_next_key, install_renewed, load_credentials, next_key
from client_node.services.node_dir import NodeDir, NodeIdentity
from common import errors as e
from common.clock import Clock, iso
from common.crypto.files import private_folder, write_atomic
from common.crypto.keys import load_p256, new_p256, public_sha256, save_private
from common.crypto.tokens import JoinToken, parse_join_token
from common.crypto.x509 import certificate_sha256, make_csr, read_node_cert
from common.ids import slug

TIMEOUT_S = 15.0
MAX_ANSWER = 256 * 1024  # bytes
WARN_SKEW_S, REFUSE_SKEW_S = 60.0, 300.0
CHECK_S = 60.0  # how often the wall clock is looked at: it may jump
_RETRY_S = 30.0  # after a renewal that did not reach the coordinator
_SYNC = "set this machine's clock: timedatectl set-ntp true"
_log = structlog.get_logger()
_CLASSES: dict[int, type[e.PlatformError]] = {
    400: e.BadInput,
    401: e.Unauthenticated,
    403: e.PolicyDenied,
    404: e.NotFound,
    409: e.Conflict,
    422: e.BadInput,
}


@dataclass(frozen=True)
class Joined:
    """What came of joining."""

    identity: NodeIdentity
    certificate_until: float
    warnings: tuple[str, ...] = ()
    before: bool = False  # this directory had joined already; nothing was asked


def join(url: str, token: str, name: str, node_dir: Path, clock: Clock) -> Joined:
    """Make ``node_dir`` a node of the token's tenant at the coordinator ``url``; running it again is harmless.

    Raises:
        BadInput: token, URL or name is malformed.
        BadSignature: the coordinator's CA is not the token's.
        PolicyDenied, Conflict: the coordinator refuses the token (expired, used, unknown), or the clocks differ by
            more than five minutes, or this directory belongs to another node.
        Unreachable: the coordinator does not answer.
    """
    ticket, place, base = parse_join_token(token), NodeDir(node_dir), _base(url)
    if name:
        slug(name, what="node name")
    if place.joined:
        return _joined_before(place, ticket, base)
    ca, warnings = _trusted_ca(base, ticket, clock)
    private_folder(node_dir)
    if not place.key.exists():
        save_private(place.key, new_p256())
    key = load_p256(place.key)
    answer = _ask_to_join(base, ca, {"token": token.strip(), "csr": make_csr(key).decode(), "name": name})
    try:
        certificate = str(answer["certificate"]).encode()
        says = read_node_cert(certificate)
        identity = NodeIdentity(
            node=says.node,
            tenant=says.tenant,
            name=str(answer["name"]),
            coordinator=base,
            link=_link(str(answer["link"]), base),
            ca_sha256=ticket.ca,
            manifest_keys={str(k): str(v) for k, v in answer["manifest_keys"].items()},
        )
    except (KeyError, AttributeError, e.BadInput) as error:
        raise e.VersionMismatch(f"{base} answers, but not as a coordinator of this version: {error!r}") from error
    if says.key_sha256 != public_sha256(key) or says.tenant != ticket.tenant:
        raise e.BadSignature(
            "the certificate that came is not for this node's key and tenant", code="wrong_certificate"
        )
    write_atomic(place.certificate, certificate)
    write_atomic(place.ca, ca)
    write_atomic(place.identity_file, json.dumps(asdict(identity), indent=1).encode())  # last: now it has joined
    return Joined(identity, says.not_after, warnings)


def _base(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme != "https" or not parts.hostname or port == -1 or parts.path.strip("/") or parts.query:
        raise e.BadInput(f"{url[:200]!r} is no coordinator: it reads https://HOST:PORT")
    return f"https://{parts.netloc}"


def _joined_before(place: NodeDir, ticket: JoinToken, base: str) -> Joined:
    identity = place.identity()
    if (identity.tenant, identity.ca_sha256) != (ticket.tenant, ticket.ca):
        raise e.Conflict(
            f"{place.root} is already the node {identity.tenant}/{identity.name} of {identity.coordinator}",
            next_step="choose another --dir, or hansa node uninstall first",
            code="already_joined",
        )
    warnings = () if identity.coordinator == base else (f"this node stays with {identity.coordinator}, not {base}",)
    return Joined(identity, load_credentials(place).says.not_after, warnings, before=True)


def _trusted_ca(base: str, ticket: JoinToken, clock: Clock) -> tuple[bytes, tuple[str, ...]]:
    """Return the CA the token pins, as the coordinator shows it, and warnings about the clock."""
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE  # its hash is checked below instead
    before = clock.now()
    answer = _asked(base, "GET", "/api/v1/ca", blind, None)
    mine = (before + clock.now()) / 2
    try:
        pem, theirs = str(answer["pem"]).encode(), float(answer["time"])
        shown = certificate_sha256(pem)
    except (KeyError, TypeError, ValueError, e.BadInput) as error:
        raise e.BadInput(f"{base} is no Hansa coordinator: it shows no CA") from error
    if shown != ticket.ca:
        raise e.BadSignature(
            f"{base} shows the CA {shown[:16]}…, the token was made for {ticket.ca[:16]}…: "
            "this is another coordinator, or something in between opens TLS; the token was not sent",
            next_step="check the address, and where the token comes from",
            code="wrong_ca",
        )
    return pem, _clock_words(mine, theirs)


def _clock_words(mine: float, theirs: float) -> tuple[str, ...]:
    skew = abs(mine - theirs)
    words = f"this machine's clock says {iso(mine)}, the coordinator's {iso(theirs)}: {skew:.0f} s apart"
    if skew > REFUSE_SKEW_S:
        raise e.PolicyDenied(f"{words}; at most {REFUSE_SKEW_S:.0f} s work", next_step=_SYNC, code="clock_skew")
    return (f"{words}; {_SYNC}",) if skew > WARN_SKEW_S else ()


def _ask_to_join(base: str, ca: bytes, body: dict[str, str]) -> dict[str, Any]:
    return _asked(base, "POST", "/api/v1/join", ssl.create_default_context(cadata=ca.decode()), body)


def _asked(base: str, method: str, path: str, verify: ssl.SSLContext, body: dict[str, str] | None) -> dict[str, Any]:
    try:
        with (
            httpx.Client(verify=verify, timeout=TIMEOUT_S) as client,
            client.stream(method, base + path, json=body) as response,
        ):
            data = _limited(response)
            status = response.status_code
    except httpx.HTTPError as error:
        raise e.Unreachable(f"{base} cannot be reached: {_why(error)}", next_step="hansa node doctor") from error
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if status not in {200, 201} or not isinstance(answer, dict):
        raise _refusal(base, status, answer if isinstance(answer, dict) else {})
    return answer


def _limited(response: httpx.Response) -> bytes:
    data = b""
    for part in response.iter_bytes():
        data += part
        if len(data) > MAX_ANSWER:
            raise e.BadInput(f"the coordinator's answer is over {MAX_ANSWER} bytes")
    return data


def _why(error: httpx.HTTPError) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text and ("mismatch" in text or "not valid for" in text):
        return f"its certificate is for another host name; use the name it serves under ({text})"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return text or type(error).__name__


def _refusal(base: str, status: int, problem: dict[str, Any]) -> e.PlatformError:
    cls = _CLASSES.get(status, e.Unreachable)
    detail = str(problem.get("detail") or problem.get("title") or f"{base} answered with status {status}")[:1024]
    return cls(detail, next_step=str(problem.get("next_step") or "")[:1024], code=str(problem.get("code") or "")[:64])


def _link(told: str, base: str) -> str:
    """Return the address of the node link; an empty host means the one we joined through."""
    host, _, port = told.rpartition(":")
    if host:
        return told
    reached = urlsplit(base).hostname or ""
    return f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"


async def keep_certificate(
    link: Link,
    node_dir: Path,
    clock: Clock,
    stop: asyncio.Event,
    *,
    chance: random.Random | None = None,
    wait: Callable[[asyncio.Event, float], Any] | None = None,
) -> None:
    """Renew the node's certificate shortly before half of its life is over, until ``stop`` is set.

    A new key each time.  A renewal that gets no answer is tried again with the same key, so a lost reply is found
    again; a refusal is logged and tried seldom, for only a person can mend it.
    """
    place, dice = NodeDir(node_dir), chance or random.Random()  # noqa: S311 - jitter
    pause = wait or _wait
    share = dice.uniform(0.4, 0.5)  # of its life: nodes that joined together do not renew together
    while not stop.is_set():
        says = load_credentials(place).says
        due = says.not_before + (says.not_after - says.not_before) * share
        left = due - clock.now()
        if left > 0:
            await pause(stop, min(left, CHECK_S))
            continue
        if await _renewed(link, place):
            share = dice.uniform(0.4, 0.5)
        else:
            await pause(stop, _RETRY_S * dice.uniform(0.5, 1.5))


async def _renewed(link: Link, place: NodeDir) -> bool:
    try:
        reply = await link.renew(make_csr(next_key(place)))
        install_renewed(place, reply.certificate)
    except e.PlatformError as error:
        _log.warning("certificate_not_renewed", code=error.code, detail=error.detail)
        if isinstance(error, e.BadInput):
            forget_next_key(place)  # whatever was wrong with it, the next try takes another
        return False
    _log.info("certificate_renewed", generation=reply.generation, until=iso(reply.until))
    await link.reconnect()
    return True


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
