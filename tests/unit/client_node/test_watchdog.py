"""The watchdog over held leases: who stays above its slice is ended, by injected time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from client_node.guard.leases import Measure
from client_node.services.watchdog import Watchdog
from tests.gpus import LOST
from tests.leased_node import HALF, Node


class Process:
    """The processes of a lease, as the watchdog knows them."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.over = asyncio.Event()

    def processes(self) -> list[int]:
        return [41, 42]

    def stop(self, reason: str, message: str) -> None:
        self.stopped.append((reason, message))
        self.over.set()


async def watched(node: Node, *uses: dict[int, int | None], seen: bool = True) -> tuple[Process, tuple[Measure, ...]]:
    """Watch a lease of half of GPU-a, with these processes at each look; return what became of it."""
    gpu, looks, process = node.gpus["GPU-a"], iter(uses), Process()
    node.driver._sees_pids = seen

    async def pause(_seconds: float) -> None:
        look(next(looks, None))
        await asyncio.sleep(0)

    def look(use: dict[int, int | None] | None) -> None:
        if use is None:
            process.over.set()
        else:
            gpu.processes = use
            gpu.used = sum(mib or 0 for mib in use.values())

    watchdog = Watchdog(node.driver, node.leases, lambda: process.told.append("lost"), lambda: 0.5, pause)
    async with node.leases.hold(HALF) as held:
        before = await watchdog.before(HALF.slices)
        look(next(looks))
        async with watchdog.over(process, held, before):
            await asyncio.wait_for(process.over.wait(), 30)
        words = node.leases.measures(held)
    await node.leases.close()
    return process, words


async def test_a_lease_that_stays_above_its_slice_is_ended_with_the_figures(node: Node) -> None:
    process, _ = await watched(node, {41: 30_000, 42: 9_000}, {41: 30_000, 42: 10_001}, {41: 41_000})
    assert process.stopped == [("gpu_memory", "it used 41000 MiB of GPU-a, its slice is 40000 MiB")]
    assert node.log.entries()[0].peak_mib == 41_000


async def test_one_look_above_it_is_a_warning_and_others_processes_are_not_ours(node: Node) -> None:
    process, words = await watched(node, {41: 40_001}, {41: 39_000, 99: 30_000}, {41: 40_001}, {41: 1})
    assert process.stopped == []
    assert Measure.WATCHDOG in words


async def test_a_device_that_does_not_answer_any_more_ends_its_leases(node: Node) -> None:
    watching = asyncio.create_task(watched(node, *[{41: 1}] * 200))
    await asyncio.sleep(0)
    node.gpus["GPU-a"].faults["*"] = LOST
    process, _ = await watching
    assert process.stopped == [("gpu_lost", "device GPU-a does not answer any more")]
    assert process.told == ["lost"]


async def test_where_the_driver_s_process_ids_say_nothing_a_lease_alone_is_measured_by_its_device(node: Node) -> None:
    process, _ = await watched(node, {7: 41_000}, {7: 41_000}, seen=False)
    assert [reason for reason, _ in process.stopped] == ["gpu_memory"]


async def test_what_could_not_be_measured_is_not_said_to_be_watched(node: Node) -> None:
    async with node.leases.hold(replace(HALF, job="job_2")):  # somebody else at the device
        process, words = await watched(node, {41: None, 42: 90_000}, {41: None, 42: 90_000})
    await node.leases.close()
    assert process.stopped == []
    assert Measure.WATCHDOG not in words
    assert "watchdog" not in node.log.entries()[-1].enforcement
