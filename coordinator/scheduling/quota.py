"""Grants against what is held: how many more tasks of a need a tenant may have at a site."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.records import WHOLE, Need

Held = Counter[tuple[str, str]]  # (what, kind) -> amount; one for each (site, tenant)
UNBOUNDED = 1 << 40


@lru_cache(maxsize=4096)
def parts(need: Need) -> tuple[tuple[tuple[str, str], int], ...]:
    """Return each resource that one task of ``need`` takes, with its amount (never zero)."""
    amounts = {
        ("milli", need.kind): need.milli,
        ("mib", need.kind): need.mib * max(1, need.milli // WHOLE) if need.milli else 0,
        ("cpu_milli", ""): need.cpu_milli,
        ("ram_mib", ""): need.ram_mib,
    }
    return tuple((part, amount) for part, amount in amounts.items() if amount)


def bound(amount: Amount, what: str, kind: str) -> int | None:
    """Return what ``amount`` says of a resource; None = it does not name it."""
    if what == "milli":
        return amount.milli.get(kind)
    if what == "mib":
        return amount.mib.get(kind)
    return amount.cpu_milli if what == "cpu_milli" else amount.ram_mib


def room(amount: Amount, held: Held, need: Need) -> int:
    """Return how many more tasks of ``need`` stay within ``amount``; what it does not name is not bound."""
    least, kind = UNBOUNDED, need.kind
    if need.milli:
        if (most := amount.milli.get(kind)) is not None:
            least = min(least, max(0, most - held.get(("milli", kind), 0)) // need.milli)
        if need.mib and (most := amount.mib.get(kind)) is not None:
            each = need.mib * max(1, need.milli // WHOLE)
            least = min(least, max(0, most - held.get(("mib", kind), 0)) // each)
    if need.cpu_milli and amount.cpu_milli is not None:
        least = min(least, max(0, amount.cpu_milli - held.get(("cpu_milli", ""), 0)) // need.cpu_milli)
    if need.ram_mib and amount.ram_mib is not None:
        least = min(least, max(0, amount.ram_mib - held.get(("ram_mib", ""), 0)) // need.ram_mib)
    return least


def limit_room(grant: Grant | None, held: Held, need: Need) -> int:
    """Return how many more tasks of ``need`` the tenant may have at the site."""
    return UNBOUNDED if grant is None else room(grant.limit, held, need)


def limit_words(grant: Grant, need: Need) -> str:
    """Return whom the grant's site limits to what, of the resources that ``need`` takes, beside what one task takes."""
    named = [(part, most, each) for part, each in parts(need) if (most := bound(grant.limit, *part)) is not None]
    limits = " and ".join(figure_words(*part, most) for part, most, _ in named)
    takes = " and ".join(figure_words(*part, each) for part, _, each in named)
    return f"{grant.site} limits {grant.tenant} to {limits}, and one task takes {takes}"


def figure_words(what: str, kind: str, figure: int) -> str:
    """Return so much of a resource, for people."""
    match what:
        case "milli":
            return f"{figure / 1000:g} {kind}"
        case "mib":
            return f"{figure} MiB of {kind} memory"
        case "cpu_milli":
            return f"{figure / 1000:g} CPU" + ("" if figure == 1000 else "s")
        case _:
            return f"{figure} MiB of RAM"


def guarantee_room(grant: Grant | None, held: Held, need: Need) -> int:
    """Return how many more tasks of ``need`` the tenant is guaranteed at the site.

    A guarantee that does not name the accelerator of a GPU ask, or the CPU of a CPU ask, guarantees it nothing; beyond
    that, what it does not name does not count.
    """
    if grant is None:
        return 0
    guarantee = grant.guarantee
    if (guarantee.milli.get(need.kind) if need.milli else guarantee.cpu_milli) is None:
        return 0
    return min(room(guarantee, held, need), room(grant.limit, held, need))
