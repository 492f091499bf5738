"""Question f: frames of several cameras through the network at once, against one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.measure import Effort, interleaved, megabytes
from benchmarks.networks import make_config, make_inputs, make_step
from benchmarks.rows import Row
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.inference import create_backend
from sdcpc_ros.inference.step import Step
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.network import FrameMemory

TITLE = "f. Batches: B cameras' frames at once, eagerly, against one by one; times are of a frame"
_BATCHES = (2, 4, 6)


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    if effort.quick:
        step, size, label = (
            make_step(make_config("a tiny network", quick=True), effort.device),
            (64, 96),
            "a tiny network",
        )
    else:
        checkpoint = load_checkpoint(resolve_model(DEFAULT_MODEL))
        step = Step(checkpoint.build_model(), checkpoint.mean, checkpoint.std, effort.device)
        size, label = checkpoint.input_size, DEFAULT_MODEL
    backend = create_backend("eager", step, size)
    image, references, age_s = make_inputs(step, size)

    def run(batch: int) -> None:
        pixels, ages_s = image.expand(batch, *image.shape[1:]), age_s.expand(batch, -1)
        # The parts of a batch lie apart, in each stream's buffer: concatenating them is part of the cost.
        memories = FrameMemory(*(torch.cat([part] * batch) for part in references)) if batch > 1 else references
        backend.step(pixels.contiguous(), memories, ages_s.contiguous())

    timings = interleaved({str(batch): lambda batch=batch: run(batch) for batch in (1, *_BATCHES)}, effort)  # type: ignore[misc]
    for batch in _BATCHES:
        compared = timings[str(batch)].compared_to(timings["1"])
        of_a_frame = {name: compared[name] / batch for name in ("ours_ms", "ratio", "low", "high")}
        least_mb = megabytes(image, references)
        yield Row(
            f"{label} {size[1]}x{size[0]}: {batch} at once / one by one",
            **(compared | of_a_frame),
            ours_mb=least_mb + megabytes(step.model) / batch,
            peer_mb=least_mb + megabytes(step.model),
            note=f"{timings[str(batch)].median_ms:.0f} ms until the masks of all {batch} are there",
        )
