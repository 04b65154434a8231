"""The one composition root: builds everything of a coordinator, runs it on one loop, ends it cleanly.

Order of a start: lock the folder, open the records (taking the fencing epoch), take up the unfinished jobs, open both
doors, and only then say where they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import structlog
import uvicorn

from common import telemetry
from common.clock import Clock, SystemClock
from common.crypto.files import private_folder, write_atomic
from common.crypto.keyring import Keyring, open_keyring
from common.wire.memory import keep_chunks
from common.wire.version import release
from coordinator.adapters.blobs import make_blobs
from coordinator.adapters.host import free_port, listen, locked, ports_before
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.api.app import create_app
from coordinator.api.rest import Rest
from coordinator.api.services import CaInfo, Services
from coordinator.api.settings import ApiSettings
from coordinator.ports.blobs import BlobStore
from coordinator.rpc.gate import Gate
from coordinator.rpc.hub import Hub
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.server import LinkServer, ServerTls
from coordinator.rpc.spool import Spool
from coordinator.services.allowances import Allowances
from coordinator.services.around import Around
from coordinator.services.booked import BookedBlobs
from coordinator.services.collect import Collector
from coordinator.services.deploy import Deployments
from coordinator.services.desk import JobDesk
from coordinator.services.enrol import Enrolment, EnrolSettings
from coordinator.services.estimates import Estimates
from coordinator.services.export import SandboxSettings
from coordinator.services.federations import Federations
from coordinator.services.feed import JobFeed
from coordinator.services.foresight import Foresight
from coordinator.services.grants import Grants
from coordinator.services.identity import Identity
from coordinator.services.nodes import Presence
from coordinator.services.places import Places
from coordinator.services.publish import Publisher
from coordinator.services.queue import QueueView
from coordinator.services.schedule import Schedule
from coordinator.services.schedule_journal import ScheduleJournal
from coordinator.services.submit import Submissions
from coordinator.settings import CoordinatorSettings
from policies.engine import Policies

_log = structlog.get_logger()
Said = Callable[[str, Path, bool], None]
_GRACE_S = 1  # for open requests when we stop; streams resume elsewhere


class Coordinator:
    """One coordinator over one folder.

    Args:
        settings: Everything it was told.
        clock: Time.
        said: Told where it is once it answers.
    """

    def __init__(self, settings: CoordinatorSettings, clock: Clock | None = None, *, said: Said | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.url = ""
        self._said = said
        self._stop = asyncio.Event()

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until SIGTERM, SIGINT or ``stop``.

        Raises:
            Conflict: another coordinator runs on this folder.
            Unreachable: an address cannot be bound, or a store does not answer.
        """
        folder = self.settings.dir
        private_folder(folder)
        with locked(folder / "lock"):
            keys = open_keyring(folder, self._names(), self.clock.now())
            store = make_store(self.settings.database_url)
            try:
                await store.acquire_epoch()
                await self._serve(keys, store, ready)
            finally:
                await store.close()

    def stop(self) -> None:
        """End ``run``."""
        self._stop.set()

    async def _serve(self, keys: Keyring, store: SqlStore, ready: asyncio.Event | None) -> None:
        settings = self.settings
        before = ports_before(settings.dir / "coordinator.json")
        rest_socket = listen(settings.host, settings.port or before.get("port", 0))
        link_port = settings.link_port or before.get("link_port", 0) or free_port(settings.host)
        hub, limits = Hub(), self._limits()
        spool = Spool(settings.dir / "spool", limits)
        around = self._around(keys, store, hub, spool)
        desk = JobDesk(around)
        enrolment, policies = self._enrolment(keys, store, hub, link_port), Policies.load()
        tls = ServerTls(keys.tls_key, keys.tls_certificate, keys.ca.pem)
        link = LinkServer(hub, Gate(enrolment, policies, self.clock), desk, spool, tls, self.clock, limits)
        rest = self._rest(self._services(keys, around, desk, enrolment, policies))
        first = await Identity(store, self.clock).ensure_admin_token(settings.dir / "admin.token")
        await desk.start()
        try:
            await link.start(f"{settings.host}:{link_port}")
            await self._until_stopped(
                rest, rest_socket, desk, ready, lambda port: self._say(keys, port, link_port, first)
            )
        finally:
            await link.stop()
            await desk.close()
            rest_socket.close()

    async def _until_stopped(
        self,
        rest: Rest,
        rest_socket: socket.socket,
        desk: JobDesk,
        ready: asyncio.Event | None,
        say: Callable[[int], None],
    ) -> None:
        serving = asyncio.create_task(rest.serve(sockets=[rest_socket]))
        up = asyncio.create_task(rest.up.wait())
        await asyncio.wait([serving, up], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        say(rest_socket.getsockname()[1])
        self._on_signals()
        if ready is not None:
            ready.set()
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, desk.superseded)]
        try:
            await asyncio.wait([serving, *waits], return_when=asyncio.FIRST_COMPLETED)
            if desk.superseded.is_set():
                _log.error("coordinator_superseded")
        finally:
            for wait in waits:
                wait.cancel()
            rest.should_exit = True
            await serving
            _log.info("coordinator_stopped")

    def _blobs(self) -> BlobStore:
        settings = self.settings
        return make_blobs(
            settings.blobs or settings.dir / "blobs",
            cache_dir=settings.dir / "blob-cache",
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            ca_file=Path(settings.s3_ca_file) if settings.s3_ca_file else None,
        )

    def _limits(self) -> LinkLimits:
        return LinkLimits(update_bytes=self.settings.update_bytes, spool_bytes=self.settings.spool_bytes)

    def _around(self, keys: Keyring, store: SqlStore, hub: Hub, spool: Spool) -> Around:
        jobs, clock = self.settings.jobs, self.clock
        allowed, raw = self.settings.allowance, self._blobs()
        places = Places(allowed.running_jobs)
        allowances = Allowances(store, clock, allowed, places.taken)
        blobs = BookedBlobs(raw, store, allowances.check_stored)
        allowances.on_change(places.allow)
        allowances.on_change(blobs.allow)
        feed = JobFeed(store, clock, jobs.log_every_s)
        presence = Presence(store, clock)
        sandbox = SandboxSettings(jobs.sandbox, jobs.environments, jobs.jobs_dir, jobs.limits)
        return Around(
            store=store,
            blobs=blobs,
            link=hub,
            clock=clock,
            feed=feed,
            presence=presence,
            schedule=Schedule(clock, self.settings.schedule_policy, ScheduleJournal(store)),
            estimates=Estimates(),
            collector=Collector(raw, jobs),
            publisher=Publisher(store, blobs, keys.signing, sandbox, clock, feed.written),
            deployments=Deployments(store, blobs, hub, clock),
            allowances=allowances,
            places=places,
            settings=jobs,
            release=spool.release,
        )

    def _enrolment(self, keys: Keyring, store: SqlStore, hub: Hub, link_port: int) -> Enrolment:
        # An empty host: nodes use the one under which they reached the REST face.
        told = EnrolSettings(
            link=f":{link_port}", manifest_keys=keys.manifest_keys, lifetime_s=self.settings.certificate_s
        )
        return Enrolment(store, keys.ca, self.clock, told, hub)

    def _services(
        self, keys: Keyring, around: Around, desk: JobDesk, enrolment: Enrolment, policies: Policies
    ) -> Services:
        environments = around.settings.environments
        allowances = around.allowances
        submissions = Submissions(
            around.store, around.blobs, desk, self.clock, around.presence, allowances, environments
        )
        return Services(
            identity=Identity(around.store, self.clock),
            federations=Federations(around.store, self.clock, desk.federation_changed),
            enrolment=enrolment,
            submissions=submissions,
            grants=Grants(around.store, self.clock, held=around.schedule.held, changed=around.schedule.granted),
            allowances=allowances,
            desk=desk,
            queue=QueueView(around.schedule, around.store),
            foresight=Foresight(around.schedule, around.estimates, self.clock),
            feed=around.feed,
            publisher=around.publisher,
            deployments=around.deployments,
            link=around.link,
            store=around.store,
            blobs=around.blobs,
            policies=policies,
            clock=self.clock,
            ca=CaInfo(keys.ca.pem.decode(), keys.ca.sha256, keys.manifest_keys),
            jobs_dir=around.settings.jobs_dir,
        )

    def _rest(self, services: Services) -> Rest:
        folder = self.settings.dir / "tls"
        return Rest(
            uvicorn.Config(
                create_app(services, ApiSettings(release=release())),
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",  # no path speaks WebSocket: an upgrade is not even parsed
                ssl_keyfile=str(folder / "key.pem"),
                ssl_certfile=str(folder / "cert.pem"),
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    def _names(self) -> tuple[str, ...]:
        host = self.settings.host
        own = [] if host in {"0.0.0.0", "::"} else [host]  # noqa: S104 - compared, not bound
        return tuple(dict.fromkeys([*own, "localhost", "127.0.0.1", socket.gethostname(), *self.settings.names]))

    def _say(self, keys: Keyring, port: int, link_port: int, first: bool) -> None:
        host = self.settings.host
        name = socket.gethostname() if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        self.url = f"https://{name}:{port}"
        said = {"url": self.url, "link": f"{name}:{link_port}", "pid": os.getpid(), "ca_sha256": keys.ca.sha256}
        write_atomic(self.settings.dir / "coordinator.json", json.dumps(said).encode())
        _log.info("coordinator_started", url=self.url, link_port=link_port)
        if self._said is not None:
            self._said(self.url, self.settings.dir, first)

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: whoever started us stops us
                loop.add_signal_handler(number, self._stop.set)


def serve(settings: CoordinatorSettings, said: Said | None = None) -> None:
    """Run a coordinator in this process until it is told to stop.

    Args:
        settings: Everything it was told.
        said: Called once it answers, with its address, its folder and whether this was its first start.
    """
    keep_chunks()
    telemetry.configure(style="json", level=settings.log_level)
    asyncio.run(_main(settings, said))


async def _main(settings: CoordinatorSettings, said: Said | None) -> None:
    await Coordinator(settings, said=said).run()
