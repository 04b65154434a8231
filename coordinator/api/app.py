"""The REST application: routes, limits, refusals and the description of all of it."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from common.errors import PlatformError
from coordinator.api import problems
from coordinator.api.middleware import BodyLimits, SecurityHeaders
from coordinator.api.openapi import describe_refusals
from coordinator.api.rates import Buckets
from coordinator.api.routes import capacity, federations, jobs, models, nodes, queue, quotas, system, tenants, versions
from coordinator.api.routes.parts import PREFIX
from coordinator.api.services import Services
from coordinator.api.settings import ApiSettings
from coordinator.api.uploads import Uploads

_ROUTERS = (
    system.PROBES,
    system.ROUTER,
    tenants.ROUTER,
    nodes.ROUTER,
    federations.ROUTER,
    quotas.ROUTER,
    capacity.ROUTER,
    jobs.ROUTER,
    queue.ROUTER,
    models.ROUTER,
    versions.ROUTER,
)


def create_app(services: Services, settings: ApiSettings | None = None) -> FastAPI:
    """Return the application over ``services``.

    Args:
        services: What the routes call.
        settings: Limits; the defaults if None.
    """
    limits = settings or ApiSettings()
    app = FastAPI(
        title="Hansa",
        version="1",
        summary="An operating system for federated AI.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.settings = limits
    app.state.uploads = Uploads(limits.uploads_at_once)
    app.state.buckets = Buckets(limits.joins_per_minute)
    # Flat, so that a 405 can name the methods of every route that matches its path.
    app.router.routes.extend(route for router in _ROUTERS for route in router.routes)
    app.add_exception_handler(PlatformError, problems.on_platform_error)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(Exception, problems.on_bug)
    app.add_middleware(BodyLimits, settings=limits)
    app.add_middleware(SecurityHeaders)
    describe_refusals(app)
    return app
