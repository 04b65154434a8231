"""The parent's end of the frames: what a hostile other end sends ends in a FrameError, never in more."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.child import frames
from common.errors import BadUpdate
from common.sandbox.channel import Channel
from common.sandbox.seals import SEALS, check_frame, check_sealed


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def sealed(data: bytes = b"abc") -> int:
    import fcntl

    fd = os.memfd_create("t", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_frames_and_descriptors_pass_both_ways(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    fd = sealed()
    sending = asyncio.create_task(
        asyncio.to_thread(frames.send, theirs, {"op": "reply", "text": "ä" * 100_000}, [fd, fd])
    )
    message, fds = await channel.receive() or ({}, [])
    await sending
    assert message == {"op": "reply", "text": "ä" * 100_000}
    assert [check_sealed(got) for got in fds] == [3, 3]
    await channel.send({"op": "end"}, fds[:1])
    got = frames.receive(theirs)
    assert got is not None
    assert got[0] == {"op": "end"}
    for one in (fd, *fds, *got[1]):
        os.close(one)


async def test_a_slow_reader_does_not_block_the_loop(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    big = {"op": "x", "text": "y" * 4_000_000}
    sending = asyncio.create_task(channel.send(big))
    await asyncio.sleep(0)
    assert not sending.done()
    received = await asyncio.to_thread(frames.receive, theirs)
    await sending
    assert received == (big, [])


async def test_the_end_is_the_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.close()
    assert await channel.receive() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=64), st.integers(0, 5))
def test_no_bytes_do_more_than_end_the_conversation(data: bytes, descriptors: int) -> None:
    async def talk() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        channel = Channel(ours)
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(descriptors)]
        if data:
            socket.send_fds(theirs, [data], fds)
        theirs.close()
        for fd in fds:
            os.close(fd)
        try:
            while (got := await channel.receive()) is not None:
                assert isinstance(got[0], dict)
                for fd in got[1]:
                    os.close(fd)
        except frames.FrameError:
            pass
        finally:
            channel.close()

    before = open_descriptors()
    asyncio.run(talk())
    assert open_descriptors() == before


async def test_an_oversized_frame_is_refused_before_it_is_read(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(struct.pack(">I", frames.MAX_FRAME + 1))
    with pytest.raises(frames.FrameError, match="over the limit"):
        await channel.receive()


def test_only_a_fully_sealed_memfd_is_accepted(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "file").write_text("x")
    plain = os.memfd_create("plain", os.MFD_ALLOW_SEALING)
    partly = os.memfd_create("partly", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(partly, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    read, write = os.pipe()
    for fd in (plain, partly, read, write, os.open(tmp_path / "file", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)):
        with pytest.raises(BadUpdate):
            check_sealed(fd)
        os.close(fd)
    fd = sealed(b"12345")
    assert check_sealed(fd) == 5
    os.close(fd)


def test_an_answer_may_be_memory_that_its_child_uses_again_and_nothing_else_may(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("123")
    plain, kept = os.memfd_create("plain"), sealed()
    file, (read, write) = os.open(tmp_path / "file", os.O_RDONLY), os.pipe()
    os.write(plain, b"123")
    check_frame({"op": "reply", "object": 3, "state": None}, [plain])
    check_frame({"op": "reply", "object": 3, "state": 3}, [plain, kept])
    refused = [
        ({"op": "reply", "object": 3, "state": 3}, [kept, plain]),
        ({"op": "reply", "object": 3, "state": None}, [file]),
        ({"op": "reply", "object": 0, "state": None}, [read]),
        ({"op": "exchange", "objects": [3]}, [plain]),
        ({"op": "finished", "object": 3}, [plain]),
    ]
    for message, fds in refused:
        with pytest.raises(frames.FrameError):
            check_frame(message, fds)
    for fd in (plain, kept, file, read, write):
        os.close(fd)


@pytest.mark.parametrize(
    ("message", "count"),
    [
        ({"op": "reply", "object": 3, "state": None}, 0),
        ({"op": "reply", "object": 3, "state": None}, 2),
        ({"op": "reply", "object": 4, "state": None}, 1),
        ({"op": "reply", "object": True, "state": None}, 1),
        ({"op": "reply", "object": "3", "state": None}, 1),
        ({"op": "exchange", "objects": [3, 3]}, 1),
        ({"op": "exchange", "objects": 3}, 1),
        ({"op": "exchange"}, 0),
        ({"op": "error"}, 1),
        ({"op": "ready"}, 1),
    ],
)
def test_a_frame_must_bring_what_it_announces(message: dict, count: int) -> None:
    fds = [sealed() for _ in range(count)]
    with pytest.raises(frames.FrameError):
        check_frame(message, fds)
    for fd in fds:
        os.close(fd)


def test_honest_frames_and_other_programs_frames_pass() -> None:
    fds = [sealed(), sealed()]
    check_frame({"op": "reply", "object": 3, "state": 3}, fds)
    check_frame({"op": "exchange", "objects": [3, 3]}, fds)
    check_frame({"op": "loaded", "whatever": []}, fds)
    check_frame({"op": ["unhashable"]}, fds)
    check_frame({"op": "finished", "object": None}, [])
    for fd in fds:
        os.close(fd)
