"""The client: one object a coordinator, one attribute a noun.

Example::

    client = Client("https://hub.example:8443", token, Path("ca.pem"))
    job = client.jobs.submit("hearts", client.apps.upload(Path("examples/heart"))["app_digest"])
    for entry in client.jobs.follow(job["id"]):
        ...
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from common.client.capacity import CapacityPlan
from common.client.http import Http, Param
from common.client.models import Models
from common.client.queue import Schedule
from common.client.quotas import Quotas
from common.client.records import Ca, Whoami
from common.client.tenancy import Federations, Nodes, Tenants
from common.client.work import Apps, Jobs


class Client:
    """Calls to one coordinator in the name of one token; usable from one thread at a time.

    Args:
        url: ``https://host:port``.
        token: API token.
        ca_path: PEM file of the coordinator's CA; None trusts what the machine trusts.
        transport: Replaces the network, for tests of this package.

    Raises:
        BadInput: the URL or the CA file is unusable.
    """

    def __init__(
        self, url: str, token: str, ca_path: Path | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.http = Http(url, token, ca_path, transport=transport)
        self.tenants = Tenants(self.http)
        self.federations = Federations(self.http)
        self.nodes = Nodes(self.http)
        self.quotas = Quotas(self.http)
        self.schedule = Schedule(self.http)
        self.apps = Apps(self.http)
        self.jobs = Jobs(self.http)
        self.models = Models(self.http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The coordinator's address."""
        return self.http.url

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def whoami(self) -> Whoami:
        """Return who the token speaks for."""
        return self.http.call(Whoami, "GET", "/whoami")

    def ca(self) -> Ca:
        """Return the coordinator's root certificate."""
        return self.http.call(Ca, "GET", "/ca")

    def capacity(self, **question: Param) -> CapacityPlan:
        """Return what the pool gives the real queue, and the GPUs a target needs; ``question`` is the query."""
        return self.http.call(CapacityPlan, "GET", "/capacity", params=question)

    def health(self) -> dict[str, Any]:
        """Return the coordinator's readiness, dependency by dependency."""
        return self.http.call(dict[str, Any], "GET", "//readyz")
