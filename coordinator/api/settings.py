"""Limits of the REST face, with units."""

from __future__ import annotations

from dataclasses import dataclass

from common.units import GIB, MIB, Bytes, Seconds


@dataclass(frozen=True)
class ApiSettings:
    """Every limit a caller could push on."""

    json_bytes: Bytes = Bytes(MIB)  # of a JSON body
    app_bytes: Bytes = Bytes(64 * MIB)  # of an app's archive
    model_bytes: Bytes = Bytes(2 * GIB)  # of an imported model
    uploads_at_once: int = 4  # bodies of apps and models of one tenant
    log_bytes: Bytes = Bytes(16 * MIB)  # of a log, newest part, in one answer
    body_wait: Seconds = Seconds(30.0)  # for the next piece of a body
    heartbeat: Seconds = Seconds(15.0)  # between comments on a silent event stream
    stream: Seconds = Seconds(900.0)  # life of one event stream; its reader resumes, and is judged anew
    joins_per_minute: int = 30  # of one address; also for reading the CA
    public_url: str = ""  # as nodes reach it; "" = as the caller did
    release: str = ""
