"""Logs: constant past-tense event names with facts as fields, JSON for machines, plain lines for people.

Rule: a secret never reaches a sink.  The last processor before the renderer replaces every value that is a key, a
tensor or text that carries a token or a private key, wherever it is nested.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import IO, Any, Literal

import structlog

MAX_TEXT = 4096  # characters of one value
REDACTED = "[redacted]"
_NAMES = re.compile(r"(?i)(?:^|_)(?:secret|password|passphrase|token|authorization|private_key|key_pem|seed|share)$")
_TEXT = re.compile(r"hjt1_[A-Za-z0-9_-]{8,}|hat1_[\w.-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END|$)")
_MODULES = ("cryptography.", "numpy", "torch")  # keys and tensors, by where their type was made
_DEPTH = 6


def configure(*, style: Literal["json", "console"], level: str = "info", stream: IO[str] | None = None) -> None:
    """Set structlog and the standard library's logging up for this process."""
    out = sys.stderr if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if style == "json":
        shared.append(structlog.processors.format_exc_info)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
    )
    sink = logging.StreamHandler(out)
    sink.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [sink]
    root.setLevel(level.upper())


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not be logged; a structlog processor."""
    return {key: _safe(key, value, _DEPTH) for key, value in event.items()}


def _safe(name: str, value: object, depth: int) -> object:  # noqa: PLR0911
    if depth == 0 or _NAMES.search(name) or type(value).__module__.startswith(_MODULES):
        return REDACTED
    if isinstance(value, str):
        return _TEXT.sub(REDACTED, value[:MAX_TEXT])
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return {str(key): _safe(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe("", item, depth - 1) for item in value]
    if isinstance(value, BaseException):
        return _TEXT.sub(REDACTED, f"{type(value).__name__}: {value}"[:MAX_TEXT])
    return value
