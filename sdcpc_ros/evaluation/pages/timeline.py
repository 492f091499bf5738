"""A chart of several time series above each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from sdcpc_ros.evaluation.pages.svg import ACCENT, BAD, FAINT, INK, SECOND, Chart, shorten

_MOST_POINTS = 600  # with more, a band shows the least and the most of each step
_STRIP_PX, _TITLE_PX, _FOOT_PX, _MARKS_PX = 84.0, 34.0, 44.0, 20.0
_BOLD = FontProperties(weight="bold")
_OUTLIER = 3.0  # times the 98th percentile: the axis ends before it, and says so


@dataclass(frozen=True)
class Line:
    """A quantity by frame, (N,) float with nan where there is none."""

    title: str
    values: np.ndarray


@dataclass(frozen=True)
class Strip:
    """One or two quantities of one unit, and the typical value of the first as a dotted line."""

    lines: Sequence[Line]
    unit: str = "%"
    typical: float | None = None
    typical_name: str = ""
    from_zero: bool = False


@dataclass(frozen=True)
class Mark:
    """A line through all strips at a frame."""

    index: int  #: of the frame
    name: str


def timeline(
    name: str,
    description: str,
    times: np.ndarray,
    axis_name: str,
    strips: Sequence[Strip],
    width: float,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Strips over `times` (N,), N at least 1, which rise. A line breaks where there is no value."""
    left, right = 40.0, width - 6
    top = _MARKS_PX if marks else 0.0
    height = top + len(strips) * (_TITLE_PX + _STRIP_PX) + _FOOT_PX
    with Chart(name, description, width, height) as chart:
        for place, strip in enumerate(strips):
            upper = top + place * (_TITLE_PX + _STRIP_PX) + _TITLE_PX
            axes = chart.axes(left, upper, right, upper + _STRIP_PX)
            _draw_strip(axes, strip, times)
            _write_titles(axes, strip)
            for mark in marks:
                line = axes.axvline(times[mark.index], color=BAD, linewidth=1.3, linestyle=(0, (4, 3)))
                chart.tip(line, mark.name)
            if place == 0:
                _name_marks(axes, times, marks, right - left)
            axes.tick_params(labelbottom=place == len(strips) - 1)
        axes.set_xlabel(axis_name, size=11)
        return chart.svg()


def downsample(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times, and the least, the mean and the most of the values in each of at most 600 equal steps; nan where a step
    holds no value."""
    steps = min(len(values), _MOST_POINTS)
    parts = np.array_split(values, steps)
    known = [part[~np.isnan(part)] for part in parts]
    least, mean, most = (
        np.array([summary(part) if part.size else np.nan for part in known]) for summary in (np.min, np.mean, np.max)
    )
    return np.array([part.mean() for part in np.array_split(times, steps)]), least, mean, most


def _draw_strip(axes: Axes, strip: Strip, times: np.ndarray) -> None:
    for line, colour in zip(strip.lines, (ACCENT, SECOND)):
        x, least, mean, most = downsample(times, line.values)
        if len(x) < len(times):
            axes.fill_between(x, least, most, color=colour, alpha=0.25, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.5)
        lone = _lone(mean)  # a point between gaps has no line
        axes.plot(x[lone], mean[lone], ".", color=colour, markersize=4)
    if strip.typical is not None:
        axes.axhline(strip.typical, color=INK, linewidth=1, linestyle=(0, (1, 3)))
    low, high = _limits(strip)
    highest = max((np.nanmax(line.values) for line in strip.lines if not np.isnan(line.values).all()), default=0)
    if highest > high:
        at = next(int(np.nanargmax(line.values)) for line in strip.lines if np.nanmax(line.values) == highest)
        note = f" ↑ {highest:.0f} {strip.unit} "
        side = "right" if times[at] > times.mean() else "left"
        axes.annotate(note, (times[at], high), color=FAINT, size=11, ha=side, va="top")
    step = max(float(times[-1] - times[0]), 1e-9)
    axes.set(xlim=(times[0] - 0.005 * step, times[-1] + 0.005 * step), ylim=(low, high))
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11)
    axes.spines["left"].set_visible(False)


def _write_titles(axes: Axes, strip: Strip) -> None:
    offset = 0.0
    for line, colour in zip(strip.lines, (ACCENT if len(strip.lines) > 1 else INK, SECOND)):
        _write_above(axes, line.title, offset, color=colour, weight="bold")
        offset += TextPath((0, 0), line.title, prop=_BOLD, size=12).get_extents().width + 12
    _write_above(axes, strip.unit, offset - 6, color=FAINT)
    if strip.typical is not None:
        _write_above(axes, f"··· {strip.typical_name}", 0, at=1, color=FAINT, ha="right", size=11)


def _write_above(axes: Axes, text: str, offset: float, *, at: float = 0, up: float = 7, **style: Any) -> None:
    """Text above the axes, `offset` px from their left edge (`at` 0) or right edge (1)."""
    axes.annotate(text, (at, 1), (offset, up), xycoords="axes fraction", textcoords="offset points", **style)


def _name_marks(axes: Axes, times: np.ndarray, marks: Sequence[Mark], width: float) -> None:
    """Names above the first strip, `width` px wide; those left out that would lie over the one before."""
    span = max(float(times[-1] - times[0]), 1e-9)
    free = -1.0
    for mark in sorted(marks, key=lambda mark: mark.index):
        middle = float(times[mark.index] - times[0]) / span * width
        name = shorten(mark.name)
        half = 3.2 * len(name)
        start = min(max(middle - half, 0.0), width - 2 * half)
        if start > free:
            _write_above(axes, name, start, up=26, color=BAD, size=11)
            free = start + 2 * half + 8


def _limits(strip: Strip) -> tuple[float, float]:
    """The range of the values with a margin, without outliers."""
    values = np.concatenate([line.values for line in strip.lines])
    values = values[~np.isnan(values)]
    if not values.size:
        return 0.0, 1.0
    low, high, usual = float(values.min()), float(values.max()), float(np.percentile(values, 98))
    if usual > 0 and high > _OUTLIER * usual:
        high = 1.6 * usual
    if strip.from_zero:
        low = 0.0
    air = max(0.08 * (high - low), 0.01 * abs(high), 1e-6)
    if strip.unit == "%":
        high, low = min(high + air, 100.5), max(low - air, 0.0)
        return (low, high) if high - low > 1 else (max(0.0, high - 1), high)
    return max(0.0, low - (0 if strip.from_zero else air)), high + air


def _lone(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    before = np.concatenate([[False], known[:-1]])
    after = np.concatenate([known[1:], [False]])
    return known & ~before & ~after
