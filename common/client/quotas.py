"""Calls about quotas: what sites give tenants, and what each may use at the coordinator.

A change names the state it changes by its ``etag``, so that of two writers at once one is told (ChangedMeanwhile).
"""

from __future__ import annotations

from common.client.http import Http, segment
from common.client.records_quotas import Allowance, Amount, Grant


class Quotas:
    """``/grants`` and ``/allowances``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def grants(self, site: str | None = None, tenant: str | None = None) -> list[Grant]:
        """Return the grants the caller may see."""
        return list(self._http.pages(Grant, "/grants", {"site": site, "tenant": tenant}))

    def grant(self, site: str, tenant: str) -> Grant:
        """Return what ``site`` gives ``tenant``."""
        return self._http.call(Grant, "GET", _grant(site, tenant))

    def set_grant(
        self, site: str, tenant: str, guarantee: Amount, limit: Amount, weight: int, *, etag: str | None
    ) -> Grant:
        """Give ``tenant`` these terms at ``site``; ``etag`` None = it was given nothing so far."""
        body = {"guarantee": guarantee, "limit": limit, "weight": weight}
        return self._http.call(Grant, "PUT", _grant(site, tenant), body, headers=_seen(etag))

    def remove_grant(self, site: str, tenant: str, *, etag: str) -> None:
        """Take back what ``site`` gives ``tenant``."""
        self._http.call(dict, "DELETE", _grant(site, tenant), headers=_seen(etag))

    def allowances(self) -> list[Allowance]:
        """Return the allowances the caller may see."""
        return list(self._http.pages(Allowance, "/allowances"))

    def allowance(self, tenant: str) -> Allowance:
        """Return what ``tenant`` may use at the coordinator, and uses."""
        return self._http.call(Allowance, "GET", _allowance(tenant))

    def set_allowance(
        self, tenant: str, *, running_jobs: int, queued_jobs: int, stored_bytes: int, etag: str
    ) -> Allowance:
        """Let ``tenant`` use so much at the coordinator."""
        body = {"running_jobs": running_jobs, "queued_jobs": queued_jobs, "stored_bytes": stored_bytes}
        return self._http.call(Allowance, "PUT", _allowance(tenant), body, headers=_seen(etag))

    def remove_allowance(self, tenant: str, *, etag: str) -> Allowance:
        """Let the coordinator's default hold for ``tenant`` again; return it."""
        return self._http.call(Allowance, "DELETE", _allowance(tenant), headers=_seen(etag))


def _grant(site: str, tenant: str) -> str:
    return f"/grants/{segment(site)}/{segment(tenant)}"


def _allowance(tenant: str) -> str:
    return f"/allowances/{segment(tenant)}"


def _seen(etag: str | None) -> dict[str, str]:
    return {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
