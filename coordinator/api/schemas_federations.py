"""What the REST face takes and gives for federations (see ``schemas`` for the rules)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.api.schemas import In, Out, Slug, Title


class FederationIn(In):
    """A new federation; the other tenants are invited, the caller's own tenant accepts by creating it."""

    id: Slug
    title: Title = ""
    tenants: Annotated[list[Slug], Field(max_length=1000, default_factory=list)]
    individual_replies: bool = False
    minimum_mode: Literal["plain", "mask"] = "plain"


class InviteIn(In):
    """More tenants to invite."""

    tenants: Annotated[list[Slug], Field(min_length=1, max_length=1000)]


class FederationChangeIn(In):
    """What becomes of a federation; allowing more needs the other members' word anew."""

    individual_replies: bool


class MembershipIn(In):
    """Which of the caller's tenants accepts or leaves; may be left out by a caller of one tenant."""

    tenant: Slug | None = None


class MemberOut(Out):
    """Where one tenant stands."""

    tenant: str
    acceptance: Literal["invited", "accepted", "left"]


class FederationOut(Out):
    """Tenants that agreed to train together."""

    id: str
    owner: str
    title: str
    individual_replies: bool
    minimum_mode: Literal["plain", "mask"]
    created_at: str
    members: list[MemberOut]
