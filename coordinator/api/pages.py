"""Lists in pages: a cursor that says after what to go on, opaque to the caller."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import Field, StringConstraints

from common.errors import BadInput
from coordinator.api.schemas import In

T = TypeVar("T")
Key = tuple[str | int | float, ...]


class PageQuery(In):
    """Which part of a list."""

    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    page_token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]*$", max_length=600)] | None = None


Paging = Annotated[PageQuery, Query()]


def cut(items: Sequence[T], key: Callable[[T], Key], query: PageQuery) -> tuple[list[T], str | None]:
    """Return the page of ``items`` and the token of the next; items are sorted by ``key``, which is unique.

    Raises:
        BadInput: the token is none of ours.
    """
    ordered = sorted(items, key=key)
    if query.page_token:
        after = read_token(query.page_token)
        try:
            ordered = [item for item in ordered if key(item) > after]
        except TypeError:
            raise _bad_token() from None
    page = ordered[: query.page_size]
    more = len(ordered) > len(page)
    return page, write_token(key(page[-1])) if page and more else None


def write_token(key: Key) -> str:
    """Return the token that goes on after ``key``."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).rstrip(b"=").decode()


def read_token(token: str) -> Key:
    """Return the key in ``token``.

    Raises:
        BadInput: it is none of ours.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_token() from None
    if not isinstance(key, list) or not all(type(part) in {str, int, float} for part in key):
        raise _bad_token()
    return tuple(key)


def _bad_token() -> BadInput:
    return BadInput("page_token is none that this list gave", next_step="leave it out to begin at the first page")
