"""A kept reply, read piece by piece: what its sum needs, and the masked object that leaves the node instead of it.

The model that was received is subtracted first, so that only the change is scaled to the ring.  Memory: a few pieces,
whatever the model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_node.privacy.session import MaskKeys
from common.crypto.masks import Keystreams
from common.errors import BadUpdate
from common.privacy import wide
from common.privacy.layout import WEIGHT, Layout, layout_of
from common.privacy.quantize import PIECE, Encoding, Rounding, metric_lanes, weight_units
from common.tensors.content import Content, ContentLimits, MetricValue, TensorEntry, parse_content, read_content
from common.tensors.dtypes import FLOATS, raw, to_float32
from common.writeback import start_writing

Place = tuple[int, TensorEntry]  # file descriptor, tensor


@dataclass(frozen=True)
class Facts:
    """What a kept reply needs of a masked sum."""

    layout: Layout
    weight: float
    metrics: Mapping[str, MetricValue]
    largest: float  # change of any value
    digest: str  # of the reply


@dataclass(frozen=True)
class Sent:
    """The instruction that a reply answers: its file, and what it rests on."""

    path: Path
    base: Path | None = None
    base_digest: str = ""


class ReplyFile:
    """A kept reply and the instruction it answers, open for reading."""

    def __init__(self, reply: Path, instruction: Sent, *, arrays: bool) -> None:
        with ExitStack() as stack:
            self._reply = _opened(reply, stack)
            self._content = _content(self._reply)
            self._base, sent, self._shift = _instruction(instruction, stack)
            self.layout = layout_of(self._content, arrays=arrays)
            self.metrics = self._content.metrics[self.layout.metric_record]
            self._sent = _sent(sent)
            self._stack = stack.pop_all()

    def __enter__(self) -> ReplyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def weight(self) -> float:
        """The sample count.

        Raises:
            BadUpdate: it is no number over zero.
        """
        value = self.metrics[WEIGHT]
        if isinstance(value, list) or not 0 < value < 2.0**60:
            raise BadUpdate(f"{WEIGHT} must be over 0, got {value}", code="weight")
        return float(value)

    def largest_change(self) -> float:
        """Return the largest change of any value.

        Raises:
            BadUpdate: a value is not finite.
        """
        largest = 0.0
        for tensor in self._floats():
            for values, base in self._pieces(tensor):
                change = values if base is None else np.subtract(values, base)
                top = float(max(np.max(change), -np.min(change)))
                if not np.isfinite(top):
                    raise BadUpdate(f"tensor {tensor.key[:80]!r} holds values that are not finite", code="not_finite")
                largest = max(largest, top)
        return largest

    def masked_to(self, target: Path, encoding: Encoding, rounding_key: bytes, keys: MaskKeys) -> tuple[str, int]:
        """Write the masked object to the new file ``target``; return its digest and size.

        It is not synced: after a power cut the vector may be lost, and with it this node's part of the round.
        """
        header = self.layout.header(encoding.ring)
        ring_keys = Keystreams([seed[:16] for seed in keys.plus], [seed[:16] for seed in keys.minus])
        lanes = wide.from_ints(self._lanes())
        lanes = wide.masked(lanes, [seed[16:] for seed in keys.plus], [seed[16:] for seed in keys.minus])
        out = _Out(target)
        try:
            out.write(header)
            rounding = Rounding(encoding, self.weight, rounding_key)
            for piece in self._ring_pieces(rounding, encoding.ring):
                ring_keys.apply(piece)
                out.write(piece.data.cast("B"))
            out.write(lanes.data.cast("B"))
            return out.finish()
        finally:
            out.close()

    def _ring_pieces(self, rounding: Rounding, ring: int) -> Iterator[NDArray[Any]]:
        """Yield the encoded elements in full pieces, across tensors; each is overwritten by the next."""
        room = np.empty(PIECE, dtype=f"<u{ring // 8}")
        filled = 0
        for values, base in self._parts():
            at = 0
            while at < values.size:
                count = min(values.size - at, PIECE - filled)
                part = slice(at, at + count)
                rounding.encode(values[part], None if base is None else base[part], room[filled : filled + count])
                at, filled = at + count, filled + count
                if filled == PIECE:
                    yield room
                    filled = 0
        if filled:
            yield room[:filled]

    def _lanes(self) -> Iterator[int]:
        units = weight_units(self.weight)
        yield units
        for name, _ in self.layout.metric_slots():
            value = self.metrics[name]
            for each in value if isinstance(value, list) else [value]:
                yield from metric_lanes(each, units)
        for tensor in self._tensors():
            if tensor.dtype not in FLOATS:
                data = os.pread(self._reply, tensor.nbytes, tensor.offset)
                kind = np.dtype(np.uint8) if tensor.dtype == "BOOL" else raw(tensor.dtype)
                for number in np.frombuffer(data, dtype=kind).tolist():
                    yield units * (bool(number) if tensor.dtype == "BOOL" else number)

    def _tensors(self) -> list[TensorEntry]:
        return [t for t in self._content.tensors if t.record == self.layout.record and self.layout.record]

    def _floats(self) -> list[TensorEntry]:
        return [t for t in self._tensors() if t.dtype in FLOATS]

    def _parts(self) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        for tensor in self._floats():
            yield from self._pieces(tensor)

    def _pieces(self, tensor: TensorEntry) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Yield a tensor's values and what was sent for them, up to ``PIECE`` at a time."""
        base = self._sent.get((tensor.key, tensor.dtype, tensor.shape))
        sent = _values(self._base, base, self._shift) if base is not None else None
        for values in _values(self._reply, tensor):
            yield values, next(sent) if sent is not None else None


class _Out:
    """A file in the making: hashed, and handed to the disk as it grows."""

    def __init__(self, target: Path) -> None:
        self._fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._digest = hashlib.sha256()
        self._size = self._begun = 0

    def write(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        if self._size - self._begun >= 8 << 20:
            start_writing(self._fd, self._begun, self._size - self._begun)
            self._begun = self._size

    def finish(self) -> tuple[str, int]:
        return self._digest.hexdigest(), self._size

    def close(self) -> None:
        os.close(self._fd)


def _opened(path: Path, stack: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _content(fd: int) -> Content:
    return read_content(fd, os.fstat(fd).st_size, ContentLimits())


def _sent(content: Content) -> dict[tuple[str, str, tuple[int, ...]], TensorEntry]:
    """Return the tensors that were received; both sides subtract and add the very same ones."""
    arrays = [name for name, kind in content.records if kind == "array"]
    if len(arrays) != 1:
        return {}
    return {(t.key, t.dtype, t.shape): t for t in content.tensors if t.record == arrays[0]}


def _instruction(instruction: Sent, stack: ExitStack) -> tuple[int, Content, int]:
    """Return where the tensors of an instruction are, its header, and how far they lie from where it says."""
    fd = _opened(instruction.path, stack)
    if instruction.base is None:
        return fd, _content(fd), 0
    head, base = os.pread(fd, os.fstat(fd).st_size, 0), _opened(instruction.base, stack)
    data_at = _content(base).data_offset
    size = len(head) + os.fstat(base).st_size - data_at
    return base, parse_content(head, size, base=instruction.base_digest), data_at - len(head)


def _values(fd: int, tensor: TensorEntry, shift: int = 0) -> Iterator[NDArray[Any]]:
    kind = raw(tensor.dtype)
    buffer = bytearray(min(PIECE * kind.itemsize, max(tensor.nbytes, 1)))
    for at in range(0, tensor.nbytes, len(buffer)):
        view = memoryview(buffer)[: min(len(buffer), tensor.nbytes - at)]
        if os.preadv(fd, [view], tensor.offset + shift + at) != len(view):
            raise BadUpdate("a kept file is shorter than its header says")
        words = np.frombuffer(view, dtype=kind)
        yield words if tensor.dtype in {"F32", "F64"} else to_float32(words, tensor.dtype)


def facts_of(reply: Path, digest: str, instruction: Sent, *, arrays: bool) -> Facts:
    """Return what the reply in a file needs; blocks on the disk.

    Raises:
        BadUpdate: it cannot be summed.
    """
    with ReplyFile(reply, instruction, arrays=arrays) as file:
        return Facts(file.layout, file.weight, file.metrics, file.largest_change(), digest)
