"""Leases while they are held: on record before anything runs, ended with their outcome."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from client_node.guard.leases import Lease, Slice
from client_node.services.leased_apps import LeasedApps
from client_node.services.leases import Leases
from common.errors import AppFailed, BadInput, NotFound
from common.wire import hansa_node_pb2 as pb
from tests.gpus import LOST
from tests.leased_node import HALF, JOB, Node


async def test_a_lease_is_on_record_before_anything_runs_under_it_and_closed_at_its_end(node: Node) -> None:
    async with node.leases.hold(HALF) as held:
        await held.recorded()
        (entry,) = node.log.entries()
        assert (entry.lease, entry.outcome, entry.held_s) == (HALF, "", 0.0)
        node.clock.advance(12.5)
        held.saw({"GPU-a": 900})
        held.saw({"GPU-a": 300})
    await node.leases.close()
    (entry,) = node.log.entries()
    assert (entry.outcome, entry.held_s, entry.seen - entry.start, entry.peak_mib) == ("done", 12.5, 12.5, 900)
    assert "watchdog" in entry.enforcement


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AppFailed("x", reason="gpu_memory"), "gpu_memory"),
        (NotFound("x"), "not_found"),
        (asyncio.CancelledError(), "cancelled"),
        (RuntimeError("x"), "node_error"),
    ],
)
async def test_the_log_says_how_a_lease_ended(node: Node, error: BaseException, outcome: str) -> None:
    async def under() -> None:
        async with node.leases.hold(HALF):
            raise error

    with pytest.raises(type(error)):
        await under()
    await node.leases.close()
    assert [entry.outcome for entry in node.log.entries()] == [outcome]
    assert node.leases.held() == ()


async def test_what_a_crash_leaves_open_ends_when_it_was_last_known_to_be_held(node: Node) -> None:
    beating = asyncio.create_task(node.leases.beat(node.pause))
    async with node.leases.hold(HALF) as held:
        await held.recorded()
        while not (seen := node.log.entries()[0].held_s):
            await asyncio.sleep(0.001)
        beating.cancel()
        await asyncio.wait({beating})
        (before,) = node.log.entries()
        again = Leases(node.devices, node.log, lambda: node.settings, node.clock)  # as another process would start
        assert again.recover() == 1
        (after,) = node.log.entries()
    assert seen >= 10.0
    assert after == replace(before, outcome="interrupted")
    assert after.seen - after.start == after.held_s


async def test_ended_leases_are_kept_as_long_as_the_operator_wants(node: Node) -> None:
    async with node.leases.hold(HALF):
        pass
    await node.leases.close()
    node.clock.advance(86_400 * node.settings.lease_days - 1)
    node.leases.recover()
    assert len(node.log.entries()) == 1
    node.clock.advance(2)
    node.leases.recover()
    assert node.log.entries() == ()


async def test_a_device_that_is_given_is_not_given_again_until_its_lease_is_over(node: Node) -> None:
    whole = replace(HALF, slices=(Slice("GPU-a", 1000, 80_000),))
    async with node.leases.hold(HALF) as held:
        assert [d.code for d in node.leases.refusals(whole)] == ["device_full"]
        assert node.leases.refusals(replace(HALF, job="job_2")) == ()
        assert node.leases.alone(held, "GPU-a")
        async with node.leases.hold(replace(HALF, job="job_2")):
            assert not node.leases.alone(held, "GPU-a")
    assert node.leases.refusals(whole) == ()
    await node.leases.close()


def test_an_offer_without_slices_is_a_lease_of_the_job_s_cpus_and_memory(node: Node) -> None:
    lease = node.leases.read(pb.TaskOffer(task="job_1/0/0", job="job_1"), JOB)
    assert lease == Lease("job_1/0/0", "job_1/0/0", "job_1", "acme", (), 1000, 4096)
    slices = [pb.Slice(device="GPU-a", milli=250)]
    offer = pb.TaskOffer(task="job_1/0/0", job="job_1", lease="l7", tenant="acme", slices=slices, cpu_milli=500)
    assert node.leases.read(offer, JOB).slices == (Slice("GPU-a", 250, 20_000),)
    assert (node.leases.read(offer, JOB).id, node.leases.read(offer, JOB).cpu_milli) == ("l7", 500)
    with pytest.raises(BadInput, match="acme's"):
        node.leases.read(pb.TaskOffer(task="job_1/0/0", job="job_1", tenant="others"), JOB)


def test_what_the_operator_withholds_is_not_lent_and_changes_are_news(node: Node) -> None:
    assert list(node.devices.lent()) == ["GPU-a", "GPU-b"]
    node.settings = replace(node.settings, withheld_devices=("GPU-b",))
    assert list(node.devices.lent()) == ["GPU-a"]
    assert [device.uuid for device in node.devices.report()] == ["GPU-a"]

    def look() -> tuple[bool, bool]:
        return node.devices.scan(), node.devices.moved()

    assert look() == (False, False)
    node.gpus["GPU-b"].used = 70_000  # not lent: nobody's news
    assert look() == (False, False)
    node.gpus["GPU-a"].used = 15_000
    assert look() == (False, False)
    node.gpus["GPU-a"].used = 16_000
    assert look() == (False, True)
    assert [(d.used_mib, d.busy_percent) for d in node.devices.report()] == [(16_000, 0)]
    node.gpus["GPU-a"].faults["*"] = LOST
    assert node.devices.scan()
    assert not node.devices.report()
    node.settings = replace(node.settings, withheld_devices=("all",))
    assert not node.devices.lent()


async def test_devices_are_told_at_the_next_look_and_figures_now_and_then(node: Node) -> None:
    told: list[int] = []
    looks = itertools.count(1)
    over = asyncio.Event()

    async def pause(_seconds: float) -> None:
        now = next(looks)
        if now == 2:
            node.gpus["GPU-a"].used = 40_000
        if now == 14:
            node.gpus["GPU-b"].faults["*"] = LOST
        if now == 20:
            over.set()
            await asyncio.Event().wait()
        node.now = now

    node.devices.report()
    watching = asyncio.create_task(node.devices.watch(lambda: (told.append(node.now), node.devices.report()), pause))
    await asyncio.wait_for(over.wait(), 30)
    watching.cancel()
    assert told == [10, 14]


class App:
    """A warm app that has what it was given, until it is ended."""

    def __init__(self, job: str, *slices: Slice) -> None:
        self.app, self.job = self, SimpleNamespace(request=SimpleNamespace(job=job))
        self.slices, self.busy, self.ended = slices, False, asyncio.Event()

    async def end(self) -> None:
        self.slices = ()
        self.ended.set()


async def test_an_app_waits_so_long_for_its_lease_to_be_renewed_and_then_ends(node: Node) -> None:
    app, pauses = App("job_1", *HALF.slices), []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await node.pause(seconds)

    leased = LeasedApps(SimpleNamespace(opened=lambda: (app,)), node.leases, lambda: 5.0, pause)
    async with leased.hold(HALF):
        assert app.slices
    async with leased.hold(HALF):  # renewed before anybody was patient for long
        await asyncio.sleep(0.01)
        assert app.slices == HALF.slices
    await asyncio.wait_for(app.ended.wait(), 30)
    assert set(pauses) == {5.0}
    await leased.close()


async def test_apps_make_room_only_where_their_room_is_needed(node: Node) -> None:
    kept, gone = App("job_2", Slice("GPU-a", 500, 40_000)), App("job_3", Slice("GPU-a", 500, 40_000))
    elsewhere, busy = App("job_4", Slice("GPU-b", 1000, 80_000)), App("job_5", Slice("GPU-a", 500, 40_000))
    busy.busy = True
    apps = SimpleNamespace(opened=lambda: (kept, gone, elsewhere, busy))
    leased = LeasedApps(apps, node.leases, lambda: 5.0, node.pause)
    async with leased.hold(HALF):
        assert [app.ended.is_set() for app in apps.opened()] == [False, True, False, False]
    await leased.close()
