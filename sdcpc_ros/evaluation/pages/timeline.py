"""Several time series above each other, as coordinates for the `timeline` macro of templates/parts.jinja."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MAX_POINTS = 600  # with more, a band shows the minimum and the maximum of each step
_OUTLIER = 3.0  # times the 98th percentile: the axis ends before it, and a note gives the value
_WIDTH, _HEIGHT = 1000.0, 100.0  # of the SVG's view box, which the page stretches


@dataclass(frozen=True)
class Strip:
    """One or two quantities of one unit, (N,) float by title with nan for no value; a dotted line marks `typical`."""

    lines: Mapping[str, np.ndarray]
    unit: str = "%"
    typical: float | None = None
    typical_name: str = ""
    from_zero: bool = False


def timeline(
    times: np.ndarray, axis_name: str, strips: Sequence[Strip], marks: Sequence[tuple[int, str]] = ()
) -> dict[str, Any]:
    """Strips over rising `times` (N,), N >= 1. `marks`: index of a frame and name, a line through all strips."""
    span = max(float(times[-1] - times[0]), 1e-9)
    x = (times - times[0]) / span
    return {
        "axis_name": axis_name,
        "ticks": [(100 * tick / span, f"{times[0] + tick:g}") for tick in ticks(0, span, 6)],
        "strips": [_draw(strip, x) for strip in strips],
        "marks": _marks(x, marks),
    }


def downsample(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times, and minimum, mean and maximum of the values in each of at most 600 equal steps; nan without a value."""
    steps = min(len(values), _MAX_POINTS)
    known = [part[~np.isnan(part)] for part in np.array_split(values, steps)]
    low, mean, high = (
        np.array([summary(part) if part.size else np.nan for part in known]) for summary in (np.min, np.mean, np.max)
    )
    return np.array([part.mean() for part in np.array_split(times, steps)]), low, mean, high


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most count + 1 round numbers from `low` to `high`."""
    unit = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * count >= (high - low) * 0.999)
    return [round(number * step, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _draw(strip: Strip, x: np.ndarray) -> dict[str, Any]:
    values = np.concatenate(list(strip.lines.values()))
    low, high = _limits(values[~np.isnan(values)], strip)

    def y(value: Any) -> Any:
        return _HEIGHT * (high - value) / (high - low)

    lines = []
    for title, quantity in strip.lines.items():
        at, least, mean, most = downsample(x, quantity)
        band = _band(_WIDTH * at, y(most), y(least)) if len(at) < len(x) else ""
        lines.append({"title": title, "path": _path(_WIDTH * at, y(mean)), "band": band})
    note = None
    if (highest := np.nanmax(values, initial=-np.inf)) > high:
        at = x[int(np.nanargmax(values)) % len(x)]
        note = {"left": 100 * float(at), "text": f"↑ {highest:.0f} {strip.unit}"}
    return {
        "lines": lines,
        "unit": strip.unit,
        "typical": None if strip.typical is None else y(strip.typical),
        "typical_name": strip.typical_name,
        "ticks": [(y(tick), f"{tick:g}") for tick in ticks(low, high, 3)],
        "note": note,
    }


def _limits(values: np.ndarray, strip: Strip) -> tuple[float, float]:
    """The range of the values with a margin, without outliers."""
    if not values.size:
        return 0.0, 1.0
    low, high, usual = float(values.min()), float(values.max()), float(np.percentile(values, 98))
    if usual > 0 and high > _OUTLIER * usual:
        high = 1.6 * usual
    if strip.from_zero:
        low = 0.0
    margin = max(0.08 * (high - low), 0.01 * abs(high), 1e-6)
    if strip.unit == "%":
        low, high = max(low - margin, 0.0), min(high + margin, 100.5)
        return (low, high) if high - low > 1 else (max(0.0, high - 1), high)
    return max(0.0, low - (0 if strip.from_zero else margin)), high + margin


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """An SVG path that breaks where y is nan. A lone point is drawn twice, which round line caps show as a dot."""
    runs = [run if len(run) > 1 else np.repeat(run, 2) for run in _runs(y)]
    return "".join(f"M{_points(x[run], y[run])}" for run in runs)


def _band(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> str:
    return "".join(f"M{_points(x[run], top[run])}L{_points(x[run[::-1]], bottom[run[::-1]])}Z" for run in _runs(top))


def _runs(values: np.ndarray) -> list[np.ndarray]:
    """Indices of consecutive values that are not nan."""
    known = np.flatnonzero(~np.isnan(values))
    return [run for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if run.size]


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return "L".join(f"{left:.1f} {top:.1f}" for left, top in zip(x, y))


def _marks(x: np.ndarray, marks: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """Lines with names. A name that is long or would overlap its neighbour is in the tooltip only."""
    found, free = [], 0.0
    for index, name in sorted(marks):
        at, width = 100 * float(x[index]), 0.7 * len(name)  # percent of a wide page
        left = min(max(at - width / 2, 0.0), 100 - width)
        shown = width < 50 and left >= free
        free = left + width if shown else free
        found.append({"x": _WIDTH * float(x[index]), "left": left, "name": name, "shown": shown})
    return found
