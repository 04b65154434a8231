"""Masked updates on disk to one mean: summed in the ring, unmasked and scaled back, block by block.

No single update is ever unmasked: what is computed is the sum of all, less the masks that are left in it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.crypto.masks import Keystreams
from common.errors import BadUpdate
from common.privacy import wide
from common.privacy.layout import Layout
from common.privacy.quantize import Encoding
from common.tensors.content import Content
from common.tensors.dtypes import itemsize
from coordinator.aggregation.masked import Lanes, Segment, masked_header, mean_of, open_lanes, segments
from coordinator.ports.link import SpooledUpdate
from coordinator.rounds.masked import Opening

_ELEMENTS = 1 << 18  # of a block
_IN_FLIGHT = 4  # blocks between the workers and the writer


@dataclass(frozen=True)
class SentOut:
    """What was sent out: where its tensors are, its header, and how far they lie from where it says."""

    fd: int
    content: Content
    shift: int = 0  # bytes


@dataclass(frozen=True)
class MaskedSum:
    """Everything it takes to turn masked updates into a mean."""

    updates: Sequence[Path]
    layout: Layout
    encoding: Encoding
    opening: Opening
    sent: SentOut | None  # None = no model


@dataclass(frozen=True)
class OpenedSum:
    """A sum that can be opened: its updates in roster order, and what is left to take off."""

    updates: tuple[SpooledUpdate, ...]
    layout: Layout
    encoding: Encoding
    opening: Opening = field(repr=False)


def check_masked(path: Path, size: int, layout: Layout, ring: int) -> str:
    """Return why the object at ``path`` is no masked update of that layout, "" if it is one."""
    header = layout.header(ring)
    if size != len(header) + layout.data_bytes(ring):
        return f"it has {size} bytes, a masked update of this cohort has {len(header) + layout.data_bytes(ring)}"
    with path.open("rb") as file:
        return "" if file.read(len(header)) == header else "its header is not that of this cohort's masked updates"


@contextmanager
def masked_mean(task: MaskedSum, threads: ThreadPoolExecutor | None) -> Iterator[tuple[Lanes, Iterator[bytes]]]:
    """Yield what the lanes said, and the folded object in parts, header first.

    Memory: ``_IN_FLIGHT`` blocks, whatever the model and however many updates.

    Args:
        task: What to sum.
        threads: Where blocks are computed; None = in the caller's.

    Raises:
        BadUpdate: the lanes make no sense, or a file is cut short.
    """
    with ExitStack() as stack:
        files = [_opened(path, stack) for path in task.updates]
        lanes = open_lanes(task.layout, _lanes(task, files))
        yield lanes, _parts(task, _Block(task, files, lanes), threads)


def _parts(task: MaskedSum, block: _Block, threads: ThreadPoolExecutor | None) -> Iterator[bytes]:
    yield masked_header(task.layout, block.lanes.metrics)
    runs = segments(task.layout, task.sent.content if task.sent else None, _ELEMENTS)
    if threads is None:
        yield from map(block.mean, runs)
        return
    waiting: deque[Future[bytes]] = deque()
    try:
        for run in runs:
            waiting.append(threads.submit(block.mean, run))
            if len(waiting) >= _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel() or future.exception()


class _Block:
    """Sums one run of all updates and opens it."""

    def __init__(self, task: MaskedSum, files: Sequence[int], lanes: Lanes) -> None:
        self._task, self._files, self.lanes = task, files, lanes
        self._dtype = np.dtype(f"<u{task.encoding.ring // 8}")
        self._data = len(task.layout.header(task.encoding.ring))
        self._add = [seed[:16] for seed in task.opening.add]
        self._subtract = [seed[:16] for seed in task.opening.subtract]

    def mean(self, run: Segment) -> bytes:
        if run.ring is None:
            return self.lanes.exact[run.key]
        at = run.ring * self._dtype.itemsize
        total = np.zeros(run.count, dtype=self._dtype)
        room = bytearray(total.nbytes)
        part = np.frombuffer(room, dtype=self._dtype)
        for fd in self._files:
            _read(fd, room, self._data + at)
            np.add(total, part, out=total)
        Keystreams(self._add, self._subtract, at).apply(total)
        base: memoryview | None = None
        if self._task.sent is not None and run.base is not None:
            base = memoryview(bytearray(run.count * itemsize(run.dtype)))
            _read(self._task.sent.fd, base, run.base + self._task.sent.shift)
        return mean_of(total, base, run.dtype, self._task.encoding, self.lanes.weight)


def _lanes(task: MaskedSum, files: Sequence[int]) -> list[int]:
    count = task.layout.wide_count
    at = len(task.layout.header(task.encoding.ring)) + task.layout.ring_count * task.encoding.ring // 8
    total = wide.from_ints([0] * count)
    for fd in files:
        room = bytearray(count * wide.BYTES)
        _read(fd, room, at)
        total = wide.add(total, np.frombuffer(room, dtype="<u8").reshape(count, wide.LIMBS))
    opening = task.opening
    total = wide.masked(total, [seed[16:] for seed in opening.add], [seed[16:] for seed in opening.subtract])
    return wide.to_ints(total)


def _read(fd: int, room: Any, at: int) -> None:  # noqa: ANN401 - a writable buffer
    if os.preadv(fd, [room], at) != len(room):
        raise BadUpdate("a spooled update is shorter than it was")


def _opened(path: Path, stack: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd
