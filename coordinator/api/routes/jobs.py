"""Apps and jobs: taken in, planned, submitted, watched, cancelled."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from common.errors import BadInput, NotFound
from common.ids import AppDigest, FederationId, JobId
from coordinator.api import resources, streams, views_jobs
from coordinator.api import schemas_jobs as s
from coordinator.api.caller import Authenticated, Caller, Limits
from coordinator.api.pages import PageQuery, Paging, cut, read_token, write_token
from coordinator.api.routes.parts import JobPath, router
from coordinator.api.schemas import SLUG, Page
from coordinator.api.uploads import uploads_of
from coordinator.domain.jobs import Job, JobState, RosterEntry
from coordinator.domain.tenancy import Federation
from coordinator.services.nodelogs import log_path

ROUTER = router("jobs")
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,200}$", max_length=200)]
_NAME = SLUG.strip("^$")
Source = Annotated[
    str,
    Query(
        pattern=f"^(?:{_NAME}/)?{_NAME}$",
        max_length=81,
        description="`server`, or a node: its name, or `tenant/name` where two have the same",
    ),
]
LastEventId = Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$", max_length=18)]


class JobsQuery(PageQuery):
    """Which jobs."""

    state: JobState | None = None


class EventsQuery(PageQuery):
    """Which events."""

    after: Annotated[int, Field(ge=0, le=2**62)] = 0


@ROUTER.post(
    "/apps",
    operation_id="apps_create",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/zip": {}}}},
)
async def create_app_archive(request: Request, caller: Authenticated) -> s.AppOut:
    """Take in an app's archive; the same app twice is one app."""
    tenant = caller.tenant(None)
    caller.require("app::create", resources.tenant(tenant))
    with uploads_of(request).one(tenant):
        archive = await request.body()
        if not archive:
            raise BadInput("the body is empty; send the app's archive as application/zip")
        digest, name = await caller.services.submissions.add_app(caller.principal, archive)
    return s.AppOut(app_digest=digest, name=name, size=len(archive))


@ROUTER.post("/jobs:plan", operation_id="jobs_plan")
async def plan(body: s.PlanIn, caller: Authenticated) -> s.PlanOut:
    """Say where a job could run, and every reason against, without submitting it."""
    federation = await _federation(body.federation, caller)
    tenant = caller.tenant(body.tenant)
    caller.require("job::plan", resources.federation(federation), {"tenant": tenant})
    made = await caller.services.submissions.plan(
        caller.principal, federation.id, AppDigest(body.app), dict(body.run_config)
    )
    outlook = await caller.services.foresight.of(made, tenant) if made.placeable else None
    return views_jobs.plan(made, caller.services.link, outlook)


@ROUTER.post("/jobs", operation_id="jobs_create", status_code=201)
async def create(
    body: s.JobIn, caller: Authenticated, response: Response, idempotency_key: IdempotencyKey = None
) -> s.JobOut:
    """Submit a job; the same ``Idempotency-Key`` never makes two."""
    federation = await _federation(body.federation, caller)
    tenant = caller.tenant(body.tenant)
    caller.require("job::submit", resources.federation(federation), {"tenant": tenant})
    job = await caller.services.submissions.submit(
        caller.principal,
        tenant,
        federation.id,
        AppDigest(body.app),
        dict(body.run_config),
        idempotency_key or secrets.token_hex(16),
        body.seed,
    )
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return views_jobs.job(job)


@ROUTER.get("/jobs", operation_id="jobs_list")
async def list_(caller: Authenticated, query: Annotated[JobsQuery, Query()]) -> Page[s.JobOut]:
    """List jobs of your tenant and your federations, newest first."""
    sharing, who = await caller.sharing(), caller.principal
    after = _job_cursor(query.page_token)
    states = frozenset({query.state}) if query.state else None
    tenants = None if who.is_platform_admin else who.tenants
    federations = None if who.is_platform_admin else sharing.joined(who.tenants)
    found = await caller.services.store.read(
        lambda tx: list(
            tx.jobs.list(
                tenants=tenants, federations=federations, states=states, after=after, limit=query.page_size + 1
            )
        )
    )
    page = found[: query.page_size]
    token = write_token((page[-1].created_at, page[-1].id)) if len(found) > len(page) else None
    seen = caller.seen("job::read", page, lambda j: resources.job(j, sharing))
    return Page(items=[views_jobs.job(j) for j in seen], next_page_token=token)


@ROUTER.get("/jobs/{job}", operation_id="jobs_get")
async def get(job: JobPath, caller: Authenticated) -> s.JobDetailOut:
    """Return a job: its state, and what it waits for."""
    record = await _readable(job, caller)
    return views_jobs.detail(record, await caller.services.queue.of_job(record.id))


@ROUTER.post("/jobs/{job}:cancel", operation_id="jobs_cancel")
async def cancel(job: JobPath, caller: Authenticated) -> s.JobOut:
    """End a job without a result."""
    record = await _stored(job, caller)
    caller.require("job::cancel", resources.job(record, await caller.sharing()))
    await caller.services.desk.cancel(record.id, caller.principal.subject)
    return views_jobs.job(await _stored(job, caller))


@ROUTER.get(
    "/jobs/{job}/events",
    operation_id="jobs_events",
    response_model=Page[s.JobEventOut],
    responses={200: {"content": {streams.EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def events(
    job: JobPath,
    caller: Authenticated,
    limits: Limits,
    query: Annotated[EventsQuery, Query()],
    request: Request,
    last_event_id: LastEventId = None,
) -> Response | Page[s.JobEventOut]:
    """Return a job's log in pages, or as server-sent events for ``Accept: text/event-stream``."""
    record = await _readable(job, caller)
    if streams.EVENT_STREAM in request.headers.get("accept", ""):
        after = int(last_event_id) if last_event_id else query.after
        stream = streams.event_stream(_follow(record.id, after, caller), limits, caller.services.clock)
        return StreamingResponse(stream, media_type=streams.EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
    after = _event_cursor(query)
    found = await caller.services.store.read(lambda tx: list(tx.jobs.log_since(record.id, after, query.page_size + 1)))
    page = found[: query.page_size]
    token = write_token((page[-1].seq,)) if len(found) > len(page) else None
    return Page(items=[views_jobs.event(e) for e in page], next_page_token=token)


@ROUTER.get("/jobs/{job}/rounds", operation_id="jobs_rounds")
async def rounds(job: JobPath, caller: Authenticated, paging: Paging) -> Page[s.RoundOut]:
    """Return the job's exchanges with its nodes, in order."""
    record = await _readable(job, caller)
    names = {str(entry.node): entry.name for entry in record.roster}
    every = await caller.services.store.read(lambda tx: list(tx.jobs.exchanges(record.id)))
    page, token = cut(every, lambda e: (e.seq,), paging)
    return Page(items=[views_jobs.round_(e, names) for e in page], next_page_token=token)


@ROUTER.get(
    "/jobs/{job}/logs",
    operation_id="jobs_logs",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def logs(job: JobPath, caller: Authenticated, limits: Limits, source: Source = "server") -> Response:
    """Return what the app printed at the server, or at a node that shares its logs; the newest part if it is long."""
    record, folder = await _readable(job, caller), caller.services.jobs_dir
    if source == "server":
        caller.require("job::read_log", resources.log(record, None))
        return await streams.tail_response(folder / record.id / "server.log", limits.log_bytes)
    node = _roster_entry(record, source)
    caller.require("job::read_log", resources.log(record, node))
    return await streams.tail_response(log_path(folder, record.id, node), limits.log_bytes)


def _roster_entry(record: Job, source: str) -> RosterEntry:
    """Return the node of ``record`` that ``source`` names; whoever may read the job sees its roster."""
    found = [entry for entry in record.roster if source in {entry.name, f"{entry.tenant}/{entry.name}"}]
    if len(found) > 1:
        names = ", ".join(sorted(f"{entry.tenant}/{entry.name}" for entry in found))
        raise BadInput(f"job {record.id} has several nodes {source!r}: ask for one of {names}")
    if not found:
        raise NotFound(f"job {record.id} has no node {source!r}")
    return found[0]


async def _federation(federation: str, caller: Caller) -> Federation:
    return await caller.services.federations.get_visible(caller.principal, FederationId(federation))


async def _stored(job: str, caller: Caller) -> Job:
    record = await caller.services.store.read(lambda tx: tx.jobs.get(JobId(job)))
    if record is None:
        raise NotFound(f"no job {job!r} that you may see")
    return record


async def _readable(job: str, caller: Caller) -> Job:
    record = await _stored(job, caller)
    caller.require("job::read", resources.job(record, await caller.sharing()))
    return record


async def _follow(job: JobId, after: int, caller: Caller) -> AsyncIterator[s.JobEventOut]:
    async for entry in caller.services.feed.follow(job, after):
        yield views_jobs.event(entry)


def _job_cursor(token: str | None) -> tuple[float, str] | None:
    if not token:
        return None
    key = read_token(token)
    if len(key) != 2 or isinstance(key[0], str) or not isinstance(key[1], str) or not math.isfinite(key[0]):
        raise BadInput("page_token is none that this list gave")
    return float(key[0]), key[1]


def _event_cursor(query: EventsQuery) -> int:
    if not query.page_token:
        return query.after
    key = read_token(query.page_token)
    if len(key) != 1 or not isinstance(key[0], int) or not 0 <= key[0] <= 2**62:
        raise BadInput("page_token is none that this list gave")
    return key[0]
