"""How an error ends the command: an exit code by its kind, and what, why and fix on stderr."""

from __future__ import annotations

import json

from common.cli.output import clean
from common.errors import AppFailed, PlatformError, PolicyDenied, TooFewNodes, Unreachable, VersionMismatch

OK = 0
ERROR = 1
USAGE = 2
REFUSED = 3  # by policy, or it cannot be placed
BUDGET = 4
UNREACHABLE = 5
VERSION = 6
NEVER = 7  # a planned job can never be placed as things stand
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_BY_KIND: tuple[tuple[type[PlatformError], int], ...] = (
    (PolicyDenied, REFUSED),
    (TooFewNodes, REFUSED),
    (Unreachable, UNREACHABLE),
    (VersionMismatch, VERSION),
)
_BY_CODE = {
    "policy_denied": REFUSED,
    "too_few_nodes": REFUSED,
    "cannot_be_placed": REFUSED,
    "not_placeable": REFUSED,
    "missing_imports": REFUSED,
    "refused": REFUSED,
    "budget_exhausted": BUDGET,
    "unreachable": UNREACHABLE,
    "version_mismatch": VERSION,
}


def code_of(error: PlatformError) -> str:
    """Return the most exact stable code of ``error``."""
    return error.reason if isinstance(error, AppFailed) else error.code


def exit_code(code: str) -> int:
    """Return the exit code for the reason of a failed job."""
    return _BY_CODE.get(code, ERROR)


def exit_code_of(error: PlatformError) -> int:
    """Return the exit code for ``error``: by its code if that says, else by its kind, which codes only narrow."""
    by_kind = next((exits for kind, exits in _BY_KIND if isinstance(error, kind)), ERROR)
    return _BY_CODE.get(code_of(error), by_kind)


def in_words(error: PlatformError) -> str:
    """Return what happened, what would mend it, and where to read more, one a line."""
    lines = [f"error: {error.detail}"]
    if error.next_step:
        lines.append(f"  fix: {error.next_step}")
    lines.append(f" more: hansa explain {code_of(error)}")
    return clean("\n".join(lines))  # a detail may quote what a tenant wrote


def in_json(error: PlatformError) -> str:
    """Return the same as one line of JSON."""
    return json.dumps({"error": {"code": code_of(error), "detail": error.detail, "next_step": error.next_step}})
