"""Models: the list, imports, and names that move."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from common.errors import BadInput, Conflict, NotFound
from common.ids import TenantId
from coordinator.api import resources, views
from coordinator.api import schemas as s
from coordinator.api import schemas_models as m
from coordinator.api.caller import Authenticated, Caller
from coordinator.api.pages import Paging, cut
from coordinator.api.routes.parts import AliasPath, ModelPath, TenantPath, router
from coordinator.api.uploads import uploads_of
from coordinator.domain.models import Alias, ModelVersion
from coordinator.domain.nodes import Node
from coordinator.ports.store import Tx

ROUTER = router("models")


@ROUTER.get("/models", operation_id="models_list")
async def list_(caller: Authenticated, paging: Paging) -> s.Page[m.ModelSummaryOut]:
    """List the models of your tenant and your federations."""
    grouped: dict[tuple[TenantId, str], list[ModelVersion]] = defaultdict(list)
    for record in await _seen_versions(caller):
        grouped[record.tenant, record.model].append(record)
    page, token = cut(list(grouped), lambda name: name, paging)
    return s.Page(items=[_summary(grouped[name]) for name in page], next_page_token=token)


@ROUTER.get("/models/{tenant}/{model}", operation_id="models_get")
async def get(tenant: TenantPath, model: ModelPath, caller: Authenticated) -> m.ModelOut:
    """Return a model: the versions you may see, newest first, and the aliases that name them."""
    seen = await _seen_versions(caller, TenantId(tenant), model)
    if not seen:
        raise NotFound(f"no model {tenant}/{model} that you may see")
    numbers = {v.version for v in seen}
    aliases = await caller.services.store.read(lambda tx: list(tx.models.aliases(TenantId(tenant), model)))
    newest_first = sorted(seen, key=lambda v: -v.version)
    return m.ModelOut(
        tenant=tenant,
        model=model,
        versions=[views.version(v) for v in newest_first],
        aliases=[views.alias(a) for a in sorted(aliases, key=lambda a: a.name) if a.version in numbers],
    )


@ROUTER.post(
    "/models/{tenant}/{model}:import",
    operation_id="models_import",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def import_(
    tenant: TenantPath,
    model: ModelPath,
    format_: Annotated[Literal["onnx", "safetensors"], Query(alias="format")],
    request: Request,
    caller: Authenticated,
) -> m.ModelVersionOut:
    """Take in a model that was trained elsewhere, as the next version."""
    caller.require("model::import", resources.tenant(tenant))
    services = caller.services
    target = services.blobs.work_dir() / f"import-{secrets.token_hex(8)}"
    await services.allowances.check_any_room(TenantId(tenant))  # before gigabytes come
    with uploads_of(request).one(tenant):
        try:
            if not await _receive(request, target):
                raise BadInput("the body is empty; send the model's file as application/octet-stream")
            made = await services.publisher.import_model(caller.principal, TenantId(tenant), model, format_, target)
        finally:
            await asyncio.to_thread(target.unlink, missing_ok=True)
    return views.version(made)


@ROUTER.put("/models/{tenant}/{model}/aliases/{alias}", operation_id="aliases_move")
async def move_alias(
    tenant: TenantPath, model: ModelPath, alias: AliasPath, body: m.AliasIn, caller: Authenticated, response: Response
) -> m.AliasOut:
    """Move a name to a version, if it has not moved since you looked."""
    caller.require("model::move_alias", resources.model(tenant, model))
    owner, now = TenantId(tenant), caller.services.clock.now()
    moved = Alias(owner, model, alias, body.version, body.expected_generation + 1, caller.principal.subject, now)

    def work(tx: Tx) -> None:
        if tx.models.version(owner, model, body.version) is None:
            raise NotFound(f"no version {body.version} of model {tenant}/{model}")
        if not tx.models.move_alias(moved, expected_generation=body.expected_generation):
            raise Conflict(
                f"alias {alias} of {tenant}/{model} is not at generation {body.expected_generation} any more",
                next_step=f"hansa model show {tenant}/{model}",
            )

    await caller.services.store.write(work)
    await caller.services.deployments.alias_moved(owner, model)
    response.headers["ETag"] = f'"{moved.generation}"'
    return views.alias(moved)


@ROUTER.get("/deployments", operation_id="deployments_list")
async def deployments(caller: Authenticated, paging: Paging) -> s.Page[m.DeploymentOut]:
    """List what your nodes, and the nodes that have your models, should serve, and what they last said."""
    every = await caller.services.store.read(lambda tx: list(tx.models.deployments()))
    nodes = await _nodes(caller)
    seen = caller.seen(
        "deployment::read", every, lambda d: resources.deployment(d, nodes[d.node].tenant if d.node in nodes else None)
    )
    page, token = cut(seen, lambda d: (d.tenant, d.model, d.version, d.node), paging)
    names = [nodes[d.node].name if d.node in nodes else "" for d in page]
    items = [views.deployment(d, name) for d, name in zip(page, names, strict=True)]
    return s.Page(items=items, next_page_token=token)


async def _nodes(caller: Caller) -> dict[str, Node]:
    every = await caller.services.store.read(lambda tx: list(tx.nodes.list()))
    return {node.id: node for node in every}


async def _seen_versions(
    caller: Caller, tenant: TenantId | None = None, model: str | None = None
) -> list[ModelVersion]:
    sharing, who = await caller.sharing(), caller.principal

    def work(tx: Tx) -> list[ModelVersion]:
        if tenant is not None:
            return list(tx.models.versions(tenant, model))
        every = frozenset(t.id for t in tx.tenants.list())
        owners = every if who.is_platform_admin else sharing.partners(who.tenants) & every
        return [version for owner in sorted(owners) for version in tx.models.versions(owner)]

    found = await caller.services.store.read(work)
    return caller.seen("model::read", found, lambda v: resources.version(v, sharing))


def _summary(versions: list[ModelVersion]) -> m.ModelSummaryOut:
    latest = max(versions, key=lambda v: v.version)
    return m.ModelSummaryOut(
        tenant=latest.tenant, model=latest.model, versions=len(versions), latest=views.version(latest)
    )


async def _receive(request: Request, target: Path) -> int:
    """Write the request's body to ``target`` as it comes; return its length.  Its limit is kept by ``BodyLimits``."""
    size = 0
    file = await asyncio.to_thread(target.open, "xb")
    with file:
        async for piece in request.stream():
            await asyncio.to_thread(file.write, piece)
            size += len(piece)
    return size
