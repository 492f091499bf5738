"""Question f: a frame's way through StreamingSegmenter: alone, and with frames of several cameras at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.profiler import ProfilerActivity

from benchmarks.measure import Effort, Timing
from benchmarks.networks import tiny_checkpoint
from benchmarks.rows import Row
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.streaming.stream_frame import StreamFrame

TITLE = "f. An image's way to its labels, without ROS: frames of B cameras at once, against one by one"
_BATCHES = (1, 2, 4, 8)
#: Of compiled batches on a GPU, ms a frame. No others are compiled, as each takes a part of a minute.
_TARGETS_MS = {1: 1.2, 8: 0.5}
_WARM_UP = 5


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured. Times are of a frame: those of the batch, divided by the number of its frames."""
    checkpoint = tiny_checkpoint() if effort.quick else load_checkpoint(resolve_model(DEFAULT_MODEL))
    model = "a tiny network" if effort.quick else DEFAULT_MODEL
    size = (48, 64) if effort.quick else (720, 1280)
    alone: Timing | None = None
    for backend in ("eager", "inductor") if effort.on_gpu else ("eager",):
        if effort.on_gpu:
            torch.cuda.empty_cache()
        before_mib = _reserved_mib(effort)
        segmenter = StreamingSegmenter(checkpoint, device=str(effort.device), backend=backend)
        for batch in _BATCHES if backend == "eager" else _TARGETS_MS:
            images = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
            frames = [StreamFrame(image, stream=f"camera {number}") for number, image in enumerate(images)]
            call = partial(_segment, segmenter, frames)
            first_ms, *_ = [_ms(call) for _ in range(_WARM_UP)]  # they fill the frame buffers
            timing = Timing(tuple(_ms(call) / batch for _ in range(effort.rounds * (8 if effort.on_gpu else 1))))
            alone = alone or timing
            target_ms = _TARGETS_MS.get(batch) if backend == "inductor" else None
            yield Row(
                f"{model} {size[1]}x{size[0]} {segmenter.precision}, {backend}: {batch} at once / eager, one by one",
                **timing.compared_to(alone),
                target=target_ms and target_ms / alone.median_ms,
                ours_mib=_reserved_mib(effort) - before_mib if effort.on_gpu else None,
                note=f"p50 {timing.median_ms:.2f} ms, p95 {timing.percentile_ms(95):.2f} ms, "
                f"{1e3 / timing.median_ms:.0f} frames a second; first {first_ms:.0f} ms; {_work(call, effort)}",
            )
        segmenter.close()


def _segment(segmenter: StreamingSegmenter, frames: list[StreamFrame]) -> None:
    for outcome in segmenter.segment_batch(frames):
        if isinstance(outcome, Exception):
            raise outcome


def _ms(call: Callable[[], object]) -> float:
    """Of a call that waits for its results itself."""
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def _work(call: Callable[[], object], effort: Effort) -> str:
    """How many copies between host and device, and kernels, a call takes; on a CPU, operators."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if effort.on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        call()
    names = [event.name for event in profiler.events() if event.device_type.name == effort.device.type.upper()]
    if not effort.on_gpu:
        return f"{sum(name.startswith('aten::') for name in names)} operators, {names.count('aten::copy_')} copies"
    copies = sum(name.startswith("Memcpy") and "DtoD" not in name for name in names)
    return f"{sum(not name.startswith(('Memcpy', 'Memset')) for name in names)} kernels, {copies} copies"


def _reserved_mib(effort: Effort) -> float:
    """What PyTorch holds of a GPU, CUDA graphs included, MiB."""
    return torch.cuda.memory_reserved(effort.device) / 2**20 if effort.on_gpu else 0.0
