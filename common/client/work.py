"""Calls about apps and jobs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.bundle import pack
from common.client.events import follow
from common.client.http import Http, segment
from common.client.records import App, Job, JobDetail, JobEvent, Plan, Round


class Apps:
    """``/apps``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def upload(self, directory: Path, on_skip: Callable[[str, str], None] = lambda _path, _why: None) -> App:
        """Pack an app directory and send it; ``on_skip`` hears (path, why) of each file that is left out."""
        return self.upload_archive(pack(directory, on_skip=on_skip))

    def upload_archive(self, archive: bytes) -> App:
        """Send an app's archive."""
        return self._http.call(App, "POST", "/apps", archive, headers={"Content-Type": "application/zip"})


class Jobs:
    """``/jobs``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def submit(
        self,
        federation: str,
        app: str,
        *,
        run_config: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        seed: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; the same ``idempotency_key`` never makes two."""
        body: dict[str, object] = {
            "federation": federation,
            "app": app,
            "tenant": tenant,
            "run_config": dict(run_config or {}),
        }
        if seed is not None:
            body |= {"seed": seed}
        key = idempotency_key or secrets.token_hex(16)
        return self._http.call(Job, "POST", "/jobs", body, headers={"Idempotency-Key": key})

    def plan(
        self, federation: str, app: str, *, run_config: Mapping[str, Any] | None = None, tenant: str | None = None
    ) -> Plan:
        """Return where the job could run and every reason against."""
        body: dict[str, object] = {
            "federation": federation,
            "app": app,
            "tenant": tenant,
            "run_config": dict(run_config or {}),
        }
        return self._http.call(Plan, "POST", "/jobs:plan", body)

    def list(self, state: str | None = None, limit: int | None = None) -> list[Job]:
        """Return jobs, newest first."""
        jobs: list[Job] = []
        for job in self._http.pages(Job, "/jobs", {"state": state}):
            if limit is not None and len(jobs) >= limit:
                break
            jobs.append(job)
        return jobs

    def get(self, job: str) -> JobDetail:
        """Return one job, and what its rounds wait for."""
        return self._http.call(JobDetail, "GET", f"/jobs/{segment(job)}")

    def cancel(self, job: str) -> Job:
        """Cancel a job."""
        return self._http.call(Job, "POST", f"/jobs/{segment(job)}:cancel")

    def follow(self, job: str, after: int = 0, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[JobEvent]:
        """Yield the job's log, history first, until the job has ended; survives broken connections.

        Args:
            job: Which job.
            after: The number behind which to begin.
            sleep: Waits between two tries to connect again; what it raises ends the following.
        """
        return follow(self._http, job, after, sleep=sleep)

    def events(self, job: str, after: int = 0) -> tuple[JobEvent, ...]:
        """Return the job's log so far, from behind number ``after``."""
        return tuple(self._http.pages(JobEvent, f"/jobs/{segment(job)}/events", {"after": after}))

    def rounds(self, job: str) -> tuple[Round, ...]:
        """Return all exchanges of the job, in order."""
        return tuple(self._http.pages(Round, f"/jobs/{segment(job)}/rounds"))

    def log(self, job: str, source: str = "server") -> str:
        """Return what the app printed at the server, or at the node ``source``: its name, or ``tenant/name``."""
        with self._http.stream("GET", f"/jobs/{segment(job)}/logs", params={"source": source}) as response:
            return response.read().decode("utf-8", "replace")
