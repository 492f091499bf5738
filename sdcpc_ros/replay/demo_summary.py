"""The demo's summary as a table, a headline and a hint."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

_TOLERATED_DROPS = 0.1  # of the frames; with more there is a hint


def demo_table(summary: dict[str, Any]) -> Table:
    timing, quality, node = summary["timing"], summary["quality"], summary["node_diagnostics"]
    latency, published, dropped = timing["latency_ms"], timing["frames_published"], timing["frames_dropped"]
    table = Table(title=f"{summary['model']} on {summary['bag']}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right", style="bold")
    table.add_column("meaning")
    table.add_row("frames", str(published), f"images published, at {_number(timing['input_rate_hz'], '.1f Hz')}")
    table.add_row("frame rate", _number(timing["frame_rate_hz"], ".1f Hz"), "masks received a second")
    reasons = "frames without a mask"
    if {"received", "dropped", "rejected"} <= node.keys():
        lost = max(0, published - int(node["received"]))
        reasons = f"{node['dropped']} for newer ones, {node['rejected']} rejected, {lost} lost"
    table.add_row("dropped", f"{dropped} ({dropped / published:.0%})", reasons)
    latency_p50_p95 = f"{_number(latency['p50'], '.0f')} / {_number(latency['p95'], '.0f ms')}"
    table.add_row("latency p50 / p95", latency_p50_p95, "image published to mask received")
    ending = " p50/p95 (ms)"
    stages = {key.removesuffix(ending): value for key, value in node.items() if key.endswith(ending)}
    for stage in sorted(stages, key=lambda stage: stage != "total"):
        table.add_row(f"  {stage}", f"{stages[stage]} ms", "of it, in the node" if stage == "total" else "")
    table.add_section()
    if quality["judged_frames"]:
        table.add_row("mIoU", _percent(quality["miou"]), f"{quality['judged_frames']} masks against the ground truth")
        table.add_row("mVC8", _percent(quality["mvc8"]), "steady labels where the truth is")
        table.add_row("mVC16", _percent(quality["mvc16"]), "the same over 16 masks instead of 8")
        table.caption = "mVC runs over consecutive masks: dropped frames are left out."
        table.caption_justify = "left"
    else:
        table.add_row("mIoU, mVC8", "-", "no ground truth of its classes")
    table.add_row("confidence", _percent(quality["mean_confidence"]), "of the network in its labels, mean")
    return table


def demo_headline(summary: dict[str, Any]) -> tuple[str, str]:
    """Title and subtitle of the contact sheet."""
    timing, quality = summary["timing"], summary["quality"]
    facts = [
        f"{timing['frames_labelled']} of {timing['frames_published']} frames",
        f"{_number(timing['frame_rate_hz'], '.1f')} masks a second",
        f"latency {_number(timing['latency_ms']['p50'], '.0f ms')}",
    ]
    if quality["judged_frames"]:
        facts += [f"mIoU {_percent(quality['miou'])}", f"mVC8 {_percent(quality['mvc8'])}"]
    bag = summary["bag"].replace("_", " ")
    return f"{bag[:1].upper()}{bag[1:]}, segmented live by {summary['model']}", ",  ".join(facts)


def demo_hint(summary: dict[str, Any]) -> str | None:
    """How to avoid dropped frames, if there were many."""
    timing = summary["timing"]
    frame_rate, input_rate = timing["frame_rate_hz"], timing["input_rate_hz"]
    if not (frame_rate and input_rate) or timing["frames_dropped"] < _TOLERATED_DROPS * timing["frames_published"]:
        return None
    slower = math.floor(90 * summary["playback_rate"] * frame_rate / input_rate) / 100
    return (
        f"This machine makes {frame_rate:.1f} masks a second from {input_rate:.1f} images: the node takes the newest "
        f"frame and drops the others. `sdcpc demo --rate {max(slower, 0.01):g}` plays slowly enough for all."
    )


def _number(value: float | None, format_and_unit: str) -> str:
    """`.1f Hz` -> 14.9 Hz; a dash for None."""
    format_spec, _, unit = format_and_unit.partition(" ")
    return "-" if value is None else f"{value:{format_spec}} {unit}".rstrip()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
