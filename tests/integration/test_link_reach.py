"""The last step of the diagnosis: does the node link take this node's certificate?"""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client_node.services.reach import _first_word, _link_tls
from common.clock import SystemClock
from common.crypto.keys import load_p256
from common.crypto.x509 import issue_node_cert, load_ca, make_ca, make_csr
from tests.integration.link_kit import Kit, node_id, open_kit

pytestmark = pytest.mark.integration


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = await open_kit(tmp_path)
    yield made
    await made.stop()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_link_that_takes_the_certificate_is_said_to(kit: Kit) -> None:
    place = await kit.node("a")
    (check,) = await asyncio.to_thread(_link_tls, place, "127.0.0.1", kit.port)
    assert check.ok, check.found


async def test_a_link_that_refuses_the_certificate_is_said_to(kit: Kit) -> None:
    place = await kit.node("a")
    stranger, csr = load_ca(*make_ca("stranger")), make_csr(load_p256(place.key))
    now = SystemClock().now()
    place.certificate.write_bytes(issue_node_cert(stranger, csr, "acme", node_id(place), 1, 3600, now))
    (check,) = await asyncio.to_thread(_link_tls, place, "127.0.0.1", kit.port)
    assert not check.ok
    assert "refuses this node's certificate" in check.found


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_a_peer_that_is_no_node_link_is_said_to_refuse(kit: Kit, words: bytes) -> None:
    place = await kit.node("a")

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        (check,) = await asyncio.to_thread(_link_tls, place, "127.0.0.1", port)
    assert not check.ok


def test_a_peer_that_has_reset_already_costs_no_descriptor() -> None:
    gc.collect()
    before = open_descriptors()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), 5) as plain,
    ):
        taken, _ = server.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
        taken.close()
        select.select([plain], [], [], 5)
        with pytest.raises(OSError) as caught:
            _first_word(plain, ssl.create_default_context(), "127.0.0.1")
        assert plain.fileno() >= 0, "the socket is still its owner's"
    assert open_descriptors() == before
    assert not isinstance(caught.value, ssl.SSLError)
