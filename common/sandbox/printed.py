"""What a child prints: into its log up to a limit, the last of it kept for error messages, the rest drained."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

TAIL = 4096  # bytes kept for error messages
_WORDS = 500  # characters of them that are told
_BEHIND = re.compile(r'\n  File "[^"\n]*/common/child/|\nExtension modules: ')  # what Python's fault handler adds
_CHUNK = 64 * 1024
_CHUNKS_A_TURN = 16  # so that a child that prints without end leaves the loop to others


class Printed:
    """Reads the child's stdout and stderr from a pipe.

    Args:
        fd: The pipe's reading end, taken over.
        path: The log, appended to; None keeps none.
        limit: Bytes that go into the log and to ``on_log``.
        on_log: Called with each piece.
    """

    def __init__(self, fd: int, path: Path | None, limit: int, on_log: Callable[[bytes], None] | None) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._file: BinaryIO | None = path.open("ab") if path is not None else None
        self._left = limit - (self._file.tell() if self._file is not None else 0)
        self._on_log = on_log
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(fd, self._read)

    def last_words(self) -> str:
        """Return the end of what was printed; of a crash's frames, those above our own."""
        if self._open:
            self._read()
        return _BEHIND.split(self._tail.decode(errors="replace"), maxsplit=1)[0].strip()[-_WORDS:]

    def _read(self) -> None:
        for _ in range(_CHUNKS_A_TURN):
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        if self._left <= 0:
            return
        kept = data[: self._left]
        self._left -= len(data)
        if self._left <= 0:
            kept += b"\n[the log is full; what follows was dropped]\n"
        if self._file is not None:
            self._file.write(kept)
            self._file.flush()
        if self._on_log is not None:
            self._on_log(kept)

    def close(self) -> None:
        """Stop reading."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            if self._file is not None:
                self._file.close()
