"""Erlang's formulas against exact rationals, a printed table, and the sums they stand for."""

import math
from fractions import Fraction

import pytest

from common.errors import BadInput
from coordinator.capacity.erlang import Queue, erlang_b

# c, a, P_wait, Lq, Wq, t95 with μ = 1, to twelve decimals
TABLE = (
    (2, 1.6, 0.711111111111, 2.844444444444, 1.777777777778, 6.637014216458),
    (5, 4.0, 0.554112554113, 2.216450216450, 0.554112554113, 2.405344826952),
    (10, 8.0, 0.409180150796, 1.636720603186, 0.204590075398, 1.051066260066),
    (10, 9.0, 0.668731524108, 6.018583716969, 0.668731524108, 2.593359664898),
    (50, 45.0, 0.363864467207, 3.274780204863, 0.072772893441, 0.396951690007),
    (100, 95.0, 0.506456853913, 9.622680224347, 0.101291370783, 0.463083225972),
    (1000, 980.0, 0.412200292365, 20.197814325899, 0.020610014618, 0.105474318615),
)


def by_definition(servers, load):
    """Return (P_0, C) by the sums with factorials, in rationals."""
    below = sum(load**n / Fraction(math.factorial(n)) for n in range(servers))
    last = load**servers / Fraction(math.factorial(servers)) / (1 - load / servers)
    return 1 / (below + last), last / (below + last)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_the_table_is_met_to_twelve_decimals(row):
    servers, load, *expected = row
    queue = Queue(servers, load, 1.0)
    found = [queue.p_wait, queue.lq, queue.wq, queue.wait_quantile(0.95)]
    assert found == pytest.approx(expected, abs=1e-12, rel=0)


def test_fourteen_servers_under_ten_erlangs_as_others_compute_it():
    assert Queue(14, 10.0, 1.0).p_wait == pytest.approx(0.174131933595, abs=1e-12)


@pytest.mark.parametrize(
    ("servers", "load"),
    [
        (1, Fraction(1, 3)),
        (2, Fraction(1)),
        (2, Fraction(3, 2)),
        (3, Fraction(2)),
        (7, Fraction(13, 2)),
        (25, Fraction(99, 4)),
    ],
)
def test_rationals_are_exact(servers, load):
    queue = Queue(servers, load, Fraction(1))
    empty, waits = by_definition(servers, load)
    assert queue.p_wait == waits
    rho = load / servers
    assert queue.lq == waits * rho / (1 - rho)
    assert queue.l == queue.lq + load  # Little
    states = queue.states(servers + 5)
    assert states[0] == empty
    assert states == [
        empty * load**n / math.factorial(n)
        if n < servers
        else empty * load**n / (math.factorial(servers) * Fraction(servers) ** (n - servers))
        for n in range(servers + 6)
    ]


def test_three_servers_under_two_erlangs_by_hand():
    queue = Queue(3, Fraction(2), Fraction(1))
    assert queue.states(5) == [
        Fraction(1, 9),
        Fraction(2, 9),
        Fraction(2, 9),
        Fraction(4, 27),
        Fraction(8, 81),
        Fraction(16, 243),
    ]
    assert (queue.p_wait, queue.lq) == (Fraction(4, 9), Fraction(8, 9))


@pytest.mark.parametrize("servers", [1, 2, 3, 10, 171, 400])
def test_floats_lose_nothing_against_rationals(servers):
    load = Fraction(servers) * Fraction(19, 20)
    exact, quick = Queue(servers, load, Fraction(1)), Queue(servers, float(load), 1.0)
    assert quick.p_wait == pytest.approx(float(exact.p_wait), abs=1e-12)
    assert quick.states(servers + 3) == pytest.approx([float(p) for p in exact.states(servers + 3)], abs=1e-13)


def test_a_hundred_thousand_servers_neither_overflow_nor_vanish():
    queue = Queue(100_000, 99_900.0, 1.0)
    beta = 100 / math.sqrt(100_000)  # Halfin and Whitt 1981: the limit for many servers
    body, density = 0.5 * math.erfc(-beta / math.sqrt(2)), math.exp(-beta * beta / 2) / math.sqrt(2 * math.pi)
    assert queue.p_wait == pytest.approx(1 / (1 + beta * body / density), rel=0.002)
    beyond = queue.p_wait * 0.999**20_001
    assert sum(queue.states(120_000)) == pytest.approx(1 - beyond, abs=1e-11)


def test_many_idle_servers_leave_the_shares_of_poisson():
    states = Queue(1000, 1.0, 1.0).states(4)
    assert states == pytest.approx([math.exp(-1) / math.factorial(n) for n in range(5)], rel=1e-13)


def test_a_wait_is_a_jump_at_zero_and_an_exponential():
    queue = Queue(5, 4.0, 1.0)
    assert queue.wait_exceeds(0.0) == queue.p_wait
    for share in (0.5, 0.9, 0.99):
        assert queue.wait_exceeds(queue.wait_quantile(share)) == pytest.approx(1 - share)
    assert Queue(100, 1.0, 1.0).wait_quantile(0.95) == 0.0  # hardly anyone waits


def test_no_server_loses_everyone_and_no_load_loses_nobody():
    assert erlang_b(0, 3.0) == 1.0
    assert erlang_b(4, 0.0) == 0.0


@pytest.mark.parametrize(("servers", "arrivals"), [(2, 2.0), (2, 5.0), (1, Fraction(1))])
def test_a_queue_that_only_grows_is_refused_with_what_it_needs(servers, arrivals):
    with pytest.raises(BadInput, match="cannot keep up") as refused:
        Queue(servers, arrivals, arrivals * 0 + 1)
    assert f"At least {int(arrivals) + 1} servers" in refused.value.next_step


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(BadInput, match="positive"):
        Queue(3, rate, 1.0)
    with pytest.raises(BadInput, match="positive"):
        Queue(3, 1.0, rate)
