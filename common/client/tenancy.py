"""Calls about who is who: tenants, tokens, federations, nodes."""

from __future__ import annotations

from collections.abc import Sequence

from common.client.http import Http, segment
from common.client.records import Federation, JoinToken, NewToken, Tenant, Token
from common.client.records_nodes import Node


class Tenants:
    """``/tenants``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, tenant: str, title: str = "") -> Tenant:
        """Create a tenant."""
        return self._http.call(Tenant, "POST", "/tenants", {"id": tenant, "title": title})

    def list(self) -> list[Tenant]:
        """Return the tenants the caller may see."""
        return list(self._http.pages(Tenant, "/tenants"))

    def get(self, tenant: str) -> Tenant:
        """Return one tenant."""
        return self._http.call(Tenant, "GET", f"/tenants/{segment(tenant)}")

    def create_token(self, tenant: str, role: str, subject: str, ttl_s: int | None = 90 * 86400) -> NewToken:
        """Create an API token; its text is shown this once."""
        body = {"role": role, "subject": subject, "ttl_s": ttl_s}
        return self._http.call(NewToken, "POST", f"/tenants/{segment(tenant)}/tokens", body)

    def tokens(self, tenant: str) -> Sequence[Token]:
        """Return the tenant's API tokens, without their secrets."""
        return tuple(self._http.pages(Token, f"/tenants/{segment(tenant)}/tokens"))

    def revoke_token(self, tenant: str, token_id: str) -> None:
        """Revoke an API token."""
        self._http.call(dict, "DELETE", f"/tenants/{segment(tenant)}/tokens/{segment(token_id)}")

    def create_join_token(self, tenant: str, node_name: str = "", ttl_s: int = 3600) -> JoinToken:
        """Create a one-use permission for a node to join."""
        body = {"node_name": node_name, "ttl_s": ttl_s}
        return self._http.call(JoinToken, "POST", f"/tenants/{segment(tenant)}/join-tokens", body)


class Federations:
    """``/federations``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        federation: str,
        tenants: Sequence[str] = (),
        *,
        title: str = "",
        individual_replies: bool = False,
        minimum_mode: str = "plain",
    ) -> Federation:
        """Create a federation and invite ``tenants``."""
        body = {
            "id": federation,
            "title": title,
            "tenants": [*tenants],
            "individual_replies": individual_replies,
            "minimum_mode": minimum_mode,
        }
        return self._http.call(Federation, "POST", "/federations", body)

    def list(self) -> list[Federation]:
        """Return the federations the caller may see."""
        return list(self._http.pages(Federation, "/federations"))

    def get(self, federation: str) -> Federation:
        """Return one federation."""
        return self._http.call(Federation, "GET", f"/federations/{segment(federation)}")

    def invite(self, federation: str, tenants: Sequence[str]) -> Federation:
        """Invite more tenants."""
        return self._http.call(
            Federation, "POST", f"/federations/{segment(federation)}:invite", {"tenants": [*tenants]}
        )

    def change(self, federation: str, *, individual_replies: bool) -> Federation:
        """Let apps see replies one by one, or no longer; allowing it, the other members must accept again."""
        body = {"individual_replies": individual_replies}
        return self._http.call(Federation, "POST", f"/federations/{segment(federation)}:change", body)

    def accept(self, federation: str, tenant: str | None = None) -> Federation:
        """Accept for ``tenant``; None = the token's only one."""
        return self._http.call(Federation, "POST", f"/federations/{segment(federation)}:accept", {"tenant": tenant})

    def leave(self, federation: str, tenant: str | None = None) -> Federation:
        """Leave with ``tenant``; None = the token's only one."""
        return self._http.call(Federation, "POST", f"/federations/{segment(federation)}:leave", {"tenant": tenant})


class Nodes:
    """``/nodes``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> list[Node]:
        """Return the nodes the caller may see."""
        return list(self._http.pages(Node, "/nodes"))

    def get(self, node: str) -> Node:
        """Return one node."""
        return self._http.call(Node, "GET", f"/nodes/{segment(node)}")

    def revoke(self, node: str) -> Node:
        """Revoke a node for good: its certificate is refused from now on."""
        return self._http.call(Node, "POST", f"/nodes/{segment(node)}:revoke")
