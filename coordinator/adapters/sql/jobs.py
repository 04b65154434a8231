"""Jobs, their event log and their journal in tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from common.ids import FederationId, JobId, TenantId
from coordinator.adapters.sql import tables as t
from coordinator.adapters.sql.codec import to_plain
from coordinator.adapters.sql.rows import Rows
from coordinator.domain.exchanges import Exchange
from coordinator.domain.jobs import Job, JobLogEntry, JobState, Submission

_JOBS = Rows(t.JOBS, Job)
_LOG = Rows(t.JOB_LOG, JobLogEntry)
_EXCHANGES = Rows(t.EXCHANGES, Exchange)


def _append() -> sa.Insert:
    log = t.JOB_LOG
    job: sa.BindParameter[str] = sa.bindparam("job", type_=t.Words)
    last = sa.select(sa.func.coalesce(sa.func.max(log.c.seq), 0) + 1).where(log.c.job == job).scalar_subquery()
    names = ("at", "event", "facts")
    return sa.insert(log).values(job=job, seq=last, **{n: sa.bindparam(n, type_=log.c[n].type) for n in names})


_APPEND = _append().returning(t.JOB_LOG.c.seq)


class SqlJobs:
    """``coordinator.ports.store.Jobs`` in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, job: Job) -> None:
        _JOBS.put(self._connection, job)

    def get(self, job: JobId) -> Job | None:
        return _JOBS.one(self._connection, _JOBS.select().where(t.JOBS.c.id == job))

    def list(
        self,
        *,
        tenants: frozenset[TenantId] | None = None,
        federations: frozenset[FederationId] | None = None,
        states: frozenset[JobState] | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        jobs = t.JOBS.c
        query = _JOBS.select().order_by(jobs.created_at.desc(), jobs.id.desc()).limit(max(limit, 0))
        owned: list[sa.ColumnElement[bool]] = []
        if tenants is not None:
            owned.append(jobs.tenant.in_(sorted(tenants)))
        if federations is not None:
            owned.append(jobs.federation.in_(sorted(federations)))
        if owned:
            query = query.where(sa.or_(*owned))
        if states is not None:
            query = query.where(jobs.state.in_(sorted(s.value for s in states)))
        if after is not None:
            query = query.where(sa.tuple_(jobs.created_at, jobs.id) < sa.tuple_(after[0], after[1]))
        return _JOBS.all(self._connection, query)

    def count(self, tenant: TenantId, states: frozenset[JobState]) -> int:
        jobs = t.JOBS.c
        query = sa.select(sa.func.count()).where(jobs.tenant == tenant, jobs.state.in_(sorted(s.value for s in states)))
        found: int = self._connection.execute(query).scalar_one()
        return found

    def log(self, job: JobId, at: float, event: str, facts: dict[str, object]) -> JobLogEntry:
        values: dict[str, Any] = {"job": job, "at": at, "event": event, "facts": to_plain(facts)}
        seq = self._connection.execute(_APPEND, values).scalar_one()
        return JobLogEntry(job=job, seq=seq, at=at, event=event, facts=facts)

    def log_since(self, job: JobId, seq: int, limit: int = 1000) -> Sequence[JobLogEntry]:
        query = _LOG.select().where(t.JOB_LOG.c.job == job, t.JOB_LOG.c.seq > seq)
        return _LOG.all(self._connection, query.order_by(t.JOB_LOG.c.seq).limit(max(limit, 0)))

    def put_exchange(self, exchange: Exchange) -> None:
        _EXCHANGES.put(self._connection, exchange)

    def exchanges(self, job: JobId) -> Sequence[Exchange]:
        query = _EXCHANGES.select().where(t.EXCHANGES.c.job == job)
        return _EXCHANGES.all(self._connection, query.order_by(t.EXCHANGES.c.seq))

    def exchange(self, job: JobId, seq: int) -> Exchange | None:
        query = _EXCHANGES.select().where(t.EXCHANGES.c.job == job, t.EXCHANGES.c.seq == seq)
        return _EXCHANGES.one(self._connection, query)

    def submission(self, idempotency_key: str, tenant: TenantId) -> Submission | None:
        keys = t.SUBMISSION_KEYS.c
        query = sa.select(keys.job, keys.request).where(keys.tenant == tenant, keys.key == idempotency_key)
        found = self._connection.execute(query).one_or_none()
        return None if found is None else Submission(JobId(found.job), found.request)

    def put_submission(self, idempotency_key: str, tenant: TenantId, submission: Submission) -> None:
        row = {"tenant": tenant, "key": idempotency_key, "job": submission.job, "request": submission.request}
        self._connection.execute(sa.insert(t.SUBMISSION_KEYS), row)
