"""Federations: made by one tenant, agreed to by each."""

from __future__ import annotations

from coordinator.api import resources, views
from coordinator.api import schemas as s
from coordinator.api import schemas_federations as sf
from coordinator.api.caller import Authenticated
from coordinator.api.pages import Paging, cut
from coordinator.api.routes.parts import FederationPath, router

ROUTER = router("federations")


@ROUTER.post("/federations", operation_id="federations_create", status_code=201)
async def create(body: sf.FederationIn, caller: Authenticated) -> sf.FederationOut:
    """Make a federation of your tenant and invite others."""
    owner = caller.tenant(None)
    caller.require("federation::create", resources.tenant(owner))
    made = await caller.services.federations.create(
        owner,
        body.id,
        body.title,
        body.tenants,
        individual_replies=body.individual_replies,
        minimum_mode=body.minimum_mode,
    )
    return views.federation(made)


@ROUTER.get("/federations", operation_id="federations_list")
async def list_(caller: Authenticated, paging: Paging) -> s.Page[sf.FederationOut]:
    """List the federations your tenant is in or invited to."""
    every = await caller.services.federations.list_visible(caller.principal)
    seen = caller.seen("federation::read", every, resources.federation)
    page, token = cut(seen, lambda f: (f.id,), paging)
    return s.Page(items=[views.federation(f) for f in page], next_page_token=token)


@ROUTER.get("/federations/{federation}", operation_id="federations_get")
async def get(federation: FederationPath, caller: Authenticated) -> sf.FederationOut:
    """Return a federation and where each tenant stands."""
    record = await caller.services.federations.get_visible(caller.principal, federation)
    caller.require("federation::read", resources.federation(record))
    return views.federation(record)


@ROUTER.post("/federations/{federation}:invite", operation_id="federations_invite")
async def invite(federation: FederationPath, body: sf.InviteIn, caller: Authenticated) -> sf.FederationOut:
    """Invite more tenants."""
    record = await caller.services.federations.get_visible(caller.principal, federation)
    caller.require("federation::invite", resources.federation(record))
    return views.federation(await caller.services.federations.invite(federation, body.tenants))


@ROUTER.post("/federations/{federation}:change", operation_id="federations_change")
async def change(federation: FederationPath, body: sf.FederationChangeIn, caller: Authenticated) -> sf.FederationOut:
    """Say anew whether apps may see replies one by one; where they may from now on, the other members accept again."""
    record = await caller.services.federations.get_visible(caller.principal, federation)
    caller.require("federation::change", resources.federation(record))
    return views.federation(await caller.services.federations.change(federation, body.individual_replies))


@ROUTER.post("/federations/{federation}:accept", operation_id="federations_accept")
async def accept(
    federation: FederationPath, caller: Authenticated, body: sf.MembershipIn | None = None
) -> sf.FederationOut:
    """Agree, for your tenant; agreeing twice is agreeing once."""
    record = await caller.services.federations.get_visible(caller.principal, federation)
    tenant = caller.tenant(body.tenant if body else None)
    caller.require("federation::accept", resources.federation(record), {"tenant": tenant})
    return views.federation(await caller.services.federations.accept(federation, tenant))


@ROUTER.post("/federations/{federation}:leave", operation_id="federations_leave")
async def leave(
    federation: FederationPath, caller: Authenticated, body: sf.MembershipIn | None = None
) -> sf.FederationOut:
    """Leave or decline, for your tenant."""
    record = await caller.services.federations.get_visible(caller.principal, federation)
    tenant = caller.tenant(body.tenant if body else None)
    caller.require("federation::leave", resources.federation(record), {"tenant": tenant})
    return views.federation(await caller.services.federations.leave(federation, tenant))
