"""Errors on the node link: one table, read from both ends.

A PlatformError travels as a gRPC status with its sentence as details and its stable code, class and next step in the
trailing metadata, so that the node raises the same class again.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

import grpc

from common import errors as e

CODE_KEY, CLASS_KEY, NEXT_KEY = "hansa-code", "hansa-class", "hansa-next"
MAX_TEXT = 1024  # characters of a sentence that travel
_Status = grpc.StatusCode
STATUS: dict[type[e.PlatformError], grpc.StatusCode] = {
    e.BadInput: _Status.INVALID_ARGUMENT,
    e.BadUpdate: _Status.INVALID_ARGUMENT,
    e.BadManifest: _Status.INVALID_ARGUMENT,
    e.BadSignature: _Status.DATA_LOSS,
    e.Corrupted: _Status.INTERNAL,
    e.Unauthenticated: _Status.UNAUTHENTICATED,
    e.PolicyDenied: _Status.PERMISSION_DENIED,
    e.NotFound: _Status.NOT_FOUND,
    e.Conflict: _Status.ABORTED,
    e.IdempotencyMismatch: _Status.INVALID_ARGUMENT,
    e.IllegalTransition: _Status.FAILED_PRECONDITION,
    e.QuotaExceeded: _Status.RESOURCE_EXHAUSTED,
    e.TenantQuotaExceeded: _Status.RESOURCE_EXHAUSTED,
    e.VersionMismatch: _Status.FAILED_PRECONDITION,
    e.LeaseLost: _Status.UNAVAILABLE,
    e.Unreachable: _Status.UNAVAILABLE,
    e.TooFewNodes: _Status.UNAVAILABLE,
}
_CLASSES = {cls.__name__: cls for cls in STATUS}
# What the gRPC runtime itself says, without our trailers: only what names the request's own fault.
_FOREIGN: dict[grpc.StatusCode, type[e.PlatformError]] = {
    _Status.UNAUTHENTICATED: e.Unauthenticated,
    _Status.PERMISSION_DENIED: e.PolicyDenied,
    _Status.NOT_FOUND: e.NotFound,
    _Status.INVALID_ARGUMENT: e.BadInput,
    _Status.RESOURCE_EXHAUSTED: e.QuotaExceeded,
    _Status.UNIMPLEMENTED: e.VersionMismatch,
}


def status_of(error: e.PlatformError) -> grpc.StatusCode:
    """Return the gRPC status of ``error``: its nearest class in the table, UNKNOWN outside it."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), _Status.UNKNOWN)


def trailers_of(error: e.PlatformError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of ``error``; text is percent-encoded, for metadata is ASCII."""
    name = next((cls.__name__ for cls in type(error).__mro__ if cls in STATUS), "")
    return (
        (CODE_KEY, quote(error.code)),
        (CLASS_KEY, name),
        (NEXT_KEY, quote(error.next_step[:MAX_TEXT])),
    )


def error_of(
    status: grpc.StatusCode, details: str | None, trailers: Iterable[tuple[str, str | bytes]] | None
) -> e.PlatformError:
    """Return the error that a failed call stands for; what we have no class for is Unreachable, so it is retried."""
    found = {key: value for key, value in trailers or () if isinstance(value, str)}
    text = (details or status.name)[:MAX_TEXT]
    cls = _CLASSES.get(found.get(CLASS_KEY, "")) or _FOREIGN.get(status, e.Unreachable)
    return cls(text, next_step=unquote(found.get(NEXT_KEY, "")), code=unquote(found.get(CODE_KEY, "")))
