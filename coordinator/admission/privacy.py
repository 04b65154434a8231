"""How the updates of a job may leave the nodes: what fits together, and why not.

| what the exchange is | plain | mask |
|---|---|---|
| a mean of training or evaluation replies, three nodes or more, one message to all | yes | yes |
| a mean of two nodes | yes | no: each would know the other's part |
| single replies: Krum, medians, own strategies, queries, pushes | where these are allowed | no |
| different messages to different nodes | yes | no: the masks are bound to one model |

``auto`` takes the mask where it fits, and plain elsewhere and where the job itself allows rounds of two nodes
(``cohort.minimum`` or ``target`` of 2); it never goes below the federation's minimum, nor below a node's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.jobspec import JobSpec
from common.privacy.protocol import LEAST
from coordinator.domain.denials import Denial
from coordinator.domain.exchanges import ExchangeKind, Instruction
from coordinator.domain.tenancy import Federation

MASKED = frozenset({"train", "evaluate"})
_ANY_WEIGHT = JobSpec("", "", "", {}).max_weight  # nothing was declared
_WEIGHT_BITS = 16  # where no node says how many rows it has


@dataclass(frozen=True)
class MaskPlan:
    """What nodes are asked for with a task whose reply is to be masked."""

    ring: int  # bits
    range_bits: int
    weight_bits: int


@dataclass(frozen=True)
class Asked:
    """One exchange, as far as its mode depends on it."""

    kind: ExchangeKind
    fold: bool
    why: str  # why it is not folded
    instructions: Sequence[Instruction]


def privacy_denials(federation: Federation, spec: JobSpec) -> tuple[Denial, ...]:
    """Return what can be seen at submission."""
    if spec.privacy.mode == "plain" and federation.minimum_mode == "mask":
        return (
            Denial(
                "mode_too_low",
                f"federation {federation.id} takes masked sums only, the app says privacy = 'plain' ([tool.hansa])",
            ),
        )
    if spec.privacy.mode == "mask" and 0 < spec.cohort.target < LEAST:
        return (
            Denial(
                "cohort_too_small",
                f"a masked sum holds {LEAST} nodes or more, the app's cohort.target is {spec.cohort.target}",
            ),
        )
    return ()


def needs_mask(spec: JobSpec, minimum_mode: str) -> str:
    """Return who insists on masked sums, "" if nobody does."""
    if spec.privacy.mode == "mask":
        return "the job"
    return "its federation" if minimum_mode == "mask" else ""


def unfit_for_masks(asked: Asked) -> str:
    """Return why this exchange cannot be a masked sum, "" if it can."""
    nodes = [instruction.node for instruction in asked.instructions]
    kinds = {instruction.message_type.partition(".")[0] for instruction in asked.instructions}
    if asked.kind is not ExchangeKind.EXCHANGE or not asked.fold:
        return f"replies are needed one by one: {asked.why or 'the app reads them itself'}"
    if not kinds <= MASKED or len(kinds) != 1:
        return f"only replies of one kind, train or evaluate, are summed, this asks for {', '.join(sorted(kinds))}"
    if len(set(nodes)) < len(nodes):
        return "it sends a node more than one message"
    if len(nodes) < LEAST:
        return f"it asks {len(nodes)} nodes, and a masked sum holds {LEAST} or more"
    if len({instruction.content for instruction in asked.instructions}) > 1:
        return "it sends different messages to different nodes, and the masks are bound to one"
    return ""


def takes_mask(spec: JobSpec, minimum_mode: str) -> bool:
    """Say whether an exchange that is fit for masks is masked."""
    if needs_mask(spec, minimum_mode):
        return True
    two = spec.cohort.minimum == LEAST - 1 or 0 < spec.cohort.target < LEAST
    return spec.privacy.mode == "auto" and not two


def mask_plan(spec: JobSpec, rows: Sequence[int]) -> MaskPlan:
    """Return how an exchange is masked.

    Args:
        spec: The job's.
        rows: Rows of the nodes' datasets, as they are known to the coordinator: what bounds sample counts.
    """
    most = spec.max_weight if spec.max_weight < _ANY_WEIGHT else max(rows, default=0)
    bits = math.ceil(math.log2(most)) if most >= 1 else _WEIGHT_BITS
    return MaskPlan(spec.privacy.ring, spec.privacy.range_bits, bits)
