"""Runs the frames of any source through the streaming segmenter, and the results through any number of sinks.

    frames = segment_frames(segmenter, source.frames, max_gap_s=source.max_gap_s)
    with overlay_video(...) as paint, rerun_sink(...) as show:
        run = feed(frames, [paint, show], "there is no usable image")

One thread reads and decodes, one runs the network, and the calling one feeds the sinks.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.geometry import MIN_SIDE

if TYPE_CHECKING:  # PyTorch takes seconds to import, and the player of bags does without; videos need no rosbags
    from sdcpc_ros.bags.reader import BagFrame
    from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

_STREAM = "offline"
_LISTED_PROBLEMS = 100  # all are counted
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ModelChoice:
    """Which checkpoint is loaded, and how it runs; as StreamingSegmenter takes it."""

    path: Path  #: of the checkpoint
    device: str = "cpu"
    backend: str = "eager"
    input_size: tuple[int, int] | None = None  #: (height, width)
    precision: str = "auto"

    @property
    def run_options(self) -> dict[str, Any]:
        """How it runs, by name."""
        return {name: value for name, value in vars(self).items() if name != "path"}

    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def load(self) -> StreamingSegmenter:
        """Loads the model in a thread that ends afterwards; raises as `load_checkpoint` and `StreamingSegmenter` do.

        GNU OpenMP gives each thread that uses it a team of threads. A second team makes each frame half as slow again
        where the teams outnumber the processors (docs/design_notes.md).
        """
        from sdcpc_ros.model_files.checkpoint import load_checkpoint
        from sdcpc_ros.streaming.segmenter import StreamingSegmenter

        with ThreadPoolExecutor(1) as loader:
            return loader.submit(lambda: StreamingSegmenter(load_checkpoint(self.path), **self.run_options)).result()


@dataclass(frozen=True)
class SourceFrame:
    """A decoded image of a video or bag."""

    number: int  #: from 0; images that cannot be decoded are counted too
    stamp_ns: int
    image: np.ndarray  #: (H, W, 3) uint8 RGB
    frame_id: str = ""
    encoding: str = ""
    truth: np.ndarray | None = None  #: (H, W) uint8, 255 = void
    bag_frame: BagFrame | None = None  #: the message it was decoded from; None if the source is not a bag

    @property
    def stamp_s(self) -> float:
        return self.stamp_ns / 1e9  # as the node divides, so that ages are equal to the last bit

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Unusable:
    """An image that could not be used, and the reason."""

    number: int
    problem: str


@dataclass(frozen=True)
class SegmentedFrame:
    """An image and its labels."""

    source: SourceFrame
    segmentation: Segmentation
    elapsed_ms: float = 0.0  #: from image to labels


#: Takes each frame in turn.
Sink = Callable[[SegmentedFrame | Unusable], None]


@dataclass
class Run:
    """Counts, times and problems of the frames of a source."""

    unusable: int = 0
    problems: list[str] = field(default_factory=list)  #: of the first unusable images
    elapsed_ms: array[float] = field(default_factory=lambda: array("f"))  #: of each frame, from image to labels
    network_ms: float = 0.0  #: of all frames together

    @property
    def frames(self) -> int:
        return len(self.elapsed_ms)


def feed(frames: Iterable[SegmentedFrame | Unusable], sinks: Sequence[Sink], nothing: str) -> Run:
    """Passes each frame to all sinks; the next frames are made meanwhile, in another thread.

    Raises BagError, which begins with `nothing`, if no frame is usable.
    """
    run = Run()
    with closing(prefetch(frames, depth=2)) as ahead:
        for frame in ahead:
            if isinstance(frame, SegmentedFrame):
                run.elapsed_ms.append(frame.elapsed_ms)
                run.network_ms += frame.segmentation.stage_ms.get("network", 0.0)
            else:
                run.unusable += 1
                run.problems += [frame.problem] if len(run.problems) < _LISTED_PROBLEMS else []
            for sink in sinks:
                sink(frame)
    if not run.frames:
        first = f"; the first: {run.problems[0]}" if run.problems else ""
        raise BagError(f"{nothing} ({run.unusable} unusable{first})")
    return run


def segment_frames(
    segmenter: StreamingSegmenter,
    frames: Iterable[SourceFrame | Unusable],
    *,
    max_gap_s: float = DEFAULT_MAX_GAP_S,
    confidence: bool = True,
) -> Iterator[SegmentedFrame | Unusable]:
    """Segments the frames as one new stream; the source runs ahead in its own thread.

    The segmenter has the limit `max_gap_s` for as long as frames are taken. An image too small for the network is
    yielded as Unusable.
    """
    before_s, segmenter.max_gap_s = segmenter.max_gap_s, max_gap_s
    segmenter.remove_stream(_STREAM)
    try:
        with closing(prefetch(frames)) as ahead:
            for frame in ahead:
                yield frame if isinstance(frame, Unusable) else _segment(segmenter, frame, confidence)
    finally:
        segmenter.max_gap_s = before_s
        segmenter.remove_stream(_STREAM)


def _segment(segmenter: StreamingSegmenter, frame: SourceFrame, confidence: bool) -> SegmentedFrame | Unusable:
    height, width = frame.size
    if min(height, width) < MIN_SIDE:
        smallest = f"at least {MIN_SIDE}x{MIN_SIDE} is needed"
        return Unusable(frame.number, f"image {frame.number} is {width}x{height} px; {smallest}")
    started = time.perf_counter()
    result = segmenter.segment(
        frame.image,
        frame.stamp_s,
        stream=_STREAM,
        confidence=confidence,
        frame_id=frame.frame_id,
        encoding=frame.encoding,
    )
    return SegmentedFrame(frame, result, (time.perf_counter() - started) * 1e3)


def prefetch(items: Iterable[_Item], depth: int = 4) -> Generator[_Item, None, None]:
    """The same items in the same order, made up to `depth` ahead in another thread.

    An exception of the source is raised here, after the items before it. Closing this iterator waits until the thread
    has closed the source.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        ahead = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, iterator, end))
                yield cast(_Item, item)
        finally:
            for future in ahead:
                future.cancel()
            if isinstance(items, Generator):  # its cleanup, in the thread that it ran in
                thread.submit(items.close).result()
