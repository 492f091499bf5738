"""Frames of any source through the streaming segmenter, by the node's rules of time; decoding overlaps inference."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.frame_join import BagFrame, Place
from sdcpc_ros.bags.ground_truth import GroundTruth
from sdcpc_ros.bags.messages import decode_image, image_encoding
from sdcpc_ros.bags.prefetch import prefetched
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.images.label_pictures import BadLabels, resized_labels
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S, break_between
from sdcpc_ros.streaming.geometry import MIN_SIDE
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

_STREAM = "offline"


@dataclass(frozen=True)
class SourceFrame:
    """A picture of a video, decoded."""

    number: int  #: from 0, pictures that could not be decoded included
    stamp_ns: int
    image: np.ndarray  #: (H, W, 3) uint8 RGB
    frame_id: str = ""
    encoding: str = ""
    truth: np.ndarray | None = None  #: (H, W) uint8, 255 = void
    bag_frame: BagFrame | None = None  #: what it was decoded from, if that was a bag

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Unusable:
    """A picture that could not be used, and why."""

    number: int
    problem: str


@dataclass(frozen=True)
class SegmentedFrame:
    """A picture and what the network made of it."""

    source: SourceFrame
    segmentation: Segmentation
    reset: str | None  #: why the memory was emptied before it
    elapsed_ms: float  #: from image to labels
    #: Of some frames, "memory": what the network remembered before it (`StreamingSegmenter.memory`), None for nothing.
    before: dict[str, Any] | None = None

    @property
    def number(self) -> int:
        return self.source.number


@dataclass(frozen=True)
class _Picture:
    image: np.ndarray
    frame_id: str
    encoding: str


def bag_frames(
    bag: BagReader,
    camera: str,
    truth: GroundTruth,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    every: int = 1,
    first_number: int = 0,
    place: Place | None = None,
    resize_truth: bool = False,
) -> Iterator[SourceFrame | Unusable]:
    """The pictures of a bag's camera, with their truth, as far as they can be decoded.

    `every`: only pictures whose number is a multiple of this; the others are not decoded, and keep their numbers.
    `first_number` and `place`, of a picture of an earlier pass: begin with that one.
    `resize_truth`: a truth of another size is resized to its image, by the nearest pixel; BagError without it.
    """
    frames = bag.frames(camera, truth.topic, start_s=start_s, duration_s=duration_s, place=place)
    for number, frame in enumerate(frames, start=first_number):
        if number % every:
            continue
        try:
            picture = bag.decode(frame.camera, _picture)
        except BagError as error:
            yield Unusable(number, str(error))
            continue
        yield SourceFrame(
            number=number,
            stamp_ns=frame.stamp_ns,
            image=picture.image,
            frame_id=picture.frame_id,
            encoding=picture.encoding,
            truth=_fitting(
                truth.of(frame, number),
                picture.image.shape[:2],
                f"bag '{bag.path}': the truth of image {number}",
                resize_truth,
            ),
            bag_frame=frame,
        )


def segmented(
    segmenter: StreamingSegmenter,
    frames: Iterable[SourceFrame | Unusable],
    *,
    max_gap_s: float = DEFAULT_MAX_GAP_S,
    confidence: bool = True,
    memory: dict[str, Any] | None = None,
    memory_every: int = 0,
) -> Iterator[SegmentedFrame | Unusable]:
    """Every frame through the segmenter as one stream that begins here; the source runs ahead in its own thread.

    The memory is emptied where the node would empty it. A picture too small for the network comes out as unusable.
    memory: what the network remembers already. memory_every: how often frames come with what it remembered `before`
    them, the first among them; 0: never.
    """
    segmenter.reset(_STREAM)
    if memory is not None:
        segmenter.remember(memory, _STREAM)
    count = 0
    previous: SourceFrame | None = None
    with closing(prefetched(frames)) as ahead:
        for frame in ahead:
            if isinstance(frame, Unusable):
                yield frame
                continue
            height, width = frame.size
            if min(height, width) < MIN_SIDE:
                smallest = f"at least {MIN_SIDE}x{MIN_SIDE} is needed"
                yield Unusable(frame.number, f"image {frame.number} is {width}x{height} px; {smallest}")
                continue
            reset = None if previous is None else break_between(previous, frame, max_gap_s)
            if reset is not None:
                segmenter.reset(_STREAM)
            before = {"memory": segmenter.memory(_STREAM)} if memory_every and count % memory_every == 0 else None
            count += 1
            started = time.perf_counter()
            result = segmenter.segment(frame.image, frame.stamp_ns / 1e9, stream=_STREAM, confidence=confidence)
            elapsed_ms = (time.perf_counter() - started) * 1e3
            previous = frame
            yield SegmentedFrame(frame, result, reset, elapsed_ms, before)
    segmenter.reset(_STREAM)


def _fitting(truth: np.ndarray | None, size: tuple[int, ...], name: str, resize: bool) -> np.ndarray | None:
    """The truth in the size (height, width) of its image; `name` is for the BagError where it has another."""
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


def _picture(message: Any) -> _Picture:
    # A view into a bag's read-only bytes becomes an image of its own: PyTorch takes no other.
    image = np.require(decode_image(message), requirements="W")
    return _Picture(image, str(message.header.frame_id), image_encoding(message))
