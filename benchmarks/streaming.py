"""Question b: what temporal context costs: streaming against encoding the references again, and against one frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from benchmarks.measure import Effort, gflop, interleaved, megabytes
from benchmarks.networks import make_config, make_inputs, make_step, normalised
from benchmarks.rows import Row
from sdcpc_ros.inference.step import Step
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.frame_buffer import FrameBuffer, MemoryPool

TITLE = "b. Streaming: a frame with its cached references, against encoding them again, and against one frame alone"
#: The offset of a stream with a long history, frames.
_LONG = (60,)


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    encoders = ("a tiny network",) if effort.quick else ("mit_b0", "efficientnet_lite2", "mit_b2")
    size = (64, 96) if effort.quick else (360, 480)
    for encoder in encoders:
        yield from _one_network(encoder, size, effort)


def _one_network(encoder: str, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    config = make_config(encoder, quick=effort.quick)
    step = make_step(config, effort.device)
    model = step.model
    image, references, age_s = make_inputs(step, size)
    with torch.inference_mode():
        pixels = normalised(step, image)
        clip = pixels[:, None].expand(-1, age_s.shape[1] + 1, -1, -1, -1).contiguous()
        frame = model.encode(pixels)
        inputs = FrameMemory(*(part.permute(0, 1, 4, 2, 3) for part in references))
        aggregate = model.dssa
        long = make_step(replace(config, reference_offsets=_LONG), effort.device)
        timings = interleaved(
            {
                "streaming": lambda: step(image, *references, age_s),
                "again": lambda: model(clip),
                "single": lambda: model(clip[:, -1:]),
                "aggregation": lambda: aggregate(frame.memory, inputs, age_s, False),  # as a stream calls it
                "short history": _stream(step, image, references),
                "long history": _stream(long, image, references),
            },
            effort,
        )
    work = _work(step, size)
    label, weights, frames = f"{encoder} {size[1]}x{size[0]}", megabytes(model), age_s.shape[1] + 1
    streaming_mb = weights + megabytes(image, references, frame.memory, frame.logits)
    yield Row(
        f"{label}: streaming / encoding {frames} frames",
        **timings["streaming"].compared_to(timings["again"]),
        target=1.05 / frames,
        ours_gflop=work["streaming"],
        peer_gflop=work["again"],
        ours_mb=streaming_mb,
        peer_mb=weights + megabytes(clip, frame.logits),
    )
    yield Row(
        f"{label}: streaming / one frame alone",
        **timings["streaming"].compared_to(timings["single"]),
        ours_gflop=work["streaming"],
        peer_gflop=work["single"],
        ours_mb=streaming_mb,
        peer_mb=weights + megabytes(pixels, frame.logits),
    )
    yield Row(
        f"{label}: aggregation / the frame's time",
        **timings["aggregation"].compared_to(timings["streaming"]),
        target=0.15,
        ours_gflop=work["aggregation"],
        peer_gflop=work["streaming"],
        ours_mb=megabytes(aggregate, references, frame.memory, frame.logits),
        peer_mb=streaming_mb,
    )
    yield Row(
        f"{label}: a stream that remembers {max(_LONG)} frames / {max(config.reference_offsets)}",
        **timings["long history"].compared_to(timings["short history"]),
        target=1.05,
        ours_gflop=work["streaming"],
        peer_gflop=work["streaming"],
    )


def _stream(step: Step, image: torch.Tensor, references: FrameMemory) -> Callable[[], None]:
    """One more frame of a stream whose buffer is full."""
    pool = MemoryPool(FrameMemory(*(torch.zeros_like(part[:, 0]) for part in references)))
    buffer, device = FrameBuffer(step.config.reference_offsets, pool), image.device
    for _ in range(max(step.config.reference_offsets)):
        buffer.push(buffer.next_stamp_s)

    def call() -> None:
        stamp_s = buffer.next_stamp_s
        slots, ages_s = buffer.references(stamp_s)
        remembered = pool.gather(torch.tensor([slots], device=device))
        _, *memory = step(image, *remembered, torch.tensor([ages_s], device=device))
        pool.store(torch.tensor([buffer.next_slot], device=device), FrameMemory(*memory))
        buffer.push(stamp_s)

    return call


def _work(step: Step, size: tuple[int, int]) -> dict[str, float]:
    """10^9 operations of each, on meta tensors. Window attention counts as it is computed, haloes included."""
    meta = make_step(step.config, torch.device("cpu")).to("meta")
    model = meta.model
    image, references, age_s = make_inputs(step, size)
    meta_references = FrameMemory(*(part.to("meta") for part in references))
    image, age_s = image.to("meta"), age_s.to("meta")
    clip = torch.empty((1, age_s.shape[1] + 1, 3, *size), device="meta")
    frame = model.encode(clip[:, 0])
    inputs = FrameMemory(*(part.permute(0, 1, 4, 2, 3) for part in meta_references))
    return {
        "streaming": gflop(lambda: meta(image, *meta_references, age_s)),
        "again": gflop(lambda: model(clip)),
        "single": gflop(lambda: model(clip[:, :1])),
        "aggregation": gflop(lambda: model.dssa(frame.memory, inputs, age_s, False)),
    }
