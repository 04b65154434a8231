"""Masked sums on the wire: protobuf to the protocol's records and back, and the proofs of this node and its peers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from client_node.privacy.session import MaskKeys, Session
from client_node.privacy.unmasking import Masked
from client_node.services.credentials import Credentials
from client_node.services.offers import PreparedJob
from common.clock import Clock
from common.crypto.masks import KEY_BYTES
from common.crypto.peers import sign_statement, verified_node, verify_statement
from common.errors import BadInput, BadSignature, PolicyDenied
from common.privacy.protocol import MAX_EXPONENT, MOST_NODES, RINGS, Advert, Held, Roster, Subject, Survivors
from common.wire import hansa_node_pb2 as pb


def subject_of(offer: pb.TaskOffer, job: PreparedJob) -> Subject:
    """Return what a masked task is about, as this node knows it.

    Raises:
        PolicyDenied: the coordinator asks for other parameters than the job's.
    """
    terms = offer.mask
    if terms.ring not in RINGS or terms.ring != job.spec.privacy.ring:
        raise PolicyDenied(
            f"the job's masks are of {job.spec.privacy.ring} bits, the coordinator asks for {terms.ring}",
            code="lowered_parameters",
        )
    if abs(terms.range_bits) > MAX_EXPONENT or abs(terms.weight_bits) > MAX_EXPONENT:
        raise BadInput("ranges must be within 2^-64 and 2^64")
    return Subject(offer.job, offer.seq, terms.attempt, offer.content.digest, spec_digest(job), terms.ring)


def spec_digest(job: PreparedJob) -> str:
    """Return what binds a round to the job's terms and code as this node agreed to them."""
    return hashlib.sha256(f"{job.prepare.app_digest}\n{job.prepare.spec}".encode()).hexdigest()


def advert_to(advert: Advert) -> pb.MaskAdvert:
    """Return an advert for the wire."""
    return pb.MaskAdvert(
        node=advert.node,
        tenant=advert.tenant,
        mask_key=advert.mask_key,
        seal_key=advert.seal_key,
        layout=advert.layout,
        range_bits=advert.range_bits,
        weight_bits=advert.weight_bits,
        certificate=advert.certificate,
        signature=advert.signature,
    )


def roster_of(subject: Subject, order: pb.MaskOrder.Roster) -> Roster:
    """Return the roster as it came; whether it is right is for the session to say.

    Raises:
        BadInput: a key has the wrong length, or there are too many members.
    """
    if len(order.adverts) > MOST_NODES:
        raise BadInput(f"a roster of {len(order.adverts)} nodes is over the limit of {MOST_NODES}")
    adverts = tuple(
        Advert(
            a.node, a.tenant, a.mask_key, a.seal_key, a.layout, a.range_bits, a.weight_bits, a.certificate, a.signature
        )
        for a in order.adverts
    )
    if any(len(key) != KEY_BYTES for a in adverts for key in (a.mask_key, a.seal_key)):
        raise BadInput("an advert holds no X25519 keys")
    return Roster(subject, adverts)


def survivors_of(order: pb.MaskOrder.Survivors) -> Survivors:
    """Return the two lists."""
    return Survivors(tuple(order.kept), tuple(order.lost))


def sealed_of(items: Sequence[pb.MaskSealed]) -> dict[str, bytes]:
    """Return bytes by node."""
    return {item.node: item.data for item in items}


def sealed_to(items: Mapping[str, bytes]) -> list[pb.MaskSealed]:
    """Return bytes by node for the wire."""
    return [pb.MaskSealed(node=node, data=data) for node, data in items.items()]


def record_of(node: str, session: Session, sharers: Sequence[str], keys: MaskKeys) -> bytes:
    """Return what this node must remember to help to open the sum."""
    subject, roster = session.subject, session.roster
    adverts = [advert_to(advert) for advert in roster.adverts] if roster else []
    return pb.MaskRecord(
        job=subject.job,
        seq=subject.seq,
        attempt=subject.attempt,
        content=subject.content,
        spec=subject.spec,
        ring=subject.ring,
        node=node,
        roster=pb.MaskOrder.Roster(adverts=adverts),
        sharers=sharers,
        held=[
            pb.MaskRecord.Held(node=peer, self_mask=held.self_mask, mask_key=held.mask_key)
            for peer, held in keys.held.items()
        ],
    ).SerializeToString()


def masked_of(record: bytes) -> Masked:
    """Return what ``record_of`` wrote."""
    row = pb.MaskRecord.FromString(record)
    subject = Subject(row.job, row.seq, row.attempt, row.content, row.spec, row.ring)
    held = {each.node: Held(each.self_mask, each.mask_key) for each in row.held}
    return Masked(roster_of(subject, row.roster), row.node, tuple(row.sharers), held)


@dataclass(frozen=True)
class Party:
    """This node, as its peers know it."""

    node: str
    tenant: str
    credentials: Callable[[], Credentials]
    clock: Clock

    def proofs(self) -> Proofs:
        """Return what signs and checks with the certificate that is in force now."""
        return Proofs(self.credentials(), self.clock.now())


class Proofs:
    """Signs with this node's key, and checks its peers against the CA that this node pinned when it joined."""

    def __init__(self, credentials: Credentials, now: float) -> None:
        self._credentials, self._now = credentials, now

    @property
    def certificate(self) -> bytes:
        """This node's certificate, PEM."""
        return self._credentials.certificate

    def sign(self, statement: bytes) -> bytes:
        """Return this node's signature."""
        return sign_statement(self._credentials.key, statement)

    def check_advert(self, advert: Advert, statement: bytes) -> None:
        """Return if the advert is of the node it names.

        Raises:
            PolicyDenied: it is not.
        """
        try:
            says = verified_node(advert.certificate, self._credentials.ca, self._now)
            verify_statement(advert.certificate, advert.signature, statement)
        except (BadSignature, BadInput) as error:
            raise PolicyDenied(
                f"the advert of {advert.node[:80]!r} is forged: {error.detail}", code="forged_roster"
            ) from error
        if (says.node, says.tenant) != (advert.node, advert.tenant):
            raise PolicyDenied(f"the advert of {advert.node[:80]!r} is of another node", code="forged_roster")
