"""What a node refuses in a masked round, and that masks hide what they should."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest

from client_node.privacy.session import Floor, Session
from client_node.privacy.unmasking import answer, check_survivors
from common.errors import BadSignature, PlatformError, TooFewNodes
from common.privacy.protocol import Held, Survivors, make_roster
from coordinator.rounds.masked import MaskedAttempt, Phase
from tests.masked_cohort import SUBJECT, Cohort, sign, verify, verify_advert


def cohort_before_signing(nodes: int = 4) -> Cohort:
    cohort = Cohort(nodes)
    for phase in (Phase.SHARING, Phase.MASKING):
        getattr(cohort, phase.value)(cohort.names)
        cohort.attempt.advance()
    return cohort


def refused(code: str, act: object, *args: object) -> None:
    with pytest.raises(PlatformError) as caught:
        act(*args)  # type: ignore[operator]
    assert caught.value.code == code


def test_a_sum_of_forty_over_a_regular_graph_survives_drop_outs_in_every_phase() -> None:
    cohort = Cohort(40, size=5)
    drops = dict(zip(cohort.names, [Phase.SHARING] * 2 + [Phase.MASKING] * 4 + [Phase.SIGNING] * 2, strict=False))
    ring, lanes = cohort.run(drops)
    want_ring, want_lanes = cohort.expected()
    assert (ring == want_ring).all()
    assert lanes == want_lanes


def test_a_masked_vector_looks_like_noise() -> None:
    cohort = Cohort(3, size=1 << 16)
    for name in cohort.names:
        cohort.rings[name][:] = 7
    cohort.run({})
    for ring, _ in cohort.vectors.values():
        counts = np.bincount(ring.view(np.uint8), minlength=256)
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert 150 < chi_square < 400  # 255 degrees of freedom: mean 255, deviation 22.6


def test_two_models_give_noise_and_no_update() -> None:
    """Were the signed adverts not checked, the round keys of the two models would still differ."""
    cohort = Cohort(3)
    victim = cohort.names[0]
    other = replace(SUBJECT, content="0" * 64)
    session = cohort.sessions[victim]
    session.subject = other
    fooled = replace(cohort.roster, subject=other)
    for name in cohort.names:
        roster = fooled if name == victim else cohort.roster
        shared = cohort.sessions[name].join(roster, lambda *_: None)
        cohort.attempt.shared(name, shared.sealed, shared.commitment)
    cohort.attempt.advance()
    refused(
        "bad_signature", cohort.sessions[victim].deliver, cohort.attempt.sharers, cohort.attempt.deliveries()[victim]
    )


def test_a_node_refuses_a_roster_whose_members_signed_for_another_model() -> None:
    cohort = Cohort(4, subjects={2: replace(SUBJECT, content="0" * 64)})
    with pytest.raises(BadSignature):
        cohort.sessions[cohort.names[0]].join(cohort.roster, verify_advert)


def test_a_node_refuses_a_roster_about_another_round() -> None:
    cohort = Cohort(3)
    roster = replace(cohort.roster, subject=replace(SUBJECT, attempt=2))
    refused("forged_roster", cohort.sessions[cohort.names[0]].join, roster, verify_advert)


def test_a_node_refuses_a_cohort_of_one_and_of_two() -> None:
    cohort = Cohort(3)
    for few in (cohort.roster.adverts[:1], cohort.roster.adverts[:2]):
        roster = make_roster(SUBJECT, few)
        refused("cohort_too_small", cohort.sessions[cohort.names[0]].join, roster, verify_advert)


def test_a_node_refuses_a_cohort_under_its_own_floor() -> None:
    for floor, code in ((Floor(nodes=5), "cohort_too_small"), (Floor(tenants=5), "too_few_tenants")):
        cohort = Cohort(4)
        session = Session(SUBJECT, "node_0000", "tenant-0", floor, random.Random(1).randbytes)
        mine = session.advertise("e" * 64, 4, 10, b"node_0000", lambda s: sign("node_0000", s))
        roster = make_roster(SUBJECT, (mine, *cohort.roster.adverts[1:]))
        refused(code, session.join, roster, verify_advert)


def test_a_node_refuses_a_roster_with_a_swapped_key_a_changed_own_advert_or_one_key_twice() -> None:
    cohort = Cohort(4)
    first, second, third, fourth = cohort.roster.adverts
    join = cohort.sessions[cohort.names[0]].join
    swapped = replace(second, mask_key=b"\x09" + bytes(31))
    refused("bad_signature", join, make_roster(SUBJECT, (first, swapped, third, fourth)), verify_advert)
    mine = replace(first, range_bits=60)
    refused("forged_roster", join, make_roster(SUBJECT, (mine, second, third, fourth)), verify_advert)
    twin = replace(second, node="node_0009")
    refused("forged_roster", join, make_roster(SUBJECT, (first, second, third, twin)), verify_advert)


def test_a_second_roster_and_a_second_masking_are_refused_and_the_same_roster_gets_the_same_answer() -> None:
    cohort = Cohort(4)
    session = cohort.sessions[cohort.names[0]]
    once = session.join(cohort.roster, verify_advert)
    assert session.join(cohort.roster, verify_advert) is once
    refused("second_roster", session.join, make_roster(SUBJECT, cohort.roster.adverts[:3]), verify_advert)
    cohort.sharing(cohort.names)
    cohort.attempt.advance()
    sealed = cohort.attempt.deliveries()[cohort.names[0]]
    session.deliver(cohort.attempt.sharers, sealed)
    refused("second_masking", session.deliver, cohort.attempt.sharers, sealed)


def test_a_node_refuses_lists_that_would_open_both_secrets_of_a_member() -> None:
    cohort = cohort_before_signing()
    kept = tuple(cohort.names)
    masked = cohort.masked(kept[0])
    refused("both_shares", check_survivors, masked, Survivors(kept, kept[3:]), Floor())
    refused("forged_survivors", check_survivors, masked, Survivors(kept[:3], ()), Floor())
    refused("forged_survivors", check_survivors, masked, Survivors(kept[1:], kept[:1]), Floor())
    refused("cohort_too_small", check_survivors, masked, Survivors(kept[:2], kept[2:]), Floor())


def test_a_node_gives_no_share_before_a_quorum_has_signed_the_very_same_list() -> None:
    cohort = cohort_before_signing()
    kept = tuple(cohort.names)
    masked, told = cohort.masked(kept[0]), Survivors(kept, ())
    others = Survivors(kept[:3], kept[3:]).statement(cohort.roster)
    split = {kept[0]: sign(kept[0], told.statement(cohort.roster)), **{n: sign(n, others) for n in kept[1:]}}
    refused("survivors_unproven", answer, masked, told, split, verify)


def test_a_node_gives_one_kind_of_share_of_each_member() -> None:
    cohort = cohort_before_signing()
    kept, lost = tuple(cohort.names[:3]), (cohort.names[3],)
    masked, told = cohort.masked(kept[0]), Survivors(kept, lost)
    signatures = {n: sign(n, told.statement(cohort.roster)) for n in kept}
    given = {each.about: each.share for each in answer(masked, told, signatures, verify)}
    assert given == {
        **{n: masked.held[n].self_mask for n in kept},
        lost[0]: masked.held[lost[0]].mask_key,
    }


def test_a_wrong_share_is_found_out_and_made_up_for_by_the_others() -> None:
    cohort = cohort_before_signing(5)
    cohort.signing(cohort.names)
    cohort.attempt.advance()
    liar = cohort.names[2]
    held = {n: Held(bytes(33), bytes(33)) for n in cohort.keys[liar].held}
    cohort.keys[liar] = replace(cohort.keys[liar], held=held)
    cohort.opening(cohort.names)
    cohort.attempt.advance()
    ring, _ = cohort.open()
    assert (ring == cohort.expected()[0]).all()


def test_fewer_than_three_at_the_unmasking_end_the_attempt() -> None:
    with pytest.raises(TooFewNodes):
        Cohort(3).run({"node_0001": Phase.MASKING})


def test_a_restarted_coordinator_goes_on_with_the_same_survivors() -> None:
    cohort = cohort_before_signing(4)
    record = cohort.attempt.record
    cohort.attempt = MaskedAttempt(cohort.roster, 3, record)
    for phase in (Phase.SIGNING, Phase.OPENING):
        getattr(cohort, phase.value)(cohort.names)
        cohort.attempt.advance()
    ring, lanes = cohort.open()
    assert (ring == cohort.expected()[0]).all()
    assert lanes == cohort.expected()[1]
    assert record.vectors[cohort.names[0]] == hashlib.sha256(cohort.vectors[cohort.names[0]][0]).hexdigest()
