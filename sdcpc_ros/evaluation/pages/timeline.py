"""The sections of a page with time series, as coordinates for the `timeline` macro of templates/parts.jinja."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.rendering import Section, Tile, count_noun, milliseconds, percent
from sdcpc_ros.evaluation.report_file import column, floats, frame_times_ms

_MAX_MARKS = 40
_MAX_ROWS = 50
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
    from_zero: bool = False


def frame_times(report: dict[str, Any]) -> tuple[np.ndarray, str]:
    """The frames' positions on the time axis, (N,), and its unit: seconds, or frames if time jumps back."""
    stamps = np.array(report["frames"]["stamp_ns"], np.int64)
    if (np.diff(stamps) < 0).any():
        return np.array(report["frames"]["number"], np.float64), "frame"
    return (stamps - stamps[0]) / 1e9, "seconds"


def time_of(report: dict[str, Any], index: int) -> str:
    """A frame's time since the first."""
    stamps = report["frames"]["stamp_ns"]
    return f"{(stamps[index] - stamps[0]) / 1e9:.2f} s"


def time_section(report: dict[str, Any]) -> Section:
    resets = [
        (index, _RESETS.get(cause, str(cause)))
        for index, cause in enumerate(report["frames"]["reset"])
        if cause is not None
    ]
    meaning = "Each plot shows one metric. The dotted line is its typical value."
    if resets:
        meaning += " Dashed lines: the frame buffer was emptied."
    chart = timeline(*frame_times(report), _strips(report), resets[:_MAX_MARKS])
    parts: list[tuple[str, Any]] = [("timeline", chart)]
    if resets:
        numbers = report["frames"]["number"]
        title = f"The frame buffer was emptied {count_noun(len(resets), 'time')}"
        rows = [(numbers[index], time_of(report, index), cause) for index, cause in resets]
        parts.append(_details(title, ["frame", "at", "why"], rows))
    return Section("Over time", meaning, parts)


def live_section(report: dict[str, Any]) -> Section | None:
    live, numbers = report.get("live"), report["frames"]["number"]
    if live is None:
        return None
    latency, agreement = (floats(live["frames"][name], len(numbers)) for name in ("latency_ms", "agreement"))
    strips = [_times("Stamp to publication", latency, live["latency_ms"]["p50"])]
    strips.append(Strip({"Labels equal to offline": 100 * agreement}))
    parts: list[tuple[str, Any]] = [("tiles", _live_tiles(live))]
    if shown := with_values(strips):
        parts.append(("timeline", timeline(*frame_times(report), shown)))
    if live["differences"]:
        parts.append(("heading", "Where live and offline labels differ"))
        parts.append(("grid", {"head": ["why", "frames"], "rows": live["causes"].items()}))
        at = {number: time_of(report, index) for index, number in enumerate(numbers)}
        rows = [
            (each["number"], at.get(each["number"], "–"), percent(each["agreement"], 2), each["why"])
            for each in live["differences"]
        ]
        title = f"The {count_noun(len(rows), 'frame')} that differ"
        parts.append(_details(title, ["frame", "at", "equal pixels", "why"], rows))
    parts.append(_details("What the node said of itself", [], list(live["node"].items())))
    meaning = "The recording was also played to the running node. A line that breaks is a frame that got no labels."
    return Section("Live", meaning, parts)


def _details(title: str, head: list[str], rows: list[Any]) -> tuple[str, Any]:
    """A table to unfold, of the first rows."""
    more = f"; the first {_MAX_ROWS}" if len(rows) > _MAX_ROWS else ""
    return "details", {"title": title + more, "head": head, "rows": rows[:_MAX_ROWS]}


def _strips(report: dict[str, Any]) -> list[Strip]:
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
    return with_values([*strips, _times("Time per frame", elapsed, float(np.median(elapsed)))])


def _times(title: str, values: np.ndarray, median: float | None) -> Strip:
    return Strip({title: values}, "ms", median, f"median {milliseconds(median)}", from_zero=True)


def with_values(strips: Sequence[Strip]) -> list[Strip]:
    """The strips each of whose lines has a value somewhere."""
    return [strip for strip in strips if not any(np.isnan(line).all() for line in strip.lines.values())]


def _live_tiles(live: dict[str, Any]) -> list[Tile]:
    meaning = f"Of {live['frames_published']} images played; the node always takes the newest."
    found = [Tile("Dropped frames", str(live["frames_dropped"]), meaning)]
    for key, name, meaning in (
        ("latency_ms", "Latency", "From the image's stamp to the publication of its labels, the median"),
        ("jitter_ms", "Jitter", "How much the latency changes from one mask to the next, the median"),
    ):
        p50, p95, longest = (milliseconds(live[key][which]) for which in ("p50", "p95", "max"))
        value, _, unit = p50.partition("\u202f")
        found.append(Tile(name, value, f"{meaning}; 95 %: {p95}, most: {longest}.", unit))
    if live["agreement"] is not None:
        meaning = f"Pixels with the label of the offline run. {live['equal']} of {live['compared']} frames are equal."
        found.append(Tile("Equal to offline", f"{100 * live['agreement']:.2f}", meaning, "%"))
    if live["frame_rate_hz"] is not None:
        meaning = f"Masks a second, of {live['input_rate_hz']:.1f} images a second played."
        found.append(Tile("Rate", f"{live['frame_rate_hz']:.1f}", meaning, "Hz"))
    return found


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
        band = _path(_WIDTH * at, y(most), y(least)) if len(at) < len(x) else ""
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


def _path(x: np.ndarray, y: np.ndarray, bottom: np.ndarray | None = None) -> str:
    """An SVG path along y that breaks where y is nan, or the outline of the areas between y and `bottom`."""
    known = np.flatnonzero(~np.isnan(y))
    path = ""
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if known.size else []:
        points = [*zip(x[run], y[run])]
        if bottom is not None:
            points += zip(x[run[::-1]], bottom[run[::-1]])
        elif len(run) == 1:
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
