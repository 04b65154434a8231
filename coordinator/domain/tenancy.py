"""Tenants, federations, and who may speak for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from common.ids import FederationId, NodeId, TenantId

PLATFORM = TenantId("platform")  # owner of what no tenant owns; its admins run the coordinator


class Role(StrEnum):
    """What a principal may be inside a tenant; what each may do is in policies/."""

    PLATFORM_ADMIN = "platform_admin"
    TENANT_ADMIN = "tenant_admin"
    SCIENTIST = "scientist"
    AUDITOR = "auditor"


@dataclass(frozen=True)
class Principal:
    """Who is asking.  API tokens yield it today; OIDC fills the same record later."""

    issuer: str  # "hansa" for the built-in tokens
    subject: str
    tenants: frozenset[TenantId]
    roles: frozenset[Role]

    @property
    def is_platform_admin(self) -> bool:
        """Whether this principal runs the coordinator."""
        return Role.PLATFORM_ADMIN in self.roles


@dataclass(frozen=True)
class Tenant:
    """An organisation."""

    id: TenantId
    title: str
    created_at: float


@dataclass(frozen=True)
class ApiToken:
    """A bearer token at rest: the secret is stored hashed."""

    id: str  # "tok_…", the public half
    secret_sha256: str
    tenant: TenantId
    role: Role
    subject: str
    created_at: float
    expires_at: float | None
    revoked: bool = False


@dataclass(frozen=True)
class JoinToken:
    """A one-use permission for a node of ``tenant`` to join; the secret is stored hashed."""

    id: str  # "jt_…"
    secret_sha256: str
    tenant: TenantId
    node_name: str  # "" = the node names itself
    created_at: float
    expires_at: float
    used_by: NodeId | None = None
    used_key_sha256: str = ""  # a retry with the same key is the same join


class Acceptance(StrEnum):
    """Where one tenant stands towards a federation."""

    INVITED = "invited"
    ACCEPTED = "accepted"
    LEFT = "left"


@dataclass(frozen=True)
class Federation:
    """Tenants that agreed to train together.  A tenant counts only once it has accepted."""

    id: FederationId
    owner: TenantId
    title: str
    individual_replies: bool  # may an app see single updates in the clear?
    created_at: float
    members: dict[TenantId, Acceptance] = field(default_factory=dict)
    minimum_mode: str = "plain"  # "mask": apps are given masked sums only

    @property
    def accepted(self) -> frozenset[TenantId]:
        """Tenants that agreed."""
        return frozenset(t for t, a in self.members.items() if a is Acceptance.ACCEPTED)
