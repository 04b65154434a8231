"""The node link's gate: who calls, and may it do that?

The policies are asked once a call, never once a chunk.  The services say what a task or object is and which node it is
for; whether that makes it this node's is the policies' answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.clock import Clock
from common.ids import Digest, TaskId
from coordinator.ports.link import Awaited, Offered
from coordinator.rpc.peer import Peer, admit
from coordinator.services.enrol import Enrolment
from policies.engine import Policies
from policies.parties import NodePrincipal, Resource

if TYPE_CHECKING:
    import grpc


class Gate:
    """Admits nodes and judges what they do."""

    def __init__(self, enrolment: Enrolment, policies: Policies, clock: Clock) -> None:
        """Admit whom ``enrolment`` knows and judge by ``policies``."""
        self._enrolment, self._policies, self._clock = enrolment, policies, clock

    async def admit(self, context: grpc.aio.ServicerContext) -> Peer:
        """Return who calls; raises as ``peer.admit``."""
        return await admit(context, self._enrolment, self._clock)

    def connect(self, peer: Peer) -> None:
        """Raise PolicyDenied unless ``peer`` may open its stream."""
        self._judge(peer, "node::connect", _node(peer))

    async def renew(self, peer: Peer, csr: bytes) -> tuple[bytes, float, int]:
        """Return the new certificate, its end and its generation, if ``peer`` may have one.

        Raises:
            PolicyDenied: it may not. Others as ``Enrolment.renew``.
        """
        self._judge(peer, "node::renew", _node(peer))
        presented = peer.certificate
        return await self._enrolment.renew(peer.id, presented.generation, presented.key_sha256, csr)

    def download(self, peer: Peer, digest: Digest, offered: Offered) -> None:
        """Raise PolicyDenied unless ``peer`` may fetch what was ``offered``."""
        resource = Resource("object", digest, offered.tenant, attrs={"for_node": offered.node})
        self._judge(peer, "node::download", resource)

    def upload(self, peer: Peer, task: TaskId, awaited: Awaited) -> None:
        """Raise PolicyDenied unless ``peer`` may answer ``task``."""
        self._judge(peer, "node::upload", Resource("task", task, awaited.tenant, attrs={"for_node": awaited.node}))

    def _judge(self, peer: Peer, action: str, resource: Resource) -> None:
        node = peer.node
        self._policies.require(NodePrincipal(node.id, node.tenant, str(node.status)), action, resource)


def _node(peer: Peer) -> Resource:
    node = peer.node
    return Resource("node", node.id, node.tenant, attrs={"status": str(node.status)})
