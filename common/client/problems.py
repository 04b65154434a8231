"""Problem documents (RFC 9457) and broken connections, turned back into the errors of ``common.errors``.

The code in the document decides the class; a server that speaks no problem+json (a proxy, an older release) is judged
by its status.  Nothing here does I/O.
"""

from __future__ import annotations

import json
from typing import Any

from common import errors
from common.errors import PlatformError

_BY_STATUS: dict[int, type[PlatformError]] = {
    400: errors.BadInput,
    401: errors.Unauthenticated,
    403: errors.PolicyDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.ChangedMeanwhile,
    413: errors.QuotaExceeded,
    422: errors.BadInput,
    426: errors.VersionMismatch,
    428: errors.NoPrecondition,
    429: errors.QuotaExceeded,
    502: errors.Unreachable,
    503: errors.Unreachable,
    504: errors.Unreachable,
}
_MAX_TEXT = 400  # characters of a foreign body that are worth showing


def error_of(status: int, body: bytes) -> PlatformError:
    """Return the error that an unsuccessful answer stands for."""
    problem = _problem(body)
    if problem is None:
        text = body.decode("utf-8", "replace").strip()[:_MAX_TEXT]
        kind = _BY_STATUS.get(status, PlatformError)
        return kind(f"the server answered {status}" + (f": {text}" if text else ""))
    code = str(problem.get("code") or "")
    detail = _detail(problem) or f"the server answered {status}"
    next_step = str(problem.get("next_step") or "")
    if code == errors.AppFailed.code:
        return errors.AppFailed(detail, reason=str(problem.get("reason") or code), next_step=next_step)
    known = _by_code().get(code)
    error = (known or _BY_STATUS.get(status, PlatformError))(detail, next_step=next_step)
    if known is None and code:
        error.code = code  # a code this release does not know is still worth showing and explaining
    return error


def unreachable(url: str, cause: BaseException) -> errors.Unreachable:
    """Return ``cause``, a transport failure of a request to ``url``, as an error with a way out."""
    text = str(cause) or type(cause).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return errors.Unreachable(
            f"the certificate of {url} cannot be verified: {text}",
            next_step="give the coordinator's CA with --ca FILE (the coordinator keeps it at DIR/ca/ca.pem)",
        )
    return errors.Unreachable(
        f"{url} cannot be reached: {text}",
        next_step="check the address with `hansa context show`, and that the coordinator is running there",
    )


def _by_code() -> dict[str, type[PlatformError]]:
    return {kind.code: kind for kind in PlatformError.__subclasses__()}


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        problem = json.loads(body)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) and ("detail" in problem or "code" in problem) else None


def _detail(problem: dict[str, Any]) -> str:
    lines = [str(problem.get("detail") or problem.get("title") or "")]
    for fault in problem.get("errors") or ():
        if isinstance(fault, dict):
            where = str(fault.get("pointer") or fault.get("loc") or "")
            lines.append(f"  {where}: {fault.get('detail') or fault.get('message') or fault.get('msg') or ''}")
    return "\n".join(line for line in lines if line)
