"""The agent's orders to the inference process: frames on the inherited socketpair.

``load`` with two descriptors (graph, packed tensors) answers ``loaded`` or ``failed``; ``unload`` answers ``unloaded``;
``open`` (once, when all that was served before is loaded again) lets requests in and answers ``opened``.
A model being loaded disturbs nothing: what was served before is served until the new version is warm.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from client_node.inference.engine import Engine
from client_node.serving.catalogue import Catalogue
from client_node.serving.signature import ServedVersion, signature
from common.child import frames
from common.errors import PlatformError


class Control:
    """Reads orders in a thread of its own and carries them out one after the other."""

    def __init__(self, sock: socket.socket, catalogue: Catalogue[Engine], threads: int) -> None:
        self.opened = asyncio.Event()
        self._sock = sock
        self._catalogue = catalogue
        self._threads = threads

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; from now on the end of the agent is the end of this process."""
        threading.Thread(target=self._serve, args=(loop,), name="control", daemon=True).start()

    def tell(self, message: dict[str, Any]) -> None:
        """Send one frame to the agent."""
        frames.send(self._sock, message)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                got = frames.receive(self._sock)
                if got is None:
                    break
                self.tell(self._obey(*got, loop))
            except (OSError, frames.FrameError):
                break
        os._exit(0)  # the agent is gone, and with it every reason to serve

    def _obey(self, message: dict[str, Any], fds: list[int], loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        about = {key: message[key] for key in ("tenant", "model", "version") if key in message}
        try:
            if message["op"] == "load":
                engine = self._load(message, fds)
                _on(loop, lambda: self._catalogue.put(engine))
                return {"op": "loaded", "warm_s": min(engine.warm_s, 1e9)} | about
            if message["op"] == "unload":
                _on(loop, lambda: self._catalogue.remove(message["tenant"], message["model"]))
                return {"op": "unloaded"} | about
            if message["op"] == "open":
                _on(loop, self.opened.set)
                return {"op": "opened"}
            return {"op": "failed", "message": f"unknown order {message['op']!r}"} | about
        except PlatformError as error:
            return {"op": "failed", "message": error.detail[:500]} | about
        except (KeyError, TypeError, ValueError, MemoryError) as error:
            return {"op": "failed", "message": f"{type(error).__name__}: {str(error)[:300]}"} | about
        finally:
            for fd in fds:
                os.close(fd)

    def _load(self, message: dict[str, Any], fds: list[int]) -> Engine:
        graph, packed = (_read(fd) for fd in fds)
        served = ServedVersion(
            tenant=message["tenant"],
            model=message["model"],
            version=message["version"],
            label=message["label"],
            signature=signature(message["inputs"], message["outputs"]),
        )
        return Engine(served, graph, packed, self._threads)


def _on(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Do ``act`` on the event loop, between two requests, and return when it is done."""

    async def run() -> None:
        act()

    asyncio.run_coroutine_threadsafe(run(), loop).result()


def _read(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        got = os.preadv(fd, [view[at:]], at)
        if got == 0:
            raise ValueError("a model's file ends early")
        at += got
    return bytes(data)
