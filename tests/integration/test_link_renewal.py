"""Keeping the certificate fresh, and what a crash in between leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from client_node.services import enrol
from client_node.services.credentials import install_renewed, load_credentials, next_key
from client_node.services.enrol import keep_certificate
from common.clock import ManualClock, SystemClock
from common.crypto.keys import load_p256, public_sha256
from common.crypto.x509 import make_csr
from common.errors import BadInput, Unreachable
from common.wire import hansa_node_pb2 as pb
from tests.integration.link_kit import Agent, Kit, node_id, open_kit

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path / "coordinator")
    yield made
    await made.stop()


class Waits:
    """Stands in for waiting: moves the clock instead, and remembers how far."""

    def __init__(self, clock: ManualClock, rounds: int) -> None:
        self.clock, self.left, self.waited = clock, rounds, 0.0

    async def __call__(self, stop: asyncio.Event, seconds: float) -> None:
        self.clock.advance(seconds)
        self.waited += seconds
        self.left -= 1
        if self.left <= 0:
            stop.set()


async def test_a_certificate_is_renewed_before_half_of_its_life_with_a_new_key(kit: Kit) -> None:
    place = await kit.node("a")
    before = load_credentials(place).says
    clock, stop = ManualClock(SystemClock().now()), asyncio.Event()
    async with Agent(place, kit.address) as agent:
        await agent.connected()

        class StopsAfterOne:
            renew = agent.link.renew

            async def reconnect(self) -> None:
                await agent.link.reconnect()
                stop.set()

        link: Any = StopsAfterOne()
        await keep_certificate(link, place.root, clock, stop, chance=random.Random(1), wait=Waits(clock, 10_000))
        await agent.connected(2)
    life = before.not_after - before.not_before
    assert before.not_before + 0.4 * life <= clock.now() <= before.not_before + 0.5 * life + enrol.CHECK_S
    after = load_credentials(place)
    assert after.says.key_sha256 != before.key_sha256
    assert not (place.root / "next.pem").exists()


async def test_a_renewal_that_fails_is_tried_again_with_the_same_key(kit: Kit) -> None:
    place = await kit.node("a")
    says = load_credentials(place).says
    clock = ManualClock(says.not_after - 1)
    asked: list[bytes] = []

    class LosesReplies:
        async def renew(self, csr: bytes) -> pb.RenewReply:
            asked.append(csr)
            pem, until, generation = await kit.enrolment.renew(node_id(place), 1, says.key_sha256, csr)
            if len(asked) < 3:
                raise Unreachable("the reply was lost")
            return pb.RenewReply(certificate=pem, until=until, generation=generation)

        async def reconnect(self) -> None:
            stop.set()

    stop = asyncio.Event()
    await keep_certificate(LosesReplies(), place.root, clock, stop, wait=Waits(clock, 50))  # type: ignore[arg-type]
    assert len(asked) == 3
    assert load_credentials(place).says.generation == 2


async def test_a_crash_between_certificate_and_key_is_mended_on_the_next_start(kit: Kit) -> None:
    place = await kit.node("a")
    says = load_credentials(place).says
    csr = make_csr(next_key(place))
    pem, _, _ = await kit.enrolment.renew(node_id(place), 1, says.key_sha256, csr)
    place.certificate.write_bytes(pem)  # … and the agent was killed before key.pem was replaced
    mended = load_credentials(place)
    assert mended.says.generation == 2
    assert public_sha256(load_p256(place.key)) == mended.says.key_sha256
    assert not (place.root / "next.pem").exists()


async def test_a_renewed_certificate_for_another_key_or_node_is_refused(kit: Kit) -> None:
    place, other = await kit.node("a"), await kit.node("b")
    next_key(place)
    before = place.certificate.read_bytes()
    with pytest.raises(BadInput):
        install_renewed(place, other.certificate.read_bytes())
    assert place.certificate.read_bytes() == before
