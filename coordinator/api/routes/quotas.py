"""Quotas: what sites give tenants, and what each may use at the coordinator."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from common.ids import TenantId
from coordinator.api import resources
from coordinator.api import schemas_quotas as s
from coordinator.api import views_quotas as views
from coordinator.api.caller import Authenticated, Caller
from coordinator.api.pages import PageQuery, Paging, cut
from coordinator.api.preconditions import Precondition
from coordinator.api.routes.parts import SitePath, TenantPath, router
from coordinator.api.schemas import Page, Slug
from coordinator.domain.quotas import Grant

ROUTER = router("quotas")
_GRANT = "/grants/{site}/{tenant}"
_ALLOWANCE = "/allowances/{tenant}"


class GrantsQuery(PageQuery):
    """Which grants."""

    site: Slug | None = None
    tenant: Slug | None = None


@ROUTER.get("/grants", operation_id="grants_list")
async def list_(caller: Authenticated, query: Annotated[GrantsQuery, Query()]) -> Page[s.GrantOut]:
    """List what sites give tenants: at your site, and to your tenant elsewhere."""
    site, tenant = (None if name is None else TenantId(name) for name in (query.site, query.tenant))
    every = await caller.services.grants.every(site, tenant)
    seen = caller.seen("grant::read", every, lambda g: resources.grant(g.site, g.tenant))
    page, token = cut(seen, lambda g: (g.site, g.tenant), query)
    return Page(items=[_shown(g, caller, []) for g in page], next_page_token=token)


@ROUTER.get(_GRANT, operation_id="grants_get")
async def get(site: SitePath, tenant: TenantPath, caller: Authenticated, response: Response) -> s.GrantOut:
    """Return what a site gives a tenant, and what that holds there now."""
    caller.require("grant::read", resources.grant(site, tenant))
    record = await caller.services.grants.get(TenantId(site), TenantId(tenant))
    response.headers["ETag"] = views.etag(record)
    return _shown(record, caller, await _warnings(TenantId(site), caller))


@ROUTER.put(_GRANT, operation_id="grants_set")
async def set_(
    site: SitePath,
    tenant: TenantPath,
    body: s.GrantIn,
    caller: Authenticated,
    precondition: Precondition,
    response: Response,
) -> s.GrantOut:
    """Give a tenant these terms at your site, in place of those it has."""
    caller.require("grant::set", resources.grant(site, tenant))
    record = await caller.services.grants.set(
        TenantId(site), TenantId(tenant), views.terms(body), caller.principal.subject, precondition
    )
    response.headers["ETag"] = views.etag(record)
    return _shown(record, caller, await _warnings(TenantId(site), caller))


@ROUTER.delete(_GRANT, operation_id="grants_remove", status_code=204)
async def remove(site: SitePath, tenant: TenantPath, caller: Authenticated, precondition: Precondition) -> None:
    """Take back what your site gives a tenant: nothing guaranteed, no limit, weight 1."""
    caller.require("grant::set", resources.grant(site, tenant))
    await caller.services.grants.remove(TenantId(site), TenantId(tenant), precondition)


@ROUTER.get("/allowances", operation_id="allowances_list")
async def list_allowances(caller: Authenticated, paging: Paging) -> Page[s.AllowanceOut]:
    """List what tenants may use at the coordinator, and use."""
    every = [tenant.id for tenant in await caller.services.identity.tenants()]
    seen = caller.seen("allowance::read", every, resources.allowance)
    page, token = cut(seen, lambda t: (t,), paging)
    uses = await caller.services.allowances.use(page)
    items = [views.allowance(use, tenant) for use, tenant in zip(uses, page, strict=True)]
    return Page(items=items, next_page_token=token)


@ROUTER.get(_ALLOWANCE, operation_id="allowances_get")
async def get_allowance(tenant: TenantPath, caller: Authenticated, response: Response) -> s.AllowanceOut:
    """Return what a tenant may use at the coordinator, and uses."""
    caller.require("allowance::read", resources.allowance(tenant))
    return await _allowance(TenantId(tenant), caller, response)


@ROUTER.put(_ALLOWANCE, operation_id="allowances_set")
async def set_allowance(
    tenant: TenantPath, body: s.AllowanceIn, caller: Authenticated, precondition: Precondition, response: Response
) -> s.AllowanceOut:
    """Let a tenant use so much at the coordinator."""
    caller.require("allowance::set", resources.allowance(tenant))
    await caller.services.allowances.set(
        TenantId(tenant),
        body.running_jobs,
        body.queued_jobs,
        body.stored_bytes,
        caller.principal.subject,
        precondition,
    )
    return await _allowance(TenantId(tenant), caller, response)


@ROUTER.delete(_ALLOWANCE, operation_id="allowances_remove")
async def remove_allowance(
    tenant: TenantPath, caller: Authenticated, precondition: Precondition, response: Response
) -> s.AllowanceOut:
    """Let the coordinator's default hold for a tenant again."""
    caller.require("allowance::set", resources.allowance(tenant))
    await caller.services.allowances.remove(TenantId(tenant), precondition)
    return await _allowance(TenantId(tenant), caller, response)


async def _allowance(tenant: TenantId, caller: Caller, response: Response) -> s.AllowanceOut:
    use = await caller.services.allowances.get(tenant)
    response.headers["ETag"] = views.etag(use.allowance)
    return views.allowance(use, tenant)


def _shown(record: Grant, caller: Caller, warnings: list[str]) -> s.GrantOut:
    return views.grant(record, caller.services.grants.held(record.site, record.tenant), warnings)


async def _warnings(site: TenantId, caller: Caller) -> list[str]:
    """Return what is promised beyond the site's nodes; to others it would tell what third tenants are given."""
    return await caller.services.grants.warnings(site) if site in caller.principal.tenants else []
