"""A cohort of nodes and a coordinator in one thread, for tests of masked rounds: the machines with nothing between."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from client_node.privacy.session import Floor, MaskKeys, Session
from client_node.privacy.unmasking import Masked, answer, check_survivors
from common.crypto.masks import Keystreams
from common.errors import BadSignature
from common.privacy import wide
from common.privacy.protocol import Advert, Subject, make_roster
from coordinator.rounds.masked import MaskedAttempt, Phase

SUBJECT = Subject("job_1", 1, 1, "c" * 64, "d" * 64)
PHASES = (Phase.SHARING, Phase.MASKING, Phase.SIGNING, Phase.OPENING)


def sign(node: str, statement: bytes) -> bytes:
    return hashlib.sha256(node.encode() + statement).digest()


def verify(certificate: bytes, signature: bytes, statement: bytes) -> None:
    if signature != sign(certificate.decode(), statement):
        raise BadSignature("bad")


def verify_advert(advert: Advert, statement: bytes) -> None:
    verify(advert.certificate, advert.signature, statement)


@dataclass
class Cohort:
    """``nodes`` members with a vector each; ``drops`` says in which phase a member falls silent."""

    nodes: int
    seed: int = 0
    size: int = 9
    least: int = 3
    subjects: dict[int, Subject] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dice = random.Random(self.seed)
        self.names = [f"node_{at:04d}" for at in range(self.nodes)]
        rng = np.random.default_rng(self.seed)
        self.rings = {n: rng.integers(0, 2**32, self.size, dtype=np.uint32) for n in self.names}
        self.wides = {n: [dice.randrange(-(2**150), 2**150) for _ in range(2)] for n in self.names}
        self.sessions = {
            n: Session(self.subjects.get(at, SUBJECT), n, f"tenant-{at % 4}", Floor(), dice.randbytes)
            for at, n in enumerate(self.names)
        }
        adverts = [
            s.advertise("e" * 64, 4, 10, n.encode(), lambda statement, n=n: sign(n, statement))
            for n, s in self.sessions.items()
        ]
        self.roster = make_roster(SUBJECT, adverts)
        self.attempt = MaskedAttempt(self.roster, self.least)
        self.keys: dict[str, MaskKeys] = {}
        self.vectors: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def masked(self, name: str) -> Masked:
        return Masked(self.roster, name, self.attempt.sharers, self.keys[name].held)

    def run(self, drops: dict[str, Phase], *, back: Collection[str] = ()) -> tuple[np.ndarray, list[int]]:
        """Play all phases and return the opened sums (raises what the coordinator's machine raises)."""
        gone: set[str] = set()
        for phase in PHASES:
            gone |= {n for n, when in drops.items() if when is phase}
            if phase is Phase.OPENING:
                gone -= set(back)
            here = [n for n in self.names if n not in gone]
            getattr(self, phase.value)(here)
            for name in gone:
                self.attempt.lose(name)
            assert self.attempt.ready()
            self.attempt.advance()
        return self.open()

    def sharing(self, here: Sequence[str]) -> None:
        for name in here:
            shared = self.sessions[name].join(self.roster, verify_advert)
            assert self.attempt.shared(name, shared.sealed, shared.commitment)

    def masking(self, here: Sequence[str]) -> None:
        for name, sealed in self.attempt.deliveries().items():
            if name in here:
                self.keys[name] = self.sessions[name].deliver(self.attempt.sharers, sealed)
                self.vectors[name] = mask(self.rings[name], self.wides[name], self.keys[name])
                assert self.attempt.sent(name, hashlib.sha256(self.vectors[name][0]).hexdigest())

    def signing(self, here: Sequence[str]) -> None:
        survivors = self.attempt.survivors
        for name in survivors.kept:
            if name in here:
                self.attempt.signed(name, sign(name, check_survivors(self.masked(name), survivors, Floor())))

    def opening(self, here: Sequence[str]) -> None:
        survivors = self.attempt.survivors
        for name in survivors.kept:
            self.attempt.back(name)
            if name in here:
                shares = answer(self.masked(name), survivors, self.attempt.signatures, verify)
                self.attempt.answered(name, shares)

    def open(self) -> tuple[np.ndarray, list[int]]:
        opening, kept = self.attempt.opening(), self.attempt.survivors.kept
        ring = np.zeros(self.size, np.uint32)
        lanes = wide.from_ints([0, 0])
        for name in kept:
            ring += self.vectors[name][0]
            lanes = wide.add(lanes, self.vectors[name][1])
        Keystreams([s[:16] for s in opening.add], [s[:16] for s in opening.subtract]).apply(ring)
        return ring, wide.to_ints(wide.masked(lanes, [s[16:] for s in opening.add], [s[16:] for s in opening.subtract]))

    def expected(self) -> tuple[np.ndarray, list[int]]:
        """The sums over the survivors, in exact integers."""
        kept = self.attempt.survivors.kept
        ring = [sum(int(self.rings[n][i]) for n in kept) % 2**32 for i in range(self.size)]
        return np.array(ring, np.uint32), [sum(column) for column in zip(*(self.wides[n] for n in kept), strict=True)]


def mask(ring: np.ndarray, lanes: list[int], keys: MaskKeys) -> tuple[np.ndarray, np.ndarray]:
    out = ring.copy()
    Keystreams([s[:16] for s in keys.plus], [s[:16] for s in keys.minus]).apply(out)
    return out, wide.masked(wide.from_ints(lanes), [s[16:] for s in keys.plus], [s[16:] for s in keys.minus])
