"""Joining over real HTTPS."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client_node.services.credentials import load_credentials
from client_node.services.enrol import Joined, join
from client_node.services.node_dir import NodeDir
from common.clock import ManualClock, SystemClock
from common.crypto.keyring import open_keyring
from common.crypto.keys import load_p256, new_p256, private_pem, public_sha256
from common.crypto.x509 import make_csr
from common.errors import BadInput, BadSignature, Conflict, PlatformError, PolicyDenied, Unreachable
from tests.integration.link_kit import Agent, Kit, open_kit

pytestmark = pytest.mark.integration
Answer = tuple[int, dict[str, Any]]


class Rest:
    """The two join routes over HTTPS, each answer in the test's hands; requests are kept."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.loop = kit, asyncio.get_running_loop()
        self.posted: list[dict[str, Any]] = []
        self.ca: Callable[[], Answer] = self.show_ca
        self.join: Callable[[dict[str, Any]], Answer] = self.let_in

    def show_ca(self) -> Answer:
        ca = self.kit.keyring.ca
        return 200, {"pem": ca.pem.decode(), "sha256": ca.sha256, "time": self.kit.clock.now()}

    def let_in(self, body: dict[str, Any]) -> Answer:
        act = self.kit.enrolment.join(body["token"], body["csr"].encode(), body["name"])
        try:
            reply = asyncio.run_coroutine_threadsafe(act, self.loop).result(10)
        except PlatformError as error:
            status = {BadInput: 400, PolicyDenied: 403, Conflict: 409}[type(error)]
            return status, {"detail": error.detail, "code": error.code, "next_step": error.next_step}
        return 200, {
            "node": reply.node,
            "tenant": reply.tenant,
            "name": reply.name,
            "certificate": reply.certificate.decode(),
            "ca": reply.ca.decode(),
            "link": f":{self.kit.port}",
            "manifest_keys": {"k": "ab"},
            "time": reply.time,
        }

    @contextmanager
    def serve(self) -> Iterator[str]:
        rest = self

        class Routes(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(rest.ca())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                rest.posted.append(body)
                self.answer(rest.join(body))

            def answer(self, answer: Answer) -> None:
                data = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # a client that breaks off is what some tests are about
                pass

        server = Server(("127.0.0.1", 0), Routes)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain = self.kit.folder / "server-chain.pem"
        chain.write_bytes(self.kit.keyring.tls_key + self.kit.keyring.tls_certificate)
        context.load_cert_chain(chain)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path / "coordinator")
    yield made
    await made.stop()


async def joined(url: str, token: str, folder: Path, clock: Any = None, name: str = "a") -> Joined:
    return await asyncio.to_thread(join, url, token, name, folder, clock or SystemClock())


async def test_a_joined_node_has_its_own_key_and_connects(kit: Kit, tmp_path: Path) -> None:
    rest, place = Rest(kit), NodeDir(tmp_path / "node")
    with rest.serve() as url:
        result = await joined(url, await kit.token(), place.root)
    assert (result.identity.tenant, result.identity.name) == ("acme", "a")
    assert result.identity.link == kit.address, "an empty host means the one the node joined through"
    assert (result.warnings, result.before) == ((), False)
    assert place.key.stat().st_mode & 0o777 == 0o600
    assert place.root.stat().st_mode & 0o777 == 0o700
    assert private_pem(load_p256(place.key)).decode() not in json.dumps(rest.posted)
    assert load_credentials(place).says.key_sha256 == public_sha256(load_p256(place.key))
    async with Agent(place, result.identity.link) as agent:
        await agent.connected()


async def test_joining_twice_is_harmless_and_a_lost_reply_costs_nothing(kit: Kit, tmp_path: Path) -> None:
    rest, place, token = Rest(kit), NodeDir(tmp_path / "node"), await kit.token()
    let_in = rest.let_in

    def lose(body: dict[str, Any]) -> Answer:
        let_in(body)
        rest.join = let_in
        return 502, {}

    rest.join = lose
    with rest.serve() as url:
        with pytest.raises(Unreachable):
            await joined(url, token, place.root)
        assert not place.joined
        first = await joined(url, token, place.root)
        again = await joined(url, token, place.root)
    assert again.before
    assert again.identity == first.identity
    assert len(await kit.store.read(lambda tx: tx.nodes.list())) == 1
    assert len(rest.posted) == 2, "a directory that has joined asks nothing"


async def test_the_secret_is_never_sent_to_a_coordinator_of_another_ca(kit: Kit, tmp_path: Path) -> None:
    other = open_keyring(tmp_path / "other", ["127.0.0.1"], SystemClock().now())
    token = await kit.token()
    kit.keyring = other
    rest = Rest(kit)
    with rest.serve() as url, pytest.raises(BadSignature, match="the token was not sent") as caught:
        await joined(url, token, tmp_path / "node")
    assert caught.value.code == "wrong_ca"
    assert rest.posted == []


async def test_a_man_in_the_middle_who_shows_the_right_ca_gets_nothing(kit: Kit, tmp_path: Path) -> None:
    honest, token = kit.keyring.ca, await kit.token()
    kit.keyring = open_keyring(tmp_path / "other", ["127.0.0.1"], SystemClock().now())
    rest = Rest(kit)
    rest.ca = lambda: (200, {"pem": honest.pem.decode(), "sha256": honest.sha256, "time": kit.clock.now()})
    with rest.serve() as url, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await joined(url, token, tmp_path / "node")
    assert rest.posted == []


async def test_a_clock_ten_minutes_off_is_refused_naming_both_times(kit: Kit, tmp_path: Path) -> None:
    rest, off = Rest(kit), ManualClock(SystemClock().now() + 600)
    with rest.serve() as url, pytest.raises(PolicyDenied) as caught:
        await joined(url, await kit.token(), tmp_path / "node", off)
    assert caught.value.code == "clock_skew"
    assert caught.value.detail.count("Z") == 2
    assert "600 s apart" in caught.value.detail
    assert "timedatectl" in caught.value.next_step
    assert rest.posted == []


async def test_a_clock_two_minutes_off_is_warned_of(kit: Kit, tmp_path: Path) -> None:
    rest, off = Rest(kit), ManualClock(SystemClock().now() - 120)
    with rest.serve() as url:
        result = await joined(url, await kit.token(), tmp_path / "node", off)
    assert len(result.warnings) == 1
    assert "120 s apart" in result.warnings[0]


async def test_each_refusal_reaches_the_operator_with_its_code(kit: Kit, tmp_path: Path) -> None:
    rest, used = Rest(kit), await kit.token()
    with rest.serve() as url:
        await joined(url, used, tmp_path / "first")
        for token, cls, code in (
            (used, Conflict, "join_token_used"),
            (await kit.token(ttl_s=-1), PolicyDenied, "join_token_expired"),
            (await kit.token(name="b"), BadInput, "join_token_other_name"),
        ):
            with pytest.raises(cls) as caught:
                await joined(url, token, tmp_path / "second")
            assert caught.value.code == code
        with pytest.raises(Conflict) as caught:
            await joined(url, (await kit.token(tenant="other")), tmp_path / "first")
        assert caught.value.code == "already_joined"


@pytest.mark.parametrize(
    "answer",
    [(200, {}), (200, {"pem": "junk", "time": 1}), (404, {}), (200, {"pem": None, "time": None}), (500, {"code": 7})],
)
async def test_what_is_no_coordinator_is_refused_whatever_it_says(kit: Kit, tmp_path: Path, answer: Answer) -> None:
    rest = Rest(kit)
    rest.ca = lambda: answer
    with rest.serve() as url, pytest.raises(PlatformError):
        await joined(url, await kit.token(), tmp_path / "node")


async def test_an_endless_answer_is_cut(kit: Kit, tmp_path: Path) -> None:
    rest = Rest(kit)
    rest.ca = lambda: (200, {"pem": "x" * 2_000_000, "time": 1})
    with rest.serve() as url, pytest.raises(BadInput, match="over"):
        await joined(url, await kit.token(), tmp_path / "node")


async def test_a_certificate_for_another_key_is_not_taken(kit: Kit, tmp_path: Path) -> None:
    rest, place = Rest(kit), NodeDir(tmp_path / "node")
    stranger = await kit.node("stranger")
    let_in = rest.let_in
    rest.join = lambda body: (200, {**let_in(body)[1], "certificate": stranger.certificate.read_text()})
    with rest.serve() as url, pytest.raises(BadSignature):
        await joined(url, await kit.token(), place.root)
    assert not place.joined


@pytest.mark.parametrize(
    "url", ["http://h:1", "https://", "https://h:99999", "https://h/path", "ftp://h", "https://h:x"]
)
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    from common.crypto.tokens import make_join_token

    with pytest.raises(BadInput):
        join(url, make_join_token("acme", "0" * 64).text, "a", tmp_path / "node", SystemClock())


async def test_a_coordinator_that_is_down_is_named(tmp_path: Path) -> None:
    from common.crypto.tokens import make_join_token

    with pytest.raises(Unreachable, match=r"https://127\.0\.0\.1:1 cannot be reached"):
        await joined("https://127.0.0.1:1", make_join_token("acme", "0" * 64).text, tmp_path / "node")


async def test_a_node_that_nobody_named_takes_its_tenants_name_with_the_first_free_number(kit: Kit) -> None:
    names = [(await kit.enrolment.join(await kit.token(), make_csr(new_p256()), "")).name for _ in range(3)]
    assert names == ["acme", "acme-2", "acme-3"]
