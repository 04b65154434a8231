"""``If-Match`` and ``If-None-Match: *`` of a change; one without them is refused, for it could undo the unseen."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from common.errors import BadInput, NoPrecondition
from coordinator.services.preconditions import Seen

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
Tags = Annotated[str | None, Header(max_length=1000)]


def seen(if_match: Tags = None, if_none_match: Tags = None) -> Seen:
    """Return what the writer says it has seen.

    Raises:
        NoPrecondition: it says nothing. BadInput: a header is no list of entity tags.
    """
    if if_match is None and if_none_match is None:
        raise NoPrecondition(
            "say which state you change: If-Match with the ETag you read, or If-None-Match: * for a new one"
        )
    if if_none_match is not None and (if_match is not None or if_none_match.strip() != "*"):
        raise BadInput("If-None-Match can only be * here, and not beside If-Match")
    if if_match is None:
        return Seen(absent=True)
    parts = [part.strip() for part in if_match.split(",")]
    if parts == ["*"]:
        return Seen(frozenset({"*"}))
    found = [_TAG.fullmatch(part) for part in parts]
    if None in found:
        raise BadInput("If-Match is no list of entity tags in double quotes")
    return Seen(frozenset(match[2] for match in found if match is not None and not match[1]))  # strong comparison


Precondition = Annotated[Seen, Depends(seen)]
