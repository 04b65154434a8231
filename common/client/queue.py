"""``/queue``: what the scheduler says."""

from __future__ import annotations

from typing import TypedDict

from common.client.http import Http


class Policy(TypedDict):
    """Who goes first."""

    name: str
    fair: bool
    k: float
    half_life_s: float | None
    head_starts_s: dict[str, float | None]
    reservations: int
    promise: str
    starvation_bound: str


class Need(TypedDict):
    """What one task takes at its node."""

    gpu_kind: str
    gpu_milli: int
    gpu_memory_mib: int
    cpus: float
    memory_mib: int


class Ask(TypedDict):
    """One round that wants nodes."""

    id: str
    job: str
    tenant: str
    minimum: int
    maximum: int
    nodes: list[str] | None
    need: Need
    priority: str
    expected_s: float
    longest_s: float
    left_s: float
    submitted_at: str


class Wait(Ask):
    """An ask that waits."""

    code: str
    reason: str
    not_before: str | None
    forecast_start: str | None
    latest_start: str | None


class Lease(TypedDict):
    """What one task holds at a node."""

    id: str
    ask: str
    job: str
    tenant: str
    node: str
    node_name: str
    site: str
    devices: list[str]
    gpu_milli: int
    borrowed: bool
    enforcement: list[str]
    started_at: str
    until: str


class Idle(TypedDict):
    """A node on which nothing runs."""

    node: str
    name: str
    site: str
    reason: str


class Queue(TypedDict):
    """The scheduler at one moment."""

    at: str
    policy: Policy
    waiting: list[Wait]
    leases: list[Lease]
    idle: list[Idle]
    hidden: int


class Use(TypedDict):
    """What a tenant had used at a site."""

    site: str
    tenant: str
    used: float
    weight: int


class Other(TypedDict):
    """An ask that waited beside it."""

    ask: str
    tenant: str
    outcome: str


class Proof(TypedDict):
    """A decision, made again."""

    row: int
    at: str
    holds: bool
    waiting: int
    nodes: int
    granted: list[Lease]
    use: list[Use]
    others: list[Other]


class Row(TypedDict):
    """One thing that happened to an ask."""

    row: int
    at: str
    event: str
    words: str


class History(TypedDict):
    """Everything known of an ask."""

    ask: Ask
    asked_at: str
    policy: Policy
    wait: Wait | None
    leases: list[Lease]
    rows: list[Row]
    proof: Proof | None


class Schedule:
    """``/queue``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def queue(self) -> Queue:
        """Return who waits why and until when, who holds what, and why nodes are idle."""
        return self._http.call(Queue, "GET", "/queue")

    def history(self, name: str) -> History:
        """Return what is known of an ask or a lease, and the proof of its grant."""
        return self._http.call(History, "GET", "/queue/history", params={"id": name})
