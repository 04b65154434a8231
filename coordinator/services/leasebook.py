"""Who waits for what and who holds what, with whom to tell; the planner's state as the services ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from common.ids import JobId, NodeId, TenantId
from coordinator.scheduling.records import Ask, Lease

_MEASURES = 16  # words of a node, and letters in each


@dataclass(frozen=True)
class Holder:
    """Who asked, and what it wants to be told."""

    on_start: Callable[[tuple[Lease, ...]], None]
    on_lost: Callable[[Lease, str], None]  # a lease is over although it was not given back: why
    on_limits: Callable[[], None] = lambda: None  # a site's owner changed what the tenant may have


class Leasebook:
    """Asks, leases and their holders."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ask] = {}
        self._leases: dict[str, dict[NodeId, Lease]] = {}
        self._holders: dict[str, Holder] = {}
        self.enforcement: dict[tuple[str, NodeId], tuple[str, ...]] = {}  # what holds each lease to its slice

    def wait(self, ask: Ask, holder: Holder) -> None:
        """An ask waits."""
        self._waiting[ask.id], self._holders[ask.id] = ask, holder

    def waiting(self, ask: str) -> Ask | None:
        """Return the ask if it waits."""
        return self._waiting.get(ask)

    def withdrawn(self, ask: str) -> bool:
        """An ask is not wanted any more; return whether it waited."""
        waited = self._waiting.pop(ask, None) is not None
        self._forget(ask)
        return waited

    def granted(self, ask: str, leases: tuple[Lease, ...]) -> Holder | None:
        """An ask got leases; return who is to be told."""
        self._waiting.pop(ask, None)
        self._leases.setdefault(ask, {}).update({lease.node: lease for lease in leases})
        return self._holders.get(ask)

    def adopt(self, ask: str, holder: Holder) -> dict[NodeId, Lease]:
        """Return the leases of an ask, which have this holder from now on."""
        held = dict(self._leases.get(ask, {}))
        if held:
            self._holders[ask] = holder
        return held

    def adopted(self, ask: str) -> Holder | None:
        """Return the holder of an ask's leases."""
        return self._holders.get(ask)

    def over(self, ask: str, node: NodeId) -> tuple[Lease | None, Holder | None]:
        """A lease is over; return it, if it was held, and its holder."""
        lease = self._leases.get(ask, {}).pop(node, None)
        self.enforcement.pop((ask, node), None)
        holder = self._holders.get(ask)
        self._forget(ask)
        return lease, holder

    def lease(self, ask: str, node: NodeId) -> Lease | None:
        """Return the lease if it is held."""
        return self._leases.get(ask, {}).get(node)

    def leases(self) -> list[Lease]:
        """Return every lease."""
        return [lease for held in self._leases.values() for lease in held.values()]

    def asks_of(self, job: JobId) -> list[Ask]:
        """Return what a job waits for."""
        return [ask for ask in self._waiting.values() if ask.job == job]

    def limits_changed(self, tenant: TenantId) -> None:
        """Tell those of a tenant who wait, each once and in the loop's next turn, that limits are others now."""
        waits = (self._holders[ask.id] for ask in self._waiting.values() if ask.tenant == tenant)
        for holder in dict.fromkeys(waits):
            asyncio.get_running_loop().call_soon(holder.on_limits)

    def has(self, tenant: TenantId) -> bool:
        """Say whether a tenant waits for or holds anything."""
        return tenant in self.tenants()

    def enforced(self, ask: str, node: NodeId, measures: Iterable[str]) -> None:
        """A node says what holds a lease to its slice; its last word counts."""
        said = tuple(word for word in islice(measures, _MEASURES) if word.isidentifier() and len(word) <= _MEASURES)
        if said and self.lease(ask, node) is not None:
            self.enforcement[ask, node] = said

    def tenants(self) -> set[TenantId]:
        """Return who waits for or holds anything."""
        return {ask.tenant for ask in self._waiting.values()} | {lease.tenant for lease in self.leases()}

    def _forget(self, ask: str) -> None:
        if not self._leases.get(ask):
            self._leases.pop(ask, None)
            if ask not in self._waiting:
                self._holders.pop(ask, None)
