"""The last two steps of a masked round at a node that has sent its vector: sign who is in the sum, then give shares.

Rules, each because of an attack:

1. the two lists are disjoint, and together they are exactly the members that shared (a node in both would have both of
   its secrets opened);
2. one list is signed for a (job, round), ever: the caller writes it down before the signature leaves;
3. shares are given for that list only, and only when a quorum has signed the very same one (two halves of the cohort
   could otherwise be told two lists);
4. too small a sum is never opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from client_node.privacy.session import Floor
from common.errors import BadSignature, PolicyDenied
from common.privacy.graph import quorum
from common.privacy.protocol import LEAST, Answer, Held, Roster, Survivors


@dataclass(frozen=True)
class Masked:
    """What a node remembers of a vector it has masked."""

    roster: Roster
    node: str
    sharers: tuple[str, ...]
    held: Mapping[str, Held] = field(repr=False)


def check_survivors(masked: Masked, survivors: Survivors, floor: Floor) -> bytes:
    """Return the statement to sign for this list.

    Raises:
        PolicyDenied: the list breaks a rule.
    """
    kept, lost = set(survivors.kept), set(survivors.lost)
    if kept & lost or len(kept) + len(lost) != len(survivors.kept) + len(survivors.lost):
        raise PolicyDenied("a node stands twice in the lists: both its secrets would be opened", code="both_shares")
    if kept | lost != set(masked.sharers) or masked.node not in kept:
        raise PolicyDenied("the lists are not of the members that shared their keys", code="forged_survivors")
    least = max(floor.nodes, LEAST)
    if len(kept) < least:
        raise PolicyDenied(
            f"only {len(kept)} node(s) would be in the sum, this node wants {least}", code="cohort_too_small"
        )
    if len({masked.roster.by_node[node].tenant for node in kept}) < floor.tenants:
        raise PolicyDenied("too few tenants would be in the sum", code="too_few_tenants")
    return survivors.statement(masked.roster)


def answer(
    masked: Masked,
    survivors: Survivors,
    signatures: Mapping[str, bytes],
    verify: Callable[[bytes, bytes, bytes], None],
) -> tuple[Answer, ...]:
    """Return one share of each neighbour: of its self-mask if it is in the sum, of its mask key if it was lost.

    Args:
        masked: What this node remembers.
        survivors: The list this node has signed.
        signatures: Of that list, by node.
        verify: Takes (certificate, signature, statement); raises BadSignature.

    Raises:
        PolicyDenied: too few have signed this list.
    """
    statement = survivors.statement(masked.roster)
    signed = sum(1 for node in survivors.kept if _has_signed(masked.roster, node, signatures, verify, statement))
    needed = quorum(len(masked.sharers))
    if signed < needed:
        raise PolicyDenied(
            f"only {signed} of {needed} nodes have signed this list of survivors", code="survivors_unproven"
        )
    return _shares(masked, survivors.kept, survivors.lost)


def _has_signed(
    roster: Roster,
    node: str,
    signatures: Mapping[str, bytes],
    verify: Callable[[bytes, bytes, bytes], None],
    statement: bytes,
) -> bool:
    try:
        verify(roster.by_node[node].certificate, signatures.get(node, b""), statement)
    except BadSignature:
        return False
    return True


def _shares(masked: Masked, kept: Sequence[str], lost: Sequence[str]) -> tuple[Answer, ...]:
    mine = [Answer(node, masked.held[node].self_mask) for node in kept if node in masked.held]
    return (*mine, *(Answer(node, masked.held[node].mask_key) for node in lost if node in masked.held))
