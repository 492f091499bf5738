"""Time series of a page, as coordinates for the `timeline` macro of templates/parts.jinja."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.rendering import milliseconds, percent
from sdcpc_ros.evaluation.report_file import column, floats, frame_times_ms

_MAX_MARKS = 40
_RESETS = {
    "backward": "time jumped back",
    "gap": "gap in time",
    "size": "other size",
    "encoding": "other encoding",
    "frame_id": "other frame_id",
}
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


def frame_times(report: dict[str, Any]) -> tuple[np.ndarray, str]:
    """The frames' positions on the time axis, (N,), and its unit: seconds, or frames if time jumps back."""
    stamps = np.array(report["frames"]["stamp_ns"], np.int64)
    if (np.diff(stamps) < 0).any():
        return np.array(report["frames"]["number"], np.float64), "frame"
    return (stamps - stamps[0]) / 1e9, "seconds"


def seconds_after_start(report: dict[str, Any], index: int) -> str:
    """A frame's time since the first."""
    stamps = report["frames"]["stamp_ns"]
    return f"{(stamps[index] - stamps[0]) / 1e9:.2f} s"


def resets(report: dict[str, Any]) -> list[tuple[int, str]]:
    """Index and cause of the frames before which the frame buffer was emptied."""
    causes = enumerate(report["frames"]["reset"])
    return [(index, _RESETS.get(cause, str(cause))) for index, cause in causes if cause is not None]


def time_chart(report: dict[str, Any]) -> dict[str, Any]:
    """The scores and the time of each frame, with marks at the first resets."""
    scores, strips = report["scores"], []
    for titles, typical in (
        ({"miou": "Mean IoU"}, "all frames"),
        ({"mvc8": "mVC8", "mvc16": "mVC16"}, "mean"),
        ({"steady": "Steady pixels"}, "mean"),
        ({"confidence": "Confidence"}, "mean"),
    ):
        lines = {title: 100 * column(report, key) for key, title in titles.items() if scores[key] is not None}
        if lines:
            share = scores[next(iter(titles))]
            strips.append(Strip(lines, "%", 100 * share, f"{typical} {percent(share)}"))
    elapsed = frame_times_ms(report)
    strips.append(_times("Time per frame", elapsed, float(np.median(elapsed))))
    return timeline(*frame_times(report), strips, resets(report)[:_MAX_MARKS])


def live_chart(report: dict[str, Any]) -> dict[str, Any] | None:
    """Latency and agreement of each frame of a live run; None without one."""
    live = report.get("live")
    if live is None:
        return None
    latency, agreement = (
        floats(live["frames"][name], len(report["frames"]["number"])) for name in ("latency_ms", "agreement")
    )
    latencies = _times("Stamp to publication", latency, live["latency_ms"]["p50"])
    return timeline(*frame_times(report), [latencies, Strip({"Labels equal to offline": 100 * agreement})])


def _times(title: str, values: np.ndarray, median: float | None) -> Strip:
    return Strip({title: values}, "ms", median, f"median {milliseconds(median)}")


def timeline(
    times: np.ndarray, axis_name: str, strips: Sequence[Strip], marks: Sequence[tuple[int, str]] = ()
) -> dict[str, Any]:
    """Strips over rising `times` (N,), N >= 1. `marks`: index of a frame and name, a line through all strips.

    A strip is left out if one of its lines has no value.
    """
    span = max(float(times[-1] - times[0]), 1e-9)
    x = (times - times[0]) / span
    known = [strip for strip in strips if not any(np.isnan(line).all() for line in strip.lines.values())]
    return {
        "axis_name": axis_name,
        "ticks": [(100 * tick / span, f"{times[0] + tick:g}") for tick in ticks(0, span, 6)],
        "strips": [_draw(strip, x) for strip in known],
        "marks": _marks(x, marks),
    }


def _draw(strip: Strip, x: np.ndarray) -> dict[str, Any]:
    values = np.concatenate(list(strip.lines.values()))
    low, high = _limits(values[~np.isnan(values)], strip.unit)

    def y(value: Any) -> Any:
        return _HEIGHT * (high - value) / (high - low)

    lines = []
    for title, quantity in strip.lines.items():
        at, least, mean, most = downsample(x, quantity)
        band = _path(_WIDTH * at, y(most), y(least)) if len(at) < len(x) else ""
        lines.append({"title": title, "path": _path(_WIDTH * at, y(mean)), "band": band})
    note, highest = None, float(np.nanmax(values))
    if highest > high:
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


def _limits(values: np.ndarray, unit: str) -> tuple[float, float]:
    """The range of the values with a margin, without outliers; times begin at zero."""
    low, high, usual = float(values.min()), float(values.max()), float(np.percentile(values, 98))
    if usual > 0 and high > _OUTLIER * usual:
        high = 1.6 * usual
    if unit == "ms":
        return 0.0, high + max(0.08 * high, 1e-6)
    margin = max(0.08 * (high - low), 0.01 * abs(high), 1e-6)
    low, high = max(low - margin, 0.0), min(high + margin, 100.5)
    return (low, high) if high - low > 1 else (max(0.0, high - 1), high)


def _path(x: np.ndarray, y: np.ndarray, bottom: np.ndarray | None = None) -> str:
    """An SVG path along y that breaks where y is nan, or the outline of the areas between y and `bottom`."""
    path = ""
    for run in np.ma.clump_unmasked(np.ma.masked_invalid(y)):
        points = [*zip(x[run], y[run])]
        if bottom is not None:
            points += zip(x[run][::-1], bottom[run][::-1])
        elif len(points) == 1:
            points *= 2  # round line caps show a line to itself as a dot
        path += "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points) + ("" if bottom is None else "Z")
    return path


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
