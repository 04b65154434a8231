"""Three organisations behind a real REST face: real store, blobs, identity, policies.

``north`` and ``south`` share the federation ``hearts``; ``east`` shares nothing with anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from common.bundle import pack
from common.clock import ManualClock
from common.crypto.keys import new_ed25519
from common.crypto.x509 import load_ca, make_ca
from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from common.jobspec import JobSpec
from common.sandbox import SandboxMode
from coordinator.adapters.blobs_dir import DirectoryBlobs
from coordinator.adapters.sql import SqlStore, make_store
from coordinator.api.app import create_app
from coordinator.api.services import CaInfo, Services
from coordinator.api.settings import ApiSettings
from coordinator.domain.exchanges import Exchange, ExchangeKind, Included, Instruction
from coordinator.domain.jobs import Job, JobState, RosterEntry
from coordinator.domain.nodes import DatasetOffer, Node, NodeReport, NodeStatus
from coordinator.domain.quotas import Allowance, Amount, Terms
from coordinator.domain.tenancy import PLATFORM, Role
from coordinator.scheduling.events import Asked, Began, Came, Entry
from coordinator.scheduling.planner import Planner
from coordinator.scheduling.policies import named
from coordinator.scheduling.records import Ask, Need
from coordinator.scheduling.records import Node as Machine
from coordinator.scheduling.replay import decided
from coordinator.services.allowances import Allowances
from coordinator.services.booked import BookedBlobs
from coordinator.services.deploy import Deployments
from coordinator.services.enrol import Enrolment, EnrolSettings
from coordinator.services.estimates import Estimates
from coordinator.services.export import SandboxSettings
from coordinator.services.federations import Federations
from coordinator.services.feed import JobFeed
from coordinator.services.foresight import Foresight
from coordinator.services.grants import Grants
from coordinator.services.identity import Identity
from coordinator.services.nodes import Presence
from coordinator.services.preconditions import Seen
from coordinator.services.publish import Publisher
from coordinator.services.queue import QueueView
from coordinator.services.schedule import Schedule
from coordinator.services.schedule_journal import ScheduleJournal
from coordinator.services.submit import Submissions
from policies.engine import Policies
from tests.unit.api.doubles import NORTH_NODE, Desk, Wires

NORTH, SOUTH, EAST = TenantId("north"), TenantId("south"), TenantId("east")
HEARTS = FederationId("hearts")
NORTH_PRIVATE, SOUTH_NODE = (NodeId(f"node_{c * 16}") for c in "ps")
JOB = JobId("job_" + "j" * 16)
POLICIES = Policies.load()
CALLERS = {
    "root": (PLATFORM, Role.PLATFORM_ADMIN),
    "admin": (NORTH, Role.TENANT_ADMIN),
    "scientist": (NORTH, Role.SCIENTIST),
    "auditor": (NORTH, Role.AUDITOR),
    "partner": (SOUTH, Role.SCIENTIST),
    "partner_admin": (SOUTH, Role.TENANT_ADMIN),
    "stranger": (EAST, Role.TENANT_ADMIN),
}


def spec() -> JobSpec:
    return JobSpec("heart", "heart.server:app", "heart.client:app", {"num-server-rounds": 3})


def job() -> Job:
    roster = (
        RosterEntry(NORTH_NODE, NORTH, "ward", 11, 0),
        RosterEntry(SOUTH_NODE, SOUTH, "clinic", 12, 1),
    )
    return Job(
        JOB, NORTH, HEARTS, "scientist@north", AppDigest("a" * 64), Digest("b" * 64), spec(), 7, 42, JobState.RUNNING,
        "", "", 1_000_000.0, started_at=1_000_001.0, roster=roster, metrics={"loss": float("nan"), "auc": 0.9}, round=1,
        rounds=3,
    )  # fmt: skip


def node(id_: NodeId, tenant: TenantId, name: str, *federations: FederationId) -> Node:
    offers = tuple(DatasetOffer(f, "patients", "csv", 303, Digest("c" * 64), (("age", "int64"),)) for f in federations)
    approvals = tuple((f, "*") for f in federations)
    report = NodeReport(datasets=offers, approvals=approvals, memory_mib=8192, serving="http://127.0.0.1:9999")
    return Node(id_, tenant, name, NodeStatus.ACTIVE, 1, "k" * 64, 2_000_000.0, 1_000_000.0, 1_000_000.0, report)


def exchange(seq: int) -> Exchange:
    asked = tuple(
        Instruction(i, n, "train", Digest("d" * 64), 10, "", 60.0) for i, n in enumerate((NORTH_NODE, SOUTH_NODE))
    )
    return Exchange(
        JOB, seq, ExchangeKind.EXCHANGE, True, asked, 1_000_002.0, 1_000_003.0,
        included=(Included(NORTH_NODE, Digest("e" * 64), 303.0),), dropped=((SOUTH_NODE, "app_raised", "boom"),), round=seq,
    )  # fmt: skip


def safetensors(values: bytes = bytes(16)) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [len(values) // 4], "data_offsets": [0, len(values)]}}).encode()
    return len(head).to_bytes(8, "little") + head + values


def app_archive(folder: Path) -> bytes:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "heart"\nversion = "1"\n'
        '[tool.flwr.app.components]\nserverapp = "heart.server:app"\nclientapp = "heart.client:app"\n'
    )
    (folder / "heart").mkdir()
    (folder / "heart" / "server.py").write_text("app = None\n")
    return pack(folder)


@dataclass
class World:
    folder: Path
    clock: ManualClock
    services: Services
    settings: ApiSettings
    tokens: dict[str, str]
    wires: Wires

    @property
    def app(self) -> str:
        """The digest of an app that every tenant has."""
        return (self.folder / "app.digest").read_text()

    @property
    def store(self) -> SqlStore:
        return self.services.store

    def client(self, who: str | None = None, *, settings: ApiSettings | None = None, **options) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        app = create_app(self.services, settings or self.settings)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=options.pop("raises", True))
        return httpx.AsyncClient(transport=transport, base_url="https://hub.test", headers=headers, **options)


def _services(folder: Path, store: SqlStore, clock: ManualClock) -> tuple[Services, Wires]:
    wires, feed = Wires(), JobFeed(store, clock)
    ca = load_ca((folder / "ca.key").read_bytes(), (folder / "ca.pem").read_bytes())
    sandbox = SandboxSettings(SandboxMode.NONE, {}, folder / "jobs")
    desk, presence = Desk(store, clock), Presence(store, clock)
    allowances = Allowances(store, clock, Allowance(PLATFORM, 2, 20, 2**40), lambda _: 0)
    blobs = BookedBlobs(DirectoryBlobs(folder / "blobs"), store, allowances.check_stored)
    held = {(NORTH, SOUTH): Amount({"cuda": 500}, {}, 1000, 4096)}
    grants = Grants(store, clock, held=lambda *of: held.get(of), changed=lambda *news: wires.quotas.append(news))
    schedule = Schedule(clock, named("fair"), ScheduleJournal(store))
    return Services(
        identity=Identity(store, clock),
        federations=Federations(store, clock),
        enrolment=Enrolment(store, ca, clock, EnrolSettings("hub.test:9443", {"k1": "00" * 32}), wires),
        submissions=Submissions(store, blobs, desk, clock, presence, allowances, {"default": sys.executable}),
        grants=grants,
        allowances=allowances,
        desk=desk,
        queue=QueueView(schedule, store, gap_s=0.0),
        foresight=Foresight(schedule, Estimates(), clock),
        feed=feed,
        publisher=Publisher(store, blobs, new_ed25519(), sandbox, clock),
        deployments=Deployments(store, blobs, wires, clock),
        link=wires,
        store=store,
        blobs=blobs,
        policies=POLICIES,
        clock=clock,
        ca=CaInfo(ca.pem.decode(), ca.sha256),
        jobs_dir=folder / "jobs",
    ), wires


async def _furnish(folder: Path) -> None:
    clock = ManualClock()
    for name, pem in zip(("ca.key", "ca.pem"), make_ca("test", now=clock.now()), strict=True):
        (folder / name).write_bytes(pem)
    store = make_store(f"sqlite:///{folder / 'hub.sqlite'}")
    await store.acquire_epoch()
    services, _ = _services(folder, store, clock)
    await services.identity.ensure_admin_token(folder / "admin.token")
    for tenant in (NORTH, SOUTH, EAST):
        await services.identity.create_tenant(tenant, f"Hospital {tenant}")
    tokens = {
        who: (await services.identity.create_token(t, role, f"{who}@{t}", None))[0]
        for who, (t, role) in CALLERS.items()
    }
    (folder / "tokens.json").write_text(json.dumps(tokens))
    await services.federations.create(NORTH, HEARTS, "Hearts", [SOUTH], individual_replies=False)
    await services.federations.accept(HEARTS, SOUTH)
    terms = Terms(Amount({"cuda": 1000}, {}, None, None), Amount({"cuda": 2000}, {}, 8000, None), 3)
    await services.grants.set(NORTH, SOUTH, terms, "admin@north", Seen(absent=True))

    def rows(tx) -> None:
        tx.nodes.put(node(NORTH_NODE, NORTH, "ward", HEARTS))
        tx.nodes.put(node(NORTH_PRIVATE, NORTH, "cellar"))
        tx.nodes.put(node(SOUTH_NODE, SOUTH, "clinic", HEARTS))
        tx.jobs.put(job())
        tx.schedule.append(granted(JOB))
        for seq in range(3):
            tx.jobs.log(JOB, 1_000_000.0 + seq, "round_aggregated", {"round": seq, "loss": float("nan")})
            tx.jobs.put_exchange(exchange(seq))

    await store.write(rows)
    path = folder / "model.safetensors"
    path.write_bytes(safetensors())
    principal = await services.identity.authenticate(tokens["scientist"])
    private = await services.publisher.import_model(principal, NORTH, "heart", "safetensors", path)
    shared = replace(private, version=2, federation=HEARTS, job=JOB, round=3, servable=True)
    await store.write(lambda tx: tx.models.add_version(shared))
    logs = folder / "jobs" / JOB / "nodes" / SOUTH
    logs.mkdir(parents=True)
    (folder / "jobs" / JOB / "server.log").write_text("server says hello\n")
    (logs / "clinic.log").write_text("clinic says hello\n")
    archive = app_archive(folder / "app")
    for who in ("scientist", "partner", "stranger"):
        digest, _ = await services.submissions.add_app(await services.identity.authenticate(tokens[who]), archive)
    (folder / "app.digest").write_text(digest)
    await store.close()


def granted(name: JobId) -> list[Entry]:
    """Return the journal of a round that asked for both shared nodes and got them."""
    nodes = [Machine(id_, site, 8000, 64_000, 1) for id_, site in ((NORTH_NODE, NORTH), (SOUTH_NODE, SOUTH))]
    ask = Ask(f"{name}/1", name, NORTH, Need(), 2, 2, 1000, 60_000, 0, 5000, (NORTH_NODE, SOUTH_NODE))
    planner = Planner(named("fair"))
    happened = [Began(named("fair")), *(Came(node) for node in nodes), Asked(ask)]
    for node in nodes:
        planner.put_node(node)
    planner.add(ask)
    rows = [Entry(seq, 1000, 0, event) for seq, event in enumerate(happened, start=1)]
    made = decided(planner.decide(1000))
    return rows + [Entry(len(rows) + 1 + i, 1000, 1, event) for i, event in enumerate(made)]


def furnish(folder: Path) -> Path:
    """Build the world once, to be copied for each test."""
    folder.mkdir()
    asyncio.run(_furnish(folder))
    return folder


@contextlib.asynccontextmanager
async def open_world(template: Path, folder: Path, settings: ApiSettings) -> AsyncIterator[World]:
    """Open a copy of the world."""
    shutil.copytree(template, folder)
    clock = ManualClock()
    store = make_store(f"sqlite:///{folder / 'hub.sqlite'}")
    await store.acquire_epoch()
    services, wires = _services(folder, store, clock)
    tokens = json.loads((folder / "tokens.json").read_text())
    try:
        yield World(folder, clock, services, settings, tokens, wires)
    finally:
        await services.feed.close()
        await store.close()
