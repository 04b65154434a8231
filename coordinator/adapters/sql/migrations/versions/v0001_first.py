"""The first schema: tenancy, nodes, jobs with their journals, models, apps, the fencing epoch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table."""
    fence = op.create_table("fence", *_key(_int("id")), _int("epoch"))
    op.bulk_insert(fence, [{"id": 1, "epoch": 0}])
    _tenancy()
    _jobs()
    _models()


def _tenancy() -> None:
    op.create_table("tenants", *_key(_text("id")), _text("title"), _real("created_at"))
    op.create_table(
        "api_tokens",
        *_key(_text("id")),
        *(_text(name) for name in ("secret_sha256", "tenant", "role", "subject")),
        _real("created_at"),
        _real("expires_at", nullable=True),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )
    op.create_index("api_tokens_tenant", "api_tokens", ["tenant", "created_at"])
    op.create_table(
        "federations",
        *_key(_text("id")),
        *(_text(name) for name in ("owner", "title")),
        sa.Column("individual_replies", sa.Boolean, nullable=False),
        _real("created_at"),
        _json("members"),
    )
    op.create_table(
        "join_tokens",
        *_key(_text("id")),
        *(_text(name) for name in ("secret_sha256", "tenant", "node_name")),
        *(_real(name) for name in ("created_at", "expires_at")),
        _text("used_by", nullable=True),
        _text("used_key_sha256"),
    )
    op.create_table(
        "nodes",
        *_key(_text("id")),
        *(_text(name) for name in ("tenant", "name", "status")),
        _int("generation"),
        _text("key_sha256"),
        *(_real(name) for name in ("certificate_until", "created_at")),
        _real("seen_at", nullable=True),
        _json("report", nullable=True),
        sa.UniqueConstraint("tenant", "name", name="nodes_tenant_name"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        *_key(_text("id")),
        *(_text(name) for name in ("tenant", "federation", "submitted_by", "app", "bundle")),
        _json("spec"),
        *(_int(name) for name in ("seed", "run_id")),
        *(_text(name) for name in ("state", "note", "reason")),
        _real("created_at"),
        *(_real(name, nullable=True) for name in ("started_at", "ended_at")),
        *(_json(name) for name in ("roster", "metrics")),
        *(_int(name) for name in ("round", "rounds")),
    )
    op.create_index("jobs_newest", "jobs", ["created_at", "id"])
    for column in ("tenant", "federation", "state"):
        op.create_index(f"jobs_{column}", "jobs", [column, "created_at", "id"])
    op.create_table(
        "job_log",
        *_key(_text("job"), _int("seq")),
        _real("at"),
        _text("event"),
        _json("facts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "exchanges",
        *_key(_text("job"), _int("seq")),
        _text("kind"),
        sa.Column("fold", sa.Boolean, nullable=False),
        _json("messages"),
        _real("opened_at"),
        _real("closed_at", nullable=True),
        *(_json(name) for name in ("replies", "included", "dropped")),
        _int("round"),
        _json("pulled"),
    )
    op.create_table("submission_keys", *_key(_text("tenant"), _text("key")), _text("job"))


def _models() -> None:
    op.create_table(
        "model_versions",
        *_key(_text("tenant"), _text("model"), _int("version")),
        _text("manifest"),
        _int("manifest_size"),
        *(_text(name, nullable=True) for name in ("federation", "job")),
        _int("round"),
        _real("created_at"),
        _json("metrics"),
        sa.Column("servable", sa.Boolean, nullable=False),
        sa.UniqueConstraint("job", "round", name="model_versions_job_round"),
    )
    op.create_table(
        "aliases",
        *_key(_text("tenant"), _text("model"), _text("name")),
        *(_int(name) for name in ("version", "generation")),
        _text("moved_by"),
        _real("moved_at"),
    )
    op.create_table(
        "deployments",
        *_key(_text("tenant"), _text("model"), _int("version"), _text("node")),
        sa.Column("wanted", sa.Boolean, nullable=False),
        *(_text(name) for name in ("state", "message", "url")),
        _real("updated_at"),
    )
    op.create_index("deployments_node", "deployments", ["node"])
    op.create_table(
        "apps",
        *_key(_text("tenant"), _text("digest")),
        *(_text(name) for name in ("name", "bundle")),
        _int("size"),
        _real("created_at"),
    )


def _key(*columns: sa.Column[object]) -> list[sa.schema.SchemaItem]:
    return [*columns, sa.PrimaryKeyConstraint(*(column.name for column in columns))]


def _text(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, _TEXT, nullable=nullable)


def _int(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, autoincrement=False)


def _real(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.JSON, nullable=nullable)
