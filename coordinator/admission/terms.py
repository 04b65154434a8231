"""What may be written in a grant, and whether a site can keep what it promises."""

from __future__ import annotations

from collections.abc import Iterable

from common.errors import BadInput
from common.jobspec import WHOLE_DEVICE
from coordinator.domain.nodes import Node, NodeStatus
from coordinator.domain.quotas import Amount, Terms


def check_terms(terms: Terms) -> None:
    """Check that no more is guaranteed than allowed.

    Raises:
        BadInput: a guarantee is over its limit, or the weight is under 1.
    """
    if terms.weight < 1:
        raise BadInput(f"weight {terms.weight} must be at least 1")
    limit = dict(_figures(terms.limit))
    for name, guaranteed in _figures(terms.guarantee):
        if name in limit and guaranteed > limit[name]:
            raise BadInput(
                f"the guarantee of {_words(name, guaranteed)} is over the limit of {_words(name, limit[name])}"
            )


def capacity(nodes: Iterable[Node]) -> Amount:
    """Return what the active nodes of a site have together, as they last reported."""
    reports = [n.report for n in nodes if n.status is NodeStatus.ACTIVE and n.report is not None]
    milli: dict[str, int] = {}
    mib: dict[str, int] = {}
    for report in reports:
        split = {d.parent for d in report.devices}  # a GPU cut into instances is lent as those
        for device in report.devices:
            if device.uuid not in split:
                milli[device.kind] = milli.get(device.kind, 0) + WHOLE_DEVICE
                mib[device.kind] = mib.get(device.kind, 0) + device.memory_mib
    return Amount(milli, mib, 1000 * sum(r.cpus for r in reports), sum(r.memory_mib for r in reports))


def shortfalls(have: Amount, guarantees: Iterable[Amount]) -> list[str]:
    """Return a sentence for every resource of which the guarantees together promise more than there is."""
    there = dict(_figures(have))
    promised: dict[tuple[str, str], int] = {}
    for guarantee in guarantees:
        for name, figure in _figures(guarantee):
            promised[name] = promised.get(name, 0) + figure
    short = [(name, figure, there.get(name, 0)) for name, figure in sorted(promised.items())]
    return [
        f"the guarantees at this site add up to {_words(name, figure)}; its nodes have {_words(name, has)}"
        for name, figure, has in short
        if figure > has
    ]


def _figures(amount: Amount) -> list[tuple[tuple[str, str], int]]:
    named = [(("milli", kind), value) for kind, value in sorted(amount.milli.items())]
    named += [(("mib", kind), value) for kind, value in sorted(amount.mib.items())]
    named += [(("cpu", ""), amount.cpu_milli)] if amount.cpu_milli is not None else []
    named += [(("ram", ""), amount.ram_mib)] if amount.ram_mib is not None else []
    return named


def _words(name: tuple[str, str], figure: int) -> str:
    what, kind = name
    match what:
        case "milli":
            return f"{figure / 1000:g} {kind}"
        case "mib":
            return f"{figure} MiB of {kind} memory"
        case "cpu":
            return f"{figure / 1000:g} CPUs"
        case _:
            return f"{figure} MiB of RAM"
