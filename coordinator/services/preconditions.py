"""What a writer has seen of the object it writes: one of two writers at once finds out that it was the second.

Source: RFC 9110 §13.1, with strong tags only.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from common.crypto.canonical import canonical
from common.errors import ChangedMeanwhile
from coordinator.domain.quotas import Allowance, Grant


@dataclass(frozen=True)
class Seen:
    """The tags of ``If-Match``, or ``absent`` for ``If-None-Match: *``: the object is new."""

    tags: frozenset[str] = frozenset()  # without quotes; "*" = whatever there is
    absent: bool = False

    def check(self, what: str, record: Grant | Allowance | None) -> None:
        """Go on only if ``record`` is what the writer saw.

        Raises:
            ChangedMeanwhile: it is not.
        """
        if record is None:
            if not self.absent:
                raise ChangedMeanwhile(f"{what} is not there any more", next_step="hansa quota ls")
        elif self.absent or not self.tags & {"*", tag_of(record)}:
            by = f" by {record.set_by}" if record.set_by else ""
            raise ChangedMeanwhile(
                f"{what} was changed{by} after you read it", next_step="look at it again, then repeat the change"
            )


def tag_of(record: Grant | Allowance) -> str:
    """Return the entity tag of ``record``: another for every other content, also of an object that was made anew."""
    return hashlib.sha256(canonical(_plain(asdict(record)))).hexdigest()[:24]


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, dict) else value
