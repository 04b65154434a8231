"""Updates on disk: a file that is used again holds the new update and nothing of the old one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_node.adapters.state import SqliteState
from client_node.ports.state import KeptUpdate, Position
from client_node.services.updates import KeptUpdates, Reply
from common.child.frames import object_header
from common.child.records import seal
from common.errors import BadUpdate
from common.units import GIB, MIB

JOB = "job_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "updates"
    made.mkdir()
    return made


@pytest.fixture
def kept(folder: Path, tmp_path: Path) -> Iterator[KeptUpdates]:
    state = SqliteState(tmp_path / "node.sqlite")
    yield KeptUpdates(folder, state)
    state.close()


def keep(kept: KeptUpdates, seq: int, size: int, *, job: str = JOB) -> tuple[KeptUpdate, bytes]:
    listing = '{"records":[["arrays","array",["w"]]]}'
    values = os.urandom(size)
    data = object_header([("arrays/w", "U8", (size,), size)], {"hansa": listing}) + values
    fd = os.memfd_create("reply", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    seal(fd)
    reply = Reply(fd)
    try:
        written = kept.write(f"{job}/{seq}/0", job, Position(seq, 0), "c" * 64, reply, GIB)
        kept.commit(written)
        return written.update, data
    finally:
        reply.close()


@pytest.mark.parametrize("second", [MIB, 2 * MIB, 9 * MIB + 1, 5])
def test_a_recycled_file_holds_the_new_update_alone(kept: KeptUpdates, folder: Path, second: int) -> None:
    first, _ = keep(kept, 0, 2 * MIB)
    inode = kept.path(first).stat().st_ino
    kept.close_exchange(JOB, 0, ())
    after, data = keep(kept, 1, second)
    assert kept.path(after).stat().st_ino == inode
    assert kept.path(after).read_bytes() == data
    assert (after.digest, after.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [path.name for path in folder.iterdir()] == [after.file]


def test_a_file_is_recycled_within_its_job_only_and_goes_with_it(kept: KeptUpdates, folder: Path) -> None:
    first, _ = keep(kept, 0, 2 * MIB)
    kept.close_exchange(JOB, 0, ())
    other, _ = keep(kept, 0, 2 * MIB, job="job_2")
    assert sorted(path.name for path in folder.iterdir()) == sorted([other.file, Path(first.file).stem + ".free"])
    kept.drop_job(JOB)
    assert [path.name for path in folder.iterdir()] == [other.file]


def test_small_updates_and_what_a_restart_finds_are_removed(kept: KeptUpdates, folder: Path) -> None:
    keep(kept, 0, 100)
    kept.close_exchange(JOB, 0, ())
    assert not list(folder.iterdir())
    keep(kept, 1, 2 * MIB)
    kept.close_exchange(JOB, 1, ())
    kept.sweep()
    assert not list(folder.iterdir())


def test_what_was_written_and_not_committed_is_gone_after_a_restart(kept: KeptUpdates, folder: Path) -> None:
    fd = os.memfd_create("reply", os.MFD_ALLOW_SEALING)
    os.write(fd, object_header([], {"hansa": '{"records":[]}'}))
    seal(fd)
    reply = Reply(fd)
    written = kept.write(f"{JOB}/0/0", JOB, Position(0, 0), "c" * 64, reply, GIB)
    reply.close()
    assert kept.path(written.update).exists()
    assert kept.find(written.update.task, "c" * 64) is None
    kept.sweep()
    assert list(folder.iterdir()) == []


def test_an_answer_that_becomes_shorter_or_is_no_object_leaves_nothing(kept: KeptUpdates, folder: Path) -> None:
    for data, length in ((b"\xff" * 100, 100), (object_header([], {"hansa": '{"records":[]}'}), 1 << 30)):
        fd = os.memfd_create("reply")
        os.write(fd, data)
        os.ftruncate(fd, length)
        reply = Reply(fd)
        with pytest.raises(BadUpdate):
            kept.write(f"{JOB}/0/0", JOB, Position(0, 0), "c" * 64, reply, GIB)
        reply.close()
        kept.sweep()
        assert list(folder.iterdir()) == []
