"""What the tests of the REST face share."""

from __future__ import annotations

import asyncio

import httpx
import uvicorn

API = "/api/v1"


def ok(answer: httpx.Response, status: int = 200) -> dict:
    assert answer.status_code == status, answer.text
    return answer.json()


class Server:
    """The application behind uvicorn on loopback."""

    def __init__(self, world, settings):
        self._client = world.client("scientist", settings=settings)
        app = self._client._transport.app
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off", ws="none")
        )

    async def __aenter__(self):
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=self._client.headers, timeout=10)

    async def __aexit__(self, *_):
        await self._client.aclose()
        self._server.should_exit = True
        await self._task
