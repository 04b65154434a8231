"""What the REST face takes and gives, as JSON.

Inputs refuse unknown fields, so that a misspelt one never means "not given"; outputs are flat, snake_case, and every
time is ISO 8601 in UTC.  Lists are pages: ``{"items": [...], "next_page_token": str | null}``.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
DIGEST = r"^[0-9a-f]{64}$"
NODE_ID = r"^node_[0-9a-z]{16,32}$"
JOB_ID = r"^job_[0-9a-z]{16,32}$"
TOKEN_ID = r"^tok_[0-9a-z]{16,32}$"  # noqa: S105 - the public half
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # one line, nothing that moves a terminal's cursor

Slug = Annotated[str, StringConstraints(pattern=SLUG, max_length=40)]
SlugOrEmpty = Annotated[str, StringConstraints(pattern=r"^(?:[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)?$", max_length=40)]
DigestText = Annotated[str, StringConstraints(pattern=DIGEST, max_length=64)]
NodeText = Annotated[str, StringConstraints(pattern=NODE_ID, max_length=40)]
Title = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=200)]
Subject = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=200)]
ConfigKey = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=200)]
ConfigText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=10_000)]
ConfigInt = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]


def _no_whole(value: object) -> object:
    """Refuse a whole number too large for 64 bits, which would come through as a float of about its size."""
    if isinstance(value, int):
        raise ValueError("a whole number must fit 64 bits")  # noqa: TRY004 - pydantic asks for ValueError
    return value


ConfigFloat = Annotated[float, BeforeValidator(_no_whole), Field(strict=True, allow_inf_nan=False)]
ConfigBool = Annotated[bool, Field(strict=True)]
ConfigValue = ConfigBool | ConfigInt | ConfigFloat | ConfigText
RunConfig = Annotated[dict[ConfigKey, ConfigValue], Field(max_length=1000)]
Seconds = Annotated[int, Field(ge=1, le=366 * 86400)]
ItemT = TypeVar("ItemT")


class In(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=False, hide_input_in_errors=True)


class Out(BaseModel):
    """A response body."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Page(Out, Generic[ItemT]):
    """Part of a list; ``next_page_token`` is null on the last page."""

    items: list[ItemT]
    next_page_token: str | None = None


class FieldError(Out):
    """One fault of the request, without the value that was sent."""

    pointer: str  # JSON pointer into the request: "/body/ttl_s"
    detail: str


class Problem(Out):
    """RFC 9457 problem document (``application/problem+json``)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError] = []
    next_step: str = ""
    reason: str = ""  # narrower, where an app failed


# ---- system --------------------------------------------------------------------------------------------------------


class HealthOut(Out):
    """How the coordinator is."""

    status: str
    store: str = ""


class CaOut(Out):
    """The coordinator's root, to be compared with the fingerprint in a join token, and the signers of its manifests."""

    pem: str
    sha256: str
    manifest_keys: dict[str, str]
    time: float


class WhoamiOut(Out):
    """Who the bearer token speaks for."""

    issuer: str
    subject: str
    tenants: list[str]
    roles: list[str]
    release: str


class JoinIn(In):
    """What a node sends to join: a one-use token and a signing request for the key it made itself."""

    token: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=4096)]
    csr: Annotated[str, StringConstraints(pattern=r"^[\x0a\x0d\x20-\x7e]+$", max_length=16_384)]
    name: SlugOrEmpty = ""


class JoinOut(Out):
    """The node's identity and everything it pins."""

    node: str
    tenant: str
    name: str
    certificate: str
    ca: str
    link: str
    manifest_keys: dict[str, str]
    time: float


# ---- tenants -------------------------------------------------------------------------------------------------------


class TenantIn(In):
    """A new tenant."""

    id: Slug
    title: Title = ""


class TenantOut(Out):
    """An organisation."""

    id: str
    title: str
    created_at: str


class TokenIn(In):
    """A new API token; ``ttl_s`` null = no end."""

    role: Literal["platform_admin", "tenant_admin", "scientist", "auditor"]
    subject: Subject
    ttl_s: Seconds | None = 90 * 86400


class TokenOut(Out):
    """An API token without its secret."""

    id: str
    tenant: str
    role: str
    subject: str
    created_at: str
    expires_at: str | None
    revoked: bool


class NewTokenOut(TokenOut):
    """An API token with its text, shown this once."""

    token: str


class JoinTokenIn(In):
    """A permission for one node to join."""

    node_name: SlugOrEmpty = ""
    ttl_s: Annotated[int, Field(ge=1, le=7 * 86400)] = 3600


class JoinTokenOut(Out):
    """The token's text, shown this once, and the command to run at the node."""

    id: str
    token: str
    tenant: str
    node_name: str
    expires_at: str
    command: str


# ---- federations ---------------------------------------------------------------------------------------------------
