"""A coordinator that wants one node's update: a process of its own, speaking the node link to an unmodified agent.

``python -m tests.evil_coordinator FOLDER`` makes a node directory under FOLDER, prints it, waits until the agent has
connected, then tries one trick after the other and prints, for each, what the node answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from client_node.privacy.session import Floor, Session
from client_node.privacy.unmasking import Masked, answer
from common.bundle import pack, read_bundle
from common.crypto.keys import new_p256, parse_private, private_pem
from common.crypto.peers import sign_statement, verify_statement
from common.crypto.x509 import issue_node_cert, load_ca, make_ca, make_csr
from common.ids import JobId, NodeId
from common.jobspec import parse
from common.privacy.protocol import Advert, Roster, Subject, Survivors, make_roster
from common.wire import hansa_node_pb2 as pb
from coordinator.services import maskwords as words
from tests.integration.link_kit import Desk, Kit, open_kit
from tests.integration.node_stage import CODE, FED, PYPROJECT
from tests.integration.scripted_link import instruction

JOB = "job_evil"
FRIENDS = ("node_friend1", "node_friend2", "node_friend3")


class Listener(Desk):
    """Writes down what the node says."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[pb.MaskWord] = []
        self.statuses: list[pb.TaskStatus] = []
        self.answered = asyncio.Event()
        self.connected: asyncio.Future[NodeId] = asyncio.get_running_loop().create_future()
        self.on_connected = lambda node: self.connected.done() or self.connected.set_result(node)
        self.running = [JobId(JOB)]
        self.prepared: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def node_prepared(self, node: NodeId, job: JobId, denials: tuple[tuple[str, str], ...]) -> None:
        self.prepared.set_result(denials)

    async def task_status(self, node: NodeId, status: pb.TaskStatus) -> None:
        self.statuses.append(status)
        if status.state == pb.TaskStatus.READY:
            self.wanted[status.task] = True
        self.answered.set()

    async def mask_word(self, node: NodeId, word: pb.MaskWord) -> None:
        self.words.append(word)
        self.answered.set()


class Friend:
    """A node that the coordinator runs itself: a good certificate, and an honest session unless told otherwise."""

    def __init__(self, name: str, ca: Any, now: float) -> None:
        self.name, self.key = name, private_pem(new_p256())
        self.certificate = issue_node_cert(ca, make_csr(parse_private(self.key)), "evil", name, 1, 86400.0, now)  # type: ignore[arg-type]
        self.session: Session | None = None

    def advertise(self, subject: Subject, layout: str, asked: Advert) -> Advert:
        self.session = Session(subject, self.name, "evil", Floor(), os.urandom)
        sign = lambda statement: sign_statement(self.key, statement)  # noqa: E731
        return self.session.advertise(layout, asked.range_bits, asked.weight_bits, self.certificate, sign)


class Evil:
    """One agent, and all the tricks."""

    def __init__(self, kit: Kit, desk: Listener, folder: Path) -> None:
        self.kit, self.desk, self.folder = kit, desk, folder
        self.app = folder / "app"
        self.app.mkdir()
        (self.app / "pyproject.toml").write_text(PYPROJECT)
        (self.app / "counter.py").write_text(CODE)
        self.archive = pack(self.app)
        self.digest = read_bundle(self.archive).digest
        self.spec = parse(PYPROJECT)
        self.friends = [Friend(name, kit.keyring.ca, kit.clock.now()) for name in FRIENDS]
        self.node = NodeId("")
        self.seq, self.attempt = 0, 100

    def offer_file(self, data: bytes) -> pb.ContentRef:
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest
        path.write_bytes(data)
        self.desk.files[digest] = path
        return pb.ContentRef(digest=digest, size=len(data))

    def send(self, **event: Any) -> None:
        assert self.kit.hub.send(self.node, pb.CoordinatorEvent(**event))

    async def heard(self, find: Callable[[], Any]) -> Any:
        async with asyncio.timeout(60):
            while not (found := find()):
                self.desk.answered.clear()
                await self.desk.answered.wait()
        return found

    async def prepare(self) -> None:
        self.node = await self.desk.connected
        bundle = self.offer_file(self.archive)
        asked = pb.Prepare(
            job=JOB, federation=FED, owner_tenant="evil", submitted_by="mallory", app_digest=self.digest, bundle=bundle,
            spec=self.spec.to_json(), app_name="counter",
        )  # fmt: skip
        while not self.kit.hub.send(self.node, pb.CoordinatorEvent(prepare=asked)):
            await asyncio.sleep(0.05)
        assert await self.desk.prepared == ()

    def offer(self, *, ring: int | None = 32, again: bool = False) -> str:
        """Send a task; with ``again`` the last one once more."""
        self.seq, self.attempt = self.seq + (not again), self.attempt + 1
        self.content = self.offer_file(instruction([1.0, 2.0, 3.0], round=self.seq))
        task = f"{JOB}/{self.seq}/0"
        mask = pb.MaskTerms(attempt=self.attempt, ring=ring, range_bits=4, weight_bits=4) if ring else None
        self.send(
            task=pb.TaskOffer(
                task=task, job=JOB, seq=self.seq, slot=0, message_type="train", content=self.content, run_id=1,
                flower_node_id=7, num_partitions=3, message_id=task, lease_s=60.0, ttl_s=60.0, seed=3, max_weight=1e9,
                fold=True, mask=mask,
            )
        )  # fmt: skip
        return task

    def order(self, task: str, **what: Any) -> None:
        self.send(mask=pb.MaskOrder(task=task, attempt=self.attempt, **what))

    async def word(self, task: str, kind: str) -> pb.MaskWord:
        def find() -> pb.MaskWord | None:
            mine = [w for w in self.desk.words if w.task == task and w.attempt == self.attempt]
            return next((w for w in mine if w.WhichOneof("word") == kind), None)

        found = await self.heard(find)
        self.desk.words.remove(found)
        return found  # type: ignore[no-any-return]

    async def refusal(self, task: str) -> str:
        return str((await self.word(task, "refusal")).refusal.code)

    async def denied(self, task: str) -> str:
        denied = pb.TaskStatus.DENIED
        found = await self.heard(lambda: [s for s in self.desk.statuses if s.task == task and s.state == denied])
        return str(found[-1].reason)

    def subject(self, content: str = "") -> Subject:
        spec = hashlib.sha256(f"{self.digest}\n{self.spec.to_json()}".encode()).hexdigest()
        return Subject(JOB, self.seq, self.attempt, content or self.content.digest, spec, 32)

    async def advert(self, task: str) -> Advert:
        told = (await self.word(task, "advertised")).advertised
        return words.advert_of(told.advert)

    def roster(self, victim: Advert, friends: list[Friend], content: str = "") -> Roster:
        others = [friend.advertise(self.subject(content), victim.layout, victim) for friend in friends]
        return make_roster(self.subject(), [victim, *others])

    # ---- the tricks -------------------------------------------------------------------------------------------------

    async def plain_after_all(self) -> str:
        """Ask for the update as it is."""
        return await self.denied(self.offer(ring=None))

    async def lowered_parameters(self) -> str:
        """Ask for masks of fewer bits than the job's own terms say."""
        return await self.refusal(self.offer(ring=16))

    async def cohort_of_one(self) -> str:
        task = self.offer()
        self.order(task, roster=words.roster_to(self.roster(await self.advert(task), [])))
        return await self.refusal(task)

    async def cohort_of_two(self) -> str:
        task = self.offer()
        self.order(task, roster=words.roster_to(self.roster(await self.advert(task), self.friends[:1])))
        return await self.refusal(task)

    async def strangers(self) -> str:
        """Fill the roster with nodes of another CA."""
        key, certificate = make_ca("other")
        others = [Friend(name, load_ca(key, certificate), self.kit.clock.now()) for name in FRIENDS[:2]]
        task = self.offer()
        self.order(task, roster=words.roster_to(self.roster(await self.advert(task), others)))
        return await self.refusal(task)

    async def swapped_key(self) -> str:
        """Sit in the middle: put an own key in a good node's place."""
        task = self.offer()
        told = words.roster_to(self.roster(await self.advert(task), self.friends))
        next(a for a in told.adverts if a.node == FRIENDS[0]).mask_key = os.urandom(32)
        self.order(task, roster=told)
        return await self.refusal(task)

    async def two_models(self) -> str:
        """Show the others another model: they have signed for that one."""
        task = self.offer()
        self.order(task, roster=words.roster_to(self.roster(await self.advert(task), self.friends, content="0" * 64)))
        return await self.refusal(task)

    async def taken_back(self) -> str:
        """Let the node make its reply for a mask, then ask for it as it is."""
        task = self.offer()
        await self.advert(task)
        self.offer(ring=None, again=True)
        return await self.denied(task)

    async def masked(self, friends: list[Friend]) -> tuple[str, Roster, dict[str, Any]]:
        """Play by the rules until the masked vector is here."""
        task = self.offer()
        roster = self.roster(await self.advert(task), friends)
        self.order(task, roster=words.roster_to(roster))
        shares = {self.node: words.sealed_of((await self.word(task, "shares")).shares.sealed)}
        for friend in friends:
            assert friend.session is not None
            shares[friend.name] = friend.session.join(roster, lambda *_: None).sealed
        sharers = tuple(sorted(shares))
        mine = {name: sealed[self.node] for name, sealed in shares.items() if name != self.node}
        self.order(task, delivery=pb.MaskOrder.Delivery(sharers=sharers, sealed=words.sealed_to(mine)))
        await self.heard(lambda: [s for s in self.desk.statuses if s.task == task and s.state == pb.TaskStatus.READY])
        keys = {
            f.name: f.session.deliver(sharers, {n: s[f.name] for n, s in shares.items() if n != f.name})  # type: ignore[union-attr]
            for f in friends
        }
        return task, roster, {name: Masked(roster, name, sharers, k.held) for name, k in keys.items()}

    def signatures(self, roster: Roster, survivors: Survivors, masked: Mapping[str, Masked]) -> dict[str, bytes]:
        return {
            friend.name: sign_statement(friend.key, survivors.statement(roster))
            for friend in self.friends
            if friend.name in masked
        }

    async def openings(self) -> dict[str, object]:
        """With a masked vector in hand: every way to open it that is not the one allowed."""
        task, roster, masked = await self.masked(self.friends)
        everybody = tuple(sorted(roster.nodes))
        good = Survivors(everybody, ())
        less = Survivors(tuple(n for n in everybody if n != FRIENDS[0]), (FRIENDS[0],))
        found: dict[str, object] = {}

        def told(survivors: Survivors) -> pb.MaskOrder.Survivors:
            return words.survivors_to(survivors)

        self.order(task, survivors=told(Survivors(everybody, (FRIENDS[0],))))
        found["both_shares"] = await self.refusal(task)
        self.order(task, survivors=told(Survivors((self.node, FRIENDS[0]), FRIENDS[1:])))
        found["open_two"] = await self.refusal(task)
        self.order(task, survivors=told(Survivors(FRIENDS, (self.node,))))
        found["victim_lost"] = await self.refusal(task)
        self.order(task, open=pb.MaskOrder.Open(survivors=told(good), signatures=[]))
        found["without_quorum"] = await self.refusal(task)
        self.order(task, survivors=told(less))
        found["second_list"] = await self.refusal(task)
        self.order(task, survivors=told(good))
        signature = (await self.word(task, "signed")).signed.signature
        proofs = {**self.signatures(roster, good, masked), self.node: signature}
        for _ in range(2):  # the same question gets the same answer
            self.order(task, open=pb.MaskOrder.Open(survivors=told(good), signatures=words.sealed_to(proofs)))
            shares = words.answers_of((await self.word(task, "answers")).answers)
            expected = {s.about: s.share for m in masked.values() for s in answer(m, good, proofs, verify_statement)}
            found["shares"] = sorted(share.about for share in shares)
            assert set(expected) == set(found["shares"])  # type: ignore[call-overload]
        proofs |= self.signatures(roster, less, masked)
        self.order(task, open=pb.MaskOrder.Open(survivors=told(less), signatures=words.sealed_to(proofs)))
        found["replay_with_other_list"] = await self.refusal(task)
        self.offer(again=True)
        found["masked_anew"] = await self.refusal(task)
        found["vector_bytes"] = sum(update.size for update in self.desk.updates)
        return found


async def main(folder: Path) -> None:
    desk = Listener()
    kit = await open_kit(folder, desk=desk)
    place = await kit.node("victim")
    evil = Evil(kit, desk, folder)
    print(json.dumps({"dir": str(place.root), "app": evil.digest}), flush=True)
    await evil.prepare()
    found: dict[str, object] = {"plain": await evil.plain_after_all()}
    for trick in ("lowered_parameters", "cohort_of_one", "cohort_of_two", "strangers", "swapped_key", "two_models"):
        found[trick] = await getattr(evil, trick)()
    found["taken_back"] = await evil.taken_back()
    found |= await evil.openings()
    print(json.dumps(found), flush=True)
    await kit.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
