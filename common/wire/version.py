"""Which protocol this release speaks."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from common.errors import VersionMismatch
from common.wire.methods import PROTOCOL


def release() -> str:
    """Return this distribution's version."""
    try:
        return version("hansa")
    except PackageNotFoundError:
        return "unknown"


def check_protocol(theirs: int, their_release: str, *, who: str) -> None:
    """Return if both ends speak the same protocol.

    Raises:
        VersionMismatch: they do not.
    """
    if theirs != PROTOCOL:
        older, newer = ("upgrade it", "upgrade this side")
        raise VersionMismatch(
            f"{who} (release {their_release[:40]!r}) speaks protocol {theirs}, this side ({release()}) {PROTOCOL}",
            next_step=older if theirs < PROTOCOL else newer,
        )
