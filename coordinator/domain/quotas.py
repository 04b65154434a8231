"""What a site's owner gives a tenant there, and what a tenant may use at the coordinator.

A grant's accelerators, device memory, CPU and RAM are of all nodes of the site together; without a grant a tenant is
guaranteed nothing there, limited by nothing, and weighs 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.ids import TenantId


@dataclass(frozen=True, slots=True)
class Amount:
    """Accelerators by kind, their memory, CPU and RAM; what is absent or None is not named."""

    milli: Mapping[str, int] = field(default_factory=dict)  # kind -> milli-GPU
    mib: Mapping[str, int] = field(default_factory=dict)  # kind -> memory of devices
    cpu_milli: int | None = None
    ram_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a site's owner gives a tenant there.  Written only by compare-and-swap on ``generation``.

    A limit bounds what it names and nothing else.  A guarantee covers an ask if it names the ask's main resource (the
    kind of accelerator it needs, CPU if it needs none) and what the tenant would then hold is within all that it names:
    who guarantees two GPUs need not count the cores beside them.
    """

    site: TenantId
    tenant: TenantId
    guarantee: Amount = Amount()
    limit: Amount = Amount()
    weight: int = 1
    generation: int = 0
    set_by: str = ""
    set_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """The part of a grant that its owner writes."""

    guarantee: Amount
    limit: Amount
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant may use at the coordinator.  Written only by compare-and-swap on ``generation``."""

    tenant: TenantId
    running_jobs: int  # ServerApps at once; further jobs wait in the queue
    queued_jobs: int  # submitted and not running yet; further submissions are refused
    stored_bytes: int  # of apps, model versions and imports
    generation: int = 0
    set_by: str = ""
    set_at: float = 0.0
