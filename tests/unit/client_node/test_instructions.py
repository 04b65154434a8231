"""A job's instructions at a node: what is fetched, what is kept, and which file may be written over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client_node.services.instructions import Instructions
from common.errors import NotFound
from common.units import MIB
from common.wire import hansa_node_pb2 as pb
from tests.integration.scripted_link import ScriptedLink


class RecyclingLink(ScriptedLink):
    """Uses ``over`` up, as the real one does, and notes whether there was one."""

    def __init__(self) -> None:
        super().__init__()
        self.over: list[bool] = []

    async def download(
        self, ref: pb.ContentRef, target: Path, *, job: str = "", model: str = "", over: Path | None = None
    ) -> None:
        self.over.append(over is not None and over.exists())
        if over is not None and over.exists():
            over.replace(target)
        await super().download(ref, target, job=job, model=model)


@pytest.fixture
def link() -> RecyclingLink:
    return RecyclingLink()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "job"
    made.mkdir()
    return made


def names(folder: Path) -> set[str]:
    return {path.suffix or path.name for path in folder.iterdir()}


def offer(link: ScriptedLink, base: pb.ContentRef | None = None) -> pb.TaskOffer:
    return pb.TaskOffer(job="job_1", content=link.put(os.urandom(100 if base else 2 * MIB)), base=base)


@pytest.mark.parametrize("read", [True, False])
async def test_only_an_instruction_that_the_app_has_done_with_is_written_over(
    link: RecyclingLink, folder: Path, read: bool
) -> None:
    instructions = Instructions(folder)
    for _ in range(2):
        fetched = await instructions.fetch(link, offer(link))
        assert fetched.base is None
        instructions.done(fetched, read=read)
    assert link.over == [False, read]
    assert names(folder) == ({"spare"} if read else set())


async def test_what_instructions_rest_on_is_fetched_once(link: RecyclingLink, folder: Path) -> None:
    instructions = Instructions(folder)
    mean = link.put(os.urandom(2 * MIB))
    for _ in range(3):
        fetched = await instructions.fetch(link, offer(link, mean))
        assert fetched.base is not None
        assert fetched.base.read_bytes() == link.objects[mean.digest]
        instructions.done(fetched, read=True)
        assert names(folder) == {".base"}
    assert link.downloads.count(mean.digest) == 1


@pytest.mark.parametrize(("reads", "recycled"), [((True, True), True), ((True, False), False), ((False, True), False)])
async def test_a_base_is_written_over_only_if_every_task_had_done_with_it(
    link: RecyclingLink, folder: Path, reads: tuple[bool, ...], recycled: bool
) -> None:
    instructions = Instructions(folder)
    mean, following = link.put(os.urandom(2 * MIB)), link.put(os.urandom(2 * MIB))
    for read in reads:
        instructions.done(await instructions.fetch(link, offer(link, mean)), read=read)
    await instructions.fetch(link, offer(link, following))
    assert link.over[-1] is recycled


async def test_a_base_that_did_not_come_is_asked_for_again(link: RecyclingLink, folder: Path) -> None:
    instructions = Instructions(folder)
    mean = link.put(os.urandom(2 * MIB))
    gone = link.objects.pop(mean.digest)
    with pytest.raises(NotFound):
        await instructions.fetch(link, offer(link, mean))
    link.objects[mean.digest] = gone
    fetched = await instructions.fetch(link, offer(link, mean))
    assert fetched.base is not None
    assert fetched.base.read_bytes() == gone


async def test_what_an_earlier_agent_fetched_is_fetched_again(link: RecyclingLink, folder: Path) -> None:
    mean = link.put(os.urandom(2 * MIB))
    await Instructions(folder).fetch(link, offer(link, mean))
    next(folder.glob("*.base")).write_bytes(b"rotten")
    fetched = await Instructions(folder).fetch(link, offer(link, mean))
    assert fetched.base is not None
    assert fetched.base.read_bytes() == link.objects[mean.digest]
