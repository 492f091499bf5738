"""A segmenter for frames that one thread segments while another takes what comes of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sdcpc_ros.checkpoint import load_checkpoint
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


def load_segmenter(
    model: Path, *, device: str, backend: str, precision: str = "auto", input_size: tuple[int, int] | None = None
) -> StreamingSegmenter:
    """The segmenter of a checkpoint; raises as `load_checkpoint` and `StreamingSegmenter` do.

    It is loaded in a thread that ends. GNU OpenMP gives each thread that uses it a team, and has the teams wait asleep
    where they outnumber the processors: beside the team of the thread that loaded it, each frame takes half as long
    again (`python -m benchmarks.waiting`).
    """

    def load() -> StreamingSegmenter:
        return StreamingSegmenter(
            load_checkpoint(model), device=device, backend=backend, precision=precision, input_size=input_size
        )

    with ThreadPoolExecutor(1) as loader:
        return loader.submit(load).result()
