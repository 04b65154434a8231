"""The inference process, seen from the agent: started in a sandbox, told what to load, watched.

It gets two descriptors, its socketpair and the listening socket.  The agent keeps the listening socket too: while the
process is down, clients wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from client_node.services.installed import Installed
from common.errors import AppFailed, BadManifest
from common.sandbox import Child, ChildSpec, Limits, SandboxMode, launch

PACKAGES = Path(__file__).resolve().parents[2]
SCRIPT = PACKAGES / "client_node" / "inference" / "__main__.py"
ORDER_S = 600.0  # for one model to load and warm up


@dataclass(frozen=True)
class ProcessSettings:
    """How the process is started."""

    mode: SandboxMode
    log_path: Path | None = None
    limits: Limits = field(default_factory=lambda: Limits(memory_mib=8192))
    server: dict[str, int | float] = field(default_factory=dict)  # fields of inference.app.ServerLimits
    token_sha256: str = ""
    release: str = ""
    python: str = sys.executable


class InferenceProcess:
    """One started process; when it is gone ``ended`` is set, and a new one must be made."""

    def __init__(self, settings: ProcessSettings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._order = asyncio.Lock()
        self.ended = asyncio.Event()
        self.why = ""

    @property
    def pid(self) -> int:
        """Return the process's id, 0 before the start."""
        return self._child.pid if self._child else 0

    async def start(self) -> None:
        """Start the process; it takes orders then, and requests only after ``open``.

        Raises:
            AppFailed: it ended at once. SandboxUnavailable: this host cannot give the sandbox.
        """
        settings = self._settings
        spec = ChildSpec(
            role="inference",
            python=settings.python,
            app_dir=None,
            readonly=(PACKAGES / "common", PACKAGES / "client_node"),
            limits=settings.limits,
            log_path=settings.log_path,
            script=SCRIPT,
            pass_fds=(self._listener.fileno(),),
            args=(str(self._listener.fileno()),),
        )
        self._child = await launch(spec, settings.mode)
        try:
            start = {"op": "start", "role": "inference", "limits": settings.server, "release": settings.release}
            await self._child.send(start | {"token_sha256": settings.token_sha256, "workers": os.cpu_count() or 1})
            message, _ = await self._child.receive(settings.limits.start_s)
            if message.get("op") != "ready":
                raise AppFailed(f"the inference process said {str(message)[:200]}", reason="protocol_error")
        except BaseException:
            await self._child.end()
            raise
        self._reader = asyncio.create_task(self._read(self._child), name="inference answers")

    async def open(self) -> None:
        """Let requests in; until then they wait in the kernel's queue."""
        await self._ask({"op": "open"}, [])

    async def load(self, version: Installed) -> float:
        """Load, warm up and swap in a version; return the seconds of one warm run.

        Raises:
            BadManifest: the engine refuses it; what was served before is still served.
            AppFailed: the process died of it.
        """
        manifest = version.manifest
        files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (version.graph, version.packed)]
        try:
            answer = await self._ask(
                {
                    "op": "load",
                    "tenant": manifest.tenant,
                    "model": manifest.model,
                    "version": manifest.version,
                    "label": version.wanted.alias,
                    "inputs": [asdict(port) for port in manifest.inputs],
                    "outputs": [asdict(port) for port in manifest.outputs],
                },
                files,
            )
        finally:
            for fd in files:
                os.close(fd)
        if answer.get("op") != "loaded":
            raise BadManifest(str(answer.get("message", "the version does not load"))[:500])
        return float(answer.get("warm_s", 0.0))

    async def unload(self, tenant: str, model: str) -> None:
        """Serve the model no longer."""
        await self._ask({"op": "unload", "tenant": tenant, "model": model, "version": 0}, [])

    async def close(self) -> None:
        """End the process."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._child is not None:
            await self._child.end()
        self.ended.set()

    async def _ask(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        if self._child is None or self.ended.is_set():
            raise AppFailed(self.why or "the inference process is not running", reason="app_exited")
        async with self._order:
            await self._child.send(message, fds)
            answer = asyncio.ensure_future(self._answers.get())
            ended = asyncio.ensure_future(self.ended.wait())
            done, _ = await asyncio.wait({answer, ended}, timeout=ORDER_S, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if answer in done:
                return answer.result()
            answer.cancel()
            if not done:
                await self._child.end()
                self._die(f"a model took longer than {ORDER_S:g} s to load")
            raise AppFailed(self.why, reason="app_crashed")

    async def _read(self, child: Child) -> None:
        try:
            while True:
                message, fds = await child.receive()
                for fd in fds:
                    os.close(fd)
                self._answers.put_nowait(message)
        except AppFailed as error:
            self._die(error.detail)

    def _die(self, why: str) -> None:
        self.why = why
        self.ended.set()
