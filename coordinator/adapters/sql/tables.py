"""The tables of the coordinator, as SQLAlchemy Core.

One table a record, one column a field, the same names; nested fields are JSON columns.  There are no foreign keys: what
others name is never deleted, and what refers to what is the services' business.  A change here needs a migration beside
it (``migrations/versions``); a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class Words(sa.types.TypeDecorator[str]):
    """Text that any database takes: PostgreSQL has no NUL and no lone surrogates, and tenants' apps print both."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[str]:
        """Compare bytes everywhere, so that both databases sort alike whatever the server's locale."""
        kind = sa.Text(collation="C") if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return ``value`` with what cannot be stored replaced by U+FFFD."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


METADATA = sa.MetaData()


def _name(name: str, *, primary: bool = False, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, Words, primary_key=primary, nullable=nullable)


def _int(name: str, *, primary: bool = False, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=primary, nullable=nullable, autoincrement=False)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


FENCE = sa.Table("fence", METADATA, _int("id", primary=True), _int("epoch"))

TENANTS = sa.Table("tenants", METADATA, _name("id", primary=True), _name("title"), _real("created_at"))

API_TOKENS = sa.Table(
    "api_tokens",
    METADATA,
    _name("id", primary=True),
    _name("secret_sha256"),
    _name("tenant"),
    _name("role"),
    _name("subject"),
    _real("created_at"),
    _real("expires_at", nullable=True),
    _flag("revoked"),
    sa.Index("api_tokens_tenant", "tenant", "created_at"),
)

FEDERATIONS = sa.Table(
    "federations",
    METADATA,
    _name("id", primary=True),
    _name("owner"),
    _name("title"),
    _flag("individual_replies"),
    _real("created_at"),
    _json("members"),
    _name("minimum_mode"),
)

JOIN_TOKENS = sa.Table(
    "join_tokens",
    METADATA,
    _name("id", primary=True),
    _name("secret_sha256"),
    _name("tenant"),
    _name("node_name"),
    _real("created_at"),
    _real("expires_at"),
    _name("used_by", nullable=True),
    _name("used_key_sha256"),
)

NODES = sa.Table(
    "nodes",
    METADATA,
    _name("id", primary=True),
    _name("tenant"),
    _name("name"),
    _name("status"),
    _int("generation"),
    _name("key_sha256"),
    _real("certificate_until"),
    _real("created_at"),
    _real("seen_at", nullable=True),
    _json("report", nullable=True),
    sa.UniqueConstraint("tenant", "name", name="nodes_tenant_name"),
)

JOBS = sa.Table(
    "jobs",
    METADATA,
    _name("id", primary=True),
    _name("tenant"),
    _name("federation"),
    _name("submitted_by"),
    _name("app"),
    _name("bundle"),
    _json("spec"),
    _int("seed"),
    _int("run_id"),
    _name("state"),
    _name("note"),
    _name("reason"),
    _real("created_at"),
    _real("started_at", nullable=True),
    _real("ended_at", nullable=True),
    _json("roster"),
    _json("metrics"),
    _int("round"),
    _int("rounds"),
    sa.Index("jobs_newest", "created_at", "id"),
    sa.Index("jobs_tenant", "tenant", "created_at", "id"),
    sa.Index("jobs_federation", "federation", "created_at", "id"),
    sa.Index("jobs_state", "state", "created_at", "id"),
    sa.Index("jobs_tenant_state", "tenant", "state"),
)

JOB_LOG = sa.Table(
    "job_log",
    METADATA,
    _name("job", primary=True),
    _int("seq", primary=True),
    _real("at"),
    _name("event"),
    _json("facts"),
    sqlite_with_rowid=False,
)

EXCHANGES = sa.Table(
    "exchanges",
    METADATA,
    _name("job", primary=True),
    _int("seq", primary=True),
    _name("kind"),
    _flag("fold"),
    _json("messages"),
    _real("opened_at"),
    _real("closed_at", nullable=True),
    _json("replies"),
    _json("included"),
    _json("dropped"),
    _int("round"),
    _json("pulled"),
    _name("masked"),
)

SUBMISSION_KEYS = sa.Table(
    "submission_keys",
    METADATA,
    _name("tenant", primary=True),
    _name("key", primary=True),
    _name("job"),
    _name("request", nullable=True),
)

MODEL_VERSIONS = sa.Table(
    "model_versions",
    METADATA,
    _name("tenant", primary=True),
    _name("model", primary=True),
    _int("version", primary=True),
    _name("manifest"),
    _int("manifest_size"),
    _name("federation", nullable=True),
    _name("job", nullable=True),
    _int("round"),
    _real("created_at"),
    _json("metrics"),
    _flag("servable"),
    # A round is published once; a version that no job made has no job here, and NULLs are distinct.
    sa.UniqueConstraint("job", "round", name="model_versions_job_round"),
)

ALIASES = sa.Table(
    "aliases",
    METADATA,
    _name("tenant", primary=True),
    _name("model", primary=True),
    _name("name", primary=True),
    _int("version"),
    _int("generation"),
    _name("moved_by"),
    _real("moved_at"),
)

DEPLOYMENTS = sa.Table(
    "deployments",
    METADATA,
    _name("tenant", primary=True),
    _name("model", primary=True),
    _int("version", primary=True),
    _name("node", primary=True),
    _flag("wanted"),
    _name("state"),
    _name("message"),
    _name("url"),
    _real("updated_at"),
    sa.Index("deployments_node", "node"),
)

APPS = sa.Table(
    "apps",
    METADATA,
    _name("tenant", primary=True),
    _name("digest", primary=True),
    _name("name"),
    _name("bundle"),
    _int("size"),
    _real("created_at"),
)

GRANTS = sa.Table(
    "grants",
    METADATA,
    _name("site", primary=True),
    _name("tenant", primary=True),
    _json("guarantee"),
    _json("limit"),
    _int("weight"),
    _int("generation"),
    _name("set_by"),
    _real("set_at"),
    sa.Index("grants_tenant", "tenant"),
)

ALLOWANCES = sa.Table(
    "allowances",
    METADATA,
    _name("tenant", primary=True),
    _int("running_jobs"),
    _int("queued_jobs"),
    _int("stored_bytes"),
    _int("generation"),
    _name("set_by"),
    _real("set_at"),
)

# One row a blob that counts, and their sum: a round's commit must not add up all that a tenant has.
STORED = sa.Table("stored", METADATA, _name("tenant", primary=True), _name("digest", primary=True), _int("size"))
STORED_TOTALS = sa.Table("stored_totals", METADATA, _name("tenant", primary=True), _int("bytes"))

# The scheduler's journal.  Rows behind a snapshot go when they are too many.
SCHEDULE_EVENTS = sa.Table(
    "schedule_events",
    METADATA,
    _int("seq", primary=True),
    _int("at_ms"),
    _int("turn"),
    _name("kind"),
    _name("ask"),
    _json("event"),
    sa.Index("schedule_events_ask", "ask", "seq"),
)

SCHEDULE_SNAPSHOTS = sa.Table(
    "schedule_snapshots", METADATA, _int("seq", primary=True), _int("at_ms"), _json("state"), _json("learned")
)
