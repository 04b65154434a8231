"""One ClientApp in its own sandboxed process: started when a task needs it, warm between tasks, gone with the job."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client_node.guard.grants import Grant
from client_node.guard.leases import Slice
from client_node.services.finishing import to_its_end
from client_node.services.instructions import Fetched
from client_node.services.leases import HeldLease
from client_node.services.offers import PreparedJob
from client_node.services.updates import Reply
from client_node.services.watchdog import Watchdog
from client_node.settings import NodeSettings
from common.errors import AppFailed
from common.sandbox import Child, ChildSpec, Limits, SandboxMode, launch
from common.wire import hansa_node_pb2 as pb

_TRACEBACK = 4000  # characters of a traceback that go along with the reason
FRESH = ""  # a child that holds no state


class WarmApp:
    """The child of one job.  One message at a time; the caller holds the order.

    Guarantees: (1) a message starts from the state it is given, whatever ran before; (2) after any failure the child
    is gone, and the next message gets a fresh one.
    """

    def __init__(
        self,
        job: PreparedJob,
        app_dir: Path,
        mounts: dict[str, Path],
        settings: NodeSettings,
        log: Path,
        on_log: Callable[[bytes], None],
        watchdog: Watchdog,
    ) -> None:
        self._job = job
        self._app_dir = app_dir
        self.mounts = mounts
        self._settings = settings
        self._log = log
        self._on_log = on_log
        self._watchdog = watchdog
        self._child: Child | None = None
        self._holds: str | None = None  # file of the state the child has in memory; None = unknown
        self._grant = Grant()  # what the child was given when it started
        self._before: dict[str, int | None] = {}  # MiB in use at its devices before it started
        self.busy = False

    @property
    def pid(self) -> int | None:
        """The child's process, if one is warm."""
        return self._child.pid if self._child else None

    @property
    def slices(self) -> tuple[Slice, ...]:
        """What the child has of the devices, if one is warm."""
        return self._grant.slices if self._child else ()

    async def run(self, offer: pb.TaskOffer, held: HeldLease, instruction: Fetched, state: Path | None) -> Reply:
        """Let the app answer one message.

        Args:
            offer: The task.
            held: Its lease; a warm child that was given something else is replaced.
            instruction: The files of its instruction.
            state: The file of the state it starts from; None = a fresh one.

        Returns:
            The reply, which the caller closes.

        Raises:
            AppFailed: with the reason; the child is gone.
            SandboxUnavailable: this host cannot give the sandbox.
        """
        base = state.name if state else FRESH
        self.busy = True
        try:
            forgets = self._holds != base and base == FRESH  # a warm child cannot be told to forget
            if self._child is not None and (forgets or self._grant != held.grant):
                await self.end()
            child = self._child or await self._start(offer, held)
            async with self._watchdog.over(child, held, self._before):
                await self._send(child, offer, instruction, None if self._holds == base else state)
                self._holds = None
                answer, fds = await child.receive()
            held.fraction = answer.get("bounded") is True
            return _reply(answer, fds)
        except BaseException:
            await self.end()
            raise
        finally:
            self.busy = False

    def remember(self, file: str) -> None:
        """Note under which file the state that the child holds now was kept ("" = it has none)."""
        if self._child is not None:
            self._holds = file

    async def end(self) -> None:
        """End the child, if there is one."""
        child, self._child, self._holds = self._child, None, None
        if child is not None:
            await to_its_end(child.end())

    async def _start(self, offer: pb.TaskOffer, held: HeldLease) -> Child:
        grant = self._grant = held.grant
        self._before = await self._watchdog.before(grant.slices)
        spec = ChildSpec(
            role="client",
            python=self._settings.environments[self._job.spec.environment],
            app_dir=self._app_dir,
            readonly=(*self.mounts.values(), *_there(grant.views)),
            limits=Limits(
                memory_mib=self._job.spec.resources.memory_mib,
                log_bytes=self._settings.log_bytes,
                accelerated=bool(grant.slices),
            ),
            devices=_there(grant.files),
            environment=grant.environment,
            log_path=self._log,
            on_log=self._on_log,
        )
        child = self._child = await launch(spec, SandboxMode(self._settings.sandbox))
        await child.send(
            {
                "op": "start",
                "role": "client",
                "app_dir": str(self._app_dir),
                "component": self._job.spec.clientapp,
                "run_id": offer.run_id,
                "node_id": offer.flower_node_id,
                "node_config": self._node_config(offer),
                "run_config": self._job.spec.config,
                "seed": offer.seed,
                "aggregation": self._job.spec.aggregation,
                "individual": self._job.request.individual,
                "device_mib": grant.bounds,
            }
        )
        async with self._watchdog.over(child, held, self._before):
            answer, fds = await child.receive(timeout=spec.limits.start_s)
        _close(fds)
        if answer.get("op") != "ready":
            raise _failure(answer)
        self._holds = FRESH
        return child

    def _node_config(self, offer: pb.TaskOffer) -> dict[str, Any]:
        paths = {f"data.{name}": str(path) for name, path in self.mounts.items()}
        return {"partition-id": offer.partition_id, "num-partitions": offer.num_partitions, **paths}

    async def _send(self, child: Child, offer: pb.TaskOffer, instruction: Fetched, state: Path | None) -> None:
        paths = (instruction.path, instruction.base, state)
        fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths if path is not None]
        try:
            message = {
                "op": "message",
                "id": offer.message_id,
                "type": offer.message_type,
                "src": 0,
                "group_id": offer.group_id,
                "ttl": offer.ttl_s,
                "seed": offer.seed,
                "object": os.fstat(fds[0]).st_size,
                "base": os.fstat(fds[1]).st_size if instruction.base else None,
                "state": os.fstat(fds[-1]).st_size if state else None,
            }
            await child.send(message, fds)
        finally:
            _close(fds)


def _there(paths: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the paths that exist: what is missing, the app's own libraries will name better than we could."""
    return tuple(path for path in map(Path, paths) if path.exists())


def log_file(folder: Path, job: str) -> Path:
    """Return where a job's log is kept at the node."""
    return folder / f"{job}.log"


def _reply(answer: dict[str, Any], fds: list[int]) -> Reply:
    if answer.get("op") == "reply" and len(fds) == 1 + (answer.get("state") is not None):
        return Reply(fds[0], fds[1] if len(fds) == 2 else None, read=answer.get("read") is True)
    _close(fds)
    if answer.get("op") in {"error", "failed"}:
        raise _failure(answer)
    shown = json.dumps(answer)[:200]
    raise AppFailed(f"the app's process said something else than a reply: {shown}", reason="protocol_error")


def _failure(answer: dict[str, Any]) -> AppFailed:
    message = str(answer.get("message") or "the app failed without a word")[:_TRACEBACK]
    traceback = str(answer.get("traceback") or "")[-_TRACEBACK:]
    detail = f"{message}\n{traceback}" if traceback else message
    return AppFailed(detail, reason=str(answer.get("reason") or "app_failed")[:40])


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
