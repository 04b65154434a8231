"""What the REST face takes and gives for quotas (see ``schemas`` for the rules)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas import In, Out

Figure = Annotated[int, Field(ge=0, le=10**12)]  # of one resource at one site
Count = Annotated[int, Field(ge=0, le=10**6)]
Size = Annotated[int, Field(ge=0, le=2**62)]


class AcceleratorsIn(In):
    """Figures by kind of accelerator; null = not named."""

    cuda: Figure | None = None
    rocm: Figure | None = None
    tpu: Figure | None = None

    def named(self) -> dict[str, int]:
        """Return the kinds that are named."""
        return {kind: figure for kind, figure in self.model_dump().items() if figure is not None}


class AmountIn(In):
    """Resources of a site, all its nodes together; what is null or absent is not named."""

    gpu_milli: AcceleratorsIn = AcceleratorsIn()  # thousandths of a device
    gpu_memory_mib: AcceleratorsIn = AcceleratorsIn()
    cpu_milli: Figure | None = None
    ram_mib: Figure | None = None


class GrantIn(In):
    """What a site gives a tenant: all of it; what is left out is nothing guaranteed, no limit, weight 1."""

    guarantee: AmountIn = AmountIn()
    limit: AmountIn = AmountIn()
    weight: Annotated[int, Field(ge=1, le=10**6)] = 1


class AmountOut(Out):
    """Resources of a site; what is null or absent is not named."""

    gpu_milli: dict[str, int]  # by kind: "cuda", "rocm", "tpu"
    gpu_memory_mib: dict[str, int]
    cpu_milli: int | None
    ram_mib: int | None


class GrantOut(Out):
    """What a site gives a tenant.  ``warnings`` are for those of the site only."""

    site: str
    tenant: str
    guarantee: AmountOut
    limit: AmountOut
    weight: int
    held: AmountOut | None  # by the tenant at the site now; null = not known
    set_by: str
    set_at: str
    etag: str  # for If-Match, with its quotes
    warnings: list[str]


class AllowanceIn(In):
    """What a tenant may use at the coordinator."""

    running_jobs: Count
    queued_jobs: Count
    stored_bytes: Size


class AllowanceUsedOut(Out):
    """What a tenant uses at the coordinator now."""

    running_jobs: int
    queued_jobs: int
    stored_bytes: int


class AllowanceOut(Out):
    """What a tenant may use at the coordinator, and uses; ``default``: nothing of its own was set."""

    tenant: str
    running_jobs: int  # ServerApps at once; further jobs wait
    queued_jobs: int  # that wait; further submissions are refused
    stored_bytes: int  # of apps, model versions and the journals of unfinished jobs
    used: AllowanceUsedOut
    default: bool
    set_by: str
    set_at: str | None
    etag: str
