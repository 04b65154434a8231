"""The words of a masked round: what nodes sign, what they agree on, and the digests that bind it all together.

A round of masks is an *attempt* at one exchange of a job.  Nodes that hold an update advertise two fresh X25519 keys
(one for masks, one for messages), signed with the key of their certificate over everything the attempt is about; the
coordinator gathers them into a roster that every node checks for itself.  Nothing here is secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from common.crypto.canonical import canonical

LEAST = 3  # nodes in a masked sum: with two, each would know the other's part
RINGS = (16, 32)  # bits
MAX_EXPONENT = 64  # of ranges and weights
MOST_NODES = 4096


@dataclass(frozen=True)
class Subject:
    """What an attempt is about."""

    job: str
    seq: int
    attempt: int
    content: str  # SHA-256 of the instruction: the model that was received
    spec: str  # SHA-256 of the job's spec and app
    ring: int = 32  # bits of an element

    def words(self) -> dict[str, str | int]:
        """Return the subject as canonical JSON takes it."""
        return {
            "job": self.job,
            "seq": self.seq,
            "attempt": self.attempt,
            "content": self.content,
            "spec": self.spec,
            "ring": self.ring,
        }


@dataclass(frozen=True)
class Advert:
    """A node's keys for one attempt, and what its update needs.

    ``range_bits`` and ``weight_bits`` are public: 2^range_bits bounds every change of a value, 2^weight_bits the sample
    count.  A node says the asked ones unless its update does not fit them.
    """

    node: str
    tenant: str
    mask_key: bytes
    seal_key: bytes
    layout: str  # SHA-256 of the layout of its update
    range_bits: int
    weight_bits: int
    certificate: bytes = field(repr=False, default=b"")  # PEM
    signature: bytes = field(repr=False, default=b"")

    def statement(self, subject: Subject) -> bytes:
        """Return what the node signs."""
        return canonical({"hansa": "mask-advert-1", **subject.words(), **self.words()})

    def words(self) -> dict[str, str | int]:
        """Return the advert as canonical JSON takes it, its proofs aside."""
        return {
            "node": self.node,
            "tenant": self.tenant,
            "mask_key": self.mask_key.hex(),
            "seal_key": self.seal_key.hex(),
            "layout": self.layout,
            "range_bits": self.range_bits,
            "weight_bits": self.weight_bits,
        }


@dataclass(frozen=True)
class Roster:
    """The cohort of one attempt.  All members see the same one, or their masks do not cancel."""

    subject: Subject
    adverts: tuple[Advert, ...]  # by node id

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of subject and adverts: what every key of the attempt is derived with."""
        words = [advert.words() for advert in self.adverts]
        text = canonical({"hansa": "mask-roster-1", **self.subject.words(), "adverts": words})
        return hashlib.sha256(text).digest()

    @cached_property
    def by_node(self) -> dict[str, Advert]:
        """The adverts by node."""
        return {advert.node: advert for advert in self.adverts}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The members, in order."""
        return tuple(advert.node for advert in self.adverts)

    @property
    def range_bits(self) -> int:
        """The range that fits everybody's update."""
        return max(advert.range_bits for advert in self.adverts)

    @property
    def weight_bits(self) -> int:
        """The bound that fits everybody's sample count."""
        return max(advert.weight_bits for advert in self.adverts)


def make_roster(subject: Subject, adverts: Sequence[Advert]) -> Roster:
    """Return the roster of ``adverts``, in the one order."""
    return Roster(subject, tuple(sorted(adverts, key=lambda advert: advert.node)))


@dataclass(frozen=True)
class Survivors:
    """Who is in the sum, and who shared keys but did not send: every member that shared is in exactly one list."""

    kept: tuple[str, ...]  # sorted
    lost: tuple[str, ...]  # sorted

    def statement(self, roster: Roster) -> bytes:
        """Return what a node signs before it answers."""
        words = {"hansa": "mask-survivors-1", "roster": roster.digest.hex()}
        return canonical({**words, "kept": list(self.kept), "lost": list(self.lost)})


@dataclass(frozen=True)
class Held:
    """The two shares a node holds of a neighbour (or itself): only one of them is ever given away."""

    self_mask: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """One share given away: of the self-mask of a node that is in the sum, of the mask key of one that was lost."""

    about: str
    share: bytes = field(repr=False)


def commitment(seed: bytes) -> bytes:
    """Return what binds a node to its self-mask, so that a wrong share is found out."""
    return hashlib.sha256(b"hansa/mask-commitment-1" + seed).digest()
