"""What the REST face takes and gives for models (see ``schemas`` for the rules)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas import In, NodeText, Out


class AliasIn(In):
    """Move a name to a version, if it has not moved since (``expected_generation`` 0 = it does not exist yet)."""

    version: Annotated[int, Field(ge=1, le=2**31)]
    expected_generation: Annotated[int, Field(ge=0, le=2**31)]


class AliasOut(Out):
    """A movable name."""

    name: str
    version: int
    generation: int
    moved_by: str
    moved_at: str


class ModelVersionOut(Out):
    """One immutable version."""

    tenant: str
    model: str
    version: int
    manifest: str  # digest
    manifest_size: int
    federation: str | None
    job: str | None
    round: int
    created_at: str
    metrics: dict[str, float | None]  # null where JSON has no such number (NaN, infinity)
    servable: bool


class ModelSummaryOut(Out):
    """One line of the list of models."""

    tenant: str
    model: str
    versions: int
    latest: ModelVersionOut


class ModelOut(Out):
    """A model: its versions, newest first, and its aliases."""

    tenant: str
    model: str
    versions: list[ModelVersionOut]
    aliases: list[AliasOut]


class DeployIn(In):
    """Where to deploy; null = every node that may have it."""

    nodes: Annotated[list[NodeText], Field(max_length=10_000)] | None = None


class DeploymentOut(Out):
    """What one node should serve, and what it last said."""

    tenant: str
    model: str
    version: int
    node: str
    node_name: str
    wanted: bool
    state: str
    message: str
    url: str
    updated_at: str


class DeploymentsOut(Out):
    """The deployments that one act made."""

    items: list[DeploymentOut]
