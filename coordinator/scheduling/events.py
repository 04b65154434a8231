"""What happened to the scheduler and what it decided: the rows of its journal.

A state is a snapshot and the events behind it, folded in order (``replay``).  Rows with the same ``turn`` are what one
pass decided; turn 0 is what happened from outside.  A pass that only found reasons to wait changes nothing and leaves
no row: whoever asks has the same pass made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.ids import NodeId, TenantId
from coordinator.domain.quotas import Grant
from coordinator.scheduling.records import Ask, Lease, Node, Policy, State


@dataclass(frozen=True, slots=True)
class Began:
    """A coordinator took over: leases and use stay, nodes and asks come again."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Came:
    """A node is there, or says something new of what it lends."""

    node: Node


@dataclass(frozen=True, slots=True)
class Left:
    """A node is not connected any more; its leases go on."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Given:
    """A site's owner set a grant."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Taken:
    """A grant is gone."""

    site: TenantId
    tenant: TenantId


@dataclass(frozen=True, slots=True)
class Asked:
    """A round wants nodes; the same id again takes the place of what it asked before."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A tenant asks that had been away: it starts level with those who were there, not ahead of them."""

    tenant: TenantId
    beside: tuple[TenantId, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An ask is not wanted any more."""

    ask: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A lease was given back before its time; ``reason`` says by what."""

    ask: str
    node: NodeId
    reason: str = ""
    enforcement: tuple[str, ...] = ()  # what held it to its slice, in the node's words


@dataclass(frozen=True, slots=True)
class Started:
    """Decided: these leases."""

    ask: str
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Expired:
    """Decided: a lease has run out."""

    ask: str
    node: NodeId


@dataclass(frozen=True, slots=True)
class Revoked:
    """Decided: a borrowed lease is taken back."""

    ask: str
    node: NodeId
    reason: str


Event = Began | Came | Left | Given | Taken | Welcomed | Asked | Withdrawn | Ended | Started | Expired | Revoked
Decided = Started | Expired | Revoked
KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (Began, Came, Left, Given, Taken, Welcomed, Asked, Withdrawn, Ended, Started, Expired, Revoked)
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row."""

    seq: int
    at_ms: int
    turn: int  # of the pass that decided it; 0 = it happened
    event: Event

    @property
    def kind(self) -> str:
        """Return the name of the event."""
        return type(self.event).__name__.lower()

    @property
    def ask(self) -> str:
        """Return the id of the ask it is about, "" if it is about none."""
        match self.event:
            case Asked(ask):
                return ask.id
            case Withdrawn(ask) | Ended(ask) | Started(ask) | Expired(ask) | Revoked(ask):
                return ask
            case _:
                return ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state behind entry ``seq``, so that older ones may go."""

    seq: int
    at_ms: int
    state: State
    learned: dict[str, object] = field(default_factory=dict)  # what rounds take, as the estimates keep it
