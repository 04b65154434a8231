"""Calls about models: versions, manifests, blobs, aliases, deployments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.client.http import Http, segment
from common.client.records import Alias, Deployment, Deployments, Model, ModelSummary, ModelVersion, Pulled
from common.errors import BadSignature
from common.ids import digest as checked_digest
from common.units import MIB


class Models:
    """``/models``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> list[ModelSummary]:
        """Return the models the caller may see, each with its latest version."""
        return list(self._http.pages(ModelSummary, "/models"))

    def get(self, tenant: str, model: str) -> Model:
        """Return a model's versions and aliases."""
        return self._http.call(Model, "GET", f"/models/{segment(tenant)}/{segment(model)}")

    def version(self, tenant: str, model: str, version: int) -> ModelVersion:
        """Return one version."""
        return self._http.call(
            ModelVersion, "GET", f"/models/{segment(tenant)}/{segment(model)}/versions/{segment(version)}"
        )

    def manifest(self, tenant: str, model: str, version: int) -> bytes:
        """Return the signed manifest, byte for byte as it was signed."""
        with self._http.stream(
            "GET", f"/models/{segment(tenant)}/{segment(model)}/versions/{segment(version)}/manifest"
        ) as response:
            return response.read()

    def pull_blob(self, tenant: str, model: str, version: int, digest: str, target: Path) -> Pulled:
        """Stream a blob into ``target``, which appears only once its digest was found right.

        Raises:
            BadSignature: the bytes are not those the digest names.
        """
        path = f"/models/{segment(tenant)}/{segment(model)}/versions/{segment(version)}/blobs/{checked_digest(digest)}"
        part = target.with_name(target.name + ".part")
        seen, size = hashlib.sha256(), 0
        try:
            with self._http.stream("GET", path) as response, part.open("wb") as file:
                for chunk in response.iter_bytes(MIB):
                    seen.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            if seen.hexdigest() != digest:
                raise BadSignature(f"blob {digest[:12]}… arrived with digest {seen.hexdigest()[:12]}…: not kept")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return Pulled(digest, size)

    def import_file(self, tenant: str, model: str, path: Path, fmt: str) -> ModelVersion:
        """Send a model trained elsewhere (``fmt`` "onnx" or "safetensors"); it becomes the next version."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        return self._http.call(
            ModelVersion,
            "POST",
            f"/models/{segment(tenant)}/{segment(model)}:import",
            _chunks(path),
            params={"format": fmt},
            headers=headers,
        )

    def move_alias(self, tenant: str, model: str, name: str, version: int, expected_generation: int) -> Alias:
        """Move an alias if nobody has moved it since ``expected_generation`` (0 = it does not exist yet).

        Raises:
            Conflict: somebody has.
        """
        body = {"version": version, "expected_generation": expected_generation}
        return self._http.call(
            Alias, "PUT", f"/models/{segment(tenant)}/{segment(model)}/aliases/{segment(name)}", body
        )

    def deploy(
        self, tenant: str, model: str, version: int, nodes: Sequence[str] | None = None
    ) -> tuple[Deployment, ...]:
        """Ask nodes to serve a version; None = every node that may have it."""
        body = {"nodes": None if nodes is None else [*nodes]}
        page = self._http.call(
            Deployments, "POST", f"/models/{segment(tenant)}/{segment(model)}/versions/{segment(version)}:deploy", body
        )
        return tuple(page["items"])

    def deployments(self) -> tuple[Deployment, ...]:
        """Return what every visible node should serve, and what it last said."""
        return tuple(self._http.pages(Deployment, "/deployments"))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := file.read(MIB):
            yield chunk
