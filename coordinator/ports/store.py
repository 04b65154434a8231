"""The coordinator's records, in transactions.

``Store.read`` and ``Store.write`` run a plain function of a ``Tx`` in the store's own thread and return its result:
the function may be run again (serialisation failure), so it must have no other effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from common.ids import AppDigest, Digest, FederationId, JobId, NodeId, TenantId
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import Job, JobLogEntry, JobState, Submission
from coordinator.domain.models import Alias, Deployment, ModelVersion
from coordinator.domain.nodes import Node
from coordinator.domain.quotas import Allowance, Grant
from coordinator.domain.tenancy import ApiToken, Federation, JoinToken, Tenant
from coordinator.scheduling.events import Entry, Snapshot

T = TypeVar("T")


class Tenants(Protocol):
    """Tenants, their tokens and federations."""

    def add(self, tenant: Tenant) -> None:
        """Insert. Raises Conflict: the id is taken."""
        ...

    def get(self, tenant: TenantId) -> Tenant | None: ...
    def list(self) -> Sequence[Tenant]: ...
    def add_token(self, token: ApiToken) -> None: ...
    def token(self, token_id: str) -> ApiToken | None: ...
    def tokens(self, tenant: TenantId) -> Sequence[ApiToken]: ...
    def revoke_token(self, token_id: str) -> bool: ...
    def put_federation(self, federation: Federation) -> None:
        """Insert or replace, members included."""
        ...

    def federation(self, federation: FederationId) -> Federation | None: ...
    def federations(self) -> Sequence[Federation]: ...


class Nodes(Protocol):
    """Nodes and join tokens."""

    def add_join_token(self, token: JoinToken) -> None: ...
    def join_token(self, token_id: str) -> JoinToken | None: ...
    def burn_join_token(self, token_id: str, node: NodeId, key_sha256: str, now: float) -> bool:
        """Mark used if unused and not expired; True for exactly one caller."""
        ...

    def put(self, node: Node) -> None:
        """Insert or replace. Raises Conflict: the name is taken in that tenant by another id."""
        ...

    def get(self, node: NodeId) -> Node | None: ...
    def list(self, tenants: frozenset[TenantId] | None = None) -> Sequence[Node]: ...


class Jobs(Protocol):
    """Jobs, their event log and their journal."""

    def put(self, job: Job) -> None: ...
    def get(self, job: JobId) -> Job | None: ...
    def list(
        self,
        *,
        tenants: frozenset[TenantId] | None = None,
        federations: frozenset[FederationId] | None = None,
        states: frozenset[JobState] | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        """Return jobs owned by ``tenants`` or in ``federations`` (None = no filter), newest first by (created_at, id),
        strictly after that cursor.
        """
        ...

    def count(self, tenant: TenantId, states: frozenset[JobState]) -> int:
        """Return how many jobs of ``tenant`` are in one of ``states``."""
        ...

    def log(self, job: JobId, at: float, event: str, facts: dict[str, object]) -> JobLogEntry:
        """Append one entry with the job's next sequence number."""
        ...

    def log_since(self, job: JobId, seq: int, limit: int = 1000) -> Sequence[JobLogEntry]:
        """Return entries with a number greater than ``seq``, in order."""
        ...

    def put_exchange(self, exchange: Exchange) -> None:
        """Insert or replace row (job, seq)."""
        ...

    def exchanges(self, job: JobId) -> Sequence[Exchange]: ...
    def exchange(self, job: JobId, seq: int) -> Exchange | None: ...
    def submission(self, idempotency_key: str, tenant: TenantId) -> Submission | None: ...
    def put_submission(self, idempotency_key: str, tenant: TenantId, submission: Submission) -> None:
        """Remember which job a request made. Raises Conflict: the key is taken."""
        ...


class Models(Protocol):
    """Model versions, aliases, deployments."""

    def add_version(self, version: ModelVersion) -> None:
        """Insert. Raises Conflict: (tenant, model, version) exists."""
        ...

    def next_version(self, tenant: TenantId, model: str) -> int: ...
    def version(self, tenant: TenantId, model: str, version: int) -> ModelVersion | None: ...
    def versions(self, tenant: TenantId, model: str | None = None) -> Sequence[ModelVersion]: ...
    def version_of_job(self, job: JobId, round_: int) -> ModelVersion | None: ...
    def alias(self, tenant: TenantId, model: str, name: str) -> Alias | None: ...
    def aliases(self, tenant: TenantId, model: str) -> Sequence[Alias]: ...
    def move_alias(self, alias: Alias, *, expected_generation: int) -> bool:
        """Write ``alias`` (generation = expected + 1) if the stored generation is the expected one (0 = none yet)."""
        ...

    def put_deployment(self, deployment: Deployment) -> None: ...
    def deployments(
        self, *, tenant: TenantId | None = None, model: str | None = None, node: NodeId | None = None
    ) -> Sequence[Deployment]: ...


class Apps(Protocol):
    """App archives by digest."""

    def put(self, app: AppDigest, tenant: TenantId, name: str, bundle: str, size: int, now: float) -> None:
        """Insert; nothing happens if this tenant has it already."""
        ...

    def get(self, app: AppDigest, tenant: TenantId) -> tuple[str, str, int] | None:
        """Return (name, bundle digest, size)."""
        ...


class Quotas(Protocol):
    """What sites give tenants, and what the platform lets each use at the coordinator."""

    def grants(self, *, site: TenantId | None = None, tenant: TenantId | None = None) -> Sequence[Grant]:
        """Return grants by (site, tenant); None = no filter."""
        ...

    def grant(self, site: TenantId, tenant: TenantId) -> Grant | None: ...
    def put_grant(self, grant: Grant, *, expected_generation: int) -> bool:
        """Write ``grant`` (generation = expected + 1) if the stored generation is the expected one (0 = none yet)."""
        ...

    def remove_grant(self, site: TenantId, tenant: TenantId, *, expected_generation: int) -> bool:
        """Delete the grant if its generation is the expected one."""
        ...

    def allowances(self) -> Sequence[Allowance]: ...
    def allowance(self, tenant: TenantId) -> Allowance | None: ...
    def put_allowance(self, allowance: Allowance, *, expected_generation: int) -> bool:
        """As ``put_grant``."""
        ...

    def remove_allowance(self, tenant: TenantId, *, expected_generation: int) -> bool:
        """As ``remove_grant``: the defaults hold again."""
        ...

    def keep(self, tenant: TenantId, digest: Digest, size: int) -> int | None:
        """Book a blob of ``size`` bytes and return the new sum; None, and nothing happens, if it is booked already."""
        ...

    def drop(self, tenant: TenantId, digest: Digest) -> None:
        """Book a blob out; no error if it was not booked."""
        ...

    def stored(self, tenant: TenantId) -> int:
        """Return the sum of the tenant's booked blobs in bytes."""
        ...


class Schedule(Protocol):
    """The scheduler's journal: what happened, what was decided, and snapshots of the state in between."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Insert. Raises Conflict: a number is taken."""
        ...

    def entries(self, after: int, limit: int = 1000) -> Sequence[Entry]:
        """Return entries with a number greater than ``after``, in order."""
        ...

    def last(self) -> Entry | None: ...
    def of_ask(self, ask: str) -> Sequence[Entry]:
        """Return what is known of an ask, in order."""
        ...

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Insert or replace."""
        ...

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """Return the newest snapshot, of those at or before number ``until`` if it is given."""
        ...

    def set_aside(self) -> int:
        """Keep all rows and snapshots unread from now on, for auditors; return the greatest number among them."""
        ...

    def prune(self, before: int) -> int:
        """Drop what the newest snapshot at or before number ``before`` makes needless; return how many entries."""
        ...


class Tx(Protocol):
    """One transaction."""

    @property
    def tenants(self) -> Tenants: ...
    @property
    def nodes(self) -> Nodes: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def models(self) -> Models: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def quotas(self) -> Quotas: ...
    @property
    def schedule(self) -> Schedule: ...


class Store(Protocol):
    """The guarantees an adapter must keep.

    1. ``write`` commits durably before it returns, or changes nothing and raises.
    2. Each write checks, inside its transaction, that this process still holds the fencing epoch.
    3. Transactions are serialisable.
    """

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a read transaction."""
        ...

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a write transaction.

        Raises:
            LeaseLost: another coordinator has taken a newer epoch.
        """
        ...

    async def acquire_epoch(self) -> int:
        """Take the next fencing epoch for this process and return it."""
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...
