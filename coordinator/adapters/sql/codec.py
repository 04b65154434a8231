"""Records to and from plain JSON values, strictly, by their type annotations.

What another release, an operator's editor or a broken disk wrote is read back as exactly the annotated type or raises
``Corrupted``: an unknown enum value never becomes a string that no ``match`` expects.  Floats that JSON has no word for
travel as ``{"$float": "nan"}``, so that a diverged loss survives PostgreSQL, which refuses bare ``NaN``; a key of the
data's own that starts with ``$`` is written with one more.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any

from common.errors import BadInput, Corrupted

Decoder = Callable[[Any], Any]
_FLOAT = "$float"


def to_plain(value: Any) -> Any:
    """Return ``value`` as dicts, lists and scalars.

    Raises:
        BadInput: it holds something JSON cannot carry.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    return _composite(value)


def _composite(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        if any(isinstance(key, tuple) for key in value):  # JSON's objects have names only
            return [[to_plain(k), to_plain(v)] for k, v in value.items()]
        return {_key(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain(v) for v in value), key=repr)
    raise BadInput(f"a record cannot hold a {type(value).__name__}")


def _key(key: Any) -> str:
    text = str(key.value if isinstance(key, Enum) else key)
    return "$" + text if text.startswith("$") else text


def dumps(value: Any) -> str:
    """Return plain ``value`` as compact JSON, ASCII only (PostgreSQL takes no raw NUL or surrogate)."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Return what ``dumps`` wrote.

    Raises:
        Corrupted: it is not JSON.
    """
    try:
        return json.loads(text, object_hook=_restore)
    except (ValueError, TypeError, RecursionError) as error:
        raise Corrupted(f"a stored JSON value cannot be read: {error}") from error


def _restore(table: dict[str, Any]) -> Any:
    if table.keys() == {_FLOAT}:
        return float(table[_FLOAT])
    return {key[1:] if key.startswith("$$") else key: value for key, value in table.items()}


@cache
def decoder(hint: Any) -> Decoder:
    """Return the function that reads a plain value as ``hint``, or raises ``Corrupted`` where it does not fit."""
    if isinstance(hint, typing.NewType):
        return decoder(hint.__supertype__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _union(args)
    if origin in {tuple, list, frozenset, dict, Mapping}:
        return _collection(origin, args)
    return _plain_class(hint)


def _collection(origin: Any, args: tuple[Any, ...]) -> Decoder:
    if origin is tuple:
        return _tuple(args)
    if origin in {list, frozenset}:
        items = _list(decoder(args[0]))
        return items if origin is list else lambda value: frozenset(items(value))
    if typing.get_origin(args[0]) is not tuple:
        return _dict(decoder(args[0]), decoder(args[1]))
    pairs = _list(_tuple(args))
    return lambda value: dict(pairs(value or []))  # nothing is written as an object


def _plain_class(hint: Any) -> Decoder:
    if hint is Any or hint is object:
        return lambda value: value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if hint is float:
        return _float
    if hint in {str, int, bool, types.NoneType}:
        return _exactly(hint)
    raise TypeError(f"no decoder for {hint!r}")


def _exactly(kind: type) -> Decoder:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise _wrong(kind.__name__, value)
        return value

    return read


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _wrong("float", value)
    return float(value)


def _enum(kind: type[Enum]) -> Decoder:
    def read(value: Any) -> Enum:
        try:
            return kind(value)
        except ValueError as error:
            raise _wrong(kind.__name__, value) from error

    return read


def _union(args: tuple[Any, ...]) -> Decoder:
    readers = [decoder(a) for a in args if a is not types.NoneType]
    optional = types.NoneType in args
    scalars = tuple(a for a in args if a in {bool, int, float, str})

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        if type(value) in scalars or len(readers) == 1:
            return readers[0](value) if len(readers) == 1 else value
        raise _wrong(" | ".join(getattr(a, "__name__", str(a)) for a in args), value)

    return read


def _tuple(args: tuple[Any, ...]) -> Decoder:
    if len(args) == 2 and args[1] is Ellipsis:
        items = _list(decoder(args[0]))
        return lambda value: tuple(items(value))
    parts = [decoder(a) for a in args]

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(parts):
            raise _wrong(f"list of {len(parts)}", value)
        return tuple(part(v) for part, v in zip(parts, value, strict=True))

    return read


def _list(item: Decoder) -> Decoder:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong("list", value)
        return [item(v) for v in value]

    return read


def _dict(key: Decoder, item: Decoder) -> Decoder:
    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise _wrong("object", value)
        return {key(k): item(v) for k, v in value.items()}

    return read


def _record(cls: type) -> Decoder:
    hints = typing.get_type_hints(cls)
    fields = {f.name: decoder(hints[f.name]) for f in dataclasses.fields(cls)}

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(cls.__name__, value)
        try:
            # A field that an older release did not write takes its default; one that we do not know is refused.
            return cls(**{name: fields[name](v) for name, v in value.items()})
        except (KeyError, TypeError) as error:
            raise Corrupted(f"a stored {cls.__name__} does not fit this release: {error}") from error

    return read


def _wrong(wanted: str, value: Any) -> Corrupted:
    return Corrupted(f"a stored value should be a {wanted}, found {repr(value)[:80]}")
