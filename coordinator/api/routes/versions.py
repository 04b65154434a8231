"""One version of a model: its record, its signed manifest, its bytes, and where it is to be served."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Response

from common.errors import NotFound
from common.ids import Digest, NodeId, TenantId
from common.manifest import MAX_MANIFEST, read_unverified
from coordinator.api import resources, streams, views
from coordinator.api import schemas_models as m
from coordinator.api.caller import Authenticated, Caller
from coordinator.api.routes.parts import DigestPath, ModelPath, TenantPath, VersionPath, router
from coordinator.domain.models import ModelVersion
from coordinator.domain.nodes import Node, NodeStatus
from policies.parties import Resource

ROUTER = router("models")
_VERSION = "/models/{tenant}/{model}/versions/{version}"
_FOREVER = "private, max-age=31536000, immutable"  # content never changes under a digest
IfNoneMatch = Annotated[str | None, Header(max_length=1000)]
Range = Annotated[str | None, Header(alias="Range", max_length=100)]


@ROUTER.get(_VERSION, operation_id="versions_get")
async def get(
    tenant: TenantPath, model: ModelPath, version: VersionPath, caller: Authenticated, response: Response
) -> m.ModelVersionOut:
    """Return the record of a version."""
    record, _ = await _readable(tenant, model, version, caller)
    response.headers["ETag"] = f'"{record.manifest}"'
    return views.version(record)


@ROUTER.get(
    _VERSION + "/manifest",
    operation_id="versions_manifest",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, 304: {"description": "Same."}},
)
async def manifest(
    tenant: TenantPath, model: ModelPath, version: VersionPath, caller: Authenticated, if_none_match: IfNoneMatch = None
) -> Response:
    """Return the signed manifest, byte for byte."""
    record, _ = await _readable(tenant, model, version, caller)
    headers = {"ETag": f'"{record.manifest}"', "Cache-Control": _FOREVER}
    if _same(if_none_match, record.manifest):
        return Response(status_code=304, headers=headers)
    data = await caller.services.blobs.get_bytes(record.tenant, record.manifest, limit=MAX_MANIFEST)
    return Response(data, 200, headers, "application/json")


@ROUTER.get(
    _VERSION + "/blobs/{digest}",
    operation_id="versions_blob",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part that was asked for."},
        304: {"description": "Same."},
    },
)
async def blob(
    tenant: TenantPath,
    model: ModelPath,
    version: VersionPath,
    digest: DigestPath,
    caller: Authenticated,
    range_: Range = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return one object that the version's manifest names, or a range of it."""
    record, thing = await _readable(tenant, model, version, caller)
    caller.require("model::download", thing)
    blobs = caller.services.blobs
    envelope = await blobs.get_bytes(record.tenant, record.manifest, limit=MAX_MANIFEST)
    if digest not in {ref.digest for ref in read_unverified(envelope).blobs.values()}:
        raise NotFound(f"version {version} of {tenant}/{model} names no object {digest}")
    headers = {"ETag": f'"{digest}"', "Cache-Control": _FOREVER}
    if _same(if_none_match, digest):
        return Response(status_code=304, headers=headers)
    path = await blobs.open(record.tenant, Digest(digest))
    return await streams.file_response(
        path, media_type="application/octet-stream", range_header=range_, headers=headers
    )


@ROUTER.post(_VERSION + ":deploy", operation_id="versions_deploy")
async def deploy(
    tenant: TenantPath,
    model: ModelPath,
    version: VersionPath,
    caller: Authenticated,
    body: m.DeployIn | None = None,
) -> m.DeploymentsOut:
    """Want the version served at nodes; without a list, where it belongs: its job's nodes, or all of yours."""
    record, thing = await _readable(tenant, model, version, caller)
    nodes = await _targets(body.nodes if body else None, record, thing, caller)
    made = await caller.services.deployments.deploy(record.tenant, record.model, record.version, nodes)
    every = await caller.services.store.read(lambda tx: {d.node: tx.nodes.get(d.node) for d in made})
    names = {id_: node.name if node else "" for id_, node in every.items()}
    return m.DeploymentsOut(items=[views.deployment(d, names[d.node]) for d in made])


async def _targets(
    given: list[str] | None, record: ModelVersion, thing: Resource, caller: Caller
) -> list[NodeId] | None:
    """Return the nodes meant, each judged; None = the owner leaves the choice to the service."""
    own = caller.principal.tenants
    if given is None and record.tenant in own:
        caller.require("model::deploy", thing, {"node_tenant": record.tenant, "node_in_federation": True})
        return None
    sharing = await caller.sharing()
    found = await _named(given, caller) if given is not None else await _own_active(caller)
    if not found:
        caller.require("model::deploy", thing, {"node_tenant": caller.tenant(None), "node_in_federation": False})
    for node in found:
        caller.require("node::read", resources.node(node, sharing))
        shares = record.federation is not None and record.federation in sharing.node_federations(node)
        caller.require("model::deploy", thing, {"node_tenant": node.tenant, "node_in_federation": shares})
    return [node.id for node in found]


async def _named(given: list[str], caller: Caller) -> list[Node]:
    ids = [NodeId(id_) for id_ in dict.fromkeys(given)]
    found = await caller.services.store.read(lambda tx: [tx.nodes.get(id_) for id_ in ids])
    nodes = [node for node in found if node is not None]
    if len(nodes) < len(ids):
        missing = ids[found.index(None)]
        raise NotFound(f"no node {missing!r} that you may see")
    return nodes


async def _own_active(caller: Caller) -> list[Node]:
    own = frozenset(caller.principal.tenants)
    nodes = await caller.services.store.read(lambda tx: list(tx.nodes.list(own)))
    return [node for node in nodes if node.status is NodeStatus.ACTIVE]


async def _readable(tenant: str, model: str, version: int, caller: Caller) -> tuple[ModelVersion, Resource]:
    record = await caller.services.store.read(lambda tx: tx.models.version(TenantId(tenant), model, version))
    if record is None:
        raise NotFound(f"no model '{tenant}/{model}/{version}' that you may see")
    thing = resources.version(record, await caller.sharing())
    caller.require("model::read", thing)
    return record, thing


def _same(if_none_match: str | None, tag: str) -> bool:
    """Say whether the caller has it already (RFC 9110 §13.1.2, weak comparison)."""
    given = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return "*" in given or f'"{tag}"' in given
