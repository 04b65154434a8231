"""Records as the policies see them: whose they are, and with whom they are shared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.ids import FederationId, TenantId
from coordinator.domain.jobs import Job, RosterEntry
from coordinator.domain.models import Deployment, ModelVersion
from coordinator.domain.nodes import Node
from coordinator.domain.tenancy import PLATFORM, Federation
from coordinator.ports.store import Store
from coordinator.services.federations import present
from policies.parties import Resource

SYSTEM = Resource("system", "hansa", PLATFORM)
Tenants = frozenset[TenantId]
_NOBODY: Tenants = frozenset()


@dataclass(frozen=True)
class Sharing:
    """Which tenants have accepted which federation, at one moment."""

    accepted: dict[FederationId, Tenants]

    @staticmethod
    async def read(store: Store) -> Sharing:
        """Return the sharing as it is now."""
        every = await store.read(lambda tx: list(tx.tenants.federations()))
        return Sharing({f.id: f.accepted for f in every})

    def of(self, federation: FederationId | None) -> Tenants:
        """Return the tenants in ``federation``."""
        return self.accepted.get(federation, _NOBODY) if federation else _NOBODY

    def joined(self, tenants: Iterable[TenantId]) -> frozenset[FederationId]:
        """Return the federations that any of ``tenants`` is in."""
        wanted = frozenset(tenants)
        return frozenset(f for f, members in self.accepted.items() if members & wanted)

    def partners(self, tenants: Iterable[TenantId]) -> Tenants:
        """Return ``tenants`` and every tenant that shares a federation with one of them."""
        own = frozenset(tenants)
        return own.union(*(self.accepted[f] for f in self.joined(own)))

    def node_federations(self, node: Node) -> frozenset[FederationId]:
        """Return the federations that ``node`` shares something into, and whose member its tenant still is."""
        if node.report is None:
            return frozenset()
        named = {d.federation for d in node.report.datasets} | {f for f, _ in node.report.approvals}
        return frozenset(f for f in named if node.tenant in self.of(f))


def tenant(id_: str) -> Resource:
    """Return a tenant."""
    return Resource("tenant", id_, id_)


def federation(record: Federation) -> Resource:
    """Return a federation: its members may see it, those that accepted may use it."""
    return Resource("federation", record.id, record.owner, present(record), {"accepted": record.accepted})


def node(record: Node, sharing: Sharing) -> Resource:
    """Return a node: seen by the tenants of the federations it shares something into."""
    seen_by = _NOBODY.union(*(sharing.of(f) for f in sharing.node_federations(record)))
    return Resource("node", record.id, record.tenant, seen_by, {"status": str(record.status)})


def job(record: Job, sharing: Sharing) -> Resource:
    """Return a job: seen in its federation."""
    return Resource("job", record.id, record.tenant, sharing.of(record.federation))


def log(record: Job, node: RosterEntry | None) -> Resource:
    """Return one log of a job: the server's (None) is its owner's; a node's is also that node's tenant's."""
    if node is None:
        return Resource("log", f"{record.id}/server", record.tenant)
    return Resource("log", f"{record.id}/{node.tenant}/{node.name}", record.tenant, frozenset({node.tenant}))


def version(record: ModelVersion, sharing: Sharing) -> Resource:
    """Return a model version: seen in its federation."""
    id_ = f"{record.tenant}/{record.model}/{record.version}"
    return Resource("model", id_, record.tenant, sharing.of(record.federation))


def model(owner: str, name: str) -> Resource:
    """Return a model as its owner's, whatever its versions are shared with."""
    return Resource("model", f"{owner}/{name}", owner)


def deployment(record: Deployment, node_tenant: TenantId | None) -> Resource:
    """Return a deployment: seen by the model's owner and the node's tenant."""
    id_ = f"{record.tenant}/{record.model}/{record.version}/{record.node}"
    return Resource("deployment", id_, record.tenant, frozenset({node_tenant}) if node_tenant else frozenset())


def grant(site: str, tenant: str) -> Resource:
    """Return what a site gives a tenant: the site's own, seen by the tenant."""
    return Resource("grant", f"{site}/{tenant}", site, frozenset({tenant}))


def allowance(tenant: str) -> Resource:
    """Return what a tenant may use at the coordinator."""
    return Resource("allowance", tenant, tenant)
