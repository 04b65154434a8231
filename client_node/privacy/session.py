"""One attempt at a masked sum, at one node: keys → roster → shares → masks.  Fed with messages, does no I/O.

Rules, each because of an attack:

1. keys are made here, for one attempt, and mask one vector;
2. a roster must hold exactly what every member signed about *this* attempt, model, spec and layout, and enough members
   and tenants (a coordinator that adds, swaps or shows others another model is caught here; if it were not, the keys
   would not cancel either, for they are derived from the roster's digest);
3. only members that shared their secrets are masked with, and there must be enough of them;
4. no second roster and no second list of sharers is taken.

Source: Bonawitz et al. 2017, Figure 4; Bell et al. 2020, Algorithm 2; Pasquini et al. 2021 for rule 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from common.crypto import masks, shamir
from common.errors import BadInput, PolicyDenied
from common.privacy.graph import degree_and_threshold, neighbours
from common.privacy.protocol import LEAST, MOST_NODES, Advert, Held, Roster, Subject, commitment


@dataclass(frozen=True)
class Floor:
    """The least that this node accepts."""

    nodes: int = LEAST
    tenants: int = 1


@dataclass(frozen=True)
class Shared:
    """What a node sends once it has taken a roster."""

    sealed: Mapping[str, bytes]  # neighbour -> its two shares, for its eyes only
    commitment: bytes


@dataclass(frozen=True)
class MaskKeys:
    """The seeds that a vector is masked with, 32 bytes each, and what is kept for the unmasking."""

    plus: tuple[bytes, ...] = field(repr=False)
    minus: tuple[bytes, ...] = field(repr=False)
    held: Mapping[str, Held] = field(repr=False)  # neighbour, or this node -> shares of its secrets


class Session:
    """The secrets of one attempt.

    Args:
        subject: What the attempt is about, as this node knows it.
        node: This node.
        tenant: Its tenant.
        floor: The least it accepts.
        draw: Returns so many unpredictable bytes.
    """

    def __init__(self, subject: Subject, node: str, tenant: str, floor: Floor, draw: Callable[[int], bytes]) -> None:
        self.subject, self._node, self._tenant, self._floor, self._draw = subject, node, tenant, floor, draw
        self._mask_key, self._seal_key, self._self_mask = (draw(masks.KEY_BYTES) for _ in range(3))
        self._advert: Advert | None = None
        self.roster: Roster | None = None
        self._shared: Shared | None = None
        self._own: Held | None = None
        self._masked = False

    def advertise(
        self, layout: str, range_bits: int, weight_bits: int, certificate: bytes, sign: Callable[[bytes], bytes]
    ) -> Advert:
        """Return this node's advert; the same one each time."""
        if self._advert is None:
            mask_key, seal_key = masks.public_of(self._mask_key), masks.public_of(self._seal_key)
            bare = Advert(self._node, self._tenant, mask_key, seal_key, layout, range_bits, weight_bits)
            signature = sign(bare.statement(self.subject))
            self._advert = Advert(
                self._node, self._tenant, mask_key, seal_key, layout, range_bits, weight_bits, certificate, signature
            )
        return self._advert

    def join(self, roster: Roster, verify: Callable[[Advert, bytes], None]) -> Shared:
        """Take the roster and return the shares of this node's secrets, one pair for each neighbour.

        Args:
            roster: As the coordinator sent it.
            verify: Raises unless the advert's certificate is that node's and its key signed the statement.

        Raises:
            PolicyDenied: the roster breaks a rule.
        """
        if self.roster is not None:
            if roster.digest != self.roster.digest or self._shared is None:
                raise PolicyDenied("a second roster came for the same attempt", code="second_roster")
            return self._shared
        self._check(roster, verify)
        graph = neighbours(roster.nodes, roster.digest)
        mine = graph[self._node]
        holders = (*mine, self._node)
        _, threshold = degree_and_threshold(len(roster.nodes))
        of_mask = shamir.split(self._self_mask, len(holders), threshold, self._draw)
        of_key = shamir.split(self._mask_key, len(holders), threshold, self._draw)
        pairs = {node: Held(of_mask[at], of_key[at]) for at, node in enumerate(holders)}
        sealed = {node: self._sealed(roster, node, pairs[node]) for node in mine}
        self.roster, self._own = roster, pairs[self._node]
        self._shared = Shared(sealed, commitment(self._self_mask))
        return self._shared

    def deliver(self, sharers: Sequence[str], sealed: Mapping[str, bytes]) -> MaskKeys:
        """Take the neighbours' shares and return what to mask with; once.

        Args:
            sharers: Every member that shared, this node among them.
            sealed: From each neighbour among them, its two shares.

        Raises:
            PolicyDenied: too few shared, one is no member or is missing, or this is the second time.
            BadSignature: a sealed message was changed.
        """
        if self.roster is None or self._own is None or self._masked:
            raise PolicyDenied("shares came out of turn: one attempt masks one vector", code="second_masking")
        mine = set(neighbours(self.roster.nodes, self.roster.digest)[self._node]) & set(sharers)
        _, threshold = degree_and_threshold(len(self.roster.nodes))
        _check_members(self.roster, sharers, self._node, self._floor, "shared its keys")
        if set(sealed) != mine or len(mine) + 1 < threshold:
            raise PolicyDenied("the shares delivered are not those of this node's neighbours", code="forged_shares")
        held = {node: self._opened(self.roster, node, sealed[node]) for node in sorted(mine)}
        keys = {node: self._pair_key(self.roster, node) for node in held}
        self._masked = True
        own = masks.derive(self._self_mask, self.roster.digest, "self")
        return MaskKeys(
            plus=(own, *(key for node, key in keys.items() if self._node < node)),
            minus=tuple(key for node, key in keys.items() if self._node > node),
            held={**held, self._node: self._own},
        )

    def _check(self, roster: Roster, verify: Callable[[Advert, bytes], None]) -> None:
        if roster.subject != self.subject:
            raise PolicyDenied("the roster is about another round or another model", code="forged_roster")
        if self._advert is None or roster.by_node.get(self._node) != self._advert:
            raise PolicyDenied("this node's own advert is not in the roster as it was sent", code="forged_roster")
        if list(roster.nodes) != sorted(set(roster.nodes)) or len(roster.nodes) > MOST_NODES:
            raise PolicyDenied("the roster names a node twice, or is out of order", code="forged_roster")
        keys = [key for advert in roster.adverts for key in (advert.mask_key, advert.seal_key)]
        if len(set(keys)) != len(keys):
            raise PolicyDenied("the roster holds one key twice", code="forged_roster")
        _check_members(roster, roster.nodes, self._node, self._floor, "takes part")
        for advert in roster.adverts:
            if advert.layout != self._advert.layout:
                raise PolicyDenied(f"node {advert.node} sends another layout", code="forged_roster")
            if advert.node != self._node:
                verify(advert, advert.statement(self.subject))

    def _sealed(self, roster: Roster, node: str, pair: Held) -> bytes:
        key = masks.derive(self._secret(roster, node), roster.digest, f"share {self._node} {node}")
        return masks.seal(key, pair.self_mask + pair.mask_key, roster.digest)

    def _opened(self, roster: Roster, node: str, sealed: bytes) -> Held:
        key = masks.derive(self._secret(roster, node), roster.digest, f"share {node} {self._node}")
        plain = masks.unseal(key, sealed, roster.digest)
        if len(plain) != 2 * shamir.SHARE_BYTES:
            raise BadInput(f"node {node} sent shares of the wrong length")
        return Held(plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :])

    def _secret(self, roster: Roster, node: str) -> bytes:
        return masks.agree(self._seal_key, roster.by_node[node].seal_key)

    def _pair_key(self, roster: Roster, node: str) -> bytes:
        return masks.derive(masks.agree(self._mask_key, roster.by_node[node].mask_key), roster.digest, "pair")


def _check_members(roster: Roster, nodes: Sequence[str], me: str, floor: Floor, does: str) -> None:
    if me not in nodes or len(set(nodes)) != len(nodes) or not set(nodes) <= set(roster.nodes):
        raise PolicyDenied(f"the list of who {does} is not of this roster", code="forged_roster")
    least = max(floor.nodes, LEAST)
    if len(nodes) < least:
        raise PolicyDenied(
            f"only {len(nodes)} node(s) would be in the sum, this node wants {least}", code="cohort_too_small"
        )
    tenants = {roster.by_node[node].tenant for node in nodes}
    if len(tenants) < floor.tenants:
        raise PolicyDenied(
            f"only {len(tenants)} tenant(s) would be in the sum, this node wants {floor.tenants}",
            code="too_few_tenants",
        )
