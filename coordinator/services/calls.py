"""What a ServerApp's child asks for, parsed.  The child runs tenant code: every field is checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import AppFailed
from common.ids import JobId, NodeId
from coordinator.admission.privacy import Asked, MaskPlan
from coordinator.domain.exchanges import Exchange, ExchangeKind, Instruction
from coordinator.domain.jobs import RosterEntry
from coordinator.services.objects import HeldObject

_TYPE = re.compile(r"(train|evaluate|query|system)(\.[A-Za-z0-9_]{1,80})?")
_MAX_TTL_S = 30 * 86400.0
MAX_METRICS = 1000  # names
LEAST = 2  # nodes in a mean, where single replies are not for the app to see: the mean of one is that one
# Strategies of Flower's own that take replies one by one: their replies must be alike, or Flower ends the whole run.
_FLOWERS_OWN = frozenset({
    "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "QFedAvg", "FedXgbBagging", "FedXgbCyclic",
})  # fmt: skip
_BY_HAND = ("app calls the Grid itself", "one exchange has messages of several types", "replies to ")


@dataclass(frozen=True)
class Call:
    """One exchange or push."""

    kind: ExchangeKind
    fold: bool
    why: str  # why it is not folded
    timeout_s: float  # seconds; infinite = none
    round: int
    instructions: tuple[Instruction, ...]
    least: int = 1  # updates that a mean of this exchange must hold
    mask: MaskPlan | None = field(default=None, compare=False)  # how replies are masked; None: they come as they are
    masked: str = field(default="", compare=False)  # what is on record of a masked sum of it that must be gone on with

    @property
    def message_type(self) -> str:
        """Return the first part of the messages' type: "train", "evaluate" or "query"."""
        return self.instructions[0].message_type.partition(".")[0]

    @property
    def asked(self) -> Asked:
        """Return what decides how its replies may leave the nodes."""
        return Asked(self.kind, self.fold, self.why, self.instructions)

    @property
    def by_hand(self) -> bool:
        """Say whether the app itself reads the replies, errors included, and no strategy of Flower."""
        return not self.fold and self.why.startswith(_BY_HAND)

    @property
    def alike(self) -> bool:
        """Say whether Flower's own code reads the replies and needs them alike."""
        words = self.why.split()
        return self.fold or (len(words) > 1 and words[0] == "strategy" and words[1] in _FLOWERS_OWN)


def open_row(job: JobId, seq: int, call: Call, opened_at: float) -> Exchange:
    """Return the journal row of an exchange that has just been opened."""
    return Exchange(
        job=job,
        seq=seq,
        kind=call.kind,
        fold=call.fold,
        messages=call.instructions,
        opened_at=opened_at,
        round=call.round,
    )


def unfit_for_means(call: Call) -> str:
    """Return why ``call`` would show the app a single node's reply, or "" where a mean of several will answer it.

    ``fold`` is the word of tenant code: who is asked decides.
    """
    if not call.fold:
        return f"this exchange needs them one by one: {call.why or 'not foldable'}"
    asked = [instruction.node for instruction in call.instructions]
    if len(set(asked)) < max(LEAST, len(asked)):
        nodes = len(set(asked))
        return f"this exchange asks {nodes} node(s) with {len(asked)} message(s): no mean of {LEAST} or more nodes"
    return ""


def parse_call(message: Mapping[str, Any], held: Sequence[HeldObject], roster: Sequence[RosterEntry]) -> Call:
    """Return the exchange or push that a frame asks for.

    Raises:
        AppFailed: a field is missing or malformed, or a message goes to a node that is not in the roster.
    """
    nodes = {entry.flower_node_id: entry.node for entry in roster}
    rows = message.get("messages")
    if not isinstance(rows, list) or not rows:
        raise _bad("messages", rows)
    timeout = message.get("timeout")
    return Call(
        kind=ExchangeKind(message["op"]),
        fold=message.get("fold") is True,
        why=str(message.get("why", ""))[:200],
        timeout_s=_number("timeout", timeout) if timeout is not None else math.inf,
        round=_round(message.get("round", 0)),
        instructions=tuple(_instruction(index, row, held, nodes) for index, row in enumerate(rows)),
    )


def parse_pull(message: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the message ids that a pull asks for.

    Raises:
        AppFailed: malformed.
    """
    ids = message.get("ids")
    if not isinstance(ids, list) or not all(isinstance(i, str) and len(i) < 200 for i in ids):
        raise _bad("ids", ids)
    return tuple(ids)


def metrics_of(table: object) -> dict[str, float]:
    """Return the plain numbers of a table of metrics."""
    if not isinstance(table, dict):
        return {}
    return {
        str(k)[:100]: float(v)
        for k, v in list(table.items())[:MAX_METRICS]
        if isinstance(v, (int, float)) and not isinstance(v, bool)
    }


def round_of(message: Mapping[str, Any]) -> int:
    """Return a frame's round.

    Raises:
        AppFailed: it is none.
    """
    return _round(message.get("round", 0))


def _instruction(index: int, row: object, held: Sequence[HeldObject], nodes: Mapping[int, NodeId]) -> Instruction:
    if not isinstance(row, dict) or row.get("slot") != index:
        raise _bad("slot", row)
    kind, dst, which = row.get("type"), row.get("dst"), row.get("object")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise _bad("type", kind)
    if not isinstance(dst, int) or dst not in nodes:
        raise AppFailed(f"the app sends a message to node {dst!r}, which is not in the roster", reason="protocol_error")
    if not isinstance(which, int) or not 0 <= which < len(held):
        raise _bad("object", which)
    return Instruction(
        slot=index,
        node=nodes[dst],
        message_type=kind,
        content=held[which].digest,
        size=held[which].size,
        group_id=str(row.get("group_id", ""))[:200],
        ttl_s=min(_number("ttl", row.get("ttl", 0)), _MAX_TTL_S),
    )


def _round(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise _bad("round", value)
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise _bad(name, value)
    return float(value)


def _bad(name: str, value: object) -> AppFailed:
    return AppFailed(f"the app's process sent a bad {name!r}: {str(value)[:100]}", reason="protocol_error")
