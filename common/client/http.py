"""One HTTPS connection to a coordinator: JSON calls, cursor pages, streamed bodies.

Every failure leaves as a ``PlatformError``; callers never see httpx.  Requests that are safe to repeat are tried again
once when a kept-alive connection turns out to be dead.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, TypeVar, cast
from urllib.parse import quote

import httpx

from common.client.problems import error_of, unreachable
from common.errors import BadInput, PlatformError, VersionMismatch

PREFIX = "/api/v1"
CONNECT_S = 10.0  # a host that does not answer in this time is called unreachable
ANSWER_S = 120.0  # the slowest answer: an import that exports a graph
_MAX_PROBLEM = 1 << 20  # bytes of an error's body that are read
Param = str | int | None
AnswerT = TypeVar("AnswerT")


class _Items(TypedDict):
    items: list[object]


class Page(_Items, total=False):
    """A list, or part of one."""

    next_page_token: str | None


def segment(value: str | int) -> str:
    """Return ``value`` as one path segment: a name typed by a user must not walk the URL."""
    return quote(str(value), safe="")


class Http:
    """Calls under ``url`` with a bearer ``token``.

    Args:
        url: ``https://host:port``; plain http is accepted for loopback addresses only, a token must not cross a wire
            in the clear.
        token: API token; "" sends none.
        ca: PEM file of the coordinator's CA; None trusts what the machine trusts.
        transport: Replaces the network, for tests of this package.

    Raises:
        BadInput: the URL or the CA file is unusable.
    """

    def __init__(
        self, url: str, token: str, ca: Path | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        _check_url(self.url)
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise BadInput("the token holds characters that no token has", next_step="copy it again, whole and alone")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            verify=_trust(ca),
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        kind: type[AnswerT],
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AnswerT:
        """Return the JSON object that ``method`` on ``path`` answers.

        Args:
            kind: What the answer is; that its fields are there is checked, and newer servers may send more.
            method: GET, POST, PUT or DELETE.
            path: Under ``/api/v1``; a path that begins with ``//`` is taken from the root (health).
            body: Bytes, or an iterator of bytes, are sent as they are; anything else as JSON.
            params: Query; None values are left out.
            headers: Further headers.

        Raises:
            PlatformError: what the server refused, or Unreachable.
        """
        with self.stream(method, path, body, params=params, headers=headers) as response:
            data = response.read()
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            answer = None
        return self._shaped(kind, answer)

    def pages(self, kind: type[AnswerT], path: str, params: Mapping[str, Param] | None = None) -> Iterator[AnswerT]:
        """Yield the items of every page of the list at ``path``."""
        token: str | None = None
        while True:
            page = self.call(Page, "GET", path, params={**(params or {}), "page_token": token})
            for item in page["items"]:
                yield self._shaped(kind, item)
            token = page.get("next_page_token") or None
            if token is None:
                return

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Open a successful response whose body has not been read; arguments as ``call``."""
        target = path[1:] if path.startswith("//") else PREFIX + path
        query = {key: value for key, value in (params or {}).items() if value is not None}
        timeout = httpx.Timeout(read_timeout or ANSWER_S, connect=CONNECT_S)
        raw = body if isinstance(body, (bytes, Iterator)) else None
        request = self._client.build_request(
            method,
            target,
            json=None if raw is not None else body,
            content=raw,
            params=query,
            headers=dict(headers or {}),
            timeout=timeout,
        )
        try:
            response = self._send(request)
            try:
                if not response.is_success:
                    raise error_of(response.status_code, self._read(response, _MAX_PROBLEM))
                yield response
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client.send(request, stream=True)
        except httpx.RemoteProtocolError:
            # The server closed an idle connection as we wrote on it; a read may safely be asked again.
            if request.method != "GET":
                raise
            return self._client.send(request, stream=True)

    def _shaped(self, kind: type[AnswerT], answer: object) -> AnswerT:
        if not isinstance(answer, dict):
            raise PlatformError(f"{self.url} answered no JSON object", next_step="is this URL a Hansa coordinator?")
        missing: frozenset[str] = getattr(kind, "__required_keys__", frozenset()) - answer.keys()
        if missing:
            raise VersionMismatch(
                f"{self.url} answered a {kind.__name__} without {', '.join(sorted(missing))}",
                next_step="install the same release of hansa here and at the coordinator",
            )
        return cast(AnswerT, answer)

    @staticmethod
    def _read(response: httpx.Response, limit: int | None = None) -> bytes:
        if limit is None:
            return response.read()
        data = b""
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= limit:
                break
        return data


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"the coordinator's address {url!r} is no URL: {error}") from error
    loopback = parsed.host in {"localhost", "127.0.0.1", "::1"}
    if parsed.scheme != "https" and not (parsed.scheme == "http" and loopback):
        raise BadInput(f"the coordinator's address {url!r} must be https://host:port")


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"{ca} is not a readable PEM file of certificates: {error}") from error
