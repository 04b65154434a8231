"""Updates on disk: looked at, folded block by block, and kept.

The pure part (``aggregation``) says what is sound and what the mean is; here are the files and the threads.  Large
objects go through two workers that read and sum alternate blocks while the caller's thread hashes the results in
order; small ones are handled on the spot, since a change of thread costs more than they do.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common.errors import BadUpdate
from common.ids import Digest, TenantId, new_id
from common.tensors.content import Content, ContentLimits, read_content
from common.tensors.dtypes import FLOATS
from common.writeback import start_writing
from coordinator.aggregation.fold import Block, Workspace, all_finite, fold_block, folded_header, plan_blocks
from coordinator.aggregation.masked import Lanes
from coordinator.aggregation.verify import Fault, Sound, judge
from coordinator.ports.blobs import BlobStore
from coordinator.services.masked_fold import MaskedSum, masked_mean
from coordinator.settings import JobSettings

_WORKERS = 2
_IN_FLIGHT = 4  # blocks between the workers and the hash


@dataclass(frozen=True)
class Want:
    """What is asked of an update."""

    judged: bool  # whether it must be foldable: one array record, one metric record, a weight
    arrays: bool  # a training reply: its arrays count
    finite: bool
    max_weight: float


@dataclass(frozen=True)
class Kept:
    """An object that is durable under its digest, and open for the child."""

    digest: Digest
    size: int
    fd: int  # the caller closes it


class Collector:
    """Reads what nodes have sent."""

    def __init__(self, blobs: BlobStore, settings: JobSettings) -> None:
        self._blobs, self._settings = blobs, settings
        self._limits = ContentLimits(object_bytes=settings.update_bytes)
        self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="fold")
        # Whoever waits for the workers must not sit on one of them.
        self._hashers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="fold-hash")

    async def inspect(self, path: Path, size: int, want: Want) -> Sound | Fault | None:
        """Say whether the update at ``path`` is sound; None: it is, and it is not to be folded."""
        if size <= self._settings.inline_bytes:
            return self._inspect(path, size, want)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._inspect, path, size, want)

    async def fold(self, tenant: TenantId, updates: Sequence[tuple[Path, Sound]]) -> Kept:
        """Fold ``updates`` in the order given and keep the mean as a blob of ``tenant``."""
        sizes = sum(sound.size for _, sound in updates)
        if sizes <= self._settings.inline_bytes:
            return await self.keep_bytes(tenant, fold_small(updates))
        target = self._blobs.work_dir() / new_id("fold")
        loop = asyncio.get_running_loop()
        try:
            digest = await loop.run_in_executor(
                self._hashers, fold_files, updates, target, self._settings.block_bytes, self._threads
            )
            return await self.keep_file(tenant, target, Digest(digest))
        except BaseException:
            target.unlink(missing_ok=True)  # or a full disk would stay full
            raise

    async def fold_masked(self, tenant: TenantId, task: MaskedSum, size: int) -> tuple[Kept, Lanes]:
        """Sum masked updates, open the sum and keep the mean as a blob of ``tenant``.

        Args:
            tenant: Whose job it is.
            task: What to sum.
            size: Bytes of all updates.

        Raises:
            BadUpdate: a masked update was rubbish.
        """
        if size <= self._settings.inline_bytes:
            with masked_mean(task, None) as (lanes, parts):
                return await self.keep_bytes(tenant, b"".join(parts)), lanes
        target = self._blobs.work_dir() / new_id("fold")
        loop = asyncio.get_running_loop()
        try:
            digest, lanes = await loop.run_in_executor(self._hashers, _written, task, target, self._threads)
            return await self.keep_file(tenant, target, Digest(digest)), lanes
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    async def keep_bytes(self, tenant: TenantId, data: bytes) -> Kept:
        """Keep a small object as a blob."""
        digest = await self._blobs.put_bytes(tenant, data)
        fd = os.memfd_create("reply", os.MFD_CLOEXEC)
        os.write(fd, data)
        return Kept(digest, len(data), _read_only(fd))

    async def keep_file(self, tenant: TenantId, path: Path, digest: Digest) -> Kept:
        """Keep the finished file at ``path``, which disappears from there, as a blob."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            await self._blobs.put_file(tenant, path, digest)
        except BaseException:
            os.close(fd)
            raise
        return Kept(digest, size, fd)

    def close(self) -> None:
        """End the threads."""
        self._hashers.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _inspect(self, path: Path, size: int, want: Want) -> Sound | Fault | None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = read_content(fd, size, self._limits)
            sound = judge(content, arrays=want.arrays, max_weight=want.max_weight) if want.judged else None
            if want.finite and not isinstance(sound, Fault):
                name = not_finite(fd, content, self._settings.block_bytes)
                if name:
                    return Fault("not_finite", f"tensor {name[:80]!r} holds values that are not finite")
        except BadUpdate as error:
            return Fault("malformed", error.detail[:500])
        finally:
            os.close(fd)
        return sound


def not_finite(fd: int, content: Content, block_bytes: int) -> str:
    """Return the name of a tensor that holds a NaN or an infinity, "" if none does."""
    buffer = bytearray(block_bytes)
    for dtype, start, end, name in _float_runs(content):
        for at in range(start, end, block_bytes):
            view = memoryview(buffer)[: min(block_bytes, end - at)]
            _read_exactly(fd, view, at)
            if not all_finite(dtype, view):
                return name
    return ""


def fold_small(updates: Sequence[tuple[Path, Sound]]) -> bytes:
    """Return the folded object, all in memory."""
    datas = [(path.read_bytes(), sound) for path, sound in updates]
    sounds = [sound for _, sound in datas]
    weights = [sound.weight for sound in sounds]
    space = Workspace(0)
    parts = [folded_header(sounds)]
    for block in plan_blocks(sounds[0].shape, 1 << 20):
        columns = (memoryview(data)[sound.data_offset + block.offset :][: block.nbytes] for data, sound in datas)
        parts.append(bytes(fold_block(block.dtype, columns, weights, space)))
    return b"".join(parts)


def fold_files(
    updates: Sequence[tuple[Path, Sound]], target: Path, block_bytes: int, threads: ThreadPoolExecutor
) -> str:
    """Write the folded object to the new file ``target`` and return its SHA-256.

    Memory: ``_IN_FLIGHT`` blocks three times over, whatever the model and however many updates.
    """
    sounds = [sound for _, sound in updates]
    header = folded_header(sounds)
    digest = hashlib.sha256(header)
    sources = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path, _ in updates]
    out = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    waiting: deque[tuple[Future[memoryview], _Bench]] = deque()
    try:
        os.pwrite(out, header, 0)
        benches = [_Bench(sources, sounds, out, len(header), block_bytes) for _ in range(_IN_FLIGHT)]
        blocks = iter(plan_blocks(sounds[0].shape, block_bytes))
        for bench, block in zip(benches, islice(blocks, _IN_FLIGHT), strict=False):
            waiting.append((threads.submit(bench.fold, block), bench))
        while waiting:
            future, bench = waiting.popleft()
            digest.update(future.result())
            following = next(blocks, None)
            if following is not None:
                waiting.append((threads.submit(bench.fold, following), bench))
    finally:
        for future, _ in waiting:
            future.cancel() or future.exception()
        for fd in (*sources, out):
            os.close(fd)
    return digest.hexdigest()


def _written(task: MaskedSum, target: Path, threads: ThreadPoolExecutor) -> tuple[str, Lanes]:
    """Write the mean of masked updates to the new file ``target``; return its SHA-256 and what the lanes said."""
    out = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    digest, at = hashlib.sha256(), 0
    try:
        with masked_mean(task, threads) as (lanes, parts):
            for part in parts:
                digest.update(part)
                _write_exactly(out, memoryview(part), at)
                start_writing(out, at, len(part))
                at += len(part)
    finally:
        os.close(out)
    return digest.hexdigest(), lanes


class _Bench:
    """One block in the making: reads its column of each update, sums, writes; its buffers are used again."""

    def __init__(self, sources: list[int], sounds: list[Sound], out: int, header: int, block_bytes: int) -> None:
        self._sources, self._sounds, self._out, self._header = sources, sounds, out, header
        self._weights = [sound.weight for sound in sounds]
        self._space = Workspace(block_bytes)
        self._column = bytearray(block_bytes)

    def fold(self, block: Block) -> memoryview:
        mean = fold_block(block.dtype, self._columns(block), self._weights, self._space)
        _write_exactly(self._out, mean, self._header + block.offset)
        start_writing(self._out, self._header + block.offset, block.nbytes)
        return mean

    def _columns(self, block: Block) -> Iterator[memoryview]:
        view = memoryview(self._column)[: block.nbytes]
        for fd, sound in zip(self._sources, self._sounds, strict=True):
            _read_exactly(fd, view, sound.data_offset + block.offset)
            yield view


def _float_runs(content: Content) -> Iterator[tuple[str, int, int, str]]:
    """Yield (dtype, start, end, first tensor) of neighbouring float tensors, so that many small ones cost little."""
    run: tuple[str, int, int, str] | None = None
    for tensor in sorted(content.tensors, key=lambda t: t.offset):
        if tensor.dtype not in FLOATS or not tensor.nbytes:
            continue
        if run is not None and run[0] == tensor.dtype and run[2] == tensor.offset:
            run = (run[0], run[1], tensor.offset + tensor.nbytes, run[3])
            continue
        if run is not None:
            yield run
        run = (tensor.dtype, tensor.offset, tensor.offset + tensor.nbytes, tensor.name)
    if run is not None:
        yield run


def _read_exactly(fd: int, view: memoryview, offset: int) -> None:
    while view:
        got = os.preadv(fd, [view], offset)
        if got == 0:
            raise BadUpdate(f"the file ends at byte {offset}")
        view, offset = view[got:], offset + got


def _write_exactly(fd: int, view: memoryview, offset: int) -> None:
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _read_only(fd: int) -> int:
    """Return the memory file behind ``fd`` opened anew for reading only; ``fd`` is closed."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
