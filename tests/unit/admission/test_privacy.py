"""Which exchange is masked, which is plain, and which is refused: the table, row by row."""

from dataclasses import replace

import pytest

from common.errors import BadInput
from common.ids import Digest, FederationId, NodeId, TenantId
from common.jobspec import Cohort, JobSpec, parse
from common.privacy.terms import Privacy
from coordinator.admission.privacy import (
    Asked,
    mask_plan,
    needs_mask,
    privacy_denials,
    takes_mask,
    unfit_for_masks,
)
from coordinator.domain.exchanges import ExchangeKind, Instruction
from coordinator.domain.tenancy import Federation

SPEC = JobSpec("app", "a:b", "a:c", {})


def asked(nodes: int = 3, *, fold: bool = True, kind: ExchangeKind = ExchangeKind.EXCHANGE, **changes: object) -> Asked:
    rows = [replace(Instruction(i, NodeId(f"n{i}"), "train", Digest("d"), 1, "", 1.0), **changes) for i in range(nodes)]
    return Asked(kind, fold, "" if fold else "strategy Krum takes replies one by one", rows)


def federation(minimum: str) -> Federation:
    return Federation(FederationId("f"), TenantId("t"), "", False, 0.0, {}, minimum)


def test_a_mean_of_three_is_masked_and_whatever_else_is_not() -> None:
    assert unfit_for_masks(asked()) == ""
    assert unfit_for_masks(asked(message_type="evaluate.central")) == ""
    assert "one by one: strategy Krum" in unfit_for_masks(asked(fold=False))
    assert "one by one" in unfit_for_masks(asked(kind=ExchangeKind.PUSH))
    assert "query" in unfit_for_masks(asked(message_type="query"))
    assert "it asks 2 nodes" in unfit_for_masks(asked(2))
    assert "more than one message" in unfit_for_masks(asked(4, node=NodeId("n0")))
    odd = asked()
    other = replace(odd.instructions[0], content=Digest("e"))
    assert "different messages" in unfit_for_masks(replace(odd, instructions=[other, *odd.instructions[1:]]))


@pytest.mark.parametrize(
    ("mode", "minimum", "cohort", "masked"),
    [
        ("auto", "plain", Cohort(), True),
        ("auto", "plain", Cohort(minimum=3), True),
        ("auto", "plain", Cohort(minimum=2), False),
        ("auto", "plain", Cohort(target=2), False),
        ("auto", "mask", Cohort(minimum=2), True),
        ("mask", "plain", Cohort(minimum=2), True),
        ("plain", "plain", Cohort(), False),
    ],
)
def test_the_mode_is_the_jobs_above_the_federations_minimum(
    mode: str, minimum: str, cohort: Cohort, masked: bool
) -> None:
    spec = replace(SPEC, privacy=Privacy(mode), cohort=cohort)
    assert takes_mask(spec, minimum) is masked
    assert bool(needs_mask(spec, minimum)) is ("mask" in {mode, minimum})


def test_what_cannot_be_is_refused_at_submission() -> None:
    plain = replace(SPEC, privacy=Privacy("plain"))
    assert [d.code for d in privacy_denials(federation("mask"), plain)] == ["mode_too_low"]
    assert privacy_denials(federation("plain"), plain) == ()
    two = replace(SPEC, privacy=Privacy("mask"), cohort=Cohort(target=2))
    assert [d.code for d in privacy_denials(federation("plain"), two)] == ["cohort_too_small"]
    assert privacy_denials(federation("mask"), SPEC) == ()


def test_the_weight_is_bounded_by_what_is_declared_or_by_the_rows() -> None:
    assert mask_plan(replace(SPEC, max_weight=5000.0), [10]).weight_bits == 13
    assert mask_plan(SPEC, [3, 1000, 0]).weight_bits == 10
    assert mask_plan(SPEC, [0, 0]).weight_bits == 16


def test_the_privacy_of_an_app_is_read_from_its_table() -> None:
    text = '[project]\nname = "x"\n[tool.flwr.app.components]\nserverapp = "a:b"\nclientapp = "a:c"\n[tool.hansa]\n'
    assert parse(text).privacy == Privacy()
    assert parse(text + 'privacy = "mask"').privacy == Privacy("mask")
    spec = parse(text + 'privacy = { mode = "mask", ring = 16 }')
    assert spec.privacy == Privacy("mask", 16, -3)
    assert JobSpec.from_json(spec.to_json()) == spec
    for bad in ('"secret"', "{ ring = 8 }", '{ modus = "mask" }', "3", "{ range_bits = 99 }"):
        with pytest.raises(BadInput):
            parse(text + f"privacy = {bad}")
