"""Memory is counted once, whoever shares it, and also where no page is mapped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from common.sandbox.limits import Limits, memory_of, process_tree
from common.units import MIB

SCRIPT = """
import os, sys, time
held = bytearray(b"x" * (64 << 20))
fd = os.memfd_create("held")
os.write(fd, held[: 32 << 20])
for _ in range(3):
    if os.fork() == 0:
        time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[int]:
    """A process with 64 MiB of memory, 32 MiB in a memfd, and three forks that share it all."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def test_forks_are_found_and_shared_pages_counted_once(family: int) -> None:
    pids = process_tree(family)
    assert len(pids) == 4
    used = memory_of(pids, 100 * MIB)
    assert 96 * MIB <= used < 128 * MIB


def test_a_quick_look_is_never_below_the_truth(family: int) -> None:
    pids = process_tree(family)
    assert memory_of(pids, 1 << 40) >= memory_of(pids, 0)


HIDDEN = """
import mmap, os, threading, time
def touch(memory):
    for at in range(0, len(memory), 4096):
        memory[at] = 1
    return memory
anonymous = touch(mmap.mmap(-1, 64 << 20))
fd = os.memfd_create("closed")
os.ftruncate(fd, 32 << 20)
closed = touch(mmap.mmap(fd, 32 << 20))
os.close(fd)
low = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
fd = os.memfd_create("both")
os.ftruncate(fd, 32 << 20)
both = touch(mmap.mmap(fd, 32 << 20))
def churn():
    while True:
        for old in low:
            os.close(old)
        low[:] = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
threading.Thread(target=churn, daemon=True).start()
print("ready", flush=True)
time.sleep(60)
"""


def test_shared_memory_counts_however_it_is_held() -> None:
    with subprocess.Popen([sys.executable, "-c", HIDDEN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            for _ in range(20):
                assert 128 * MIB <= memory_of([process.pid], 100 * MIB) < 150 * MIB
                assert memory_of([process.pid], 1 << 40) >= 128 * MIB
        finally:
            process.kill()


def test_a_process_that_is_gone_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_of(process_tree(process.pid), 0) == 0


def test_the_hard_ceiling_is_wider_than_the_watched_limit() -> None:
    for memory in (1, 4096, 1 << 20):
        assert Limits(memory_mib=memory).data_kib > 2 * memory * 1024
