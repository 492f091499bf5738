"""Question e: what the ROS side costs: from an image's publication to its labels at a subscriber, less the network."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Effort, Timing
from benchmarks.networks import save_tiny_model
from benchmarks.node_load import CAMERA, SETTLE_S, one_at_a_time, running_bench
from benchmarks.rows import Row

TITLE = "e. The node over DDS: an image's way to its labels, less the network"
_TARGET_MS = 8.0
_DEADLINE_S = 120.0
_WARM_UP_FRAMES = 5


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        yield Row("the node, 1280x720 rgb8", note=f"no ROS 2 in this environment: {error}")
        return
    size = (120, 160) if effort.quick else (720, 1280)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        # Small, so that what is left of a frame's time is the ROS side's; its time is taken off anyway.
        model = Path(name, "tiny.safetensors")
        save_tiny_model(model)
        with running_bench(str(model), [CAMERA], size, Path(name)) as bench:
            one_at_a_time(bench, _DEADLINE_S, _WARM_UP_FRAMES)
            whole = Timing(tuple(one_at_a_time(bench, _DEADLINE_S, effort.rounds)))
            time.sleep(SETTLE_S)
            report = bench.report(CAMERA)
    os.environ.clear()
    os.environ.update(before)
    yield from _rows(whole, report, size, effort.rounds - len(whole.samples_ms))


def _rows(whole: Timing, report: dict[str, str], size: tuple[int, int], lost: int) -> Iterator[Row]:
    stages = {
        key.removesuffix(" p50/p95 (ms)"): tuple(float(part) for part in value.split("/"))
        for key, value in report.items()
        if key.endswith(" p50/p95 (ms)")
    }
    network_ms, in_node_ms = stages["network"][0], stages["total"][0]
    ros_side_ms = whole.median_ms - network_ms
    label = f"{size[1]}x{size[0]} rgb8"
    yield Row(
        f"{label}: the ROS side, publication to labels at a subscriber less the network / the target of 8 ms",
        ours_ms=ros_side_ms,
        peer_ms=_TARGET_MS,
        ratio=ros_side_ms / _TARGET_MS,
        low=(whole.percentile_ms(10) - network_ms) / _TARGET_MS,
        high=(whole.percentile_ms(90) - network_ms) / _TARGET_MS,
        target=1.0,
        ours_mb=size[0] * size[1] * 4 / 1e6,  # colours in, labels out
        note=f"{len(whole.samples_ms)} images, {lost} lost; p95 {whole.percentile_ms(95) - network_ms:.1f} ms",
    )
    working = {stage: p50 for stage, (p50, _) in stages.items() if stage not in ("total", "network")}
    split = {
        "over DDS, both ways": whole.median_ms - in_node_ms,
        **working,
        "waiting inside the node": in_node_ms - network_ms - sum(working.values()),
    }
    for stage, milliseconds in split.items():
        p95 = f"p95 {stages[stage][1]:.1f} ms" if stage in stages else ""
        ratio = milliseconds / ros_side_ms
        yield Row(f"{label}: of which {stage}", ours_ms=milliseconds, peer_ms=ros_side_ms, ratio=ratio, note=p95)
