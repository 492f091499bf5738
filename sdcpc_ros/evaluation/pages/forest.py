"""A forest plot: differences and their intervals around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from sdcpc_ros.evaluation.pages.svg import ACCENT, BAD, FAINT, GOOD, LINE, Chart, shorten

_ROW_PX, _FOOT_PX = 28.0, 40.0
_COLOURS = {"better": GOOD, "worse": BAD}


@dataclass(frozen=True)
class Interval:
    """A difference, the ends of its interval, if any, and its verdict."""

    name: str
    value: float
    low: float | None
    high: float | None
    verdict: str


def forest(name: str, description: str, intervals: Sequence[Interval], unit: str, width: float) -> Markup:
    """A row for each interval; right of zero is more. Better and worse are coloured."""
    longest = max((len(shorten(each.name)) for each in intervals), default=0)
    left, right = min(7.2 * longest + 14, width * 0.4), width - 64
    height = _ROW_PX * len(intervals) + _FOOT_PX
    with Chart(name, description, width, height) as chart:
        axes = chart.axes(left, 0, right, _ROW_PX * len(intervals))
        ends = [end for each in intervals for end in (each.low, each.high, each.value) if end is not None]
        reach = 1.08 * max((abs(end) for end in ends), default=1.0) or 1.0
        axes.set(xlim=(-reach, reach), ylim=(len(intervals) - 0.5, -0.5), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=FAINT, linewidth=1)
        for row, each in enumerate(intervals):
            colour = _COLOURS.get(each.verdict, ACCENT)
            if each.low is not None and each.high is not None:
                axes.plot([each.low, each.high], [row, row], color=colour, linewidth=5, alpha=0.35)
            axes.plot([each.value], [row], "o", color=colour, markersize=7)
            axes.text(-0.03, row, shorten(each.name), transform=axes.get_yaxis_transform(), ha="right", va="center")
            value = f"{each.value:+.2f}"
            axes.text(1.03, row, value, transform=axes.get_yaxis_transform(), ha="left", va="center", color=colour)
            hover = Rectangle((-reach, row - 0.5), 2 * reach, 1, facecolor=LINE, alpha=0)
            axes.add_artist(hover)
            interval = "" if each.low is None or each.high is None else f", {each.low:+.2f} to {each.high:+.2f}"
            chart.tip(hover, f"{each.name}: {value} {unit}{interval}, {each.verdict}")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=11)
        axes.set_xlabel(unit, size=11)
        return chart.svg()
