"""The first and last acts of a job's run: its folder, its start frame, its versions, its cleaning up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import bundle
from common.errors import AppFailed, BadInput, PlatformError
from common.ids import Digest, NodeId
from common.manifest import MAX_MANIFEST, read_unverified
from common.sandbox import Child, ChildSpec, launch
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import UNFINISHED, Job, JobState
from coordinator.domain.models import ModelVersion
from coordinator.ports.store import Tx
from coordinator.services import offers
from coordinator.services.around import Around
from coordinator.services.booked import all_or_none
from coordinator.services.calls import Call
from coordinator.services.exchange import LiveExchange
from coordinator.services.finished import Finished
from coordinator.services.journal import Journal
from coordinator.services.objects import HeldObject, copy_out, made_whole

_SERVER = 1  # Flower's id of the server's side


def folder_of(around: Around, job: Job) -> Path:
    """Return the job's folder."""
    return around.settings.jobs_dir / job.id


def python_of(around: Around, job: Job) -> str:
    """Return the interpreter of the job's environment.

    Raises:
        BadInput: no such environment here.
    """
    try:
        return around.settings.environments[job.spec.environment]
    except KeyError:
        raise BadInput(f"the coordinator has no environment {job.spec.environment!r}") from None


async def unpack_app(around: Around, job: Job) -> None:
    """Put the app's files into the job's folder, unless they are there.

    Raises:
        AppFailed: the archive is not the app that was submitted.
    """
    target = folder_of(around, job) / "app"
    if target.is_dir():
        return
    data = await around.blobs.get_bytes(job.tenant, job.bundle, limit=bundle.LIMITS.archive_bytes)
    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
    digest = await asyncio.to_thread(bundle.unpack, data, target)
    if digest != job.app:
        raise AppFailed(f"the app's archive holds {digest}, not {job.app}", reason="component_not_found")


def start_frame(around: Around, job: Job, *, individual: bool) -> dict[str, Any]:
    """Return the first frame to the ServerApp's child."""
    return {
        "op": "start", "role": "server", "app_dir": str(folder_of(around, job) / "app"),
        "component": job.spec.serverapp, "run_id": job.run_id, "node_id": _SERVER, "node_config": {},
        "run_config": dict(job.spec.config), "seed": job.seed, "aggregation": job.spec.aggregation,
        "individual": individual,
    }  # fmt: skip


async def launch_app(around: Around, job: Job) -> Child:
    """Start the process that runs the job's ServerApp; what it prints goes to the job's log.

    Raises:
        SandboxUnavailable: this host cannot keep it apart as the operator asked.
    """
    spec = ChildSpec(
        role="ServerApp",
        python=python_of(around, job),
        app_dir=folder_of(around, job) / "app",
        limits=around.settings.limits,
        log_path=folder_of(around, job) / "server.log",
    )
    return await launch(spec, around.settings.sandbox)


async def publish(around: Around, job: Job, round_: int, held: HeldObject, included: int) -> ModelVersion:
    """Make the object a version of the job's model; the same one if it is one already."""
    whole = await asyncio.to_thread(made_whole, held, around.blobs.work_dir())
    try:
        return await _publish(around, job, round_, whole, included)
    finally:
        whole.close()


async def _publish(around: Around, job: Job, round_: int, held: HeldObject, included: int) -> ModelVersion:
    async with all_or_none(around.blobs):
        if not await around.blobs.exists(job.tenant, held.digest):
            path = await asyncio.to_thread(copy_out, held, around.blobs.work_dir())
            await around.blobs.put_file(job.tenant, path, held.digest)
        blob = await around.blobs.open(job.tenant, held.digest)
        return await around.publisher.publish(job, round_, blob, held.digest, held.size, job.metrics, included)


async def checkpoint(around: Around, job: Job, call: Call, held: Sequence[HeldObject], journal: Journal) -> None:
    """Publish the model of the round before, which a round's broadcast carries, if one is due."""
    every, done = job.spec.checkpoint_every, call.round - 1
    if not every or done < 1 or done % every or len(held) != 1:
        return
    try:
        await publish(around, job, done, held[0], journal.last_included or len(job.roster))
    except PlatformError as error:
        around.feed.note(job.id, "checkpoint_failed", round=done, code=error.code, message=error.detail)


async def keep(around: Around, job: Job, told: Finished | None, lives: Iterable[LiveExchange], journal: Journal) -> str:
    """Publish what a failing job has trained, under no alias; return what there is to say of it.

    It is what the app told of last, else the model that goes round in the exchange that could not be finished.
    """
    if job.state is JobState.PUBLISHING:  # it is that which failed
        return ""
    found = _told(told, job) or next((model for live in lives if (model := _broadcast(live, journal))), None)
    if found is None:
        return ""
    round_, held = found
    metrics = {**job.metrics, **(told.metrics if told is not None else {})}
    nameless = replace(job, metrics=metrics, spec=replace(job.spec, alias=""))
    try:
        version = await publish(around, nameless, round_, held, journal.last_included or len(job.roster))
    except (PlatformError, OSError) as error:
        code = error.code if isinstance(error, PlatformError) else "internal_error"
        around.feed.note(job.id, "model_lost", code=code, message=str(error)[:1000])
        return f"; the model of round {round_} could not be kept: {str(error)[:300]}"
    return f"; the model of round {round_} is kept: {version.tenant}/{version.model}:{version.version}"


def _told(told: Finished | None, job: Job) -> tuple[int, HeldObject] | None:
    return None if told is None or told.result is None else (told.round or job.round, told.result)


def _broadcast(live: LiveExchange, journal: Journal) -> tuple[int, HeldObject] | None:
    """Return the model that an exchange sends out, and the round it is of, if training has made it."""
    call, held = live.call, live.held
    if live.over or len(held) != 1 or not journal.trains or call.message_type not in {"train", "evaluate"}:
        return None
    done = call.round - (call.message_type == "train")
    return (done, held[0]) if done > 0 else None


def drop(*given: Finished | None) -> None:
    """Give the memory of what an app handed over back."""
    for finished in given:
        if finished is not None and finished.result is not None:
            finished.result.close()


async def clean_up(around: Around, job: Job, rows: Sequence[Exchange], asked: Iterable[NodeId]) -> None:
    """Tell the nodes, and drop what only a replay would have needed."""
    event = offers.job_ended(job)
    for node in {*asked, *(entry.node for entry in job.roster)}:
        around.link.send(node, event)
    mine = {reply.digest for row in rows for reply in row.replies if reply.digest is not None}
    mine -= await _needed_elsewhere(around, job)
    if mine & {reply.digest for row in rows for reply in row.replies if reply.node is not None}:
        mine -= await _published(around, job)  # what a node answered may be, to the byte, a model that it was sent
    await around.blobs.delete_all(job.tenant, sorted(mine))
    await asyncio.to_thread(shutil.rmtree, folder_of(around, job) / "app", ignore_errors=True)


async def _needed_elsewhere(around: Around, job: Job) -> set[Digest]:
    """Return blobs of the same tenant that other unfinished jobs would replay from: equal runs have equal replies."""

    def look(tx: Tx) -> set[Digest]:
        others = tx.jobs.list(tenants=frozenset({job.tenant}), states=UNFINISHED, limit=1000)
        return {
            reply.digest
            for other in others
            if other.id != job.id
            for row in tx.jobs.exchanges(other.id)
            for reply in row.replies
            if reply.digest is not None
        }

    return await around.store.read(look)


async def _published(around: Around, job: Job) -> set[str]:
    """Return what versions of the tenant's jobs name."""
    versions = await around.store.read(lambda tx: tx.models.versions(job.tenant))
    named: set[str] = set()
    for version in versions:
        if version.job is not None:
            envelope = await around.blobs.get_bytes(job.tenant, version.manifest, limit=MAX_MANIFEST)
            named |= {ref.digest for ref in read_unverified(envelope).blobs.values()}
    return named
