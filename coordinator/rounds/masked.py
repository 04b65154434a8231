"""One attempt at a masked sum, from its roster to the seeds that open the sum.

Fed with messages and times; asks for neither.  Members may drop out in any phase.  A phase ends when everybody who is
left has spoken, or when its time is over; an attempt is given up when fewer than ``least`` members are left.  Once
survivors have been proposed they are fixed: nodes sign one list a round, ever.

    SHARING   each member seals shares of its secrets for its neighbours
    MASKING   each member that got its shares sends its masked vector
    SIGNING   the survivors sign who is in the sum
    OPENING   each survivor gives one share of each neighbour: of a self-mask, or of a lost member's mask key
    OPENED    ``opening()`` says what to take off the sum
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import combinations, islice

from common.crypto import masks, shamir
from common.errors import BadInput, BadUpdate, TooFewNodes
from common.privacy.graph import degree_and_threshold, neighbours, quorum
from common.privacy.protocol import LEAST, Answer, Roster, Survivors, commitment

_TRIES = 500  # combinations of shares, where one was wrong
_Weights = dict[tuple[int, ...], tuple[int, ...]]  # of Lagrange, by the holders' numbers


class Phase(StrEnum):
    """Where an attempt is."""

    SHARING = "sharing"
    MASKING = "masking"
    SIGNING = "signing"
    OPENING = "opening"
    OPENED = "opened"


@dataclass(frozen=True)
class Record:
    """What must be written down before survivors are proposed: with it a restarted coordinator goes on."""

    roster: Roster
    sharers: tuple[str, ...]
    commitments: Mapping[str, bytes]
    vectors: Mapping[str, str]  # survivor -> SHA-256 of its masked vector

    @property
    def survivors(self) -> Survivors:
        """The list that is proposed."""
        return Survivors(tuple(sorted(self.vectors)), tuple(sorted(set(self.sharers) - set(self.vectors))))


@dataclass(frozen=True)
class Opening:
    """16-byte-ring and wide seeds (32 bytes) of the masks that are left in the sum of the survivors' vectors."""

    subtract: tuple[bytes, ...] = field(repr=False)
    add: tuple[bytes, ...] = field(repr=False)


class MaskedAttempt:
    """The state of one attempt.

    Args:
        roster: The members and what they advertised.
        least: Members that a sum must hold.
        record: Where a former coordinator had proposed survivors, what it wrote down.
    """

    def __init__(self, roster: Roster, least: int, record: Record | None = None) -> None:
        self.roster, self.least = roster, max(least, LEAST)
        self.phase = Phase.SIGNING if record else Phase.SHARING
        self.sharers: tuple[str, ...] = record.sharers if record else ()
        self._expected = set(record.vectors if record else roster.nodes)
        self._done: set[str] = set()
        self.commitments: dict[str, bytes] = dict(record.commitments) if record else {}
        self._sealed: dict[str, Mapping[str, bytes]] = {}
        self._vectors: dict[str, str] = dict(record.vectors) if record else {}
        self.signatures: dict[str, bytes] = {}
        self._shares: dict[str, dict[int, bytes]] = {}

    @cached_property
    def graph(self) -> dict[str, tuple[str, ...]]:
        """Each member's neighbours."""
        return neighbours(self.roster.nodes, self.roster.digest)

    @property
    def threshold(self) -> int:
        """Shares that open a secret."""
        return degree_and_threshold(len(self.roster.nodes))[1]

    @property
    def record(self) -> Record:
        """What is to be written down before the survivors are proposed."""
        return Record(self.roster, self.sharers, dict(self.commitments), dict(self._vectors))

    @property
    def survivors(self) -> Survivors:
        """Who is in the sum, once the vectors are in."""
        return self.record.survivors

    def waiting(self) -> frozenset[str]:
        """Return the members that this phase waits for."""
        return frozenset(self._expected - self._done)

    # ---- what members say -------------------------------------------------------------------------------------------

    def shared(self, node: str, sealed: Mapping[str, bytes], committed: bytes) -> bool:
        """Take a member's sealed shares; False: they are not what was asked."""
        if self.phase is not Phase.SHARING or node not in self._expected:
            return False
        if set(sealed) != set(self.graph[node]) or len(committed) != len(commitment(b"")):
            self.lose(node)
            return False
        self._sealed[node], self.commitments[node] = sealed, committed
        self._done.add(node)
        return True

    def sent(self, node: str, digest: str) -> bool:
        """Note that a member's masked vector is here."""
        if self.phase is not Phase.MASKING or node not in self._expected:
            return False
        self._vectors[node] = digest
        self._done.add(node)
        return True

    def signed(self, node: str, signature: bytes) -> bool:
        """Take a survivor's signature, which the caller has verified."""
        if self.phase is not Phase.SIGNING or node not in self._expected:
            return False
        self.signatures[node] = signature
        self._done.add(node)
        return True

    def answered(self, node: str, answers: Iterable[Answer]) -> bool:
        """Take a survivor's shares."""
        if self.phase is not Phase.OPENING or node not in self._expected:
            return False
        for each in answers:
            if each.about in self.sharers and node in self._holders(each.about):
                self._shares.setdefault(each.about, {})[self._holders(each.about).index(node) + 1] = each.share
        self._done.add(node)
        return True

    def lose(self, node: str) -> None:
        """A member is gone for good, in this phase: it is not waited for."""
        self._expected.discard(node)
        self._done.discard(node)

    def back(self, node: str) -> None:
        """A survivor that had gone is there again; it remembers, so it may still sign and answer."""
        if self.phase in {Phase.SIGNING, Phase.OPENING} and node in self._vectors:
            self._expected.add(node)

    # ---- phases -----------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Say whether the phase can end now: nobody is waited for, or enough have spoken where not all are needed."""
        if self.phase is Phase.SIGNING and len(self.signatures) >= quorum(len(self.sharers)):
            return True
        if self.phase is Phase.OPENING and self._enough():
            return True
        return not self.waiting()

    def advance(self) -> Phase:
        """End the phase with those who have spoken, and return the next one.

        Raises:
            TooFewNodes: too few have; the attempt is over.
        """
        done = len(self._done)
        match self.phase:
            case Phase.SHARING:
                self._require(done, self.least, "shared their keys")
                self.sharers = self._openable(self._done)
                self._require(len(self.sharers), self.least, "have enough neighbours")
                self._begin(Phase.MASKING, self.sharers)
            case Phase.MASKING:
                self._require(done, self.least, "sent their masked update")
                self._begin(Phase.SIGNING, self._vectors)
            case Phase.SIGNING:
                self._require(done, quorum(len(self.sharers)), "signed the list of survivors")
                self._begin(Phase.OPENING, self._vectors)
            case Phase.OPENING:
                if not self._enough():
                    raise TooFewNodes(
                        f"only {done} of {len(self._vectors)} nodes helped to open the sum", code="sum_not_opened"
                    )
                self.phase = Phase.OPENED
            case Phase.OPENED:
                pass
        return self.phase

    def deliveries(self) -> dict[str, dict[str, bytes]]:
        """Return for each member that shared, its neighbours' shares."""
        sharers = set(self.sharers)
        return {
            node: {peer: self._sealed[peer][node] for peer in self.graph[node] if peer in sharers}
            for node in self.sharers
        }

    def opening(self) -> Opening:
        """Return the seeds of the masks that are left in the sum.

        Raises:
            BadUpdate: a member gave wrong shares, and there are too few others.
        """
        survivors, context = self.survivors, self.roster.digest
        weights: _Weights = {}
        subtract = [
            masks.derive(self._secret(node, self.commitments[node], commitment, weights), context, "self")
            for node in survivors.kept
        ]
        add: list[bytes] = []
        kept = set(survivors.kept)
        for lost in survivors.lost:
            key = self._secret(lost, self.roster.by_node[lost].mask_key, masks.public_of, weights)
            for node in self.graph[lost]:
                if node in kept:
                    agreed = masks.agree(key, self.roster.by_node[node].mask_key)
                    (subtract if node < lost else add).append(masks.derive(agreed, context, "pair"))
        return Opening(tuple(subtract), tuple(add))

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, phase: Phase, expected: Iterable[str]) -> None:
        self.phase, self._expected, self._done = phase, set(expected), set()

    def _require(self, count: int, least: int, did: str) -> None:
        if count < least:
            raise TooFewNodes(f"only {count} of at least {least} nodes {did}", code="masking_abandoned")

    def _holders(self, node: str) -> tuple[str, ...]:
        """Return who holds a share of the node's secrets, in the order of their numbers."""
        return (*self.graph[node], node)

    def _openable(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``nodes`` whose secrets enough of the others hold: the rest would make the sum a riddle."""
        found = set(nodes)
        while few := {n for n in found if sum(h in found for h in self._holders(n)) < self.threshold}:
            found -= few
        return tuple(sorted(found))

    def _enough(self) -> bool:
        return all(len(self._shares.get(node, ())) >= self.threshold for node in self.sharers if self._needed(node))

    def _needed(self, node: str) -> bool:
        """Say whether the sum needs a secret of this node: a lost node's only where a survivor masked with it."""
        return node in self._vectors or any(peer in self._vectors for peer in self.graph[node])

    def _secret(self, node: str, expected: bytes, check: Callable[[bytes], bytes], weights: _Weights) -> bytes:
        shares = self._shares.get(node, {})
        for holders in islice(combinations(sorted(shares), self.threshold), _TRIES):
            if holders not in weights:
                weights[holders] = shamir.weights_at_zero(holders)
            try:
                secret = shamir.combine({x: shares[x] for x in holders}, weights[holders])
            except BadInput:
                continue
            if check(secret) == expected:
                return secret
        raise BadUpdate(f"the shares that open the sum are wrong for node {node}", code="bad_shares")
