"""What a job says of its privacy: ``[tool.hansa] privacy = "mask"``, or a table with the details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import BadInput
from common.privacy.protocol import MAX_EXPONENT, RINGS

MODES = ("auto", "plain", "mask")
_DEFAULT_RANGE = {32: 4, 16: -3}  # changes up to 16, up to 1/8
WHERE = "tool.hansa.privacy"


@dataclass(frozen=True)
class Privacy:
    """How updates leave the nodes."""

    mode: str = "auto"  # "auto": masked sums wherever three or more nodes are folded; "mask": or not at all; "plain"
    ring: int = 32  # bits of a masked value on the wire: 32, or 16 for half the bytes and coarser steps
    range_bits: int = _DEFAULT_RANGE[32]  # changes of a value are expected below 2^this; larger ones are told


AUTO = Privacy()


def parse_privacy(value: Any) -> Privacy:  # noqa: ANN401 - TOML
    """Return what the value of the key ``privacy`` says.

    Raises:
        BadInput: it is neither a mode nor a table of known keys.
    """
    table = {"mode": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not table.keys() <= {"mode", "ring", "range_bits"}:
        raise BadInput(f"{WHERE} must be one of {', '.join(MODES)}, or a table of mode, ring and range_bits")
    mode, ring = table.get("mode", "auto"), table.get("ring", 32)
    if mode not in MODES:
        raise BadInput(f"{WHERE}.mode must be one of {', '.join(MODES)}, got {mode!r}")
    if type(ring) is not int or ring not in RINGS:
        raise BadInput(f"{WHERE}.ring must be 16 or 32 bits, got {ring!r}")
    bits = table.get("range_bits", _DEFAULT_RANGE[ring])
    if type(bits) is not int or abs(bits) > MAX_EXPONENT:
        raise BadInput(
            f"{WHERE}.range_bits must be a whole number from -{MAX_EXPONENT} to {MAX_EXPONENT}, got {bits!r}"
        )
    return Privacy(mode, ring, bits)
