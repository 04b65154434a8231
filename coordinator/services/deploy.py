"""Deployments: which node should serve which version, and what it last said.

What is wanted is a row; the message to the node is only its echo.  It is sent at once if the node is connected, and
again each time the node connects: saying twice what is served already costs the node nothing.  A node may fetch exactly
the manifest, graph and packed tensors of the versions wanted there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from common.clock import Clock
from common.errors import BadInput, NotFound
from common.ids import Digest, NodeId, TenantId
from common.manifest import MAX_MANIFEST, read_unverified
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.jobs import Job
from coordinator.domain.models import Deployment, ModelVersion
from coordinator.domain.nodes import NodeStatus
from coordinator.ports.blobs import BlobStore
from coordinator.ports.link import NodeLink
from coordinator.ports.store import Store, Tx

_STATES = {
    pb.DeployStatus.FETCHING: "fetching",
    pb.DeployStatus.SERVING: "serving",
    pb.DeployStatus.FAILED: "failed",
    pb.DeployStatus.REMOVED: "removed",
}
_SERVED = ("graph", "packed")
_REMEMBERED = 256  # manifests whose blob list is kept in memory


class Deployments:
    """Wants versions at nodes and follows what becomes of it."""

    def __init__(self, store: Store, blobs: BlobStore, link: NodeLink, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._link = link
        self._clock = clock
        self._allowed: dict[Digest, frozenset[str]] = {}

    async def deploy(
        self, tenant: TenantId, model: str, version: int, nodes: Sequence[NodeId] | None = None
    ) -> list[Deployment]:
        """Want ``version`` at ``nodes``, in place of any other version of the model there.

        Args:
            tenant: Owner of the model.
            model: Its name.
            version: Which.
            nodes: Where; None = where the model is wanted already, else at every node of the version's job, else at
                every active node of the tenant.

        Raises:
            NotFound: no such version, or a node outside the tenant and the version's federation.
            BadInput: the version has no graph to serve.
        """
        now = self._clock.now()

        def want(tx: Tx) -> tuple[ModelVersion, str, list[Deployment]]:
            row = tx.models.version(tenant, model, version)
            if row is None:
                raise NotFound(f"no version {version} of model {tenant}/{model}")
            if not row.servable:
                raise BadInput(
                    f"version {version} of {tenant}/{model} has no graph to serve",
                    next_step="name an export factory in [tool.hansa.export] and train again",
                )
            chosen = _default_nodes(tx, row) if nodes is None else list(dict.fromkeys(nodes))
            _check_nodes(tx, row, chosen)
            return row, _alias(tx, row), [_want(tx, row, node, now) for node in chosen]

        row, alias, deployments = await self._store.write(want)
        for deployment in deployments:
            self._link.send(deployment.node, _deploy_event(row, alias))
        return deployments

    async def after_publish(self, job: Job, version: ModelVersion) -> list[Deployment]:
        """Want a job's fresh version at every node of its roster; nothing happens if it cannot be served."""
        if not version.servable or not job.roster:
            return []
        active = await self._store.read(lambda tx: [e.node for e in job.roster if _is_active(tx, e.node)])
        return await self.deploy(version.tenant, version.model, version.version, active) if active else []

    async def undeploy(self, tenant: TenantId, model: str, nodes: Sequence[NodeId] | None = None) -> list[Deployment]:
        """Want no version of the model at ``nodes`` (None = anywhere)."""
        now = self._clock.now()

        def drop(tx: Tx) -> list[Deployment]:
            rows = [d for d in tx.models.deployments(tenant=tenant, model=model) if d.wanted]
            ended = [replace(d, wanted=False, updated_at=now) for d in rows if nodes is None or d.node in nodes]
            for row in ended:
                tx.models.put_deployment(row)
            return ended

        ended = await self._store.write(drop)
        for row in ended:
            self._link.send(row.node, _undeploy_event(row.tenant, row.model, row.version))
        return ended

    async def node_connected(self, node: NodeId) -> None:
        """Tell a node what it should serve; what it serves besides, its own statuses will say."""
        await self._tell(lambda tx: tx.models.deployments(node=node))

    async def alias_moved(self, tenant: TenantId, model: str) -> None:
        """Tell the nodes that serve a model what its versions are called now: a version may be asked for by alias."""
        await self._tell(lambda tx: tx.models.deployments(tenant=tenant, model=model))

    async def _tell(self, which: Callable[[Tx], Sequence[Deployment]]) -> None:
        def wanted(tx: Tx) -> list[tuple[NodeId, pb.CoordinatorEvent]]:
            rows = [(d, tx.models.version(d.tenant, d.model, d.version)) for d in which(tx) if d.wanted]
            return [(d.node, _deploy_event(v, _alias(tx, v))) for d, v in rows if v is not None]

        for node, event in await self._store.read(wanted):
            self._link.send(node, event)

    async def deploy_status(self, node: NodeId, status: pb.DeployStatus) -> None:
        """Record what a node says of a version, and end what it serves unwanted.

        A version it was never asked to serve leaves no record.
        """
        tenant, _, model = status.model.partition("/")
        state = _STATES.get(status.state)
        now = self._clock.now()

        def record(tx: Tx) -> bool:
            rows = tx.models.deployments(tenant=TenantId(tenant), model=model, node=node)
            for row in rows:
                if row.version == status.version and state is not None:
                    tx.models.put_deployment(
                        replace(row, state=state, message=status.message[:1000], url=status.url[:200], updated_at=now)
                    )
            return any(row.wanted for row in rows)

        if not await self._store.write(record) and status.state == pb.DeployStatus.SERVING:
            self._link.send(node, _undeploy_event(tenant, model, status.version))

    async def may_download(self, node: NodeId, model: str, digest: Digest) -> Path | None:
        """Return the file behind ``digest`` if a version of ``model`` ("tenant/name") wanted at the node names it."""
        tenant, _, name = model.partition("/")

        def look(tx: Tx) -> list[ModelVersion | None]:
            rows = tx.models.deployments(tenant=TenantId(tenant), model=name, node=node)
            return [tx.models.version(d.tenant, d.model, d.version) for d in rows if d.wanted]

        for row in await self._store.read(look):
            if row is not None and (digest == row.manifest or digest in await self._blobs_of(row)):
                return await self._blobs.open(row.tenant, digest)
        return None

    async def _blobs_of(self, row: ModelVersion) -> frozenset[str]:
        if row.manifest not in self._allowed:
            envelope = await self._blobs.get_bytes(row.tenant, row.manifest, limit=MAX_MANIFEST)
            refs = read_unverified(envelope).blobs
            while len(self._allowed) >= _REMEMBERED:
                self._allowed.pop(next(iter(self._allowed)))
            self._allowed[row.manifest] = frozenset(refs[role].digest for role in _SERVED if role in refs)
        return self._allowed[row.manifest]


def _default_nodes(tx: Tx, row: ModelVersion) -> list[NodeId]:
    there = [d.node for d in tx.models.deployments(tenant=row.tenant, model=row.model) if d.wanted]
    job = tx.jobs.get(row.job) if row.job is not None else None
    found = there or ([e.node for e in job.roster] if job else [])
    found = found or [n.id for n in tx.nodes.list(frozenset({row.tenant}))]
    return [node for node in dict.fromkeys(found) if _is_active(tx, node)]


def _is_active(tx: Tx, node: NodeId) -> bool:
    found = tx.nodes.get(node)
    return found is not None and found.status is NodeStatus.ACTIVE


def _check_nodes(tx: Tx, row: ModelVersion, nodes: Sequence[NodeId]) -> None:
    federation = tx.tenants.federation(row.federation) if row.federation is not None else None
    allowed = {row.tenant} | (federation.accepted if federation else frozenset())
    for node in nodes:
        found = tx.nodes.get(node)
        if found is None or found.tenant not in allowed or found.status is not NodeStatus.ACTIVE:
            raise NotFound(f"no active node {node} among those that may serve {row.tenant}/{row.model}")


def _want(tx: Tx, row: ModelVersion, node: NodeId, now: float) -> Deployment:
    for other in tx.models.deployments(tenant=row.tenant, model=row.model, node=node):
        if other.version != row.version and other.wanted:
            tx.models.put_deployment(replace(other, wanted=False, updated_at=now))
    deployment = Deployment(row.tenant, row.model, row.version, node, True, "pending", "", "", now)
    tx.models.put_deployment(deployment)
    return deployment


def _alias(tx: Tx, row: ModelVersion) -> str:
    """Return the alias that was moved to the version last: a node serves it under one."""
    found = [a for a in tx.models.aliases(row.tenant, row.model) if a.version == row.version]
    return max(found, key=lambda a: (a.moved_at, a.name)).name if found else ""


def _deploy_event(row: ModelVersion, alias: str) -> pb.CoordinatorEvent:
    return pb.CoordinatorEvent(
        deploy=pb.Deploy(
            model=f"{row.tenant}/{row.model}",
            version=row.version,
            manifest=pb.ContentRef(digest=row.manifest, size=row.manifest_size),
            federation=row.federation or "",
            alias=alias,
        )
    )


def _undeploy_event(tenant: str, model: str, version: int) -> pb.CoordinatorEvent:
    return pb.CoordinatorEvent(undeploy=pb.Undeploy(model=f"{tenant}/{model}", version=version))
