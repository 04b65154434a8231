"""Join tokens over the real door: one use, one node, each refusal with a code of its own."""

from __future__ import annotations

import asyncio

import pytest

from common.crypto.keys import new_p256
from common.crypto.x509 import make_csr, read_node_cert
from common.errors import Conflict, PlatformError
from tests.integration.link_kit import Kit

pytestmark = pytest.mark.integration


async def test_fifty_parallel_uses_of_one_join_token_make_one_node(kit: Kit) -> None:
    token = await kit.token()
    keys = [new_p256() for _ in range(50)]
    results = await asyncio.gather(
        *(kit.enrolment.join(token, make_csr(key), f"n{i}") for i, key in enumerate(keys)), return_exceptions=True
    )
    joined = [r for r in results if not isinstance(r, BaseException)]
    assert len(joined) == 1
    assert {type(r) for r in results if isinstance(r, BaseException)} == {Conflict}
    assert len(await kit.store.read(lambda tx: tx.nodes.list())) == 1


async def test_joining_again_with_the_same_key_is_the_same_join(kit: Kit) -> None:
    token, key = await kit.token(), new_p256()
    first = await kit.enrolment.join(token, make_csr(key), "a")
    again = await kit.enrolment.join(token, make_csr(key), "a")
    assert first.node == again.node
    assert read_node_cert(again.certificate).generation == 1


async def refusal(kit: Kit, token: str, name: str = "a") -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await kit.enrolment.join(token, make_csr(new_p256()), name)
    return caught.value


async def test_each_bad_join_token_has_its_own_code(kit: Kit) -> None:
    from common.crypto.tokens import JoinToken, make_join_token, parse_join_token

    ca = kit.keyring.ca.sha256
    assert (await refusal(kit, make_join_token("acme", ca).text)).code == "join_token_unknown"
    assert (await refusal(kit, make_join_token("acme", "0" * 64).text)).code == "join_token_wrong_ca"
    assert (await refusal(kit, await kit.token(ttl_s=-1.0))).code == "join_token_expired"
    real = parse_join_token(await kit.token())
    assert (await refusal(kit, JoinToken(real.id, real.secret, "other", ca).text)).code == "join_token_wrong_tenant"
    assert (await refusal(kit, JoinToken(real.id, "A" * 43, "acme", ca).text)).code == "join_token_unknown"
    assert (await refusal(kit, await kit.token(name="mine"), "yours")).code == "join_token_other_name"
    assert (await refusal(kit, "hjt1_abc")).code == "bad_input"
    used = await kit.token()
    await kit.enrolment.join(used, make_csr(new_p256()), "a")
    assert (await refusal(kit, used)).code == "join_token_used"


async def test_a_taken_name_does_not_burn_the_token(kit: Kit) -> None:
    await kit.node("a")
    token = await kit.token()
    assert isinstance(await refusal(kit, token, "a"), Conflict)
    await kit.enrolment.join(token, make_csr(new_p256()), "b")
