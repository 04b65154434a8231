"""What capacity planning answers; every name carries its unit."""

from __future__ import annotations

from typing import TypedDict


class Demand(TypedDict):
    """What asks for GPUs."""

    arrivals_per_s: float
    service_s: float
    gang: int
    ca2: float
    cs2: float
    load: float


class Waits(TypedDict):
    """What a formula says of the wait."""

    utilisation: float
    p_wait: float
    lq: float
    wq_s: float
    w_s: float
    ls: float
    waits_s: dict[str, float]


class SimulatedWaits(TypedDict):
    """What a simulated queue met; ``wq_error_s`` is half of the 95 % interval of ``wq_s``."""

    customers: int
    p_wait: float
    wq_s: float
    wq_error_s: float
    waits_s: dict[str, float]


class Target(TypedDict):
    """The GPUs at which ``share`` of the rounds wait at most ``wait_s``."""

    wait_s: float
    share: float
    gpus_mmc: int
    gpus_allen_cunneen: int
    gpus_simulated: int | None


class Observed(TypedDict):
    """What the real queue did."""

    window_s: float
    rounds: int
    gangs: dict[str, int]
    p_wait: float | None
    mean_wait_s: float | None
    places: int


class CapacityPlan(TypedDict):
    """Is the pool large enough."""

    demand: Demand
    accelerators: bool
    gpus: int
    servers: int
    only_grows: str
    mmc: Waits | None
    allen_cunneen: Waits | None
    simulated: SimulatedWaits | None
    states: list[float] | None
    target: Target
    observed: Observed | None
