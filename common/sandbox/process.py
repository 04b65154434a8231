"""A running child: frames in and out, its limits watched, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from common.child.frames import FrameError
from common.errors import AppFailed
from common.sandbox.channel import Channel, close_all
from common.sandbox.handover import children_cannot_write, sealed_copy
from common.sandbox.home import Home
from common.sandbox.limits import Limits, memory_of, process_tree
from common.sandbox.printed import Printed
from common.sandbox.seals import check_frame
from common.units import MIB

CALM_S = 1.0  # between looks at the memory of a child well below its limit
ALERT_S = 0.1  # and of one that has used half of it
REAP_S = 5.0  # for a killed process to be gone
EXIT_GRACE_S = 2.0  # for a child that closed its end to exit by itself


class Child:
    """One process group, from ``launch`` to ``end``.

    Args:
        process: The started process (bubblewrap, or Python itself), leader of its own group.
        channel: Our end of the socketpair.
        printed: What it prints.
        limits: What it may use.
        boxed: Whether the process is bubblewrap.
        home: A folder to remove at the end.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: Channel,
        printed: Printed,
        limits: Limits,
        *,
        boxed: bool,
        home: Home | None,
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._printed = printed
        self._limits = limits
        self._boxed = boxed
        self._home = home
        self._killed_for: tuple[str, str] | None = None
        self._ended = False
        self._exited = asyncio.Event()
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        self._watch = asyncio.create_task(self._watch_limits())

    async def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one frame; the descriptors stay the caller's.

        Raises:
            AppFailed: the child is gone or does not read.
        """
        copies: list[int] = []
        try:
            if fds and self._boxed and not children_cannot_write():
                copies = [await asyncio.to_thread(sealed_copy, fd) for fd in fds]
            await self._channel.send(message, copies or fds)
        except TimeoutError:
            self._kill("app_timeout", "it did not read what was sent to it")
            raise await self._failure() from None
        except OSError:
            raise await self._failure() from None
        finally:
            close_all(copies)

    async def receive(self, timeout: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """Return the child's next frame and its descriptors, which are the caller's to close.

        Raises:
            AppFailed: it ended, broke the protocol, or was silent for ``timeout`` seconds; then it has been killed.
        """
        try:
            async with asyncio.timeout(timeout):
                got = await self._channel.receive()
            if got is not None:
                self._check(*got)
                return got
        except TimeoutError:
            self._kill("app_timeout", f"it did not answer within {timeout:g} s")
        except FrameError as error:
            # A process that dies in mid-frame is dead first and malformed second.
            if not await self._gone(EXIT_GRACE_S if "mid-frame" in str(error) else 0.0):
                self._kill("protocol_error", str(error))
        except OSError:
            pass
        raise await self._failure() from None

    def processes(self) -> list[int]:
        """Return the process ids of the child and of all that it started, as this process sees them."""
        return [] if self._exited.is_set() else process_tree(self.pid)

    def stop(self, reason: str, message: str) -> None:
        """Kill the child; whoever waits for its answer gets ``AppFailed`` with this reason."""
        self._kill(reason, message)

    @staticmethod
    def _check(message: dict[str, Any], fds: list[int]) -> None:
        try:
            check_frame(message, fds)
        except FrameError:
            close_all(fds)
            raise

    async def end(self, grace: float = 0.0) -> None:
        """End the child and everything it started; waits ``grace`` seconds for it to go by itself first."""
        if self._ended:
            return
        self._ended = True
        if grace > 0:
            await self._gone(grace)
        self._kill_group()
        if not await self._gone(REAP_S):
            self._signal_group()
            await self._gone(REAP_S)
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        # In a namespace of its own the child outlives bubblewrap by a moment; its end of the socket tells.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REAP_S):
                await self._channel.drained()
        self._channel.close()
        self._printed.last_words()
        self._printed.close()
        if self._home is not None:
            self._home.remove()

    def _kill(self, reason: str, message: str) -> None:
        if self._killed_for is None and not self._exited.is_set():
            self._killed_for = (reason, message)
        self._kill_group()

    def _kill_group(self) -> None:
        # The first process of the namespace goes, and all the others with it; then bubblewrap reaps it and ends by
        # itself, so that no orphan is left to an init that may not reap.
        inner = process_tree(self.pid)[1:2] if self._boxed and not self._exited.is_set() else []
        if not inner:
            self._signal_group()
        for pid in inner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _signal_group(self) -> None:
        # The group's id stays reserved while a member lives, so this cannot hit a stranger before it is empty.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        if self._process.poll() is not None and not self._exited.is_set():
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._exited.set()

    async def _gone(self, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._exited.wait()
        return self._exited.is_set()

    async def _failure(self) -> AppFailed:
        """Return why the conversation is over, ending whatever is left of the child."""
        await self._gone(EXIT_GRACE_S)
        if not self._exited.is_set():
            self._kill("protocol_error", "it closed its connection and went on")
            await self._gone(REAP_S)
        reason, message = self._killed_for or self._exit_reason()
        words = self._printed.last_words()
        await self.end()
        return AppFailed(f"{message}; its last words: {words}" if words else message, reason=reason)

    def _exit_reason(self) -> tuple[str, str]:
        code = self._process.returncode
        number = code - 128 if self._boxed and code > 128 else -code
        if number > 0:
            try:
                name = signal.Signals(number).name
            except ValueError:
                name = f"signal {number}"
            return ("app_killed" if name == "SIGKILL" else "app_crashed"), f"the process was ended by {name}"
        return "app_exited", f"the process ended with exit code {code} in the middle of its work"

    async def _watch_limits(self) -> None:
        limit = self._limits.memory_mib * MIB
        while not self._exited.is_set():
            pids = process_tree(self.pid)
            if len(pids) > self._limits.processes:
                self._kill("app_killed", f"it started {len(pids)} processes, {self._limits.processes} are allowed")
                return
            used = memory_of(pids, limit)
            if used > limit:
                self._kill("app_memory", f"it used {used // MIB} MiB, {self._limits.memory_mib} MiB are allowed")
                return
            await self._gone(ALERT_S if used > limit // 2 else CALM_S)
