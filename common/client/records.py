"""What the coordinator answers, as types: the JSON itself, so that ``--json`` shows what the server said.

Times are ISO 8601 in UTC.  A newer server may send more fields than these.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Whoami(TypedDict):
    """Who the token speaks for."""

    issuer: str
    subject: str
    tenants: list[str]
    roles: list[str]
    release: str


class Ca(TypedDict):
    """The coordinator's root."""

    pem: str
    sha256: str
    manifest_keys: dict[str, str]
    time: float


class Tenant(TypedDict):
    """An organisation."""

    id: str
    title: str
    created_at: str


class Token(TypedDict):
    """An API token without its secret."""

    id: str
    tenant: str
    role: str
    subject: str
    created_at: str
    expires_at: str | None
    revoked: bool


class NewToken(Token):
    """An API token with its text."""

    token: str


class JoinToken(TypedDict):
    """A one-use permission to join."""

    id: str
    token: str
    tenant: str
    node_name: str
    expires_at: str
    command: str


class Member(TypedDict):
    """Where one tenant stands."""

    tenant: str
    acceptance: str


class Federation(TypedDict):
    """Tenants that agreed to train together."""

    id: str
    owner: str
    title: str
    individual_replies: bool
    minimum_mode: str
    created_at: str
    members: list[Member]


class App(TypedDict):
    """An app archive that was taken in."""

    app_digest: str
    name: str
    size: int


class Denial(TypedDict):
    """One reason why a node will not run this."""

    code: str
    message: str


class PlannedNode(TypedDict):
    """One node and all its denials."""

    id: str
    tenant: str
    name: str
    online: bool
    datasets: list[str]
    denials: list[Denial]


class SiteShare(TypedDict):
    """What a site's owner gives the tenant of what the job needs most."""

    site: str
    nodes: int
    resource: str
    round: float
    held: float
    guarantee: float | None
    limit: float | None
    weight: int


class Outlook(TypedDict):
    """What a job would meet."""

    nodes: int
    start: str | None
    latest_start: str | None
    code: str
    reason: str
    round_s: float | None
    length_s: float | None
    gpu_hours: float | None
    sites: list[SiteShare]


class Plan(TypedDict):
    """Where a job could run."""

    placeable: bool
    app_name: str
    model: str
    rounds: int
    minimum: int
    aggregation: str
    missing_imports: list[str]
    nodes: list[PlannedNode]
    outlook: Outlook | None


class RosterEntry(TypedDict):
    """A node's place in a job."""

    node: str
    tenant: str
    name: str
    partition_id: int


class Job(TypedDict):
    """One training run of an app."""

    id: str
    tenant: str
    federation: str
    submitted_by: str
    app: str
    app_name: str
    model: str
    run_config: dict[str, Any]
    seed: int
    state: str
    note: str
    reason: str
    round: int
    rounds: int
    metrics: dict[str, float | None]
    roster: list[RosterEntry]
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobWait(TypedDict):
    """A round of a job that waits for nodes."""

    ask: str
    code: str
    reason: str
    forecast_start: str | None
    latest_start: str | None


class JobDetail(Job):
    """A job, and what its rounds wait for."""

    waits: list[JobWait]


class JobEvent(TypedDict):
    """One line of a job's event log."""

    seq: int
    at: str
    event: str
    facts: dict[str, Any]


class Round(TypedDict):
    """One exchange of messages between the app and its nodes."""

    seq: int
    round: int
    kind: str
    message_type: str
    fold: bool
    asked: list[str]
    included: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    opened_at: str
    closed_at: str | None


class ModelVersion(TypedDict):
    """One immutable version."""

    tenant: str
    model: str
    version: int
    manifest: str
    manifest_size: int
    federation: str | None
    job: str | None
    round: int
    created_at: str
    metrics: dict[str, float | None]
    servable: bool


class ModelSummary(TypedDict):
    """One line of the list of models."""

    tenant: str
    model: str
    versions: int
    latest: ModelVersion


class Alias(TypedDict):
    """A movable name."""

    name: str
    version: int
    generation: int
    moved_by: str
    moved_at: str


class Model(TypedDict):
    """A model: its versions, newest first, and its aliases."""

    tenant: str
    model: str
    versions: list[ModelVersion]
    aliases: list[Alias]


class Deployment(TypedDict):
    """What one node should serve, and what it last said."""

    tenant: str
    model: str
    version: int
    node: str
    node_name: str
    wanted: bool
    state: str
    message: str
    url: str
    updated_at: str


class Deployments(TypedDict):
    """The deployments that one act made."""

    items: list[Deployment]


class Pulled(NamedTuple):
    """One blob that was written to disk."""

    digest: str
    size: int
