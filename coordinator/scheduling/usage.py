"""What a tenant has used at a site: charged at grant, settled at the end, forgotten by halves.

Use is forward-decayed: instead of shrinking everybody's use as time goes by, what is added later counts more, by
2^((now - origin) / half-life).  A common factor changes no order, so idle tenants are never touched.  The origin moves
on by whole half-lives before numbers grow large, which is exact in binary.

Source:
    Cormode et al. 2009, "Forward Decay"; the entry penalty of Kueue's KEP-4136 (charge at grant, settle at end).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from common.ids import TenantId
from coordinator.scheduling.records import WHOLE, Lease, Need, Policy, State

Use = dict[tuple[TenantId, TenantId], float]  # (site, tenant) -> price x ms, in the units of the origin

REBASE = 256  # half-lives after which the origin moves on: 2^512 x any use is far from a double's end
CORES_OF_A_GPU = 8
GIB_OF_A_GPU = 64


def price(need: Need) -> float:
    """Return what one millisecond of ``need`` costs: its dominant part; a GPU, 8 cores or 64 GiB are worth 1000.

    Fixed prices, not shares of what happens to be online, so that an hour costs the same by day and by night and a
    share can be recomputed from the nodes' own logs.

    Source:
        Ghodsi et al. 2011, "Dominant Resource Fairness"; the fixed prices are those of Slurm's MAX_TRES billing.
    """
    return max(
        need.milli * 1.0,
        need.cpu_milli / CORES_OF_A_GPU,
        need.ram_mib * WHOLE / (GIB_OF_A_GPU * 1024),
    )


def inflation(policy: Policy, origin_ms: int, at_ms: int) -> float:
    """Return how much a use at ``at_ms`` weighs, in the units of ``origin_ms``."""
    return 1.0 if policy.half_life_ms is None else float(2.0 ** ((at_ms - origin_ms) / policy.half_life_ms))


def cost(policy: Policy, origin_ms: int, lease: Lease) -> float:
    """Return the expected cost of a lease, at the weight of its grant."""
    return price(lease.need) * lease.est_ms * inflation(policy, origin_ms, lease.start_ms)


def charge(use: Use, policy: Policy, origin_ms: int, lease: Lease) -> None:
    """Book the expected cost of a lease that was just granted."""
    _add(use, lease, cost(policy, origin_ms, lease))


def settle(use: Use, policy: Policy, origin_ms: int, lease: Lease, end_ms: int) -> None:
    """Replace the expected cost of a lease by its true one, at the weight it had when it was granted."""
    true_ms = min(max(end_ms, lease.start_ms), lease.until_ms) - lease.start_ms
    _add(use, lease, price(lease.need) * (true_ms - lease.est_ms) * inflation(policy, origin_ms, lease.start_ms))


def first_origin(use: Use, policy: Policy, origin_ms: int, at_ms: int) -> int:
    """Return the origin to book at: where nothing was used yet, a whole number of half-lives just before ``at_ms``."""
    return origin_ms if use or policy.half_life_ms is None else at_ms // policy.half_life_ms * policy.half_life_ms


def is_due(policy: Policy, origin_ms: int, now_ms: int, *, idle: bool) -> bool:
    """Tell whether the origin should move on: after something was booked; when ``idle``, only if it cannot wait."""
    half_life = policy.half_life_ms
    return half_life is not None and now_ms - origin_ms >= (2 if idle else 1) * REBASE * half_life


def rebased(
    use: Mapping[tuple[TenantId, TenantId], float], policy: Policy, origin_ms: int, now_ms: int, *, idle: bool
) -> tuple[Use, int]:
    """Return ``use`` and its origin, moved on by whole half-lives if that is due."""
    half_life = policy.half_life_ms
    if half_life is None or not use or not is_due(policy, origin_ms, now_ms, idle=idle):
        return dict(use), origin_ms
    halves = (now_ms - origin_ms) // half_life
    shrink = 2.0 ** -min(halves, 2000)
    return {pair: value * shrink for pair, value in use.items()}, origin_ms + halves * half_life


def under(state: State, policy: Policy, now_ms: int) -> State:
    """Return ``state`` with another policy: what was used counts as it does now, and is forgotten at the new pace."""
    now = inflation(
        state.policy, state.origin_ms, min(now_ms, state.origin_ms + REBASE * (state.policy.half_life_ms or 1))
    )
    use = {pair: value / now for pair, value in state.use.items()}
    return replace(state, policy=policy, use=use, origin_ms=now_ms)


def welcome(use: Use, site: TenantId, tenant: TenantId, weight: int, active: Iterable[tuple[TenantId, int]]) -> None:
    """Let a tenant that comes back to a site start from max(its own use, the least of the active ones, by weight).

    So the time it was away is not saved up to be spent at once.

    Args:
        use: Changed in place.
        site: Where it comes back to.
        tenant: Who comes back.
        weight: Its weight there.
        active: The tenants that wait or run there, with their weights.
    """
    least = min((use.get((site, other), 0.0) / their for other, their in active), default=0.0) * weight
    if least > use.get((site, tenant), 0.0):
        use[site, tenant] = least


def _add(use: Use, lease: Lease, amount: float) -> None:
    pair = (lease.site, lease.tenant)
    use[pair] = max(0.0, use.get(pair, 0.0) + amount)
