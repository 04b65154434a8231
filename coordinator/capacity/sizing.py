"""From measured rates to an answer: waits for general service, gangs, and how many GPUs a target needs.

- **General arrivals and service**: Allen and Cunneen scale the M/M/c wait by (ca² + cs²)/2, where ca² and cs² are the
  squared coefficients of variation.  P_wait stays Erlang's C (measured: within 0.03), and who waits does so for an
  exponential time of the scaled mean.  Too high for very variable service (cs² = 4: by a quarter), good below.
- **Gangs**: a round that needs g GPUs at once is one customer, and the pool is c = floor(GPUs / g) servers.  GPUs
  counted as servers are wrong by 4 to 40 times.  Mixed gang sizes have no formula: simulate.

Source:
    Allen, "Probability, Statistics and Queueing Theory", 1990, §5.3 (the Allen-Cunneen approximation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from common.errors import BadInput
from coordinator.capacity.erlang import MAX_SERVERS, Queue, losses, quantile, waiting


@dataclass(frozen=True)
class Demand:
    """What asks for GPUs, as measured or supposed.

    Args:
        arrivals: Rounds per second, > 0.
        service_s: Mean length of a round, seconds, > 0.
        gang: GPUs that a round holds at once, ≥ 1.
        ca2: Squared coefficient of variation of the time between arrivals; 1 = Poisson.
        cs2: The same of the length; 1 = exponential, 0 = always the same.
    """

    arrivals: float
    service_s: float
    gang: int = 1
    ca2: float = 1.0
    cs2: float = 1.0

    def __post_init__(self) -> None:
        for name in ("arrivals", "service_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise BadInput(f"{name} must be a positive number, not {value:g}")
        for name in ("ca2", "cs2"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise BadInput(f"{name} must be a number of at least 0, not {value:g}")
        if self.gang < 1:
            raise BadInput(f"gang must be at least 1 GPU, not {self.gang}")

    @property
    def load(self) -> float:
        """The offered load in Erlangs of whole gangs."""
        return self.arrivals * self.service_s

    @property
    def spread(self) -> float:
        """Allen and Cunneen's factor on the mean wait."""
        return (self.ca2 + self.cs2) / 2


@dataclass(frozen=True)
class Answer:
    """What a pool gives a demand; waits in seconds."""

    gpus: int
    servers: int  # whole gangs that fit at once
    utilisation: float
    p_wait: float
    lq: float
    wq: float
    waits: dict[str, float]  # "p50" … -> seconds


QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def queue_of(demand: Demand, gpus: int) -> Queue[float]:
    """Return the M/M/c queue of ``demand`` on ``gpus``.

    Raises:
        BadInput: not one gang fits, or the pool cannot keep up.
    """
    servers = gpus // demand.gang
    if servers < 1:
        raise BadInput(f"a gang of {demand.gang} does not fit on {gpus} GPUs", code="queue_only_grows")
    if demand.load >= servers:
        needed = (math.floor(demand.load) + 1) * demand.gang
        raise BadInput(
            f"{gpus} GPUs hold {servers} gangs of {demand.gang} at once, but {demand.load:.4g} are needed on average",
            next_step=f"At least {needed} GPUs are needed for a queue that does not only grow.",
            code="queue_only_grows",
        )
    return Queue(servers, demand.arrivals, 1 / demand.service_s)


def formula(demand: Demand, gpus: int, *, exponential: bool = False) -> Answer:
    """Return what ``gpus`` give: by Allen-Cunneen, or by M/M/c as if ca² = cs² = 1."""
    queue = queue_of(demand, gpus)
    p_wait, wq = float(queue.p_wait), float(queue.wq) * (1.0 if exponential else demand.spread)
    scale = wq / p_wait if p_wait > 0 else 0.0
    return Answer(
        gpus=gpus,
        servers=queue.servers,
        utilisation=float(queue.utilisation),
        p_wait=p_wait,
        lq=demand.arrivals * wq,
        wq=wq,
        waits={name: quantile(p_wait, scale, share) for name, share in QUANTILES.items()},
    )


def gpus_for(demand: Demand, wait_s: float, share: float = 0.95) -> int:
    """Return the fewest GPUs at which ``share`` of the rounds wait at most ``wait_s`` seconds.

    One pass over Erlang's B: each further server costs one step of the recursion.

    Raises:
        BadInput: a target that is no wait or no share, or one beyond ten million servers.
    """
    if not 0 <= wait_s < math.inf:
        raise BadInput(f"the longest wait must be a number of at least 0 seconds, not {wait_s:g}")
    for servers, blocked in enumerate(losses(demand.load)):
        if servers > MAX_SERVERS:
            break
        if servers <= demand.load:
            continue
        p_wait = waiting(servers, demand.load, blocked)
        scale = demand.spread * demand.service_s / (servers - demand.load)
        if quantile(p_wait, scale, share) <= wait_s:
            return servers * demand.gang
    raise BadInput(f"a load of {demand.load:g} Erlangs is more than {MAX_SERVERS} servers hold")
