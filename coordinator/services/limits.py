"""What grants leave a job: whether a site may hold one of its tasks at all, and how many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from common.ids import TenantId
from coordinator.domain.denials import Denial
from coordinator.domain.nodes import Node
from coordinator.domain.quotas import Grant
from coordinator.scheduling.quota import limit_room
from coordinator.scheduling.records import Need

GrantOf = Callable[[TenantId, TenantId], Grant | None]  # (site, tenant)


def limit_denials(node: Node, tenant: TenantId, need: Need, grant_of: GrantOf) -> tuple[Denial, ...]:
    """Return why the node's owner lets the tenant have no task like this there, if so."""
    if limit_room(grant_of(node.tenant, tenant), Counter(), need) > 0:
        return ()
    return (
        Denial(
            "over_limit",
            f"{node.tenant} limits {tenant} at its nodes to less than one task of this job takes",
            f"ask {node.tenant}: hansa quota set {tenant} --site {node.tenant} --limit …",
        ),
    )


def most_at_once(sites: Iterable[TenantId], tenant: TenantId, need: Need, grant_of: GrantOf) -> int:
    """Return how many tasks limits allow at one time on nodes of these sites (one entry a node)."""
    return sum(
        min(count, limit_room(grant_of(site, tenant), Counter(), need)) for site, count in Counter(sites).items()
    )
