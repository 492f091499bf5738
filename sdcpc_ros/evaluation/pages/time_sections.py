"""The sections of a page with time series: the timeline, and the live run."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.rendering import Section, Tile, count_noun, milliseconds, percent
from sdcpc_ros.evaluation.pages.timeline import Strip, timeline
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
    parts: list[tuple[str, Any]] = [
        ("timeline", timeline(*frame_times(report), _strips(report), resets[:_MAX_MARKS])),
    ]
    if resets:
        numbers = report["frames"]["number"]
        title = f"The frame buffer was emptied {count_noun(len(resets), 'time')}"
        rows = [(numbers[index], time_of(report, index), cause) for index, cause in resets]
        parts.append(_details(title, ["frame", "at", "why"], rows))
    return Section("Over time", meaning, parts)


def live_section(report: dict[str, Any]) -> Section | None:
    """The live run. Every part of it is optional."""
    live = report.get("live")
    if not live:
        return None
    numbers, columns, strips = report["frames"]["number"], live.get("frames", {}), []
    latency, agreement = (_optional(columns.get(name), len(numbers)) for name in ("latency_ms", "agreement"))
    if latency is not None:
        median = live.get("latency_ms", {}).get("p50")
        name = f"median {milliseconds(median)}"
        strips.append(Strip({"Stamp to publication": latency}, "ms", median, name, from_zero=True))
    if agreement is not None:
        strips.append(Strip({"Labels equal to offline": 100 * agreement}))
    parts: list[tuple[str, Any]] = [("tiles", _live_tiles(live))]
    if strips:
        parts.append(("timeline", timeline(*frame_times(report), strips)))
    if live.get("causes"):
        parts.append(("heading", "Where live and offline labels differ"))
        parts.append(("grid", {"head": ["why", "frames"], "rows": live["causes"].items()}))
    if live.get("differences"):
        at = {number: time_of(report, index) for index, number in enumerate(numbers)}
        rows = [
            (each["number"], at.get(each["number"], "–"), percent(each.get("agreement"), 2), each.get("why", ""))
            for each in live["differences"]
        ]
        title = f"The {count_noun(len(rows), 'frame')} that differ"
        parts.append(_details(title, ["frame", "at", "equal pixels", "why"], rows))
    if live.get("node"):
        parts.append(_details("What the node said of itself", [], list(live["node"].items())))
    meaning = "The recording was also played to the running node. A line that breaks is a frame that got no labels."
    return Section("Live", meaning, parts)


def _details(title: str, head: list[str], rows: list[Any]) -> tuple[str, Any]:
    """A table to unfold, of the first rows."""
    more = f"; the first {_MAX_ROWS}" if len(rows) > _MAX_ROWS else ""
    return "details", {"title": title + more, "head": head, "rows": rows[:_MAX_ROWS]}


def _strips(report: dict[str, Any]) -> list[Strip]:
    scores, strips = report["scores"], []
    for key, title, typical in (
        ("miou", "Mean IoU", "all frames"),
        ("mvc8", "mVC8", "mean"),
        ("steady", "Steady pixels", "mean"),
        ("confidence", "Confidence", "mean"),
    ):
        lines = {title: 100 * column(report, key)}
        if np.isnan(lines[title]).all() or scores[key] is None:
            continue
        if key == "mvc8" and not np.isnan(longer := 100 * column(report, "mvc16")).all():
            lines["mVC16"] = longer
        strips.append(Strip(lines, "%", 100 * scores[key], f"{typical} {percent(scores[key])}"))
    elapsed = _optional(report.get("timing", {}).get("frames_ms"), len(report["frames"]["number"]))
    if elapsed is not None:
        median = float(np.median(elapsed))
        strips.append(
            Strip({"Time per frame": elapsed}, "ms", median, f"median {milliseconds(median)}", from_zero=True)
        )
    return strips


def _live_tiles(live: dict[str, Any]) -> list[Tile]:
    found = []
    if live.get("frames_dropped") is not None:
        meaning = f"Of {live.get('frames_published', 'the')} images played; the node always takes the newest."
        found.append(Tile("Dropped frames", str(live["frames_dropped"]), meaning))
    for key, name, meaning in (
        ("latency_ms", "Latency", "From the image's stamp to the publication of its labels, the median"),
        ("jitter_ms", "Jitter", "How much the latency changes from one mask to the next, the median"),
    ):
        values = live.get(key) or {}
        if values.get("p50") is not None:
            value, unit = milliseconds(values["p50"]).split()
            meaning += f"; 95 %: {milliseconds(values.get('p95'))}, most: {milliseconds(values.get('max'))}."
            found.append(Tile(name, value, meaning, unit))
    if live.get("agreement") is not None:
        equal, compared = live.get("equal"), live.get("compared")
        meaning = f"Pixels with the label of the offline run. {equal} of {compared} frames are equal in all pixels."
        found.append(Tile("Equal to offline", f"{100 * live['agreement']:.2f}", meaning, "%"))
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
