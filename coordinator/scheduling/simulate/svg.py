"""A picture of a run: what share of the GPUs each tenant held over time, as a stacked area in one SVG.

Written by hand so that nothing need be installed.  It reads without colour (a legend in the order of the bands, a title
on every band for pointers, a description for screen readers) and on light and dark pages.  Tenants' names come from
files, so they are cut, cleaned and escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.simulate.engine import History
from coordinator.scheduling.simulate.shares import Curves

# Okabe and Ito's colours, told apart with every kind of colour vision, then Paul Tol's muted ones.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#882255", "#44aa99", "#999933",
           "#aa4499")  # fmt: skip
OTHERS = "#9a9a9a"
POINTS = 240  # bins over time
WIDTH, HEIGHT = 960, 420
LEFT, TOP, RIGHT, BOTTOM = 64, 64, 230, 56
_PLOT_W, _PLOT_H = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_STEPS_S = (60, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000, 2_592_000)

_STYLE = """
    .page { fill: #ffffff } .ink { fill: #1b1f24 } .soft { fill: #57606a }
    .rule { stroke: #1b1f24; stroke-opacity: .15 } .axis { stroke: #1b1f24; stroke-opacity: .6 }
    .idle { fill: #1b1f24; fill-opacity: .05 }
    .band { stroke: #ffffff; stroke-width: .6 } .band:hover { fill-opacity: .75 }
    text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif } .head { font-size: 17px; font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #14171a } .ink { fill: #e8eaed } .soft { fill: #a3abb3 } .rule, .axis { stroke: #e8eaed }
      .idle { fill: #e8eaed } .band { stroke: #14171a }
    }"""


def picture(history: History, gpus: int, title: str) -> str:
    """Return the SVG of who held which share of ``gpus`` over time."""
    bands = _bands(history, gpus)
    span_s = (history.at_ms[-1] - history.at_ms[0]) / 1000 if history.at_ms else 0.0
    said = ", ".join(f"{name} {mean:.1%}" for name, _, mean in bands) or "nothing ran"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">',
        f'  <title id="t">{_text(title, 200)}</title>',
        f'  <desc id="d">Share of {gpus} GPUs held by each tenant over {_duration(span_s)}; means: {said}.</desc>',
        f"  <style>{_STYLE}\n  </style>",
        f'  <rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        f'  <text class="head ink" x="{LEFT}" y="28">{_text(title, 90)}</text>',
        f'  <text class="soft" x="{LEFT}" y="47">share of {gpus} GPUs held by each tenant</text>',
        f'  <rect class="idle" x="{LEFT}" y="{TOP}" width="{_PLOT_W}" height="{_PLOT_H}"><title>idle</title></rect>',
        *_areas(bands),
        *_grid(span_s),
        *_legend(bands),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


Band = tuple[str, NDArray[np.float64], float]  # name, share in each bin, mean share


def _bands(history: History, gpus: int) -> list[Band]:
    """Return the largest tenants' shares over time, largest first, and all others' as one."""
    if not history.at_ms or history.at_ms[-1] == history.at_ms[0]:
        return []
    edges = np.linspace(history.at_ms[0], history.at_ms[-1], POINTS + 1)
    curves, whole = Curves.of(history), gpus * 1000 * (edges[1] - edges[0])
    shares = np.array([curves.served(i, edges) / whole for i in range(len(history.tenants))])
    order = sorted(range(len(history.tenants)), key=lambda i: (-shares[i].mean(), history.tenants[i]))
    shown, rest = (order, []) if len(order) <= len(COLOURS) + 1 else (order[: len(COLOURS)], order[len(COLOURS) :])
    bands = [(_text(history.tenants[i], 20), shares[i], float(shares[i].mean())) for i in shown]
    if rest:
        others = shares[rest].sum(axis=0)
        bands.append((f"{len(rest)} others", others, float(others.mean())))
    return bands


def _colour(i: int) -> str:
    return COLOURS[i] if i < len(COLOURS) else OTHERS


def _areas(bands: Sequence[Band]) -> list[str]:
    """Return one stepped polygon a band, each on top of the one before."""
    lines: list[str] = []
    floor = np.zeros(POINTS)
    for i, (name, share, mean) in enumerate(bands):
        roof = np.minimum(floor + share, 1.0)
        path = f"M{_edge(roof)}L{_edge(floor, back=True)}Z"
        lines.append(
            f'  <path class="band" fill="{_colour(i)}" d="{path}"><title>{name}: {mean:.1%} on average</title></path>'
        )
        floor = roof
    return lines


def _edge(heights: NDArray[np.float64], *, back: bool = False) -> str:
    """Return a curve as steps: each bin is flat."""
    points: list[str] = []
    for i, height in enumerate(heights.tolist()):
        y = TOP + _PLOT_H * (1 - height)
        points += [f"{LEFT + _PLOT_W * (i + side) / POINTS:.1f} {y:.1f}" for side in (0, 1)]
    return " ".join(reversed(points) if back else points)


def _grid(span_s: float) -> list[str]:
    lines: list[str] = []
    for percent in range(0, 101, 25):
        y = TOP + _PLOT_H * (1 - percent / 100)
        lines.append(f'  <line class="rule" x1="{LEFT}" x2="{LEFT + _PLOT_W}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'  <text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    bottom = TOP + _PLOT_H
    for at_s in _ticks(span_s):
        x = LEFT + _PLOT_W * (at_s / span_s if span_s else 0)
        lines.append(f'  <line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        lines.append(
            f'  <text class="soft" x="{x:.1f}" y="{bottom + 21}" text-anchor="middle">{_duration(at_s)}</text>'
        )
    lines.append(f'  <line class="axis" x1="{LEFT}" x2="{LEFT + _PLOT_W}" y1="{bottom}" y2="{bottom}"/>')
    lines.append(
        f'  <text class="soft" x="{LEFT + _PLOT_W / 2:.0f}" y="{bottom + 43}" text-anchor="middle">'
        "time since the first submission</text>"
    )
    return lines


def _ticks(span_s: float) -> list[float]:
    step = next((step for step in _STEPS_S if span_s / step <= 8), 0) or math.ceil(span_s / 8 / 2_592_000) * 2_592_000
    return [step * i for i in range(int(span_s // step) + 1)] if step else [0.0]


def _legend(bands: Sequence[Band]) -> list[str]:
    lines: list[str] = []
    x = LEFT + _PLOT_W + 20
    for row, i in enumerate(reversed(range(len(bands)))):  # from the top, as the bands lie
        name, _, mean = bands[i]
        y = TOP + row * 22
        lines.append(f'  <rect fill="{_colour(i)}" x="{x}" y="{y}" width="13" height="13" rx="2"/>')
        lines.append(f'  <text class="ink" x="{x + 20}" y="{y + 11}">{name}</text>')
        lines.append(f'  <text class="soft" x="{WIDTH - 14}" y="{y + 11}" text-anchor="end">{mean:.1%}</text>')
    return lines


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _text(raw: str, longest: int) -> str:
    """Return ``raw`` for the inside of an element: printable, not too long, escaped."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in raw)
    return escape(shown if len(shown) <= longest else shown[: longest - 1] + "…")
