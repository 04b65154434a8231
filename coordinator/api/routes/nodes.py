"""Nodes: what they are, what they offer, and shutting one out."""

from __future__ import annotations

from common.errors import NotFound
from common.ids import FederationId, NodeId
from coordinator.api import resources, views_nodes
from coordinator.api.caller import Authenticated, Caller
from coordinator.api.pages import Paging, cut
from coordinator.api.routes.parts import NodePath, router
from coordinator.api.schemas import Page
from coordinator.api.schemas_nodes import NodeOut
from coordinator.domain.nodes import Node

ROUTER = router("nodes")


@ROUTER.get("/nodes", operation_id="nodes_list")
async def list_(caller: Authenticated, paging: Paging) -> Page[NodeOut]:
    """List your nodes, and those that share something into your federations."""
    sharing = await caller.sharing()
    who = caller.principal
    tenants = None if who.is_platform_admin else sharing.partners(who.tenants)
    every = await caller.services.store.read(lambda tx: list(tx.nodes.list(tenants)))
    seen = caller.seen("node::read", every, lambda n: resources.node(n, sharing))
    page, token = cut(seen, lambda n: (n.tenant, n.name, n.id), paging)
    return Page(items=[_view(n, caller, sharing) for n in page], next_page_token=token)


@ROUTER.get("/nodes/{node}", operation_id="nodes_get")
async def get(node: NodePath, caller: Authenticated) -> NodeOut:
    """Return a node."""
    record, sharing = await _found(node, caller)
    caller.require("node::read", resources.node(record, sharing))
    return _view(record, caller, sharing)


@ROUTER.post("/nodes/{node}:revoke", operation_id="nodes_revoke")
async def revoke(node: NodePath, caller: Authenticated) -> NodeOut:
    """Shut a node out for good and end its connection."""
    record, sharing = await _found(node, caller)
    caller.require("node::revoke", resources.node(record, sharing))
    await caller.services.enrolment.revoke(record.id)
    record, sharing = await _found(node, caller)
    return _view(record, caller, sharing)


async def _found(node: str, caller: Caller) -> tuple[Node, resources.Sharing]:
    record = await caller.services.store.read(lambda tx: tx.nodes.get(NodeId(node)))
    if record is None:
        raise NotFound(f"no node {node!r} that you may see")
    return record, await caller.sharing()


def _view(record: Node, caller: Caller, sharing: resources.Sharing) -> NodeOut:
    who = caller.principal
    own_house = who.is_platform_admin or record.tenant in who.tenants
    within: frozenset[FederationId] | None = None if own_house else sharing.joined(who.tenants)
    return views_nodes.node(record, online=record.id in caller.services.link.connected(), within=within)
