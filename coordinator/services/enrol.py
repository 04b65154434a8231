"""Who is a node: joining, renewing, checking on every call, revoking.

A node proves who it is by its certificate; whether it is still welcome stands in the store and is asked on every call,
because TLS looks at a certificate once a connection and knows no revocation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain, count

from common.clock import Clock
from common.crypto.keys import public_sha256
from common.crypto.tokens import JoinToken, parse_join_token, secret_matches
from common.crypto.x509 import Authority, issue_node_cert, parse_csr
from common.errors import BadInput, Conflict, NotFound, PolicyDenied
from common.ids import NodeId, new_id, slug
from coordinator.domain.nodes import Node, NodeStatus
from coordinator.domain.tenancy import JoinToken as JoinTokenRecord
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store, Tx

_REJOIN = "ask a tenant admin for a new token and join again: hansa node join"


@dataclass(frozen=True)
class EnrolSettings:
    """What a joining node is told, and for how long a certificate is good."""

    link: str  # host:port of the node link; an empty host means "the host you reached me at"
    manifest_keys: dict[str, str] = field(default_factory=dict)  # key id -> Ed25519 public key, hex
    lifetime_s: float = 86400.0  # seconds a node certificate is valid
    cache_s: float = 1.0  # seconds a node's standing may be remembered between calls


@dataclass(frozen=True)
class JoinReply:
    """Everything a node needs to know to begin."""

    node: NodeId
    tenant: str
    name: str
    certificate: bytes  # PEM
    ca: bytes  # PEM
    link: str
    manifest_keys: dict[str, str]
    time: float


class Enrolment:
    """Joins, renewals and the standing of nodes."""

    def __init__(
        self, store: Store, ca: Authority, clock: Clock, settings: EnrolSettings, link: NodeLink | None = None
    ) -> None:
        """Serve from ``store``; ``link`` is told to cut whoever is revoked or quarantined."""
        self._store, self._ca, self._clock, self._settings, self._link = store, ca, clock, settings, link
        self._standing: dict[NodeId, tuple[float, Node]] = {}
        self._changes = 0  # of anybody's standing: what was read before one is not remembered

    async def join(self, token_text: str, csr_pem: bytes, name: str) -> JoinReply:
        """Burn a join token and return the new node's certificate.

        The same token with the same key is the same join, so a lost reply costs nothing.

        Raises:
            BadInput: token, request or name is malformed.
            PolicyDenied: the token is unknown, expired or of another tenant.
            Conflict: the token was used by another key, pins another CA, or the name is taken.
        """
        token = parse_join_token(token_text)
        key = public_sha256(parse_csr(csr_pem))
        now, fresh = self._clock.now(), NodeId(new_id("node"))
        if token.ca != self._ca.sha256:
            raise Conflict("this token belongs to a coordinator with another CA", code="join_token_wrong_ca")

        def work(tx: Tx) -> Node:
            record = _authentic(token, tx.nodes.join_token(token.id))
            if record.used_by is not None:
                return _joined_before(tx, record, key, now)
            if record.expires_at <= now:
                raise PolicyDenied("this join token has expired", code="join_token_expired", next_step=_REJOIN)
            node = Node(
                fresh,
                record.tenant,
                _name_of(tx, record, name),
                NodeStatus.ACTIVE,
                generation=1,
                key_sha256=key,
                certificate_until=now + self._settings.lifetime_s,
                created_at=now,
            )
            tx.nodes.put(node)
            if not tx.nodes.burn_join_token(record.id, node.id, key, now):
                raise _used()
            return node

        node = await self._store.write(work)
        certificate = self._issue(csr_pem, node, node.certificate_until - now)
        keys = dict(self._settings.manifest_keys)
        return JoinReply(
            node.id, node.tenant, node.name, certificate, self._ca.pem, self._settings.link, keys, self._clock.now()
        )

    async def renew(
        self, node_id: NodeId, presented_generation: int, presented_key_sha256: str, csr: bytes
    ) -> tuple[bytes, float, int]:
        """Return (certificate PEM, its end, generation) for the new key in ``csr``.

        A reply that was lost is given again to the previous generation if it asks for the same new key.  Any other
        stale generation means two copies of the node's directory: both are shut out.

        Raises:
            BadInput: the request is malformed or asks for the present key again.
            PolicyDenied: the node is not in good standing, or is now quarantined.
        """
        key = public_sha256(parse_csr(csr))
        until = self._clock.now() + self._settings.lifetime_s

        def work(tx: Tx) -> Node | None:
            node = _in_good_standing(tx.nodes.get(node_id), node_id)
            current = presented_generation == node.generation and presented_key_sha256 == node.key_sha256
            lost_reply = presented_generation == node.generation - 1 and key == node.key_sha256
            if not current and not lost_reply:
                tx.nodes.put(replace(node, status=NodeStatus.QUARANTINED))
                return None
            if current and key == node.key_sha256:
                raise BadInput("a renewal needs a new key", code="same_key")
            renewed = replace(node, generation=node.generation + current, key_sha256=key, certificate_until=until)
            tx.nodes.put(renewed)
            return renewed

        node = await self._store.write(work)
        self._changed(node_id)
        if node is None:
            raise self._cut(_quarantined(node_id), node_id)
        return self._issue(csr, node, self._settings.lifetime_s), until, node.generation

    async def check(self, node_id: NodeId, generation: int) -> Node:
        """Return the node if a certificate of ``generation`` may still speak for it.

        The previous generation may: its holder may not have had the reply to its renewal yet.

        Raises:
            PolicyDenied: unknown, revoked, quarantined, or an older generation (which quarantines it).
        """
        kept = self._standing.get(node_id)
        if kept is None or self._clock.monotonic() - kept[0] > self._settings.cache_s:
            kept = await self._look(node_id)
        node = _in_good_standing(kept[1], node_id)
        if generation > node.generation:
            raise PolicyDenied(
                f"certificate generation {generation} of {node_id} was never issued here",
                code="generation_unknown",
                next_step=_REJOIN,
            )
        if generation < node.generation - 1:
            await self._set_status(node_id, NodeStatus.QUARANTINED)
            raise self._cut(_quarantined(node_id), node_id)
        return node

    async def _look(self, node_id: NodeId) -> tuple[float, Node]:
        """Read a node's standing and remember it, unless it changed while it was read."""
        while True:
            changes = self._changes
            found = await self._store.read(lambda tx: tx.nodes.get(node_id))
            kept = (self._clock.monotonic(), _in_good_standing(found, node_id))
            if changes == self._changes:
                self._standing[node_id] = kept
                return kept

    def _changed(self, node_id: NodeId) -> None:
        self._changes += 1
        self._standing.pop(node_id, None)

    async def revoke(self, node_id: NodeId) -> None:
        """Shut ``node_id`` out for good and cut what it has open.

        Raises:
            NotFound: no such node.
        """
        await self._set_status(node_id, NodeStatus.REVOKED)
        self._cut(_revoked(node_id), node_id)

    async def _set_status(self, node_id: NodeId, status: NodeStatus) -> None:
        def work(tx: Tx) -> None:
            node = tx.nodes.get(node_id)
            if node is None:
                raise NotFound(f"no node {node_id}")
            if node.status is not NodeStatus.REVOKED:
                tx.nodes.put(replace(node, status=status))

        await self._store.write(work)
        self._changed(node_id)

    def _cut(self, why: PolicyDenied, node_id: NodeId) -> PolicyDenied:
        if self._link is not None:
            self._link.disconnect(node_id, why.code, why.detail)
        return why

    def _issue(self, csr: bytes, node: Node, lifetime_s: float) -> bytes:
        return issue_node_cert(self._ca, csr, node.tenant, node.id, node.generation, lifetime_s, self._clock.now())


def _authentic(token: JoinToken, record: JoinTokenRecord | None) -> JoinTokenRecord:
    if record is None or not secret_matches(token.secret, record.secret_sha256):
        raise PolicyDenied("no such join token here", code="join_token_unknown", next_step=_REJOIN)
    if record.tenant != token.tenant:
        raise PolicyDenied("this join token is of another tenant", code="join_token_wrong_tenant", next_step=_REJOIN)
    return record


def _joined_before(tx: Tx, record: JoinTokenRecord, key: str, now: float) -> Node:
    if record.used_key_sha256 != key or record.used_by is None:
        raise _used()
    node = _in_good_standing(tx.nodes.get(record.used_by), record.used_by)
    if node.key_sha256 != key or node.certificate_until <= now:
        raise _used()  # it has renewed or expired since: the token's certificate is history
    return node


def _name_of(tx: Tx, record: JoinTokenRecord, asked: str) -> str:
    """What the token says, else what the node asks for, else the tenant's name with the first number that is free."""
    if record.node_name and asked and asked != record.node_name:
        raise BadInput(
            f"this token is for a node named {record.node_name!r}, not {asked[:60]!r}", code="join_token_other_name"
        )
    if named := record.node_name or asked:
        return slug(named, what="node name")
    taken = {node.name for node in tx.nodes.list(frozenset({record.tenant}))}
    numbered = (f"{record.tenant[:34]}-{number}" for number in count(2))
    return next(name for name in chain([record.tenant], numbered) if name not in taken)


def _in_good_standing(node: Node | None, node_id: NodeId) -> Node:
    if node is None:
        raise PolicyDenied(f"{node_id} is not known here", code="node_unknown", next_step=_REJOIN)
    if node.status is NodeStatus.REVOKED:
        raise _revoked(node_id)
    if node.status is NodeStatus.QUARANTINED:
        raise _quarantined(node_id)
    return node


def _used() -> Conflict:
    return Conflict(
        "this join token has been used by another key; a token is good for one node",
        code="join_token_used",
        next_step=_REJOIN,
    )


def _revoked(node_id: NodeId) -> PolicyDenied:
    return PolicyDenied(f"{node_id} has been revoked", code="node_revoked", next_step=_REJOIN)


def _quarantined(node_id: NodeId) -> PolicyDenied:
    return PolicyDenied(
        f"{node_id} is quarantined: an outdated certificate of it was presented, so two copies of it may exist",
        code="node_quarantined",
        next_step="find the copy, remove it, then join again with a new token",
    )
