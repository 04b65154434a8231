"""What grants leave a job: whether a site may hold one of its tasks at all, and how many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from common.ids import TenantId
from coordinator.domain.denials import Denial
from coordinator.domain.nodes import Node
from coordinator.domain.quotas import Grant
from coordinator.scheduling.quota import limit_room, limit_words
from coordinator.scheduling.records import Need

GrantOf = Callable[[TenantId, TenantId], Grant | None]  # (site, tenant)


def limit_denials(node: Node, tenant: TenantId, need: Need, grant_of: GrantOf) -> tuple[Denial, ...]:
    """Return why the node's owner lets the tenant have no task like this there, if so."""
    found = over_limit(grant_of(node.tenant, tenant), need)
    return () if found is None else (found,)


def over_limit(grant: Grant | None, need: Need) -> Denial | None:
    """Return why the grant's tenant may never have a task like this at its site, if so."""
    if grant is None or limit_room(grant, Counter(), need) > 0:
        return None
    to_do = f"ask {grant.site}: hansa quota set {grant.tenant} --site {grant.site} --limit …"
    return Denial("over_limit", limit_words(grant, need), to_do)


def most_at_once(sites: Iterable[TenantId], tenant: TenantId, need: Need, grant_of: GrantOf) -> int:
    """Return how many tasks limits allow at one time on nodes of these sites (one entry a node)."""
    return sum(
        min(count, limit_room(grant_of(site, tenant), Counter(), need)) for site, count in Counter(sites).items()
    )
