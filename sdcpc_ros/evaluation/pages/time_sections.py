"""The sections of a page with time series: the timeline, and the live run."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.numbers import count_noun, milliseconds, percent
from sdcpc_ros.evaluation.pages.rendering import PAGE_PX, DrawnChart, Tile
from sdcpc_ros.evaluation.pages.timeline import Line, Mark, Strip, timeline
from sdcpc_ros.evaluation.report_file import column

_MAX_MARKS = 40
_MAX_ROWS = 50
_RESETS = {
    "backward": "time jumped back",
    "gap": "gap in time",
    "size": "other size",
    "encoding": "other encoding",
    "frame_id": "other frame_id",
}


def frame_times(report: dict[str, Any]) -> tuple[np.ndarray, str]:
    """The frames' positions on the axis of time, (N,), and its unit: seconds, or frames if time jumps back."""
    stamps = np.array(report["frames"]["stamp_ns"], np.int64)
    if (np.diff(stamps) < 0).any():
        return np.array(report["frames"]["number"], np.float64), "frame"
    return (stamps - stamps[0]) / 1e9, "seconds"


def time_of(report: dict[str, Any], index: int) -> str:
    """A frame's time since the first."""
    stamps = report["frames"]["stamp_ns"]
    return f"{(stamps[index] - stamps[0]) / 1e9:.2f} s"


def time_section(report: dict[str, Any]) -> dict[str, Any]:
    times, axis_name = frame_times(report)
    strips = _strips(report)
    resets = [(index, cause) for index, cause in enumerate(report["frames"]["reset"]) if cause is not None]
    marks = [Mark(index, _RESETS.get(cause, str(cause))) for index, cause in resets[:_MAX_MARKS]]
    description = "; ".join(f"{strip.lines[0].title}, typically {strip.typical_name}" for strip in strips)

    def draw(name: str, width: float) -> Any:
        return timeline(name, f"Over time: {description}.", times, axis_name, strips, width, marks)

    meaning = "One line a quantity; a dotted line shows what is typical."
    if resets:
        meaning += " Dashed lines: the network's memory was emptied."
    return {
        "meaning": meaning,
        "chart": DrawnChart.of("time", draw, PAGE_PX),
        "resets_title": f"The memory was emptied {count_noun(len(resets), 'time')}{_first(len(resets))}",
        "resets": [
            (report["frames"]["number"][index], time_of(report, index), _RESETS.get(cause, cause))
            for index, cause in resets[:_MAX_ROWS]
        ],
    }


def live_section(report: dict[str, Any]) -> dict[str, Any] | None:
    """The live run. Every part of it is optional."""
    live = report.get("live")
    if not live:
        return None
    times, axis_name = frame_times(report)
    latency = _optional(live.get("frames", {}).get("latency_ms"), len(times))
    agreement = _optional(live.get("frames", {}).get("agreement"), len(times))
    strips = []
    if latency is not None:
        median = live.get("latency_ms", {}).get("p50")
        name = f"median {milliseconds(median)}"
        strips.append(Strip([Line("Stamp to publication", latency)], "ms", median, name, from_zero=True))
    if agreement is not None:
        strips.append(Strip([Line("Labels equal to offline", 100 * agreement)]))

    def draw(name: str, width: float) -> Any:
        return timeline(name, "The live run over time.", times, axis_name, strips, width)

    differences = live.get("differences", [])
    at = {number: time_of(report, index) for index, number in enumerate(report["frames"]["number"])}
    return {
        "meaning": "A line that breaks is a frame that got no labels.",
        "tiles": _live_tiles(live),
        "chart": DrawnChart.of("live", draw, PAGE_PX) if strips else None,
        "causes": list(live.get("causes", {}).items()),
        "differences_title": f"The {count_noun(len(differences), 'frame')} that differ{_first(len(differences))}",
        "differences": [
            (each["number"], at.get(each["number"], "–"), percent(each.get("agreement"), 2), each.get("why", ""))
            for each in differences[:_MAX_ROWS]
        ],
        "node": list(live.get("node", {}).items()),
    }


def _first(count: int) -> str:
    return f"; the first {_MAX_ROWS}" if count > _MAX_ROWS else ""


def _strips(report: dict[str, Any]) -> list[Strip]:
    scores, strips = report["scores"], []
    for key, title, typical in (
        ("miou", "Mean IoU", "all frames"),
        ("mvc8", "mVC8", "mean"),
        ("steady", "Steady pixels", "mean"),
        ("confidence", "Confidence", "mean"),
    ):
        lines = [Line(title, 100 * column(report, key))]
        if np.isnan(lines[0].values).all() or scores[key] is None:
            continue
        if key == "mvc8" and not np.isnan(longer := 100 * column(report, "mvc16")).all():
            lines.append(Line("mVC16", longer))
        strips.append(Strip(lines, "%", 100 * scores[key], f"{typical} {percent(scores[key])}"))
    elapsed = _optional(report.get("timing", {}).get("frames_ms"), len(report["frames"]["number"]))
    if elapsed is not None:
        median = float(np.median(elapsed))
        name = f"median {milliseconds(median)}"
        strips.append(Strip([Line("Time a frame", elapsed)], "ms", median, name, from_zero=True))
    return strips


def _live_tiles(live: dict[str, Any]) -> list[Tile]:
    found = []
    if live.get("frames_dropped") is not None:
        dropped, published = live["frames_dropped"], live.get("frames_published")
        meaning = f"Of {published} images played; the node always takes the newest." if published else ""
        found.append(Tile("Dropped frames", str(dropped), meaning, main=True))
    for key, name, meaning in (
        ("latency_ms", "Latency", "From the image's stamp to the publication of its labels, the median"),
        ("jitter_ms", "Jitter", "How much the latency changes from one mask to the next, the median"),
    ):
        values = live.get(key) or {}
        if values.get("p50") is not None:
            value, unit = milliseconds(values["p50"]).split()
            meaning += f"; 95 %: {milliseconds(values.get('p95'))}, most: {milliseconds(values.get('max'))}."
            found.append(Tile(name, value, meaning, unit, main=True))
    if live.get("agreement") is not None:
        equal, compared = live.get("equal"), live.get("compared")
        meaning = f"Pixels with the label of the offline run. {equal} of {compared} frames are equal in all pixels."
        found.append(Tile("Equal to offline", f"{100 * live['agreement']:.2f}", meaning, "%", main=True))
    if live.get("frame_rate_hz") is not None:
        played = live.get("input_rate_hz")
        meaning = "Masks a second" + (f", of {played:.1f} images a second played." if played is not None else ".")
        found.append(Tile("Rate", f"{live['frame_rate_hz']:.1f}", meaning, "Hz"))
    return found


def _optional(values: list[float | None] | None, length: int) -> np.ndarray | None:
    """A column of this length, (N,) float64; None if it is missing or empty."""
    if values is None or len(values) != length or all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
