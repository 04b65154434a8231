"""What a node remembers of masked sums: vectors it has sent, lists it has signed, and whom it has refused.

Guarantees of a ``MaskState``: (1) a method that returned has been written durably; (2) each is one transaction;
(3) what was signed for a (job, round) is never forgotten or replaced, whatever becomes of the job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class MaskedVector:
    """A masked update, as it was or will be uploaded."""

    task: str
    job: str
    seq: int
    attempt: int
    digest: str
    size: int
    file: str  # name under masked/
    record: bytes = field(repr=False)  # pb.MaskRecord: what it takes to help to open the sum


@dataclass(frozen=True)
class Refusal:
    """Something a coordinator wanted that this node would not do."""

    at: float  # UTC seconds
    job: str
    task: str
    code: str
    message: str


class MaskState(Protocol):
    """Durable memory of masked sums."""

    def put_vector(self, vector: MaskedVector) -> None:
        """Remember a masked vector before it leaves; replaces that of an earlier attempt at the same task."""
        ...

    def vector(self, task: str) -> MaskedVector | None: ...
    def vectors(self) -> tuple[MaskedVector, ...]: ...
    def drop_vectors(self, job: str, seq: int | None = None) -> None:
        """Forget the vectors of a job, or of one exchange of it."""
        ...

    def sign_once(self, job: str, seq: int, statement: str, at: float) -> str:
        """Write down that this statement (its SHA-256) is signed for (job, seq); return what is on record.

        The answer is another statement if one was signed before: then nothing is written.
        """
        ...

    def signed(self, job: str, seq: int) -> str:
        """Return the statement that was signed for (job, seq), "" if none was."""
        ...

    def put_refusal(self, refusal: Refusal) -> None: ...
    def refusals(self, limit: int = 100) -> tuple[Refusal, ...]:
        """Return the newest refusals, newest first."""
        ...
