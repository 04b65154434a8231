"""Who may do what: one row a decision, with the policies that must have decided it.

Written from the rules (DESIGN of tenants, federations, nodes), never from what the engine answered.
"""

from dataclasses import dataclass, field
from typing import Any

from policies.parties import NodePrincipal, PrincipalLike, Resource


@dataclass(frozen=True)
class User:
    subject: str
    tenants: frozenset[str]
    roles: frozenset[str]
    issuer: str = "hansa"


def user(role: str, tenant: str) -> User:
    return User(f"{role}@{tenant}", frozenset({tenant}), frozenset({role}))


ROOT = user("platform_admin", "platform")
ADMIN, SCIENTIST, AUDITOR = user("tenant_admin", "north"), user("scientist", "north"), user("auditor", "north")
# `south` shares a federation with `north`; `east` shares nothing with anybody.
S_ADMIN, S_SCIENTIST, S_AUDITOR = user("tenant_admin", "south"), user("scientist", "south"), user("auditor", "south")
E_ADMIN, E_SCIENTIST = user("tenant_admin", "east"), user("scientist", "east")

BOTH = frozenset({"north", "south"})
SYSTEM = Resource("system", "hansa", "platform")
NORTH, PLATFORM = Resource("tenant", "north", "north"), Resource("tenant", "platform", "platform")
TOKEN, ROOT_TOKEN = Resource("token", "tok_1", "north"), Resource("token", "tok_0", "platform")
NODE = Resource("node", "node_1", "north", BOTH)
PRIVATE_NODE = Resource("node", "node_2", "north")
FEDERATION = Resource("federation", "hearts", "north", BOTH, {"accepted": BOTH})
INVITED = Resource("federation", "lungs", "north", BOTH, {"accepted": frozenset({"north"})})
ROOT_FEDERATION = Resource("federation", "all", "platform", BOTH, {"accepted": frozenset()})
JOB, PRIVATE_JOB = Resource("job", "job_1", "north", BOTH), Resource("job", "job_2", "north")
LOG, NODE_LOG = Resource("log", "job_1/server", "north"), Resource("log", "job_1/n", "north", frozenset({"south"}))
MODEL, PRIVATE_MODEL = Resource("model", "north/m/1", "north", BOTH), Resource("model", "north/m/2", "north")
DEPLOYMENT = Resource("deployment", "north/m/1/node_3", "north", frozenset({"south"}))

GRANT, ALLOWANCE = (
    Resource("grant", "north/south", "north", frozenset({"south"})),
    Resource("allowance", "north", "north"),
)

ME, OTHER = NodePrincipal("node_1", "north"), NodePrincipal("node_9", "south")
REVOKED, QUARANTINED = NodePrincipal("node_1", "north", "revoked"), NodePrincipal("node_1", "north", "quarantined")
OBJECT = Resource("object", "d" * 64, "north", attrs={"for_node": "node_1"})
TASK = Resource("task", "job_1/1/0", "north", attrs={"for_node": "node_1"})
FOREIGN_JOB = Resource("job", "job_7", "south")
FOREIGN_MODEL = Resource("model", "south/m/1", "south")


def run(**changes: Any) -> dict[str, Any]:
    facts = {
        "federation": "hearts",
        "app_digest": "a" * 64,
        "submitted_by": "ann",
        "app_approved": True,
        "datasets_shared": True,
        "sandbox": "bwrap",
        "sandbox_required": True,
    }
    return facts | changes


def single(allowed: bool) -> dict[str, Any]:
    return {"federation": "hearts", "app_digest": "a" * 64, "individual_allowed": allowed}


def serve(**changes: Any) -> dict[str, Any]:
    return {"federation": "", "federation_joined": False, "signature_valid": True} | changes


def deploy(tenant: str, shares: bool) -> dict[str, Any]:
    return {"node_tenant": tenant, "node_in_federation": shares}


@dataclass(frozen=True)
class Row:
    who: PrincipalLike
    action: str
    what: Resource
    allowed: bool
    by: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)


def yes(who, action, what, *by, **context):
    return Row(who, action, what, True, tuple(sorted(by)), context)


def no(who, action, what, *by, **context):
    return Row(who, action, what, False, tuple(sorted(by)), context)


OWN, SHARED, RECORDS = "tenant-reads-its-own", "federation-reads-what-is-shared", "platform-admin-reads-records"

READING = [
    yes(SCIENTIST, "system::read", SYSTEM, "anyone-known-asks-who-they-are"),
    yes(AUDITOR, "tenant::read", NORTH, OWN),
    yes(ROOT, "tenant::read", NORTH, RECORDS),
    no(S_ADMIN, "tenant::read", NORTH),
    yes(SCIENTIST, "node::read", PRIVATE_NODE, OWN),
    yes(AUDITOR, "job::read", PRIVATE_JOB, OWN),
    no(S_SCIENTIST, "node::read", PRIVATE_NODE),
    yes(S_SCIENTIST, "node::read", NODE, SHARED),
    yes(SCIENTIST, "node::read", NODE, OWN, SHARED),
    yes(ROOT, "node::read", PRIVATE_NODE, RECORDS),
    yes(S_AUDITOR, "federation::read", FEDERATION, SHARED),
    no(E_ADMIN, "federation::read", FEDERATION),
    yes(S_SCIENTIST, "job::read", JOB, SHARED),
    no(S_SCIENTIST, "job::read", PRIVATE_JOB),
    no(E_SCIENTIST, "job::read", JOB),
    yes(ROOT, "job::read", PRIVATE_JOB, RECORDS),
    yes(SCIENTIST, "job::read_log", LOG, OWN),
    no(S_SCIENTIST, "job::read_log", LOG),
    no(ROOT, "job::read_log", LOG),
    yes(S_SCIENTIST, "job::read_log", NODE_LOG, SHARED),
    yes(AUDITOR, "token::read", NORTH, "tenant-reads-who-holds-tokens"),
    no(SCIENTIST, "token::read", NORTH),
    no(S_ADMIN, "token::read", NORTH),
    yes(ROOT, "token::read", NORTH, "platform-admin-reads-who-holds-tokens"),
    yes(S_SCIENTIST, "model::read", MODEL, SHARED),
    no(S_SCIENTIST, "model::read", PRIVATE_MODEL),
    yes(S_SCIENTIST, "model::download", MODEL, "tenant-downloads-models-it-may-read"),
    yes(ADMIN, "model::download", PRIVATE_MODEL, "tenant-downloads-models-it-may-read"),
    no(AUDITOR, "model::download", MODEL),
    no(S_ADMIN, "model::download", PRIVATE_MODEL),
    no(ROOT, "model::download", MODEL),
    yes(S_AUDITOR, "deployment::read", DEPLOYMENT, SHARED),
    no(E_ADMIN, "deployment::read", DEPLOYMENT),
]

TENANCY = [
    yes(ROOT, "capacity::read", SYSTEM, "platform-admin-reads-records"),
    no(ADMIN, "capacity::read", SYSTEM),
    no(AUDITOR, "capacity::read", SYSTEM),
    yes(ROOT, "tenant::create", SYSTEM, "platform-admin-creates-tenants"),
    no(ADMIN, "tenant::create", SYSTEM),
    yes(ADMIN, "token::create", NORTH, "tenant-admin-issues-tokens", role="scientist"),
    no(ADMIN, "token::create", NORTH, "platform-role-stays-in-the-platform", role="platform_admin"),
    no(SCIENTIST, "token::create", NORTH, role="scientist"),
    no(S_ADMIN, "token::create", NORTH, role="auditor"),
    yes(ROOT, "token::create", NORTH, "platform-admin-issues-tokens", role="tenant_admin"),
    yes(ROOT, "token::create", PLATFORM, "platform-admin-issues-tokens", role="platform_admin"),
    no(ROOT, "token::create", PLATFORM, "platform-role-stays-in-the-platform", role="auditor"),
    no(ROOT, "token::create", NORTH, "platform-role-stays-in-the-platform", role="platform_admin"),
    yes(ADMIN, "token::revoke", TOKEN, "tenant-admin-issues-tokens"),
    no(ADMIN, "token::revoke", ROOT_TOKEN),
    no(AUDITOR, "token::revoke", TOKEN),
    yes(ROOT, "token::revoke", TOKEN, "platform-admin-issues-tokens"),
    yes(ADMIN, "join_token::create", NORTH, "tenant-admin-issues-tokens"),
    no(SCIENTIST, "join_token::create", NORTH),
    yes(ROOT, "join_token::create", NORTH, "platform-admin-issues-tokens"),
    no(ROOT, "join_token::create", PLATFORM, "the-platform-has-no-nodes"),
    yes(ADMIN, "node::revoke", NODE, "tenant-admin-revokes-its-nodes"),
    no(SCIENTIST, "node::revoke", NODE),
    no(S_ADMIN, "node::revoke", NODE),
    yes(ROOT, "node::revoke", NODE, "platform-admin-revokes-nodes"),
    yes(ADMIN, "federation::create", NORTH, "owner-runs-its-federations"),
    no(S_ADMIN, "federation::create", NORTH),
    no(SCIENTIST, "federation::create", NORTH),
    yes(ROOT, "federation::create", PLATFORM, "owner-runs-its-federations"),
    no(ROOT, "federation::create", NORTH),
    yes(ADMIN, "federation::invite", FEDERATION, "owner-runs-its-federations"),
    no(S_ADMIN, "federation::invite", FEDERATION),
    yes(ADMIN, "federation::change", FEDERATION, "owner-runs-its-federations"),
    no(S_ADMIN, "federation::change", FEDERATION),
    yes(ROOT, "federation::invite", ROOT_FEDERATION, "owner-runs-its-federations"),
    yes(S_ADMIN, "federation::accept", INVITED, "tenant-admin-answers-for-its-tenant", tenant="south"),
    yes(S_ADMIN, "federation::leave", FEDERATION, "tenant-admin-answers-for-its-tenant", tenant="south"),
    no(ADMIN, "federation::leave", FEDERATION, tenant="south"),
    no(ADMIN, "federation::accept", INVITED, tenant="south"),
    no(S_SCIENTIST, "federation::accept", INVITED, tenant="south"),
    no(ROOT, "federation::accept", INVITED, tenant="south"),
    no(E_ADMIN, "federation::accept", INVITED, tenant="east"),
]

WORK = [
    yes(SCIENTIST, "app::create", NORTH, "tenant-brings-apps-and-models"),
    yes(ADMIN, "model::import", NORTH, "tenant-brings-apps-and-models"),
    no(AUDITOR, "app::create", NORTH),
    no(S_SCIENTIST, "app::create", NORTH),
    no(ROOT, "model::import", NORTH),
    no(ROOT, "app::create", PLATFORM),
    yes(S_SCIENTIST, "job::submit", FEDERATION, "member-submits-jobs", tenant="south"),
    yes(SCIENTIST, "job::plan", INVITED, "member-submits-jobs", tenant="north"),
    no(S_SCIENTIST, "job::submit", INVITED, tenant="south"),
    no(S_SCIENTIST, "job::submit", FEDERATION, tenant="north"),
    no(AUDITOR, "job::submit", FEDERATION, tenant="north"),
    no(ROOT, "job::submit", FEDERATION, tenant="north"),
    no(E_SCIENTIST, "job::plan", FEDERATION, tenant="east"),
    yes(SCIENTIST, "job::cancel", JOB, "tenant-cancels-its-jobs"),
    no(AUDITOR, "job::cancel", JOB),
    no(S_ADMIN, "job::cancel", JOB),
    yes(ROOT, "job::cancel", JOB, "platform-admin-cancels-jobs"),
    yes(SCIENTIST, "model::move_alias", MODEL, "tenant-names-its-models"),
    no(S_SCIENTIST, "model::move_alias", MODEL),
    no(AUDITOR, "model::move_alias", MODEL),
    yes(
        SCIENTIST,
        "model::deploy",
        PRIVATE_MODEL,
        "owner-deploys-to-its-nodes-and-its-federation",
        **deploy("north", False),
    ),
    yes(
        SCIENTIST,
        "model::deploy",
        PRIVATE_MODEL,
        "owner-deploys-to-its-nodes-and-its-federation",
        **deploy("south", True),
    ),
    no(SCIENTIST, "model::deploy", PRIVATE_MODEL, **deploy("south", False)),
    no(AUDITOR, "model::deploy", MODEL, **deploy("north", True)),
    yes(S_SCIENTIST, "model::deploy", MODEL, "member-deploys-shared-models-to-its-nodes", **deploy("south", True)),
    no(S_SCIENTIST, "model::deploy", MODEL, **deploy("north", True)),
    no(S_AUDITOR, "model::deploy", MODEL, **deploy("south", True)),
    no(S_SCIENTIST, "model::deploy", PRIVATE_MODEL, **deploy("south", True)),
    no(ROOT, "model::deploy", MODEL, **deploy("north", True)),
]

SITE, RUNS = "site-admin-sets-quotas-at-its-site", "platform-admin-sets-allowances"
QUOTAS = [
    yes(AUDITOR, "grant::read", GRANT, OWN),
    yes(S_SCIENTIST, "grant::read", GRANT, SHARED),
    yes(ROOT, "grant::read", GRANT, RECORDS),
    no(E_ADMIN, "grant::read", GRANT),
    yes(ADMIN, "grant::set", GRANT, SITE),
    no(S_ADMIN, "grant::set", GRANT),
    no(SCIENTIST, "grant::set", GRANT),
    no(AUDITOR, "grant::set", GRANT),
    no(E_ADMIN, "grant::set", GRANT),
    no(ROOT, "grant::set", GRANT),
    yes(SCIENTIST, "allowance::read", ALLOWANCE, OWN),
    yes(ROOT, "allowance::read", ALLOWANCE, RECORDS),
    no(S_ADMIN, "allowance::read", ALLOWANCE),
    yes(ROOT, "allowance::set", ALLOWANCE, RUNS),
    no(ADMIN, "allowance::set", ALLOWANCE),
    no(S_ADMIN, "allowance::set", ALLOWANCE),
]

NODES = [
    yes(ME, "node::connect", NODE, "node-speaks-for-itself"),
    yes(ME, "node::renew", NODE, "node-speaks-for-itself"),
    no(OTHER, "node::connect", NODE),
    no(REVOKED, "node::connect", NODE, "only-active-nodes-speak"),
    no(QUARANTINED, "node::renew", NODE, "only-active-nodes-speak"),
    yes(ME, "node::download", OBJECT, "node-fetches-what-it-was-offered"),
    no(OTHER, "node::download", OBJECT),
    no(REVOKED, "node::download", OBJECT, "only-active-nodes-speak"),
    yes(ME, "node::upload", TASK, "node-answers-its-own-tasks"),
    no(OTHER, "node::upload", TASK),
    no(QUARANTINED, "node::upload", TASK, "only-active-nodes-speak"),
    yes(ME, "node::run", FOREIGN_JOB, "node-runs-approved-apps-on-shared-data", **run()),
    no(ME, "node::run", FOREIGN_JOB, **run(app_approved=False)),
    no(ME, "node::run", FOREIGN_JOB, **run(datasets_shared=False)),
    no(ME, "node::run", FOREIGN_JOB, "no-app-outside-a-required-sandbox", **run(sandbox="none")),
    yes(
        ME,
        "node::run",
        FOREIGN_JOB,
        "node-runs-approved-apps-on-shared-data",
        **run(sandbox="none", sandbox_required=False),
    ),
    yes(ME, "node::reply_individually", FOREIGN_JOB, "node-lets-single-replies-be-seen", **single(True)),
    no(ME, "node::reply_individually", FOREIGN_JOB, **single(False)),
    yes(ME, "node::serve", PRIVATE_MODEL, "node-serves-its-tenants-models", **serve()),
    no(ME, "node::serve", FOREIGN_MODEL, **serve()),
    yes(ME, "node::serve", FOREIGN_MODEL, "node-serves-models-of-its-federations", **serve(federation_joined=True)),
    no(ME, "node::serve", PRIVATE_MODEL, "no-model-without-a-valid-signature", **serve(signature_valid=False)),
]

ROWS = [*READING, *TENANCY, *WORK, *QUOTAS, *NODES]
