"""Each group of records keeps what it is given, on every database."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from common.errors import BadInput, Conflict
from common.ids import AppDigest, FederationId, JobId, NodeId, TenantId
from coordinator.adapters.sql import SqlStore
from coordinator.domain.jobs import JobState, Submission
from coordinator.domain.nodes import NodeStatus
from coordinator.domain.tenancy import Acceptance
from tests.contract import records as r


async def test_tenants_come_back_and_a_taken_id_is_a_conflict(store: SqlStore):
    await store.write(lambda tx: tx.tenants.add(r.tenant(r.SOUTH)))
    await store.write(lambda tx: tx.tenants.add(r.tenant()))
    assert await store.read(lambda tx: tx.tenants.list()) == [r.tenant(), r.tenant(r.SOUTH)]
    assert await store.read(lambda tx: tx.tenants.get(r.NORTH)) == r.tenant()
    assert await store.read(lambda tx: tx.tenants.get(TenantId("nobody"))) is None
    with pytest.raises(Conflict):
        await store.write(lambda tx: tx.tenants.add(replace(r.tenant(), title="another")))
    assert await store.read(lambda tx: tx.tenants.get(r.NORTH)) == r.tenant()


async def test_a_revoked_token_is_kept_and_says_so(store: SqlStore):
    await store.write(lambda tx: tx.tenants.add_token(r.api_token()))
    await store.write(lambda tx: tx.tenants.add_token(r.api_token("tok_2", r.SOUTH)))
    assert await store.read(lambda tx: tx.tenants.tokens(r.NORTH)) == [r.api_token()]
    assert await store.write(lambda tx: tx.tenants.revoke_token("tok_1"))
    assert not await store.write(lambda tx: tx.tenants.revoke_token("tok_9"))
    assert await store.read(lambda tx: tx.tenants.token("tok_1")) == replace(r.api_token(), revoked=True)
    assert await store.read(lambda tx: tx.tenants.token("tok_9")) is None


async def test_a_federation_is_replaced_with_its_members(store: SqlStore):
    await store.write(lambda tx: tx.tenants.put_federation(r.federation()))
    changed = replace(r.federation(), members={r.SOUTH: Acceptance.LEFT, r.NORTH: Acceptance.ACCEPTED})
    await store.write(lambda tx: tx.tenants.put_federation(changed))
    found = await store.read(lambda tx: tx.tenants.federation(r.HEART))
    assert found == changed
    assert list(found.members) == [r.SOUTH, r.NORTH]  # order kept: it is shown to people
    assert await store.read(lambda tx: tx.tenants.federations()) == [changed]


async def test_a_join_token_burns_once_and_not_after_its_time(store: SqlStore):
    await store.write(lambda tx: tx.nodes.add_join_token(r.join_token()))
    await store.write(lambda tx: tx.nodes.add_join_token(r.join_token("jt_old", until=1500.0)))
    burn = lambda token, node, now: store.write(lambda tx: tx.nodes.burn_join_token(token, NodeId(node), r.C, now))  # noqa: E731
    assert not await burn("jt_old", "node_1", 1500.0)
    assert not await burn("jt_none", "node_1", 1500.0)
    assert await burn("jt_1", "node_1", 1999.0)
    assert not await burn("jt_1", "node_2", 1999.0)
    found = await store.read(lambda tx: tx.nodes.join_token("jt_1"))
    assert (found.used_by, found.used_key_sha256) == ("node_1", r.C)


async def test_a_node_is_replaced_and_its_name_is_unique_in_its_tenant(store: SqlStore):
    await store.write(lambda tx: tx.nodes.put(r.node()))
    await store.write(lambda tx: tx.nodes.put(r.node("node_2", owner=r.SOUTH)))
    changed = replace(r.node(), status=NodeStatus.QUARANTINED, report=None, seen_at=None)
    await store.write(lambda tx: tx.nodes.put(changed))
    assert await store.read(lambda tx: tx.nodes.get(NodeId("node_1"))) == changed
    with pytest.raises(Conflict):
        await store.write(lambda tx: tx.nodes.put(r.node("node_3")))
    assert [n.id for n in await store.read(lambda tx: tx.nodes.list())] == ["node_1", "node_2"]
    assert [n.id for n in await store.read(lambda tx: tx.nodes.list(frozenset({r.SOUTH})))] == ["node_2"]
    assert await store.read(lambda tx: tx.nodes.list(frozenset())) == []


async def test_jobs_of_a_tenant_are_counted_by_state(store: SqlStore):
    jobs = [r.job("job_a"), r.job("job_b"), r.job("job_c", r.SOUTH), replace(r.job("job_d"), state=JobState.FAILED)]
    for job in jobs:
        await store.write(lambda tx, job=job: tx.jobs.put(job))
    count = lambda tenant, *states: store.read(lambda tx: tx.jobs.count(tenant, frozenset(states)))  # noqa: E731
    assert await count(r.NORTH, JobState.QUEUED, JobState.RUNNING) == 2
    assert await count(r.NORTH, *JobState) == 3
    assert await count(r.SOUTH, JobState.FAILED) == 0
    assert await count(r.NORTH) == 0


async def test_jobs_are_listed_by_owner_or_federation_and_state_newest_first_page_by_page(store: SqlStore):
    jobs = [
        r.job("job_a", at=1.0),
        r.job("job_b", r.SOUTH, at=2.0),
        r.job("job_c", r.SOUTH, FederationId("lung"), at=2.0),
        replace(r.job("job_d", at=3.0), state=JobState.FAILED),
    ]
    for job in jobs:
        await store.write(lambda tx, job=job: tx.jobs.put(job))

    async def ids(**query: object) -> list[str]:
        return [job.id for job in await store.read(lambda tx: tx.jobs.list(**query))]

    assert await ids() == ["job_d", "job_c", "job_b", "job_a"]
    assert await ids(limit=2) == ["job_d", "job_c"]
    assert await ids(limit=2, after=(2.0, "job_c")) == ["job_b", "job_a"]
    assert await ids(tenants=frozenset({r.NORTH})) == ["job_d", "job_a"]
    assert await ids(tenants=frozenset({r.NORTH}), federations=frozenset({FederationId("lung")})) == [
        "job_d", "job_c", "job_a",
    ]  # fmt: skip
    assert await ids(tenants=frozenset(), federations=frozenset()) == []
    assert await ids(states=frozenset({JobState.FAILED})) == ["job_d"]
    assert await store.read(lambda tx: tx.jobs.get(JobId("job_a"))) == jobs[0]


async def test_a_jobs_log_counts_from_one_for_each_job(store: SqlStore):
    first = await store.write(lambda tx: tx.jobs.log(JobId("job_1"), 5.0, "job_admitted", {"nodes": ["ward"]}))
    await store.write(lambda tx: tx.jobs.log(JobId("job_2"), 5.0, "job_admitted", {}))
    second, third = await store.write(
        lambda tx: (tx.jobs.log(JobId("job_1"), 6.0, "a", {}), tx.jobs.log(JobId("job_1"), 6.0, "b", {"n": 1}))
    )
    assert (first.seq, second.seq, third.seq) == (1, 2, 3)
    assert await store.read(lambda tx: tx.jobs.log_since(JobId("job_1"), 0)) == [first, second, third]
    assert await store.read(lambda tx: tx.jobs.log_since(JobId("job_1"), 1, limit=1)) == [second]


async def test_the_journal_comes_back_in_order_and_a_row_can_be_closed(store: SqlStore):
    opened = replace(r.exchange(1), closed_at=None, replies=(), included=())
    for row in (opened, r.exchange(0), r.exchange(1)):
        await store.write(lambda tx, row=row: tx.jobs.put_exchange(row))
    assert await store.read(lambda tx: tx.jobs.exchanges(JobId("job_1"))) == [r.exchange(0), r.exchange(1)]
    assert await store.read(lambda tx: tx.jobs.exchange(JobId("job_1"), 1)) == r.exchange(1)
    assert await store.read(lambda tx: tx.jobs.exchange(JobId("job_1"), 2)) is None


async def test_a_submission_key_is_taken_once_in_each_tenant(store: SqlStore):
    first, second = Submission(JobId("job_1"), "a" * 64), Submission(JobId("job_2"), None)
    await store.write(lambda tx: tx.jobs.put_submission("k", r.NORTH, first))
    await store.write(lambda tx: tx.jobs.put_submission("k", r.SOUTH, second))
    with pytest.raises(Conflict):
        await store.write(lambda tx: tx.jobs.put_submission("k", r.NORTH, second))
    assert await store.read(lambda tx: tx.jobs.submission("k", r.NORTH)) == first
    assert await store.read(lambda tx: tx.jobs.submission("k", r.SOUTH)) == second
    assert await store.read(lambda tx: tx.jobs.submission("other", r.NORTH)) is None


async def test_versions_count_up_and_a_round_is_published_once(store: SqlStore):
    assert await store.read(lambda tx: tx.models.next_version(r.NORTH, "heart")) == 1
    await store.write(lambda tx: tx.models.add_version(r.version(1)))
    await store.write(lambda tx: tx.models.add_version(r.version(2, of_job=None)))
    await store.write(lambda tx: tx.models.add_version(r.version(3, of_job=None)))  # imports are no rounds
    assert await store.read(lambda tx: tx.models.next_version(r.NORTH, "heart")) == 4
    for taken in (r.version(1, of_job="job_2"), r.version(4)):
        with pytest.raises(Conflict):
            await store.write(lambda tx, taken=taken: tx.models.add_version(taken))
    assert await store.read(lambda tx: tx.models.version_of_job(JobId("job_1"), 3)) == r.version(1)
    assert await store.read(lambda tx: tx.models.version(r.NORTH, "heart", 2)) == r.version(2, of_job=None)
    assert len(await store.read(lambda tx: tx.models.versions(r.NORTH))) == 3
    assert await store.read(lambda tx: tx.models.versions(r.NORTH, "lung")) == []


async def test_an_alias_moves_only_from_the_expected_generation(store: SqlStore):
    move = lambda alias, expected: store.write(lambda tx: tx.models.move_alias(alias, expected_generation=expected))  # noqa: E731
    assert not await move(r.alias(2), 1)  # none yet
    assert await move(r.alias(1), 0)
    assert not await move(r.alias(1, 9), 0)
    assert await move(r.alias(2, 5), 1)
    assert await store.read(lambda tx: tx.models.alias(r.NORTH, "heart", "latest")) == r.alias(2, 5)
    assert await store.read(lambda tx: tx.models.aliases(r.NORTH, "heart")) == [r.alias(2, 5)]


async def test_deployments_are_replaced_and_filtered(store: SqlStore):
    for row in (r.deployment(), r.deployment("node_2"), r.deployment(number=2), r.deployment(state="serving")):
        await store.write(lambda tx, row=row: tx.models.put_deployment(row))
    found = await store.read(lambda tx: tx.models.deployments(node=NodeId("node_1")))
    assert found == [r.deployment(state="serving"), r.deployment(number=2)]
    assert len(await store.read(lambda tx: tx.models.deployments(tenant=r.NORTH, model="heart"))) == 3
    assert await store.read(lambda tx: tx.models.deployments(tenant=r.SOUTH)) == []


async def test_an_app_belongs_to_the_tenant_that_brought_it(store: SqlStore):
    app = AppDigest(r.A)
    await store.write(lambda tx: tx.apps.put(app, r.NORTH, "heart", r.B, 100, 1.0))
    await store.write(lambda tx: tx.apps.put(app, r.NORTH, "again", r.C, 200, 2.0))
    assert await store.read(lambda tx: tx.apps.get(app, r.NORTH)) == ("heart", r.B, 100)
    assert await store.read(lambda tx: tx.apps.get(app, r.SOUTH)) is None


async def test_numbers_that_json_has_no_word_for_survive(store: SqlStore):
    metrics = {"loss": math.inf, "low": -math.inf}
    await store.write(lambda tx: tx.jobs.put(replace(r.job(), metrics=metrics)))
    assert (await store.read(lambda tx: tx.jobs.get(JobId("job_1")))).metrics == metrics
    await store.write(lambda tx: tx.jobs.log(JobId("job_1"), 1.0, "round_aggregated", {"loss": math.nan}))
    (entry,) = await store.read(lambda tx: tx.jobs.log_since(JobId("job_1"), 0))
    assert math.isnan(entry.facts["loss"])


@pytest.mark.parametrize("text", ["nul \0 in it", "half a pair \ud800", "ε ≤ 1, 😀", "'; DROP TABLE jobs; --"])
async def test_whatever_an_app_prints_can_be_stored(store: SqlStore, text: str):
    await store.write(lambda tx: tx.jobs.put(replace(r.job(), note=text)))
    found = (await store.read(lambda tx: tx.jobs.get(JobId("job_1")))).note
    assert found == text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    row = replace(r.exchange(), dropped=((NodeId("node_1"), "app_raised", text),))
    await store.write(lambda tx: tx.jobs.put_exchange(row))
    assert await store.read(lambda tx: tx.jobs.exchange(JobId("job_1"), 0)) == row
    assert await store.read(lambda tx: tx.jobs.get(JobId(text))) is None


async def test_a_number_of_more_than_64_bits_is_refused_by_name(store: SqlStore):
    with pytest.raises(BadInput, match="cannot hold this value"):
        await store.write(lambda tx: tx.jobs.put(replace(r.job(), seed=2**64)))
