"""What the scheduler takes in: each record is checked once, here, and trusted from then on."""

from __future__ import annotations

from common.errors import BadInput
from coordinator.domain.quotas import Amount, Grant
from coordinator.scheduling.records import WHOLE, Ask, Need, Node

MOST_MS = 1 << 52  # so that a sum of two is still exact as a double
MOST = 1 << 40


def check_need(need: Need) -> None:
    """Refuse a need that no task can have.

    Raises:
        BadInput: an amount is negative or too large, or everything is zero, or the accelerator is half named.
    """
    for name, value in (
        ("milli", need.milli),
        ("mib", need.mib),
        ("cpu_milli", need.cpu_milli),
        ("ram_mib", need.ram_mib),
    ):
        if not 0 <= value <= MOST:
            raise BadInput(f"a need's {name} is {value}; it must be between 0 and {MOST}")
    if bool(need.kind) != bool(need.milli):
        raise BadInput(
            f"a need names accelerator {need.kind[:40]!r} and {need.milli} thousandths of it; give both or none"
        )
    if need.milli > WHOLE and need.milli % WHOLE:
        raise BadInput(f"a need of {need.milli} milli-GPU is neither a part of one device nor whole devices")
    if not (need.milli or need.cpu_milli or need.ram_mib):
        raise BadInput("a need of nothing cannot be scheduled")


def check_ask(ask: Ask) -> None:
    """Refuse an ask that can never mean anything.

    Raises:
        BadInput: its need, cohort or times are impossible.
    """
    check_need(ask.need)
    if not 1 <= ask.m <= ask.n:
        raise BadInput(f"ask {ask.id[:60]!r} wants at least {ask.m} and at most {ask.n} nodes")
    if ask.bound_ms < 1:
        raise BadInput(f"ask {ask.id[:60]!r} wants leases of {ask.bound_ms} ms")
    for name, value in (("est_ms", ask.est_ms), ("bound_ms", ask.bound_ms), ("left_ms", ask.left_ms)):
        if not 0 <= value <= MOST_MS:
            raise BadInput(f"ask {ask.id[:60]!r}: {name} is {value}; it must be between 0 and 2^52")
    if not -MOST_MS <= ask.submit_ms <= MOST_MS:
        raise BadInput(f"ask {ask.id[:60]!r}: submit_ms is {ask.submit_ms}")
    if ask.candidates is not None and len(set(ask.candidates)) != len(ask.candidates):
        raise BadInput(f"ask {ask.id[:60]!r} names a node twice")


def check_node(node: Node) -> None:
    """Refuse a node whose report is impossible.

    Raises:
        BadInput: an amount is negative, or a device is named twice.
    """
    numbers = [node.cpu_milli, node.ram_mib, node.slots]
    numbers += [number for device in node.devices for number in (device.mib, device.milli)]
    if not all(0 <= number <= MOST for number in numbers):
        raise BadInput(f"node {node.id[:60]!r} reports an amount below zero or above {MOST}")
    if any(device.milli > WHOLE for device in node.devices):
        raise BadInput(f"node {node.id[:60]!r} reports a device of more than {WHOLE} thousandths")
    if len({device.id for device in node.devices}) != len(node.devices):
        raise BadInput(f"node {node.id[:60]!r} reports a device twice")
    if not 0.0 < node.speed < float("inf"):
        raise BadInput(f"node {node.id[:60]!r} reports speed {node.speed}")


def check_grant(grant: Grant) -> None:
    """Refuse a grant that cannot be kept to.

    Raises:
        BadInput: the weight is below 1, or an amount is negative.
    """
    if not 1 <= grant.weight <= 1_000_000:
        raise BadInput(f"the weight of {grant.tenant} at {grant.site} is {grant.weight}; it must be 1 to 1,000,000")
    for amount in (grant.guarantee, grant.limit):
        if any(value < 0 for value in _values(amount)):
            raise BadInput(f"the grant of {grant.tenant} at {grant.site} has an amount below zero")


def _values(amount: Amount) -> list[int]:
    plain = [value for value in (amount.cpu_milli, amount.ram_mib) if value is not None]
    return [*amount.milli.values(), *amount.mib.values(), *plain]
