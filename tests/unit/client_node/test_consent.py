"""The guard: deny by default, all denials at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_node.guard.consent import JobRequest, NodeRules, judge, wanted_datasets

APP = "a" * 64
REQUEST = JobRequest("job_1", "hearts", "acme", "ana", APP, "heart", individual=False, cpus=1, memory_mib=512)
RULES = NodeRules(
    shared=frozenset({("hearts", "ecg"), ("hearts", "mri"), ("lungs", "ct")}),
    approved=frozenset({("hearts", APP)}),
    environments=frozenset({"default"}),
    cpus=4,
    memory_mib=4096,
)


def codes(request: JobRequest, rules: NodeRules) -> set[str]:
    return {denial.code for denial in judge(request, rules)}


def test_an_approved_app_on_shared_data_may_run() -> None:
    assert judge(REQUEST, RULES) == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"federation": "lungs"}, "app_not_approved"),
        ({"federation": "kidneys"}, "no_dataset_shared"),
        ({"app_digest": "b" * 64}, "app_not_approved"),
        ({"datasets": ("ecg", "labs")}, "dataset_not_shared"),
        ({"datasets": ("ct",)}, "dataset_not_shared"),  # shared, but into another federation
        ({"individual": True}, "individual_replies_denied"),
        ({"environment": "torch"}, "environment_not_approved"),
        ({"cpus": 5}, "too_few_cpus"),
        ({"memory_mib": 4097}, "too_little_memory"),
        ({"gpu_milli": 1, "gpu_kind": "cuda"}, "too_little_gpu"),
    ],
)
def test_each_reason_against_a_job_has_its_code(change: dict, code: str) -> None:
    assert code in codes(replace(REQUEST, **change), RULES)


def test_a_file_that_changed_is_a_reason_only_for_jobs_that_want_it() -> None:
    rules = replace(RULES, changed=frozenset({"mri"}))
    assert codes(REQUEST, rules) == {"dataset_changed"}
    assert codes(replace(REQUEST, datasets=("ecg",)), rules) == set()


def test_all_denials_come_at_once_and_each_says_what_to_do() -> None:
    denials = judge(replace(REQUEST, individual=True, environment="x", memory_mib=10**6), NodeRules())
    assert {d.code for d in denials} == {
        "no_dataset_shared", "app_not_approved", "individual_replies_denied", "environment_not_approved",
        "too_few_cpus", "too_little_memory",
    }  # fmt: skip
    assert all(d.next_step.startswith("hansa node ") for d in denials if not d.code.startswith("too_"))


def test_any_app_of_a_federation_may_run_where_the_operator_says_so_and_nowhere_else() -> None:
    rules = replace(RULES, approved=frozenset(), any_app=frozenset({"hearts"}))
    assert judge(REQUEST, rules) == ()
    assert codes(replace(REQUEST, federation="lungs"), rules) == {"app_not_approved"}


def test_a_job_that_names_no_datasets_sees_what_is_shared_into_its_federation_only() -> None:
    assert wanted_datasets(REQUEST, RULES) == ("ecg", "mri")
    assert wanted_datasets(replace(REQUEST, datasets=("ecg", "ct")), RULES) == ("ecg",)


names = st.sampled_from(["hearts", "lungs", "ecg", "ct"])
digests = st.sampled_from(["a" * 64, "b" * 64])
requests = st.builds(
    JobRequest, job=st.just("job_1"), federation=names, owner_tenant=names, submitted_by=names, app_digest=digests,
    app_name=names, individual=st.booleans(), datasets=st.lists(names, max_size=3).map(tuple), environment=names,
    cpus=st.integers(0, 8), memory_mib=st.integers(0, 9000), gpu_milli=st.sampled_from([0, 1, 500, 1000, 2000]),
    gpu_kind=st.just("cuda"), gpu_memory_mib=st.integers(0, 80_000),
)  # fmt: skip
rules = st.builds(
    NodeRules, shared=st.frozensets(st.tuples(names, names)), approved=st.frozensets(st.tuples(names, digests)),
    any_app=st.frozensets(names), individual_replies=st.booleans(), environments=st.frozensets(names),
    cpus=st.integers(0, 8), memory_mib=st.integers(0, 9000),
    devices=st.lists(st.tuples(st.sampled_from(["cuda", "rocm"]), st.integers(0, 80_000)), max_size=3).map(tuple),
    changed=st.frozensets(names),
)  # fmt: skip


@given(requests)
def test_a_node_without_rules_runs_nothing(request: JobRequest) -> None:
    assert judge(request, NodeRules())


@given(requests, rules)
def test_whatever_runs_was_shared_approved_and_fits(request: JobRequest, given_rules: NodeRules) -> None:
    if judge(request, given_rules):
        return
    seen = wanted_datasets(request, given_rules)
    assert seen
    assert set(request.datasets) <= set(seen)
    assert all((request.federation, name) in given_rules.shared for name in seen)
    approved = (request.federation, request.app_digest) in given_rules.approved
    assert approved or request.federation in given_rules.any_app
    assert request.cpus <= given_rules.cpus
    assert request.memory_mib <= given_rules.memory_mib
    fit = [mib for kind, mib in given_rules.devices if kind == "cuda" and mib >= request.gpu_memory_mib]
    assert request.gpu_milli <= 1000 * len(fit)
    assert given_rules.individual_replies or not request.individual


@given(requests, rules)
def test_taking_any_permission_away_never_lets_a_job_in(request: JobRequest, given_rules: NodeRules) -> None:
    if judge(request, given_rules):
        for less in (
            replace(given_rules, shared=frozenset()),
            replace(given_rules, approved=frozenset(), any_app=frozenset()),
            replace(given_rules, individual_replies=False),
            replace(given_rules, environments=frozenset()),
        ):
            assert judge(request, less)
