from dataclasses import dataclass

import pytest

from common.errors import BadInput, PolicyDenied
from policies.engine import Policies
from policies.parties import NodePrincipal, Resource

SCHEMA = """
entity User = { subject: String, tenants: Set<String>, roles: Set<String> };
entity Job = { tenant: String, shared_with: Set<String> };
action "job::read" appliesTo { principal: [User], resource: [Job], context: { spent: Long, cohort: Long } };
"""
PERMIT = '@id("all") permit (principal, action, resource);'
FORBID = '@id("budget") forbid (principal, action, resource) when { context.spent + 10 > 100 };'


@dataclass(frozen=True)
class User:
    subject: str = "ann"
    tenants: frozenset[str] = frozenset({"north"})
    roles: frozenset[str] = frozenset({"scientist"})
    issuer: str = "hansa"


JOB = Resource("job", "job_1", "north")
FACTS = {"spent": 1, "cohort": 3}


@pytest.fixture(scope="module")
def small():
    return Policies(SCHEMA, [PERMIT, FORBID])


def test_a_well_formed_request_is_allowed(small):
    verdict = small.authorise(User(), "job::read", JOB, FACTS)
    assert (verdict.allowed, verdict.policy_ids, verdict.errors) == (True, ("all",), ())


def test_a_forbid_wins_and_is_named(small):
    verdict = small.authorise(User(), "job::read", JOB, FACTS | {"spent": 95})
    assert (verdict.allowed, verdict.policy_ids) == (False, ("budget",))


def test_an_overflow_inside_a_forbid_refuses_although_cedar_says_allow(small):
    verdict = small.authorise(User(), "job::read", JOB, FACTS | {"spent": 2**63 - 1})
    assert not verdict.allowed
    assert verdict.errors


@pytest.mark.parametrize(
    "context",
    [
        {"spent": 1},  # a fact is missing
        {"spent": 1, "cohrt": 3},  # misspelt
        {"spent": 1, "cohort": 3, "extra": 1},  # unknown
        {"spent": "1", "cohort": 3},  # another type
        {"spent": 2**63, "cohort": 3},  # does not fit 64 bits
        {"spent": 2**200, "cohort": 3},
        {"spent": 1.5, "cohort": 3},
        {"spent": float("nan"), "cohort": 3},
        {"spent": None, "cohort": 3},
        {"spent": object(), "cohort": 3},  # not JSON
        {"spent": b"1", "cohort": 3},
        {1: 2},
        {"spent": "\ud800", "cohort": 3},  # a lone surrogate
        {},
    ],
)
def test_a_malformed_context_refuses_and_does_not_raise(small, context):
    verdict = small.authorise(User(), "job::read", JOB, context)
    assert not verdict.allowed
    assert verdict.errors


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("job::reed", JOB),
        ("", JOB),
        ('job::read"', JOB),
        ("job::read", Resource("jub", "x", "north")),
        ("job::read", Resource("tenant", "north", "north")),  # the schema has no such type
        ("job::read", Resource("job", "x", "north", attrs={"colour": "red"})),
        ("job::read", Resource("job", "x", 7)),  # type: ignore[arg-type]
        ("job::read", Resource("job", "\ud800", "north")),
    ],
)
def test_an_unknown_act_kind_or_attribute_refuses_and_does_not_raise(small, action, resource):
    verdict = small.authorise(User(), action, resource, FACTS)
    assert not verdict.allowed
    assert verdict.errors


def test_a_principal_of_the_wrong_kind_refuses(small):
    assert not small.authorise(NodePrincipal("node_1", "north"), "job::read", JOB, FACTS).allowed


def test_ids_with_quotes_and_line_ends_are_only_ids(small):
    odd = Resource("job", 'x"; permit(principal, action, resource);\n//', "north")
    assert small.authorise(User(subject='a"\n::b'), "job::read", odd, FACTS).allowed


def test_many_things_are_judged_each_by_itself():
    policies = Policies.load()
    things = [Resource("job", f"job_{i}", "north" if i % 2 else "east") for i in range(20)]
    verdicts = policies.authorise_each(User(), "job::read", things)
    assert [v.allowed for v in verdicts] == [bool(i % 2) for i in range(20)]


def test_one_malformed_thing_refuses_all_of_them_rather_than_none():
    things = [JOB, Resource("jub", "x", "north")]
    assert [v.allowed for v in Policies.load().authorise_each(User(), "job::read", things)] == [False, False]


def test_require_names_the_forbidding_policy_and_hides_the_evaluation():
    root = User(roles=frozenset({"platform_admin"}), tenants=frozenset({"platform"}))
    platform = Resource("tenant", "platform", "platform")
    with pytest.raises(PolicyDenied, match="the-platform-has-no-nodes"):
        Policies.load().require(root, "join_token::create", platform)
    with pytest.raises(PolicyDenied) as refused:
        Policies.load().require(User(), "job::read", JOB, {"odd": 1})
    assert "schema" not in refused.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "permit (principal, action, resource);",  # no @id
        PERMIT + PERMIT,  # twice the same @id
        '@id("x") permit (principal, action, resource) when { context.cohrt > 1 };',  # the schema has no such fact
        '@id("x") permit (principal, action == Action::"job::reed", resource);',
        '@id("x") permit (principal, action, resource) when { context.spent == "1" };',
        '@id("x") permit (principal == ?principal, action, resource);',  # a template
        "this is not Cedar",
    ],
)
def test_policies_that_do_not_fit_the_schema_are_refused_at_load(text):
    with pytest.raises(BadInput):
        Policies(SCHEMA, [text])


def test_without_a_schema_there_are_no_policies():
    with pytest.raises(BadInput):
        Policies("", [PERMIT])


def test_a_sites_own_policies_may_forbid(tmp_path):
    local = tmp_path / "local.cedar"
    local.write_text(
        '@id("not-south") forbid (principal, action == Action::"node::run", resource is Job) when { resource.tenant == "south" };'
    )
    facts = {
        "federation": "hearts",
        "app_digest": "a",
        "submitted_by": "ann",
        "app_approved": True,
        "datasets_shared": True,
        "sandbox": "bwrap",
        "sandbox_required": True,
    }
    node, job = NodePrincipal("node_1", "north"), Resource("job", "job_1", "south")
    assert Policies.load().authorise(node, "node::run", job, facts).allowed
    verdict = Policies.load(local).authorise(node, "node::run", job, facts)
    assert (verdict.allowed, verdict.policy_ids) == (False, ("not-south",))


@pytest.mark.parametrize(
    "text",
    [
        '@id("mine") permit (principal, action, resource);',
        '@id("a") forbid (principal, action, resource); @id("b") permit (principal is Node, action, resource);',
        "for bid",
        '@id("only-active-nodes-speak") forbid (principal, action, resource);',  # takes the name of one of ours
    ],
)
def test_a_sites_own_policies_may_not_permit_nor_pose_as_ours(tmp_path, text):
    local = tmp_path / "local.cedar"
    local.write_text(text)
    with pytest.raises(BadInput):
        Policies.load(local)
