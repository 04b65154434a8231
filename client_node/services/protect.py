"""Masking at the node: what an app answered is kept here, and only the masked sum's part of it leaves.

A coordinator's orders are taken in turn, each checked by the pure session; whatever it should not have asked for is
refused, written down and shown.  What was written down before something left the node: the masked vector with the
shares held for it, before it is uploaded; the list of survivors, before it is signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from client_node.ports.link import Link
from client_node.ports.masks import MaskedVector, MaskState, Refusal
from client_node.ports.state import KeptUpdate
from client_node.privacy.session import Floor, Session
from client_node.privacy.unmasking import answer, check_survivors
from client_node.services import maskwords as words
from client_node.services.instructions import Fetched
from client_node.services.masked_file import Facts, ReplyFile, Sent, facts_of
from client_node.services.offers import PreparedJob
from client_node.services.sending import send_update
from client_node.services.updates import KeptUpdates
from client_node.settings import NodeSettings
from common.crypto.peers import verify_statement
from common.errors import PlatformError, PolicyDenied
from common.failpoints import failpoint
from common.privacy.protocol import Survivors
from common.privacy.quantize import Encoding, fitting_range, fitting_weight
from common.wire import hansa_node_pb2 as pb

_log = structlog.get_logger()
_QUIET = frozenset({"session_lost"})  # not the coordinator's fault


@dataclass
class LiveMask:
    """An attempt in the making; its secrets live in this process only."""

    session: Session
    offer: pb.TaskOffer
    facts: Facts
    reply: Path
    sent: Sent


class Protection:
    """All masked tasks of this node."""

    def __init__(
        self,
        me: words.Party,
        link: Link,
        kept: KeptUpdates,
        state: MaskState,
        folder: Path,
        settings: Callable[[], NodeSettings],
    ) -> None:
        self._me, self._settings, self._clock = me, settings, me.clock
        self._link, self.kept, self._state, self._folder = link, kept, state, folder
        self._live: dict[str, LiveMask] = {}
        self._sent: dict[str, Sent] = {}  # what masked tasks were sent, since this agent started
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def sweep(self) -> None:
        """Remove files that no row names."""
        named = {vector.file for vector in self._state.vectors()}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)

    # ---- what the coordinator asks ----------------------------------------------------------------------------------

    def needs(self, offer: pb.TaskOffer, instruction: Fetched) -> bool:
        """Keep the files of a masked task's instruction, and say that they must not be overwritten."""
        if not offer.HasField("mask"):
            return False
        sent = self._place(offer)
        for path, name in ((instruction.path, sent.path), (instruction.base, sent.base)):
            if path is not None and name is not None:
                name.unlink(missing_ok=True)
                name.hardlink_to(path)
        self._sent[offer.task] = sent
        return True

    async def begin(self, offer: pb.TaskOffer, job: PreparedJob, kept: KeptUpdate) -> None:
        """Advertise this node's keys for a kept reply, which stays here; offered again, say the same again."""
        async with self._turns[offer.task]:
            try:
                await self._begin(offer, job, kept)
            except PolicyDenied as error:
                self._refuse(offer.task, offer.mask.attempt, error)

    def refused(self, task: str, code: str, message: str) -> None:
        """Write down what this node would not do."""
        job = task.partition("/")[0]
        self._state.put_refusal(Refusal(self._me.clock.now(), job[:80], task[:120], code, message[:500]))

    async def order(self, order: pb.MaskOrder) -> None:
        """Take the next step of a masked sum, or refuse it."""
        async with self._turns[order.task]:
            try:
                match order.WhichOneof("order"):
                    case "roster":
                        await self._join(order)
                    case "delivery":
                        await self._mask(order)
                    case "survivors":
                        self._sign(order)
                    case "open":
                        self._open(order)
                    case _:
                        _log.warning("mask_order_ignored", task=order.task)
            except PlatformError as error:
                self._refuse(order.task, order.attempt, error)

    async def close(self, job: str, seq: int | None = None) -> None:
        """Forget what is kept of a job, or of one of its exchanges; what was signed is never forgotten."""
        mine = [v for v in self._state.vectors() if v.job == job and seq in {None, v.seq}]
        if mine:
            await asyncio.to_thread(self._state.drop_vectors, job, seq)
        files = [self._folder / vector.file for vector in mine]
        for task in {t for t in (*self._live, *self._sent, *self._turns) if _is_of(t, job, seq)}:
            self._live.pop(task, None)
            self._turns.pop(task, None)
            if (sent := self._sent.pop(task, None)) is not None:
                files += [path for path in (sent.path, sent.base) if path is not None]
        for path in files:
            path.unlink(missing_ok=True)

    # ---- the steps --------------------------------------------------------------------------------------------------

    async def _begin(self, offer: pb.TaskOffer, job: PreparedJob, kept: KeptUpdate) -> None:
        subject = words.subject_of(offer, job)
        vector = self._state.vector(offer.task)
        if vector is not None and vector.attempt == subject.attempt:
            await self._send(vector)
            return
        if self._state.signed(offer.job, offer.seq):
            raise PolicyDenied("this round's sum has been opened; it cannot be masked again", code="already_opened")
        live = self._live.get(offer.task)
        if live is None or live.session.subject != subject:
            sent, reply = await self._instruction(offer), self.kept.path(kept)
            arrays = offer.message_type.partition(".")[0] == "train"
            facts = await asyncio.to_thread(facts_of, reply, kept.digest, sent, arrays=arrays)
            session = Session(subject, self._me.node, self._me.tenant, self._floor(), os.urandom)
            live = self._live[offer.task] = LiveMask(session, offer, facts, reply, sent)
        terms, facts, proofs = live.offer.mask, live.facts, self._me.proofs()
        advert = live.session.advertise(
            facts.layout.digest,
            fitting_range(facts.largest, terms.range_bits),
            fitting_weight(facts.weight, terms.weight_bits),
            proofs.certificate,
            proofs.sign,
        )
        told = pb.MaskWord.Advertised(advert=words.advert_to(advert), layout=facts.layout.text)
        self._say(pb.MaskWord(task=offer.task, attempt=subject.attempt, advertised=told))
        failpoint("mask_advertised")

    async def _join(self, order: pb.MaskOrder) -> None:
        live = self._found(order)
        roster = words.roster_of(live.session.subject, order.roster)
        shared = await asyncio.to_thread(live.session.join, roster, self._me.proofs().check_advert)
        told = pb.MaskWord.Shares(sealed=words.sealed_to(shared.sealed), commitment=shared.commitment)
        self._say(pb.MaskWord(task=order.task, attempt=order.attempt, shares=told))
        failpoint("mask_shared")

    async def _mask(self, order: pb.MaskOrder) -> None:
        vector = self._state.vector(order.task)
        if vector is None or vector.attempt != order.attempt:
            live = self._found(order)
            vector = await asyncio.to_thread(self._masked, live, order.delivery)
            failpoint("masked_before_upload")
        await self._send(vector)

    def _masked(self, live: LiveMask, delivery: pb.MaskOrder.Delivery) -> MaskedVector:
        session, offer, facts = live.session, live.offer, live.facts
        keys = session.deliver(tuple(delivery.sharers), words.sealed_of(delivery.sealed))
        if session.roster is None:
            raise PolicyDenied("shares came before a roster", code="forged_shares")
        roster = session.roster
        encoding = Encoding(session.subject.ring, len(roster.nodes), roster.range_bits, roster.weight_bits)
        # Not secret from this node, unknown to others, and the same when the same reply is masked again.
        rounding = hashlib.sha256(f"hansa/rounding/{facts.digest}/{offer.seed}".encode()).digest()[:16]
        name = f"{offer.job}-{offer.seq}-{offer.slot}-{session.subject.attempt}.masked"
        earlier = self._state.vector(offer.task)
        with ReplyFile(live.reply, live.sent, arrays=facts.layout.record != "") as file:
            digest, size = file.masked_to(self._folder / name, encoding, rounding, keys)
        record = words.record_of(self._me.node, session, delivery.sharers, keys)
        vector = MaskedVector(offer.task, offer.job, offer.seq, session.subject.attempt, digest, size, name, record)
        self._state.put_vector(vector)
        if earlier is not None and earlier.file != name:
            (self._folder / earlier.file).unlink(missing_ok=True)
        return vector

    async def _send(self, vector: MaskedVector) -> None:
        ready = pb.TaskStatus(task=vector.task, state=pb.TaskStatus.READY, digest=vector.digest, size=vector.size)
        self._link.send(pb.NodeEvent(task=ready))
        await send_update(self._link, vector.task, self._folder / vector.file, vector.digest, vector.size)
        failpoint("masked_uploaded")

    def _sign(self, order: pb.MaskOrder) -> None:
        statement = self._agreed(words.survivors_of(order.survivors), self._vector(order))
        failpoint("survivors_recorded_before_signing")
        signed = pb.MaskWord.Signed(signature=self._me.proofs().sign(statement))
        self._say(pb.MaskWord(task=order.task, attempt=order.attempt, signed=signed))

    def _open(self, order: pb.MaskOrder) -> None:
        vector = self._vector(order)
        survivors = words.survivors_of(order.open.survivors)
        self._agreed(survivors, vector)
        shares = answer(
            words.masked_of(vector.record), survivors, words.sealed_of(order.open.signatures), verify_statement
        )
        told = [pb.MaskShare(about=each.about, share=each.share) for each in shares]
        self._say(pb.MaskWord(task=order.task, attempt=order.attempt, answers=pb.MaskWord.Answers(shares=told)))
        failpoint("mask_answered")

    def _agreed(self, survivors: Survivors, vector: MaskedVector) -> bytes:
        """Return the statement about ``survivors`` once it is this round's one and only, on disk."""
        statement = check_survivors(words.masked_of(vector.record), survivors, self._floor())
        told = hashlib.sha256(statement).hexdigest()
        if self._state.sign_once(vector.job, vector.seq, told, self._clock.now()) != told:
            raise PolicyDenied(
                f"another sum of round {vector.seq} of job {vector.job} was opened already; one a round, ever",
                code="second_opening",
            )
        return statement

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _place(self, offer: pb.TaskOffer) -> Sent:
        stem = self._folder / f"{offer.job}-{offer.seq}-{offer.slot}"
        base = stem.with_suffix(".base") if offer.HasField("base") else None
        return Sent(stem.with_suffix(".in"), base, offer.base.digest)

    async def _instruction(self, offer: pb.TaskOffer) -> Sent:
        """Return what the task was sent: as it was fetched for the app, or fetched anew after a restart."""
        sent = self._place(offer)
        if self._sent.get(offer.task) != sent:
            await self._link.download(offer.content, sent.path, job=offer.job)
            if sent.base is not None:
                await self._link.download(offer.base, sent.base, job=offer.job)
            self._sent[offer.task] = sent
        return sent

    def _found(self, order: pb.MaskOrder) -> LiveMask:
        live = self._live.get(order.task)
        if live is None or live.session.subject.attempt != order.attempt:
            raise PolicyDenied("this node holds no keys of that attempt (any more)", code="session_lost")
        return live

    def _vector(self, order: pb.MaskOrder) -> MaskedVector:
        vector = self._state.vector(order.task)
        if vector is None or vector.attempt != order.attempt:
            raise PolicyDenied("this node has sent no vector in that attempt", code="session_lost")
        return vector

    def _floor(self) -> Floor:
        settings = self._settings()
        return Floor(settings.minimum_cohort, settings.minimum_tenants)

    def _say(self, word: pb.MaskWord) -> None:
        self._link.send(pb.NodeEvent(mask=word))

    def _refuse(self, task: str, attempt: int, error: PlatformError) -> None:
        self._live.pop(task, None)
        refusal = pb.Denial(code=error.code, message=error.detail)
        self._say(pb.MaskWord(task=task, attempt=attempt, refusal=refusal))
        if error.code in _QUIET:
            return
        _log.warning("mask_refused", task=task, attempt=attempt, code=error.code, detail=error.detail)
        self.refused(task, error.code, error.detail)


def _is_of(task: str, job: str, seq: int | None) -> bool:
    """Say whether a task ("<job>/<seq>/<slot>") is of that job, and of that exchange if one is named."""
    name, _, place = task.partition("/")
    return name == job and (seq is None or place.startswith(f"{seq}/"))
