"""What the routers share: path parameters, documented refusals."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from coordinator.api.schemas import DIGEST, JOB_ID, NODE_ID, SLUG, TOKEN_ID

PREFIX = "/api/v1"
TenantPath = Annotated[str, Path(pattern=SLUG, max_length=40, examples=["acme"])]
SitePath = Annotated[
    str, Path(pattern=SLUG, max_length=40, examples=["acme"], description="The tenant that owns the nodes.")
]
FederationPath = Annotated[str, Path(pattern=SLUG, max_length=40, examples=["hearts"])]
ModelPath = Annotated[str, Path(pattern=SLUG, max_length=40, examples=["heart"])]
AliasPath = Annotated[str, Path(pattern=SLUG, max_length=40, examples=["latest"])]
VersionPath = Annotated[int, Path(ge=1, le=2**31)]
DigestPath = Annotated[str, Path(pattern=DIGEST, max_length=64)]
NodePath = Annotated[str, Path(pattern=NODE_ID, max_length=40)]
JobPath = Annotated[str, Path(pattern=JOB_ID, max_length=40)]
TokenPath = Annotated[str, Path(pattern=TOKEN_ID, max_length=40)]

_REFUSALS = {
    400: "The request cannot be carried out as it is.",
    401: "No valid API token came with the request.",
    403: "A policy refuses this act.",
    404: "No such object that you may see.",
    405: "The path knows other methods.",
    408: "The body came too slowly.",
    409: "The object exists already, or its state does not allow this.",
    412: "The object is not the one that was seen.",
    413: "A size limit would be passed.",
    415: "The body is of another type.",
    416: "The range lies outside the object.",
    422: "The request is malformed.",
    428: "The change must say which state it changes.",
    429: "Too many requests, or more than the tenant may use.",
    503: "Not now.",
}


def refusals() -> dict[int | str, dict[str, Any]]:
    """Return the documented refusals of every route; ``openapi`` fills in their schema."""
    return {status: {"description": text} for status, text in _REFUSALS.items()}


def router(tag: str) -> APIRouter:
    """Return an empty router of one noun."""
    return APIRouter(prefix=PREFIX, tags=[tag], responses=refusals())
