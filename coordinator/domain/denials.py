"""A refusal that a tenant should read is a value, and all of them come at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Denial:
    """Why something may not happen, and what would change that."""

    code: str  # stable: "node_offline", "app_not_approved" …
    message: str  # one sentence with the names
    next_step: str = ""  # the act that would mend it
    passing: bool = False  # may vanish by itself (a node comes back): worth waiting for
