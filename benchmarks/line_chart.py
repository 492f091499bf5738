"""Line charts below each other, over one axis, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _GAP = 720, 120, 70, 34


def line_chart(x: Sequence[float], charts: Mapping[str, Sequence[float]], x_name: str) -> str:
    """One chart for each name in `charts`, whose values belong to `x`; values that are not finite leave gaps."""
    height = len(charts) * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for index, (name, values) in enumerate(charts.items()):
        parts += _panel(x, values, name, _GAP + index * (_HEIGHT + _GAP))
    if x:
        for share in (0.0, 0.5, 1.0):
            value = x[0] + share * (x[-1] - x[0])
            anchor = ("start", "middle", "end")[round(share * 2)]
            place = _LEFT + share * (_WIDTH - _LEFT - 10)
            parts.append(
                f'<text x="{place:.0f}" y="{height - 12}" text-anchor="{anchor}">{value:.1f} {escape(x_name)}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _panel(x: Sequence[float], values: Sequence[float], name: str, top: int) -> list[str]:
    finite = [value for value in values if math.isfinite(value)]
    high = max(finite, default=1.0) * 1.05 or 1.0
    span = (x[-1] - x[0]) or 1.0 if x else 1.0

    def point(a: float, b: float) -> str:
        return f"{_LEFT + (a - x[0]) / span * (_WIDTH - _LEFT - 10):.1f},{top + _HEIGHT * (1 - b / high):.1f}"

    segments: list[list[str]] = [[]]
    for a, b in zip(x, values):
        if math.isfinite(b):
            segments[-1].append(point(a, b))
        elif segments[-1]:
            segments.append([])
    return [
        f'<text x="{_LEFT}" y="{top - 6}" font-weight="bold">{escape(name)}</text>',
        f'<path d="M{_LEFT},{top} v{_HEIGHT} h{_WIDTH - _LEFT - 10}" fill="none" stroke="#999"/>',
        f'<text x="{_LEFT - 6}" y="{top + 12}" text-anchor="end">{high:.4g}</text>',
        f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>',
        *(f'<polyline points="{" ".join(s)}" fill="none" stroke="#1864ab" stroke-width="2"/>' for s in segments if s),
    ]
