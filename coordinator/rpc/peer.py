"""Who is calling: the certificate of this connection, read on every call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import grpc

from common.clock import Clock, iso
from common.crypto.x509 import NodeCertificate, read_node_cert
from common.errors import BadInput, PolicyDenied, Unauthenticated
from common.ids import NodeId
from coordinator.domain.nodes import Node
from coordinator.services.enrol import Enrolment


@dataclass(frozen=True)
class Peer:
    """A node in good standing and the certificate it came with."""

    node: Node
    certificate: NodeCertificate

    @property
    def id(self) -> NodeId:
        """The node's id."""
        return self.node.id


async def admit(context: grpc.aio.ServicerContext, enrolment: Enrolment, clock: Clock) -> Peer:
    """Return who calls, if its certificate is still valid and its node in good standing.

    TLS checked the certificate when the connection was made; this is per call, since an open connection outlives both
    expiry and revocation (gRPC looks at neither again).

    Raises:
        Unauthenticated: no certificate, none of a node, or an expired one.
        PolicyDenied: the node is unknown, revoked or quarantined.
    """
    chain = list(context.auth_context().get("x509_pem_cert", ()))
    if not chain:
        raise Unauthenticated("this call needs a node certificate", code="no_certificate")
    try:
        certificate = _read(bytes(chain[0]))
    except BadInput as error:
        raise Unauthenticated(error.detail, code="no_node_certificate") from error
    check_expiry(certificate, clock)
    node = await enrolment.check(NodeId(certificate.node), certificate.generation)
    if node.tenant != certificate.tenant:
        raise PolicyDenied(f"{node.id} is not of tenant {certificate.tenant}", code="node_unknown")
    return Peer(node, certificate)


def check_expiry(certificate: NodeCertificate, clock: Clock) -> None:
    """Return if ``certificate`` is valid now.

    Raises:
        Unauthenticated: it has expired.
    """
    if clock.now() >= certificate.not_after:
        raise Unauthenticated(
            f"the certificate of {certificate.node} expired at {iso(certificate.not_after)}",
            code="certificate_expired",
            next_step="ask a tenant admin for a new token and join again: hansa node join",
        )


@lru_cache(maxsize=4096)
def _read(pem: bytes) -> NodeCertificate:
    return read_node_cert(pem)
