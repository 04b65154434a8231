"""Files on their way into the blob store."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from common.units import MIB


def take_copy(path: Path, work_dir: Path) -> tuple[Path, str]:
    """Copy ``path`` into ``work_dir`` and return the copy and the SHA-256 of what was copied."""
    target = work_dir / f"take-{secrets.token_hex(8)}"
    digest = hashlib.sha256()
    with path.open("rb") as source, target.open("xb") as copy:
        while chunk := source.read(4 * MIB):
            digest.update(chunk)
            copy.write(chunk)
    return target, digest.hexdigest()
