"""Who asks and what it is about, as Cedar entities."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

TYPES = {
    "system": "System",
    "tenant": "Tenant",
    "token": "Token",
    "node": "Node",
    "federation": "Federation",
    "app": "App",
    "job": "Job",
    "log": "Log",
    "model": "Model",
    "deployment": "Deployment",
    "grant": "Grant",
    "allowance": "Allowance",
    "object": "Object",
    "task": "Task",
}


class UserLike(Protocol):
    """A person or program with a bearer token (``coordinator.domain.tenancy.Principal`` is one)."""

    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def tenants(self) -> AbstractSet[str]: ...
    @property
    def roles(self) -> AbstractSet[str]: ...


@dataclass(frozen=True)
class NodePrincipal:
    """A node: what its certificate says, and the standing it has now."""

    node: str
    tenant: str
    status: str = "active"  # "active" | "revoked" | "quarantined"


PrincipalLike = UserLike | NodePrincipal


@dataclass(frozen=True)
class Resource:
    """What an act is about.

    ``attrs`` are the further attributes the schema names for this kind: a federation's ``accepted``, a node's
    ``status``, ``for_node`` of an object or task.
    """

    kind: str
    id: str
    tenant: str
    shared_with: AbstractSet[str] = frozenset()  # tenants that may see it through a federation
    attrs: Mapping[str, Any] = field(default_factory=dict)


def principal_entity(principal: PrincipalLike) -> dict[str, Any]:
    """Return ``principal`` as a Cedar entity."""
    if isinstance(principal, NodePrincipal):
        attrs = {"node": principal.node, "tenant": principal.tenant, "shared_with": [], "status": principal.status}
        return _entity("Node", principal.node, attrs)
    return _entity(
        "User",
        f"{principal.issuer}/{principal.subject}",
        {
            "subject": principal.subject,
            "tenants": sorted(principal.tenants),
            "roles": sorted(str(r) for r in principal.roles),
        },
    )


def resource_entity(resource: Resource) -> dict[str, Any]:
    """Return ``resource`` as a Cedar entity.

    Raises:
        ValueError: its kind is not in the schema.
    """
    if resource.kind not in TYPES:
        raise ValueError(f"no such kind of resource: {resource.kind!r}")
    attrs: dict[str, Any] = {"tenant": resource.tenant, "shared_with": sorted(resource.shared_with)}
    if resource.kind == "node":
        attrs |= {"node": resource.id, "status": "active"}
    attrs |= {k: sorted(v) if isinstance(v, (set, frozenset)) else v for k, v in resource.attrs.items()}
    return _entity(TYPES[resource.kind], resource.id, attrs)


def _entity(kind: str, id_: str, attrs: dict[str, Any]) -> dict[str, Any]:
    return {"uid": {"type": kind, "id": id_}, "attrs": attrs, "parents": []}
