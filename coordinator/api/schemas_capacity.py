"""Capacity planning as JSON.  ``waits_s`` maps p50, p90, p95 and p99 to seconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas import In, Out

_Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Span = Annotated[float, Field(gt=0, le=3.2e9, allow_inf_nan=False)]
_Variation = Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)]


class CapacityQuery(In):
    """What to reckon with; what is left out is measured."""

    gpus: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    gang: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    arrivals_per_s: _Rate | None = None
    service_s: _Span | None = None
    ca2: _Variation | None = None
    cs2: _Variation | None = None
    wait_s: Annotated[float, Field(ge=0, le=3.2e9, allow_inf_nan=False)] = 60.0
    share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.95
    window_s: _Span = 7 * 86_400.0
    accelerators: bool = True
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class DemandOut(Out):
    """What asks for GPUs: rounds a second, their mean length, and how much both vary (squared coefficients)."""

    arrivals_per_s: float
    service_s: float
    gang: int
    ca2: float
    cs2: float
    load: float  # Erlangs of whole gangs


class WaitsOut(Out):
    """What a formula says: shares, mean numbers waiting (``lq``) and there (``ls``), mean times in seconds."""

    utilisation: float
    p_wait: float
    lq: float
    wq_s: float
    w_s: float
    ls: float
    waits_s: dict[str, float]


class SimulatedOut(Out):
    """What a simulated queue met; ``wq_error_s`` is half of the 95 % interval of ``wq_s``."""

    customers: int
    p_wait: float
    wq_s: float
    wq_error_s: float
    waits_s: dict[str, float]


class TargetOut(Out):
    """The fewest GPUs at which ``share`` of the rounds wait at most ``wait_s``."""

    wait_s: float
    share: float
    gpus_mmc: int
    gpus_allen_cunneen: int
    gpus_simulated: int | None  # null: too large to play


class ObservedOut(Out):
    """What the real queue did in the window: rounds by gang, how many waited and how long; the places there are."""

    window_s: float
    rounds: int
    gangs: dict[str, int]
    p_wait: float | None
    mean_wait_s: float | None
    places: int


class CapacityOut(Out):
    """Is the pool large enough.  Where ``only_grows`` says why not, there is no mean wait and answers are null."""

    demand: DemandOut
    accelerators: bool
    gpus: int
    servers: int  # whole gangs that fit at once
    only_grows: str
    mmc: WaitsOut | None
    allen_cunneen: WaitsOut | None
    simulated: SimulatedOut | None
    states: list[float] | None  # share of time with 0, 1, 2, … rounds waiting or running, by M/M/c
    target: TargetOut
    observed: ObservedOut | None
