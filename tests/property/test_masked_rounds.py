"""Whoever drops out in whatever phase: the sum over the survivors is exact, or the attempt is given up cleanly."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TooFewNodes
from common.privacy.graph import degree_and_threshold, quorum
from coordinator.rounds.masked import Phase
from tests.masked_cohort import PHASES, Cohort

DROPS = st.dictionaries(st.integers(0, 8), st.sampled_from(PHASES), max_size=9)


@settings(max_examples=60, deadline=None)
@given(nodes=st.integers(3, 9), drops=DROPS, seed=st.integers(0, 2**16))
def test_any_drop_outs_leave_an_exact_sum_or_a_clean_end(nodes: int, drops: dict[int, Phase], seed: int) -> None:
    cohort = Cohort(nodes, seed)
    when = {cohort.names[at]: phase for at, phase in drops.items() if at < nodes}
    left = {phase: nodes - sum(PHASES.index(w) <= at for w in when.values()) for at, phase in enumerate(PHASES)}
    _, threshold = degree_and_threshold(nodes)
    sharers = left[Phase.SHARING]
    possible = (
        left[Phase.MASKING] >= 3
        and sharers >= threshold
        and left[Phase.SIGNING] >= quorum(sharers)
        and left[Phase.OPENING] >= threshold
    )
    try:
        ring, lanes = cohort.run(when)
    except TooFewNodes:
        assert not possible
        return
    assert possible
    want_ring, want_lanes = cohort.expected()
    np.testing.assert_array_equal(ring, want_ring)
    assert lanes == want_lanes
    assert len(cohort.attempt.survivors.kept) == left[Phase.MASKING]


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(4, 7), seed=st.integers(0, 2**16))
def test_no_key_of_an_attempt_is_ever_used_again(nodes: int, seed: int) -> None:
    seen: set[bytes] = set()
    for attempt in range(2):
        cohort = Cohort(nodes, seed * 2 + attempt)
        cohort.run({})
        used = {key for keys in cohort.keys.values() for key in (*keys.plus, *keys.minus)}
        assert len(used) == nodes + nodes * (nodes - 1) // 2  # one self-mask each, one key a pair
        assert not used & seen
        seen |= used
