"""Which request is which: TensorFlow Serving's v1 paths and the Open Inference Protocol's v2 paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from common.errors import BadInput, NotFound

_V1 = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<verb>[a-z]+)|/(?P<tail>metadata))?"
)
_V2 = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>\d{1,18}))?(?:/(?P<tail>ready|infer))?")


class Act(StrEnum):
    """What a request wants."""

    V1_STATUS = "v1_status"
    V1_METADATA = "v1_metadata"
    V1_PREDICT = "v1_predict"
    V2_SERVER = "v2_server"
    V2_LIVE = "v2_live"
    V2_READY = "v2_ready"
    V2_MODEL = "v2_model"
    V2_MODEL_READY = "v2_model_ready"
    V2_INFER = "v2_infer"


OPEN = frozenset({Act.V2_LIVE, Act.V2_READY})  # what a probe may ask without a token
_FIXED = {
    ("GET", "/v2"): Act.V2_SERVER,
    ("GET", "/v2/"): Act.V2_SERVER,
    ("GET", "/v2/health/live"): Act.V2_LIVE,
    ("GET", "/v2/health/ready"): Act.V2_READY,
}
_V1_ACTS = {("GET", ""): Act.V1_STATUS, ("GET", "metadata"): Act.V1_METADATA, ("POST", "predict"): Act.V1_PREDICT}
_V2_ACTS = {("GET", ""): Act.V2_MODEL, ("GET", "ready"): Act.V2_MODEL_READY, ("POST", "infer"): Act.V2_INFER}


@dataclass(frozen=True)
class Route:
    """A request's meaning; no version and no label = the one that is served."""

    act: Act
    model: str = ""
    version: int | None = None
    label: str = ""


def route(method: str, path: str) -> Route:
    """Return what the request wants.

    Raises:
        BadInput: a v1 path that TensorFlow Serving would call malformed.
        NotFound: no such path.
    """
    if act := _FIXED.get((method, path)):
        return Route(act)
    if path.startswith("/v1/"):
        match = _V1.fullmatch(path)
        act = _V1_ACTS.get((method, (match["verb"] or match["tail"] or ""))) if match else None
        if match is None or act is None:
            raise BadInput(f"Malformed request: {method} {path[:200]}")
    else:
        match = _V2.fullmatch(path)
        act = _V2_ACTS.get((method, match["tail"] or "")) if match else None
        if match is None or act is None:
            raise NotFound(f"no such path: {method} {path[:200]}")
    found = match.groupdict()
    version = int(found["version"]) if found["version"] else None
    return Route(act, unquote(found["model"]), version, unquote(found.get("label") or ""))
