"""Identifiers: short, typed, safe in paths and URLs."""

from __future__ import annotations

import re
import secrets
from typing import NewType

from common.errors import BadInput

TenantId = NewType("TenantId", str)  # the tenant's name: a slug chosen by the admin
FederationId = NewType("FederationId", str)  # a slug
NodeId = NewType("NodeId", str)  # "node_…"
JobId = NewType("JobId", str)  # "job_…"
TaskId = NewType("TaskId", str)  # "<job>/<seq>/<slot>"
Digest = NewType("Digest", str)  # lower-case hex SHA-256 of an object's bytes
AppDigest = NewType("AppDigest", str)  # lower-case hex SHA-256 of an app's file list
Epoch = NewType("Epoch", int)  # fencing number of the active coordinator

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 16 random characters (80 bits)."""
    return prefix + "_" + "".join(secrets.choice(_ALPHABET) for _ in range(16))


def slug(value: str, *, what: str) -> str:
    """Return ``value`` if it is a slug: 1-40 of ``a-z 0-9 -``, no dash at either end.

    Raises:
        BadInput: it is not.
    """
    if not _SLUG.fullmatch(value):
        raise BadInput(f"{what} {value[:60]!r} must be 1-40 characters of a-z, 0-9 and '-', with no dash at either end")
    return value


def digest(value: str, *, what: str = "digest") -> Digest:
    """Return ``value`` if it is a lower-case hex SHA-256.

    Raises:
        BadInput: it is not.
    """
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise BadInput(f"{what} {value[:80]!r} is not a lower-case hex SHA-256")
    return Digest(value)


def task_id(job: JobId, seq: int, slot: int) -> TaskId:
    """Return the id of message ``slot`` of exchange ``seq`` of ``job``; it never changes across restarts."""
    return TaskId(f"{job}/{seq}/{slot}")
