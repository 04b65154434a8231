"""How many more tasks stay within an amount, against the definition: the most that do, tried one by one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.quota import UNBOUNDED, guarantee_room, parts, room
from coordinator.scheduling.records import Need

KINDS = ("cuda", "rocm")
named = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 9000))
amounts = st.builds(Amount, named, named, st.none() | st.integers(0, 9000), st.none() | st.integers(0, 9000))
gpus = st.builds(
    Need,
    st.sampled_from(KINDS),
    st.sampled_from((250, 1000, 2000)),
    st.integers(0, 2000),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
needs = gpus | st.builds(Need, cpu_milli=st.integers(1, 3000), ram_mib=st.integers(0, 3000))


@st.composite
def holdings(draw: st.DrawFn) -> Counter:
    held = Counter()
    for need in draw(st.lists(needs, max_size=3)):
        held.update(dict(parts(need)))
    return held


def names(amount: Amount) -> dict[tuple[str, str], int]:
    """What an amount names, by resource and kind."""
    whole = {("cpu_milli", ""): amount.cpu_milli, ("ram_mib", ""): amount.ram_mib}
    of_kinds = {("milli", k): v for k, v in amount.milli.items()} | {("mib", k): v for k, v in amount.mib.items()}
    return of_kinds | {part: most for part, most in whole.items() if most is not None}


def fits(amount: Amount, held: Counter, need: Need, tasks: int) -> bool:
    most = names(amount)
    return all(part not in most or held[part] + tasks * each <= most[part] for part, each in parts(need))


@given(amounts, holdings(), needs)
def test_a_room_is_the_most_tasks_that_stay_within_what_an_amount_names(amount: Amount, held: Counter, need: Need):
    tasks = room(amount, held, need)

    if tasks == UNBOUNDED:
        assert not names(amount).keys() & dict(parts(need)).keys()
    else:
        assert tasks == 0 or fits(amount, held, need, tasks)
        assert not fits(amount, held, need, tasks + 1)


@given(amounts, amounts, holdings(), needs)
def test_what_is_guaranteed_is_within_both_and_nothing_where_the_main_resource_is_not_named(
    guarantee, limit, held, need
):
    tasks = guarantee_room(Grant("s", "t", guarantee, limit), held, need)

    main = ("milli", need.kind) if need.milli else ("cpu_milli", "")
    both = min(room(guarantee, held, need), room(limit, held, need))
    assert tasks == (both if main in names(guarantee) else 0)
