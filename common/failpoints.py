"""Named places where a crash must be survived.

Off unless ``HANSA_FAILPOINT`` names one: ``NAME`` or ``NAME:n`` kills this process (SIGKILL, no clean-up) when the
place is reached the n-th time. ``REGISTRY`` lists every name, so that a test can loop over all of them; a name that is
not listed is a programming error.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

# side -> names; kept sorted. A place is marked by `failpoint("name")`.
REGISTRY: dict[str, tuple[str, ...]] = {
    "coordinator": (
        "exchange_closed_before_reply",
        "exchange_folded_before_commit",
        "exchange_opened",
        "job_admitted",
        "job_finished_before_publish",
        "manifest_written_before_alias",
        "mask_shares_delivered",
        "mask_survivors_signed",
        "mask_survivors_written",
        "mask_vectors_in",
        "roster_fixed",
        "task_offered",
        "update_mid_chunk",
        "update_spooled",
        "update_verified",
    ),
    "node": (
        "closed_before_forget",
        "download_mid_chunk",
        "mask_advertised",
        "mask_answered",
        "mask_shared",
        "masked_before_upload",
        "masked_uploaded",
        "model_installed_before_swap",
        "survivors_recorded_before_signing",
        "task_accepted",
        "task_trained_before_keep",
        "update_kept_before_upload",
        "upload_mid_chunk",
        "uploaded_before_ack",
    ),
}
_hits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process if the environment names this place and it was reached often enough."""
    armed = os.environ.get("HANSA_FAILPOINT", "")
    if not armed:
        return
    wanted, _, count = armed.partition(":")
    if wanted != name:
        return
    _hits[name] += 1
    if _hits[name] >= int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
