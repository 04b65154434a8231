"""Allowances: what the platform lets each tenant use at the coordinator, and how much of it is used.

A tenant without an allowance of its own has the coordinator's default.  Whether the caller may change one is the
policies' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common.clock import Clock
from common.errors import BadInput, ChangedMeanwhile, NotFound, TenantQuotaExceeded
from common.ids import TenantId
from coordinator.domain.jobs import UNFINISHED
from coordinator.domain.quotas import Allowance
from coordinator.domain.tenancy import PLATFORM
from coordinator.ports.store import Store, Tx
from coordinator.services.preconditions import Seen

Running = Callable[[TenantId], int]  # how many running places of the tenant are taken
Changed = Callable[[Allowance], None]


@dataclass(frozen=True)
class Use:
    """What a tenant may use, and uses now."""

    allowance: Allowance
    running_jobs: int
    queued_jobs: int
    stored_bytes: int


class Allowances:
    """Sets and shows allowances.

    Args:
        store: Records.
        clock: Time.
        defaults: Of a tenant without its own; its ``tenant`` is ignored.
        running: How many jobs of a tenant hold a running place.
    """

    def __init__(self, store: Store, clock: Clock, defaults: Allowance, running: Running) -> None:
        self._store, self._clock, self._defaults = store, clock, defaults
        self._running = running
        self._own: dict[TenantId, Allowance] = {}  # as they are stored: nobody else writes them while we may
        self._told: list[Changed] = []

    def on_change(self, told: Changed) -> None:
        """Call ``told`` on the event loop with what holds for a tenant from then on, after it is durable."""
        self._told.append(told)

    async def start(self) -> None:
        """Tell what every tenant with its own allowance may use."""
        for allowance in await self._store.read(lambda tx: list(tx.quotas.allowances())):
            self._changed(allowance)

    def now(self, tenant: TenantId) -> Allowance:
        """Return what holds for ``tenant``, without a look at the store."""
        return self._own.get(tenant) or self.default(tenant)

    def _changed(self, allowance: Allowance) -> None:
        self._own[allowance.tenant] = allowance
        for told in self._told:
            told(allowance)

    async def use(self, tenants: Sequence[TenantId]) -> list[Use]:
        """Return what each of ``tenants`` may use and uses."""
        return await self._store.read(lambda tx: [self._use(tx, tenant) for tenant in tenants])

    async def get(self, tenant: TenantId) -> Use:
        """Return what one tenant may use and uses.

        Raises:
            NotFound: no such tenant.
        """

        def look(tx: Tx) -> Use:
            _exists(tx, tenant)
            return self._use(tx, tenant)

        return await self._store.read(look)

    async def set(
        self, tenant: TenantId, running_jobs: int, queued_jobs: int, stored_bytes: int, by: str, seen: Seen
    ) -> Allowance:
        """Let ``tenant`` use so much; letting it use what it may is no change and no error.

        Raises:
            BadInput: a figure is negative.
            NotFound: no such tenant.
            ChangedMeanwhile: the allowance is not the one that was seen.
        """
        if min(running_jobs, queued_jobs, stored_bytes) < 0:
            raise BadInput("an allowance cannot be negative")
        wish = Allowance(tenant, running_jobs, queued_jobs, stored_bytes)
        now = self._clock.now()

        def work(tx: Tx) -> tuple[Allowance, bool]:
            _exists(tx, tenant)
            found = tx.quotas.allowance(tenant)
            if found is not None and replace(found, generation=0, set_by="", set_at=0.0) == wish:
                return found, False
            seen.check(f"the allowance of {tenant}", found or self.default(tenant))
            before = found.generation if found else 0
            made = replace(wish, generation=before + 1, set_by=by, set_at=now)
            if not tx.quotas.put_allowance(made, expected_generation=before):
                raise ChangedMeanwhile(f"the allowance of {tenant} is being changed by somebody else")
            return made, True

        allowance, fresh = await self._store.write(work)
        if fresh:
            self._changed(allowance)
        return allowance

    async def remove(self, tenant: TenantId, seen: Seen) -> Allowance:
        """Let the coordinator's default hold for ``tenant`` again; removing twice is removing once.

        Raises:
            NotFound: no such tenant.
            ChangedMeanwhile: the allowance is not the one that was seen.
        """

        def work(tx: Tx) -> None:
            _exists(tx, tenant)
            found = tx.quotas.allowance(tenant)
            if found is not None:
                seen.check(f"the allowance of {tenant}", found)
                tx.quotas.remove_allowance(tenant, expected_generation=found.generation)

        await self._store.write(work)
        self._changed(self.default(tenant))
        return self.default(tenant)

    def of(self, tx: Tx, tenant: TenantId) -> Allowance:
        """Return what holds for ``tenant``, in a transaction."""
        return tx.quotas.allowance(tenant) or self.default(tenant)

    def default(self, tenant: TenantId) -> Allowance:
        """Return what holds for a tenant without its own allowance."""
        return replace(self._defaults, tenant=tenant)

    def check_queue(self, tx: Tx, tenant: TenantId) -> None:
        """Check in the transaction that admits a job that there is room for one more.

        A job waits from its submission until it has a running place; so the queue is what is unfinished beyond the
        running places, and no burst of submissions can pass it.

        Raises:
            TenantQuotaExceeded: the queue, or the storage into which its rounds would write, is full.
        """
        allowance = self.of(tx, tenant)
        unfinished = tx.jobs.count(tenant, UNFINISHED)
        if unfinished >= allowance.running_jobs + allowance.queued_jobs:
            raise TenantQuotaExceeded(
                f"{tenant} has {unfinished} unfinished jobs: {allowance.running_jobs} may run and "
                f"{allowance.queued_jobs} may wait at once",
                next_step="wait until one ends, cancel one (hansa job ls, hansa job cancel JOB), or ask the platform "
                f"admin: hansa quota set {tenant} --coordinator --queued-jobs N",
            )
        if (stored := tx.quotas.stored(tenant)) >= allowance.stored_bytes:
            raise storage_full(tenant, stored, allowance.stored_bytes)

    async def check_any_room(self, tenant: TenantId) -> None:
        """Check that the tenant may store anything more at all.

        Raises:
            TenantQuotaExceeded: it may not.
        """

        def look(tx: Tx) -> None:
            limit, stored = self.of(tx, tenant).stored_bytes, tx.quotas.stored(tenant)
            if stored >= limit:
                raise storage_full(tenant, stored, limit)

        await self._store.read(look)

    def check_stored(self, tx: Tx, tenant: TenantId) -> None:
        """Check, after booking, that what the tenant has stored is within its allowance.

        Raises:
            TenantQuotaExceeded: it is not.
        """
        limit, stored = self.of(tx, tenant).stored_bytes, tx.quotas.stored(tenant)
        if stored > limit:
            raise storage_full(tenant, stored, limit)

    def _use(self, tx: Tx, tenant: TenantId) -> Use:
        running, unfinished = self._running(tenant), tx.jobs.count(tenant, UNFINISHED)
        return Use(self.of(tx, tenant), running, max(0, unfinished - running), tx.quotas.stored(tenant))


def storage_full(tenant: TenantId, wanted: int, limit: int) -> TenantQuotaExceeded:
    """Return the error for apps, versions and journals of ``wanted`` bytes together."""
    return TenantQuotaExceeded(
        f"{tenant} would have {in_bytes(wanted)} stored at the coordinator, {in_bytes(limit)} are allowed",
        next_step=f"end jobs that are not needed, or ask the platform admin: hansa quota set {tenant} --coordinator "
        "--stored SIZE",
    )


def in_bytes(size: int) -> str:
    """Return a size as people read it, exact where it is small."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"


def _exists(tx: Tx, tenant: TenantId) -> None:
    if tenant == PLATFORM or tx.tenants.get(tenant) is None:
        raise NotFound(f"no tenant {tenant[:60]!r}")
