"""Every refusal as one kind of document: RFC 9457 ``application/problem+json``.

Values that were sent are never sent back: they may hold a secret, or not be JSON at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from common import errors
from common.errors import PlatformError

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[PlatformError], int] = {
    errors.BadInput: 400,
    errors.Unauthenticated: 401,
    errors.PolicyDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.ChangedMeanwhile: 412,
    errors.NoPrecondition: 428,
    errors.IdempotencyMismatch: 422,
    errors.IllegalTransition: 409,
    errors.BadUpdate: 400,
    errors.BadManifest: 400,
    errors.BadSignature: 400,
    errors.Corrupted: 500,
    errors.TooFewNodes: 409,
    errors.QuotaExceeded: 413,
    errors.TenantQuotaExceeded: 429,
    errors.AppFailed: 400,
    errors.SandboxUnavailable: 503,
    errors.VersionMismatch: 409,
    errors.LeaseLost: 503,
    errors.Unreachable: 503,
}
_CODES = {
    400: "bad_input",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "quota_exceeded",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "bad_input",
    429: "rate_limited",
}
_LOG = logging.getLogger(__name__)


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    faults: Sequence[Mapping[str, str]] = (),
    next_step: str = "",
    headers: Mapping[str, str] | None = None,
    reason: str = "",
) -> ProblemResponse:
    """Return the answer for one refusal."""
    body = {
        "type": f"urn:hansa:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail.encode("utf-8", "replace").decode(),  # a lone surrogate from a request is no JSON text
        "errors": list(faults),
        "next_step": next_step.encode("utf-8", "replace").decode(),
        "reason": reason,
    }
    return ProblemResponse(body, status, dict(headers or {}))


async def on_platform_error(_: Request, error: Exception) -> Response:
    """Answer an error raised on purpose."""
    assert isinstance(error, PlatformError)  # noqa: S101 - registered for this class only
    status = next((STATUS[c] for c in type(error).__mro__ if c in STATUS), 500)
    headers = {"WWW-Authenticate": 'Bearer realm="hansa"'} if status == 401 else {}
    if error.retryable and status == 503:
        headers["Retry-After"] = "1"
    reason = getattr(error, "reason", "")
    return problem(status, error.code, error.detail, next_step=error.next_step, headers=headers, reason=reason)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: no such path, wrong method, a body cut off."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == 405:
        allow = allowed_methods(request)
        headers["Allow"] = ", ".join(allow)
        detail = f"this path knows {', '.join(allow)} only"
    elif error.status_code == 404 and detail == "Not Found":
        detail = "no such path"
    code = _CODES.get(error.status_code, "platform_error")
    return problem(error.status_code, code, detail, headers=headers)


async def on_validation_error(_: Request, error: Exception) -> Response:
    """Answer a malformed request.  An id of impossible form is an id that does not exist."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    rows: Sequence[Any] = error.errors()
    if any(row["loc"][:1] == ("path",) for row in rows):
        return problem(404, "not_found", "no such object")
    faults = [{"pointer": _pointer(row["loc"]), "detail": _sentence(row)} for row in rows[:50]]
    first = f": {faults[0]['pointer']} {faults[0]['detail']}" if faults else ""
    return problem(422, "bad_input", f"the request is malformed{first}", faults=faults)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer what nobody expected, without its innards."""
    _LOG.error("request_failed %s %s", request.method, request.url.path, exc_info=error)
    return problem(500, "internal_error", "the coordinator failed on this request; its log says more")


def allowed_methods(request: Request) -> list[str]:
    """Return the methods of every route that matches the request's path."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def _sentence(row: Mapping[str, Any]) -> str:
    if row["type"] == "json_invalid":
        return "is not JSON"
    return str(row["msg"])[:200] if row["type"] not in {"value_error", "assertion_error"} else "is not allowed"


def _pointer(location: Sequence[str | int]) -> str:
    return "/" + "/".join(_clean(str(part)) for part in location[:10])


def _clean(part: str) -> str:
    """Return a field's name as it may be shown: the caller chose it."""
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in part[:60])
    return text.replace("~", "~0").replace("/", "~1")
