"""Sharing, wide numbers, graphs, layouts and rounding, each against exact arithmetic or published figures."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from common.crypto import masks, shamir
from common.errors import BadInput, BadSignature, BadUpdate
from common.privacy import wide
from common.privacy.graph import degree_and_threshold, neighbours, quorum
from common.privacy.layout import Layout, Tensor, parse_layout
from common.privacy.quantize import (
    Encoding,
    Rounding,
    decode,
    fitting_range,
    fitting_weight,
    mean_metric,
    mean_whole,
    metric_lanes,
    weight_units,
)

DICE = random.Random(5)


def test_the_field_is_prime() -> None:
    n, d, r = shamir.PRIME, shamir.PRIME - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):  # Miller-Rabin
        x = pow(base, d, n)
        assert x in {1, n - 1} or any(pow(x, 2**i, n) == n - 1 for i in range(1, r))


def test_any_threshold_shares_give_the_secret_back() -> None:
    secret = b"\xff" * 32
    shares = shamir.split(secret, 5, 3, DICE.randbytes)
    for some in itertools.combinations(range(5), 3):
        assert shamir.combine({x + 1: shares[x] for x in some}) == secret


def test_two_shares_of_three_fit_any_secret() -> None:
    """For every secret there is a polynomial through the two points: they say nothing."""
    shares = shamir.split(bytes(32), 3, 3, DICE.randbytes)
    points = {x: int.from_bytes(shares[x - 1], "little") for x in (1, 2)}
    for guess in (0, 1, 2**255):
        third = _through({**points, 0: guess}, 3)
        assert shamir.combine(
            {**{x: shares[x - 1] for x in (1, 2)}, 3: third.to_bytes(33, "little")}
        ) == guess.to_bytes(32, "little")


def _through(points: dict[int, int], at: int) -> int:
    total = Fraction(0)
    for x, y in points.items():
        term = Fraction(y)
        for other in points:
            if other != x:
                term *= Fraction(at - other, x - other)
        total += term
    return total.numerator * pow(total.denominator, -1, shamir.PRIME) % shamir.PRIME


def test_a_malformed_share_or_threshold_is_refused() -> None:
    for bad in ((bytes(31), 3, 2), (bytes(32), 3, 4), (bytes(32), 3, 0)):
        with pytest.raises(BadInput):
            shamir.split(*bad, DICE.randbytes)
    with pytest.raises(BadInput):
        shamir.combine({1: b"\xff" * 33, 2: bytes(33)})


def test_degrees_and_thresholds_are_those_worked_out_before() -> None:
    assert [degree_and_threshold(64, d) for d in (0.05, 0.1, 0.3)] == [(26, 13), (30, 13), (52, 13)]
    assert degree_and_threshold(128) == (62, 26)
    assert degree_and_threshold(256) == (100, 45)
    assert [degree_and_threshold(1000, d) for d in (0.05, 0.1, 0.3)] == [(58, 39), (74, 45), (158, 72)]
    assert degree_and_threshold(32) == (31, 17)


def test_no_two_lists_can_both_have_a_quorum_unless_a_fifth_signs_twice() -> None:
    for nodes in range(3, 300):
        assert 2 * quorum(nodes) - nodes > 0.19 * nodes - 1
        assert quorum(nodes) <= nodes


def test_the_graph_is_regular_mutual_and_follows_its_seed() -> None:
    names = [f"n{i}" for i in range(64)]
    graph = neighbours(names, b"seed")
    assert {len(set(peers)) for peers in graph.values()} == {52}
    assert all(node in graph[peer] and node != peer for node, peers in graph.items() for peer in peers)
    assert graph != neighbours(names, b"other")


def test_wide_numbers_add_and_change_sign_as_whole_numbers_do() -> None:
    values = [0, 1, -1, 2**64 - 1, -(2**64), 2**128, 2**190, -(2**190), DICE.randrange(2**188)]
    for left, right in itertools.product(values, repeat=2):
        total = wide.add(wide.from_ints([left]), wide.from_ints([right]))
        assert (wide.to_ints(total)[0] - left - right) % 2**192 == 0
    assert wide.to_ints(wide.negative(wide.from_ints(values))) == [-v for v in values]


def test_a_keystream_can_be_begun_in_the_middle_and_undone() -> None:
    data = np.arange(100_000, dtype=np.uint32)
    whole, parts = data.copy(), data.copy()
    masks.Keystreams([b"a" * 16, b"b" * 16], [b"c" * 16]).apply(whole)
    masks.Keystreams([b"a" * 16, b"b" * 16], [b"c" * 16], at=4 * 50_001).apply(parts[50_001:])
    assert (whole[50_001:] == parts[50_001:]).all()
    expected = data + sum(
        turn * np.frombuffer(masks.keystream(key * 16, data.nbytes), np.uint32).astype(np.int64)
        for key, turn in ((b"a", 1), (b"b", 1), (b"c", -1))
    )
    assert (whole == expected.astype(np.uint32)).all()
    masks.Keystreams([b"c" * 16], [b"a" * 16, b"b" * 16]).apply(whole)
    assert (whole == data).all()


def test_two_keys_agree_and_bad_ones_are_refused() -> None:
    mine, theirs = DICE.randbytes(32), DICE.randbytes(32)
    assert masks.agree(mine, masks.public_of(theirs)) == masks.agree(theirs, masks.public_of(mine))
    for bad in (bytes(32), bytes(5)):
        with pytest.raises(BadInput):
            masks.agree(mine, bad)
    with pytest.raises(BadSignature):
        masks.unseal(mine, masks.seal(mine, b"x", b"1"), b"2")


@pytest.mark.parametrize("ring", [16, 32])
def test_a_sum_of_the_largest_changes_does_not_wrap_and_is_right_to_a_step(ring: int) -> None:
    for nodes in (3, 5, 8, 64):
        for sign in (-1, 1):
            change = np.full(1000, sign * 15.0, np.float32)
            bits = fitting_range(15.0, 0 if ring == 32 else 4)
            encoding = Encoding(ring, nodes, bits, 8)
            total = np.zeros(1000, f"u{ring // 8}")
            for at in range(nodes):
                out = np.empty_like(total)
                Rounding(encoding, 256.0, bytes([at] * 16)).encode(change, np.zeros(1000, np.float32), out)
                total += out
            mean = decode(total, encoding, 256.0 * nodes)
            assert np.abs(mean - sign * 15.0).max() <= nodes * encoding.unit(256.0 * nodes)


def test_rounding_is_right_on_average_and_the_same_for_the_same_key() -> None:
    encoding = Encoding(32, 4, 4, 0)
    values = np.full(60_000, 0.3 * 2.0**-encoding.scale_bits, np.float64)
    out, again = np.empty(60_000, np.uint32), np.empty(60_000, np.uint32)
    Rounding(encoding, 1.0, b"k" * 16).encode(values, None, out)
    Rounding(encoding, 1.0, b"k" * 16).encode(values, None, again)
    assert (out == again).all()
    assert set(out.tolist()) == {0, 1}
    assert abs(out.mean() - 0.3) < 5 * (0.21 / 60_000) ** 0.5


def test_ranges_are_told_in_coarse_steps() -> None:
    assert fitting_range(3.0, 4) == 4
    assert fitting_range(15.9, 4) == 8
    assert fitting_range(1e6, 4) == 20
    assert fitting_range(0.0, 4) == 4
    assert fitting_weight(1024.0, 10) == 10
    assert fitting_weight(1025.0, 10) == 14
    with pytest.raises(BadUpdate):
        fitting_range(float("nan"), 4)


def test_metrics_and_whole_numbers_have_exact_means() -> None:
    counts, values = [10, 20, 33], [0.1, -7.25, 1e-9]
    units = [weight_units(w) for w in counts]
    lanes = [metric_lanes(v, u) for v, u in zip(values, units, strict=True)]
    total = (sum(a for a, _ in lanes), sum(b for _, b in lanes))
    exact = sum(Fraction(v) * w for v, w in zip(values, counts, strict=True)) / sum(counts)
    assert mean_metric(total, sum(units)) == pytest.approx(float(exact), rel=1e-15)
    assert mean_whole(sum(u * x for u, x in zip(units, (2**63 - 1, 5, 6), strict=True)), sum(units)) == round(
        Fraction((2**63 - 1) * 10 + 5 * 20 + 6 * 33, 63)
    )
    assert np.isnan(mean_metric((0, 1), 5))
    assert metric_lanes(float("inf"), 1) == (0, 1)


def test_a_layout_is_read_back_and_a_forged_one_refused() -> None:
    layout = Layout(
        "arrays",
        (Tensor("w", "F32", (3, 2)), Tensor("n", "I64", ())),
        "m",
        (("loss", -1), ("num-examples", -1), ("p", 3)),
    )
    assert parse_layout(layout.text) == layout
    assert (layout.ring_count, layout.wide_count) == (6, 1 + 2 * 4 + 1)
    for bad in (
        b"{}",
        layout.text + b" ",
        layout.text.replace(b"[3,2]", b"[3,-2]"),
        layout.text.replace(b"F32", b"Q99"),
    ):
        with pytest.raises(BadInput):
            parse_layout(bad)
