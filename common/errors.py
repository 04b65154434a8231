"""Errors a caller can act on: one root, one leaf a cause.

Every leaf carries a stable ``code`` (shown to users and in problem documents) and says whether the same call may
succeed later (``retryable``). The gRPC status and the HTTP problem are small tables at the edges, keyed by class.
"""

from __future__ import annotations


class PlatformError(Exception):
    """An error Hansa raises on purpose.

    Args:
        detail: What happened and to what, in one sentence with the values.
        next_step: The command or act that would mend it, if there is one.
        code: A narrower stable code than the class's, where the caller acts on it ("node_revoked").
    """

    code = "platform_error"
    retryable = False

    def __init__(self, detail: str, *, next_step: str = "", code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        if code:
            self.code = code


class BadInput(PlatformError):
    """The request, file or message is malformed."""

    code = "bad_input"


class Unauthenticated(PlatformError):
    """No valid credentials came with the request."""

    code = "unauthenticated"


class PolicyDenied(PlatformError):
    """A policy refuses this act for this principal."""

    code = "policy_denied"


class NotFound(PlatformError):
    """No such object inside the caller's tenants and federations."""

    code = "not_found"


class Conflict(PlatformError):
    """The object exists already or has changed since it was read."""

    code = "conflict"


class ChangedMeanwhile(PlatformError):
    """Somebody else has changed the object since the caller read it."""

    code = "changed_meanwhile"


class NoPrecondition(PlatformError):
    """A change came without saying which state of the object it changes."""

    code = "precondition_required"


class IdempotencyMismatch(PlatformError):
    """An idempotency key came again with another request."""

    code = "idempotency_mismatch"


class IllegalTransition(PlatformError):
    """The object's state does not allow this event."""

    code = "illegal_transition"


class BadUpdate(PlatformError):
    """A node's update does not match what was asked."""

    code = "bad_update"


class BadManifest(PlatformError):
    """A manifest is malformed or names what it should not."""

    code = "bad_manifest"


class BadSignature(PlatformError):
    """A signature or digest does not match."""

    code = "bad_signature"


class Corrupted(PlatformError):
    """A stored row or file cannot be read as what it should be."""

    code = "corrupted"


class TooFewNodes(PlatformError):
    """The quorum was not reached before the time-out."""

    code = "too_few_nodes"
    retryable = True


class QuotaExceeded(PlatformError):
    """A size, count or time limit would be passed."""

    code = "quota_exceeded"


class TenantQuotaExceeded(PlatformError):
    """What the platform lets this tenant use at the coordinator is used up."""

    code = "tenant_quota_exceeded"


class AppFailed(PlatformError):
    """Tenant code raised, crashed, hung or diverged; ``code`` names which."""

    code = "app_failed"

    def __init__(self, detail: str, *, reason: str = "app_failed", next_step: str = "") -> None:
        super().__init__(detail, next_step=next_step)
        self.reason = reason


class SandboxUnavailable(PlatformError):
    """This host cannot give the sandbox that the operator requires."""

    code = "sandbox_unavailable"


class VersionMismatch(PlatformError):
    """The two ends speak different protocol versions."""

    code = "version_mismatch"


class LeaseLost(PlatformError):
    """The epoch, lease or connection this act depended on is gone."""

    code = "lease_lost"
    retryable = True


class Unreachable(PlatformError):
    """The other end cannot be reached."""

    code = "unreachable"
    retryable = True
