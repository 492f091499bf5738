"""Runs the frames of any source through the streaming segmenter; decoding overlaps inference."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import decode_image, image_encoding
from sdcpc_ros.bags.reader import BagFrame, BagReader
from sdcpc_ros.images.label_pictures import BadLabels, resized_labels
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.ground_truth import GroundTruth
from sdcpc_ros.replay.prefetch import prefetch
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.geometry import MIN_SIDE
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

_STREAM = "offline"


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
    reset: str | None  #: why the memory was emptied before this frame
    elapsed_ms: float  #: from image to labels

    @property
    def number(self) -> int:
        return self.source.number


def load_segmenter(
    model: Path, *, device: str, backend: str, precision: str = "auto", input_size: tuple[int, int] | None = None
) -> StreamingSegmenter:
    """Loads a checkpoint in a thread that ends afterwards; raises as `load_checkpoint` and `StreamingSegmenter` do.

    GNU OpenMP gives each thread that uses it a team of threads. A second team makes each frame half as slow again where
    the teams outnumber the processors (`python -m benchmarks.waiting`).
    """

    def load() -> StreamingSegmenter:
        return StreamingSegmenter(
            load_checkpoint(model), device=device, backend=backend, precision=precision, input_size=input_size
        )

    with ThreadPoolExecutor(1) as loader:
        return loader.submit(load).result()


def bag_frames(
    bag: BagReader,
    camera: str,
    truth: GroundTruth,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    every: int = 1,
    resize_truth: bool = False,
    companions: tuple[str, ...] = (),
) -> Iterator[SourceFrame | Unusable]:
    """The images of a bag's camera with their ground truth.

    `every`: only images whose number is a multiple of this; the others are not decoded and keep their numbers.
    `resize_truth`: a truth of another size is resized to its image, by the nearest pixel; BagError without it.
    `companions`: further topics, whose messages come with the `bag_frame` of each image.
    """
    frames = bag.frames(camera, truth.topic, *companions, start_s=start_s, duration_s=duration_s)
    for number, frame in enumerate(frames):
        if number % every:
            continue
        try:
            image, frame_id, encoding = bag.decode(frame.camera, _decode)
        except BagError as error:
            yield Unusable(number, str(error))
            continue
        name = f"bag '{bag.path}': the truth of image {number}"
        labels = _fit(truth.of(frame, number), image.shape[:2], name, resize_truth)
        yield SourceFrame(number, frame.stamp_ns, image, frame_id, encoding, labels, frame)


def segment_frames(
    segmenter: StreamingSegmenter,
    frames: Iterable[SourceFrame | Unusable],
    *,
    max_gap_s: float = DEFAULT_MAX_GAP_S,
    confidence: bool = True,
) -> Iterator[SegmentedFrame | Unusable]:
    """Segments the frames as one new stream; the source runs ahead in its own thread.

    `max_gap_s` is set in the segmenter. An image too small for the network is yielded as Unusable.
    """
    segmenter.remove_stream(_STREAM)
    segmenter.max_gap_s = max_gap_s
    with closing(prefetch(frames)) as ahead:
        for frame in ahead:
            if isinstance(frame, Unusable):
                yield frame
                continue
            height, width = frame.size
            if min(height, width) < MIN_SIDE:
                smallest = f"at least {MIN_SIDE}x{MIN_SIDE} is needed"
                yield Unusable(frame.number, f"image {frame.number} is {width}x{height} px; {smallest}")
                continue
            started = time.perf_counter()
            result = segmenter.segment(
                frame.image,
                frame.stamp_s,
                stream=_STREAM,
                confidence=confidence,
                frame_id=frame.frame_id,
                encoding=frame.encoding,
            )
            elapsed_ms = (time.perf_counter() - started) * 1e3
            yield SegmentedFrame(frame, result, result.reset, elapsed_ms)
    segmenter.remove_stream(_STREAM)


def _fit(truth: np.ndarray | None, size: tuple[int, ...], name: str, resize: bool) -> np.ndarray | None:
    """The truth at the size (height, width) of its image. BagError, with `name`, if it has another size."""
    if truth is None or truth.shape == size:
        return truth
    if not resize:
        raise BagError(
            f"{name} is {truth.shape[1]}x{truth.shape[0]} and the image {size[1]}x{size[0]}; they must be of one size "
            "(`--resize-truth` resizes the truth, by the nearest pixel)"
        )
    try:
        return resized_labels(truth, (size[0], size[1]))
    except BadLabels as error:
        raise BagError(f"{name} {error}") from error


def _decode(message: Any) -> tuple[np.ndarray, str, str]:
    # PyTorch takes no view of a bag's read-only bytes, so such an image is copied.
    image = np.require(decode_image(message), requirements="W")
    return image, str(message.header.frame_id), image_encoding(message)
