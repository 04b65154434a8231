"""An auditor of the scheduler: it sees the events and the decisions, and recounts everything from the leases alone.

It shares nothing with the scheduler but the records, so what the scheduler believes does not matter to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.records import Ask, Decision, Expire, Lease, Need, Node, Start, Wait


class Auditor:
    """What there is by the events and decisions so far, and every violation that was found."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.grants: dict[tuple[str, str], Grant] = {}
        self.asks: dict[str, Ask] = {}
        self.leases: dict[tuple[str, str], Lease] = {}
        self.violations: list[str] = []

    def end(self, ask: str, node: str) -> None:
        del self.leases[ask, node]

    def see(self, decisions: tuple[Decision, ...], now_ms: int) -> None:
        """Follow decisions and check each against what was there before it."""
        for decision in decisions:
            match decision:
                case Expire(lease):
                    self._check(lease.until_ms <= now_ms, "a lease expired before its time")
                    self._check(
                        self.leases.pop((lease.ask, lease.node), None) == lease, "a lease expired that is not held"
                    )
                case Start(ask, leases):
                    self._start(ask, leases, now_ms)
                case Wait(ask_id, code, _, at_ms):
                    self._check(ask_id in self.asks and code == "reserved", "a wait without an ask")
                    self._check(at_ms is not None and at_ms > now_ms, "nodes are kept for a time that is past")
        self._check(all(lease.until_ms > now_ms for lease in self.leases.values()), "a lease outlived its end")

    def _start(self, ask: Ask, leases: tuple[Lease, ...], now_ms: int) -> None:
        self._check(self.asks.pop(ask.id, None) == ask, "an ask started that did not wait")
        self._check(ask.m <= len(leases) <= ask.n, "a cohort of less than m or more than n")
        self._check(len({lease.node for lease in leases}) == len(leases), "two tasks of a cohort on one node")
        for lease in leases:
            node = self.nodes.get(lease.node)
            if node is None:
                self._check(False, "a lease on a node that is not there")
                continue
            self._check(ask.candidates is None or node.id in ask.candidates, "a node that is no candidate")
            self._check(ask.labels <= node.labels, "a node without the labels")
            self._check(
                (lease.start_ms, lease.until_ms) == (now_ms, now_ms + ask.bound_ms), "a lease of another length"
            )
            self._check(
                (lease.tenant, lease.site, lease.need) == (ask.tenant, node.site, ask.need), "a lease for another"
            )
            self._check(1 <= lease.est_ms <= ask.bound_ms, "a charge that is none or more than the lease")
            self._check(_serves(lease, node), "slices that do not serve the need")
            self.leases[ask.id, lease.node] = lease
            self._check(self._fits(node, {piece.device for piece in lease.slices}), "more on a node than it has")
        for site in {lease.site for lease in leases}:
            grant = self.grants.get((site, ask.tenant))
            if grant is not None:
                held = total(one for one in self.leases.values() if (one.site, one.tenant) == (site, ask.tenant))
                taken = Counter({what: held[what] for what, each in amounts(ask.need).items() if each})
                self._check(within(taken, grant.limit), "more than the limit")

    def _fits(self, node: Node, used: set[str]) -> bool:
        """Tell whether the node, and those of its devices that were just used, hold all that is on them."""
        mine = [lease for lease in self.leases.values() if lease.node == node.id]
        held, milli, mib = total(mine), Counter(), Counter()
        for lease in mine:
            for piece in lease.slices:
                milli[piece.device] += piece.milli
                mib[piece.device] += piece.mib
        return (
            len(mine) <= node.slots
            and held["cpu_milli"] <= node.cpu_milli
            and held["ram_mib"] <= node.ram_mib
            and all(milli[d.id] <= d.milli and mib[d.id] <= d.mib for d in node.devices if d.id in used)
        )

    def _check(self, ok: bool, what: str) -> None:
        if not ok:
            self.violations.append(what)


def total(leases) -> Counter:
    """Return what leases hold, by resource."""
    held: Counter = Counter()
    for lease in leases:
        held.update(amounts(lease.need))
    return held


def amounts(need: Need) -> dict[str, int]:
    """Return what one task holds, as a quota counts it."""
    return {
        f"milli {need.kind}": need.milli,
        f"mib {need.kind}": need.mib * max(1, need.milli // 1000) if need.milli else 0,
        "cpu_milli": need.cpu_milli,
        "ram_mib": need.ram_mib,
    }


def within(held: Counter, amount: Amount) -> bool:
    """Tell whether what is held is within all that ``amount`` names."""
    named = {f"milli {kind}": value for kind, value in amount.milli.items()}
    named |= {f"mib {kind}": value for kind, value in amount.mib.items()}
    named |= {"cpu_milli": amount.cpu_milli, "ram_mib": amount.ram_mib}
    return all(value is None or held[what] <= value for what, value in named.items())


def _serves(lease: Lease, node: Node) -> bool:
    need, devices = lease.need, {device.id: device for device in node.devices}
    if not need.milli:
        return lease.slices == ()
    count, each = (1, need.milli) if need.milli <= 1000 else (need.milli // 1000, 1000)
    return (
        len({piece.device for piece in lease.slices}) == len(lease.slices) == count
        and all(piece.device in devices and devices[piece.device].kind == need.kind for piece in lease.slices)
        and all(piece.milli == each and piece.mib >= need.mib for piece in lease.slices)
        and (each < 1000 or all(piece.mib == devices[piece.device].mib for piece in lease.slices))
    )


def placeable(auditor: Auditor, ask: Ask) -> bool:
    """Tell whether ``ask`` would fit on what is idle, whatever is kept for others; by trying every node."""
    by_site: dict[str, int] = defaultdict(int)
    for node in auditor.nodes.values():
        candidate = ask.candidates is None or node.id in ask.candidates
        if candidate and ask.labels <= node.labels and _room(auditor, node, ask.need):
            by_site[node.site] += 1
    return sum(min(count, _tasks(auditor, site, ask)) for site, count in by_site.items()) >= ask.m


def _room(auditor: Auditor, node: Node, need: Need) -> bool:
    mine = [lease for lease in auditor.leases.values() if lease.node == node.id]
    held, milli, mib = total(mine), Counter(), Counter()
    for lease in mine:
        for piece in lease.slices:
            milli[piece.device] += piece.milli
            mib[piece.device] += piece.mib
    if len(mine) >= node.slots or held["cpu_milli"] + need.cpu_milli > node.cpu_milli:
        return False
    if held["ram_mib"] + need.ram_mib > node.ram_mib:
        return False
    count, each = (1, need.milli) if need.milli <= 1000 else (need.milli // 1000, 1000)
    good = 0
    for device in node.devices:
        wanted = device.mib if each == 1000 else need.mib or device.mib * each // 1000
        fits = milli[device.id] + each <= device.milli and mib[device.id] + wanted <= device.mib and wanted >= need.mib
        good += device.kind == need.kind and fits
    return not need.milli or good >= count


def _tasks(auditor: Auditor, site: str, ask: Ask) -> int:
    grant = auditor.grants.get((site, ask.tenant))
    if grant is None:
        return ask.m
    held = total(lease for lease in auditor.leases.values() if (lease.site, lease.tenant) == (site, ask.tenant))
    tasks = 0
    while tasks < ask.m:
        held.update(amounts(ask.need))
        if not within(Counter({what: held[what] for what, each in amounts(ask.need).items() if each}), grant.limit):
            break
        tasks += 1
    return tasks
