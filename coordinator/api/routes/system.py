"""Is it up, who am I, and the door for nodes that have no certificate yet."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from common.errors import PlatformError
from coordinator.api import schemas as s
from coordinator.api.caller import Authenticated, Behind, Limits
from coordinator.api.rates import limit_by_address
from coordinator.api.resources import SYSTEM
from coordinator.api.routes.parts import refusals, router

PROBES = APIRouter(tags=["system"], responses=refusals())
ROUTER = router("system")
_READY_S = 2.0
Unhurried = Annotated[None, Depends(limit_by_address)]


@PROBES.get("/healthz", operation_id="healthz")
async def healthz() -> s.HealthOut:
    """Say that the process answers."""
    return s.HealthOut(status="ok")


@PROBES.get("/readyz", operation_id="readyz", responses={503: {"model": s.HealthOut}})
async def readyz(services: Behind, response: Response) -> s.HealthOut:
    """Say whether requests can be served: the store answers."""
    try:
        async with asyncio.timeout(_READY_S):
            await services.store.read(lambda _: None)
    except (PlatformError, TimeoutError):
        response.status_code = 503
        return s.HealthOut(status="not ready", store="does not answer")
    return s.HealthOut(status="ready", store="ok")


@ROUTER.get("/ca", operation_id="ca_get")
async def ca_get(services: Behind, _: Unhurried) -> s.CaOut:
    """Return the root certificate; compare its hash with the one in your join token before you trust it."""
    ca = services.ca
    return s.CaOut(pem=ca.pem, sha256=ca.sha256, manifest_keys=ca.manifest_keys, time=services.clock.now())


@ROUTER.post("/join", operation_id="join", status_code=201)
async def join(body: s.JoinIn, services: Behind, _: Unhurried) -> s.JoinOut:
    """Make a node out of a join token and a signing request.  The token is the credential."""
    reply = await services.enrolment.join(body.token, body.csr.encode(), body.name)
    return s.JoinOut(
        node=reply.node,
        tenant=reply.tenant,
        name=reply.name,
        certificate=reply.certificate.decode(),
        ca=reply.ca.decode(),
        link=reply.link,
        manifest_keys=dict(reply.manifest_keys),
        time=reply.time,
    )


@ROUTER.get("/whoami", operation_id="whoami")
async def whoami(caller: Authenticated, limits: Limits) -> s.WhoamiOut:
    """Return who the bearer token speaks for."""
    caller.require("system::read", SYSTEM)
    who = caller.principal
    return s.WhoamiOut(
        issuer=who.issuer,
        subject=who.subject,
        tenants=sorted(who.tenants),
        roles=sorted(str(role) for role in who.roles),
        release=limits.release,
    )
