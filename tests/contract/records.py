"""Records for the contract suites, every field filled with something."""

from __future__ import annotations

from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from common.jobspec import Cohort, Export, JobSpec
from coordinator.domain.exchanges import Exchange, ExchangeKind, Included, Instruction, Reply
from coordinator.domain.jobs import Job, JobState, RosterEntry
from coordinator.domain.models import Alias, Deployment, ModelVersion
from coordinator.domain.nodes import DatasetOffer, Node, NodeReport, NodeStatus
from coordinator.domain.tenancy import Acceptance, ApiToken, Federation, JoinToken, Role, Tenant

NORTH, SOUTH = TenantId("north"), TenantId("south")
HEART = FederationId("heart")
A, B, C = (Digest(letter * 64) for letter in "abc")


def tenant(id_: TenantId = NORTH) -> Tenant:
    return Tenant(id_, f"Hospital {id_}", 1000.5)


def api_token(id_: str = "tok_1", owner: TenantId = NORTH) -> ApiToken:
    return ApiToken(id_, A, owner, Role.SCIENTIST, "ann@north", 1000.0, None)


def federation(id_: FederationId = HEART) -> Federation:
    return Federation(id_, NORTH, "Heart", False, 1000.0, {NORTH: Acceptance.ACCEPTED, SOUTH: Acceptance.INVITED})


def join_token(id_: str = "jt_1", *, until: float = 2000.0) -> JoinToken:
    return JoinToken(id_, B, NORTH, "", 1000.0, until)


def node(id_: str = "node_1", name: str = "ward", owner: TenantId = NORTH) -> Node:
    offer = DatasetOffer(HEART, "patients", "csv", 303, C, (("age", "int64"), ("chol", "float64")))
    report = NodeReport(datasets=(offer,), approvals=((HEART, "*"),), skew_s=-0.25, extra={"os": "linux"})
    return Node(NodeId(id_), owner, name, NodeStatus.ACTIVE, 3, A, 9000.0, 1000.0, 1500.0, report)


def job(id_: str = "job_1", owner: TenantId = NORTH, within: FederationId = HEART, *, at: float = 1000.0) -> Job:
    spec = JobSpec(
        name="heart",
        serverapp="heart.server:app",
        clientapp="heart.client:app",
        config={"num-server-rounds": 3, "lr": 0.1, "verbose": True, "name": "x"},
        datasets=("patients",),
        cohort=Cohort(2, 3),
        export=Export("heart.model:make", {"x": ["batch", 13]}, "int8"),
    )
    roster = (RosterEntry(NodeId("node_1"), NORTH, "ward", 2**63 - 1, 0),)
    return Job(
        JobId(id_), owner, within, "ann@north", AppDigest(A), B, spec, 7, 2**62 + 1, JobState.QUEUED, "waits", "", at,
        roster=roster, metrics={"loss": 0.5}, rounds=3,
    )  # fmt: skip


def exchange(seq: int = 0, job_id: str = "job_1") -> Exchange:
    instructions = tuple(Instruction(slot, NodeId(f"node_{slot}"), "train", A, 1000, "1", 3600.0) for slot in range(2))
    return Exchange(
        JobId(job_id), seq, ExchangeKind.EXCHANGE, True, instructions, 10.0, 11.5,
        replies=(Reply(0, None, B, 1000), Reply(1, NodeId("node_1"), None, 0, 5, "it raised", 3)),
        included=(Included(NodeId("node_0"), C, 120.0),),
        dropped=((NodeId("node_1"), "bad_update", "not finite"),),
        round=2,
        pulled=("m1", "m2"),
    )  # fmt: skip


def version(number: int = 1, *, of_job: str | None = "job_1", round_: int = 3) -> ModelVersion:
    made_by = None if of_job is None else JobId(of_job)
    return ModelVersion(NORTH, "heart", number, A, 512, HEART, made_by, round_, 1000.0, {"auc": 0.9}, True)


def alias(generation: int, number: int = 1) -> Alias:
    return Alias(NORTH, "heart", "latest", number, generation, "ann@north", 1000.0)


def deployment(node_id: str = "node_1", number: int = 1, state: str = "pending") -> Deployment:
    return Deployment(NORTH, "heart", number, NodeId(node_id), True, state, "", "", 1000.0)
