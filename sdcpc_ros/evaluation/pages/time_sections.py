"""What of a report goes by time: the timeline, and what a live run adds."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.numbers import counted, milliseconds, percent
from sdcpc_ros.evaluation.pages.rendering import PAGE_PX, DrawnChart, Tile
from sdcpc_ros.evaluation.pages.timeline import Line, Mark, Strip, timeline
from sdcpc_ros.evaluation.report_file import column

_MOST_MARKS = 40
_MOST_ROWS = 50
_RESETS = {
    "backward": "time jumped back",
    "gap": "gap in time",
    "size": "other size",
    "encoding": "other encoding",
    "frame_id": "other frame_id",
}


def frame_times(report: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Where each frame stands on the axis of time, (N,), and its name: seconds, or frames where time jumps back."""
    stamps = np.array(report["frames"]["stamp_ns"], np.int64)
    if (np.diff(stamps) < 0).any():
        return np.array(report["frames"]["number"], np.float64), "frame"
    return (stamps - stamps[0]) / 1e9, "seconds"


def time_of(report: dict[str, Any], index: int) -> str:
    """When a frame was taken, from the first on."""
    stamps = report["frames"]["stamp_ns"]
    return f"{(stamps[index] - stamps[0]) / 1e9:.2f} s"


def time_section(report: dict[str, Any]) -> dict[str, Any]:
    times, axis_name = frame_times(report)
    strips = _strips(report)
    resets = [(index, cause) for index, cause in enumerate(report["frames"]["reset"]) if cause is not None]
    marks = [Mark(index, _RESETS.get(cause, str(cause))) for index, cause in resets[:_MOST_MARKS]]

    def draw(name: str, width: float) -> Any:
        told = "; ".join(f"{strip.lines[0].title}, typically {strip.typical_name}" for strip in strips)
        return timeline(name, f"Over time: {told}.", times, axis_name, strips, width, marks)

    meaning = "One line a quantity; a dotted line shows what is typical."
    if resets:
        meaning += " Dashed lines: the network's memory was emptied there, and it began anew."
    return {
        "meaning": meaning,
        "chart": DrawnChart.of("time", draw, PAGE_PX),
        "resets_title": f"The memory was emptied {counted(len(resets), 'time')}"
        + (f"; the first {_MOST_ROWS}" if len(resets) > _MOST_ROWS else ""),
        "resets": [
            (report["frames"]["number"][index], time_of(report, index), _RESETS.get(cause, cause))
            for index, cause in resets[:_MOST_ROWS]
        ],
    }


def live_section(report: dict[str, Any]) -> dict[str, Any] | None:
    """What only the running node shows. Everything in it is optional but the section itself."""
    live = report.get("live")
    if not live:
        return None
    times, axis_name = frame_times(report)
    latency = _optional(live.get("frames", {}).get("latency_ms"), len(times))
    agreement = _optional(live.get("frames", {}).get("agreement"), len(times))
    typical = live.get("latency_ms", {}).get("p50")
    strips = []
    if latency is not None:
        strips.append(
            Strip([Line("Stamp to publication", latency)], "ms", typical, f"median {milliseconds(typical)}", True)
        )
    if agreement is not None:
        strips.append(Strip([Line("Labels equal to offline", 100 * agreement)]))

    def draw(name: str, width: float) -> Any:
        return timeline(name, "The live run over time.", times, axis_name, strips, width)

    differences = live.get("differences", [])
    numbers = {number: index for index, number in enumerate(report["frames"]["number"])}
    return {
        "meaning": "A line that breaks is a frame that got no labels.",
        "tiles": _live_tiles(live),
        "chart": DrawnChart.of("live", draw, PAGE_PX) if strips else None,
        "causes": list(live.get("causes", {}).items()),
        "differences_title": f"The {counted(len(differences), 'frame')} that differ"
        + (f"; the first {_MOST_ROWS}" if len(differences) > _MOST_ROWS else ""),
        "differences": [
            (
                each["number"],
                time_of(report, numbers[each["number"]]) if each["number"] in numbers else "–",
                percent(each.get("agreement"), 2),
                each.get("why", ""),
            )
            for each in differences[:_MOST_ROWS]
        ],
        "node": list(live.get("node", {}).items()),
    }


def _strips(report: dict[str, Any]) -> list[Strip]:
    scores, timing = report["scores"], report.get("timing", {})

    def share(title: str, name: str, typical: str) -> Strip | None:
        values, value = 100 * column(report, name), scores[name]
        if np.isnan(values).all() or value is None:
            return None
        return Strip([Line(title, values)], "%", 100 * value, f"{typical} {percent(value)}")

    found = [share("Mean IoU", "miou", "all frames"), share("mVC8", "mvc8", "mean")]
    longer = 100 * column(report, "mvc16")
    if found[1] is not None and not np.isnan(longer).all():
        found[1] = Strip([found[1].lines[0], Line("mVC16", longer)], "%", found[1].typical, found[1].typical_name)
    found += [share("Steady pixels", "steady", "mean"), share("Confidence", "confidence", "mean")]
    elapsed = _optional(timing.get("frames_ms"), len(report["frames"]["number"]))
    if elapsed is not None:
        median = float(np.median(elapsed))
        found.append(Strip([Line("Time a frame", elapsed)], "ms", median, f"median {milliseconds(median)}", True))
    return [strip for strip in found if strip is not None]


def _live_tiles(live: dict[str, Any]) -> list[Tile]:
    found = []
    if live.get("frames_dropped") is not None:
        dropped, published = live["frames_dropped"], live.get("frames_published")
        meaning = f"Of {published} images played; the node always takes the newest." if published else ""
        found.append(Tile("Dropped frames", str(dropped), meaning, main=True))
    for key, name, meaning in (
        ("latency_ms", "Latency", "From the image's stamp to the publication of its labels, the median"),
        ("jitter_ms", "Jitter", "How much the time from one mask to the next strays, the median"),
    ):
        values = live.get(key) or {}
        if values.get("p50") is not None:
            value, unit = milliseconds(values["p50"]).split()
            meaning += f"; 95 %: {milliseconds(values.get('p95'))}, most: {milliseconds(values.get('max'))}."
            found.append(Tile(name, value, meaning, unit, main=True))
    if live.get("agreement") is not None:
        equal, compared = live.get("equal"), live.get("compared")
        meaning = (
            f"Pixels with the very label that the offline run gave. {equal} of {compared} frames are equal in all."
        )
        found.append(Tile("Equal to offline", f"{100 * live['agreement']:.2f}", meaning, "%", main=True))
    if live.get("frame_rate_hz") is not None:
        played = live.get("input_rate_hz")
        meaning = "Masks a second" + (f", of {played:.1f} images a second played." if played is not None else ".")
        found.append(Tile("Rate", f"{live['frame_rate_hz']:.1f}", meaning, "Hz"))
    return found


def _optional(values: list[float | None] | None, length: int) -> np.ndarray | None:
    """A column of the length of the frames, (N,) float64; None when there is none, or nothing in it."""
    if values is None or len(values) != length or all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
