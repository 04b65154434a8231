"""Tenants, their API tokens, and tokens for joining nodes."""

from __future__ import annotations

import shlex

from fastapi import Request

from common.clock import iso
from common.errors import NotFound
from common.ids import TenantId
from coordinator.api import resources, views
from coordinator.api import schemas as s
from coordinator.api.caller import Authenticated, Caller, Limits
from coordinator.api.pages import Paging, cut
from coordinator.api.routes.parts import TenantPath, TokenPath, router
from coordinator.domain.tenancy import PLATFORM, Role, Tenant
from policies.parties import Resource

ROUTER = router("tenants")


@ROUTER.post("/tenants", operation_id="tenants_create", status_code=201)
async def create(body: s.TenantIn, caller: Authenticated) -> s.TenantOut:
    """Create a tenant."""
    caller.require("tenant::create", resources.SYSTEM)
    return views.tenant(await caller.services.identity.create_tenant(body.id, body.title))


@ROUTER.get("/tenants", operation_id="tenants_list")
async def list_(caller: Authenticated, paging: Paging) -> s.Page[s.TenantOut]:
    """List the tenants you may see."""
    every = await caller.services.identity.tenants()
    seen = caller.seen("tenant::read", every, lambda t: resources.tenant(t.id))
    page, token = cut(seen, lambda t: (t.id,), paging)
    return s.Page(items=[views.tenant(t) for t in page], next_page_token=token)


@ROUTER.get("/tenants/{tenant}", operation_id="tenants_get")
async def get(tenant: TenantPath, caller: Authenticated) -> s.TenantOut:
    """Return a tenant."""
    caller.require("tenant::read", resources.tenant(tenant))
    return views.tenant(await _existing(tenant, caller))


@ROUTER.post("/tenants/{tenant}/tokens", operation_id="tokens_create", status_code=201)
async def create_token(tenant: TenantPath, body: s.TokenIn, caller: Authenticated) -> s.NewTokenOut:
    """Make an API token; its text is shown this once."""
    caller.require("token::create", resources.tenant(tenant), {"role": body.role})
    text, token = await caller.services.identity.create_token(
        TenantId(tenant), Role(body.role), body.subject, body.ttl_s
    )
    return s.NewTokenOut(**views.token(token).model_dump(), token=text)


@ROUTER.get("/tenants/{tenant}/tokens", operation_id="tokens_list")
async def list_tokens(tenant: TenantPath, caller: Authenticated, paging: Paging) -> s.Page[s.TokenOut]:
    """List a tenant's API tokens, without their secrets."""
    caller.require("token::read", resources.tenant(tenant))
    await _existing(tenant, caller)
    tokens = await caller.services.identity.tokens(TenantId(tenant))
    page, more = cut(tokens, lambda t: (t.created_at, t.id), paging)
    return s.Page(items=[views.token(t) for t in page], next_page_token=more)


@ROUTER.delete("/tenants/{tenant}/tokens/{token}", operation_id="tokens_revoke")
async def revoke_token(tenant: TenantPath, token: TokenPath, caller: Authenticated) -> s.TokenOut:
    """Revoke an API token; revoking twice is revoking once."""
    # A tenant one may not see has no tokens either; the token itself is judged by whose tenant is in the path.
    if not caller.may("tenant::read", resources.tenant(tenant)):
        raise NotFound(f"no tenant {tenant!r} that you may see")
    caller.require("token::revoke", Resource("token", token, tenant))
    return views.token(await caller.services.identity.revoke_token(TenantId(tenant), token))


@ROUTER.post("/tenants/{tenant}/join-tokens", operation_id="join_tokens_create", status_code=201)
async def create_join_token(
    tenant: TenantPath, body: s.JoinTokenIn, caller: Authenticated, request: Request, limits: Limits
) -> s.JoinTokenOut:
    """Make a one-use token with which a node can join; its text is shown this once."""
    caller.require("join_token::create", resources.tenant(tenant))
    services = caller.services
    text, record = await services.identity.create_join_token(
        TenantId(tenant), body.node_name, body.ttl_s, services.ca.sha256
    )
    url = limits.public_url or str(request.base_url).rstrip("/")
    return s.JoinTokenOut(
        id=record.id,
        token=text,
        tenant=record.tenant,
        node_name=record.node_name,
        expires_at=iso(record.expires_at),
        command=f"hansa node join {shlex.quote(url)} --token {shlex.quote(text)}",
    )


async def _existing(tenant: str, caller: Caller) -> Tenant:
    found = await caller.services.store.read(lambda tx: tx.tenants.get(TenantId(tenant)))
    if found is None and tenant != PLATFORM:
        raise NotFound(f"no tenant {tenant!r} that you may see")
    return found or Tenant(PLATFORM, "", 0.0)
