"""A node link with its own CA, store and spool, for tests: in this process, or as a process that can be killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from client_node.adapters.grpc_channel import LinkOptions
from client_node.adapters.grpc_link import GrpcLink
from client_node.services.credentials import load_credentials
from client_node.services.node_dir import NodeDir
from common.clock import Clock, SystemClock
from common.crypto.keyring import Keyring, open_keyring
from common.crypto.keys import load_p256, new_p256, save_private
from common.crypto.tokens import make_join_token, secret_sha256
from common.crypto.x509 import make_csr
from common.errors import NotFound
from common.ids import Digest, JobId, NodeId, TaskId, TenantId
from common.units import Seconds
from common.wire import hansa_node_pb2 as pb
from coordinator.adapters.sql.store import make_store
from coordinator.domain.nodes import NodeReport
from coordinator.domain.tenancy import JoinToken, Tenant
from coordinator.ports.link import Awaited, Offered, SpooledUpdate
from coordinator.ports.store import Store
from coordinator.rpc.gate import Gate
from coordinator.rpc.hub import Hub
from coordinator.rpc.limits import LinkLimits
from coordinator.rpc.server import LinkServer, ServerTls
from coordinator.rpc.spool import Spool
from coordinator.services.enrol import Enrolment, EnrolSettings
from policies.engine import Policies

TASK = TaskId("job_1/0/0")
FAST = LinkOptions(
    connect_s=Seconds(5), first_pause_s=Seconds(0.02), longest_pause_s=Seconds(0.1), refused_pause_s=Seconds(0.2)
)


class MovableClock(SystemClock):
    """The machine's clock with an offset on the wall time."""

    offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


@dataclass
class Desk:
    """The services' side of the link: offers files by digest, wants tasks, writes down what it is told."""

    files: dict[str, Path] = field(default_factory=dict)
    wanted: dict[str, bool] = field(default_factory=dict)  # task -> still wanted
    meant_for: dict[str, NodeId] = field(default_factory=dict)  # digest or task -> its node; else whoever asks
    told: list[tuple[str, NodeId, object]] = field(default_factory=list)
    updates: list[SpooledUpdate] = field(default_factory=list)
    verdict: tuple[bool, str, str] = (True, "", "")
    running: list[JobId] = field(default_factory=list)
    slow: asyncio.Event | None = None  # set: task_status waits for it
    begun: int = 0  # calls of task_status
    on_connected: object = None
    done_after: bool = True  # an update once accepted is wanted no longer

    async def node_connected(
        self, node: NodeId, report: NodeReport, held: dict[TaskId, tuple[Digest, int, Digest]]
    ) -> list[JobId]:
        self.told.append(("connected", node, (report, held)))
        if callable(self.on_connected):
            self.on_connected(node)
        return self.running

    async def node_reported(self, node: NodeId, report: NodeReport) -> None:
        self.told.append(("reported", node, report))

    async def node_disconnected(self, node: NodeId) -> None:
        self.told.append(("disconnected", node, None))

    async def node_prepared(self, node: NodeId, job: JobId, denials: tuple[tuple[str, str], ...]) -> None:
        self.told.append(("prepared", node, (job, denials)))

    async def task_status(self, node: NodeId, status: pb.TaskStatus) -> None:
        self.begun += 1
        if self.slow is not None:
            await self.slow.wait()
        if status.task.startswith("job_unknown"):
            raise NotFound("no such task")
        self.told.append(("task", node, status.message))

    async def deploy_status(self, node: NodeId, status: pb.DeployStatus) -> None:
        self.told.append(("deploy", node, status.model))

    async def log_chunk(self, node: NodeId, job: JobId, text: str) -> None:
        self.told.append(("log", node, text))

    async def may_download(self, node: NodeId, digest: Digest, job: str, model: str) -> Offered:
        if digest not in self.files:
            raise NotFound(f"nothing with digest {digest[:12]} was offered")
        return Offered(self.files[digest], TenantId("acme"), self.meant_for.get(digest, node))

    async def may_upload(self, node: NodeId, task: TaskId, digest: Digest, size: int) -> Awaited:
        if task not in self.wanted:
            raise NotFound(f"no task {task} for this node")
        return Awaited(self.wanted[task], TenantId("acme"), self.meant_for.get(task, node))

    async def update_received(self, update: SpooledUpdate) -> tuple[bool, str, str]:
        self.updates.append(update)
        if self.verdict[0] and self.done_after:
            self.wanted[update.task] = False
        return self.verdict

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]


@dataclass
class Kit:
    """A link server and what it stands on."""

    folder: Path
    clock: Clock
    limits: LinkLimits
    keyring: Keyring
    store: Store
    hub: Hub
    enrolment: Enrolment
    spool: Spool
    desk: Desk
    server: LinkServer
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def token(self, tenant: str = "acme", name: str = "", ttl_s: float = 3600.0) -> str:
        made, now = make_join_token(tenant, self.keyring.ca.sha256), self.clock.now()
        record = JoinToken(made.id, secret_sha256(made.secret), TenantId(tenant), name, now, now + ttl_s)
        await self.store.write(lambda tx: tx.nodes.add_join_token(record))
        return made.text

    async def node(self, name: str) -> NodeDir:
        """Join a node the short way (no REST) and return its directory."""
        place = NodeDir(self.folder / name)
        place.prepare()
        save_private(place.key, new_p256())
        reply = await self.enrolment.join(await self.token(), make_csr(load_p256(place.key)), name)
        write_node(place, reply.certificate, reply.ca, reply.node, name, self.address)
        return place

    async def stop(self) -> None:
        await self.server.stop()
        await self.store.close()


def write_node(place: NodeDir, certificate: bytes, ca: bytes, node: str, name: str, link: str) -> None:
    place.certificate.write_bytes(certificate)
    place.ca.write_bytes(ca)
    identity = {"node": node, "tenant": "acme", "name": name, "coordinator": "https://127.0.0.1:1", "link": link}
    place.identity_file.write_text(json.dumps({**identity, "ca_sha256": "0" * 64, "manifest_keys": {}}))


def node_id(place: NodeDir) -> NodeId:
    return NodeId(place.identity().node)


async def open_kit(
    folder: Path,
    *,
    clock: Clock | None = None,
    limits: LinkLimits | None = None,
    desk: Desk | None = None,
    policies: Policies | None = None,
    port: int = 0,
) -> Kit:
    clock, limits, desk = clock or SystemClock(), limits or LinkLimits(), desk or Desk()
    keyring = open_keyring(folder / "keys", ["127.0.0.1"], SystemClock().now())
    store = make_store(str(folder / "coordinator.sqlite"))
    await store.acquire_epoch()

    def add_tenant(tx) -> None:  # type: ignore[no-untyped-def]
        if tx.tenants.get(TenantId("acme")) is None:
            tx.tenants.add(Tenant(TenantId("acme"), "Acme", 0.0))

    await store.write(add_tenant)
    hub, spool = Hub(), Spool(folder / "spool", limits)
    enrolment = Enrolment(store, keyring.ca, clock, EnrolSettings(link=":0", cache_s=0.0), hub)
    tls = ServerTls(keyring.tls_key, keyring.tls_certificate, keyring.ca.pem)
    server = LinkServer(hub, Gate(enrolment, policies or Policies.load(), clock), desk, spool, tls, clock, limits)
    kit = Kit(folder, clock, limits, keyring, store, hub, enrolment, spool, desk, server)
    kit.port = await server.start(f"127.0.0.1:{port}")
    return kit


class Agent:
    """A node's side: a real link and a log of what it heard."""

    def __init__(
        self, place: NodeDir, address: str, *, options: LinkOptions = FAST, clock: Clock | None = None
    ) -> None:
        self.events: list[pb.CoordinatorEvent] = []
        self.states: list[tuple[str, str]] = []
        self.hello_report = pb.NodeReport(slots=1)
        self.held: list[pb.HeldUpdate] = []
        self._changed = asyncio.Condition()
        self.link = GrpcLink(lambda: load_credentials(place), address, clock or SystemClock(), options)
        self._task: asyncio.Task[None] | None = None

    async def hello(self) -> pb.Hello:
        return pb.Hello(report=self.hello_report, held=self.held)

    async def on_event(self, event: pb.CoordinatorEvent) -> None:
        self.events.append(event)
        await self._notify()

    def on_state(self, state: str, detail: str) -> None:
        self.states.append((state, detail))
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._notify()))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, what, timeout: float = 60.0) -> None:  # type: ignore[no-untyped-def]
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(what)

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda: sum(s == "connected" for s, _ in self.states) >= times)

    async def __aenter__(self) -> Agent:
        self._task = asyncio.create_task(self.link.run(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.close()
        assert self._task is not None
        await asyncio.wait_for(self._task, 60)


async def eventually(what, timeout: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until ``what()`` is true; for facts that nothing announces."""
    async with asyncio.timeout(timeout):
        while not what():
            await asyncio.sleep(0.01)


async def serve_forever(folder: Path, port: int) -> None:
    """The server as a process of its own: offers every file in ``folder``/offer, wants every task in tasks.json."""
    desk = Desk()
    desk.files = {sha256(path.read_bytes()): path for path in (folder / "offer").glob("*")}
    desk.wanted = dict.fromkeys(json.loads((folder / "tasks.json").read_text()), True)
    kit = await open_kit(folder, desk=desk, port=port)
    print(json.dumps({"port": kit.port}), flush=True)
    await asyncio.Event().wait()


async def move_file(place: NodeDir, address: str, way: str, path: Path, digest: str, size: int) -> None:
    """A node as a process of its own: fetches or sends one file."""
    async with Agent(place, address) as agent:
        if way == "download":
            await agent.link.download(pb.ContentRef(digest=digest, size=size), path)
        else:
            assert (await agent.link.upload(TASK, path, digest, size)).accepted


if __name__ == "__main__":
    if sys.argv[1] == "node":
        _, _, folder, link, direction, file, sha, length = sys.argv
        asyncio.run(move_file(NodeDir(Path(folder)), link, direction, Path(file), sha, int(length)))
    else:
        asyncio.run(serve_forever(Path(sys.argv[1]), int(sys.argv[2])))
