"""Drafts of manifests: everything but the version, the parent and the key, which are known only when it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.manifest import BlobRef, Manifest, Port, TensorRow
from coordinator.domain.jobs import Job


@dataclass(frozen=True)
class Servable:
    """What export and packing made of the weights."""

    blobs: dict[str, BlobRef]  # "graph" and "packed"
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    environment: dict[str, str]
    packing: str
    packing_error: float


NOT_SERVABLE = Servable({}, (), (), {}, "", 0.0)


def draft(
    *,
    tenant: str,
    model: str,
    tensors: tuple[TensorRow, ...],
    weights: BlobRef,
    servable: Servable,
    created_at: str,
) -> Manifest:
    """Return a manifest of an import, still without version, parent and key."""
    return Manifest(
        tenant=tenant,
        model=model,
        version=0,
        source="import",
        federation="",
        job="",
        app_digest="",
        parent="",
        round=0,
        cohort=0,
        metrics={},
        tensors=tensors,
        blobs={"weights": weights} | servable.blobs,
        inputs=servable.inputs,
        outputs=servable.outputs,
        environment=servable.environment,
        packing=servable.packing,
        packing_error=servable.packing_error,
        created_at=created_at,
        key_id="",
    )


def provenance(job: Job, round_: int, cohort: int, metrics: Mapping[str, float]) -> dict[str, object]:
    """Return the fields of a manifest that say which job made the version; figures that are no number are left out."""
    return {
        "source": "job",
        "federation": job.federation,
        "job": job.id,
        "app_digest": job.app,
        "round": round_,
        "cohort": cohort,
        "metrics": {name: float(value) for name, value in metrics.items() if math.isfinite(value)},
    }
