"""Serving models at this node: fetch, verify, consent, install, load, swap.

A version that cannot be fetched, verified, permitted or loaded is FAILED, and what was served before is still served.
A process that dies is started again with everything that was served, with growing pauses if it keeps dying.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import ipaddress
import json
import socket
from collections import defaultdict
from pathlib import Path

import structlog

from client_node.ports.link import Link
from client_node.services.inference_process import InferenceProcess, ProcessSettings
from client_node.services.installed import Installed, Shelf, Wanted, read_deploy, split_name
from client_node.services.serving_consent import Consent, own_tenant_only
from client_node.services.serving_socket import bearer_token, listen
from common.errors import AppFailed, BadManifest, BadSignature, PlatformError, PolicyDenied
from common.failpoints import failpoint
from common.sandbox import SandboxMode
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()
_State = pb.DeployStatus
_LONGEST_PAUSE_S = 60.0
_CALM_S = 60.0  # a process that lived this long starts with a clean slate


class ModelServing:
    """The local model server and what it serves."""

    def __init__(
        self,
        node_dir: Path,
        sandbox_mode: SandboxMode,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        consent: Consent | None = None,
        server: dict[str, int | float] | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            node_dir: The node's directory; ``node.json`` in it names the pinned manifest keys.
            sandbox_mode: How the inference process is kept apart.
            port: To listen on; 0 = the one of last time, else any free one.
            host: Address to bind; other than loopback, requests must bear the token in ``serving.token``.
            consent: May a verified version be served here? None = only those of the node's own tenant.
            server: Fields of ``inference.app.ServerLimits`` that differ from the defaults.
        """
        self._dir = node_dir
        who = json.loads((node_dir / "node.json").read_bytes())
        keys = {key: bytes.fromhex(public) for key, public in who["manifest_keys"].items()}
        self._shelf = Shelf(node_dir / "models", keys)
        self._consent = consent or own_tenant_only(who["tenant"])
        self._port = port
        self._host = host
        token = "" if ipaddress.ip_address(host).is_loopback else bearer_token(node_dir / "serving.token")
        (node_dir / "log").mkdir(mode=0o700, exist_ok=True)
        self._settings = ProcessSettings(
            mode=sandbox_mode,
            log_path=node_dir / "log" / "inference.log",
            server=server or {},
            token_sha256=hashlib.sha256(token.encode()).hexdigest() if token else "",
            release=importlib.metadata.version("hansa"),
        )
        self._listener: socket.socket | None = None
        self._process: InferenceProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._serving: dict[str, Installed] = {}
        self._statuses: dict[str, pb.DeployStatus] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._newest: dict[str, Wanted] = {}
        self._up = asyncio.Event()

    @property
    def url(self) -> str:
        """Return "http://HOST:PORT", "" before the start."""
        if self._listener is None:
            return ""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def pid(self) -> int:
        """Return the inference process's id, 0 while there is none."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Listen, start the process, and serve again what was served last; returns when that is loaded.

        Raises:
            SandboxUnavailable: this host cannot give the sandbox. OSError: the port is taken.
        """
        self._listener = listen(self._host, self._port, self._dir / "models" / ".port")
        for wanted in self._shelf.currents():
            with contextlib.suppress(OSError):
                self._reopen(wanted)
        await self._start_process()
        self._watch = asyncio.create_task(self._keep_up(), name="inference process")

    async def handle_deploy(self, event: pb.Deploy, link: Link) -> None:
        """Serve the version that ``event`` names, and tell ``link`` how it goes."""
        try:
            wanted = read_deploy(event)
        except PlatformError as error:
            self._tell(link, pb.DeployStatus(model=event.model, version=event.version, state=_State.FAILED,
                                             message=error.detail))  # fmt: skip
            return
        self._newest[wanted.name] = wanted
        async with self._locks[wanted.name]:
            if self._newest.get(wanted.name) != wanted:
                return  # a newer order overtook it while it waited
            serving = self._serving.get(wanted.name)
            if serving is None or serving.wanted != wanted or self._state(wanted.name) != _State.SERVING:
                await self._serve(wanted, link)
            else:
                self._tell(link, self._statuses[wanted.name])

    async def handle_undeploy(self, event: pb.Undeploy, link: Link) -> None:
        """Serve the model no longer, if it is the version (0 = any) that ``event`` names."""
        tenant, model = split_name(event.model)
        self._newest.pop(event.model, None)
        async with self._locks[event.model]:
            serving = self._serving.get(event.model)
            if serving is not None and event.version in {0, serving.wanted.version}:
                with contextlib.suppress(AppFailed):
                    await (await self._running()).unload(tenant, model)
                del self._serving[event.model]
                self._shelf.drop(tenant, model)
            if event.model not in self._serving:
                self._statuses.pop(event.model, None)
                gone = pb.DeployStatus(model=event.model, version=event.version, state=_State.REMOVED)
                self._tell(link, gone)

    def statuses(self) -> list[pb.DeployStatus]:
        """Return the newest status of each model."""
        return list(self._statuses.values())

    async def close(self) -> None:
        """End the process and stop listening."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._process is not None:
            await self._process.close()
        if self._listener is not None:
            self._listener.close()

    # ---- one deployment ---------------------------------------------------------------------------------------------

    async def _serve(self, wanted: Wanted, link: Link) -> None:
        before = self._serving.get(wanted.name)
        self._note(wanted, _State.FETCHING, "", link)
        try:
            version = await self._install(wanted, link)
            failpoint("model_installed_before_swap")
            process = await self._running()
            await process.load(version)
            if process.ended.is_set():
                raise AppFailed("the inference process died after it loaded the version", reason="app_crashed")
        except (PlatformError, OSError) as error:
            message = error.detail if isinstance(error, PlatformError) else str(error)
            if isinstance(error, (BadManifest, BadSignature, PolicyDenied)):
                self._shelf.discard(wanted)
            still = f"; version {before.wanted.version} is still served" if before else ""
            _log.warning("model_not_served", model=wanted.name, version=wanted.version, detail=message)
            self._note(wanted, _State.FAILED, message + still, link)
            return
        self._serving[wanted.name] = version
        await asyncio.to_thread(self._shelf.make_current, wanted)
        _log.info("model_served", model=wanted.name, version=wanted.version)
        self._note(wanted, _State.SERVING, "", link)
        if before is not None and before.wanted.version != wanted.version:
            gone = pb.DeployStatus(model=wanted.name, version=before.wanted.version, state=_State.REMOVED)
            self._tell(link, gone)

    async def _install(self, wanted: Wanted, link: Link) -> Installed:
        if self._shelf.has(wanted):
            version = await asyncio.to_thread(self._shelf.open, wanted)
            self._ask_consent(version)
            return version
        manifest = await self._shelf.fetch_manifest(wanted, link)
        if why := self._consent(manifest):
            raise PolicyDenied(why)
        return await self._shelf.fetch(wanted, manifest, link)

    def _ask_consent(self, version: Installed) -> None:
        if why := self._consent(version.manifest):
            raise PolicyDenied(why)

    def _note(self, wanted: Wanted, state: _State.State, message: str, link: Link | None) -> None:
        status = pb.DeployStatus(
            model=wanted.name,
            version=wanted.version,
            manifest=wanted.manifest,
            state=state,
            message=message[:1000],
            url=f"{self.url}/v1/models/{wanted.model}" if state == _State.SERVING else "",
        )
        self._statuses[wanted.name] = status
        if link is not None:
            self._tell(link, status)

    def _state(self, name: str) -> int:
        return self._statuses[name].state if name in self._statuses else _State.UNKNOWN

    @staticmethod
    def _tell(link: Link, status: pb.DeployStatus) -> None:
        link.send(pb.NodeEvent(deploy=status))

    # ---- the process ------------------------------------------------------------------------------------------------

    def _reopen(self, wanted: Wanted) -> None:
        try:
            version = self._shelf.open(wanted)
            self._ask_consent(version)
        except PlatformError as error:
            self._note(wanted, _State.FAILED, error.detail, None)
        else:
            self._serving[wanted.name] = version

    async def _start_process(self) -> None:
        """Start a process with everything on it; a version that kills it is left out of the next try."""
        assert self._listener is not None  # noqa: S101 - start() made it
        while True:
            process = InferenceProcess(self._settings, self._listener)
            await process.start()
            self._process = process
            if await self._load_all(process):
                break
            await process.close()
        await process.open()
        self._up.set()

    async def _load_all(self, process: InferenceProcess) -> bool:
        for name, version in list(self._serving.items()):
            try:
                await process.load(version)
            except BadManifest as error:
                self._give_up(name, version, error.detail)
            except AppFailed as error:
                self._give_up(name, version, f"the inference process dies of it: {error.detail}")
                return False
            else:
                self._note(version.wanted, _State.SERVING, "", None)
        return True

    def _give_up(self, name: str, version: Installed, why: str) -> None:
        del self._serving[name]
        self._note(version.wanted, _State.FAILED, why, None)

    async def _running(self) -> InferenceProcess:
        while True:
            await self._up.wait()
            if self._process is not None and not self._process.ended.is_set():
                return self._process
            self._up.clear()  # it has just died; the watch has not seen it yet

    async def _keep_up(self) -> None:
        pause = 0.0
        loop = asyncio.get_running_loop()
        while True:
            assert self._process is not None  # noqa: S101 - start() made it
            born = loop.time()
            await self._process.ended.wait()
            self._up.clear()
            _log.warning("inference_process_ended", why=self._process.why)
            await self._process.close()
            pause = 0.0 if loop.time() - born > _CALM_S else min(_LONGEST_PAUSE_S, pause * 2 + 0.2)
            await asyncio.sleep(pause)
            try:
                await self._start_process()
            except PlatformError as error:
                _log.warning("inference_process_not_started", detail=error.detail)
