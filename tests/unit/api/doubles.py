"""What stands behind the REST face where there is no node and no child."""

from __future__ import annotations

from dataclasses import replace

from common.clock import ManualClock
from common.errors import NotFound
from common.ids import NodeId
from coordinator.adapters.sql import SqlStore
from coordinator.domain.jobs import Job, JobEvent, JobState, advance

NORTH_NODE = NodeId("node_" + "a" * 16)


class Wires:
    """A node link whose nodes are connected when a test says so."""

    def __init__(self) -> None:
        self.online: frozenset[NodeId] = frozenset({NORTH_NODE})
        self.sent: list[NodeId] = []
        self.quotas: list[tuple] = []  # what the scheduler was told of grants

    def send(self, node, event):
        self.sent.append(node)
        return node in self.online

    def connected(self):
        return self.online

    def disconnect(self, node, code, message):
        self.online -= {node}


class Desk:
    """A desk that starts no children: what the REST face can see of it is rows in the store."""

    def __init__(self, store: SqlStore, clock: ManualClock) -> None:
        self._store, self._clock = store, clock

    def grant(self, site: str, tenant: str) -> None:
        """Nothing was given."""

    async def admit(self, job: Job) -> None:
        """Leave the job queued."""

    async def cancel(self, job_id, by):
        def work(tx):
            found = tx.jobs.get(job_id)
            if found is None:
                raise NotFound(f"no job {job_id}")
            if found.state is not JobState.CANCELLED:
                tx.jobs.put(replace(found, state=advance(found.state, JobEvent.CANCELLED), ended_at=self._clock.now()))
                tx.jobs.log(job_id, self._clock.now(), "job_cancelled", {"by": by})

        await self._store.write(work)
