"""The laws of the scheduler: an auditor recounts, a slow reference decides the same, and what the policies promise holds."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.scheduling import usage
from coordinator.scheduling.decide import apply, decide
from coordinator.scheduling.explain import idle, why
from coordinator.scheduling.records import Need, State, Wait
from tests.property import scheduling_reference
from tests.property.scheduling_events import Mayhem, mayhem

GPU = Need("cuda", 1000, 0, 0, 0)


def test_ten_thousand_random_events_break_no_law():
    done, violations = mayhem(10_000)
    assert done >= 10_000
    assert violations == []


class AgainstTheReference(RuleBasedStateMachine):
    """Whatever happens, the planner, ``decide`` on its state in any order, and the slow reference say the same."""

    @initialize(seed=st.integers(0, 10_000), rebase=st.sampled_from((2, 256)))
    def begin(self, seed, rebase):
        usage.REBASE = rebase
        self.world = Mayhem(seed)
        self.world.decide = self.compare

    @rule(event=st.sampled_from(("_ask", "_ask", "_come", "_go", "_grant", "_revoke", "_end", "_withdraw", "_pass")))
    def happen(self, event):
        getattr(self.world, event)()
        self.compare()

    def compare(self):
        world, chance = self.world, self.world.chance
        state = world.planner.state()
        expected = scheduling_reference.decide(state, world.now_ms)
        decisions = world.planner.decide(world.now_ms)
        assert decisions == expected
        assert decide(shuffled(state, chance), world.now_ms) == expected
        after, mine = apply(state, decisions, world.now_ms), world.planner.state()
        assert (after.use, after.origin_ms) == (mine.use, mine.origin_ms)
        assert (set(after.asks), set(after.leases)) == (set(mine.asks), set(mine.leases))
        waits = tuple(one for one in decisions if isinstance(one, Wait))
        assert decide(after, world.now_ms) == waits
        if decisions == waits and usage.REBASE > 2:
            assert after == replace(state, grants=after.grants)  # a decision of nothing changes nothing
        world.auditor.see(decisions, world.now_ms)

    @invariant()
    def no_law_is_broken(self):
        if hasattr(self, "world"):
            assert self.world.auditor.violations == []

    @invariant()
    def everything_that_waits_or_idles_has_a_reason(self):
        if hasattr(self, "world"):
            state, now_ms = self.world.planner.state(), self.world.now_ms
            reasons = why(state, now_ms)
            assert {ask.id for ask in state.asks} == reasons.keys()
            assert all(wait.reason for wait in reasons.values())
            busy = {lease.node for lease in state.leases}
            assert idle(state, now_ms).keys() == {node.id for node in state.nodes} - busy

    def teardown(self):
        usage.REBASE = 256


TestAgainstTheReference = AgainstTheReference.TestCase
TestAgainstTheReference.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def shuffled(state: State, chance: random.Random) -> State:
    def mix(things):
        return tuple(chance.sample(list(things), len(things)))

    use = dict(mix(state.use.items()))
    return replace(
        state, nodes=mix(state.nodes), asks=mix(state.asks), leases=mix(state.leases), grants=mix(state.grants), use=use
    )
