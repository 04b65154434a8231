"""Who calls, and the one way to ask whether they may.

An act that is refused answers 403 to those who may see the thing, and 404 to everybody else: what one may not see is
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from common.errors import BadInput, NotFound
from common.ids import TenantId
from coordinator.api.resources import Sharing
from coordinator.api.services import Services
from coordinator.api.settings import ApiSettings
from coordinator.domain.tenancy import Principal
from policies.engine import Context, denied
from policies.parties import Resource

T = TypeVar("T")
_BEARER = HTTPBearer(auto_error=False, description="An API token: hat1_…", scheme_name="bearer")
_LOOK = {
    "tenant": "tenant::read",
    "node": "node::read",
    "federation": "federation::read",
    "job": "job::read",
    "model": "model::read",
    "deployment": "deployment::read",
    "grant": "grant::read",
    "allowance": "allowance::read",
}


@dataclass(frozen=True)
class Caller:
    """An authenticated caller and the services."""

    principal: Principal
    services: Services

    def require(self, action: str, resource: Resource, context: Context | None = None) -> None:
        """Go on only if the policies allow ``action``.

        Raises:
            PolicyDenied: they do not. NotFound: nor may the caller see the thing.
        """
        verdict = self.services.policies.authorise(self.principal, action, resource, context)
        if verdict.allowed:
            return
        look = _LOOK.get(resource.kind)
        if look == action or (look and not self.may(look, resource)):
            raise NotFound(f"no {resource.kind} {resource.id[:120]!r} that you may see")
        raise denied(action, resource, verdict)

    def may(self, action: str, resource: Resource, context: Context | None = None) -> bool:
        """Say whether the policies allow ``action``."""
        return self.services.policies.authorise(self.principal, action, resource, context).allowed

    def seen(self, action: str, records: Sequence[T], as_resource: Callable[[T], Resource]) -> list[T]:
        """Return those of ``records`` that the caller may read."""
        if not records:
            return []
        things = [as_resource(record) for record in records]
        verdicts = self.services.policies.authorise_each(self.principal, action, things)
        return [record for record, verdict in zip(records, verdicts, strict=True) if verdict.allowed]

    def tenant(self, given: str | None) -> TenantId:
        """Return the tenant meant: the one given, else the caller's only one.

        Raises:
            BadInput: none is given and the caller has several.
        """
        if given is not None:
            return TenantId(given)
        if len(self.principal.tenants) != 1:
            raise BadInput("name a tenant: you speak for " + ", ".join(sorted(self.principal.tenants)))
        return next(iter(self.principal.tenants))

    async def sharing(self) -> Sharing:
        """Return which tenants share which federation now."""
        return await Sharing.read(self.services.store)


def services_of(request: Request) -> Services:
    """Return what ``create_app`` was given."""
    return cast(Services, request.app.state.services)


def settings_of(request: Request) -> ApiSettings:
    """Return the limits ``create_app`` was given."""
    return cast(ApiSettings, request.app.state.settings)


async def _caller(request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Caller:
    services = services_of(request)
    principal = await services.identity.authenticate(bearer.credentials if bearer else "")
    return Caller(principal, services)


Authenticated = Annotated[Caller, Depends(_caller)]
Behind = Annotated[Services, Depends(services_of)]
Limits = Annotated[ApiSettings, Depends(settings_of)]
