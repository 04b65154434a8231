"""Masked sums on the wire and in the journal: protobuf to the protocol's records and back."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.crypto.masks import KEY_BYTES
from common.crypto.peers import verify_statement
from common.errors import BadInput, PlatformError
from common.ids import NodeId, TaskId
from common.privacy.layout import Layout, parse_layout
from common.privacy.protocol import MAX_EXPONENT, Advert, Answer, Roster, Subject, Survivors
from common.wire import hansa_node_pb2 as pb
from coordinator.domain.jobs import Job
from coordinator.rounds.masked import MaskedAttempt, Phase, Record


def spec_digest(job: Job) -> str:
    """Return what binds a round to the job's terms and code, as the nodes were told them."""
    return hashlib.sha256(f"{job.app}\n{job.spec.to_json()}".encode()).hexdigest()


def advert_of(advert: pb.MaskAdvert) -> Advert:
    """Return the advert a node sent; whether it is its own is for the caller to say.

    Raises:
        BadInput: a field is malformed.
    """
    if any(len(key) != KEY_BYTES for key in (advert.mask_key, advert.seal_key)):
        raise BadInput("an advert holds no X25519 keys")
    if any(abs(bits) > MAX_EXPONENT for bits in (advert.range_bits, advert.weight_bits)):
        raise BadInput("ranges must be within 2^-64 and 2^64")
    return Advert(
        advert.node,
        advert.tenant,
        advert.mask_key,
        advert.seal_key,
        advert.layout,
        advert.range_bits,
        advert.weight_bits,
        advert.certificate,
        advert.signature,
    )


def roster_to(roster: Roster) -> pb.MaskOrder.Roster:
    """Return a roster for the wire."""
    return pb.MaskOrder.Roster(adverts=[_advert_to(advert) for advert in roster.adverts])


def _advert_to(advert: Advert) -> pb.MaskAdvert:
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


def survivors_to(survivors: Survivors) -> pb.MaskOrder.Survivors:
    """Return the two lists for the wire."""
    return pb.MaskOrder.Survivors(kept=survivors.kept, lost=survivors.lost)


def sealed_to(items: Mapping[str, bytes]) -> list[pb.MaskSealed]:
    """Return bytes by node for the wire."""
    return [pb.MaskSealed(node=node, data=data) for node, data in items.items()]


def sealed_of(items: Iterable[pb.MaskSealed]) -> dict[str, bytes]:
    """Return bytes by node."""
    return {item.node: item.data for item in items}


def answers_of(answers: pb.MaskWord.Answers) -> tuple[Answer, ...]:
    """Return the shares a node gave."""
    return tuple(Answer(share.about, share.share) for share in answers.shares)


def order_to(attempt: MaskedAttempt, node: NodeId, task: TaskId) -> pb.CoordinatorEvent:
    """Return what a member is to do in the phase that the attempt is in."""
    order = pb.MaskOrder(task=task, attempt=attempt.roster.subject.attempt)
    match attempt.phase:
        case Phase.SHARING:
            order.roster.CopyFrom(roster_to(attempt.roster))
        case Phase.MASKING:
            sealed = sealed_to(attempt.deliveries()[node])
            order.delivery.CopyFrom(pb.MaskOrder.Delivery(sharers=attempt.sharers, sealed=sealed))
        case Phase.SIGNING:
            order.survivors.CopyFrom(survivors_to(attempt.survivors))
        case _:
            signatures = sealed_to(attempt.signatures)
            survivors = survivors_to(attempt.survivors)
            order.open.CopyFrom(pb.MaskOrder.Open(survivors=survivors, signatures=signatures))
    return pb.CoordinatorEvent(mask=order)


def hear(attempt: MaskedAttempt, node: NodeId, word: pb.MaskWord) -> None:
    """Take a member's answer; one that is out of turn is dropped.

    Raises:
        BadSignature: a signature is not the member's, which is out of the attempt.
    """
    if node not in attempt.waiting():
        return
    match word.WhichOneof("word"):
        case "shares":
            attempt.shared(node, sealed_of(word.shares.sealed), word.shares.commitment)
        case "signed":
            statement = attempt.survivors.statement(attempt.roster)
            try:
                verify_statement(attempt.roster.by_node[node].certificate, word.signed.signature, statement)
            except PlatformError:
                attempt.lose(node)
                raise
            attempt.signed(node, word.signed.signature)
        case _:
            attempt.answered(node, answers_of(word.answers))


@dataclass(frozen=True)
class Saved:
    """What is written down of an attempt before survivors are proposed."""

    record: Record
    layout: Layout


def record_text(record: Record, layout: Layout) -> str:
    """Return the record as the journal keeps it."""
    subject = record.roster.subject
    row = pb.MaskRecord(
        job=subject.job,
        seq=subject.seq,
        attempt=subject.attempt,
        content=subject.content,
        spec=subject.spec,
        ring=subject.ring,
        roster=roster_to(record.roster),
        sharers=record.sharers,
        commitments=sealed_to(record.commitments),
        vectors=[pb.MaskSealed(node=node, data=bytes.fromhex(digest)) for node, digest in record.vectors.items()],
        layout=layout.text,
    )
    return b64encode(row.SerializeToString()).decode()


def record_of(text: str) -> Saved:
    """Return the record that ``record_text`` wrote."""
    row = pb.MaskRecord.FromString(b64decode(text))
    subject = Subject(row.job, row.seq, row.attempt, row.content, row.spec, row.ring)
    record = Record(
        Roster(subject, tuple(advert_of(advert) for advert in row.roster.adverts)),
        tuple(row.sharers),
        sealed_of(row.commitments),
        {each.node: each.data.hex() for each in row.vectors},
    )
    return Saved(record, parse_layout(row.layout))
