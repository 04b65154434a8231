"""Asking the nodes' own model servers for predictions, as an application at the hospital would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict

import httpx

from common.client.records import Deployment
from common.errors import PlatformError
from common.jobspec import JobSpec

# A 63-year-old man from the original study: typical angina, blood pressure 145, cholesterol 233 …; columns as in
# examples/heart/heart/data.py.
PATIENT = [63.0, 1.0, 1.0, 145.0, 233.0, 1.0, 2.0, 150.0, 0.0, 2.3, 3.0, 0.0, 6.0]
_ANSWER_S = 10.0


class Prediction(TypedDict):
    """What one node answered."""

    node: str
    url: str
    version: int
    predictions: Any


def sample(spec: JobSpec) -> dict[str, Any]:
    """Return a request body that fits the app's export: the sample patient for thirteen measurements, else zeros."""
    shapes = dict(spec.export.inputs) if spec.export else {}
    rows = {name: _row([int(d) for d in shape[1:] if isinstance(d, int)]) for name, shape in shapes.items()}
    if len(rows) == 1:
        return {"instances": [*rows.values()]}
    return {"inputs": {name: [row] for name, row in rows.items()}}


def ready(deployments: Sequence[Deployment], tenant: str, model: str, version: int, nodes: Sequence[str]) -> bool:
    """Say whether every one of ``nodes`` serves the version.

    Raises:
        PlatformError: a node failed to.
    """
    ours = [d for d in deployments if (d["tenant"], d["model"], d["version"]) == (tenant, model, version)]
    for deployment in ours:
        if deployment["state"] == "failed":
            raise PlatformError(f"{deployment['node_name']} cannot serve {model} v{version}: {deployment['message']}")
    return {d["node"] for d in ours if d["state"] == "serving"} >= set(nodes)


def ask(deployment: Deployment, body: dict[str, Any]) -> Prediction:
    """Ask one node's model server over HTTP.

    Raises:
        PlatformError: it does not answer with predictions.
    """
    base, model = deployment["url"].rstrip("/"), deployment["model"]
    url = f"{base}:predict" if "/v1/models/" in base else f"{base}/v1/models/{model}:predict"
    try:
        answer = httpx.post(url, json=body, timeout=_ANSWER_S, trust_env=False)
        answer.raise_for_status()
        predictions = answer.json().get("predictions", answer.json().get("outputs"))
    except (httpx.HTTPError, json.JSONDecodeError, AttributeError) as error:
        raise PlatformError(f"{deployment['node_name']} did not answer at {url}: {error}") from error
    return Prediction(node=deployment["node_name"], url=url, version=deployment["version"], predictions=predictions)


def _row(shape: Sequence[int]) -> Any:  # noqa: ANN401 - a list nested as deep as the shape is long
    if list(shape) == [len(PATIENT)]:
        return PATIENT
    if not shape:
        return 0.0
    return [_row(shape[1:]) for _ in range(shape[0])]
