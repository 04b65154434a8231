import json
from importlib import resources

import cedarpy
import pytest

from policies.engine import Policies
from tests.unit.policies.decisions import ROWS

FOLDER = resources.files("policies")
SCHEMA = FOLDER.joinpath("hansa.cedarschema").read_text()
BASE = "\n".join(f.read_text() for f in sorted(FOLDER.joinpath("base").iterdir(), key=str) if f.name.endswith(".cedar"))
PARSED = json.loads(cedarpy.policies_to_json_str(BASE))
POLICIES = Policies.load()


def answer(policies, row):
    verdict = policies.authorise(row.who, row.action, row.what, row.context)
    assert not verdict.errors, (row, verdict.errors)
    return verdict.allowed, verdict.policy_ids


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda r: f"{r.action}-{getattr(r.who, 'subject', getattr(r.who, 'node', ''))}-{r.what.id[:16]}"
)
def test_each_row_is_decided_as_written_and_by_the_policy_named(row):
    assert answer(POLICIES, row) == (row.allowed, row.by)


def test_every_policy_decides_some_row():
    decided = {policy for row in ROWS for policy in row.by}
    assert decided == set(POLICIES.ids)


def test_every_act_of_the_schema_has_a_permitted_and_a_refused_row():
    acts = {
        line.split('"')[i]
        for line in SCHEMA.splitlines()
        if line.startswith("action ") and '"' in line
        for i in range(1, line.count('"'), 2)
    }
    allowed = {row.action for row in ROWS if row.allowed}
    refused = {row.action for row in ROWS if not row.allowed}
    assert acts - allowed == set()
    assert acts - refused == {"system::read"}  # anyone who is somebody may ask who they are


def mutants():
    for number, policy in PARSED["staticPolicies"].items():
        name = policy["annotations"]["id"]
        yield f"{name}-removed", {k: v for k, v in PARSED["staticPolicies"].items() if k != number}
        flipped = policy | {"effect": "forbid" if policy["effect"] == "permit" else "permit"}
        yield f"{name}-negated", PARSED["staticPolicies"] | {number: flipped}
        if policy["conditions"]:
            swap = {"when": "unless", "unless": "when"}
            inverted = policy | {"conditions": [c | {"kind": swap[c["kind"]]} for c in policy["conditions"]]}
            yield f"{name}-condition-inverted", PARSED["staticPolicies"] | {number: inverted}
            yield f"{name}-condition-dropped", PARSED["staticPolicies"] | {number: policy | {"conditions": []}}


MUTANTS = dict(mutants())


@pytest.mark.parametrize("name", MUTANTS)
def test_no_policy_can_be_removed_negated_or_inverted_unnoticed(name):
    text = cedarpy.policies_from_json_str(json.dumps(PARSED | {"staticPolicies": MUTANTS[name]}))
    changed = Policies(SCHEMA, [text])
    assert any(answer(changed, row) != (row.allowed, row.by) for row in ROWS)
