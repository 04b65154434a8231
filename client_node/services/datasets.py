"""Register a file as a dataset: only its shape, digest and place are kept; the file stays and is never copied."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from client_node.ports.state import Dataset
from client_node.services.tables import read_table
from common.errors import BadInput, Conflict, QuotaExceeded
from common.ids import slug


def describe(name: str, path: Path, *, node_dir: Path, now: float, max_bytes: int, table_format: str = "") -> Dataset:
    """Return the dataset that ``path`` holds.

    Raises:
        BadInput: no such file, not a regular one, or not a table.
        QuotaExceeded: larger than ``max_bytes``, or too wide.
        Conflict: the file was being written while it was read.
    """
    slug(name, what="dataset name")
    if table_format not in {"", "csv", "parquet"}:
        raise BadInput(f"format must be csv or parquet, got {table_format!r}")
    real = _regular_file(path, node_dir)
    before = real.stat()
    if before.st_size > max_bytes:
        raise QuotaExceeded(
            f"{path} has {before.st_size} bytes, this node registers at most {max_bytes}",
            next_step=f"hansa node policy set dataset_bytes {before.st_size}",
        )
    table = read_table(real, table_format)
    digest = file_digest(real)
    after = real.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Conflict(f"{path} changed while it was read", next_step="run the command again when it is complete")
    return Dataset(
        name=name,
        path=str(real),
        format=table.format,
        rows=table.rows,
        digest=digest,
        size=after.st_size,
        mtime_ns=after.st_mtime_ns,
        columns=table.columns,
        added=now,
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_changed(dataset: Dataset) -> bool:
    """Say by size and time of change whether the file is gone or another than the one that was registered."""
    try:
        now = Path(dataset.path).stat()
    except OSError:
        return True
    return (now.st_size, now.st_mtime_ns) != (dataset.size, dataset.mtime_ns)


def _regular_file(path: Path, node_dir: Path) -> Path:
    if "\n" in str(path) or "\0" in str(path):
        raise BadInput("a dataset's path must be one line")
    try:
        real = path.expanduser().resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise BadInput(f"{path} is a directory; a dataset is one CSV or Parquet file")
    if not stat.S_ISREG(mode):
        raise BadInput(f"{path} is no regular file")
    if real.is_relative_to(node_dir.resolve()):
        # the node's own files (its key among them) must never be shown to an app
        raise BadInput(f"{path} lies inside the node's own directory; keep data elsewhere")
    try:
        with real.open("rb"):
            return real
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
