"""Quantities as people type them: ``cuda=2,cuda-memory=40GiB,cpu=8,ram=64GiB``, and as they are shown again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import typer

from common.client.records_quotas import Amount
from common.jobspec import ACCELERATORS
from common.units import GIB, KIB, MIB

NOTHING = "none"
_MOST = 10**12  # of thousandths, or of MiB: no site has more
_NUMBER = re.compile(r"(\d{1,100}(?:\.\d{1,12})?)(m?)")
_SIZE = re.compile(r"(\d{1,100}(?:\.\d{1,12})?) ?([kmgt]i?b?|b|bytes)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_MEMORY = "-memory"
WORDS = [*ACCELERATORS, *(kind + _MEMORY for kind in ACCELERATORS), "cpu", "ram"]


def parse_amount(text: str, flag: str) -> Amount:
    """Return what ``text`` names; ``none`` names nothing.

    Args:
        text: ``WORD=FIGURE``, separated by commas.  Devices and CPUs are counted (``0.5`` and ``500m`` are a half);
            memory is a size.
        flag: For the message.

    Raises:
        typer.BadParameter: it is not of that form.
    """
    amount = Amount(gpu_milli={}, gpu_memory_mib={}, cpu_milli=None, ram_mib=None)
    if text.strip() == NOTHING:
        return amount
    named: set[str] = set()
    for part in text.split(","):
        word, equals, figure = (piece.strip() for piece in part.partition("="))
        if not equals or word not in WORDS:
            raise typer.BadParameter(f"{part.strip()!r} must be WORD=FIGURE with {', '.join(WORDS)}", param_hint=flag)
        if word in named:
            raise typer.BadParameter(f"{word} is there twice", param_hint=flag)
        named.add(word)
        if word == "ram":
            amount["ram_mib"] = _mib(figure, flag)
        elif word == "cpu":
            amount["cpu_milli"] = _milli(figure, flag)
        elif word.endswith(_MEMORY):
            amount["gpu_memory_mib"][word.removesuffix(_MEMORY)] = _mib(figure, flag)
        else:
            amount["gpu_milli"][word] = _milli(figure, flag)
    return amount


def parse_size(text: str, flag: str) -> int:
    """Return a size in bytes: ``500GiB``, ``500G`` (the same), ``1.5TiB``, or bytes.

    Raises:
        typer.BadParameter: it is not of that form.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} must be a size such as 500GiB, 40960MiB or 2TiB", param_hint=flag)
    unit = (found[2] or "").lower()
    if re.fullmatch("[kmgt]b", unit):
        raise typer.BadParameter(f"{text!r}: write {unit[0].upper()}iB (powers of 1024)", param_hint=flag)
    size = Fraction(found[1]) * _UNITS[unit[:1]]
    if size > _MOST * MIB:
        raise typer.BadParameter(f"{text[:40]!r} is too much: {size_in_words(_MOST * MIB)} at most", param_hint=flag)
    return int(size)


def amount_in_words(amount: object) -> str:
    """Return an amount as ``parse_amount`` takes it; "" if nothing is named."""
    if not isinstance(amount, Mapping):
        return ""
    milli, memory = _table(amount, "gpu_milli"), _table(amount, "gpu_memory_mib")
    words: list[str] = []
    for kind in sorted(milli.keys() | memory.keys()):
        words += [f"{kind}={_counted(milli[kind])}"] if kind in milli else []
        words += [f"{kind}{_MEMORY}={size_in_words(memory[kind] * MIB)}"] if kind in memory else []
    if amount.get("cpu_milli") is not None:
        words.append(f"cpu={_counted(amount['cpu_milli'])}")
    if amount.get("ram_mib") is not None:
        words.append(f"ram={size_in_words(amount['ram_mib'] * MIB)}")
    return ",".join(words)


def held_in_words(amount: object) -> str:
    """Return what is held of an amount, without what is nought."""
    if not isinstance(amount, Mapping):
        return "not known"
    some = {
        name: {kind: figure for kind, figure in value.items() if figure}
        if isinstance(value, Mapping)
        else value or None
        for name, value in amount.items()
    }
    return amount_in_words(some) or "nothing"


def size_in_words(size: int) -> str:
    """Return bytes in the largest unit that loses nothing visible: ``40GiB``, ``1.5TiB``, ``617B``; nought is ``0``."""
    value, unit = Fraction(size), "B" if size else ""
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{float(value):.4g}{unit}"


def _milli(figure: str, flag: str) -> int:
    found = _NUMBER.fullmatch(figure)
    exact = Fraction(found[1]) * (1 if found[2] else 1000) if found else Fraction(1, 2)
    if exact.denominator != 1:
        raise typer.BadParameter(
            f"{figure!r} must be a plain number with thousandths at most: 2, 0.5 or 500m", param_hint=flag
        )
    if exact > _MOST:
        raise typer.BadParameter(f"{figure[:40]!r} is too much: {_MOST // 1000} at most", param_hint=flag)
    return int(exact)


def _mib(figure: str, flag: str) -> int:
    size = parse_size(figure, flag)
    if size % MIB:
        raise typer.BadParameter(f"{figure!r} must be whole MiB: 512MiB, 40GiB", param_hint=flag)
    return size // MIB


def _counted(milli: int) -> str:
    return f"{milli / 1000:g}"


def _table(amount: Mapping[str, Any], name: str) -> Mapping[str, int]:
    table = amount.get(name)
    return table if isinstance(table, Mapping) else {}
