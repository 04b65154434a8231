"""The leases that this node holds now: judged, written down before anything runs under them, closed at their end.

A lease is held from its acceptance until the reply is kept or the task has failed; what is on record is this node's
own account, by its own clocks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from client_node.guard.consent import Denial
from client_node.guard.grants import Grant, grant
from client_node.guard.leases import Device, Lease, Measure, Slice, filled, judge_slices, measures, on_offer
from client_node.guard.service import DONE, LeaseEntry
from client_node.ports.leases import LeaseLog
from client_node.services.devices import Devices
from client_node.services.finishing import to_its_end
from client_node.services.offers import PreparedJob
from client_node.settings import NodeSettings
from common.clock import Clock
from common.errors import AppFailed, BadInput, PlatformError
from common.sandbox import SandboxMode
from common.wire import hansa_node_pb2 as pb

BEAT_S = 10.0  # between writes of how long open leases have been held
_DAY_S = 86_400.0


@dataclass
class HeldLease:
    """A lease while it is held, and what is learnt of it."""

    lease: Lease
    grant: Grant
    devices: Mapping[str, Device]
    key: str  # of its row in the log
    began: float  # monotonic
    started: float  # UTC
    seen: bool = True  # its use of device memory could be told, whenever somebody looked
    fraction: bool = False  # its process says that torch keeps to its share
    peak_mib: int = 0
    held_s: float | None = None  # once it is over
    writing: asyncio.Task[None] | None = None  # its row in the log

    async def recorded(self) -> None:
        """Wait until it is on record."""
        if self.writing is not None:
            await to_its_end(self.writing)

    def saw(self, used: Mapping[str, int | None]) -> None:
        """Note how much device memory its processes used at one look."""
        known = [mib for mib in used.values() if mib is not None]
        self.seen = self.seen and len(known) == len(used)
        self.peak_mib = max(self.peak_mib, sum(known))


class Leases:
    """All leases of this node."""

    def __init__(self, devices: Devices, log: LeaseLog, settings: Callable[[], NodeSettings], clock: Clock) -> None:
        self._devices = devices
        self._log = log
        self._settings = settings
        self._clock = clock
        self._held: dict[str, HeldLease] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def recover(self) -> int:
        """Close what an earlier agent left open, and drop what the operator keeps no longer; return how many."""
        self._log.forget(self._clock.now() - self._settings().lease_days * _DAY_S)
        return self._log.interrupt()

    def read(self, offer: pb.TaskOffer, job: PreparedJob) -> Lease:
        """Return the lease that comes with an offer; one without slices is of CPU and memory only.

        Raises:
            BadInput: it is charged to somebody else than the job's owner.
        """
        owner, spec = job.request.owner_tenant, job.spec.resources
        if offer.tenant not in {"", owner}:
            raise BadInput(f"the lease of {offer.task} is charged to {offer.tenant[:80]!r}, the job is {owner}'s")
        lent = self._devices.lent()
        return Lease(
            id=offer.lease or offer.task,
            task=offer.task,
            job=offer.job,
            tenant=owner,
            slices=tuple(filled(Slice(part.device, part.milli, part.mib), lent) for part in offer.slices),
            cpu_milli=offer.cpu_milli or 1000 * spec.cpus,
            ram_mib=offer.ram_mib or spec.memory_mib,
        )

    def refusals(self, lease: Lease) -> tuple[Denial, ...]:
        """Return why this node cannot give what the lease names."""
        held = [part for other in self.held() for part in other.lease.slices]
        return judge_slices(lease.slices, self._devices.lent(), held, self._settings().gpu_context_mib)

    def still(self, held: HeldLease) -> tuple[Denial, ...]:
        """Return why a lease that is held may not go on: its device is not lent any more."""
        return judge_slices(held.lease.slices, self._devices.lent(), (), 0)

    def fit(self, slices: tuple[Slice, ...], beside: tuple[Slice, ...]) -> bool:
        """Say whether there would be room for ``slices`` beside others and all that is held now."""
        held = [part for other in self.held() for part in other.lease.slices]
        return not judge_slices(slices, self._devices.lent(), [*held, *beside], 0)

    def held(self) -> tuple[HeldLease, ...]:
        """Return the leases that are held now."""
        return tuple(self._held.values())

    def alone(self, held: HeldLease, device: str) -> bool:
        """Say whether no other lease holds a part of a device."""
        others = (other for other in self.held() if other is not held)
        return not any(part.device == device for other in others for part in other.lease.slices)

    def measures(self, held: HeldLease) -> tuple[Measure, ...]:
        """Return what holds the lease to its slice, as far as is known by now."""
        found = measures(
            held.lease,
            held.devices,
            boxed=self._boxed(),
            sees_pids=self._devices.driver.sees_pids,
            fraction=held.fraction,
        )
        return found if held.seen else tuple(word for word in found if word is not Measure.WATCHDOG)

    def on_offer(self) -> tuple[Measure, ...]:
        """Return what can hold leases to their slices here."""
        return on_offer(self._devices.lent().values(), boxed=self._boxed())

    @asynccontextmanager
    async def hold(self, lease: Lease) -> AsyncIterator[HeldLease]:
        """Hold a lease that was judged, for the ``with`` or until ``finish``.

        Nothing may run under it before ``recorded``, which goes on while the task's instruction is fetched.
        """
        held = self._begin(lease)
        words = self.measures(held)
        writing = asyncio.to_thread(self._log.begin, held.key, lease, held.started, words)
        held.writing = asyncio.create_task(writing)
        outcome = DONE
        try:
            if held.devices:
                await asyncio.to_thread(self._devices.driver.ready, tuple(held.devices))
            yield held
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            self.finish(held, outcome)

    def finish(self, held: HeldLease, outcome: str = DONE) -> None:
        """Give the lease back; its end is written while the caller goes on.  Again is no error."""
        if held.held_s is not None:
            return
        held.held_s = self._clock.monotonic() - held.began
        del self._held[held.key]
        words = self.measures(held)
        entry = LeaseEntry(
            held.lease, held.started, held.started + held.held_s, held.held_s, outcome, words, held.peak_mib
        )
        closing = asyncio.create_task(self._close(held, entry))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Wait until the ends of all leases are on record."""
        while self._closing:
            await asyncio.wait(self._closing)

    async def beat(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Write every now and then how long leases have been held, so that a crash does not hide it."""
        while True:
            await pause(BEAT_S)
            now = self._clock.monotonic()
            if held := {one.key: (one.started + now - one.began, now - one.began) for one in self.held()}:
                await asyncio.to_thread(self._log.still_held, held)

    async def _close(self, held: HeldLease, entry: LeaseEntry) -> None:
        await held.recorded()
        await asyncio.to_thread(self._log.end, held.key, entry)

    def _begin(self, lease: Lease) -> HeldLease:
        lent = self._devices.lent()
        held = HeldLease(
            lease,
            grant(lease, lent, self._settings().gpu_context_mib),
            {part.device: lent[part.device] for part in lease.slices},
            secrets.token_hex(8),
            self._clock.monotonic(),
            self._clock.now(),
        )
        self._held[held.key] = held
        return held

    def _boxed(self) -> bool:
        return SandboxMode(self._settings().sandbox) is SandboxMode.BWRAP


def _outcome(error: BaseException) -> str:
    if isinstance(error, AppFailed):
        return error.reason
    if isinstance(error, PlatformError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "node_error"
