"""The M/M/c queue: Poisson arrivals, exponential service, c servers, first come first served.

With a = λ/μ the offered load and rho = a/c < 1:

    B_0 = 1,  B_k = a B_{k-1} / (k + a B_{k-1})                 Erlang B: the loss of c servers without a queue
    P_wait = C(c, a) = c B / (c - a (1 - B))                    Erlang C: the share that waits at all
    P_n = P_0 a^n / n!  (n < c),   P_0 a^n / (c! c^(n-c))  (n ≥ c)
    Lq = C rho/(1 - rho)    Wq = C/(cμ - λ)    W = Wq + 1/μ    L = λ W
    P(Wq > t) = C exp(-(cμ - λ) t)

No factorial is computed, so a hundred thousand servers are fine.  What is rational stays exact when λ and μ are given
as ``fractions.Fraction``.

Source:
    Erlang 1917; Cooper, "Introduction to Queueing Theory", 2nd ed., §3.3-3.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Generic, TypeVar

from common.errors import BadInput

Number = TypeVar("Number", float, Fraction)
MAX_SERVERS = 10_000_000  # seconds of work, not minutes


def losses(load: Number) -> Iterator[Number]:
    """Yield Erlang's B for 0, 1, 2, … servers under ``load`` Erlangs."""
    blocked = load * 0 + 1
    servers = 0
    while True:
        yield blocked
        servers += 1
        blocked = load * blocked / (servers + load * blocked)


def erlang_b(servers: int, load: Number) -> Number:
    """Return the share of arrivals that find all ``servers`` busy and leave.

    Args:
        servers: c ≥ 0.
        load: a = λ/μ ≥ 0, in Erlangs.
    """
    return next(islice(losses(load), servers, None))


def waiting(servers: int, load: Number, blocked: Number) -> Number:
    """Return Erlang's C, the share of arrivals that wait, from Erlang's B of the same queue; a < c."""
    return servers * blocked / (servers - load * (1 - blocked))


@dataclass(frozen=True)
class Queue(Generic[Number]):
    """An M/M/c queue in its steady state.

    Args:
        servers: c ≥ 1.
        arrivals: λ > 0, per second.
        service: μ > 0, per second and server.

    Raises:
        BadInput: a rate is not a positive number, or λ ≥ cμ: the queue grows without bound.
    """

    servers: int
    arrivals: Number
    service: Number

    def __post_init__(self) -> None:
        for name, rate in (("arrival", self.arrivals), ("service", self.service)):
            if not (0 < rate < math.inf):
                raise BadInput(f"the {name} rate must be a positive number, not {float(rate):g}")
        if not 1 <= self.servers <= MAX_SERVERS:
            raise BadInput(f"servers must be from 1 to {MAX_SERVERS}, not {self.servers}")
        if self.utilisation >= 1:
            raise BadInput(
                f"{self.servers} servers cannot keep up with {float(self.load):g} Erlangs: the queue only grows",
                next_step=f"At least {math.floor(self.load) + 1} servers are needed.",
                code="queue_only_grows",
            )

    @property
    def load(self) -> Number:
        """The offered load a = λ/μ, in Erlangs."""
        return self.arrivals / self.service

    @property
    def utilisation(self) -> Number:
        """The share rho of the servers that is busy."""
        return self.load / self.servers

    @property
    def p_wait(self) -> Number:
        """The share of arrivals that wait."""
        return waiting(self.servers, self.load, erlang_b(self.servers, self.load))

    @property
    def lq(self) -> Number:
        """The mean number that waits."""
        return self.p_wait * self.utilisation / (1 - self.utilisation)

    @property
    def wq(self) -> Number:
        """The mean wait, in seconds, over all arrivals."""
        return self.p_wait / self._spare

    @property
    def w(self) -> Number:
        """The mean time from arrival to the end of service, in seconds."""
        return self.wq + 1 / self.service

    @property
    def l(self) -> Number:  # noqa: E743 - Little's own letter
        """The mean number that waits or is served."""
        return self.arrivals * self.w

    @property
    def _spare(self) -> Number:
        return self.servers * self.service - self.arrivals

    def wait_exceeds(self, seconds: float) -> float:
        """Return P(Wq > ``seconds``)."""
        return float(self.p_wait) * math.exp(-float(self._spare) * seconds)

    def wait_quantile(self, share: float) -> float:
        """Return the wait in seconds that ``share`` (0 ≤ share < 1) of the arrivals do not pass."""
        return quantile(float(self.p_wait), 1 / float(self._spare), share)

    def states(self, most: int) -> list[Number]:
        """Return P_0 … P_most, the shares of time with exactly n waiting or being served.

        The terms grow outwards from the likeliest state, so that none overflows and only what is negligible
        underflows.
        """
        top = max(most, self.servers)
        peak = math.floor(self.load)  # < servers
        terms: list[Number] = [self.load * 0 + 1] * (top + 1)
        for n in range(peak + 1, top + 1):
            terms[n] = terms[n - 1] * self.load / min(n, self.servers)
        for n in range(peak, 0, -1):
            terms[n - 1] = terms[n] * n / self.load
        tail = terms[self.servers] / (1 - self.utilisation)
        whole = sum(terms[: self.servers], start=tail)
        return [term / whole for term in terms[: most + 1]]


def quantile(p_wait: float, scale: float, share: float) -> float:
    """Return the ``share`` quantile of a wait that is 0 with 1 - ``p_wait``, else exponential with mean ``scale``."""
    if not 0 <= share < 1:
        raise BadInput(f"a share must be in [0, 1), not {share}")
    return max(0.0, math.log(p_wait / (1 - share)) * scale) if p_wait > 0 else 0.0
