"""HTTP for the served versions, as a bare ASGI application: a framework would cost more than the model."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from client_node.inference.engine import Engine
from client_node.serving import oip, tfserving
from client_node.serving.catalogue import Catalogue
from client_node.serving.routes import OPEN, Act, Route, route
from common.errors import BadInput, NotFound, PlatformError, QuotaExceeded, Unauthenticated

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_JSON: Headers = [(b"content-type", b"application/json")]


@dataclass(frozen=True)
class ServerLimits:
    """What one server takes."""

    body_bytes: int = 64 * 1024 * 1024
    rows: int = 4096  # of one request
    requests: int = 64  # at once; more are answered 503
    run_s: float = 30.0
    threads: int = 1  # of the engine, for one run


class TooLarge(QuotaExceeded):
    """A request's body is over the limit."""


_STATUS: dict[type[PlatformError], tuple[int, Headers]] = {
    BadInput: (400, []),
    Unauthenticated: (401, [(b"www-authenticate", b"Bearer")]),
    NotFound: (404, []),
    TooLarge: (413, [(b"connection", b"close")]),  # the rest of the body is not read
    QuotaExceeded: (503, [(b"retry-after", b"1")]),
}


@dataclass(frozen=True)
class Answer:
    """A response."""

    body: bytes
    status: int = 200
    headers: Headers | None = None


class Application:
    """The ASGI application."""

    def __init__(
        self, catalogue: Catalogue[Engine], limits: ServerLimits, pool: Executor, release: str, token_sha256: str
    ) -> None:
        """Serve ``catalogue``; ``token_sha256`` is the hex digest of the bearer token, "" = none is asked for."""
        self._catalogue = catalogue
        self._limits = limits
        self._pool = pool
        self._release = release
        self._token = token_sha256
        self._running = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        self._running += 1
        try:
            answer = await self._answer(scope, receive)
        finally:
            self._running -= 1
        headers = [*(answer.headers or _JSON), (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        try:
            return await self._dispatch(scope, receive)
        except PlatformError as error:
            status, headers = _STATUS.get(type(error), (500, []))
            return Answer(tfserving.error(error.detail), status, [*_JSON, *headers])
        except RecursionError:
            return Answer(tfserving.error("the request is nested too deeply"), 400)

    async def _dispatch(self, scope: dict[str, Any], receive: Receive) -> Answer:
        wanted = route(scope["method"], scope["path"])
        headers = scope["headers"]
        if self._token and wanted.act not in OPEN:
            self._authenticate(headers)
        if wanted.act is Act.V1_PREDICT:
            return await self._predict(wanted, headers, receive)
        if wanted.act is Act.V2_INFER:
            return await self._infer(wanted, headers, receive)
        return Answer(self._describe(wanted))

    def _authenticate(self, headers: Headers) -> None:
        given = _header(headers, b"authorization") or b""
        scheme, _, token = given.partition(b" ")
        digest = hashlib.sha256(token.strip()).hexdigest()
        if scheme.lower() != b"bearer" or not hmac.compare_digest(digest, self._token):
            raise Unauthenticated("this server asks for a bearer token")

    def _describe(self, wanted: Route) -> bytes:
        fixed = {Act.V2_LIVE: b'{"live":true}', Act.V2_READY: b'{"ready":true}'}
        if wanted.act in fixed:
            return fixed[wanted.act]
        if wanted.act is Act.V2_SERVER:
            return oip.server_metadata(self._release)
        served = self._catalogue.find(wanted.model, wanted.version, wanted.label).served
        if wanted.act is Act.V1_STATUS:
            return tfserving.status([served])
        if wanted.act is Act.V1_METADATA:
            return tfserving.metadata(served, wanted.model)
        return b'{"ready":true}' if wanted.act is Act.V2_MODEL_READY else oip.model_metadata(served, wanted.model)

    async def _predict(self, wanted: Route, headers: Headers, receive: Receive) -> Answer:
        self._admit()
        self._catalogue.find(wanted.model, wanted.version, wanted.label)  # an unknown model costs no upload
        body = await self._body(headers, receive)
        # Found again after the body came: the version that answers is the one that is served now.
        engine = self._catalogue.find(wanted.model, wanted.version, wanted.label)
        inputs, row = tfserving.parse_predict(body, engine.served.signature, self._limits.rows)
        outputs = await engine.run(inputs, (), self._pool, self._limits.run_s)
        return Answer(tfserving.answer_predict(outputs, row=row))

    async def _infer(self, wanted: Route, headers: Headers, receive: Receive) -> Answer:
        self._admit()
        self._catalogue.find(wanted.model, wanted.version)
        body = await self._body(headers, receive)
        engine = self._catalogue.find(wanted.model, wanted.version)
        size = _number(headers, oip.LENGTH_HEADER)
        request = oip.parse_infer(body, size, engine.served.signature, self._limits.rows)
        outputs = await engine.run(request.arrays, request.outputs, self._pool, self._limits.run_s)
        answer, json_size = oip.answer_infer(request, outputs, engine.served, wanted.model)
        if json_size is None:
            return Answer(answer)
        kind = (b"content-type", b"application/octet-stream")
        return Answer(answer, 200, [kind, (oip.LENGTH_HEADER, b"%d" % json_size)])

    def _admit(self) -> None:
        if self._running > self._limits.requests:
            raise QuotaExceeded(f"more than {self._limits.requests} requests at once")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        if (_number(headers, b"content-length") or 0) > limit:
            raise TooLarge(f"the body is over the limit of {limit} bytes")
        message = await receive()
        if not message.get("more_body"):
            parts = [message.get("body", b"")]
        else:
            parts = [message["body"]]
            size = len(message["body"])
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise TooLarge(f"the body is over the limit of {limit} bytes")
        if message["type"] == "http.disconnect":
            raise BadInput("the client went away")
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _header(headers: Headers, name: bytes) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None


def _number(headers: Headers, name: bytes) -> int | None:
    value = _header(headers, name)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise BadInput(f"header {name.decode()} must be a number of bytes")
    return int(value)
