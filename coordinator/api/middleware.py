"""What every request passes: limits on its body, headers on its answer.  Plain ASGI, so that streams stay streams."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.api.problems import problem
from coordinator.api.settings import ApiSettings

APPS = re.compile(r"/api/v1/apps")
IMPORT = re.compile(r"/api/v1/models/[^/]+/[^/]+:import")
MODEL_TYPES = frozenset({"application/octet-stream"})
APP_TYPES = frozenset({"application/zip"})
JSON_TYPES = frozenset({"application/json"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """Sets headers that keep a browser from doing anything with an answer but read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimits:
    """Refuses bodies that are too long, too slow or of another type, before and while they are read."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, types = self._allowed(scope["path"])
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length and (not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > limit):
            await problem(413, "quota_exceeded", _too_long(limit))(scope, receive, send)
            return
        given = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = (length not in {"", "0"}) or "transfer-encoding" in headers
        if has_body and scope["method"] in {"POST", "PUT", "PATCH"} and given not in types:
            detail = f"the body must be {' or '.join(sorted(types))}"
            await problem(415, "unsupported_media_type", detail)(scope, receive, send)
            return
        await self._app(scope, self._counted(receive, limit), send)

    def _allowed(self, path: str) -> tuple[int, frozenset[str]]:
        if APPS.fullmatch(path):
            return self._settings.app_bytes, APP_TYPES
        if IMPORT.fullmatch(path):
            return self._settings.model_bytes, MODEL_TYPES
        return self._settings.json_bytes, JSON_TYPES

    def _counted(self, receive: Receive, limit: int) -> Receive:
        seen, more = 0, True

        async def counted() -> Message:
            nonlocal seen, more
            if not more:  # the body is done: what comes now is the disconnect, which may take for ever
                return await receive()
            try:
                async with asyncio.timeout(self._settings.body_wait):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body came too slowly", {"Connection": "close"}) from None
            more = message["type"] == "http.request" and bool(message.get("more_body"))
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, _too_long(limit), {"Connection": "close"})
            return message

        return counted


def _too_long(limit: int) -> str:
    return f"the body may have at most {limit} bytes"
