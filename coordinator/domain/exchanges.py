"""The journal: every call of the Grid that returned something, in order.

A job's journal, replayed to the same ServerApp, leads to the same live frontier.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.ids import Digest, JobId, NodeId


class ExchangeKind(StrEnum):
    """Which call of the Grid this was."""

    EXCHANGE = "exchange"  # send_and_receive
    PUSH = "push"
    PULL = "pull"


@dataclass(frozen=True)
class Reply:
    """One reply as the app sees it: an object, or an error."""

    slot: int  # index of the message it answers
    node: NodeId | None  # None for the folded mean
    digest: Digest | None
    size: int = 0
    error_code: int = 0
    error: str = ""
    push_seq: int | None = None  # for PULL: the exchange that sent the message


HIDDEN = 0.0  # weight of an update in a masked sum: only the total is known


@dataclass(frozen=True)
class Included:
    """One update that went into a fold."""

    node: NodeId
    digest: Digest
    weight: float


@dataclass(frozen=True)
class Instruction:
    """One message the app sent."""

    slot: int
    node: NodeId
    message_type: str
    content: Digest
    size: int
    group_id: str
    ttl_s: float


@dataclass(frozen=True)
class Exchange:
    """One row of the journal."""

    job: JobId
    seq: int
    kind: ExchangeKind
    fold: bool
    messages: tuple[Instruction, ...]
    opened_at: float
    closed_at: float | None = None
    replies: tuple[Reply, ...] = ()
    included: tuple[Included, ...] = ()
    dropped: tuple[tuple[NodeId, str, str], ...] = ()  # (node, code, message)
    round: int = 0  # the app's server-round, 0 = none
    pulled: tuple[str, ...] = ()  # for PULL: the message ids asked for
    masked: str = ""  # while it is open: the masked sum whose survivors have been proposed
